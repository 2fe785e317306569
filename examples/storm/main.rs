//! A fleet of clients in virtual time against a service of limited capacity that is disturbed for a minute: what
//! retries do to a service and to its callers, policy by policy.
//!
//! `cargo run --release --example storm` prints a table and draws a picture, `-- --svg docs/storm.svg` that of the
//! README. A million clients fit too: `-- --clients 1000000 --disturbance brownout --policy +`.
//!
//! It fails if the default policy keeps the service from recovering, or if naive retries do not.

#![allow(unreachable_pub, reason = "nothing here is seen from outside")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "no library")]

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
/// How long a run takes in virtual time.
const SECONDS: u64 = 600;
/// The disturbance, in nanoseconds.
const DISTURBED: Range<u64> = 60 * SECOND..120 * SECOND;

/// What retries do to a service that is disturbed for a minute.
#[derive(Parser)]
struct Arguments {
    /// How many clients there are.
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Seconds between two requests of one client, on average. The service can do a third more.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u64).range(1..=3600))]
    every: u64,
    /// How many clients share an upstream value in the runs called "shared".
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    share: u32,
    /// The same seed gives the same figures.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Only this disturbance; may be given more than once.
    #[arg(long, value_enum)]
    disturbance: Vec<Disturbance>,
    /// Only the policies whose name contains this.
    #[arg(long, default_value = "")]
    policy: String,
    /// How many runs at a time, as many as there are cores by default. The figures do not depend on it.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// Where to draw the picture.
    #[arg(long, default_value = "target/storm.svg")]
    svg: PathBuf,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// One run of the matrix, and what came of it.
struct Case {
    disturbance: Disturbance,
    contestant: Contestant,
    scope: Scope,
    figures: OnceLock<Figures>,
}

/// Which clients share an upstream value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// The policy keeps nothing there, so it is all the same.
    Any,
    /// Every client has its own.
    Own,
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

/// The matrix, as far as it is asked for.
fn cases(arguments: &Arguments) -> Vec<Case> {
    let mut cases = Vec::new();
    for &disturbance in Disturbance::value_variants() {
        for scope in [Scope::Any, Scope::Own, Scope::Shared] {
            for contestant in contestants() {
                let asked = arguments.disturbance.is_empty() || arguments.disturbance.contains(&disturbance);
                let asked = asked && contestant.name.contains(&arguments.policy);
                if asked && contestant.shares == (scope != Scope::Any) {
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
    bar.set_style(style.expect("a good template"));
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
            heeds_hints: self.contestant.heeds_hints,
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
        self.figures.get().expect("every case was run")
    }
}
