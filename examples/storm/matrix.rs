//! The rows of the matrix.

use crate::SECOND;
use crate::bounds::Bounds;
use crate::clients::Clients;
use crate::disturbed::{self, Disturbance, Shedding};
use crate::limits::{Limit, Limits, Told};
use crate::scenario::{Group, Scenario, Sharing};
use crate::service::{Answer, Kind};
use crate::simulation::Trouble;

/// Number of clients of a fleet, and of one in which ten thousand share a value.
const FLEET: u32 = 20_000;
const SHARED_FLEET: u32 = 100_000;
/// Seconds between two requests of a client of a fleet.
const EVERY: u64 = 20;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Runs with limits last half an hour.
const LIMIT_RUN: u64 = HOUR / 2;
/// The policy's longest server wait.
const LONGEST_WAIT: u64 = 300;
/// A refusal in whole seconds, and the time on the way.
const TOLERANCE: u64 = 2;

/// Returns all rows.
pub fn whole() -> Vec<Scenario> {
    let mut rows = Vec::new();
    disturbances(&mut rows);
    limits(&mut rows);
    errors(&mut rows);
    quiet(&mut rows);
    cold_starts(&mut rows);
    troubles(&mut rows);
    rows
}

/// Returns the most telling rows.
pub fn small() -> Vec<Scenario> {
    let mut rows = whole();
    rows.retain(|row| row.is_telling);
    rows
}

/// A row's place in the small matrix: for own values, shared by 100, by 10,000.
type Telling = [bool; 3];

fn fleets(rows: &mut Vec<Scenario>, telling: Telling, row: &Scenario) {
    for (sharing, is_telling) in [Sharing::Own, Sharing::By(100), Sharing::By(10_000)].into_iter().zip(telling) {
        let clients = if sharing == Sharing::By(10_000) { SHARED_FLEET } else { FLEET };
        let clients = Clients::Fleet { clients, every: EVERY };
        rows.push(Scenario { sharing, is_telling, clients, ..row.clone() });
    }
}

fn row(group: Group, name: impl Into<String>, clients: Clients, service: Kind, seconds: u64) -> Scenario {
    Scenario {
        group,
        name: name.into(),
        sharing: Sharing::Own,
        clients,
        service,
        trouble: Trouble::default(),
        begins: 0,
        seconds,
        bounds: Bounds::default(),
        is_telling: false,
    }
}

// ---- Disturbances ----

fn disturbances(rows: &mut Vec<Scenario>) {
    const NONE: Telling = [false; 3];
    let mut add = |name: &str, disturbance, telling| {
        let clients = Clients::Fleet { clients: FLEET, every: EVERY };
        let row = row(Group::Disturbance, name, clients, Kind::Disturbed(disturbance), disturbed::SECONDS);
        // A capacity that is gone for good does not recover.
        let recovers = (disturbance != Disturbance::Drop).then_some(60);
        let bounds = Bounds { recovers, lost_over_no_retries: Some(2.0), ..Bounds::default() };
        fleets(rows, telling, &Scenario { bounds, ..row });
    };
    add("brownout", Disturbance::Brownout, [true; 3]);
    add("outage, 503", Disturbance::Outage(0), [true, true, false]);
    add("outage, 503, hint 5", Disturbance::Outage(5), NONE);
    add("closed, 429 to one instant", Disturbance::Closed, [true, true, false]);
    add("spike ×3, 429, hint 30", Disturbance::Spike, [true, true, false]);
    for hint in [0, 1, 5, 30] {
        for free in [false, true] {
            let telling = match (hint, free) {
                (0, false) => [true, true, false],
                (5, false) => [true, true, true],
                (30, true) => [false, true, false],
                _ => NONE,
            };
            add(&shed(429, hint, free), Disturbance::Shed(Shedding { status: 429, hint, free }), telling);
        }
    }
    for hint in [0, 5] {
        for free in [false, true] {
            let telling = if (hint, free) == (0, false) { [true, false, false] } else { NONE };
            add(&shed(503, hint, free), Disturbance::Shed(Shedding { status: 503, hint, free }), telling);
        }
    }
    add("capacity drops for good", Disturbance::Drop, [true, true, false]);
    let known = rows.clone();
    for name in ["brownout", "closed, 429 to one instant", "sheds 429, hint 5, a fifth", "sheds 429, hint 30, free"] {
        let is_it = |row: &&Scenario| row.name == name && row.sharing == Sharing::By(100);
        let row = known.iter().find(is_it).expect("a row of this function").clone();
        let begins = disturbed::DISTURBED.start / SECOND - 5;
        rows.push(Scenario { begins, name: format!("starts in trouble: {name}"), ..row });
    }
}

