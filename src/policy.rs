//! The settings: what is retried, how often, how long to wait.

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::reply::{DialectError, DialectField, Reader, Reply, ResetFormat, check_dialect};
use crate::time::{millis, nanos};

mod meaning;

pub use self::meaning::StatusMeaning;
pub(crate) use self::meaning::StatusTable;

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
    pub(crate) backoff: Growth,
    /// The back-off after throttles without a hint, if it is another.
    pub(crate) throttle_backoff: Option<Growth>,
    pub(crate) jitter: Jitter,
    pub(crate) jitter_spread: u64,
    pub(crate) max_retries: u16,
    /// The limit of retries after throttles, if they are counted apart (B5).
    pub(crate) throttle_retries: Option<u16>,
    pub(crate) max_token_recoveries: u8,
    pub(crate) max_server_wait: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) attempt_timeout: Option<u64>,
    pub(crate) statuses: StatusTable,
    pub(crate) dialect: &'static [DialectField],
    pub(crate) rate_limit_reset: ResetFormat,
    pub(crate) refresh_on_insufficient: bool,
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
            backoff: Growth { initial: millis(1_000), factor: (2, 1), max: millis(60_000) },
            throttle_backoff: None,
            jitter: Jitter::Spread,
            jitter_spread: millis(500),
            max_retries: 5,
            throttle_retries: None,
            max_token_recoveries: 1,
            max_server_wait: millis(300_000),
            deadline: None,
            attempt_timeout: None,
            statuses: StatusTable::SURFACE.retrying(&[429, 500, 503]),
            dialect: &[],
            rate_limit_reset: ResetFormat::Auto,
            refresh_on_insufficient: false,
            gate: true,
            gate_spread: None,
            budget: Some(BudgetPolicy::DEFAULT),
            breaker: None,
            refresh_timeout: millis(30_000),
            refresh_margin: millis(30_000),
        }
    }

    /// Returns common practice for other APIs (rule D11). All but these is as in [`flextell`](Policy::flextell):
    ///
    /// | status | without a hint | with a hint |
    /// |---|---|---|
    /// | 408, 500, 502, 503, 504, 520–524 | [retry if safe](StatusMeaning::RetryIfSafe) | [retry](StatusMeaning::Retry): who names a time has refused |
    /// | 425, 529 | retry | retry |
    /// | 429 | [throttle](StatusMeaning::Throttle) | throttle |
    /// | 403 | [surface](StatusMeaning::Surface) | throttle: some services limit with it |
    #[must_use]
    pub const fn common() -> Policy {
        use StatusMeaning::{Retry, RetryIfSafe, Throttle};
        let statuses = StatusTable::SURFACE
            .with(408, 408, Some(RetryIfSafe), Some(Retry))
            .with(500, 500, Some(RetryIfSafe), Some(Retry))
            .with(502, 504, Some(RetryIfSafe), Some(Retry))
            .with(520, 524, Some(RetryIfSafe), Some(Retry))
            .with(425, 425, Some(Retry), Some(Retry))
            .with(529, 529, Some(Retry), Some(Retry))
            .with(429, 429, Some(Throttle), Some(Throttle))
            .with(403, 403, None, Some(Throttle));
        Policy { statuses, ..Policy::flextell() }
    }

    /// Reads a response with this policy's dialect and reset format (rules H1–H7, H11): its status and its headers, in
    /// any order. Dates are judged by the response's own `Date` (rule H4).
    ///
    /// Names and values are anything that gives bytes: the pairs of a `HeaderMap`, of an HTTP parser, of a list.
    ///
    /// ```
    /// use core::time::Duration;
    /// use retry_machine::{HintSource, Policy};
    ///
    /// let reply = Policy::common().read(429, [("Retry-After", "2.5")]);
    /// let hint = reply.hint().unwrap();
    /// assert_eq!((hint.wait(), hint.source()), (Duration::from_millis(2_500), HintSource::RetryAfter));
    /// ```
    #[must_use]
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Reply {
        self.read_at(None, status, headers)
    }

    /// Reads a response as [`read`](Policy::read) does; `unix_time` is the wall clock at its receipt, the time since the
    /// Unix epoch, which judges dates where the response has no usable `Date` (rule H4).
    #[must_use]
    pub fn read_at<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        unix_time: Option<Duration>,
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Reply {
        let mut reader = self.reader(unix_time, status);
        for (name, value) in headers {
            reader.feed(name.as_ref(), value.as_ref());
        }
        reader.finish()
    }

    /// Returns a reader that takes the headers of a response one by one, as a parser yields them. The arguments are
    /// those of [`read_at`](Policy::read_at).
    pub fn reader(&self, unix_time: Option<Duration>, status: u16) -> Reader {
        Reader::new(status, unix_time, self.rate_limit_reset, self.dialect)
    }

    /// Returns the meaning of a status (rule D11); `hinted` says whether the reply has a hint. Statuses below 400 are
    /// answers, and 401 is about the token: neither has a meaning of its own, and both give
    /// [`Surface`](StatusMeaning::Surface).
    #[must_use]
    pub fn meaning(&self, status: u16, hinted: bool) -> StatusMeaning {
        self.statuses.meaning(status, hinted)
    }

    /// A builder that begins with these settings.
    pub const fn into_builder(self) -> PolicyBuilder {
        PolicyBuilder { policy: self, refused: None }
    }

    /// Returns the number of retries that a request has at most; throttles may have a limit of their own (rule B5).
    #[must_use]
    pub const fn max_retries(&self) -> u16 {
        self.max_retries
    }
}

