//! The settings: what is retried, how often, how long to wait.

use core::time::Duration;

use crate::reply::ResetFormat;
use crate::time::{millis, nanos};

/// How an upstream is to be called. Stored once per upstream, shared by all its requests.
///
/// [`Policy::flextell`] is the error-handling guide of the Flextell API, [`Policy::common`] common practice for other
/// APIs; [`into_builder`](Policy::into_builder) changes either.
///
/// ```
/// use core::time::Duration;
/// use retry_machine::Policy;
///
/// let policy = Policy::common()
///     .into_builder()
///     .max_retries(3)
///     .deadline(Some(Duration::from_secs(20)))
///     .build()?;
/// # assert_eq!(policy.max_retries(), 3);
/// # Ok::<(), retry_machine::PolicyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    // All times in nanoseconds.
    pub(crate) initial_backoff: u64,
    pub(crate) backoff_factor: u32,
    pub(crate) max_backoff: u64,
    pub(crate) jitter: Jitter,
    pub(crate) jitter_spread: u64,
    pub(crate) max_retries: u32,
    pub(crate) max_token_recoveries: u8,
    pub(crate) max_server_wait: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) attempt_timeout: Option<u64>,
    pub(crate) retry_statuses: StatusSet,
    pub(crate) ambiguous_5xx: bool,
    pub(crate) rate_limit_reset: ResetFormat,
    pub(crate) gate: bool,
    pub(crate) gate_spread: Option<u64>,
    pub(crate) budget: Option<BudgetPolicy>,
    pub(crate) breaker: Option<BreakerPolicy>,
    pub(crate) refresh_timeout: u64,
    pub(crate) refresh_margin: u64,
}

impl Policy {
    /// The Flextell guide: retry 429, 500 and 503, at most 5 times, after 1, 2, 4, 8, 16 s ± 500 ms (rules D1–D10,
    /// B1–B3).
    #[must_use]
    pub const fn flextell() -> Policy {
        Policy {
            initial_backoff: millis(1_000),
            backoff_factor: 2,
            max_backoff: millis(60_000),
            jitter: Jitter::Spread,
            jitter_spread: millis(500),
            max_retries: 5,
            max_token_recoveries: 1,
            max_server_wait: millis(300_000),
            deadline: None,
            attempt_timeout: None,
            retry_statuses: StatusSet::EMPTY.with(429).with(500).with(503),
            ambiguous_5xx: false,
            rate_limit_reset: ResetFormat::Auto,
            gate: true,
            gate_spread: None,
            budget: Some(BudgetPolicy::DEFAULT),
            breaker: None,
            refresh_timeout: millis(30_000),
            refresh_margin: millis(30_000),
        }
    }

    /// Common practice for other APIs: retries 408, 425, 429, 500, 502, 503 and 504, and does not repeat an unsafe
    /// request after a 5xx other than 503 (rules D11, D14). All else as in [`flextell`](Policy::flextell).
    #[must_use]
    pub const fn common() -> Policy {
        let statuses = StatusSet::EMPTY.with(408).with(425).with(429).with(500).with(502).with(503).with(504);
        Policy { retry_statuses: statuses, ambiguous_5xx: true, ..Policy::flextell() }
    }

    /// A builder that begins with these settings.
    pub const fn into_builder(self) -> PolicyBuilder {
        PolicyBuilder { policy: self, refused: None }
    }

    /// How to read a bare number in `X-RateLimit-Reset`: for [`Reply::read`](crate::Reply::read).
    #[must_use]
    pub const fn rate_limit_reset(&self) -> ResetFormat {
        self.rate_limit_reset
    }

    /// How many retries a request has at most.
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// Whether this status is retried.
    #[must_use]
    pub const fn retries(&self, status: u16) -> bool {
        self.retry_statuses.contains(status)
    }
}

/// The Flextell guide.
impl Default for Policy {
    fn default() -> Policy {
        Policy::flextell()
    }
}

/// How a wait is drawn from the back-off `w` of its retry (rules B2, F2). Nothing drawn exceeds the cap, and at the cap
/// there is still jitter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule B2 names six")]
pub enum Jitter {
    /// Exactly `w`, and exactly what the server asks for. Clients that fail together come back together: for tests,
    /// or where something else spreads them.
    None,
    /// Over `w` ± spread: the guide's jitter.
    #[default]
    Spread,
    /// Over [0, `w`]. Spreads a fleet best; a wait can be next to nothing.
    Full,
    /// Over [`w`/2, `w`].
    Equal,
    /// Over [base, 3 × previous wait], the first over [base, 3 × base]; the factor plays no part.
    Decorrelated,
    /// Over `w` ± a quarter of it.
    Proportional,
}

