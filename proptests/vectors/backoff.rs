//! Back-off sequences and jitter bounds of other libraries.

use std::time::Duration;

use retry_machine::{
    Action, Event, FailureKind, Idempotency, Jitter, Policy, PolicyBuilder, Reply, RetryMachine, Timestamp, Upstream,
};
use serde_json::Value;

use super::{account, cases, id, seconds};

/// Returns the action after the `n`th failure, and its length if it is a wait.
fn after_failures(n: u64, policy: PolicyBuilder, seed: u64) -> (Option<Action>, Option<Duration>) {
    let mut upstream = Upstream::new(policy.budget(None).breaker(None).build().unwrap());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, seed);
    let (mut now, mut last) = (Timestamp::ZERO, (None, None));
    for n in 1..=n {
        let _ = machine.handle(now, Event::Tick, &mut upstream);
        let action =
            machine.handle(now, Event::Reply { attempt: n.try_into().unwrap(), reply: Reply::new(503) }, &mut upstream);
        last = (Some(action), None);
        if let Action::Wait { until, .. } = action {
            last.1 = Some(until.saturating_duration_since(now));
            now = until;
        }
    }
    last
}

/// Returns the waits before retry `n` with many seeds.
fn waits(n: u64, policy: &PolicyBuilder) -> impl Iterator<Item = Duration> {
    let retries = n.try_into().unwrap();
    (0..20).map(move |seed| after_failures(n, policy.clone().max_retries(retries), seed).1.unwrap())
}

fn all_within(n: u64, policy: &PolicyBuilder, low: Duration, high: Duration) -> bool {
    waits(n, policy).all(|wait| low <= wait && wait <= high)
}

fn holds(case: &Value) -> bool {
    let exact = || Policy::flextell().into_builder().jitter(Jitter::None).max_backoff(Duration::from_secs(300));
    let base = seconds(&case["base_s"]);
    let number = |key: &str| case[key].as_u64();
    let is_about = |origin: &str| case["origin"].as_str().unwrap().contains(origin);
    let within = |n: u64, policy: PolicyBuilder| {
        let bounds = &case["bounds_s"];
        all_within(n, &policy, seconds(&bounds[0]).unwrap(), seconds(&bounds[1]).unwrap())
    };
    match case["kind"].as_str().unwrap() {
        "full_jitter_step" => {
            let policy = exact().max_retries(case["max_attempts"].as_u64().unwrap().try_into().unwrap());
            let (action, _) = after_failures(number("max_attempts").unwrap() + 1, policy, 7);
            matches!(action, Some(Action::Fail(failure)) if failure.kind() == FailureKind::Exhausted)
        }
        "table" if is_about("urllib3") => {
            let policy = exact().initial_backoff(Duration::from_millis(200)).max_backoff(Duration::from_secs(120));
            within(number("failures").unwrap().max(1), policy)
        }
        "table" if is_about("go-retryablehttp") => within(number("attempt_index").unwrap() + 1, exact()),
        "table" if is_about("botocore") => {
            within(number("attempt").unwrap(), exact().jitter(Jitter::FULL).max_backoff(Duration::from_secs(20)))
        }
        "table" if is_about("huggingface") => {
            let policy = exact().initial_backoff(Duration::from_millis(100)).max_backoff(Duration::from_millis(500));
            within(number("attempt").unwrap(), policy)
        }
        "table" if is_about("cenkalti") => {
            let policy = exact().initial_backoff(Duration::from_millis(500)).max_backoff(Duration::from_secs(5));
            within(number("attempt").unwrap(), policy.jitter(Jitter::Band { down: 100, up: 100 }))
        }
        "randomized" => {
            // The crate draws its own random number: the expected wait must be within the band.
            let interval = seconds(&case["interval"]).unwrap();
            let part = format!("{:.0}", case["factor"].as_f64().unwrap() * 1_000.0).parse().unwrap();
            let policy = exact().initial_backoff(interval).jitter(Jitter::Band { down: part, up: part });
            let (low, high) =
                (interval - interval * u32::from(part) / 1_000, interval + interval * u32::from(part) / 1_000);
            let expect = seconds(&case["expect"]).unwrap();
            low <= expect && expect <= high && all_within(1, &policy, low, high)
        }
        "elapsed" => {
            let elapsed = Timestamp::ZERO.saturating_add(seconds(&case["elapsed_s"]).unwrap());
            let policy = exact().deadline(seconds(&case["max_elapsed_s"])).build().unwrap();
            let mut upstream = Upstream::new(policy);
            let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
            let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
            let action = machine.handle(elapsed, Event::Reply { attempt: 1, reply: Reply::new(503) }, &mut upstream);
            matches!(action, Action::Wait { .. }) == (case["expect"] == "retry")
        }
        "delay" => {
            let factor = if case["type"] == "exponential" { 2 } else { 1 };
            let cap = seconds(&case["max_s"]).unwrap_or(Duration::from_secs(300));
            let policy = exact().initial_backoff(base.unwrap()).backoff_factor(factor, 1).max_backoff(cap);
            let (n, expect) = (number("attempt").unwrap() + 1, seconds(&case["expect_s"]).unwrap());
            if case["jitter"].is_string() {
                // The crate draws its own random number: the expected wait must be within the jitter.
                let wait = waits(n, &policy).next().unwrap();
                return wait - wait / 4 <= expect && expect <= wait + wait / 4;
            }
            all_within(n, &policy, expect, expect)
        }
        "property" if case["type"] == "decorrelated jitter v2" => {
            // Without a maximum a thousand such waits would exceed the end of time.
            let cap = seconds(&case["max_s"]).unwrap_or(Duration::from_secs(1_000_000));
            let policy = exact().initial_backoff(base.unwrap()).max_backoff(cap).jitter(Jitter::Decorrelated);
            all_within(number("attempt").unwrap(), &policy, Duration::from_nanos(1), cap)
        }
        "property" => [0, 1, 3, 1_000, u64::MAX].into_iter().all(|nanos| {
            let value = Duration::from_nanos(nanos);
            let policy = exact().initial_backoff(value).max_backoff(Duration::MAX).jitter(Jitter::PROPORTIONAL);
            all_within(1, &policy, value - value / 4, value.saturating_add(value / 4))
        }),
        // A request has at most 65,535 retries, and `b1_no_retry_number_overflows` makes them all.
        "overflow" => true,
        _ => false,
    }
}

#[test]
fn b1_b2_f2_backoff_vectors_hold_or_are_decided_otherwise() {
    let cases = cases("backoff");
    account("backoff", 'h', cases.len(), cases.iter().filter(|case| !holds(case)).map(id).collect());
}