fn shed(status: u16, hint: u64, free: bool) -> String {
    let hint = if hint == 0 { "no hint".into() } else { format!("hint {hint}") };
    format!("sheds {status}, {hint}, {}", if free { "free" } else { "a fifth" })
}

// ---- Limits ----

fn limits(rows: &mut Vec<Scenario>) {
    let windows = [("60/min", 60, 60), ("600/min", 600, 60), ("100 per 10 s", 100, 10), ("10/s", 10, 1)];
    for (name, calls, per) in windows {
        for told in [Told::RetryAfter, Told::RateLimit, Told::Both] {
            for workers in [1, 5, 20, 100] {
                let limits = Limits::new(vec![Limit::window(calls, per)], told);
                let is_telling = match told {
                    Told::RetryAfter => workers == 20 || name == "60/min" && workers != 5,
                    Told::RateLimit => workers == 20 && (name == "60/min" || name == "10/s"),
                    Told::Both => false,
                };
                rows.push(Scenario { is_telling, ..limit(format!("{name}, {}", told.words()), limits, 1, workers) });
            }
        }
        for workers in [1, 5, 20, 100] {
            let burst = calls;
            let limits = Limits::new(vec![Limit::bucket(calls, per, burst)], Told::RetryAfter);
            let is_telling = workers == 20 && calls == 10;
            rows.push(Scenario { is_telling, ..limit(format!("{name} as a bucket"), limits, 1, workers) });
        }
    }
    for (name, calls, per, processes, workers) in [
        ("60/min, several processes", 60, 60, 5, 20),
        ("60/min, several processes", 60, 60, 20, 20),
        ("600/min, several processes", 600, 60, 10, 50),
        ("10/s, several processes", 10, 1, 10, 50),
    ] {
        let limits = Limits::new(vec![Limit::window(calls, per)], Told::RetryAfter);
        rows.push(Scenario { is_telling: processes == 5, ..limit(name.into(), limits, processes, workers) });
    }
    let one = |limit| Limits::new(vec![limit], Told::RetryAfter);
    let minute = Limit::window(600, 60);
    let both = |first, second| Limits::new(vec![first, second], Told::RetryAfter);
    let mut add = |name: &str, limits| rows.push(Scenario { is_telling: true, ..limit(name.into(), limits, 1, 20) });
    add("10/s and 300/min", both(Limit::window(10, 1), Limit::window(300, 60)));
    add("600/min, lowered by half", one(Limit { changes: Some((LIMIT_RUN / 2, 300)), ..minute }));
    add("600/min, raised by half", one(Limit { changes: Some((LIMIT_RUN / 2, 900)), ..minute }));
    add("600/min, strangers take half", Limits { strangers: 5, ..one(minute) });
    let hourly = limit("10/s and 1,000/h".into(), both(Limit::window(10, 1), Limit::window(1_000, HOUR)), 1, 20);
    // The limit of the hour surfaces requests, as it should: its wait is longer than the longest server wait.
    let bounds = Bounds { used: Some(90.0), allowed: 2_000, ..Bounds::default() };
    rows.push(Scenario { seconds: 2 * HOUR, bounds, ..hourly });
    let liar = limit("600/min, one hint of 54 years".into(), Limits { first_lies: true, ..one(minute) }, 1, 20);
    let bounds = Bounds { used: Some(75.0), allowed: liar.bounds.allowed, ..Bounds::default() };
    rows.push(Scenario { is_telling: true, bounds, ..liar });
}

fn limit(name: String, limits: Limits, processes: u32, workers: u32) -> Scenario {
    let allowed = limits.all.iter().map(|limit| limit.allowed(LIMIT_RUN)).min().expect("a limit");
    let allowed = allowed - limits.strangers * LIMIT_RUN;
    // The queue at the slowest rate that the limits ever have, and one window.
    let slowest = |limit: &Limit| {
        let calls = limit.changes.map_or(limit.calls, |(_, calls)| calls.min(limit.calls));
        (u64::from(workers) * limit.per).div_ceil(calls) * if limits.strangers > 0 { 2 } else { 1 } + limit.per
    };
    let worst = limits.all.iter().map(slowest).max().expect("a limit") + TOLERANCE;
    let bounds =
        Bounds { used: Some(90.0), lost_requests: Some(0), worst: Some(worst as f64), allowed, ..Bounds::default() };
    let clients = Clients::Loops { clients: workers, every: 0 };
    let row = row(Group::Limit, name, clients, Kind::Limited(limits), LIMIT_RUN);
    Scenario { sharing: Sharing::Processes(processes), bounds, ..row }
}

