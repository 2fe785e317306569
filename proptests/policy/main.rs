//! Any numbers make a policy or are refused by name, and under any policy each wait is within its bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;

use retry_machine::snapshot::MachineSnapshot;
use retry_machine::{Action, BreakerPolicy, Event, Jitter, Policy, PolicyBuilder, PolicyError, Reply, Timestamp};

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/settings.rs"]
mod settings;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/strategies.rs"]
mod strategies;
#[path = "../common/support.rs"]
mod support;

use settings::Settings;
use support::{Answer, Scene, ms, secs};

const JITTERS: [Jitter; 6] =
    [Jitter::None, Jitter::Spread, Jitter::FULL, Jitter::EQUAL, Jitter::Decorrelated, Jitter::PROPORTIONAL];

fn flextell() -> PolicyBuilder {
    Policy::flextell().into_builder()
}

// ---- Refused settings ----

#[test]
fn d11_a_refused_status_is_named() {
    for (statuses, refused) in
        [(&[399][..], 399), (&[600], 600), (&[401], 401), (&[503, 0, 1], 0), (&[u16::MAX], u16::MAX)]
    {
        let error = flextell().retry_statuses(statuses).build().unwrap_err();
        assert_eq!(error, PolicyError::StatusCannotBeRetried { status: refused });
        let text = format!("retry_statuses: {refused} cannot be retried: use 400–599, except 401");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn f2_a_factor_of_0_is_refused() {
    let error = flextell().backoff_factor(0, 1).build().unwrap_err();
    assert_eq!(error, PolicyError::FactorIsZero);
    assert_eq!(error.to_string(), "backoff_factor: 0 would make every wait after the first zero: use at least 1");
}

#[test]
fn s3_a_breaker_without_failures_is_refused() {
    let error =
        flextell().breaker(Some(BreakerPolicy { failure_threshold: 0, open_for: secs(1) })).build().unwrap_err();
    assert_eq!(error, PolicyError::BreakerNeedsFailures);
    let text = "breaker.failure_threshold: 0 would open the breaker before any failure: use at least 1";
    assert_eq!(error.to_string(), text);
}

#[test]
fn d11_a_later_setting_does_not_hide_a_refused_one() {
    assert!(flextell().retry_statuses(&[200]).retry_statuses(&[503]).build().is_err());
}

#[test]
fn b1_the_guides_numbers_are_the_defaults() {
    assert_eq!(Policy::default(), Policy::flextell());
    let written_out = Policy::common()
        .into_builder()
        .initial_backoff(secs(1))
        .backoff_factor(2, 1)
        .max_backoff(secs(60))
        .jitter(Jitter::Spread)
        .jitter_spread(ms(500))
        .max_retries(5)
        .max_token_recoveries(1)
        .max_server_wait(secs(300))
        .deadline(None)
        .attempt_timeout(None)
        .retry_statuses(&[429, 500, 503])
        .ambiguous_5xx(false)
        .breaker(None)
        .refresh_timeout(secs(30))
        .refresh_margin(secs(30));
    assert_eq!(written_out.build().unwrap(), Policy::flextell());
}

// ---- Extremes ----

/// Returns the first waits of a request without a limit, in nanoseconds.
fn waits(policy: PolicyBuilder, count: usize) -> Vec<u64> {
    let policy = policy.max_retries(u32::MAX).budget(None).breaker(None).gate(false);
    let mut scene = Scene::with(policy);
    let mut now = Timestamp::ZERO;
    let mut waits = Vec::new();
    let _ = scene.at_time(now).start();
    while waits.len() < count && now < Timestamp::MAX {
        let Action::Wait { until, .. } = scene.at_time(now).reply(503) else { panic!("it is given up") };
        waits.push(until.as_nanos() - now.as_nanos());
        now = until;
        assert!(matches!(scene.at_time(now).tick(), Action::Send { .. }));
    }
    waits
}

#[test]
fn b1_attempts_57_64_70_and_beyond_stay_under_the_cap() {
    for jitter in JITTERS {
        for factor in [1, 2, 3, 1_000, u32::MAX] {
            let waits = waits(flextell().jitter(jitter).backoff_factor(factor, 1), 300);
            assert_eq!(waits.len(), 300);
            assert!(waits.iter().all(|wait| *wait <= 60_000_000_000), "{jitter:?}, {factor}");
            let distinct: std::collections::BTreeSet<_> = waits[100..].iter().collect();
            assert!(jitter == Jitter::None || distinct.len() > 190, "{jitter:?}, {factor}: jitter is lost at the cap");
        }
    }
}

/// Returns the wait after the failure of attempt number `attempts`.
fn wait_after(attempts: u32, policy: PolicyBuilder) -> u64 {
    let mut scene = Scene::with(policy.max_retries(u32::MAX).budget(None));
    let _ = scene.at(0).start();
    let mut saved = serde_json::to_value(MachineSnapshot::new(scene.machine(0), Timestamp::ZERO)).unwrap();
    saved["machine"]["attempts"] = attempts.into();
    let saved: MachineSnapshot = serde_json::from_value(saved).unwrap();
    let mut machine = saved.restore(Timestamp::ZERO).unwrap();
    let action = machine.handle(
        Timestamp::ZERO,
        Event::Reply { attempt: attempts, reply: Reply::new(503) },
        &mut scene.upstream,
    );
    action.end_of_wait().as_nanos()
}

#[test]
fn b1_attempt_four_billion_stays_under_the_cap() {
    for jitter in JITTERS {
        for attempts in [57, 64, 70, 1 << 31, u32::MAX - 1] {
            let wait = wait_after(attempts, flextell().jitter(jitter));
            let shortest = if matches!(jitter, Jitter::FULL | Jitter::Decorrelated) { 0 } else { 30_000_000_000 };
            assert!((shortest..=60_000_000_000).contains(&wait), "{jitter:?}, attempt {attempts}: {wait}");
        }
    }
}

#[test]
fn b1_a_base_of_zero_waits_for_the_jitter_alone() {
    assert_eq!(waits(flextell().initial_backoff(Duration::ZERO).jitter(Jitter::None), 70), [0; 70]);
    let spread = waits(flextell().initial_backoff(Duration::ZERO), 70);
    assert!(spread.iter().all(|wait| *wait <= 500_000_000) && spread.iter().any(|wait| *wait > 250_000_000));
}

#[test]
fn b1_a_cap_under_the_base_is_every_wait() {
    assert_eq!(waits(flextell().max_backoff(ms(10)).jitter(Jitter::None), 70), [10_000_000; 70]);
    for jitter in JITTERS {
        assert!(
            waits(flextell().max_backoff(ms(10)).jitter(jitter), 70).iter().all(|wait| *wait <= 10_000_000),
            "{jitter:?}"
        );
        assert_eq!(waits(flextell().max_backoff(Duration::ZERO).jitter(jitter), 70), [0; 70], "{jitter:?}");
    }
}

#[test]
fn b2_the_widest_settings_do_not_overflow() {
    for jitter in JITTERS {
        let widest = flextell()
            .initial_backoff(Duration::MAX)
            .backoff_factor(u32::MAX, 1)
            .max_backoff(Duration::MAX)
            .jitter_spread(Duration::MAX);
        let waits = waits(widest.jitter(jitter), 70);
        assert!(!waits.is_empty(), "{jitter:?}");
    }
}

proptest! {
    #![proptest_config(strategies::config(1_000))]

    /// Planted: `saturating_pow` as `wrapping_pow`; the spread added after the cap.
    #[test]
    fn i8_no_wait_of_any_policy_leaves_its_bounds(settings in strategies::settings()) {
        let settings = Settings { deadline: None, attempt_timeout: None, statuses: vec![503], ..settings };
        let mut now = 0_u64;
        for (wait, retry) in waits(settings.builder(), 80).into_iter().zip(1..) {
            let (low, high) = settings.back_off(retry);
            // T2: time ends at its end.
            let left = u64::MAX - now;
            prop_assert!(wait >= low.min(left) && wait <= high.min(left), "retry {}: {} not in {}..={}", retry, wait, low, high);
            now += wait;
        }
    }

    #[test]
    fn t2_any_numbers_are_accepted_and_meant(settings in strategies::settings()) {
        let policy = settings.policy();
        prop_assert_eq!(policy.max_retries(), settings.max_retries);
        for status in 0..=u16::MAX {
            prop_assert_eq!(policy.retries(status), settings.retries(status));
        }
    }
}
