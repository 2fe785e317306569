//! The picture of the matrix on one page, as an SVG: rows are scenarios, columns are policies. It needs no fonts to draw.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cells::{Condition, Matrix};
use crate::scenario::Group;
use crate::{bounds, table};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const HEAD: i32 = 54;
const LINE: i32 = 17;
/// The place of a row's name, of its sharing, and of its cells.
const NAME: i32 = 12;
const SHARING: i32 = 274;
const CELLS: i32 = 384;
const CELL: i32 = 198;
const PANEL: i32 = CELLS + 4 * CELL + 12;
/// The rows are on two panels if there are more than this.
const ONE_PANEL: usize = 60;

/// A line of the picture.
#[derive(Clone, Copy)]
enum Line {
    Title(Group),
    Row(usize),
}

pub fn draw(matrix: &Matrix, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut lines = Vec::new();
    for group in Group::ALL {
        let rows: Vec<usize> = (0..matrix.rows.len()).filter(|n| matrix.rows[*n].group == group).collect();
        if !rows.is_empty() {
            lines.push(Line::Title(group));
            lines.extend(rows.into_iter().map(Line::Row));
        }
    }
    let panels = if lines.len() > ONE_PANEL { 2 } else { 1 };
    let tall = lines.len().div_ceil(panels);
    let size = (PANEL as u32 * panels as u32, HEAD as u32 + (tall as u32 + 2) * LINE as u32 + 12);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw_text("Retry policies and the services behind them", &text(18, BLACK), (NAME, 10))?;
    legend(&root)?;
    for (panel, lines) in lines.chunks(tall).enumerate() {
        let left = panel as i32 * PANEL;
        for (n, column) in matrix.columns.iter().enumerate() {
            root.draw_text(column.name, &text(13, BLACK), (left + CELLS + n as i32 * CELL + 4, HEAD))?;
        }
        if let Some(Line::Row(row)) = lines.first() {
            let title = format!("{} (continued)", matrix.rows[*row].group.title());
            root.draw_text(&title, &text(13, BLACK), (left + NAME, HEAD))?;
        }
        for (n, line) in lines.iter().enumerate() {
            let y = HEAD + (n as i32 + 1) * LINE;
            match *line {
                Line::Title(group) => {
                    root.draw_text(group.title(), &text(13, BLACK), (left + NAME, y + 3))?;
                    root.draw_text(group.legend(), &text(11, GRAY), (left + CELLS + 4, y + 4))?;
                }
                Line::Row(row) => draw_row(&root, matrix, row, (left, y))?,
            }
        }
    }
    root.present()?;
    Ok(())
}

const GRAY: RGBColor = RGBColor(0x66, 0x66, 0x66);

fn legend(root: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let meanings = [
        (Condition::Green, "within the bounds"),
        (Condition::Yellow, "beyond a bound"),
        (Condition::Red, "does not recover, loses more than without retries, or is far beyond"),
    ];
    for (n, (condition, meaning)) in meanings.into_iter().enumerate() {
        let x = NAME + n as i32 * 150;
        root.draw(&Rectangle::new([(x, 34), (x + 14, 46)], fill(condition).filled()))?;
        root.draw_text(meaning, &text(12, BLACK), (x + 20, 34))?;
    }
    root.draw_text("* the row has wider bounds, for a reason that the page names", &text(12, BLACK), (NAME + 720, 34))?;
    Ok(())
}

fn draw_row(root: &Area<'_>, matrix: &Matrix, row: usize, (left, y): (i32, i32)) -> Result<(), Box<dyn Error>> {
    let scenario = &matrix.rows[row];
    let star = if bounds::exception(scenario).is_some() { " *" } else { "" };
    root.draw_text(&format!("{}{star}", scenario.name), &text(11, BLACK), (left + NAME + 8, y + 3))?;
    root.draw_text(&scenario.sharing(), &text(11, GRAY), (left + SHARING, y + 3))?;
    for column in 0..matrix.columns.len() {
        let x = left + CELLS + column as i32 * CELL;
        let color = fill(matrix.condition(row, column));
        root.draw(&Rectangle::new([(x, y), (x + CELL - 2, y + LINE - 1)], color.filled()))?;
        let figures = table::cell(scenario, matrix.figures(row, column));
        root.draw_text(&figures, &text(11, BLACK), (x + 4, y + 3))?;
    }
    Ok(())
}

/// Returns a color that people who are color-blind can tell from the others, too: its lightness differs.
fn fill(condition: Condition) -> RGBColor {
    match condition {
        Condition::Green => RGBColor(0xc9, 0xec, 0xd0),
        Condition::Yellow => RGBColor(0xff, 0xe0, 0x8a),
        Condition::Red => RGBColor(0xf0, 0x8a, 0x70),
    }
}

fn text(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}
