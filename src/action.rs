//! What the machine asks its driver to do next, and why.

use core::fmt;

use crate::backoff::Backoff;
use crate::event::TransportError;
use crate::failure::Failure;
use crate::reply::{Hint, HintSource, Rejected};
use crate::time::{Seconds, Time};

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
        until: Option<Time>,
        /// Why.
        because: Because,
    },
    /// Send a [`Tick`](crate::Event::Tick) at `until`; not sooner, or it is answered with the same wait.
    Wait {
        /// The end of the wait.
        until: Time,
        /// What decided how long it is.
        reason: WaitReason,
        /// Why.
        because: Because,
    },
    /// Refresh the token, and tell how it went with [`Event::Token`](crate::Event::Token). Emitted once per lease: no
    /// other request of this upstream refreshes before `until` (rules K3, K5).
    RefreshToken {
        /// The end of the lease.
        until: Time,
        /// Why.
        because: Because,
    },
    /// Another request refreshes the token. Send a [`Tick`](crate::Event::Tick) when
    /// [`Upstream::wakeups`](crate::Upstream::wakeups) has moved, at the latest at `until` (rule K8).
    AwaitToken {
        /// The end of the other's lease, or this request's deadline.
        until: Time,
        /// Why.
        because: Because,
    },
    /// Nothing: an attempt or a refresh is under way, and this event changed nothing about it.
    InFlight {
        /// When the next tick would matter (attempt limit, lease end or deadline), if ever.
        until: Option<Time>,
        /// Why.
        because: Because,
    },
    /// The end: the response of this status is the answer. The same for every later event.
    Done {
        /// The answer's status.
        status: u16,
        /// Why.
        because: Because,
    },
    /// The end: the request failed, and the user should know. The same for every later event.
    Surface(Failure),
}

impl Action {
    /// Whether this is the end of the request: [`Done`](Action::Done) or [`Surface`](Action::Surface).
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Action::Done { .. } | Action::Surface(_))
    }

    /// The number of the last attempt sent, 0 before any; in [`Send`](Action::Send) that of the one to send.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        match self {
            // Its facts are about the attempt before.
            Action::Send { attempt, .. } => *attempt,
            Action::Wait { because, .. }
            | Action::RefreshToken { because, .. }
            | Action::AwaitToken { because, .. }
            | Action::InFlight { because, .. }
            | Action::Done { because, .. } => because.attempt,
            Action::Surface(failure) => failure.attempts(),
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
pub struct Because {
    /// The last attempt sent, 0 before any.
    pub(crate) attempt: u32,
    /// The most attempts that back-off allows.
    pub(crate) of: u32,
    pub(crate) news: News,
    /// How long the wait is, in nanoseconds.
    pub(crate) wait: u64,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) hint: Option<Hint>,
    pub(crate) rejected: Rejected,
}

/// What the event told that led to the action.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum News {
    /// Nothing new.
    #[default]
    Nothing,
    /// The request begins, or goes on, and finds the upstream closed.
    Begin,
    /// The attempt was answered.
    Status(u16),
    /// The attempt failed in transport.
    Transport(TransportError),
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
            Action::Send { attempt, generation, because, .. } => {
                write!(f, "{because}sending attempt {attempt} with token {generation}")
            }
            Action::Wait { because, .. } if because.news == News::Nothing => {
                write!(f, "still waiting, {} to go", Seconds(because.wait))
            }
            Action::Wait { reason, because, .. } => {
                write!(f, "{because}waiting {}", Seconds(because.wait))?;
                match (reason, because.backoff) {
                    (WaitReason::Backoff, Some(backoff)) => write!(f, " ({backoff}"),
                    (WaitReason::Backoff, None) => write!(f, " (back-off"),
                    (WaitReason::Hint(HintSource::RetryAfterMs), _) => write!(f, " (retry-after in milliseconds"),
                    (WaitReason::Hint(HintSource::RetryAfter), _) => write!(f, " (retry-after"),
                    (WaitReason::Hint(HintSource::RateLimitReset), _) => write!(f, " (reset of the rate limit"),
                    (WaitReason::Gate, _) => write!(f, " (the upstream is closed to all requests"),
                }?;
                match because.hint {
                    Some(hint) if reason != WaitReason::Hint(hint.source()) && hint.nanos() > 0 => {
                        write!(f, ", which is longer than the {} that the server asked for)", Seconds(hint.nanos()))
                    }
                    _ => f.write_str(")"),
                }
            }
            Action::RefreshToken { because, .. } => write!(f, "{because}refreshing the token"),
            Action::AwaitToken { because, .. } => write!(f, "{because}another request refreshes the token"),
            Action::InFlight { because, .. } => write!(f, "{because}an attempt or a refresh is under way"),
            Action::Done { status, because } => {
                if because.rejected.is_empty() {
                    write!(f, "done with {status}")
                } else {
                    write!(f, "done with {status} ({})", because.rejected)
                }
            }
            Action::Surface(failure) => failure.fmt(f),
        }
    }
}

/// "attempt 3 of 6 got 503; ", or nothing where there is nothing to tell.
impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Because { attempt, of, .. } = self;
        match self.news {
            News::Nothing | News::Begin => Ok(()),
            News::Status(status) if self.rejected.is_empty() => write!(f, "attempt {attempt} of {of} got {status}; "),
            News::Status(status) => write!(f, "attempt {attempt} of {of} got {status} ({}); ", self.rejected),
            News::Transport(error) => {
                let what = match error {
                    TransportError::NotSent => "could not be sent",
                    TransportError::TimedOut => "timed out",
                    TransportError::Broken => "was cut off",
                    TransportError::Other => "failed in transport",
                };
                write!(f, "attempt {attempt} of {of} {what}; ")
            }
            News::LateHint(status) => write!(f, "a late {status} asks for more time; "),
            News::WaitOver => write!(f, "the wait is over; "),
            News::NewToken => write!(f, "there is a new token; "),
            News::NoNewToken => write!(f, "there is no new token, but the old one is valid still; "),
        }
    }
}
