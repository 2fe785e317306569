//! Any policy: what the property tests draw from.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::FileFailurePersistence;

use retry_machine::{BreakerPolicy, BudgetPolicy, Jitter, Policy, PolicyBuilder, ResetFormat};

/// So many cases; what fails is kept beside the test, as a regression to commit.
pub fn config(cases: u32) -> ProptestConfig {
    let regressions = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(regressions)), ..ProptestConfig::default() }
}

/// A policy's numbers, times in nanoseconds, open to the tests that judge by them.
#[derive(Clone, Debug)]
pub struct Settings {
    pub base: u64,
    pub factor: u32,
    pub cap: u64,
    pub jitter: Jitter,
    pub spread: u64,
    pub max_retries: u32,
    pub max_token_recoveries: u8,
    pub max_server_wait: u64,
    pub deadline: Option<u64>,
    pub attempt_timeout: Option<u64>,
    pub statuses: Vec<u16>,
    pub ambiguous_5xx: bool,
    pub gate: bool,
    pub gate_spread: Option<u64>,
    pub budget: Option<BudgetPolicy>,
    pub breaker: Option<BreakerPolicy>,
    pub refresh_timeout: u64,
    pub refresh_margin: u64,
}

impl Settings {
    pub fn builder(&self) -> PolicyBuilder {
        let nanos = Duration::from_nanos;
        Policy::flextell()
            .into_builder()
            .initial_backoff(nanos(self.base))
            .backoff_factor(self.factor, 1)
            .max_backoff(nanos(self.cap))
            .jitter(self.jitter)
            .jitter_spread(nanos(self.spread))
            .max_retries(self.max_retries)
            .max_token_recoveries(self.max_token_recoveries)
            .max_server_wait(nanos(self.max_server_wait))
            .deadline(self.deadline.map(nanos))
            .attempt_timeout(self.attempt_timeout.map(nanos))
            .retry_statuses(&self.statuses)
            .ambiguous_5xx(self.ambiguous_5xx)
            .rate_limit_reset(ResetFormat::Delta)
            .gate(self.gate)
            .gate_spread(self.gate_spread.map(nanos))
            .budget(self.budget)
            .breaker(self.breaker)
            .refresh_timeout(nanos(self.refresh_timeout))
            .refresh_margin(nanos(self.refresh_margin))
    }
}

/// A quarter of a second, in nanoseconds: most times are some of these, so that they often coincide.
pub const QUARTER: u64 = 250_000_000;

/// Nanoseconds: mostly of a size that is met with, sometimes any.
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
        BudgetPolicy { capacity, retry_cost, throttle_cost, success_refund, ..BudgetPolicy::DEFAULT }
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
            base: back_off.0,
            factor: back_off.1,
            cap: back_off.2,
            jitter: back_off.3,
            spread: back_off.4,
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
