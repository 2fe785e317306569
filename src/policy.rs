//! The settings: which failures are retried, how often, and after how long a wait.

use core::time::Duration;

mod backoff;
mod builder;
mod error;
mod meaning;
mod shared;
mod young_token;

pub(crate) use self::backoff::Growth;
pub use self::backoff::{Jitter, ThrottleBackoff};
pub use self::builder::PolicyBuilder;
pub use self::error::PolicyError;
pub use self::meaning::StatusMeaning;
pub(crate) use self::meaning::StatusTable;
pub use self::shared::{BreakerPolicy, BudgetPolicy, Charge, Refund};
pub use self::young_token::YoungToken;
use crate::reply::{DialectField, Reader, Reply, ResetFormat};
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
/// # Ok::<(), retry_machine::PolicyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Policy {
    // All times in nanoseconds.
    pub(crate) backoff: Growth,
    /// The back-off after throttles without a hint, if it differs (B1).
    pub(crate) throttle_backoff: Option<Growth>,
    pub(crate) jitter: Jitter,
    pub(crate) jitter_spread: u64,
    pub(crate) max_retries: u16,
    /// The limit of retries after throttles, if these are counted apart (B5).
    pub(crate) throttle_retries: Option<u16>,
    pub(crate) max_token_recoveries: u8,
    pub(crate) max_server_wait: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) attempt_timeout: Option<u64>,
    pub(crate) statuses: StatusTable,
    pub(crate) dialect: &'static [DialectField],
    pub(crate) rate_limit_reset: ResetFormat,
    pub(crate) refresh_on_insufficient: bool,
    pub(crate) young_token: YoungToken,
    pub(crate) gate: bool,
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
            statuses: const { StatusTable::SURFACE.retrying(&[429, 500, 503]) },
            dialect: &[],
            rate_limit_reset: ResetFormat::Auto,
            refresh_on_insufficient: false,
            young_token: YoungToken::Refresh,
            gate: true,
            budget: Some(BudgetPolicy::DEFAULT),
            breaker: Some(BreakerPolicy::DEFAULT),
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
    ///
    /// A 401 for a [young token](YoungToken::Surface) fails, since it is not about its expiry (rule K10).
    #[must_use]
    pub const fn common() -> Policy {
        use StatusMeaning::{Retry, RetryIfSafe, Throttle};
        // Worked out by the compiler, and not by a device.
        let statuses = const {
            StatusTable::SURFACE
                .with(408, 408, Some(RetryIfSafe), Some(Retry))
                .with(500, 500, Some(RetryIfSafe), Some(Retry))
                .with(502, 504, Some(RetryIfSafe), Some(Retry))
                .with(520, 524, Some(RetryIfSafe), Some(Retry))
                .with(425, 425, Some(Retry), Some(Retry))
                .with(529, 529, Some(Retry), Some(Retry))
                .with(429, 429, Some(Throttle), Some(Throttle))
                .with(403, 403, None, Some(Throttle))
        };
        Policy { statuses, young_token: YoungToken::Surface, ..Policy::flextell() }
    }

    /// Turns the policy into a builder that starts with its settings.
    pub const fn into_builder(self) -> PolicyBuilder {
        PolicyBuilder::new(self)
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
        reader.reply()
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

    /// Returns the greatest number of retries of one request; throttles may have a limit of their own (rules B3, B5).
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