/// The Flextell guide.
impl Default for Policy {
    fn default() -> Policy {
        Policy::flextell()
    }
}

/// A wait that grows: min(max, initial × factor^(n−1)). Nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Growth {
    pub(crate) initial: u64,
    /// Numerator and denominator.
    pub(crate) factor: (u32, u32),
    pub(crate) max: u64,
}

impl Growth {
    const fn is_shrinking(&self) -> bool {
        self.factor.1 == 0 || self.factor.0 < self.factor.1
    }
}

/// The back-off after throttles without a hint, where it is another than that of other failures (rule B1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule B1 names three numbers, and users write them as a literal")]
pub struct ThrottleBackoff {
    /// The wait before the first retry.
    pub initial_backoff: Duration,
    /// By how much each further wait is longer: numerator and denominator, at least 1 together.
    pub backoff_factor: (u32, u32),
    /// The longest wait, jitter included.
    pub max_backoff: Duration,
}

/// How a wait is drawn from the back-off `w` of its retry (rules B2, F2). Nothing drawn exceeds the longest back-off,
/// and where `w` is the longest there is still jitter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "rule B2 names five")]
pub enum Jitter {
    /// Exactly `w`, and exactly the time that the server asks for. Clients that fail together come back together: for
    /// tests, or where something else spreads them.
    None,
    /// Over `w` ± spread: the guide's jitter.
    #[default]
    Spread,
    /// Over [`w`, `w` + spread].
    Above,
    /// Over [`w` − `w` × down/1000, `w` + `w` × up/1000]. [`Jitter::FULL`], [`Jitter::EQUAL`] and
    /// [`Jitter::PROPORTIONAL`] are bands.
    Band {
        /// Thousandths of `w` below it, at most 1,000.
        down: u16,
        /// Thousandths of `w` above it.
        up: u16,
    },
    /// Over [initial, 3 × previous wait], the first over [initial, 3 × initial]; the factor plays no part.
    Decorrelated,
}

impl Jitter {
    /// Over [0, `w`]. Spreads a fleet best; a wait can be next to nothing.
    pub const FULL: Jitter = Jitter::Band { down: 1_000, up: 0 };
    /// Over [`w`/2, `w`].
    pub const EQUAL: Jitter = Jitter::Band { down: 500, up: 0 };
    /// Over `w` ± a quarter of it.
    pub const PROPORTIONAL: Jitter = Jitter::Band { down: 250, up: 250 };
}

/// The settings of the retry budget, a token bucket that starts full (rule S2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "users write its numbers as a literal, with the rest of the default")]
pub struct BudgetPolicy {
    /// The most it holds, and the balance at the start. With 0 nothing that costs is retried.
    pub capacity: u32,
    /// The least that a granted retry leaves. 0: the balance may be used up.
    pub floor: u32,
    /// The cost of a retry.
    pub retry_cost: u32,
    /// The cost of a retry after a throttle. 0 while the gate is on: the gate holds such requests back already.
    pub throttle_cost: u32,
    /// When the cost is charged.
    pub charge: Charge,
    /// The amount that each good answer gives back (rule D18).
    pub success_refund: u32,
    /// Whether a good answer gives back what its request paid, too.
    pub refund: Refund,
}

/// When a [budget](BudgetPolicy) is charged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a closed choice of the policy")]
pub enum Charge {
    /// A retry, when it is granted; a retry that would leave less than the floor is not granted (rule P3).
    Retry,
    /// Each failed attempt that may be retried, whether it is or not, down to 0; a retry is granted if the floor is
    /// left then (gRPC).
    Failure,
}

/// What a good answer gives back to a [budget](BudgetPolicy).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a closed choice of the policy")]
pub enum Refund {
    /// The fixed amount.
    Fixed,
    /// The cost of its request's last retry; without a retry the fixed amount (AWS).
    LastCost,
}