/// The settings of the retry budget, a token bucket that starts full (rule S2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[allow(clippy::exhaustive_structs, reason = "rule S2 names four numbers, and users write them as a literal")]
pub struct BudgetPolicy {
    /// What it holds at most, and at the start. With 0 nothing that costs is retried.
    pub capacity: u32,
    /// What a retry costs.
    pub retry_cost: u32,
    /// What a retry after a 429 costs. 0 while the gate is on: the gate holds such requests back already.
    pub throttle_cost: u32,
    /// What each 2xx gives back.
    pub success_refund: u32,
}

impl BudgetPolicy {
    /// 50/5/0/1: a lone request always gets its five retries from a fresh upstream, and when the upstream is down
    /// retries are at most a fifth of the traffic. One upstream value that serves hundreds of requests at once may
    /// take a capacity of 500: it rides out a longer hiccup, at the price of a larger burst.
    pub const DEFAULT: BudgetPolicy = BudgetPolicy { capacity: 50, retry_cost: 5, throttle_cost: 0, success_refund: 1 };
}

/// The settings of the circuit breaker (rule S3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule S3 names two numbers, and users write them as a literal")]
pub struct BreakerPolicy {
    /// How many failures in a row open it, at least 1. Five open it at an error rate that retries cope with; ten do
    /// not.
    pub failure_threshold: u32,
    /// How long it stays open before it lets a probe through, and how long a probe may take. Longer ones cost the time
    /// after the upstream has recovered.
    pub open_for: Duration,
}

impl BreakerPolicy {
    /// The setting proposed for those who want a breaker: 10 failures, 10 s.
    pub const RECOMMENDED: BreakerPolicy = BreakerPolicy { failure_threshold: 10, open_for: Duration::from_secs(10) };
}

/// Changes settings; made by [`Policy::into_builder`].
///
/// Every number is accepted and has a meaning, save those that [`build`](PolicyBuilder::build) refuses. Durations
/// beyond 584 years count as 584 years.
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct PolicyBuilder {
    policy: Policy,
    refused: Option<PolicyError>,
}

impl PolicyBuilder {
    /// The wait before the first retry (rule B1). Default 1 s, as the guide says. Zero is accepted: every wait is
    /// then as long as its jitter.
    pub const fn initial_backoff(mut self, base: Duration) -> Self {
        self.policy.initial_backoff = nanos(base);
        self
    }

    /// By how much each further wait is longer, at least 1 (rules B1, F2). Default 2, as the guide says.
    pub const fn backoff_factor(mut self, factor: u32) -> Self {
        self.policy.backoff_factor = factor;
        self
    }

    /// The longest back-off, jitter included (rule B2). Default 60 s: five retries never reach it, and who allows more
    /// still hears of a recovery within a minute. Under the base, it is the wait of every retry.
    pub const fn max_backoff(mut self, cap: Duration) -> Self {
        self.policy.max_backoff = nanos(cap);
        self
    }

    /// How waits are drawn (rule B2). Default [`Jitter::Spread`], as the guide says.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// The spread of [`Jitter::Spread`] to either side, and what is added to a server's wait (rule L2). Default
    /// 500 ms, as the guide says.
    pub const fn jitter_spread(mut self, spread: Duration) -> Self {
        self.policy.jitter_spread = nanos(spread);
        self
    }

    /// How many retries a request has: attempts that are made because one failed (rule B3). Default 5, as the guide
    /// says.
    pub const fn max_retries(mut self, retries: u32) -> Self {
        self.policy.max_retries = retries;
        self
    }

    /// How often a request may recover from a 401 (rule K2). Default 1, as the guide says: a second 401 in a row is
    /// no matter of an expired token.
    pub const fn max_token_recoveries(mut self, recoveries: u8) -> Self {
        self.policy.max_token_recoveries = recoveries;
        self
    }

    /// The longest wait that a server may ask for; beyond it the request is surfaced at once (rule L3). It is also the
    /// longest time that a request spends at the gate (rule S1). Default 5 min: few callers wait longer, and those
    /// that do are better parked than asleep.
    pub const fn max_server_wait(mut self, wait: Duration) -> Self {
        self.policy.max_server_wait = nanos(wait);
        self
    }

