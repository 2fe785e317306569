//! The picture: load over time, with a panel for each disturbance and scope, as an SVG. It needs no fonts to draw.

use std::error::Error;
use std::num::NonZero;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::clients::Clients;
use crate::disturbed::{DISTURBED, SECONDS};
use crate::figures::Figures;
use crate::policies::{Contestant, DEFAULT, contestants};
use crate::scenario::{Group, Scenario, Sharing};
use crate::{SECOND, cells, matrix};

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
const COLORS: [RGBColor; 5] = [
    RGBColor(0x99, 0x99, 0x99),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x00, 0x00),
];

/// Number of clients: enough for smooth lines.
const CLIENTS: u32 = 20_000;
/// The disturbances of the picture.
const SHOWN: [&str; 4] = ["brownout", "outage, 503", "closed", "spike"];

/// Runs the fleets under all policies, and draws their load.
pub fn draw(path: &Path, seed: u64, threads: Option<NonZero<usize>>) -> Result<(), Box<dyn Error>> {
    let contestants = contestants();
    let mut rows = matrix::small();
    rows.retain(|row| row.group == Group::Disturbance && SHOWN.iter().any(|name| row.name.starts_with(name)));
    rows.retain(|row| row.sharing != Sharing::By(10_000));
    for row in &mut rows {
        row.clients = Clients::Fleet { clients: CLIENTS, every: 20 };
    }
    let runs: Vec<(&Scenario, &Contestant)> =
        rows.iter().flat_map(|row| contestants.iter().map(move |contestant| (row, contestant))).collect();
    let figures = cells::all(&runs, seed, threads);

    let height = TITLE + LEGEND + (SIZE.1 - TITLE - LEGEND) / 4 * rows.len() as u32 / 2;
    let root = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE);
    title.draw_text(
        "Load on a service whose callers retry (load / capacity, disturbed for the shaded minute)",
        &text(17),
        (12, 10),
    )?;
    let (legend, panels) = rest.split_vertically(LEGEND);
    draw_legend(&legend, &contestants)?;
    let panels = panels.split_evenly((rows.len().div_ceil(2), 2));
    for ((panel, row), figures) in panels.iter().zip(&rows).zip(figures.chunks(contestants.len())) {
        draw_panel(panel, row, figures)?;
    }
    root.present()?;
    Ok(())
}

fn draw_legend(area: &Area<'_>, contestants: &[Contestant]) -> Result<(), Box<dyn Error>> {
    for (n, contestant) in contestants.iter().enumerate() {
        let (x, y) = (16 + n as i32 * 195, 18);
        area.draw(&PathElement::new([(x, y), (x + 26, y)], line(n)))?;
        area.draw_text(contestant.name, &text(14), (x + 33, y - 6))?;
    }
    Ok(())
}

fn draw_panel(area: &Area<'_>, row: &Scenario, figures: &[Figures]) -> Result<(), Box<dyn Error>> {
    let sharing = match row.sharing {
        Sharing::Own => "each client its own upstream value".into(),
        _ => format!("{} clients share an upstream value", row.sharing()),
    };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: {sharing}", row.name), ("sans-serif", 14))
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
    // Draw the line of the default policy last, on top.
    let order = (0..figures.len()).filter(|n| *n != DEFAULT).chain([DEFAULT]);
    for n in order {
        let load: Vec<u64> = figures[n].load().collect();
        let points = load.chunks(STEP).enumerate().map(|(step, loads)| {
            let mean = loads.iter().sum::<u64>() / loads.len() as u64;
            ((step * STEP) as u64, mean as f64 / 100.0)
        });
        chart.draw_series(LineSeries::new(points, line(n)))?;
    }
    Ok(())
}

/// Returns the style of a line. The default policy has the thick one.
fn line(contestant: usize) -> ShapeStyle {
    let width = if contestant == DEFAULT { 3 } else { 2 };
    COLORS[contestant].stroke_width(width)
}

fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}
