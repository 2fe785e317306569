//! The builder that changes the settings of a policy.

use core::time::Duration;

use super::status_set::StatusSet;
use super::{BreakerPolicy, BudgetPolicy, Jitter, Policy};
use crate::reply::ResetFormat;
use crate::time::nanos;

/// A policy whose settings can be changed. Made by [`Policy::into_builder`].
///
/// Every number is accepted, except for those that [`build`](PolicyBuilder::build) refuses. Durations of more than 584
/// years count as 584 years.
///
/// ```
/// use core::time::Duration;
/// use retry_machine::{Jitter, Policy, PolicyError};
///
/// let builder = Policy::flextell().into_builder().jitter(Jitter::Full).max_backoff(Duration::from_secs(30));
/// assert_eq!(builder.clone().build()?.max_retries(), 5);
///
/// let error = builder.retry_statuses(&[429, 200]).build().unwrap_err();
/// assert_eq!(error, PolicyError::StatusCannotBeRetried { status: 200 });
/// assert_eq!(error.to_string(), "retry_statuses: 200 cannot be retried: use 400–599, except 401");
/// # Ok::<(), PolicyError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct PolicyBuilder {
    policy: Policy,
    /// The first refused status.
    refused: Option<PolicyError>,
}

impl PolicyBuilder {
    pub(super) const fn new(policy: Policy) -> PolicyBuilder {
        PolicyBuilder { policy, refused: None }
    }

    /// Sets the wait before the first retry, without its jitter (rule B1). Default: 1 s, as the guide says. With zero,
    /// every wait is as long as its jitter.
    pub const fn initial_backoff(mut self, backoff: Duration) -> Self {
        self.policy.initial_backoff = nanos(backoff);
        self
    }

    /// Sets the factor by which each wait is longer than the one before, at least 1 (rules B1, F2). Default: 2, as the
    /// guide says.
    pub const fn backoff_factor(mut self, factor: u32) -> Self {
        self.policy.backoff_factor = factor;
        self
    }

    /// Sets the longest back-off, jitter included (rule B2). Default: 60 s. Five retries never reach it, and a client
    /// with more retries still notices a recovery within a minute. A value below `initial_backoff` becomes the wait of
    /// every retry.
    pub const fn max_backoff(mut self, backoff: Duration) -> Self {
        self.policy.max_backoff = nanos(backoff);
        self
    }

    /// Sets the kind of jitter (rule B2). Default: [`Jitter::Spread`], as the guide says.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// Sets the spread of [`Jitter::Spread`] to either side, which is also the longest jitter that is added to a wait
    /// that the server asked for (rule L2). Default: 500 ms, as the guide says.
    pub const fn jitter_spread(mut self, spread: Duration) -> Self {
        self.policy.jitter_spread = nanos(spread);
        self
    }

    /// Sets the greatest number of retries of a request (rule B3). A retry is an attempt that follows because an
    /// attempt failed. Default: 5, as the guide says. With 0, a request is sent once.
    pub const fn max_retries(mut self, retries: u32) -> Self {
        self.policy.max_retries = retries;
        self
    }

    /// Sets the greatest number of times that a request recovers from a 401 with a new token (rule K2). Default: 1,
    /// as the guide says: a second 401 in a row is not caused by an expired token. With 0, every 401 ends its request.
    pub const fn max_token_recoveries(mut self, recoveries: u8) -> Self {
        self.policy.max_token_recoveries = recoveries;
        self
    }

    /// Sets the longest wait that a server may ask for. A request that would have to wait longer fails at once (rule
    /// L3). It is also the longest time that a request spends at the gate (rule S1). Default: 5 min. Few callers wait
    /// longer, and those that do should park the request instead of keeping it in memory.
    pub const fn max_server_wait(mut self, wait: Duration) -> Self {
        self.policy.max_server_wait = nanos(wait);
        self
    }

