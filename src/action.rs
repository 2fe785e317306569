//! The actions that the machine asks its driver to take, and the facts behind them.

use core::fmt;

use crate::event::TransportErrorKind;
use crate::failure::Failure;
use crate::reply::{BearerErrorCode, HintSource, RejectedFields};
use crate::time::{Seconds, Timestamp};

/// The next thing for the driver to do. The `Display` form explains it in one sentence (rule E2).
///
/// Exhaustive on purpose: a driver must handle every action, and a new one would be a new duty for it.
///
/// ```
/// use retry_machine::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
///
/// let action = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
/// assert_eq!(action.to_string(), "sending attempt 1 with token 0");
///
/// let event = Event::Reply { attempt: 1, reply: Reply::new(401) };
/// let action = machine.handle(Timestamp::from_millis(80), event, &mut upstream);
/// assert!(matches!(action, Action::RefreshToken { .. }) && !action.is_terminal());
/// assert_eq!(action.to_string(), "attempt 1 of 7 got 401; refreshing the token");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "the machine waits for its action to be carried out"]
#[allow(clippy::exhaustive_enums, clippy::exhaustive_structs)]
pub enum Action {
    /// Send the request, then report the result with [`Event::Reply`](crate::Event::Reply) or
    /// [`Event::TransportError`](crate::Event::TransportError). Emitted once per attempt.
    Send {
        /// The attempt's number, from 1. Attempts after a token refresh count, too.
        attempt: u32,
        /// The generation of the token to use: the current one (rule K4). `None`: the login has no token (rule K9).
        generation: Option<u32>,
        /// The instant at which to give the attempt up: the earlier of its own limit and the request's deadline (rule
        /// S4). `None` if the policy sets neither.
        until: Option<Timestamp>,
        /// The facts behind the action.
        explanation: Explanation,
    },
    /// Send a [`Tick`](crate::Event::Tick) at `until`. An earlier tick is harmless and returns the same wait.
    Wait {
        /// The end of the wait.
        until: Timestamp,
        /// The limit that decided the end.
        reason: WaitReason,
        /// The numbers behind the wait.
        details: WaitDetails,
        /// The facts behind the action.
        explanation: Explanation,
    },
    /// Refresh the token, report the outcome with [`Login::report_refresh`](crate::Login::report_refresh), then send a
    /// [`Tick`](crate::Event::Tick). Emitted once per lease: no other request of this login refreshes the token before
    /// `until` (rules K3, K5). Send a tick at `until` at the latest.
    RefreshToken {
        /// The number of the lease, from 1: report the outcome with it.
        lease: u32,
        /// The generation of the token to replace.
        generation: u32,
        /// The end of the lease.
        until: Timestamp,
        /// The error that the challenge of a 401, or its body's code, named (rule D12). `None` ahead of expiry.
        challenge: Option<BearerErrorCode>,
        /// The facts behind the action.
        explanation: Explanation,
    },
    /// Wait while another request refreshes the token. Send a [`Tick`](crate::Event::Tick) when
    /// [`Login::wakeups`](crate::Login::wakeups) has changed, and at `until` at the latest (rule K8).
    AwaitRefresh {
        /// The end of the other request's lease, or this request's deadline if that is earlier.
        until: Timestamp,
        /// The facts behind the action.
        explanation: Explanation,
    },
    /// Do nothing: an attempt or a refresh is under way, and the event did not change that (rule T4).
    InFlight {
        /// The instant at which the next tick matters (attempt limit, lease end or deadline). `None` if none does.
        until: Option<Timestamp>,
        /// The facts behind the action.
        explanation: Explanation,
    },
    /// Stop: the response with this status is the answer. Every later event returns the same action.
    Done {
        /// The answer's status.
        status: u16,
        /// The facts behind the action.
        explanation: Explanation,
    },
    /// Stop: the request failed, and the user should know. Every later event returns the same action.
    Fail(Failure),
}

impl Action {
    /// Returns whether this action ends the request: [`Done`](Action::Done) or [`Fail`](Action::Fail).
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Action::Done { .. } | Action::Fail(_))
    }

    /// Returns the number of the last attempt sent, 0 before the first. For [`Send`](Action::Send) it is the attempt to
    /// send.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        match self {
            // The explanation of a send is about the attempt before it.
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

/// The limit that decided the end of a wait. Of several limits the one that ends last decides; of equal ones, the first
/// in this list (rule F3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a wait has no other reasons")]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WaitReason {
    /// The policy's own back-off (rules B1, B2).
    Backoff,
    /// The time that the server asked for (rules L1, L2).
    Hint(HintSource),
    /// The gate: it is closed, or a queue is in front of it (rules S1, S7).
    Gate,
}

