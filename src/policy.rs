//! The settings: which failures are retried, how often, and after how long a wait.

use core::time::Duration;

mod builder;
mod status_set;

pub use self::builder::{PolicyBuilder, PolicyError};
use self::status_set::StatusSet;
use crate::reply::ResetFormat;
use crate::time::millis;

/// The settings of an upstream. Stored once per upstream and shared by all its requests.
///
/// [`Policy::flextell`] follows the error-handling guide of the Flextell API, and [`Policy::common`] follows common
/// practice for other APIs. [`into_builder`](Policy::into_builder) changes either.
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
/// assert_eq!(policy.max_retries(), 3);
/// assert!(policy.retries(502) && !policy.retries(404));
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
    /// Returns the settings of the Flextell guide: 429, 500 and 503 are retried at most 5 times, after 1, 2, 4, 8 and
    /// 16 s ± 500 ms (rules D1–D10, B1–B3).
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

    /// Returns settings for other APIs: 408, 425, 429, 500, 502, 503 and 504 are retried, but a request that is not
    /// idempotent is not repeated after a 5xx other than 503 (rules D11, D14). All other settings are those of
    /// [`flextell`](Policy::flextell).
    #[must_use]
    pub const fn common() -> Policy {
        let statuses = StatusSet::EMPTY.with(408).with(425).with(429).with(500).with(502).with(503).with(504);
        Policy { retry_statuses: statuses, ambiguous_5xx: true, ..Policy::flextell() }
    }

    /// Turns the policy into a builder that starts with its settings.
    pub const fn into_builder(self) -> PolicyBuilder {
        PolicyBuilder::new(self)
    }

    /// Returns how to read a bare number in `X-RateLimit-Reset` (rule H5): pass it to
    /// [`Reply::read`](crate::Reply::read).
    #[must_use]
    pub const fn rate_limit_reset(&self) -> ResetFormat {
        self.rate_limit_reset
    }

    /// Returns the greatest number of retries of one request (rule B3).
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.max_retries
    }

    /// Returns whether this status is retried (rule D11). Always `false` for 401 and outside 400–599.
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

/// The distribution of a wait around the back-off `w` of its retry (rules B2, F2). A drawn wait never exceeds
/// `max_backoff`, and even where `w` has reached `max_backoff` all kinds but [`None`](Jitter::None) still spread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule B2 names six")]
pub enum Jitter {
    /// Exactly `w`, and exactly the time that the server asks for. Clients that fail together come back together: use
    /// it for tests, or where something else spreads them.
    None,
    /// Between `w` − spread and `w` + spread, see [`PolicyBuilder::jitter_spread`]: the guide's jitter.
    #[default]
    Spread,
    /// Between 0 and `w`. Spreads a fleet best, but a wait can be close to zero.
    Full,
    /// Between `w`/2 and `w`.
    Equal,
    /// Between `initial_backoff` and three times the previous wait; the first wait is drawn up to three times
    /// `initial_backoff`. The factor is not used.
    Decorrelated,
    /// Between ¾ `w` and 1¼ `w`.
    Proportional,
}

/// The settings of the retry budget, a token bucket that starts full (rule S2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[allow(clippy::exhaustive_structs, reason = "rule S2 names four numbers, and users write them as a literal")]
pub struct BudgetPolicy {
    /// The greatest balance, and the balance at the start. With 0, no retry that has a cost is granted.
    pub capacity: u32,
    /// The cost of a retry.
    pub retry_cost: u32,
    /// The cost of a retry after a 429. Use 0 while the gate is on, since the gate already holds such requests back.
    pub throttle_cost: u32,
    /// The amount that each 2xx gives back.
    pub success_refund: u32,
}

impl BudgetPolicy {
    /// The default: 50, 5, 0 and 1. A lone request always gets its five retries from a fresh upstream, and while the
    /// upstream is down retries are at most a fifth of the traffic. An upstream value that serves hundreds of requests
    /// at once can take a capacity of 500: it survives a longer outage at the price of a larger burst.
    pub const DEFAULT: BudgetPolicy = BudgetPolicy { capacity: 50, retry_cost: 5, throttle_cost: 0, success_refund: 1 };
}

/// The settings of the circuit breaker (rule S3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule S3 names two numbers, and users write them as a literal")]
pub struct BreakerPolicy {
    /// The number of failures in a row that opens the breaker, at least 1. With 5 it opens at an error rate that
    /// retries cope with; with 10 it does not.
    pub failure_threshold: u32,
    /// The time for which the breaker stays open before it lets a probe through, and the time that a probe may take. A
    /// longer time delays the first success after the upstream has recovered.
    pub open_for: Duration,
}

impl BreakerPolicy {
    /// The recommended settings for a breaker: 10 failures and 10 s.
    pub const RECOMMENDED: BreakerPolicy = BreakerPolicy { failure_threshold: 10, open_for: Duration::from_secs(10) };
}
