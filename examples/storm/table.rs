//! The figures side by side, for people and for programs, with the verdict.

use serde_json::{Value, json};

use crate::policies::NAIVE;
use crate::service::Disturbance;
use crate::{Case, Scope};

pub fn print(cases: &[Case], verdict: bool) {
    let mut last = None;
    for case in cases {
        if last.replace(case.disturbance) != Some(case.disturbance) {
            println!("\n{}", case.disturbance.sentence());
            println!(
                "  {:<22}{:<8}{:>10}{:>10}{:>8}{:>10}{:>10}{:>10}{:>8}",
                "policy", "shared", "goodput/s", "attempts", "peak", "recovers", "p50", "p99", "lost"
            );
        }
        let figures = case.figures();
        println!(
            "  {:<22}{:<8}{:>10}{:>10}{:>8}{:>10}{:>10}{:>10}{:>8}",
            case.contestant.name,
            case.scope.name(),
            figures.goodput(),
            hundredths(figures.attempts_per_request()),
            hundredths(figures.peak_load()),
            figures.recovery().map_or("never".to_owned(), |seconds| format!("{seconds} s")),
            format!("{} s", hundredths(figures.latency(50) / 10)),
            format!("{} s", hundredths(figures.latency(99) / 10)),
            format!("{}.{} %", figures.lost() / 10, figures.lost() % 10),
        );
    }
    println!("\nattempts: for each request. peak: load over capacity in the busiest second after the disturbance.");
    println!(
        "recovers: time from the end of the disturbance until 95 % of attempts succeed and new requests get through to the end.\np50, p99: latency of requests that succeeded. lost: requests that failed."
    );
    println!("{}", sentence(verdict));
}

pub fn json(cases: &[Case], verdict: bool) -> Value {
    let run = |case: &Case| {
        let figures = case.figures();
        json!({
            "disturbance": format!("{:?}", case.disturbance).to_lowercase(),
            "policy": case.contestant.name,
            "upstreams": case.scope.name(),
            "goodput_per_s": figures.goodput(),
            "attempts_per_100_requests": figures.attempts_per_request(),
            "peak_load_percent": figures.peak_load(),
            "recovery_s": figures.recovery(),
            "p50_ms": figures.latency(50),
            "p99_ms": figures.latency(99),
            "lost_per_mille": figures.lost(),
            "load_percent": figures.load().collect::<Vec<_>>(),
        })
    };
    json!({ "good": verdict, "verdict": sentence(verdict), "runs": cases.iter().map(run).collect::<Vec<_>>() })
}

/// Returns whether the service recovers from everything under the default policy, and does not recover from the brownout
/// under naive retries.
pub fn verdict(cases: &[Case]) -> bool {
    cases.iter().all(|case| match (case.contestant.name, case.disturbance) {
        (NAIVE, Disturbance::Brownout) => case.figures().recovery().is_none(),
        _ => !case.contestant.is_default || case.figures().recovery().is_some(),
    })
}

fn sentence(verdict: bool) -> &'static str {
    if verdict {
        "As expected: the service recovers under the default policy; under naive retries it does not recover from the brownout."
    } else {
        "Not as expected: the service does not recover under the default policy, or it recovers from the brownout under naive retries."
    }
}

/// "1.07" for 107.
fn hundredths(number: u64) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Scope::Any => "-",
            Scope::Own => "own",
            Scope::Shared => "shared",
        }
    }
}
