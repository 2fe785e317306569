//! The facts of one HTTP response that matter here, distilled once from status, headers and body.
//!
//! Bytes are touched in this module and nowhere else: what leaves it is a small `Copy` value.

use core::time::Duration;

use crate::time;

#[cfg(feature = "json")]
mod body;
// These three stand alone: each could be a crate of its own, with more in it than is used here.
#[allow(unreachable_pub, dead_code)]
mod challenge;
#[allow(unreachable_pub)]
mod http_date;
#[allow(unreachable_pub, dead_code)]
mod structured_field;

mod header_time;
mod rate_limit;
mod reader;
mod rejected;
mod retry_after;

#[cfg(feature = "json")]
pub use self::body::{BodyError, ErrorBody};
pub use self::challenge::BearerErrorCode;
pub use self::reader::Reader;
pub use self::rejected::{HeaderField, RejectReason, RejectedFields};

/// What a response said, as far as it matters for trying again.
///
/// Made by [`Reply::read`] from a whole response, by a [`Reader`] header by header, or by hand with [`Reply::new`].
/// Nothing secret is kept: numbers and small enumerations only (rule H9).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    status: u16,
    hint: Option<Hint>,
    /// Nanoseconds until the last of the limits that have nothing left is reset.
    closed_for: Option<u64>,
    limit: Option<u64>,
    remaining: Option<u64>,
    /// Nanoseconds.
    reset: Option<u64>,
    challenge: Option<BearerErrorCode>,
    code: CodeClass,
    rejected: RejectedFields,
}

impl Reply {
    /// A reply of which only the status is known. Any number is taken; what is no HTTP status is surfaced (rule D10).
    #[must_use]
    pub const fn new(status: u16) -> Reply {
        Reply {
            status,
            hint: None,
            closed_for: None,
            limit: None,
            remaining: None,
            reset: None,
            challenge: None,
            code: CodeClass::None,
            rejected: RejectedFields::NONE,
        }
    }

    /// Reads a whole response: its status and its headers in any order (rules H1–H7).
    ///
    /// `wall_clock` is the time since the Unix epoch, if the driver knows it: dates are judged by it where the
    /// response has no usable `Date` of its own (rule H4). `reset` says how a bare number in `X-RateLimit-Reset` is
    /// meant; [`Policy::rate_limit_reset`](crate::Policy::rate_limit_reset) has it.
    ///
    /// Names and values are whatever gives bytes: a `HeaderMap`'s pairs, an HTTP parser's, a list made by hand.
    ///
    /// ```
    /// use core::time::Duration;
    /// use retry_machine::{HintSource, Reply, ResetFormat};
    ///
    /// let reply = Reply::read(429, [("Retry-After", "30")], None, ResetFormat::Auto);
    /// let hint = reply.hint().unwrap();
    /// assert_eq!((hint.wait(), hint.source()), (Duration::from_secs(30), HintSource::RetryAfter));
    /// ```
    #[must_use]
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
        wall_clock: Option<Duration>,
        reset: ResetFormat,
    ) -> Reply {
        let mut reader = Reader::new(status, wall_clock, reset);
        for (name, value) in headers {
            reader.feed(name.as_ref(), value.as_ref());
        }
        reader.finish()
    }

    /// The same reply with this hint instead of what the headers said: for services that say it elsewhere.
    #[must_use]
    pub const fn with_hint(self, wait: Duration, source: HintSource) -> Reply {
        let hint = Some(Hint { wait: time::nanos(wait), source });
        Reply { hint, ..self }
    }

    /// The same reply with this class of error code: what the body's `error` says, where the driver has read it
    /// (rule H8). [`ErrorBody::class`](crate::ErrorBody::class) gives it.
    #[must_use]
    pub const fn with_code(self, code: CodeClass) -> Reply {
        Reply { code, ..self }
    }

    /// The status, as it came.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The effective hint, if there is one (rule H6).
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        self.hint
    }

    /// How many calls are left in the service's rate limit. Facts about limits are taken from `X-RateLimit-*` before
    /// `RateLimit-*` before `RateLimit` (rule F9).
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// How many calls the service's rate limit allows in its window.
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// How long after the receipt of the response the service's rate limit is reset.
    #[must_use]
    pub fn reset(&self) -> Option<Duration> {
        self.reset.map(Duration::from_nanos)
    }

    /// The `error` of the Bearer challenge (rule H7).
    #[must_use]
    pub const fn challenge(&self) -> Option<BearerErrorCode> {
        self.challenge
    }

    /// The class of the body's error code.
    #[must_use]
    pub const fn code(&self) -> CodeClass {
        self.code
    }

    /// What was found in the headers and could not be used, and why (rule H6).
    #[must_use]
    pub const fn rejected(&self) -> RejectedFields {
        self.rejected
    }

    /// 2xx (rule D1).
    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Nanoseconds until the last of the limits with nothing left is reset (rule S1).
    pub(crate) const fn closed_for(&self) -> Option<u64> {
        self.closed_for
    }

    /// Whether code or challenge say that a fresh token would not help (rule D12).
    pub(crate) const fn refresh_is_useless(&self) -> bool {
        use BearerErrorCode::{InsufficientClaims, InsufficientScope, TokenRevoked};
        matches!(self.challenge, Some(InsufficientScope | InsufficientClaims | TokenRevoked))
            || matches!(self.code, CodeClass::InsufficientScope | CodeClass::TokenRevoked)
    }
}

/// A time before which the server asked not to be called again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hint {
    /// Nanoseconds.
    wait: u64,
    source: HintSource,
}

impl Hint {
    /// How long after the receipt of the response. Zero, or a date in the past, says nothing about how long (rule
    /// L2).
    #[must_use]
    pub const fn wait(&self) -> Duration {
        Duration::from_nanos(self.wait)
    }

    /// Which field said so.
    #[must_use]
    pub const fn source(&self) -> HintSource {
        self.source
    }

    pub(crate) const fn nanos(&self) -> u64 {
        self.wait
    }
}

/// Which field of a response a hint was read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule H6 names three, in this order")]
pub enum HintSource {
    /// `retry-after-ms` or `x-ms-retry-after-ms`: milliseconds.
    RetryAfterMs,
    /// `Retry-After`: seconds or an HTTP-date (RFC 9110 §10.2.3).
    RetryAfter,
    /// The reset of a rate limit with nothing left: `X-RateLimit-*`, `RateLimit-*` or `RateLimit`.
    RateLimitReset,
}

/// What the machine knows of an error body's code: its class and nothing else (rule H8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "rule H8 names four classes")]
pub enum CodeClass {
    /// There was no code, or no body that could be read.
    #[default]
    None,
    /// The token lacks a scope or a claim: `insufficient_scope`, `insufficient_claims`. A refresh would not help.
    InsufficientScope,
    /// The token was revoked: `token_revoked`. A refresh would not help.
    TokenRevoked,
    /// Any other code. The status decides alone.
    Other,
}

/// How a bare number in `X-RateLimit-Reset` and `RateLimit-Reset` is meant (rule H5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule H5 names three")]
pub enum ResetFormat {
    /// From 10^12 on a Unix time in milliseconds, from 10^9 on in seconds, below that seconds from now.
    #[default]
    Auto,
    /// A Unix time in seconds.
    Unix,
    /// Seconds from now.
    Delta,
}