impl Told {
    fn words(self) -> &'static str {
        match self {
            Told::RetryAfter => "Retry-After",
            Told::RateLimit => "remaining and reset",
            Told::Both => "both",
        }
    }
}

// ---- Errors and quiet clients ----

fn errors(rows: &mut Vec<Scenario>) {
    for (percent, most, telling) in
        [(1, 0.1, [false; 3]), (5, 0.1, [false; 3]), (20, 1.0, [true, true, true]), (50, 0.0, [true, true, false])]
    {
        let clients = Clients::Fleet { clients: FLEET, every: EVERY };
        let row = row(Group::Errors, format!("{percent} %"), clients, Kind::Failing(percent, 200), disturbed::SECONDS);
        fleets(rows, telling, &Scenario { bounds: Bounds { lost: Some(most), ..Bounds::default() }, ..row });
    }
}

fn quiet(rows: &mut Vec<Scenario>) {
    let mut add = |name: &str, clients, every: u64, service, seconds, bounds, is_telling| {
        let clients = Clients::Loops { clients, every: every * 1_000 };
        rows.push(Scenario { bounds, is_telling, ..row(Group::Quiet, name, clients, service, seconds) });
    };
    let succeeded = |least| Bounds { succeeded: Some(least), ..Bounds::default() };
    let first = || Kind::FirstFail(1, Answer::plain(503));
    add("hourly, first attempt fails", 20, HOUR, first(), 10 * DAY, succeeded(99.9), true);
    add("every 20 s, first attempt fails", 20, 20, first(), DAY / 4, succeeded(99.9), true);
    add("every 5 min, first attempt fails", 20, 300, first(), 2 * DAY, succeeded(99.9), false);
    add("hourly, 50 % errors", 100, HOUR, Kind::Failing(50, 200), 10 * DAY, succeeded(96.0), true);
    add("every 20 s, 50 % errors", 100, 20, Kind::Failing(50, 200), DAY / 8, succeeded(80.0), false);
    add("every 20 s, 20 % errors, answer 404", 100, 20, Kind::Failing(20, 404), DAY / 8, succeeded(99.9), true);
    add("every second, 50 % errors", 20, 1, Kind::Failing(50, 200), HOUR, succeeded(80.0), false);
    for times in 1..=3 {
        let told = Kind::FirstFail(times, Answer::hinted(429, 30_000));
        // The hints, each with its spread, and the attempts.
        let worst = f64::from(times) * 30.55 + 0.1;
        let bounds = Bounds { worst: Some(worst), ..succeeded(100.0) };
        let name = ["told 30 s once", "told 30 s twice", "told 30 s three times"][times as usize - 1];
        add(name, 100, HOUR, told, DAY, bounds, times == 2);
    }
}

// ---- Cold starts ----

fn cold_starts(rows: &mut Vec<Scenario>) {
    for (hint, requests, rates, telling) in [
        (1, 2, &[1, 10][..], &[][..]),
        (1, 1_000, &[10, 100, 1_000], &[]),
        (5, 200, &[1, 10, 100], &[]),
        (30, 2, &[1, 10], &[]),
        (30, 20, &[1, 10, 100], &[]),
        (30, 50, &[1, 10, 100], &[10]),
        (30, 200, &[1, 10, 100], &[10]),
        (30, 1_000, &[10, 100, 1_000], &[]),
        (60, 50, &[1, 10, 100], &[1]),
        (60, 200, &[1, 10, 100], &[]),
        (200, 200, &[10, 100], &[]),
        (300, 2, &[1], &[]),
    ] {
        for rate in rates {
            rows.push(Scenario { is_telling: telling.contains(rate), ..cold_start(hint, requests, *rate) });
        }
    }
    for (name, every, seconds) in [("200 once an hour", HOUR, DAY), ("200 once a day", DAY, 12 * DAY)] {
        let limits = Limits::new(vec![Limit::window(100, 10)], Told::RetryAfter);
        let clients = Clients::Batches { requests: 200, every };
        let row = row(Group::ColdStart, name, clients, Kind::Limited(limits), seconds);
        let bounds = Bounds { lost_requests: Some(0), worst: Some(32.0), ..Bounds::default() };
        rows.push(Scenario { sharing: Sharing::Processes(1), bounds, is_telling: every == DAY, ..row });
    }
    for (workers, hint, least) in [(1, 30, 70.0), (1, 60, 50.0), (20, 30, 20.0), (20, 60, 20.0)] {
        let service = cold_service(hint, 10);
        let clients = Clients::Loops { clients: workers, every: 1_000 };
        let name = format!("then a call a second, hint {hint}, 10/s");
        let bounds = Bounds {
            used: Some(least),
            lost_requests: Some(0),
            allowed: (900 - hint) * u64::from(workers).min(10),
            ..Bounds::default()
        };
        let row = row(Group::Limit, name, clients, service, 900);
        rows.push(Scenario { sharing: Sharing::Processes(1), bounds, is_telling: hint == 60, ..row });
    }
}

