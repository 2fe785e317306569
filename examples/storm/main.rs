//! A fleet of clients in virtual time against a service of limited capacity that is disturbed for a minute: what
//! retries do to a service, and to their callers, policy by policy.
//!
//! `cargo run --release --example storm` prints a table; `-- --svg docs/storm.svg` draws the picture of the README.
//! It fails if the default policy does not let the service recover, or if naive retries do.

#![allow(unreachable_pub, reason = "nothing here is seen from outside")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a program")]

mod figures;
mod policies;
mod queue;
mod service;
mod simulation;

use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use self::figures::Figures;
use self::policies::{Contestant, NAIVE, contestants};
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
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Seconds between two requests of one client, on average. The service can do a third more.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How many upstream values the clients share out in the runs called "shared".
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    share: u32,
    /// The same seed gives the same figures.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Only these disturbances.
    #[arg(long, value_enum)]
    disturbance: Vec<Disturbance>,
    /// Only policies whose name contains this.
    #[arg(long, default_value = "")]
    policy: String,
    /// How many runs at a time; the figures do not depend on it.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
}

struct Case {
    disturbance: Disturbance,
    contestant: Contestant,
    scope: &'static str,
    setting: Setting,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases = cases(&arguments);
    let figures = run(&cases, &arguments);
    for (case, figures) in cases.iter().zip(&figures) {
        println!(
            "{:<10}{:<24}{:<8}{:>6}{:>6}{:>8}{:>8?}{:>8}{:>8}{:>6}",
            format!("{:?}", case.disturbance),
            case.contestant.name,
            case.scope,
            figures.goodput(),
            figures.attempts_per_request(),
            figures.peak_load(),
            figures.recovery(),
            figures.latency(50),
            figures.latency(99),
            figures.lost()
        );
    }
    ExitCode::SUCCESS
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let mut cases = Vec::new();
    for &disturbance in Disturbance::value_variants() {
        if !arguments.disturbance.is_empty() && !arguments.disturbance.contains(&disturbance) {
            continue;
        }
        for scope in ["own", "shared"] {
            for contestant in contestants() {
                if !contestant.shares && scope == "shared" {
                    continue;
                }
                let upstreams = match scope {
                    _ if !contestant.shares => 1,
                    "own" => arguments.clients,
                    _ => arguments.share.min(arguments.clients),
                };
                let setting = Setting {
                    disturbance,
                    policy: contestant.policy.clone(),
                    heeds_hints: contestant.heeds_hints,
                    upstreams,
                    clients: arguments.clients,
                    interval: arguments.every * SECOND / u64::from(arguments.clients),
                    seed: arguments.seed,
                };
                eprintln!("upstream {}", size_of::<retry_machine::Upstream>());
                cases.push(Case { disturbance, contestant, scope, setting });
            }
        }
    }
    cases
}

fn run(cases: &[Case], arguments: &Arguments) -> Vec<Figures> {
    let bar = ProgressBar::new(cases.len() as u64 * SECONDS);
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {percent} % {elapsed}, {eta} to go").expect("a good template"),
    );
    let results: Vec<OnceLock<Figures>> = cases.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let threads = arguments.threads.or(thread::available_parallelism().ok()).map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = std::time::Instant::now();
                    let figures = simulation::run(case.setting.clone(), || bar.inc(1));
                    eprintln!(
                        "{:?} {} {} {:?} {}",
                        case.disturbance,
                        case.contestant.name,
                        case.scope,
                        started.elapsed(),
                        figures.attempts()
                    );
                    let at = (case as *const Case as usize - cases.as_ptr() as usize) / size_of::<Case>();
                    let _ = results[at].set(figures);
                }
            });
        }
    });
    bar.finish_and_clear();
    results.into_iter().map(|figures| figures.into_inner().expect("every case was run")).collect()
}
