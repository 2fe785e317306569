//! Any numbers make a policy or are refused by name, and under any policy each wait is within its bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;

use retry_machine::snapshot::MachineSnapshot;
use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, DialectField, Event, FailureKind, FieldMeaning, Jitter, Policy, PolicyBuilder,
    PolicyError, Reply, StatusMeaning, ThrottleBackoff, TimeUnit, Timestamp, Upstream, YoungToken,
};

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/settings.rs"]
mod settings;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/strategies.rs"]
mod strategies;
#[path = "../common/support.rs"]
mod support;

use settings::{Kind, Settings, on};
use support::{Answer, Scene, ms, secs};

const JITTERS: [Jitter; 9] = [
    Jitter::None,
    Jitter::Spread,
    Jitter::Above,
    Jitter::FULL,
    Jitter::EQUAL,
    Jitter::PROPORTIONAL,
    Jitter::Band { down: 200, up: 200 },
    Jitter::Band { down: 1_000, up: u16::MAX },
    Jitter::Decorrelated,
];

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
        assert_eq!(error, PolicyError::StatusHasNoMeaning { status: refused });
        assert_eq!(error.to_string(), format!("{refused} cannot be retried: use 400–599, except 401"));
    }
}

#[test]
fn d11_a_refused_range_is_named() {
    let no_meaning = |status| PolicyError::StatusHasNoMeaning { status };
    let empty = PolicyError::EmptyStatusRange { first: 503, last: 500 };
    assert_eq!(empty.to_string(), "503–500 contains no status: a range goes from the smaller to the larger one");
    let refused = [
        (399, 400, no_meaning(399)),
        (599, 600, no_meaning(600)),
        (401, 401, no_meaning(401)),
        (400, 402, no_meaning(401)),
        (0, u16::MAX, no_meaning(0)),
        (503, 500, empty),
    ];
    for (first, last, error) in refused {
        for meaning in [StatusMeaning::Surface, StatusMeaning::Throttle] {
            assert_eq!(flextell().on(first..=last, meaning).build(), Err(error));
            assert_eq!(flextell().on_hinted(first..=last, meaning).build(), Err(error));
        }
    }
}

#[test]
fn f2_a_factor_below_1_is_refused() {
    for (numerator, denominator) in [(0, 1), (0, 0), (1, 0), (u32::MAX, 0), (9, 10), (u32::MAX - 1, u32::MAX)] {
        let error = flextell().backoff_factor(numerator, denominator).build().unwrap_err();
        assert_eq!(error, PolicyError::FactorBelowOne);
        assert_eq!(error.to_string(), "backoff_factor: a factor below 1 makes waits shorter: use at least 1");
        let own = ThrottleBackoff {
            initial_backoff: secs(60),
            backoff_factor: (numerator, denominator),
            max_backoff: secs(600),
        };
        let error = flextell().throttle_backoff(Some(own)).build().unwrap_err();
        assert_eq!(error, PolicyError::ThrottleFactorBelowOne);
        assert_eq!(error.to_string(), "throttle_backoff: a factor below 1 makes waits shorter: use at least 1");
    }
    for (numerator, denominator) in [(1, 1), (u32::MAX, u32::MAX), (u32::MAX, u32::MAX - 1), (u32::MAX, 1)] {
        assert!(flextell().backoff_factor(numerator, denominator).build().is_ok());
    }
}

#[test]
fn b2_a_band_below_zero_is_refused() {
    for down in [1_001, u16::MAX] {
        let error = flextell().jitter(Jitter::Band { down, up: 0 }).build().unwrap_err();
        assert_eq!(error, PolicyError::BandBelowZero { down });
        let text =
            format!("jitter: a band of {down} thousandths below the wait is more than the wait: use at most 1000");
        assert_eq!(error.to_string(), text);
    }
    assert!(flextell().jitter(Jitter::Band { down: 1_000, up: u16::MAX }).build().is_ok());
}

#[test]
fn h11_a_bad_entry_of_a_dialect_is_named() {
    const fn field(name: &'static str) -> DialectField {
        DialectField::new(name, FieldMeaning::Wait(TimeUnit::Seconds))
    }
    const EMPTY: &[DialectField] = &[field("a"), field("")];
    const TWICE: &[DialectField] = &[field("X-Wait"), field("y"), field("x-wAIT")];
    // The first bad entry is named, whatever is wrong with the others.
    const SEVERAL: &[DialectField] = &[field("a b"), field(""), field("a b")];
    const PREFIXES: &[DialectField] = &[field("x-wait"), field("x"), field("x-wait-more")];
    let empty = PolicyError::DialectNameEmpty { entry: 1 };
    let twice = PolicyError::DialectNameTwice { entry: 2 };
    let invalid = PolicyError::DialectNameInvalid { entry: 0 };
    assert_eq!(empty.to_string(), "dialect: entry 1 has an empty name");
    assert_eq!(twice.to_string(), "dialect: entry 2 has the name of an earlier entry");
    assert_eq!(invalid.to_string(), "dialect: the name of entry 0 is not a field name");
    for (table, error) in [(EMPTY, empty), (TWICE, twice), (SEVERAL, invalid)] {
        assert_eq!(flextell().dialect(table).build(), Err(error));
    }
    // The beginning of a name is another name.
    assert!(flextell().dialect(PREFIXES).build().is_ok());
}

