//! The cells: each row under each policy, run several at a time.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::bounds::{self, Breach};
use crate::disturbed::Disturbance;
use crate::figures::Figures;
use crate::policies::{BACK_OFF, COLUMNS, Contestant, DEFAULT, NO_RETRIES, contestants};
use crate::scenario::{Scenario, Sharing};
use crate::service::Kind;
use crate::simulation;

/// The rows and columns, with a result for each cell.
pub struct Matrix {
    pub rows: Vec<Scenario>,
    pub columns: Vec<Contestant>,
    pub seed: u64,
    figures: Vec<Figures>,
    /// For each row and column, the index of its figures. Rows that differ only in their sharing, and in the size of their
    /// fleet, have one result under a policy that keeps nothing in the upstream value.
    index: Vec<[usize; COLUMNS]>,
}

/// The condition of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Within the bounds.
    Green,
    /// Beyond a bound by a degree.
    Yellow,
    /// It does not recover, or retries harm.
    Red,
}

impl Matrix {
    /// Runs all cells.
    pub fn run(rows: Vec<Scenario>, seed: u64, threads: Option<NonZero<usize>>) -> Matrix {
        let columns: Vec<Contestant> = contestants().into_iter().take(COLUMNS).collect();
        let mut runs: Vec<(&Scenario, &Contestant)> = Vec::new();
        let mut known: HashMap<(String, usize), usize> = HashMap::new();
        let mut index = Vec::new();
        for row in &rows {
            let mut cells = [0; COLUMNS];
            for (column, contestant) in columns.iter().enumerate() {
                let mut run = || {
                    runs.push((row, contestant));
                    runs.len() - 1
                };
                let is_shared = contestant.shares || matches!(row.sharing, Sharing::Processes(_));
                let name = format!("{:?} {}", row.group, row.name);
                cells[column] = if is_shared { run() } else { *known.entry((name, column)).or_insert_with(run) };
            }
            index.push(cells);
        }
        let figures = all(&runs, seed, threads);
        Matrix { rows, columns, seed, figures, index }
    }

    pub fn figures(&self, row: usize, column: usize) -> &Figures {
        &self.figures[self.index[row][column]]
    }

    pub fn breaches(&self, row: usize, column: usize) -> Vec<Breach> {
        bounds::breaches(&self.rows[row], self.figures(row, column), self.figures(row, NO_RETRIES))
    }

    pub fn condition(&self, row: usize, column: usize) -> Condition {
        let breaches = self.breaches(row, column);
        match breaches.iter().any(|breach| breach.is_grave) {
            true => Condition::Red,
            false if breaches.is_empty() => Condition::Green,
            false => Condition::Yellow,
        }
    }

    /// Returns the rows in which the default policy leaves its bounds.
    pub fn outside(&self) -> impl Iterator<Item = (&Scenario, Vec<Breach>)> {
        let rows = self.rows.iter().enumerate().map(|(n, row)| (row, self.breaches(n, DEFAULT)));
        rows.filter(|(_, breaches)| !breaches.is_empty())
    }

    /// Returns the brownouts from which the service recovers under back-off alone. There must be none, or the simulation
    /// cannot tell a policy that harms from one that does not.
    pub fn toothless(&self) -> impl Iterator<Item = &Scenario> {
        let is_brownout = |row: &Scenario| matches!(row.service, Kind::Disturbed(Disturbance::Brownout));
        let rows = self.rows.iter().enumerate().filter(move |(_, row)| is_brownout(row));
        rows.filter(|(n, _)| self.figures(*n, BACK_OFF).recovery().is_some()).map(|(_, row)| row)
    }

    pub fn is_good(&self) -> bool {
        self.outside().next().is_none() && self.toothless().next().is_none()
    }
}

/// Runs scenarios under policies, several at a time. The order of the results is that of the runs.
pub fn all(runs: &[(&Scenario, &Contestant)], seed: u64, threads: Option<NonZero<usize>>) -> Vec<Figures> {
    let bar = ProgressBar::new(runs.len() as u64);
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} runs, {elapsed}, {eta} to go");
    bar.set_style(style.expect("a valid template"));
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<Figures>> = runs.iter().map(|_| OnceLock::new()).collect();
    let threads = threads.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < runs.len()) {
                    let (scenario, contestant) = runs[n];
                    results[n].get_or_init(|| simulation::run(scenario, &contestant.policy, seed));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    results.into_iter().map(|result| result.into_inner().expect("each case has run")).collect()
}