impl BudgetPolicy {
    /// 50/5/0/1: a lone request always gets its five retries from a fresh upstream, and when the upstream is down
    /// retries are at most a fifth of the traffic. One upstream value that serves hundreds of requests at once may
    /// take a capacity of 500: it rides out a longer hiccup, at the price of a larger burst.
    pub const DEFAULT: BudgetPolicy = BudgetPolicy {
        capacity: 50,
        floor: 0,
        retry_cost: 5,
        throttle_cost: 0,
        charge: Charge::Retry,
        success_refund: 1,
        refund: Refund::Fixed,
    };
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
    /// Sets the wait before the first retry (rule B1). Default 1 s, as the guide says. Zero is accepted: every wait is
    /// then as long as its jitter.
    pub const fn initial_backoff(mut self, wait: Duration) -> Self {
        self.policy.backoff.initial = nanos(wait);
        self
    }

    /// Sets the factor by which each further wait is longer, a ratio of two whole numbers of at least 1 together
    /// (rules B1, F2): `(2, 1)` doubles, `(16, 10)` is 1.6. Default 2, as the guide says.
    pub const fn backoff_factor(mut self, numerator: u32, denominator: u32) -> Self {
        self.policy.backoff.factor = (numerator, denominator);
        self
    }

    /// Sets the longest back-off, jitter included (rule B2). Default 60 s: five retries never reach it, and a client
    /// that allows more retries still learns of a recovery within a minute. Below the initial wait it is the wait of
    /// every retry.
    pub const fn max_backoff(mut self, wait: Duration) -> Self {
        self.policy.backoff.max = nanos(wait);
        self
    }

    /// Sets a back-off of its own for throttles without a hint, or `None` for that of other failures (rule B1).
    /// Default `None`; some services ask for a minute at least.
    pub const fn throttle_backoff(mut self, backoff: Option<ThrottleBackoff>) -> Self {
        self.policy.throttle_backoff = match backoff {
            Some(ThrottleBackoff { initial_backoff, backoff_factor, max_backoff }) => {
                Some(Growth { initial: nanos(initial_backoff), factor: backoff_factor, max: nanos(max_backoff) })
            }
            None => None,
        };
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

    /// Sets the number of retries of a request: attempts that are made because one failed (rule B3). Default 5, as the
    /// guide says.
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

    const fn set(
        mut self,
        first: u16,
        last: u16,
        plain: Option<StatusMeaning>,
        hinted: Option<StatusMeaning>,
    ) -> Self {
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

/// A setting that cannot be used, and the reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A status without a meaning of its own: statuses lie within 400–599, and 401 is about the token (rule D11).
    #[error("{status} cannot be retried: use 400–599, except 401")]
    StatusHasNoMeaning {
        /// The status.
        status: u16,
    },
    /// A range of statuses that ends before it begins.
    #[error("{first}–{last} contains no status: a range goes from the smaller to the larger one")]
    EmptyStatusRange {
        /// The start of the range.
        first: u16,
        /// The end of the range.
        last: u16,
    },
    /// A factor is a ratio of at least 1, and its denominator is not zero (rule F2).
    #[error("backoff_factor: must be at least 1")]
    FactorBelowOne,
    /// The same for the back-off of throttles.
    #[error("throttle_backoff: its factor must be at least 1")]
    ThrottleFactorBelowOne,
    /// A band reaches at most as far down as the wait is long (rule B2).
    #[error("jitter: a band of {down} thousandths below the wait is more than the wait: use at most 1000")]
    BandBelowZero {
        /// Thousandths below the wait.
        down: u16,
    },
    /// A breaker that opens after no failures lets nothing through.
    #[error("breaker.failures: 0 would open it before any failure, it must be at least 1")]
    BreakerNeedsFailures,
    /// A dialect's entry without a name (rule H11).
    #[error("dialect: entry {entry} has an empty name")]
    DialectNameEmpty {
        /// The entry's place in the table, counted from 0.
        entry: usize,
    },
    /// A dialect's entry whose name is not a token of RFC 9110 §5.6.2: no field can have it (rule H11).
    #[error("dialect: the name of entry {entry} is not a field name")]
    DialectNameInvalid {
        /// The entry's place in the table, counted from 0.
        entry: usize,
    },
    /// A dialect's entry with the name of an earlier one, in any case: a name has one meaning (rule H11).
    #[error("dialect: entry {entry} has the name of an earlier entry")]
    DialectNameTwice {
        /// The entry's place in the table, counted from 0.
        entry: usize,
    },
}

const fn optional(duration: Option<Duration>) -> Option<u64> {
    match duration {
        Some(duration) => Some(nanos(duration)),
        None => None,
    }
}
