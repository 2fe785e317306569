//! The bounds of the cells, and the named exceptions.

use crate::figures::Figures;
use crate::scenario::{Group, Scenario};

/// The bounds of a row. The default policy must keep them.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Bounds {
    /// Seconds from the end of the disturbance.
    pub recovers: Option<u64>,
    /// Percentage points above the loss without retries.
    pub lost_over_no_retries: Option<f64>,
    /// Percent.
    pub lost: Option<f64>,
    /// Number of requests.
    pub lost_requests: Option<u64>,
    /// Percent, at least.
    pub succeeded: Option<f64>,
    /// Percent of the limit, at least.
    pub used: Option<f64>,
    /// Seconds.
    pub worst: Option<f64>,
    /// Seconds from the start.
    pub last_success: Option<f64>,
    /// The calls that the limit allows, if there is one.
    pub allowed: u64,
}

/// The longest time, in milliseconds, for which a request may wait for the server: the policy's 300 s and a spread of
/// 500 ms.
const LONGEST_WAIT: u64 = 300_500;

/// A breach of a bound.
#[derive(Clone, PartialEq, Debug)]
pub struct Breach {
    pub text: String,
    /// Whether it is more than a matter of degree: the service does not recover, or retries harm.
    pub is_grave: bool,
}

/// A row with wider bounds, for a known reason.
pub struct Exception {
    pub group: Group,
    /// The beginning of the row's name, and its sharing; "" is any.
    pub name: &'static str,
    pub sharing: &'static str,
    widen: fn(&mut Bounds),
    pub reason: &'static str,
}

const NEXT_SECOND: &str =
    "A reset in whole seconds, told when the last call of a second is used, closes the next second, too.";

fn widen_by_the_next_second(bounds: &mut Bounds) {
    bounds.used = Some(70.0);
    bounds.worst = bounds.worst.map(|worst| worst * 1.7);
}

const LARGE_BURST: &str =
    "A token bucket with a burst of a minute looks faster than it is, so its first callers are refused often.";

const TOO_FAST: &str = "Nothing is known of the service but its hint. The guess is far too fast for so slow a service, and each refusal \
                        slows it down by a half step.";

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        group: Group::Disturbance,
        name: "closed",
        sharing: "own",
        widen: |bounds| bounds.recovers = Some(240),
        reason: "All clients with a value of their own come within a spread of the one instant that the service names. \
                 Only the service can mend this, with hints that differ.",
    },
    Exception {
        group: Group::Disturbance,
        name: "spike",
        sharing: "own",
        widen: |bounds| bounds.recovers = Some(120),
        reason: "The clients that a spike brought come back after their hint, each on its own.",
    },
    Exception {
        group: Group::Disturbance,
        name: "starts in trouble",
        sharing: "",
        widen: |bounds| bounds.recovers = Some(120),
        reason: "Clients that begin in the middle of a disturbance know nothing of the service.",
    },
    Exception {
        group: Group::Limit,
        name: "10/s, remaining",
        sharing: "",
        widen: widen_by_the_next_second,
        reason: NEXT_SECOND,
    },
    Exception {
        group: Group::Limit,
        name: "10/s, both",
        sharing: "",
        widen: widen_by_the_next_second,
        reason: NEXT_SECOND,
    },
    Exception {
        group: Group::Limit,
        name: "60/min as a bucket",
        sharing: "",
        widen: |bounds| bounds.lost_requests = Some(30),
        reason: LARGE_BURST,
    },
    Exception {
        group: Group::Limit,
        name: "600/min as a bucket",
        sharing: "",
        widen: |bounds| bounds.lost_requests = Some(30),
        reason: LARGE_BURST,
    },
    Exception {
        group: Group::Limit,
        name: "600/min, raised",
        sharing: "",
        widen: |bounds| bounds.used = Some(75.0),
        reason: "A raised limit is found slowly while a queue stands.",
    },
    Exception {
        group: Group::Limit,
        name: "10/s, several processes",
        sharing: "",
        widen: |bounds| {
            bounds.worst = Some(16.0);
            bounds.lost_requests = Some(5);
        },
        reason: "Ten processes know nothing of each other's queues.",
    },
    Exception {
        group: Group::Trouble,
        name: "60/min, the clock jumps",
        sharing: "",
        widen: |bounds| bounds.lost_requests = Some(40),
        reason: "For the requests that wait an hour passes, and that is longer than they may wait.",
    },
    Exception {
        group: Group::ColdStart,
        name: "hint 1, then 10/s",
        sharing: "1 process of 1000",
        widen: |bounds| {
            bounds.last_success = Some(130.0);
            bounds.lost_requests = Some(10);
        },
        reason: TOO_FAST,
    },
    Exception {
        group: Group::ColdStart,
        name: "hint 5, then 1/s",
        sharing: "1 process of 200",
        widen: |bounds| {
            bounds.last_success = Some(270.0);
            bounds.lost_requests = Some(10);
        },
        reason: TOO_FAST,
    },
    Exception {
        group: Group::ColdStart,
        name: "hint 30, then 1/s",
        sharing: "",
        widen: |bounds| {
            bounds.last_success = bounds.last_success.map(|last| last * 1.2);
            bounds.lost_requests = Some(10);
        },
        reason: TOO_FAST,
    },
    Exception {
        group: Group::ColdStart,
        name: "hint 30, then 10/s",
        sharing: "1 process of 1000",
        widen: |bounds| bounds.last_success = Some(160.0),
        reason: TOO_FAST,
    },
    Exception {
        group: Group::ColdStart,
        name: "hint 60, then 1/s",
        sharing: "1 process of 200",
        widen: |bounds| {
            bounds.last_success = Some(301.0);
            bounds.lost_requests = Some(20);
        },
        reason: TOO_FAST,
    },
    Exception {
        group: Group::Errors,
        name: "50 %",
        sharing: "own",
        widen: |bounds| bounds.lost = Some(14.0),
        reason: "If half of all attempts fail, retries cost more than successes give back.",
    },
    Exception {
        group: Group::Errors,
        name: "50 %",
        sharing: "",
        widen: |bounds| bounds.lost = Some(35.0),
        reason: "If half of all attempts fail, a shared budget cannot tell this from an overload.",
    },
    Exception {
        group: Group::Quiet,
        name: "every second, 50 %",
        sharing: "",
        widen: |bounds| bounds.succeeded = Some(48.0),
        reason: "A breaker costs a busy client the retries at such an error rate.",
    },
];