    /// The overall time limit of a request, all attempts and waits included (rule S4). Default none: a limit that
    /// nobody knows of is a bug of its own.
    pub const fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.policy.deadline = optional(deadline);
        self
    }

    /// The time limit of each attempt (rule S4). Default none: most HTTP clients bring their own.
    pub const fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.policy.attempt_timeout = optional(timeout);
        self
    }

    /// The statuses that are retried, each within 400–599 and none 401 (rule D11). Default 429, 500 and 503, as the
    /// guide says.
    pub const fn retry_statuses(mut self, statuses: &[u16]) -> Self {
        self.policy.retry_statuses = StatusSet::EMPTY;
        let mut rest = statuses;
        while let [status, others @ ..] = rest {
            if StatusSet::accepts(*status) {
                self.policy.retry_statuses = self.policy.retry_statuses.with(*status);
            } else if self.refused.is_none() {
                self.refused = Some(PolicyError::StatusCannotBeRetried { status: *status });
            }
            rest = others;
        }
        self
    }

    /// Whether a retried 5xx other than 503 counts as ambiguous for a request that is not safe to repeat (rule D14).
    /// Off in `flextell`, whose guide retries 500 for every method; on in `common`.
    pub const fn ambiguous_5xx(mut self, ambiguous: bool) -> Self {
        self.policy.ambiguous_5xx = ambiguous;
        self
    }

    /// How a bare number in `X-RateLimit-Reset` is meant (rule H5). Default [`ResetFormat::Auto`].
    pub const fn rate_limit_reset(mut self, format: ResetFormat) -> Self {
        self.policy.rate_limit_reset = format;
        self
    }

    /// Whether a 429 holds back all requests of the upstream (rule S1). Default on.
    pub const fn gate(mut self, on: bool) -> Self {
        self.policy.gate = on;
        self
    }

    /// Over how long the requests held at the gate are spread when it opens (rule S1). Default `None`: the policy's
    /// own rule, see [`Upstream`](crate::Upstream).
    pub const fn gate_spread(mut self, spread: Option<Duration>) -> Self {
        self.policy.gate_spread = optional(spread);
        self
    }

    /// The retry budget, or none (rule S2). Default [`BudgetPolicy::DEFAULT`].
    pub const fn budget(mut self, budget: Option<BudgetPolicy>) -> Self {
        self.policy.budget = budget;
        self
    }

    /// The circuit breaker, or none (rule S3). Default none: the budget bounds retries already, and a breaker turns
    /// some errors into many. [`BreakerPolicy::RECOMMENDED`] is where to start.
    pub const fn breaker(mut self, breaker: Option<BreakerPolicy>) -> Self {
        self.policy.breaker = breaker;
        self
    }

    /// How long a token refresh may take: the lease of the request that leads it (rule K5). Default 30 s.
    pub const fn refresh_timeout(mut self, timeout: Duration) -> Self {
        self.policy.refresh_timeout = nanos(timeout);
        self
    }

    /// How long before its expiry a token is refreshed, at most half of its lifetime (rule K7). Default 30 s: more than
    /// a request takes and clocks differ.
    pub const fn refresh_margin(mut self, margin: Duration) -> Self {
        self.policy.refresh_margin = nanos(margin);
        self
    }

    /// Ends the building.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] names the first setting that cannot be: a status that cannot be retried, a factor of 0, or a
    /// breaker that opens after 0 failures.
    pub const fn build(self) -> Result<Policy, PolicyError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if self.policy.backoff_factor == 0 {
            return Err(PolicyError::FactorIsZero);
        }
        if matches!(self.policy.breaker, Some(BreakerPolicy { failure_threshold: 0, .. })) {
            return Err(PolicyError::BreakerNeedsFailures);
        }
        Ok(self.policy)
    }
}

/// A setting that cannot be, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Retried statuses lie within 400–599, and a 401 is a matter of the token (rule D11).
    #[error("retry_statuses: {status} cannot be retried, only 400 to 599 without 401 can")]
    StatusCannotBeRetried {
        /// The status.
        status: u16,
    },
    /// A factor is a whole number from 1 on (rule F2).
    #[error("factor: 0 would make every wait but the first zero, it must be at least 1")]
    FactorIsZero,
    /// A breaker that opens after no failures lets nothing through.
    #[error("breaker.failures: 0 would open it before any failure, it must be at least 1")]
    BreakerNeedsFailures,
}

/// A set of statuses from 400 to 599: a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StatusSet([u32; 7]);

impl StatusSet {
    const EMPTY: StatusSet = StatusSet([0; 7]);

    const fn accepts(status: u16) -> bool {
        matches!(status, 400..=599) && status != 401
    }

    /// `status` must be accepted.
    #[allow(clippy::indexing_slicing, reason = "an accepted status is at most 199 beyond 400, and 199 / 32 is 6")]
    const fn with(mut self, status: u16) -> StatusSet {
        let bit = status - 400;
        self.0[(bit / 32) as usize] |= 1 << (bit % 32);
        self
    }

    #[allow(clippy::indexing_slicing, reason = "an accepted status is at most 199 beyond 400, and 199 / 32 is 6")]
    const fn contains(self, status: u16) -> bool {
        if !StatusSet::accepts(status) {
            return false;
        }
        let bit = status - 400;
        self.0[(bit / 32) as usize] & (1 << (bit % 32)) != 0
    }
}

const fn optional(duration: Option<Duration>) -> Option<u64> {
    match duration {
        Some(duration) => Some(nanos(duration)),
        None => None,
    }
}
