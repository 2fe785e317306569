//! The events that a driver tells the machine.

use core::time::Duration;

use crate::reply::Reply;

/// Something that happened to a request. Every event is legal in every state (rule T3).
///
/// Exhaustive: a driver creates events and never has to match on them, and a new one would be a new promise.
///
/// ```
/// use retry_machine::{Action, Event, Idempotency, Policy, RetryMachine, Timestamp, TransportErrorKind, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Idempotency::NonIdempotent, 7);
/// let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
///
/// // The server may have acted on the request, so it is not sent again.
/// let event = Event::TransportError { attempt: 1, kind: TransportErrorKind::TimedOut };
/// let action = machine.handle(Timestamp::from_millis(5_000), event, &mut upstream);
/// assert!(matches!(action, Action::Fail(_)), "{action}");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Event {
    /// The request starts. Told once; told again, it changes nothing. A machine that has not started treats any other
    /// event except [`Cancel`](Event::Cancel) as this one, so that a driver that forgets it does not hang.
    Start,
    /// Time has passed. Harmless at any time (rule T4). Only a tick ends a wait or gives an attempt up (rule F7).
    Tick,
    /// An attempt got a response. A reply to any other attempt than the one in flight is late: a 2xx still ends the
    /// request, and a hint still counts (rule T3).
    Reply {
        /// The attempt's number, from 1, as in [`Action::Send`](crate::Action::Send).
        attempt: u32,
        /// The facts of the response.
        reply: Reply,
    },
    /// An attempt did not get a complete response (rule D13). For the request it counts only if that attempt is in
    /// flight.
    TransportError {
        /// The attempt's number, from 1, as in [`Action::Send`](crate::Action::Send).
        attempt: u32,
        /// How the attempt failed.
        kind: TransportErrorKind,
    },
    /// The user gave up. The request gives back the probe and the slot that it holds (rule S6). A lease stays, since the
    /// refresh may be under way (rule K5).
    Cancel,
}

/// How an attempt failed to get a response (rule D13).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "rule D13 names six kinds, and `Other` covers the rest")]
pub enum TransportErrorKind {
    /// The request certainly did not reach the server: name resolution, connecting or TLS failed. Retried for every
    /// request.
    NotSent,
    /// The attempt got no answer in time. The server may have acted on it, so only idempotent requests are retried.
    TimedOut,
    /// The connection ended before the whole response had arrived. The server may have acted on the attempt, so only
    /// idempotent requests are retried.
    Broken,
    /// The peer reported that it did nothing with the request: HTTP/2 GOAWAY beyond the last stream, `REFUSED_STREAM`, or
    /// a kept connection that closed before any byte was written. The first time, the request is sent again at once;
    /// further times count like [`NotSent`](TransportErrorKind::NotSent).
    Unprocessed,
    /// A repetition cannot succeed: a bad URL or header, an untrusted certificate, a redirect loop, or a body that is gone
    /// once it was sent.
    Permanent,
    /// Any other error. Only idempotent requests are retried.
    Other,
}

/// How a token refresh ended (rule K6). [`Login::report_refresh`](crate::Login::report_refresh) takes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums, reason = "rule K6 names four outcomes")]
pub enum RefreshOutcome {
    /// There is a new token.
    Refreshed {
        /// The lifetime of the token, if the token endpoint reported it: `expires_in` of RFC 6749 §5.1. With it,
        /// requests refresh the token before it expires and save the 401 (rule K7).
        expires_in: Option<Duration>,
    },
    /// The token endpoint refused for good: `invalid_grant` of RFC 6749 §5.2. The user must authorize again.
    ///
    /// Every request of the login fails as [`TokenRejected`](crate::FailureKind::TokenRejected), without being sent, until
    /// [`Login::token_replaced`](crate::Login::token_replaced) is called.
    Rejected,
    /// The token endpoint gave no useful answer: it could not be reached, failed or throttled.
    Unavailable {
        /// The time for which to leave the token endpoint alone, if it asked for one. No new refresh begins earlier; the
        /// longest server wait of the policy limits it.
        retry_after: Option<Duration>,
    },
    /// The refresh never began, or its answer can never come: another request can lead at once.
    Abandoned,
}

/// Whether a request may be sent again while it is unknown whether the server applied the first attempt (rule D14).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a request is either idempotent or not")]
pub enum Idempotency {
    /// Applying the request twice has the same effect as applying it once: an idempotent method (RFC 9110 §9.2.2), or a
    /// request with an idempotency key.
    Idempotent,
    /// Applying the request twice differs from applying it once: a POST that creates or pays something.
    NonIdempotent,
}

impl Idempotency {
    /// Returns the idempotency of a request from its method and from whether it has an idempotency key (rule D14). GET,
    /// HEAD, OPTIONS, TRACE, PUT and DELETE are idempotent (RFC 9110 §9.2.2), and so is any request with a key. Methods
    /// are case-sensitive.
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