/// Returns the exception for a row, if it has one.
pub fn exception(scenario: &Scenario) -> Option<&'static Exception> {
    let sharing = scenario.sharing();
    EXCEPTIONS.iter().find(|exception| {
        exception.group == scenario.group
            && scenario.name.starts_with(exception.name)
            && (exception.sharing.is_empty() || exception.sharing == sharing)
    })
}

/// Returns the breaches of a cell. `baseline` is the cell without retries.
pub fn breaches(scenario: &Scenario, figures: &Figures, baseline: &Figures) -> Vec<Breach> {
    let mut bounds = scenario.bounds;
    if let Some(exception) = exception(scenario) {
        (exception.widen)(&mut bounds);
    }
    let mut breaches = Vec::new();
    let mut breach = |is_grave: bool, text: String| breaches.push(Breach { text, is_grave });
    if let Some(most) = bounds.recovers {
        match figures.recovery() {
            None => breach(true, format!("does not recover; the bound is {most} s")),
            Some(seconds) if seconds > most => {
                breach(false, format!("recovers after {seconds} s; the bound is {most} s"))
            }
            Some(_) => {}
        }
    }
    if let Some(points) = bounds.lost_over_no_retries {
        let most = baseline.lost() + points;
        if figures.lost() > most {
            breach(true, format!("loses {:.1} %; the bound is {most:.1} %", figures.lost()));
        }
    }
    if let Some(most) = bounds.lost.filter(|most| figures.lost() > *most) {
        breach(figures.lost() > baseline.lost(), format!("loses {:.2} %; the bound is {most} %", figures.lost()));
    }
    if let Some(most) = bounds.lost_requests.filter(|most| figures.lost > *most) {
        breach(
            figures.lost > most + figures.done() / 50,
            format!("loses {} requests; the bound is {most}", figures.lost),
        );
    }
    if let Some(least) = bounds.succeeded.filter(|least| figures.succeeded() < *least) {
        let is_grave = figures.succeeded() < baseline.succeeded();
        breach(is_grave, format!("{:.1} % succeed; the bound is {least} %", figures.succeeded()));
    }
    if let Some(least) = bounds.used.filter(|least| used(scenario, figures) < *least) {
        let used = used(scenario, figures);
        breach(used < least / 2.0, format!("uses {used:.0} % of the limit; the bound is {least} %"));
    }
    if let Some(most) = bounds.worst.filter(|most| figures.latency(100) > *most) {
        let worst = figures.latency(100);
        breach(worst > most * 3.0, format!("the worst latency is {worst:.1} s; the bound is {most:.1} s"));
    }
    if let Some(most) = bounds.last_success.filter(|most| figures.last_done as f64 > *most * 1_000.0) {
        let last = figures.last_done as f64 / 1_000.0;
        breach(last > most * 2.0, format!("the last success comes at {last:.1} s; the bound is {most:.1} s"));
    }
    if figures.longest_wait > LONGEST_WAIT + scenario.trouble.late * 10 {
        let wait = figures.longest_wait as f64 / 1_000.0;
        breach(false, format!("a request waits {wait:.1} s for the server; the bound is 300.5 s"));
    }
    if figures.early > 0 {
        breach(true, format!("{} attempts are sooner than told", figures.early));
    }
    breaches
}

/// Returns the use of the limit in percent.
pub fn used(scenario: &Scenario, figures: &Figures) -> f64 {
    figures.done() as f64 * 100.0 / scenario.bounds.allowed.max(1) as f64
}
