//! One HTTP response as a [`Reply`]: the facts that decide about a retry, read once from status, headers and body.
//!
//! Only this module and its submodules look at bytes. A [`Reply`] is a small `Copy` value.

use core::fmt;
use core::time::Duration;

use crate::time;

#[cfg(feature = "json")]
mod body;
mod common_fields;
mod dialect;
mod facts;
mod header_time;
mod number;
mod rate_limit;
mod reader;
mod rejected;
mod retry_after;
#[cfg(feature = "vendor-times")]
mod vendor_times;

// The grammars depend on no other module.
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "only `fuzzing` opens it")]
pub(crate) mod challenge;
pub(crate) mod http_date;
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "only `fuzzing` opens it")]
pub(crate) mod structured_field;

#[cfg(feature = "json")]
pub use self::body::{BodyError, ErrorBody};
pub use self::challenge::BearerErrorCode;
pub(crate) use self::dialect::{DialectError, check as check_dialect};
pub use self::dialect::{DialectField, FieldMeaning, TimeUnit};
pub use self::reader::Reader;
pub use self::rejected::{HeaderField, RejectReason, RejectedFields};

/// The facts of a response that decide about a retry.
///
/// [`Policy::read`](crate::Policy::read) makes one from a whole response, a [`Reader`] header by header, and
/// [`Reply::new`] by hand. It keeps numbers and small enumerations only, so that it never holds a secret (rule H9).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reply {
    // Packed, since every event carries one. A number that is not known is zero. Times are in nanoseconds.
    hint: u64,
    pushback: u64,
    limit: u64,
    remaining: u64,
    reset: u64,
    rejected: RejectedFields,
    status: u16,
    /// `None`: there is no hint.
    hint_source: Option<HintSource>,
    verdict: Option<Verdict>,
    challenge: Option<BearerErrorCode>,
    code: CodeClass,
    known: u8,
}

// The bits of `known`.
const LIMIT: u8 = 1;
const REMAINING: u8 = 2;
const RESET: u8 = 4;
/// A rate limit has nothing left.
const EXHAUSTED: u8 = 8;
const PUSHBACK: u8 = 16;
/// The pushback means stop.
const STOP: u8 = 32;

impl Reply {
    /// Makes a reply of which only the status is known. It takes any number; one that is not an HTTP status ends the
    /// request (rule D10).
    #[must_use]
    pub const fn new(status: u16) -> Reply {
        Reply {
            hint: 0,
            pushback: 0,
            limit: 0,
            remaining: 0,
            reset: 0,
            rejected: RejectedFields::NONE,
            status,
            hint_source: None,
            verdict: None,
            challenge: None,
            code: CodeClass::None,
            known: 0,
        }
    }

    /// Returns the reply with this wait in place of the hint that the headers gave: for services that say it in the body
    /// (rule D16). Its source is [`HintSource::Told`]; a pushback gives way to it.
    ///
    /// ```
    /// use core::time::Duration;
    /// use retry_machine::Reply;
    ///
    /// // GraphQL: { "extensions": { "retryAfter": 1.5 } }
    /// let reply = Reply::new(429).with_hint(Duration::from_millis(1_500));
    /// assert_eq!(reply.hint().unwrap().wait().as_millis(), 1_500);
    /// ```
    #[must_use]
    pub const fn with_hint(self, wait: Duration) -> Reply {
        let known = self.known & !(PUSHBACK | STOP);
        Reply { hint: time::nanos(wait), hint_source: Some(HintSource::Told), pushback: 0, known, ..self }
    }

    /// Returns the reply with this verdict, in place of one that a field gave: for a driver that has read what no field
    /// says, such as a body, a gRPC status or a 200 with an error inside (rule D15).
    #[must_use]
    pub const fn with_verdict(self, verdict: Verdict) -> Reply {
        Reply { verdict: Some(verdict), ..self }
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
        match self.hint_source {
            Some(source) => Some(Hint { wait: self.hint, source }),
            None => None,
        }
    }

