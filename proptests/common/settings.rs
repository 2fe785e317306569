//! The settings of a policy as plain numbers, and the bounds that the rules derive from them. Property tests and fuzz targets
//! choose the numbers, each in its own way.
#![allow(unreachable_pub, clippy::expect_used)]

use std::time::Duration;

use retry_machine::{BreakerPolicy, BudgetPolicy, Jitter, Policy, PolicyBuilder, ResetFormat};

const MILLIS: u64 = 1_000_000;

/// The settings of a policy. All times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub initial_backoff: u64,
    pub backoff_factor: u32,
    pub max_backoff: u64,
    pub jitter: Jitter,
    pub jitter_spread: u64,
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
    /// Returns the numbers of the guide.
    pub fn flextell() -> Settings {
        Settings {
            initial_backoff: 1_000 * MILLIS,
            backoff_factor: 2,
            max_backoff: 60_000 * MILLIS,
            jitter: Jitter::Spread,
            jitter_spread: 500 * MILLIS,
            max_retries: 5,
            max_token_recoveries: 1,
            max_server_wait: 300_000 * MILLIS,
            deadline: None,
            attempt_timeout: None,
            statuses: vec![429, 500, 503],
            ambiguous_5xx: false,
            gate: true,
            gate_spread: None,
            budget: Some(BudgetPolicy::DEFAULT),
            breaker: None,
            refresh_timeout: 30_000 * MILLIS,
            refresh_margin: 30_000 * MILLIS,
        }
    }

    /// Returns common practice for other APIs (D11, D14).
    pub fn common() -> Settings {
        let statuses = vec![408, 425, 429, 500, 502, 503, 504];
        Settings { statuses, ambiguous_5xx: true, ..Settings::flextell() }
    }

    pub fn builder(&self) -> PolicyBuilder {
        let nanos = Duration::from_nanos;
        Policy::flextell()
            .into_builder()
            .initial_backoff(nanos(self.initial_backoff))
            .backoff_factor(self.backoff_factor)
            .max_backoff(nanos(self.max_backoff))
            .jitter(self.jitter)
            .jitter_spread(nanos(self.jitter_spread))
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

    pub fn policy(&self) -> Policy {
        self.builder().build().expect("these settings are accepted")
    }

    pub fn retries(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// Returns whether a hint beside this status counts (H10).
    pub fn hint_counts(&self, status: u16) -> bool {
        status == 429 || self.retries(status)
    }

    /// Returns the largest number of attempts of a request (I2).
    pub fn max_attempts(&self) -> u64 {
        1 + u64::from(self.max_retries) + u64::from(self.max_token_recoveries)
    }

    /// Returns the widest jitter of a wait for a hint (L2).
    pub fn hint_spread(&self) -> u64 {
        if self.jitter == Jitter::None { 0 } else { self.jitter_spread }
    }

    /// Returns the shortest and the longest back-off of the nth retry (B1, B2, F2).
    pub fn back_off(&self, retry: u32) -> (u64, u64) {
        let Settings { initial_backoff: first, max_backoff: longest, .. } = *self;
        // Growth by any factor saturates before the 70th retry.
        let grown = |factor: u32| (1..retry.min(70)).fold(first, |wait, _| wait.saturating_mul(u64::from(factor)));
        let wait = grown(self.backoff_factor).min(longest);
        let around = |spread: u64| (wait.saturating_sub(spread), wait.saturating_add(spread).min(longest));
        match self.jitter {
            Jitter::None => (wait, wait),
            Jitter::Spread => around(self.jitter_spread),
            Jitter::Full => (0, wait),
            Jitter::Equal => (wait / 2, wait),
            Jitter::Proportional => around(wait / 4),
            Jitter::Decorrelated => {
                let shortest = first.min(longest);
                (shortest, grown(3).saturating_mul(3).clamp(shortest, longest))
            }
        }
    }
}

/// Returns a duration in nanoseconds, saturating.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
