//! What the machine asks its driver to do next, and why.

use core::fmt;

use crate::backoff::Backoff;
use crate::event::TransportErrorKind;
use crate::failure::Failure;
use crate::reply::{BearerErrorCode, Hint, HintSource, RejectedFields};
use crate::time::{Seconds, Timestamp};

/// What to do next. The `Display` form explains it in one sentence (rule E2).
///
/// Exhaustive on purpose: a driver must handle every action, and a new one would be a new duty for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "the machine waits for its action to be carried out"]
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs)]
pub enum Action {
    /// Send the request and tell how it went, with [`Event::Reply`](crate::Event::Reply) or
    /// [`Event::TransportError`](crate::Event::TransportError). Emitted once per attempt.
    Send {
        /// The attempt's number, from 1. Attempts after a token refresh are counted too.
        attempt: u32,
        /// The generation of the token to use: the one that was current when this was emitted (rule K4).
        generation: u32,
        /// When to give the attempt up: the earlier of its own limit and the request's deadline (rule S4).
        until: Option<Timestamp>,
        /// Why.
        explanation: Explanation,
    },
    /// Send a [`Tick`](crate::Event::Tick) at `until`; not sooner, or it is answered with the same wait.
    Wait {
        /// The end of the wait.
        until: Timestamp,
        /// What decided how long it is.
        reason: WaitReason,
        /// Why.
        explanation: Explanation,
    },
    /// Refresh the token, and tell how it went with [`Event::Token`](crate::Event::Token). Emitted once per lease: no
    /// other request of this upstream refreshes before `until` (rules K3, K5).
    RefreshToken {
        /// The end of the lease.
        until: Timestamp,
        /// The error that the 401's challenge (or its body's code) named, if the request got a 401 (rule D12): a new
        /// token is then asked for with the scope or the claims of the challenge.
        challenge: Option<BearerErrorCode>,
        /// Why.
        explanation: Explanation,
    },
    /// Another request refreshes the token. Send a [`Tick`](crate::Event::Tick) when
    /// [`Upstream::wakeups`](crate::Upstream::wakeups) has moved, at the latest at `until` (rule K8).
    AwaitRefresh {
        /// The end of the other's lease, or this request's deadline.
        until: Timestamp,
        /// Why.
        explanation: Explanation,
    },
    /// Nothing: an attempt or a refresh is under way, and this event changed nothing about it.
    InFlight {
        /// When the next tick would matter (attempt limit, lease end or deadline), if ever.
        until: Option<Timestamp>,
        /// Why.
        explanation: Explanation,
    },
    /// The end: the response of this status is the answer. The same for every later event.
    Done {
        /// The answer's status.
        status: u16,
        /// Why.
        explanation: Explanation,
    },
    /// The end: the request failed, and the user should know. The same for every later event.
    Fail(Failure),
}

impl Action {
    /// Whether this is the end of the request: [`Done`](Action::Done) or [`Surface`](Action::Fail).
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Action::Done { .. } | Action::Fail(_))
    }

    /// The number of the last attempt sent, 0 before any; in [`Send`](Action::Send) that of the one to send.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        match self {
            // Its facts are about the attempt before.
            Action::Send { attempt, .. } => *attempt,
            Action::Wait { explanation, .. }
            | Action::RefreshToken { explanation, .. }
            | Action::AwaitRefresh { explanation, .. }
            | Action::InFlight { explanation, .. }
            | Action::Done { explanation, .. } => explanation.attempt,
            Action::Fail(failure) => failure.attempts(),
        }
    }
}

/// What decided the end of a wait: of several, the one that ends last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a wait has no other reasons")]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WaitReason {
    /// The policy's own back-off (rules B1, B2).
    Backoff,
    /// What the server asked for (rules L1, L2).
    Hint(HintSource),
    /// The upstream is closed to every request (rule S1).
    Gate,
}

/// The facts behind an action: what was learnt, in small numbers and enumerations (rule E2).
///
/// Opaque, since facts are added as there are more of them; its `Display` form is a clause of the action's sentence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Explanation {
    /// The last attempt sent, 0 before any.
    pub(crate) attempt: u32,
    /// The most attempts that back-off allows.
    pub(crate) of: u32,
    pub(crate) trigger: Trigger,
    /// How long the wait is, in nanoseconds.
    pub(crate) wait: u64,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) hint: Option<Hint>,
    pub(crate) rejected: RejectedFields,
}

