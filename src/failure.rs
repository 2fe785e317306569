//! The typed reason why a request failed, and the advice for its user.

use core::fmt;
use core::time::Duration;

use crate::reply::{BearerErrorCode, RejectedFields};
use crate::time::{Seconds, Timestamp};

/// The reason why a request ended without an answer, with all known facts (rule E1).
///
/// Small and `Copy`: the driver keeps the response with its body. The `Display` form is one sentence for a log, and
/// [`advice`](Failure::advice) tells the user what to do.
///
/// ```
/// use retry_machine::{
///     Action, Advice, Event, FailureKind, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream,
/// };
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
/// let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
/// let event = Event::Reply { attempt: 1, reply: Reply::new(404) };
/// let action = machine.handle(Timestamp::from_millis(250), event, &mut upstream);
///
/// let Action::Fail(failure) = action else { panic!("{action}") };
/// assert_eq!((failure.kind(), failure.status()), (FailureKind::NotFound, Some(404)));
/// assert_eq!(failure.advice(), Advice::CheckId);
/// assert!(failure.to_string().starts_with("gave up after 1 attempt and 0.25 s, the last response was 404: "));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) status: Option<u16>,
    pub(crate) attempts: u32,
    /// Nanoseconds.
    pub(crate) elapsed: u64,
    pub(crate) ended: Timestamp,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) cause: Option<Cause>,
    pub(crate) rejected: RejectedFields,
    /// The error that the challenge or the code of the last reply named.
    pub(crate) challenge: Option<BearerErrorCode>,
}

impl Failure {
    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Returns the status of the last response, if the request got one. The last attempt may have failed without a
    /// response: see [`cause`](Failure::cause).
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns the number of attempts sent.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the time from the start of the request to its end.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed)
    }

    /// Returns the instant from which another request is welcome, if one is known: the latest of the hint for this
    /// request, the time until which the gate was asked to be closed, and the breaker's next probe (rule F8).
    #[must_use]
    pub const fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Returns why the last attempt that failed did so, for every kind (rule F8). `None` if no attempt failed.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Returns the header fields of the last reply that could not be used.
    #[must_use]
    pub const fn rejected(&self) -> RejectedFields {
        self.rejected
    }

    /// Returns whether the last 401 asked for a scope or claims (F8).
    const fn names_scope(&self) -> bool {
        matches!(self.challenge, Some(BearerErrorCode::InsufficientScope | BearerErrorCode::InsufficientClaims))
    }

    /// Returns the advice for the user (rule F8).
    #[must_use]
    pub const fn advice(&self) -> Advice {
        match self.kind {
            FailureKind::BadRequest => Advice::FixRequest,
            FailureKind::Unauthorized if self.names_scope() => Advice::AuthorizeWithScopes,
            FailureKind::Unauthorized | FailureKind::TokenRejected => Advice::AuthorizeAgain,
            FailureKind::Transport if matches!(self.cause, Some(Cause::Permanent)) => Advice::FixRequest,
            FailureKind::Forbidden => Advice::AuthorizeWithScopes,
            FailureKind::NotFound => Advice::CheckId,
            FailureKind::Conflict => Advice::MakeUnique,
            FailureKind::Validation => Advice::ReadMessage,
            FailureKind::Exhausted => match (self.cause, self.status) {
                (Some(Cause::Status), Some(500)) => Advice::ContactSupport,
                _ => Advice::TryLater,
            },
            FailureKind::ServerWaitTooLong
            | FailureKind::Deadline
            | FailureKind::Budget
            | FailureKind::BreakerOpen
            | FailureKind::TokenUnavailable
            | FailureKind::Transport => Advice::TryLater,
            FailureKind::Ambiguous => Advice::CheckWhetherApplied,
            FailureKind::UnexpectedStatus | FailureKind::Cancelled => Advice::None,
        }
    }
}

/// The kind of a failure. The `Display` form is a clause that says what happened.
///
/// Not exhaustive: a later version may add a kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FailureKind {
    /// 400: the request is invalid (rule D2).
    BadRequest,
    /// 401, and a new token did not help or would not help (rules D3, D12).
    Unauthorized,
    /// 403: the token lacks a scope or permission (rule D4).
    Forbidden,
    /// 404: the resource does not exist (rule D5).
    NotFound,
    /// 409: the resource already exists, or its state forbids the request (rule D6).
    Conflict,
    /// 422: a field is invalid, and the response's message says which (rule D7).
    Validation,
    /// Any other status that is neither an answer nor retried (rule D10).
    UnexpectedStatus,
    /// No retries are left (rule B3).
    Exhausted,
    /// The server, or the queue at the gate, asks for a longer wait than the policy allows (rules L3, C13).
    ServerWaitTooLong,
    /// The request's deadline has passed, or the next wait would end at or after it (rules S4, L3).
    Deadline,
    /// The upstream's retry budget is empty (rule S2).
    Budget,
    /// The upstream's breaker is open (rule S3).
    BreakerOpen,
    /// The token endpoint rejected the refresh for good (rule K6).
    TokenRejected,
    /// The refresh did not bring a new token in time (rules K5, K6, K8).
    TokenUnavailable,
    /// The attempt failed in transport with an unknown error, and the request is not idempotent (rule D14).
    Transport,
    /// The server may have applied the request, and the request is not idempotent (rule D14).
    Ambiguous,
    /// The user gave up (rule S6).
    Cancelled,
}

