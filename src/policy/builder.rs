//! The builder that changes the settings of a policy.

use core::ops::RangeInclusive;
use core::time::Duration;

use super::{
    BreakerPolicy, BudgetPolicy, Jitter, Policy, PolicyError, StatusMeaning, StatusTable, ThrottleBackoff, YoungToken,
};
use crate::reply::{DialectError, DialectField, ResetFormat, check_dialect};
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
/// let builder = Policy::flextell().into_builder().jitter(Jitter::FULL).max_backoff(Duration::from_secs(30));
/// assert_eq!(builder.clone().build()?.max_retries(), 5);
///
/// let error = builder.retry_statuses(&[429, 200]).build().unwrap_err();
/// assert_eq!(error, PolicyError::StatusHasNoMeaning { status: 200 });
/// assert_eq!(error.to_string(), "200 cannot be retried: use 400–599, except 401");
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
        self.policy.backoff.initial = nanos(backoff);
        self
    }

    /// Sets the factor by which each further wait is longer, a ratio of two whole numbers of at least 1 together
    /// (rules B1, F2): `(2, 1)` doubles, `(16, 10)` is 1.6. Default 2, as the guide says.
    pub const fn backoff_factor(mut self, numerator: u32, denominator: u32) -> Self {
        self.policy.backoff.factor = (numerator, denominator);
        self
    }

    /// Sets the longest back-off, jitter included (rule B2). Default: 60 s. Five retries never reach it, and a client
    /// with more retries still notices a recovery within a minute. A value below `initial_backoff` becomes the wait of
    /// every retry.
    pub const fn max_backoff(mut self, backoff: Duration) -> Self {
        self.policy.backoff.max = nanos(backoff);
        self
    }

    /// Sets a back-off of its own for throttles without a hint, or `None` for that of other failures (rule B1). Default:
    /// `None`. Some services ask for a minute at least.
    pub const fn throttle_backoff(mut self, backoff: Option<ThrottleBackoff>) -> Self {
        self.policy.throttle_backoff = match backoff {
            Some(backoff) => Some(backoff.growth()),
            None => None,
        };
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
    /// attempt failed. Default: 5, as the guide says. With 0, a request is sent once. The default [budget](Self::budget)
    /// holds five retries and the default [breaker](Self::breaker) opens after seven failures, so a policy with more
    /// retries needs more of both.
    pub const fn max_retries(mut self, retries: u16) -> Self {
        self.policy.max_retries = retries;
        self
    }

    /// Counts retries after throttles apart from the others, with this limit, or together with them if `None` (rule B5).
    /// Default `None`, as the guide says. Counted apart, each kind has its own sequence of waits.
    pub const fn throttle_retries(mut self, retries: Option<u16>) -> Self {
        self.policy.throttle_retries = retries;
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

    /// Sets the meaning of these statuses, for replies without a hint and with one (rule D11). Later calls win. Each
    /// status lies within 400–599 and is not 401.
    ///
    /// ```
    /// use retry_machine::{Policy, StatusMeaning};
    ///
    /// let policy = Policy::common()
    ///     .into_builder()
    ///     .on(500..=599, StatusMeaning::Retry)
    ///     .on_hinted(403..=403, StatusMeaning::Throttle)
    ///     .build()?;
    /// assert_eq!(policy.meaning(507, false), StatusMeaning::Retry);
    /// # Ok::<(), retry_machine::PolicyError>(())
    /// ```
    pub const fn on(self, statuses: RangeInclusive<u16>, meaning: StatusMeaning) -> Self {
        self.set(*statuses.start(), *statuses.end(), Some(meaning), Some(meaning))
    }

    /// Sets the meaning of these statuses for replies with a hint only (rule D11). A hint of any length counts, also
    /// zero and one in the past.
    pub const fn on_hinted(self, statuses: RangeInclusive<u16>, meaning: StatusMeaning) -> Self {
        self.set(*statuses.start(), *statuses.end(), None, Some(meaning))
    }

    const fn set(mut self, first: u16, last: u16, plain: Option<StatusMeaning>, hinted: Option<StatusMeaning>) -> Self {
        if first > last {
            return self.refuse(PolicyError::EmptyStatusRange { first, last });
        }
        if !StatusTable::accepts(first) {
            return self.refuse(PolicyError::StatusHasNoMeaning { status: first });
        }
        if !StatusTable::accepts(last) {
            return self.refuse(PolicyError::StatusHasNoMeaning { status: last });
        }
        if first < 401 && last > 401 {
            return self.refuse(PolicyError::StatusHasNoMeaning { status: 401 });
        }
        self.policy.statuses = self.policy.statuses.with(first, last, plain, hinted);
        self
    }

    const fn refuse(mut self, error: PolicyError) -> Self {
        if self.refused.is_none() {
            self.refused = Some(error);
        }
        self
    }

    /// Sets the statuses that are retried, plain and hinted alike: 429 as a throttle, the others as transient; every
    /// other status is surfaced (rule D11). Each lies within 400–599 and is not 401. Default 429, 500 and 503, as the
    /// guide says.
    pub const fn retry_statuses(mut self, statuses: &[u16]) -> Self {
        let mut rest = statuses;
        while let [status, others @ ..] = rest {
            if !StatusTable::accepts(*status) {
                self = self.refuse(PolicyError::StatusHasNoMeaning { status: *status });
            }
            rest = others;
        }
        self.policy.statuses = StatusTable::SURFACE.retrying(statuses);
        self
    }

    /// Sets the service's own field names (rule H11). Default none. The table is checked by
    /// [`build`](PolicyBuilder::build): at compile time, where the policy is a constant.
    pub const fn dialect(mut self, fields: &'static [DialectField]) -> Self {
        self.policy.dialect = fields;
        self
    }

    /// Sets whether a 401 that says `insufficient_scope` or `insufficient_claims` leads to a refresh (rule D12). Default
    /// off: a refresh brings a token with the same scopes. On for services where the new token is asked for with what
    /// the challenge names, such as container registries; [`Action::RefreshToken`](crate::Action::RefreshToken) says
    /// which it was.
    pub const fn refresh_on_insufficient(mut self, on: bool) -> Self {
        self.policy.refresh_on_insufficient = on;
        self
    }

    /// Sets what follows a 401 for a token that came less than its margin ago (rule K10). Default:
    /// [`YoungToken::Refresh`], which the guide asks for; [`Policy::common`] fails the request.
    pub const fn young_token(mut self, answer: YoungToken) -> Self {
        self.policy.young_token = answer;
        self
    }

    /// Sets how to read a bare number in `X-RateLimit-Reset` (rule H5). Default: [`ResetFormat::Auto`], since the size
    /// of the number tells the formats apart.
    pub const fn rate_limit_reset(mut self, format: ResetFormat) -> Self {
        self.policy.rate_limit_reset = format;
        self
    }

    /// Sets whether a throttle holds back all requests of the upstream (rule S1). Default: on, since a service that
    /// throttles one request throttles the others, too.
    pub const fn gate(mut self, on: bool) -> Self {
        self.policy.gate = on;
        self
    }

    /// Sets the retry budget, or turns it off (rule S2). Default: [`BudgetPolicy::DEFAULT`], whose documentation has
    /// the reasons.
    pub const fn budget(mut self, budget: Option<BudgetPolicy>) -> Self {
        self.policy.budget = budget;
        self
    }

    /// Sets the circuit breaker, or turns it off (rule S3). Default: [`BreakerPolicy::DEFAULT`]: in a brownout the first
    /// attempts alone keep a service down, and the breaker holds them back.
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
    /// [`PolicyError`] names the first invalid setting: a status without a meaning of its own, an empty range, a
    /// factor below 1, a band that is wider than the wait, a breaker that opens after 0 failures, or a dialect with an
    /// empty, invalid or repeated name.
    pub const fn build(self) -> Result<Policy, PolicyError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if self.policy.backoff.is_shrinking() {
            return Err(PolicyError::FactorBelowOne);
        }
        if matches!(self.policy.throttle_backoff, Some(growth) if growth.is_shrinking()) {
            return Err(PolicyError::ThrottleFactorBelowOne);
        }
        if let Jitter::Band { down, .. } = self.policy.jitter {
            if down > 1_000 {
                return Err(PolicyError::BandBelowZero { down });
            }
        }
        if matches!(self.policy.breaker, Some(BreakerPolicy { failure_threshold: 0, .. })) {
            return Err(PolicyError::BreakerNeedsFailures);
        }
        match check_dialect(self.policy.dialect) {
            Ok(()) => Ok(self.policy),
            Err(DialectError::EmptyName { entry }) => Err(PolicyError::DialectNameEmpty { entry }),
            Err(DialectError::NotAName { entry }) => Err(PolicyError::DialectNameInvalid { entry }),
            Err(DialectError::Duplicate { entry }) => Err(PolicyError::DialectNameTwice { entry }),
        }
    }
}

const fn optional_nanos(duration: Option<Duration>) -> Option<u64> {
    match duration {
        Some(duration) => Some(nanos(duration)),
        None => None,
    }
}