/// The facts behind an action, as numbers and small enumerations (rule E2).
///
/// Opaque, so that a later version can add facts. The `Display` form is the first clause of the action's sentence, or
/// empty if the event told nothing new.
///
/// ```
/// use retry_machine::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
/// let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
/// let event = Event::Reply { attempt: 1, reply: Reply::new(503) };
/// let action = machine.handle(Timestamp::from_millis(80), event, &mut upstream);
///
/// let Action::Wait { explanation, .. } = action else { panic!("{action}") };
/// assert_eq!(explanation.to_string(), "attempt 1 of 6 got 503; ");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Explanation {
    /// The last attempt sent, 0 before the first.
    pub(crate) attempt: u32,
    /// The greatest number of attempts of the request.
    pub(crate) max_attempts: u32,
    pub(crate) trigger: Trigger,
    /// How to read the range in [`WaitDetails`].
    pub(crate) backoff: RangeForm,
    pub(crate) rejected: RejectedFields,
}

/// The numbers behind a wait, for the sentence of its action (rule E2). Opaque, so that a later version can add some.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WaitDetails {
    // All in nanoseconds.
    /// The length of the wait, or what is left of it.
    pub(crate) wait: u64,
    /// The hint that the wait is longer than. Zero: there is none.
    pub(crate) hint: u64,
    /// The range from which the back-off was drawn.
    pub(crate) backoff_low: u64,
    pub(crate) backoff_high: u64,
}

/// How the range of a back-off reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum RangeForm {
    /// None was drawn.
    #[default]
    None,
    /// It lies around the back-off without jitter: 4 s ± 0.5 s.
    Centered,
    /// Between two ends.
    Uneven,
}

/// The news that the event brought and that led to the action.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Trigger {
    /// Nothing new.
    #[default]
    Nothing,
    /// The request finds the gate closed, or a queue in front of it.
    GateClosed,
    /// The attempt got a response with this status.
    Status(u16),
    /// The attempt failed in transport.
    TransportError(TransportErrorKind),
    /// A late reply with this status asked for a longer wait.
    LateHint(u16),
    WaitOver,
    NewToken,
    /// K7: a refresh ahead of expiry failed, and the current token is still valid.
    TokenKept,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::Send { attempt, generation: Some(token), explanation, .. } => {
                write!(f, "{explanation}sending attempt {attempt} with token {token}")
            }
            Action::Send { attempt, generation: None, explanation, .. } => {
                write!(f, "{explanation}sending attempt {attempt}")
            }
            Action::Wait { details, explanation, .. } if explanation.trigger == Trigger::Nothing => {
                write!(f, "still waiting, {} to go", Seconds(details.wait))
            }
            Action::Wait { reason, details, explanation, .. } => {
                write!(f, "{explanation}waiting {}", Seconds(details.wait))?;
                match reason {
                    WaitReason::Backoff => details.fmt_backoff(explanation.backoff, f),
                    WaitReason::Hint(HintSource::RetryAfterMs) => write!(f, " (retry-after in milliseconds"),
                    WaitReason::Hint(HintSource::RetryAfter) => write!(f, " (retry-after"),
                    WaitReason::Hint(HintSource::RateLimitReset) => write!(f, " (rate-limit reset"),
                    WaitReason::Hint(HintSource::Told) => write!(f, " (as the service told the driver"),
                    WaitReason::Hint(HintSource::Pushback) => write!(f, " (pushback"),
                    WaitReason::Gate => write!(f, " (its turn at the gate"),
                }?;
                match details.hint {
                    0 => f.write_str(")"),
                    hint => write!(f, ", which is longer than the {} that the server asked for)", Seconds(hint)),
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

impl WaitDetails {
    /// " (back-off 4 s ± 0.5 s".
    fn fmt_backoff(self, range: RangeForm, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.backoff_low, self.backoff_high);
        match range {
            RangeForm::None => write!(f, " (back-off"),
            _ if low == high => write!(f, " (back-off {}", Seconds(low)),
            RangeForm::Centered => {
                let half = (high - low) / 2;
                write!(f, " (back-off {} ± {}", Seconds(low + half), Seconds(half))
            }
            RangeForm::Uneven => write!(f, " (back-off between {} and {}", Seconds(low), Seconds(high)),
        }
    }
}

/// "attempt 3 of 6 got 503; ", or nothing if the event told nothing new.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { attempt, max_attempts, .. } = self;
        match self.trigger {
            Trigger::Nothing | Trigger::GateClosed => Ok(()),
            Trigger::Status(status) if self.rejected.is_empty() => {
                write!(f, "attempt {attempt} of {max_attempts} got {status}; ")
            }
            Trigger::Status(status) => {
                write!(f, "attempt {attempt} of {max_attempts} got {status} ({}); ", self.rejected)
            }
            Trigger::TransportError(error) => {
                let failed = match error {
                    TransportErrorKind::NotSent => "could not be sent",
                    TransportErrorKind::TimedOut => "timed out",
                    TransportErrorKind::Broken => "was cut off",
                    TransportErrorKind::Unprocessed => "was not processed",
                    TransportErrorKind::Permanent => "cannot succeed",
                    TransportErrorKind::Other => "failed in transport",
                };
                write!(f, "attempt {attempt} of {max_attempts} {failed}; ")
            }
            Trigger::LateHint(status) => write!(f, "a late {status} asks for more time; "),
            Trigger::WaitOver => write!(f, "the wait is over; "),
            Trigger::NewToken => write!(f, "there is a new token; "),
            Trigger::TokenKept => write!(f, "the refresh failed, but the current token is still valid; "),
        }
    }
}