    /// Sets the time limit of a request, from its start, with all attempts and waits (rule S4). Default: `None`, since
    /// a limit that the caller does not know of surprises.
    pub const fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.policy.deadline = optional_nanos(deadline);
        self
    }

    /// Sets the time limit of each attempt (rule S4). Default: `None`, since most HTTP clients have their own.
    pub const fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.policy.attempt_timeout = optional_nanos(timeout);
        self
    }

    /// Sets the statuses that are retried, each from 400 to 599, but not 401 (rule D11). Default: 429, 500 and 503, as
    /// the guide says; [`Policy::common`] adds 408, 425, 502 and 504. Any other status makes
    /// [`build`](PolicyBuilder::build) fail.
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

    /// Sets whether a retried 5xx other than 503 counts as ambiguous for a request that is not idempotent (rule D14).
    /// Default: off, since the guide retries 500 for every method; on in [`Policy::common`], since other servers may
    /// fail after they have applied the request.
    pub const fn ambiguous_5xx(mut self, ambiguous: bool) -> Self {
        self.policy.ambiguous_5xx = ambiguous;
        self
    }

    /// Sets how to read a bare number in `X-RateLimit-Reset` (rule H5). Default: [`ResetFormat::Auto`], since the size
    /// of the number tells the formats apart.
    pub const fn rate_limit_reset(mut self, format: ResetFormat) -> Self {
        self.policy.rate_limit_reset = format;
        self
    }

    /// Sets whether a 429 holds back all requests of the upstream (rule S1). Default: on, since a service that
    /// throttles one request throttles the others, too.
    pub const fn gate(mut self, on: bool) -> Self {
        self.policy.gate = on;
        self
    }

    /// Sets the time over which the requests held at the gate are spread when it opens (rule S1). Default: `None`, the
    /// adaptive spread that [`Upstream`](crate::Upstream) describes.
    pub const fn gate_spread(mut self, spread: Option<Duration>) -> Self {
        self.policy.gate_spread = optional_nanos(spread);
        self
    }

    /// Sets the retry budget, or turns it off (rule S2). Default: [`BudgetPolicy::DEFAULT`], whose documentation has
    /// the reasons.
    pub const fn budget(mut self, budget: Option<BudgetPolicy>) -> Self {
        self.policy.budget = budget;
        self
    }

    /// Sets the circuit breaker, or turns it off (rule S3). Default: off, since the budget already bounds retries, and
    /// an open breaker fails requests that might have succeeded. Start with [`BreakerPolicy::RECOMMENDED`].
    pub const fn breaker(mut self, breaker: Option<BreakerPolicy>) -> Self {
        self.policy.breaker = breaker;
        self
    }

    /// Sets the time that a token refresh may take: the lease of the request that leads it (rule K5). Default: 30 s,
    /// more than a working token endpoint takes. With zero, a refresh is given up at the next tick.
    pub const fn refresh_timeout(mut self, timeout: Duration) -> Self {
        self.policy.refresh_timeout = nanos(timeout);
        self
    }

    /// Sets how long before its expiry a token is refreshed, at most half of its lifetime (rule K7). Default: 30 s,
    /// more than a request takes and clocks differ.
    pub const fn refresh_margin(mut self, margin: Duration) -> Self {
        self.policy.refresh_margin = nanos(margin);
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] names the first invalid setting: a status that cannot be retried, a factor of 0, or a breaker
    /// that opens after 0 failures.
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

/// An invalid setting, and the reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// [`retry_statuses`](PolicyBuilder::retry_statuses) has a status outside 400–599, or a 401, which needs a new
    /// token instead of a retry (rule D11).
    #[error("retry_statuses: {status} cannot be retried: use 400–599, except 401")]
    StatusCannotBeRetried {
        /// The first such status.
        status: u16,
    },
    /// [`backoff_factor`](PolicyBuilder::backoff_factor) is 0 (rule F2).
    #[error("backoff_factor: 0 would make every wait after the first zero: use at least 1")]
    FactorIsZero,
    /// [`BreakerPolicy::failure_threshold`] is 0: such a breaker lets no attempt through (rule S3).
    #[error("breaker.failure_threshold: 0 would open the breaker before any failure: use at least 1")]
    BreakerNeedsFailures,
}

const fn optional_nanos(duration: Option<Duration>) -> Option<u64> {
    match duration {
        Some(duration) => Some(nanos(duration)),
        None => None,
    }
}