/// What the event told that led to the action.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Trigger {
    /// Nothing new.
    #[default]
    Nothing,
    /// The request begins, or goes on, and finds the upstream closed.
    Begin,
    /// The attempt was answered.
    Status(u16),
    /// The attempt failed in transport.
    TransportError(TransportErrorKind),
    /// A late reply of this status asked for a longer wait.
    LateHint(u16),
    WaitOver,
    NewToken,
    /// A refresh before the token's expiry came to nothing.
    NoNewToken,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::Send { attempt, generation, explanation, .. } => {
                write!(f, "{explanation}sending attempt {attempt} with token {generation}")
            }
            Action::Wait { explanation, .. } if explanation.trigger == Trigger::Nothing => {
                write!(f, "still waiting, {} to go", Seconds(explanation.wait))
            }
            Action::Wait { reason, explanation, .. } => {
                write!(f, "{explanation}waiting {}", Seconds(explanation.wait))?;
                match (reason, explanation.backoff) {
                    (WaitReason::Backoff, Some(backoff)) => write!(f, " ({backoff}"),
                    (WaitReason::Backoff, None) => write!(f, " (back-off"),
                    (WaitReason::Hint(HintSource::RetryAfterMs), _) => write!(f, " (retry-after in milliseconds"),
                    (WaitReason::Hint(HintSource::RetryAfter), _) => write!(f, " (retry-after"),
                    (WaitReason::Hint(HintSource::RateLimitReset), _) => write!(f, " (reset of the rate limit"),
                    (WaitReason::Hint(HintSource::Told), _) => write!(f, " (as the service said)"),
                    (WaitReason::Hint(HintSource::Pushback), _) => write!(f, " (pushback)"),
                    (WaitReason::Gate, _) => write!(f, " (the upstream is closed to all requests"),
                }?;
                match explanation.hint {
                    Some(hint) if reason != WaitReason::Hint(hint.source()) && hint.nanos() > 0 => {
                        write!(f, ", which is longer than the {} that the server asked for)", Seconds(hint.nanos()))
                    }
                    _ => f.write_str(")"),
                }
            }
            Action::RefreshToken { explanation, .. } => write!(f, "{explanation}refreshing the token"),
            Action::AwaitRefresh { explanation, .. } => write!(f, "{explanation}another request refreshes the token"),
            Action::InFlight { explanation, .. } => write!(f, "{explanation}an attempt or a refresh is under way"),
            Action::Done { status, explanation } => {
                if explanation.rejected.is_empty() {
                    write!(f, "done with {status}")
                } else {
                    write!(f, "done with {status} ({})", explanation.rejected)
                }
            }
            Action::Fail(failure) => failure.fmt(f),
        }
    }
}

/// "attempt 3 of 6 got 503; ", or nothing where there is nothing to tell.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { attempt, of, .. } = self;
        match self.trigger {
            Trigger::Nothing | Trigger::Begin => Ok(()),
            Trigger::Status(status) if self.rejected.is_empty() => {
                write!(f, "attempt {attempt} of {of} got {status}; ")
            }
            Trigger::Status(status) => write!(f, "attempt {attempt} of {of} got {status} ({}); ", self.rejected),
            Trigger::TransportError(error) => {
                let what = match error {
                    TransportErrorKind::NotSent => "could not be sent",
                    TransportErrorKind::TimedOut => "timed out",
                    TransportErrorKind::Broken => "was cut off",
                    TransportErrorKind::Unprocessed => "was not processed",
                    TransportErrorKind::Permanent => "cannot succeed",
                    TransportErrorKind::Other => "failed in transport",
                };
                write!(f, "attempt {attempt} of {of} {what}; ")
            }
            Trigger::LateHint(status) => write!(f, "a late {status} asks for more time; "),
            Trigger::WaitOver => write!(f, "the wait is over; "),
            Trigger::NewToken => write!(f, "there is a new token; "),
            Trigger::NoNewToken => write!(f, "there is no new token, but the old one is valid still; "),
        }
    }
}
