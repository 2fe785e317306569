//! The picture: load over time, with a panel for each disturbance and scope, as an SVG. It needs no fonts to draw.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::service::Disturbance;
use crate::{Case, DISTURBED, SECOND, SECONDS, Scope};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1000, 1040);
const TITLE: u32 = 34;
const LEGEND: u32 = 52;
/// Seconds for each point of a line.
const STEP: usize = 2;
/// The lowest and the highest load over capacity in a panel.
const LOWEST: f64 = 0.05;
const HIGHEST: f64 = 100.0;

/// The colors of the contestants, in their order. People who are color-blind can tell them apart, too.
const COLORS: [RGBColor; 7] = [
    RGBColor(0x99, 0x99, 0x99),
    RGBColor(0x00, 0x00, 0x00),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
];

pub fn draw(cases: &[Case], path: &Path) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut disturbances: Vec<Disturbance> = cases.iter().map(|case| case.disturbance).collect();
    disturbances.dedup();
    let height = TITLE + LEGEND + (SIZE.1 - TITLE - LEGEND) / 4 * disturbances.len() as u32;
    let root = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE);
    let text = ("sans-serif", 17).into_font().color(&BLACK);
    title.draw_text(
        "Load on a service whose callers retry (load / capacity, disturbed from 60 s to 120 s)",
        &text,
        (12, 10),
    )?;
    let (legend, panels) = rest.split_vertically(LEGEND);
    draw_legend(&legend)?;
    let panels = panels.split_evenly((disturbances.len(), 2));
    for (row, panels) in disturbances.iter().zip(panels.chunks(2)) {
        for (panel, scope) in panels.iter().zip([Scope::Own, Scope::Shared]) {
            let shown = |case: &&Case| case.disturbance == *row && [Scope::Any, scope].contains(&case.scope);
            draw_panel(panel, *row, scope, cases.iter().filter(shown))?;
        }
    }
    root.present()?;
    Ok(())
}

fn draw_legend(area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let places = [10, 32].into_iter().flat_map(|y| [16, 261, 506, 751].map(|x| (x, y)));
    for (n, (contestant, (x, y))) in crate::contestants().iter().zip(places).enumerate() {
        area.draw(&PathElement::new([(x, y), (x + 26, y)], line(n)))?;
        area.draw_text(contestant.name, &text(14), (x + 33, y - 6))?;
    }
    Ok(())
}

fn draw_panel<'a>(
    area: &Area<'_>,
    disturbance: Disturbance,
    scope: Scope,
    cases: impl Iterator<Item = &'a Case>,
) -> Result<(), Box<dyn Error>> {
    let sharing =
        if scope == Scope::Own { "each client its own upstream value" } else { "clients share upstream values" };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{disturbance:?}: {sharing}"), ("sans-serif", 14))
        .margin(6)
        .margin_right(18)
        .x_label_area_size(22)
        .y_label_area_size(42)
        .build_cartesian_2d(0..SECONDS, (LOWEST..HIGHEST).log_scale())?;
    let [from, to] = [DISTURBED.start, DISTURBED.end].map(|at| at / SECOND);
    let shade = RGBColor(0xee, 0xee, 0xf4).filled();
    chart.draw_series([Rectangle::new([(from, LOWEST), (to, HIGHEST)], shade)])?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .x_label_formatter(&|second| format!("{second} s"))
        .y_label_formatter(&|load| format!("{load}"))
        .label_style(("sans-serif", 12))
        .draw()?;
    chart.draw_series([PathElement::new([(0, 1.0), (SECONDS, 1.0)], RGBColor(0x44, 0x44, 0x44).stroke_width(1))])?;
    let names = crate::contestants().map(|contestant| contestant.name);
    // Draw the line of the default policy last, on top.
    let (default, others): (Vec<_>, Vec<_>) = cases.partition(|case| case.contestant.is_default);
    for case in others.into_iter().chain(default) {
        let n = names.iter().position(|name| *name == case.contestant.name).expect("a contestant");
        let load: Vec<u64> = case.figures().load().collect();
        let points = load.chunks(STEP).enumerate().map(|(n, loads)| {
            let mean = loads.iter().sum::<u64>() / loads.len() as u64;
            ((n * STEP) as u64, f64::from(mean as u32) / 100.0)
        });
        chart.draw_series(LineSeries::new(points, line(n)))?;
    }
    Ok(())
}

/// Returns the style of a line. The default policy has the thick one.
fn line(contestant: usize) -> ShapeStyle {
    let width = if crate::contestants()[contestant].is_default { 3 } else { 2 };
    COLORS[contestant].stroke_width(width)
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}