#[test]
fn s2_a_policy_without_a_budget_has_no_balance() {
    let balance =
        |policy: PolicyBuilder| Upstream::new(policy.build().unwrap()).service.budget_balance(Timestamp::ZERO);
    assert_eq!(balance(flextell().budget(None)), None);
    let budget = BudgetPolicy { capacity: 7, ..BudgetPolicy::DEFAULT };
    assert_eq!(balance(flextell().budget(Some(budget))), Some(7));
}

#[test]
fn h11_a_name_is_a_token_and_nothing_else() {
    const MARKS: &str = "!#$%&'*+-.^_`|~";
    let is_accepted = |name: String| {
        let table: &'static [DialectField] =
            Vec::leak(vec![DialectField::new(String::leak(name), FieldMeaning::Remaining)]);
        match flextell().dialect(table).build() {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error, PolicyError::DialectNameInvalid { entry: 0 });
                false
            }
        }
    };
    for character in (0..=255_u8).map(char::from).chain(['é', '\u{2028}']) {
        let is_token = character.is_ascii_alphanumeric() || MARKS.contains(character);
        for name in [format!("{character}"), format!("x{character}"), format!("{character}x")] {
            assert_eq!(is_accepted(name), is_token, "{character:?}");
        }
    }
}

#[test]
fn h11_a_table_that_is_a_constant_is_checked_by_the_compiler() {
    const POLICY: Result<Policy, PolicyError> = Policy::common().into_builder().dialect(settings::DIALECTS[3]).build();
    assert_eq!(POLICY.unwrap().read(200, [("API-Usage", "2/2")]).remaining(), Some(0));
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
    let first = PolicyError::StatusHasNoMeaning { status: 200 };
    assert_eq!(flextell().retry_statuses(&[200]).retry_statuses(&[503]).build(), Err(first));
    let ranges = flextell().on(200..=200, StatusMeaning::Retry).on(600..=600, StatusMeaning::Retry);
    assert_eq!(ranges.backoff_factor(0, 1).build(), Err(first));
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
        .throttle_backoff(None)
        .throttle_retries(None)
        .dialect(&[])
        .refresh_on_insufficient(false)
        .young_token(YoungToken::Refresh)
        .breaker(Some(BreakerPolicy::DEFAULT))
        .refresh_timeout(secs(30))
        .refresh_margin(secs(30));
    assert_eq!(written_out.build().unwrap(), Policy::flextell());
}

// ---- Extremes ----

/// Returns the first waits of a request with the most retries, in nanoseconds. Each attempt gets this status.
fn waits_after(status: u16, policy: PolicyBuilder, count: usize) -> Vec<u64> {
    let policy = policy.max_retries(u16::MAX).budget(None).breaker(None).gate(false);
    let mut scene = Scene::with(policy);
    let mut now = Timestamp::ZERO;
    let mut waits = Vec::new();
    let _ = scene.at_time(now).start();
    while waits.len() < count && now < Timestamp::MAX {
        let Action::Wait { until, .. } = scene.at_time(now).reply(status) else { panic!("it is given up") };
        waits.push(until.as_nanos() - now.as_nanos());
        now = until;
        assert!(matches!(scene.at_time(now).tick(), Action::Send { .. }));
    }
    waits
}

fn waits(policy: PolicyBuilder, count: usize) -> Vec<u64> {
    waits_after(503, policy, count)
}

#[test]
fn b1_attempts_57_64_70_and_beyond_stay_under_the_cap() {
    for jitter in JITTERS {
        let factors = [(1, 1), (2, 1), (3, 1), (1_000, 1), (13, 10), (u32::MAX, 1), (u32::MAX, u32::MAX)];
        for (numerator, denominator) in factors {
            let waits = waits(flextell().jitter(jitter).backoff_factor(numerator, denominator), 300);
            assert_eq!(waits.len(), 300);
            assert!(waits.iter().all(|wait| *wait <= 60_000_000_000), "{jitter:?}, {numerator}/{denominator}");
            let distinct: std::collections::BTreeSet<_> = waits[100..].iter().collect();
            let is_lost = jitter != Jitter::None && distinct.len() <= 190;
            assert!(!is_lost, "{jitter:?}, {numerator}/{denominator}: jitter is lost at the cap");
        }
    }
}

