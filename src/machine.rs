//! The state machine of one request: one `match` owns all its transitions.

mod ended;
mod flags;
mod judge;
mod late;
mod limits;
mod refresh;
mod response;
mod retry;
mod send;
#[cfg(feature = "serde")]
pub(crate) mod snapshot;
mod state;
mod wait;

use self::ended::{Ended, Successes};
use self::flags::Flags;
use self::limits::Limits;
pub use self::limits::RequestLimits;
use crate::action::{Action, Explanation, RangeForm, WaitDetails, WaitReason};
use crate::backoff::Backoff;
use crate::event::{Event, Idempotency, TransportErrorKind};
use crate::failure::FailureKind;
use crate::policy::Policy;
use crate::reply::{BearerErrorCode, Hint};
use crate::time::Timestamp;
use crate::upstream::Scope;
use crate::upstream::breaker::{Health, SendEpoch};
use crate::upstream::budget::Paid;
use crate::upstream::gate::{Gate, Slot};
use crate::upstream::login::{Login, TokenOrLease};
use crate::upstream::service::Service;

/// Decides for one request whether, when and with which token to try again.
///
/// Pure: it does not read a clock, draw randomness from outside or do IO (rule T1). It takes at most 96 bytes and no
/// heap (rule S5). [`drive`](crate::drive) has the loop that drives it.
///
/// ```
/// use retry_machine::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
///
/// let action = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
/// assert!(matches!(action, Action::Send { attempt: 1, .. }));
///
/// let event = Event::Reply { attempt: 1, reply: Reply::new(503) };
/// let action = machine.handle(Timestamp::from_millis(80), event, &mut upstream);
/// assert!(matches!(action, Action::Wait { .. }), "{action}");
/// ```
///
/// It is not `Copy`, since two copies would hold the same lease (rule T6).
///
/// ```compile_fail,E0277
/// fn copied<T: Copy>() {}
/// copied::<retry_machine::RetryMachine>();
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RetryMachine {
    seed: u64,
    started: Timestamp,
    // Once the request has ended, the next four fields have another meaning: `ended.rs` draws both layouts.
    /// The server asked this request not to call before (L1).
    not_before: Timestamp,
    /// The end of the wait, of the attempt if it has a limit, or of the lease.
    until: Timestamp,
    /// Nanoseconds spent in waits for hints and at the gate, the wait under way as planned (C13).
    server_time: u64,
    /// The place in the queue at the gate; see [`Flags::IN_QUEUE`].
    slot: Slot,
    /// The end of the last reply's hint, whether it binds the request or not (E1). Zero: none.
    last_hint: Timestamp,
    /// Number of attempts sent.
    attempts: u32,
    /// While an attempt is under way, the token that it was sent with (K4). While the request leads or follows, the lease.
    token_or_lease: TokenOrLease,
    /// The breaker's epoch when the newest attempt was sent.
    send_epoch: SendEpoch,
    /// The first attempt sent since the breaker's latest opening.
    first_since_opening: u32,
    /// The cost of the request's retries that no answer has given back (C3).
    paid: Paid,
    /// The last status; see [`Flags::HAS_STATUS`].
    status: u16,
    /// Number of retries after throttles (B5).
    throttled_retries: u16,
    limits: Limits,
    recoveries: u8,
    /// The error that the challenge or the code of the last reply named.
    challenge: Option<BearerErrorCode>,
    phase: Phase,
    /// Yes-or-no facts, the source of the hint, and why the last attempt failed.
    flags: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum Phase {
    /// The request has not begun.
    Ready,
    /// An attempt is under way.
    InFlight,
    Waiting(WaitReason),
    /// The request refreshes the token.
    Leading,
    /// Another request refreshes the token. `Following(n)`: the nth lease that this request waits for.
    Following(u8),
    Done,
    Failed(FailureKind),
}

impl RetryMachine {
    /// Creates the machine of a request that has not begun. `seed` must differ from request to request (rule T5):
    /// [`derive_seed`](crate::derive_seed) derives many seeds from one.
    #[must_use]
    pub const fn new(idempotency: Idempotency, seed: u64) -> RetryMachine {
        RetryMachine {
            seed,
            started: Timestamp::ZERO,
            not_before: Timestamp::ZERO,
            until: Timestamp::ZERO,
            server_time: 0,
            slot: Slot(0),
            last_hint: Timestamp::ZERO,
            attempts: 0,
            token_or_lease: TokenOrLease::NONE,
            send_epoch: SendEpoch::NONE,
            first_since_opening: 0,
            paid: Paid::NOTHING,
            status: 0,
            throttled_retries: 0,
            limits: Limits::NONE,
            recoveries: 0,
            challenge: None,
            phase: Phase::Ready,
            flags: Flags::new(idempotency),
        }
    }

    /// Takes an event that happened at `now` and returns what to do next.
    ///
    /// Total: any event at any time in any order has a defined answer (rule T3). A `now` before the latest that the
    /// service has seen counts as that latest (rule T2).
    ///
    /// `shared` is an `&mut Upstream`, or a [`Scope`] of parts (rule S8). It must be the same for the request's whole life.
    #[inline]
    pub fn handle<'a>(&mut self, now: Timestamp, event: Event, shared: impl Into<Scope<'a>>) -> Action {
        self.step(now, event, shared.into())
    }

    fn step(&mut self, now: Timestamp, event: Event, Scope { service, login, gate }: Scope<'_>) -> Action {
        let now = service.advance(now);
        // A policy without a gate meets an open one.
        let mut open_gate;
        let gate = if service.policy.gate {
            gate
        } else {
            open_gate = Gate::new();
            &mut open_gate
        };
        let was_closed = gate.is_closed(now);
        let mut step = Step {
            machine: self,
            service,
            login,
            gate,
            now,
            explanation: Explanation::default(),
            backoff: None,
            hint: None,
            refused: None,
            is_new: false,
            was_closed,
            closed_gate: false,
        };
        step.transition(event);
        step.action()
    }

    /// Returns the instant at which the next [`Tick`](Event::Tick) matters, if one does. Earlier ticks are harmless
    /// (rule T4). `policy` is that of the request's service.
    #[must_use]
    pub fn next_tick(&self, policy: &Policy) -> Option<Timestamp> {
        match self.phase {
            Phase::InFlight => self.limit(policy),
            Phase::Waiting(_) => Some(self.until),
            Phase::Leading | Phase::Following(_) => {
                Some(self.deadline(policy).map_or(self.until, |deadline| deadline.min(self.until)))
            }
            Phase::Ready | Phase::Done | Phase::Failed(_) => None,
        }
    }

    /// Returns the number of attempts sent.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the number of the lease under which this request refreshes the token, or waits for the request that does.
    /// `None` if it does neither.
    #[must_use]
    pub const fn lease(&self) -> Option<u32> {
        match self.phase {
            Phase::Leading | Phase::Following(_) => Some(self.token_or_lease.lease().0),
            _ => None,
        }
    }

    /// Returns the number of the attempt that is under way, if one is.
    #[must_use]
    pub const fn in_flight(&self) -> Option<u32> {
        match self.phase {
            Phase::InFlight => Some(self.attempts),
            _ => None,
        }
    }
}

