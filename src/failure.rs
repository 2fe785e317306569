//! The typed reason why a request is surfaced to the user.

use core::fmt;
use core::time::Duration;

use crate::reply::{BearerErrorCode, RejectedFields};
use crate::time::{Seconds, Timestamp};

/// Why a request ended without an answer, with all that is known about it (rule E1).
///
/// Small and `Copy`; the response itself, with its body, is in the driver's hands. The `Display` form is one sentence
/// for a log; [`advice`](Failure::advice) says what the user should do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) status: Option<u16>,
    pub(crate) attempts: u32,
    /// Nanoseconds.
    pub(crate) elapsed: u64,
    pub(crate) ended: Timestamp,
    pub(crate) not_before: Option<Timestamp>,
    /// Of every kind: the sentence names it where [`Failure::cause`] does not.
    pub(crate) cause: Option<Cause>,
    pub(crate) rejected: RejectedFields,
    /// What the challenge or the code of the last 401 said.
    pub(crate) challenge: Option<BearerErrorCode>,
}

impl Failure {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The status of the last response that the request got, if it got any. The last attempt may have brought none:
    /// see [`cause`](Failure::cause).
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// How many attempts were sent.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// From the start of the request to its end.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed)
    }

    /// The instant from which trying again is welcome, where one is known: the latest of the effective hint, the
    /// gate's opening and the breaker's next probe (rule F8).
    #[must_use]
    pub const fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Returns why the last attempt that failed did so, whatever ended the request (rule F8). `None` if none failed.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// What the last reply said about time that could not be used.
    #[must_use]
    pub const fn rejected(&self) -> RejectedFields {
        self.rejected
    }

    /// F8: whether the last 401 asked for a scope or claims.
    const fn names_scope(&self) -> bool {
        matches!(self.challenge, Some(BearerErrorCode::InsufficientScope | BearerErrorCode::InsufficientClaims))
    }

    /// What the user should do about it (rule F8).
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

/// The kinds of failure.
///
/// Open: a later version may tell a new kind apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FailureKind {
    /// 400: the request is invalid (rule D2).
    BadRequest,
    /// 401, and a refresh did not help or would not (rules D3, D12).
    Unauthorized,
    /// 403: the token lacks a scope or permission (rule D4).
    Forbidden,
    /// 404 (rule D5).
    NotFound,
    /// 409: it exists already, or its state forbids this (rule D6).
    Conflict,
    /// 422: the message says which field (rule D7).
    Validation,
    /// Any other status that is neither an answer nor retried (rule D10).
    UnexpectedStatus,
    /// No retries are left (rule B3).
    Exhausted,
    /// The server, or the gate, asks for a longer wait than the policy allows (rules L3, S1).
    ServerWaitTooLong,
    /// The request's deadline has passed, or the next wait would end at or after it (rules S4, L3).
    Deadline,
    /// The upstream's retry budget is empty (rule S2).
    Budget,
    /// The upstream's breaker is open (rule S3).
    BreakerOpen,
    /// The token endpoint rejected the refresh for good (rule K6).
    TokenRejected,
    /// No fresh token could be had in time (rules K5, K6, K8).
    TokenUnavailable,
    /// The attempt failed in transport, in a way that is not known well enough to repeat the request (rule D14).
    Transport,
    /// The request may have been applied: it is not safe to repeat, was sent, and was not answered (rule D14).
    Ambiguous,
    /// The user gave up (rule S6).
    Cancelled,
}

/// What an attempt failed of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a status, or one of the six transport errors of rule D13")]
pub enum Cause {
    /// Of the status that [`Failure::status`] has.
    Status,
    /// It timed out, or was given up at its limit.
    TimedOut,
    /// The connection broke.
    Broken,
    /// It was not sent.
    NotSent,
    /// The peer did nothing with it.
    Unprocessed,
    /// Transport, in a way that no repetition helps.
    Permanent,
    /// Something else in transport.
    Other,
}

/// What the user should do about a failure.
///
/// Open, as [`FailureKind`] is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Advice {
    /// Check required fields and data types.
    FixRequest,
    /// Log in again.
    AuthorizeAgain,
    /// Log in again and ask for the scopes that the endpoint needs.
    AuthorizeWithScopes,
    /// Check the resource's id (ids are case-sensitive) and the path.
    CheckId,
    /// Change the request so that it does not conflict: use a unique identifier.
    MakeUnique,
    /// Read the message: it says which field failed.
    ReadMessage,
    /// Try later: [`Failure::not_before`] says from when, if that is known.
    TryLater,
    /// Find out whether the request was applied before sending it again.
    CheckWhetherApplied,
    /// It persists on the server's side: contact its support.
    ContactSupport,
    /// Nothing in particular.
    None,
}

impl Advice {
    /// The advice as a clause, empty for [`Advice::None`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Advice::FixRequest => "fix the request: check its required fields and data types",
            Advice::AuthorizeAgain => "authorise again",
            Advice::AuthorizeWithScopes => "authorise again with the right scopes",
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

/// What happened, as a clause.
impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureKind::BadRequest => "the request is invalid",
            FailureKind::Unauthorized => "the token was not accepted",
            FailureKind::Forbidden => "the token lacks a permission",
            FailureKind::NotFound => "there is no such resource",
            FailureKind::Conflict => "the request conflicts with what is there",
            FailureKind::Validation => "the request failed validation",
            FailureKind::UnexpectedStatus => "the status is not one to retry",
            FailureKind::Exhausted => "no retries are left",
            FailureKind::ServerWaitTooLong => "the wait asked for is too long",
            FailureKind::Deadline => "the deadline leaves no time for another attempt",
            FailureKind::Budget => "the retry budget is empty",
            FailureKind::BreakerOpen => "the breaker is open",
            FailureKind::TokenRejected => "the token refresh was rejected",
            FailureKind::TokenUnavailable => "no fresh token could be had",
            FailureKind::Transport => "the transport failed",
            FailureKind::Ambiguous => "the request may have been applied",
            FailureKind::Cancelled => "the request was cancelled",
        })
    }
}

/// "gave up after 6 attempts and 33.2 s, the last got 503: no retries are left; try later".
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
            write!(f, ", not before {} have passed", Seconds(not_before.since(self.ended)))?;
        }
        if !self.rejected.is_empty() {
            write!(f, " ({})", self.rejected)?;
        }
        Ok(())
    }
}