#[test]
fn b3_the_greatest_number_of_retries_is_made_and_no_more() {
    for apart in [false, true] {
        let policy = flextell().jitter(Jitter::None).initial_backoff(Duration::ZERO).budget(None);
        let policy = policy.max_retries(u16::MAX).throttle_retries(apart.then_some(u16::MAX)).gate(false);
        let mut scene = Scene::with(policy);
        let most = if apart { 2 * u32::from(u16::MAX) } else { u16::MAX.into() };
        let _ = scene.at(0).start();
        for retry in 1..=most {
            // Counted apart, the first half is throttled.
            let status = if apart && retry <= most / 2 { 429 } else { 503 };
            assert!(matches!(scene.at(0).reply(status), Action::Wait { .. }), "retry {retry}");
            assert!(matches!(scene.at(0).tick(), Action::Send { .. }), "retry {retry}");
        }
        let mut throttled = scene.machine(0).clone();
        let reply = |status| Event::Reply { attempt: most + 1, reply: Reply::new(status) };
        throttled.handle(Timestamp::ZERO, reply(429), &mut scene.upstream).fails(FailureKind::Exhausted);
        scene.at(0).reply(503).fails(FailureKind::Exhausted);
    }
}

/// Returns the wait after the failure of attempt number `attempts`.
fn wait_after(attempts: u32, policy: PolicyBuilder) -> u64 {
    let mut scene = Scene::with(policy.max_retries(u16::MAX).budget(None));
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
fn b1_the_last_retry_of_65535_stays_under_the_cap() {
    let shortest = |jitter| match jitter {
        Jitter::Band { down, up } => 60_000_000_000 - 60_000_000 * u64::from(down.max(up).min(1_000)),
        Jitter::Decorrelated => 1_000_000_000,
        Jitter::None => 60_000_000_000,
        Jitter::Spread | Jitter::Above => 59_500_000_000,
    };
    for jitter in JITTERS {
        for attempts in [57, 64, 70, 1 << 15, u16::MAX.into()] {
            let wait = wait_after(attempts, flextell().jitter(jitter));
            assert!((shortest(jitter)..=60_000_000_000).contains(&wait), "{jitter:?}, attempt {attempts}: {wait}");
        }
    }
}

#[test]
fn b1_a_base_of_zero_waits_for_the_jitter_alone() {
    assert_eq!(waits(flextell().initial_backoff(Duration::ZERO).jitter(Jitter::None), 70), [0; 70]);
    for jitter in [Jitter::Spread, Jitter::Above] {
        let spread = waits(flextell().initial_backoff(Duration::ZERO).jitter(jitter), 70);
        assert!(spread.iter().all(|wait| *wait <= 500_000_000) && spread.iter().any(|wait| *wait > 250_000_000));
    }
    // A band is a part of the wait.
    let widest = Jitter::Band { down: 1_000, up: u16::MAX };
    assert_eq!(waits(flextell().initial_backoff(Duration::ZERO).jitter(widest), 70), [0; 70]);
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
fn b1_a_throttle_without_a_hint_has_its_own_base_factor_and_cap() {
    let own = ThrottleBackoff { initial_backoff: secs(60), backoff_factor: (16, 10), max_backoff: secs(200) };
    let policy = || flextell().jitter(Jitter::None).throttle_backoff(Some(own));
    let seconds = |seconds: [u64; 5]| seconds.map(|seconds| seconds * 1_000_000_000 / 10);
    assert_eq!(waits_after(429, policy(), 5), seconds([600, 960, 1_536, 2_000, 2_000]));
    assert_eq!(waits_after(503, policy(), 5), seconds([10, 20, 40, 80, 160]));
}

#[test]
fn b1_each_step_of_a_ratio_is_rounded_down() {
    let policy = flextell().jitter(Jitter::None).initial_backoff(Duration::from_nanos(7)).backoff_factor(16, 10);
    assert_eq!(waits(policy, 6), [7, 11, 17, 27, 43, 68]);
    // A step that is rounded down to the same wait goes no further.
    let policy = flextell().jitter(Jitter::None).initial_backoff(Duration::from_nanos(3)).backoff_factor(13, 10);
    assert_eq!(waits(policy, 4), [3; 4]);
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
    fn i8_no_wait_of_any_policy_leaves_its_bounds(settings in strategies::settings(), throttled in any::<bool>()) {
        use StatusMeaning::{Retry, Throttle};
        let meanings = vec![on(429, 429, Throttle), on(503, 503, Retry)];
        // B5: counted apart, the throttled retries end before the eightieth.
        let throttle_retries = None;
        let settings = Settings { deadline: None, attempt_timeout: None, meanings, throttle_retries, ..settings };
        let (status, kind) = if throttled { (429, Kind::Throttle) } else { (503, Kind::Other) };
        let mut now = 0_u64;
        for (wait, retry) in waits_after(status, settings.builder(), 80).into_iter().zip(1..) {
            let (low, high) = settings.back_off(kind, retry);
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
            for hinted in [false, true] {
                prop_assert_eq!(policy.meaning(status, hinted), settings.meaning(status, hinted));
            }
        }
    }
}
