//! Strategies for the settings of a policy.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

use retry_machine::{BreakerPolicy, BudgetPolicy, Jitter};

use super::settings::Settings;

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
    use Jitter::{Decorrelated, Equal, Full, None, Proportional, Spread};
    select(vec![None, None, Spread, Spread, Full, Equal, Decorrelated, Proportional])
}

pub fn budget() -> impl Strategy<Value = BudgetPolicy> {
    (0_u32..8, 1_u32..4, 0_u32..4, 0_u32..4).prop_map(|(capacity, retry_cost, throttle_cost, success_refund)| {
        BudgetPolicy { capacity, retry_cost, throttle_cost, success_refund }
    })
}

pub fn settings() -> BoxedStrategy<Settings> {
    let small_or_any = || prop_oneof![5 => 0_u32..3, 4 => 3_u32..7, 1 => any::<u32>()];
    let status = (400_u16..600).prop_filter("a 401 cannot be retried", |status| *status != 401);
    let statuses = prop_oneof![
        4 => Just(vec![429, 500, 503]),
        1 => Just(vec![408, 425, 429, 500, 502, 503, 504]),
        1 => vec(status, 0..6),
    ];
    let breaker = (1_u32..5, nanos()).prop_map(|(failures, open)| BreakerPolicy {
        failure_threshold: failures,
        open_for: Duration::from_nanos(open),
    });
    let back_off = (nanos(), prop_oneof![4 => 1_u32..5, 1 => 1..=u32::MAX], nanos(), jitter(), nanos());
    let limits = (
        small_or_any(),
        prop_oneof![4 => 0_u8..4, 1 => any::<u8>()],
        nanos(),
        option::weighted(0.4, prop_oneof![3 => (0_u64..12).prop_map(|seconds| seconds * 4 * QUARTER), 1 => nanos()]),
        option::weighted(0.5, nanos()),
    );
    let shared = (
        prop::bool::weighted(0.8),
        option::weighted(0.2, nanos()),
        option::of(budget()),
        option::weighted(0.3, breaker),
        nanos(),
        nanos(),
    );
    (back_off, limits, statuses, any::<bool>(), shared)
        .prop_map(|(back_off, limits, statuses, ambiguous_5xx, shared)| Settings {
            initial_backoff: back_off.0,
            backoff_factor: back_off.1,
            max_backoff: back_off.2,
            jitter: back_off.3,
            jitter_spread: back_off.4,
            max_retries: limits.0,
            max_token_recoveries: limits.1,
            max_server_wait: limits.2,
            deadline: limits.3,
            attempt_timeout: limits.4,
            statuses,
            ambiguous_5xx,
            gate: shared.0,
            gate_spread: shared.1,
            budget: shared.2,
            breaker: shared.3,
            refresh_timeout: shared.4,
            refresh_margin: shared.5,
        })
        .boxed()
}
