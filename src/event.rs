//! What a driver tells the machine.

use core::time::Duration;

use crate::reply::Reply;

/// Something that happened to a request. Every event is legal in every state (rule T3).
///
/// Exhaustive: a driver creates events and never has to match on them, and a new one would be a new promise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Event {
    /// The request begins. Told once; told again it changes nothing. A machine that has not begun takes any other
    /// event but [`Cancel`](Event::Cancel) for this one, so that a driver that forgets it does not hang.
    Start,
    /// Time has passed. Harmless at any time (rule T4): only a tick ends a wait or gives up an attempt.
    Tick,
    /// The attempt with this number (1-based, from [`Action::Send`](crate::Action::Send)) was answered. If it is not
    /// the one in flight it is late: a 2xx still ends the request, a hint still counts.
    Reply {
        /// The attempt's number, from 1.
        attempt: u32,
        /// The facts of the response.
        reply: Reply,
    },
    /// The attempt with this number brought no complete response. Ignored if it is not the one in flight.
    TransportError {
        /// The attempt's number, from 1.
        attempt: u32,
        /// How it failed.
        kind: TransportErrorKind,
    },
    /// How the refresh that [`Action::RefreshToken`](crate::Action::RefreshToken) asked for ended. Store the new
    /// token first, then report it (rule K5).
    Refreshed(RefreshOutcome),
    /// The user gave up. What the request held (a lease, a probe) is given back (rule S6); a driver that cancels a
    /// request which leads a refresh thereby says that it abandons the refresh.
    Cancel,
}

/// How an attempt failed to bring a response (rule D13).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule D13 names six kinds, and `Other` takes the rest")]
pub enum TransportErrorKind {
    /// The request surely did not reach the server: name resolution, connecting, TLS. Retried for every request.
    NotSent,
    /// No answer in time. The server may have acted on the request.
    TimedOut,
    /// The connection ended before the whole response was there. The server may have acted on the request.
    Broken,
    /// The peer said that it did nothing with the request: HTTP/2 GOAWAY beyond the last stream, REFUSED_STREAM, a kept
    /// connection that closed before any byte was written. The first time, the request is sent again at once; further
    /// times count like [`NotSent`](TransportErrorKind::NotSent).
    Unprocessed,
    /// A repetition does not help: a bad URL or header, an untrusted certificate, a redirect loop, a body that cannot be
    /// sent again.
    Permanent,
    /// Anything else. Retried for requests that are safe to repeat.
    Other,
}

/// How a token refresh ended (rule K6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums, reason = "the rule names three outcomes")]
pub enum RefreshOutcome {
    /// There is a new token, and it is already where the next send will find it.
    Refreshed {
        /// How long it is valid, if the token endpoint said so: `expires_in` of RFC 6749 §5.1. With it, requests
        /// refresh in time and save the 401 (rule K7).
        expires_in: Option<Duration>,
    },
    /// The token endpoint refused for good: `invalid_grant` of RFC 6749 §5.2. The user must log in again.
    Rejected,
    /// No useful answer: the endpoint could not be reached, failed or throttled.
    Unavailable {
        /// How long to leave the token endpoint alone, if it said so. No new refresh begins before.
        retry_after: Option<Duration>,
    },
}

/// Whether a request may be sent again when it is not known what became of the first time (rule D14).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "it is a yes or a no")]
pub enum Idempotency {
    /// An idempotent method (RFC 9110 §9.2.2), or a request with an idempotency key.
    Idempotent,
    /// Doing it twice is not the same as doing it once: a POST that creates or pays something.
    NonIdempotent,
}

impl Idempotency {
    /// Returns the idempotency of a request with this method and with or without an idempotency key (rule D14): GET,
    /// HEAD, OPTIONS, TRACE, PUT and DELETE are idempotent (RFC 9110 §9.2.2), any method with a key, and no other.
    /// Methods are case-sensitive.
    ///
    /// ```
    /// use retry_machine::Idempotency;
    ///
    /// assert_eq!(Idempotency::of("PUT", false), Idempotency::Idempotent);
    /// assert_eq!(Idempotency::of("POST", false), Idempotency::NonIdempotent);
    /// assert_eq!(Idempotency::of("POST", true), Idempotency::Idempotent);
    /// ```
    #[must_use]
    pub const fn of(method: &str, has_idempotency_key: bool) -> Idempotency {
        match method.as_bytes() {
            b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE" => Idempotency::Idempotent,
            _ if has_idempotency_key => Idempotency::Idempotent,
            _ => Idempotency::NonIdempotent,
        }
    }
}
