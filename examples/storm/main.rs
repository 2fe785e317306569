//! Clients in virtual time call services that are disturbed, limited, failing or cold. The example shows the effect of
//! each retry policy on the service and on its callers: a matrix of scenarios and policies.
//!
//! `cargo run --release --example storm` runs the small matrix and prints it; with `-- --matrix full` it runs the whole
//! one. `-- --check` fails if a cell of the default policy leaves its bounds. `-- --help` lists the options.

#![allow(unreachable_pub, reason = "an example has no users")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "an example is not a library"
)]

mod bounds;
mod cells;
mod chart;
mod clients;
mod disturbed;
mod figures;
mod limits;
mod matrix;
mod page;
mod picture;
mod policies;
mod queue;
mod scenario;
mod service;
mod simulation;
mod table;

use std::error::Error;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::cells::Matrix;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Shows the effect of retries on services and their callers.
#[derive(Parser)]
struct Arguments {
    /// The rows to run.
    #[arg(long, value_enum, default_value_t = Size::Small)]
    matrix: Size,
    /// Run only the rows whose name and sharing contain this text.
    #[arg(long, default_value = "")]
    scenario: String,
    /// The same seed gives the same figures.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Number of runs at a time, by default the number of cores. The figures do not depend on it.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Fail if a cell of the default policy leaves its bounds, or if a service recovers from a brownout under back-off
    /// alone.
    #[arg(long)]
    check: bool,
    /// File for the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// File for the picture of the matrix.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// File for the picture of the load over time.
    #[arg(long)]
    load_svg: Option<PathBuf>,
    /// Page that gets the table, between its markers.
    #[arg(long)]
    page: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Size {
    /// The most telling rows.
    Small,
    /// All rows.
    Full,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(is_good) if is_good || !arguments.check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all cells are within their bounds.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let mut rows = if arguments.matrix == Size::Full { matrix::whole() } else { matrix::small() };
    rows.retain(|row| format!("{}, {}", row.name, row.sharing()).contains(&arguments.scenario));
    if rows.is_empty() {
        return Err("no row has such a name".into());
    }
    let matrix = Matrix::run(rows, arguments.seed, arguments.threads);
    table::print(&matrix);
    if let Some(path) = &arguments.json {
        fs::write(path, format!("{:#}\n", table::json(&matrix)))?;
    }
    if let Some(path) = &arguments.svg {
        chart::draw(&matrix, path)?;
    }
    if let Some(path) = &arguments.page {
        page::update(&matrix, path)?;
    }
    if let Some(path) = &arguments.load_svg {
        picture::draw(path, arguments.seed, arguments.threads)?;
    }
    Ok(matrix.is_good())
}