fn cold_start(hint: u64, requests: u32, rate: u64) -> Scenario {
    let name = format!("hint {hint}, then {rate}/s");
    let clients = Clients::Batches { requests, every: DAY };
    let all = hint + u64::from(requests).div_ceil(rate) + hint.div_ceil(4);
    // The requests that do not fit into the longest server wait.
    let fit = rate * LONGEST_WAIT.saturating_sub(hint + hint.div_ceil(4));
    let bounds = Bounds {
        last_success: Some((all + TOLERANCE) as f64),
        lost_requests: Some(if all <= LONGEST_WAIT { 0 } else { u64::from(requests).saturating_sub(fit) }),
        ..Bounds::default()
    };
    let row = row(Group::ColdStart, name, clients, cold_service(hint, rate), 1_200);
    Scenario { sharing: Sharing::Processes(1), bounds, ..row }
}

/// Returns a service that refuses everything until the hint is over, and then serves at this rate, with a burst of a
/// second.
fn cold_service(hint: u64, rate: u64) -> Kind {
    let limits = Limits::new(vec![Limit::bucket(rate, 1, rate)], Told::RetryAfter);
    Kind::Limited(Limits { closed_for: hint, ..limits })
}

// ---- Trouble ----

fn troubles(rows: &mut Vec<Scenario>) {
    let mut add = |name: &str, trouble: Trouble, least, worst, is_telling| {
        let limits = Limits::new(vec![Limit::window(60, 60)], Told::RetryAfter);
        let row = limit(name.into(), limits, 1, 40);
        let bounds = Bounds { used: Some(least), worst: row.bounds.worst.map(|bound| bound + worst), ..row.bounds };
        rows.push(Scenario { group: Group::Trouble, bounds, trouble, is_telling, ..row });
    };
    add("60/min, deadline 50 s", Trouble { deadline: Some(50_000), ..Trouble::default() }, 80.0, 0.0, true);
    add("60/min, deadline 5 s", Trouble { deadline: Some(5_000), ..Trouble::default() }, 80.0, 0.0, false);
    add("60/min, half are cancelled", Trouble { cancelled: Some(30_000), ..Trouble::default() }, 70.0, 0.0, true);
    add("60/min, ticks late by up to 0.2 s", Trouble { late: 200, ..Trouble::default() }, 90.0, 1.0, false);
    add("60/min, ticks late by up to 2 s", Trouble { late: 2_000, ..Trouble::default() }, 80.0, 10.0, true);
    add("60/min, the clock jumps by an hour", Trouble { jump: HOUR * 1_000, ..Trouble::default() }, 90.0, 0.0, true);
    add("60/min, half call every 30 s", Trouble { quiet: 20, ..Trouble::default() }, 90.0, 0.0, true);
    let mixed = Limits { others: 4, ..Limits::new(vec![Limit::window(600, 60)], Told::RetryAfter) };
    let row = limit("600/min, a fifth of the clients get nothing".into(), mixed, 1, 20);
    let bounds = Bounds { allowed: row.bounds.allowed, ..Bounds::default() };
    rows.push(Scenario { group: Group::Trouble, bounds, ..row });
    let leaving = cold_start(30, 200, 10);
    let trouble = Trouble { cancelled: Some(30_000), ..Trouble::default() };
    rows.push(Scenario { trouble, is_telling: true, name: "half of the queue leaves".into(), ..leaving });
}