    /// Returns the number of calls left in the service's rate limit.
    ///
    /// Facts about limits come from `X-RateLimit-*`, else from `RateLimit-*`, else from `RateLimit` (rule F9).
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        self.known_number(REMAINING, self.remaining)
    }

    /// Returns the number of calls that the service's rate limit allows in its window (rule F9).
    #[must_use]
    pub const fn limit(&self) -> Option<u64> {
        self.known_number(LIMIT, self.limit)
    }

    /// Returns the time from the receipt of the response to the reset of the service's rate limit (rule H5).
    #[must_use]
    pub fn reset(&self) -> Option<Duration> {
        self.known_number(RESET, self.reset).map(Duration::from_nanos)
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

    /// Returns the verdict, if the reply has one (rule D15).
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    pub(crate) const fn pushback(&self) -> Option<Pushback> {
        if self.known & STOP != 0 {
            Some(Pushback::Stop)
        } else if self.known & PUSHBACK != 0 {
            Some(Pushback::After(self.pushback))
        } else {
            None
        }
    }

    fn set_pushback(&mut self, pushback: Pushback) {
        match pushback {
            Pushback::After(wait) => (self.pushback, self.known) = (wait, self.known | PUSHBACK),
            Pushback::Stop => self.known |= STOP,
        }
    }

    fn set_hint(&mut self, hint: Hint) {
        (self.hint, self.hint_source) = (hint.wait, Some(hint.source));
    }

    const fn known_number(&self, which: u8, number: u64) -> Option<u64> {
        if self.known & which != 0 { Some(number) } else { None }
    }

    /// Returns whether the reply is about the token, and so says nothing about a limit (rules S1, D15).
    pub(crate) fn is_about_token(&self) -> bool {
        self.status == 401 || self.verdict() == Some(Verdict::TokenExpired)
    }

    /// Returns whether a rate limit has nothing left (rule S1).
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.known & EXHAUSTED != 0
    }

    /// Returns the scope or claims that the challenge, or else the code, says the token lacks (rule D12).
    pub(crate) const fn lacking(&self) -> Option<BearerErrorCode> {
        use BearerErrorCode::{InsufficientClaims, InsufficientScope};
        match (self.challenge, self.code) {
            (Some(error @ (InsufficientScope | InsufficientClaims)), _) => Some(error),
            (_, CodeClass::InsufficientScope) => Some(InsufficientScope),
            (_, CodeClass::InsufficientClaims) => Some(InsufficientClaims),
            _ => None,
        }
    }

    /// Returns whether the challenge or the code says that the token was revoked (rule D12).
    pub(crate) const fn is_token_revoked(&self) -> bool {
        matches!(self.challenge, Some(BearerErrorCode::TokenRevoked)) || matches!(self.code, CodeClass::TokenRevoked)
    }
}

#[allow(clippy::missing_fields_in_debug, reason = "it shows them as the methods return them")]
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("hint", &self.hint())
            .field("pushback", &self.pushback())
            .field("verdict", &self.verdict)
            .field("is_exhausted", &self.is_exhausted())
            .field("limit", &self.limit())
            .field("remaining", &self.remaining())
            .field("reset", &self.reset())
            .field("challenge", &self.challenge)
            .field("code", &self.code)
            .field("rejected", &self.rejected)
            .finish()
    }
}

/// The server's or the driver's word about trying again. It goes before the status, also before a 2xx (rule D15).
///
/// A field of the policy's [dialect](DialectField) gives it, or the driver ([`Reply::with_verdict`]). It never shortens a
/// hint, and every limit holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule D15 names four")]
pub enum Verdict {
    /// The request fails, whatever the policy says of the status.
    Final,
    /// The failure is transient: the request is sent again, also one that is not safe to repeat.
    Transient,
    /// The server limits its callers: as 429.
    Throttled,
    /// The token has expired: as 401.
    TokenExpired,
}

/// An order to come back at a time (rule H11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Pushback {
    /// After so many nanoseconds, exactly.
    After(u64),
    /// Not at all.
    Stop,
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

    pub(crate) const fn new(wait: u64, source: HintSource) -> Hint {
        Hint { wait, source }
    }

    /// Returns the wait in nanoseconds.
    pub(crate) const fn nanos(self) -> u64 {
        self.wait
    }
}

/// The field of a response that a hint was read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rules H6, D16 and H11 name five")]
pub enum HintSource {
    /// `retry-after-ms` or `x-ms-retry-after-ms`: milliseconds.
    RetryAfterMs,
    /// `Retry-After`: seconds or an HTTP-date (RFC 9110 §10.2.3).
    RetryAfter,
    /// The reset of a rate limit that has nothing left: `X-RateLimit-*`, `RateLimit-*` or `RateLimit`.
    RateLimitReset,
    /// The driver, who read it where no field says it ([`Reply::with_hint`]).
    Told,
    /// A pushback: an order to come back exactly then (rule H11).
    Pushback,
}

/// The class of an error body's code, which is all that the machine knows of it (rule H8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "the classes that rule D12 tells apart")]
pub enum CodeClass {
    /// There is no code, or no body that can be read.
    #[default]
    None,
    /// The token lacks a scope: `insufficient_scope`. A refresh would not help, unless the policy says so (rule D12).
    InsufficientScope,
    /// The token lacks a claim: `insufficient_claims`. A refresh would not help, unless the policy says so (rule D12).
    InsufficientClaims,
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
