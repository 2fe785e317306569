//! A fleet of clients in virtual time calls a service of limited capacity that is disturbed for a minute. The example
//! shows the effect of each retry policy on the service and on its callers.
//!
//! `cargo run --release --example storm` prints tables and draws a picture; with `-- --svg docs/storm.svg` it draws the
//! one of `docs/storm.md`. `-- --clients 1000000 --disturbance brownout --policy +` runs a million clients.
//!
//! It fails if the service does not recover under the default policy, or if it recovers from the brownout under naive
//! retries.

#![allow(unreachable_pub, reason = "an example has no users")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "an example is not a library"
)]

mod figures;
mod picture;
mod policies;
mod queue;
mod service;
mod simulation;
mod table;

use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::{Parser, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use self::figures::Figures;
use self::policies::{Contestant, contestants};
use self::service::Disturbance;
use self::simulation::Setting;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The length of a run in virtual seconds.
const SECONDS: u64 = 600;
/// The disturbance, in nanoseconds.
const DISTURBED: Range<u64> = 60 * SECOND..120 * SECOND;

/// Shows the effect of retries on a service that is disturbed for a minute.
#[derive(Parser)]
struct Arguments {
    /// Number of clients.
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Average seconds between two requests of one client. The service can do a third more.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Number of clients that share an upstream value in the runs called "shared".
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    share: u32,
    /// The same seed gives the same figures.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Run only this disturbance. Can be repeated.
    #[arg(long, value_enum)]
    disturbance: Vec<Disturbance>,
    /// Run only the policies whose name contains this text.
    #[arg(long, default_value = "")]
    policy: String,
    /// Number of runs at a time, by default the number of cores. The figures do not depend on it.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// File for the picture.
    #[arg(long, default_value = "target/storm.svg")]
    svg: PathBuf,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// One run of the matrix, with its result.
struct Case {
    disturbance: Disturbance,
    contestant: Contestant,
    scope: Scope,
    figures: OnceLock<Figures>,
}

/// The clients that share an upstream value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// It does not matter: the policy keeps nothing in the upstream value.
    Any,
    /// Each client has its own.
    Own,
    /// A group of clients shares one.
    Shared,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases = cases(&arguments);
    run(&cases, &arguments);
    let verdict = table::verdict(&cases);
    if arguments.json {
        println!("{}", table::json(&cases, verdict));
    } else {
        table::print(&cases, verdict);
    }
    if let Err(error) = picture::draw(&cases, &arguments.svg) {
        eprintln!("{}: {error}", arguments.svg.display());
        return ExitCode::FAILURE;
    }
    if verdict { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the requested part of the matrix.
fn cases(arguments: &Arguments) -> Vec<Case> {
    let mut cases = Vec::new();
    for &disturbance in Disturbance::value_variants() {
        for scope in [Scope::Any, Scope::Own, Scope::Shared] {
            for contestant in contestants() {
                let requested = arguments.disturbance.is_empty() || arguments.disturbance.contains(&disturbance);
                let requested = requested && contestant.name.contains(&arguments.policy);
                if requested && contestant.shares == (scope != Scope::Any) {
                    cases.push(Case { disturbance, contestant, scope, figures: OnceLock::new() });
                }
            }
        }
    }
    cases
}

/// Runs all cases, several at a time.
fn run(cases: &[Case], arguments: &Arguments) {
    let bar = ProgressBar::new(cases.len() as u64 * SECONDS);
    let style = ProgressStyle::with_template("{wide_bar} {percent} %, {elapsed}, {eta} to go");
    bar.set_style(style.expect("a valid template"));
    let next = AtomicUsize::new(0);
    let threads = arguments.threads.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    case.figures.get_or_init(|| simulation::run(case.setting(arguments), || bar.inc(1)));
                }
            });
        }
    });
    bar.finish_and_clear();
}

impl Case {
    fn setting(&self, arguments: &Arguments) -> Setting {
        let clients = arguments.clients;
        Setting {
            disturbance: self.disturbance,
            policy: self.contestant.policy.clone(),
            obeys_hints: self.contestant.obeys_hints,
            upstreams: match self.scope {
                Scope::Any => 1,
                Scope::Own => clients,
                Scope::Shared => clients.div_ceil(arguments.share),
            },
            clients,
            interval: arguments.every * SECOND / u64::from(clients),
            seed: arguments.seed,
        }
    }

    fn figures(&self) -> &Figures {
        self.figures.get().expect("each case has run")
    }
}