/// One call of [`RetryMachine::handle`]: the event changes the state, then the state determines the action.
struct Step<'a> {
    machine: &'a mut RetryMachine,
    service: &'a mut Service,
    login: &'a mut Login,
    gate: &'a mut Gate,
    now: Timestamp,
    /// The facts of this step, for the action's sentence, and those of a wait that begins in it.
    explanation: Explanation,
    backoff: Option<Backoff>,
    hint: Option<Hint>,
    /// The end of the wait that was refused in this step.
    refused: Option<Timestamp>,
    /// Whether this step began the attempt or the refresh that is now under way.
    is_new: bool,
    /// Whether the gate was closed before this step.
    was_closed: bool,
    /// Whether this step closed the gate, so that its request passes first (C10).
    closed_gate: bool,
}

impl Step<'_> {
    /// Applies an event to the state: all transitions. Pairs not listed leave the state unchanged and repeat the
    /// pending action.
    fn transition(&mut self, event: Event) {
        use Event::{Cancel, Reply, Start, Tick, TransportError};
        use Phase::{Done, Failed, Following, InFlight, Leading, Ready, Waiting};

        let is_over = self.now >= self.machine.until;
        let newest = self.machine.attempts;
        match (self.machine.phase, event) {
            (Ready, event) => self.begin(event),

            (InFlight, Reply { attempt, reply }) if attempt == newest => self.on_reply(&reply),
            (InFlight, TransportError { attempt, kind }) if attempt == newest => self.on_transport_error(kind),
            (InFlight, Tick) if is_over && self.has_limit() => self.on_transport_error(TransportErrorKind::TimedOut),

            // F7: only ticks end waits. T4: never sooner.
            (Waiting(reason), Tick) if is_over => self.on_wait_end(reason),

            // K8: the login is asked first.
            (Leading, Tick) => self.on_leader_tick(),
            (Following(waits), Tick) => self.on_follower_tick(waits),

            // T3: late and unsolicited events.
            (_, Reply { attempt, reply }) => self.on_late_reply(attempt, &reply),
            (_, TransportError { attempt, kind }) => self.on_late_transport_error(attempt, kind),

            (InFlight | Waiting(_) | Leading | Following(_), Cancel) => self.fail(FailureKind::Cancelled),
            (Done | Failed(_), Cancel) | (_, Start | Tick) => {}
        }
    }

    /// Returns whether the attempt in flight has a limit (S4).
    fn has_limit(&self) -> bool {
        self.machine.limit(&self.service.policy).is_some()
    }

    /// Ends the request with the response of this attempt as its answer.
    fn succeed(&mut self, attempt: u32, status: u16) {
        self.release();
        let mut successes = Successes::NONE;
        if let (200..=299, Some(age)) = (status, self.machine.age(attempt)) {
            let _ = successes.insert(age);
        }
        self.machine.status = status;
        let rejected = self.explanation.rejected;
        self.machine.set_ended(Phase::Done, Ended { at: self.now, not_before: None, rejected, successes });
    }

    /// Ends the request without an answer.
    fn fail(&mut self, kind: FailureKind) {
        // First, so that the request's own probe does not count as the next probe.
        self.release();
        let ended = Ended {
            at: self.now,
            not_before: self.latest_known_instant(),
            rejected: self.explanation.rejected,
            successes: Successes::NONE,
        };
        self.machine.set_ended(Phase::Failed(kind), ended);
    }

    /// Gives back the probe's permit (S6) and the slot that the request holds. A lease stays, since the refresh may be under
    /// way (K5).
    fn release(&mut self) {
        if self.machine.flags.has(Flags::UNANSWERED) {
            self.record_health(Health::Neutral, self.machine.attempts);
        }
        if self.machine.flags.has(Flags::IN_QUEUE) {
            self.machine.flags.set(Flags::IN_QUEUE, false);
            self.gate.give_back(self.machine.slot);
        }
        self.machine.flags.set(Flags::IS_HEAD, false);
    }

    #[cfg_attr(target_pointer_width = "32", inline(never))]
    fn is_past_deadline(&self) -> bool {
        self.machine.deadline(&self.service.policy).is_some_and(|deadline| self.now >= deadline)
    }

    /// Builds the pending action from the state.
    fn action(&self) -> Action {
        let machine = &*self.machine;
        let mut explanation = Explanation {
            attempt: machine.attempts,
            max_attempts: machine.limits.max_attempts(&self.service.policy)
                + u32::from(machine.recoveries)
                + u32::from(machine.flags.has(Flags::REPEATED)),
            ..self.explanation
        };
        match machine.phase {
            Phase::InFlight if self.is_new => {
                // The explanation of a send is about the attempt before it.
                explanation.attempt = machine.attempts - 1;
                Action::Send {
                    attempt: machine.attempts,
                    generation: self.login.generation(),
                    until: machine.limit(&self.service.policy),
                    explanation,
                }
            }
            Phase::Leading if self.is_new => Action::RefreshToken {
                lease: machine.token_or_lease.lease().0,
                generation: self.login.generation().unwrap_or(0),
                until: machine.until,
                challenge: machine.challenge,
                explanation,
            },
            Phase::Ready | Phase::InFlight | Phase::Leading => {
                Action::InFlight { until: machine.next_tick(&self.service.policy), explanation }
            }
            Phase::Waiting(reason) => {
                explanation.backoff = self.backoff.map_or(RangeForm::None, |backoff| backoff.form());
                let details = self.wait_details(reason);
                Action::Wait { until: machine.until, reason, details, explanation }
            }
            Phase::Following(_) => {
                let until = machine.next_tick(&self.service.policy).unwrap_or(machine.until);
                Action::AwaitRefresh { until, explanation }
            }
            Phase::Done => machine.answer(),
            Phase::Failed(kind) => Action::Fail(machine.failure(kind)),
        }
    }

    fn wait_details(&self, reason: WaitReason) -> WaitDetails {
        let (backoff_low, backoff_high) = self.backoff.map_or((0, 0), |backoff| (backoff.low, backoff.high));
        let hint = self.hint.filter(|hint| reason != WaitReason::Hint(hint.source()));
        WaitDetails {
            wait: self.machine.until.since(self.now),
            hint: hint.map_or(0, Hint::nanos),
            backoff_low,
            backoff_high,
        }
    }
}

const _: () = assert!(size_of::<RetryMachine>() <= 96);
