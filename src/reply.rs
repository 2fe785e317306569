//! One HTTP response as a [`Reply`]: the facts that decide about a retry, read once from status, headers and body.
//!
//! Only this module and its submodules look at bytes. A [`Reply`] is a small `Copy` value.

use core::time::Duration;

use crate::time;

#[cfg(feature = "json")]
mod body;
mod header_time;
mod rate_limit;
mod reader;
mod rejected;
mod retry_after;

// The grammars depend on no other module.
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "only `fuzzing` opens it")]
pub(crate) mod challenge;
pub(crate) mod http_date;
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "only `fuzzing` opens it")]
pub(crate) mod structured_field;

#[cfg(feature = "json")]
pub use self::body::{BodyError, ErrorBody};
pub use self::challenge::BearerErrorCode;
pub use self::reader::Reader;
pub use self::rejected::{HeaderField, RejectReason, RejectedFields};

/// The facts of a response that decide about a retry.
///
/// [`Reply::read`] makes one from a whole response, a [`Reader`] header by header, and [`Reply::new`] by hand. It keeps
/// numbers and small enumerations only, so that it never holds a secret (rule H9).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    status: u16,
    hint: Option<Hint>,
    /// Nanoseconds until the reset of the last limit that has nothing left (rule S1).
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
    /// Makes a reply of which only the status is known. It takes any number; one that is not an HTTP status ends the
    /// request (rule D10).
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
    /// `wall_clock` is the time since the Unix epoch, or `None` if the driver does not know it. Dates are compared with
    /// it where the response has no usable `Date` of its own (rule H4). `reset` tells how to read a bare number in
    /// `X-RateLimit-Reset` and `RateLimit-Reset`: pass [`Policy::rate_limit_reset`](crate::Policy::rate_limit_reset).
    ///
    /// Names and values are anything that gives bytes: the pairs of a `HeaderMap` or of an HTTP parser, or a list made
    /// by hand. A value that cannot be used has no effect, and [`rejected`](Reply::rejected) lists it.
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

    /// Replaces the hint that the headers gave. It is for services that give one elsewhere, such as in the body.
    ///
    /// `wait` counts from the receipt of the response and is clamped to `u64::MAX` nanoseconds, some 584 years.
    #[must_use]
    pub const fn with_hint(self, wait: Duration, source: HintSource) -> Reply {
        let hint = Some(Hint { wait: time::nanos(wait), source });
        Reply { hint, ..self }
    }

    /// Sets the class of the error code in the body, for drivers that read the body (rule H8).
    ///
    /// With the feature `json`, `ErrorBody::class` returns it.
    #[must_use]
    pub const fn with_code(self, code: CodeClass) -> Reply {
        Reply { code, ..self }
    }

    /// Returns the status as it was given.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the effective hint, if there is one (rule H6).
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        self.hint
    }

    /// Returns the number of calls left in the service's rate limit.
    ///
    /// Facts about limits come from `X-RateLimit-*`, else from `RateLimit-*`, else from `RateLimit` (rule F9).
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Returns the number of calls that the service's rate limit allows in its window (rule F9).
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns the time from the receipt of the response to the reset of the service's rate limit (rule H5).
    #[must_use]
    pub fn reset(&self) -> Option<Duration> {
        self.reset.map(Duration::from_nanos)
    }

    /// Returns the `error` of the Bearer challenge (rule H7).
    #[must_use]
    pub const fn challenge(&self) -> Option<BearerErrorCode> {
        self.challenge
    }

    /// Returns the class of the body's error code (rule H8).
    #[must_use]
    pub const fn code(&self) -> CodeClass {
        self.code
    }

    /// Returns the header fields that could not be used, with the reasons (rule H6).
    #[must_use]
    pub const fn rejected(&self) -> RejectedFields {
        self.rejected
    }

    /// Returns whether the status is 2xx (rule D1).
    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Returns the nanoseconds until the reset of the last limit that has nothing left (rule S1).
    pub(crate) const fn closed_for(&self) -> Option<u64> {
        self.closed_for
    }

    /// Returns whether the code or the challenge says that a fresh token would not help (rule D12).
    pub(crate) const fn refresh_is_useless(&self) -> bool {
        use BearerErrorCode::{InsufficientClaims, InsufficientScope, TokenRevoked};
        matches!(self.challenge, Some(InsufficientScope | InsufficientClaims | TokenRevoked))
            || matches!(self.code, CodeClass::InsufficientScope | CodeClass::TokenRevoked)
    }
}

/// A wait that the server asked for: the time before which it must not be called again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hint {
    /// Nanoseconds.
    wait: u64,
    source: HintSource,
}

impl Hint {
    /// Returns the wait, counted from the receipt of the response.
    ///
    /// It is zero for a zero or for a date in the past; then the back-off alone decides (rule L2).
    #[must_use]
    pub const fn wait(&self) -> Duration {
        Duration::from_nanos(self.wait)
    }

    /// Returns the field that the hint was read from.
    #[must_use]
    pub const fn source(&self) -> HintSource {
        self.source
    }

    /// Returns the wait in nanoseconds.
    pub(crate) const fn nanos(&self) -> u64 {
        self.wait
    }
}

/// The field of a response that a hint was read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule H6 names three, in this order")]
pub enum HintSource {
    /// `retry-after-ms` or `x-ms-retry-after-ms`: milliseconds.
    RetryAfterMs,
    /// `Retry-After`: seconds or an HTTP-date (RFC 9110 §10.2.3).
    RetryAfter,
    /// The reset of a rate limit that has nothing left: `X-RateLimit-*`, `RateLimit-*` or `RateLimit`.
    RateLimitReset,
}

/// The class of an error body's code, which is all that the machine knows of it (rule H8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "rule H8 names four classes")]
pub enum CodeClass {
    /// There is no code, or no body that can be read.
    #[default]
    None,
    /// The token lacks a scope or a claim: `insufficient_scope`, `insufficient_claims`. A refresh would not help.
    InsufficientScope,
    /// The token was revoked: `token_revoked`. A refresh would not help.
    TokenRevoked,
    /// Any other code. The status alone decides.
    Other,
}

/// The meaning of a bare number in `X-RateLimit-Reset` and `RateLimit-Reset` (rule H5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule H5 names three")]
pub enum ResetFormat {
    /// A Unix time in milliseconds from 10^12 on, a Unix time in seconds from 10^9 on, and seconds from now below that.
    #[default]
    Auto,
    /// A Unix time in seconds.
    Unix,
    /// Seconds from now.
    Delta,
}