/// The reason why an attempt failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a status, or one of the transport errors of rule D13")]
pub enum Cause {
    /// It got the status of [`Failure::status`].
    Status,
    /// It timed out, or reached its limit.
    TimedOut,
    /// Its connection broke.
    Broken,
    /// It was not sent.
    NotSent,
    /// The peer did not process it.
    Unprocessed,
    /// It failed in transport in a way that a repetition cannot change.
    Permanent,
    /// It failed in transport in another way.
    Other,
}

/// The advice for the user about a failure.
///
/// Not exhaustive: a later version may add advice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Advice {
    /// Check the required fields and the data types of the request.
    FixRequest,
    /// Authorize the application again.
    AuthorizeAgain,
    /// Authorize the application again, with the scopes that the endpoint needs.
    AuthorizeWithScopes,
    /// Check the resource's id (ids are case-sensitive) and the path.
    CheckId,
    /// Use a unique identifier, so that the request does not conflict.
    MakeUnique,
    /// Read the response's message: it says which field failed.
    ReadMessage,
    /// Try later, from [`Failure::not_before`] on if that is known.
    TryLater,
    /// Find out whether the request was applied before sending it again.
    CheckWhetherApplied,
    /// Contact the service's support: the server's error persists.
    ContactSupport,
    /// There is no advice.
    None,
}

impl Advice {
    /// Returns the advice as a clause, empty for [`Advice::None`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Advice::FixRequest => "fix the request: check its required fields and data types",
            Advice::AuthorizeAgain => "authorize again",
            Advice::AuthorizeWithScopes => "authorize again with the right scopes",
            Advice::CheckId => "check the id and the path: ids are case-sensitive",
            Advice::MakeUnique => "change the request: use a unique identifier",
            Advice::ReadMessage => "read the message: it says which field failed",
            Advice::TryLater => "try later",
            Advice::CheckWhetherApplied => "check whether it was applied before sending it again",
            Advice::ContactSupport => "contact the service's support",
            Advice::None => "",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::BadRequest => "the request is invalid",
            FailureKind::Unauthorized => "the server did not accept the token",
            FailureKind::Forbidden => "the token lacks a permission",
            FailureKind::NotFound => "there is no such resource",
            FailureKind::Conflict => "the request conflicts with an existing resource",
            FailureKind::Validation => "the request failed validation",
            FailureKind::UnexpectedStatus => "this response is not retried",
            FailureKind::Exhausted => "no retries are left",
            FailureKind::ServerWaitTooLong => "the requested wait is too long",
            FailureKind::Deadline => "the deadline leaves no time for another attempt",
            FailureKind::Budget => "the retry budget is empty",
            FailureKind::BreakerOpen => "the breaker is open",
            FailureKind::TokenRejected => "the token refresh was rejected",
            FailureKind::TokenUnavailable => "there is no new token",
            FailureKind::Transport => "the transport failed",
            FailureKind::Ambiguous => "the request may have been applied",
            FailureKind::Cancelled => "the request was cancelled",
        })
    }
}

/// "gave up after 6 attempts and 33.2 s, the last response was 503: no retries are left; try later".
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, "gave up after {} attempt{plural} and {}", self.attempts, Seconds(self.elapsed))?;
        match (self.cause, self.status) {
            (Some(Cause::TimedOut), _) => write!(f, ", the last timed out")?,
            (Some(Cause::Broken), _) => write!(f, ", the last was cut off")?,
            (Some(Cause::NotSent), _) => write!(f, ", the last could not be sent")?,
            (Some(Cause::Unprocessed), _) => write!(f, ", the last was not processed")?,
            (Some(Cause::Permanent), _) => write!(f, ", the last cannot succeed")?,
            (Some(Cause::Other), _) => write!(f, ", the last failed in transport")?,
            (Some(Cause::Status) | None, Some(status)) => write!(f, ", the last response was {status}")?,
            (Some(Cause::Status) | None, None) => {}
        }
        write!(f, ": {}", self.kind)?;
        if self.advice() != Advice::None {
            write!(f, "; {}", self.advice().as_str())?;
        }
        if let Some(not_before) = self.not_before {
            write!(f, ", no sooner than {} from now", Seconds(not_before.since(self.ended)))?;
        }
        if !self.rejected.is_empty() {
            write!(f, " ({})", self.rejected)?;
        }
        Ok(())
    }
}
