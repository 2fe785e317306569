//! Strategies for the settings of a policy.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

use retry_machine::{BreakerPolicy, BudgetPolicy, Charge, Jitter, Refund, StatusMeaning, ThrottleBackoff, YoungToken};

use super::settings::{DIALECTS, Meaning, Settings};

/// A quarter of a second, in nanoseconds. Most times are multiples of it, so that they often coincide.
pub const QUARTER: u64 = 250_000_000;

/// Configures the number of cases. A failure is kept beside the test, as a regression to commit.
pub fn config(cases: u32) -> ProptestConfig {
    let regressions = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(regressions)), ..ProptestConfig::default() }
}

/// Generates nanoseconds: mostly of a usual size, sometimes any.
pub fn nanos() -> BoxedStrategy<u64> {
    prop_oneof![
        1 => select(vec![0, 1, 499_999_999, u64::MAX - 1, u64::MAX]),
        1 => any::<u64>(),
        6 => (1_u64..24).prop_map(|quarters| quarters * QUARTER),
        4 => (1_u64..400).prop_map(|seconds| seconds * 4 * QUARTER),
    ]
    .boxed()
}

pub fn jitter() -> impl Strategy<Value = Jitter> {
    use Jitter::{Above, Band, Decorrelated, None, Spread};
    let band = (prop_oneof![3 => select(vec![0, 250, 500, 1_000]), 1 => 0_u16..=1_000], any::<u16>());
    prop_oneof![
        4 => select(vec![None, Spread, Above, Decorrelated]),
        2 => select(vec![Jitter::FULL, Jitter::EQUAL, Jitter::PROPORTIONAL]),
        1 => band.prop_map(|(down, up)| Band { down, up }),
    ]
}

pub fn budget() -> impl Strategy<Value = BudgetPolicy> {
    let amounts = (0_u32..8, 0_u32..3, 1_u32..4, 0_u32..4, 0_u32..4);
    let charge = select(vec![Charge::Retry, Charge::Retry, Charge::Failure]);
    let refund = select(vec![Refund::Fixed, Refund::LastCost, Refund::Paid, Refund::Paid]);
    let refill = prop_oneof![2 => Just(0), 3 => nanos()];
    (amounts, charge, refund, refill).prop_map(|(amounts, charge, refund, refill)| {
        let (capacity, floor, retry_cost, throttle_cost, success_refund) = amounts;
        let refill_every = Duration::from_nanos(refill);
        BudgetPolicy { capacity, floor, retry_cost, throttle_cost, charge, success_refund, refund, refill_every }
    })
}

/// Generates a factor: mostly small, sometimes any ratio of at least 1.
pub fn factor() -> impl Strategy<Value = (u32, u32)> {
    let any_ratio = (1..=u32::MAX, 1..=u32::MAX).prop_map(|(one, other)| (one.max(other), one.min(other)));
    prop_oneof![
        4 => (1_u32..5).prop_map(|factor| (factor, 1)),
        2 => select(vec![(16, 10), (13, 10), (3, 2), (u32::MAX, 1), (u32::MAX, u32::MAX)]),
        1 => any_ratio,
    ]
}

/// Generates meanings: those of a preset, sometimes with changes, or any.
pub fn meanings() -> impl Strategy<Value = Vec<Meaning>> {
    use StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
    let meaning = select(vec![Surface, Retry, RetryIfSafe, Throttle]);
    let usual = select(vec![400, 403, 404, 408, 429, 500, 502, 503, 504, 599]);
    let status = || prop_oneof![3 => usual.clone(), 1 => 400_u16..600];
    let any_range = (status(), prop_oneof![3 => Just(0_u16), 1 => 0_u16..200])
        .prop_map(|(first, length)| (first, first.saturating_add(length).min(599)));
    let range = any_range.prop_map(|(first, last)| match (first, last) {
        (401, _) => (402, last.max(402)),
        // A 401 has no meaning.
        (400, 401..) => (400, 400),
        range => range,
    });
    let entry = (range, meaning, any::<bool>()).prop_map(|(statuses, meaning, is_for_hints)| Meaning {
        statuses,
        meaning,
        is_for_hints,
    });
    let preset = select(vec![Settings::the_guides_meanings(), Settings::common_meanings()]);
    (option::weighted(0.8, preset), vec(entry, 0..4)).prop_map(|(preset, own)| {
        let mut meanings = preset.unwrap_or_default();
        meanings.extend(own);
        meanings
    })
}

fn throttle_backoff() -> impl Strategy<Value = ThrottleBackoff> {
    (nanos(), factor(), nanos()).prop_map(|(initial, backoff_factor, max)| ThrottleBackoff {
        initial_backoff: Duration::from_nanos(initial),
        backoff_factor,
        max_backoff: Duration::from_nanos(max),
    })
}

pub fn settings() -> BoxedStrategy<Settings> {
    let small_or_any = || prop_oneof![5 => 0_u16..3, 4 => 3_u16..7, 1 => any::<u16>()];
    let breaker = (1_u32..5, nanos()).prop_map(|(failures, open)| BreakerPolicy {
        failure_threshold: failures,
        open_for: Duration::from_nanos(open),
    });
    let back_off = (nanos(), factor(), nanos(), jitter(), nanos(), option::weighted(0.3, throttle_backoff()));
    let limits = (
        small_or_any(),
        option::weighted(0.3, small_or_any()),
        prop_oneof![4 => 0_u8..4, 1 => any::<u8>()],
        nanos(),
        option::weighted(0.4, prop_oneof![3 => (0_u64..12).prop_map(|seconds| seconds * 4 * QUARTER), 1 => nanos()]),
        option::weighted(0.5, nanos()),
    );
    let young = select(vec![YoungToken::Refresh, YoungToken::Surface, YoungToken::Retry]);
    let reading = (meanings(), select(DIALECTS.to_vec()), any::<bool>(), young);
    let shared = (prop::bool::weighted(0.8), option::of(budget()), option::weighted(0.3, breaker), nanos(), nanos());
    (back_off, limits, reading, shared)
        .prop_map(|(back_off, limits, reading, shared)| Settings {
            initial_backoff: back_off.0,
            backoff_factor: back_off.1,
            max_backoff: back_off.2,
            jitter: back_off.3,
            jitter_spread: back_off.4,
            throttle_backoff: back_off.5,
            max_retries: limits.0,
            throttle_retries: limits.1,
            max_token_recoveries: limits.2,
            max_server_wait: limits.3,
            deadline: limits.4,
            attempt_timeout: limits.5,
            meanings: reading.0,
            dialect: reading.1,
            refresh_on_insufficient: reading.2,
            young_token: reading.3,
            gate: shared.0,
            budget: shared.1,
            breaker: shared.2,
            refresh_timeout: shared.3,
            refresh_margin: shared.4,
        })
        .boxed()
}
