//! The state machine of one request: one `match` owns all its transitions.

mod failing;
mod flags;
mod hearing;
mod late;
mod refreshing;
mod sending;
#[cfg(feature = "serde")]
pub(crate) mod snapshot;
mod waiting;

use self::flags::Flags;
use crate::action::{Action, Because, WaitReason};
use crate::event::{Event, Repeat};
use crate::failure::{Cause, Failure, FailureKind};
use crate::reply::Rejected;
use crate::time::Time;
use crate::upstream::Upstream;
use crate::upstream::breaker::{Health, Ticket};
use crate::upstream::token::Stamp;

/// Decides for one request whether, when and with which token to try again.
///
/// Pure: it reads no clock, draws no randomness from outside and does no IO (rule T1). 64 bytes, no heap. Not `Copy`,
/// since a silent copy would hold the same lead twice (rule T6).
///
/// ```compile_fail,E0277
/// fn copied<T: Copy>() {}
/// copied::<retry_machine::RetryMachine>();
/// ```
///
/// ```
/// use retry_machine::{Action, Event, Policy, Repeat, Reply, RetryMachine, Time, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Repeat::Safe, 7);
///
/// let action = machine.handle(Time::ZERO, Event::Start, &mut upstream);
/// assert!(matches!(action, Action::Send { attempt: 1, .. }));
///
/// let action = machine.handle(Time::from_millis(80), Event::Reply(1, Reply::new(503)), &mut upstream);
/// assert!(matches!(action, Action::Wait { .. }), "{action}");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RetryMachine {
    seed: u64,
    started: Time,
    /// The server asked this request not to call before. Of a failed request: what its failure says of it.
    not_before: Time,
    /// The end of the wait, of the attempt if there is a limit, or of the lease. Of an ended request: when it ended.
    until: Time,
    /// Nanoseconds spent at the gate. Of an ended request: what its last reply had rejected.
    gate_time: u64,
    /// How many were sent.
    attempts: u32,
    /// The lease that is led or followed, else when the newest attempt took its token.
    stamp: Stamp,
    /// When the newest attempt was sent, in the breaker's order, and the first attempt since the opening before that.
    ticket: Ticket,
    first_heard: u32,
    /// The last status; see [`Flags::HAS_STATUS`].
    status: u16,
    /// How often it waited at the gate before a send. Wraps: it only tells draws apart. Of an ended request: which of its
    /// last eight attempts have succeeded, a bit each.
    gate_waits: u8,
    recoveries: u8,
    phase: Phase,
    /// What the last attempt failed of.
    cause: Option<Cause>,
    flags: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum Phase {
    /// Not begun.
    Ready,
    /// An attempt is under way.
    InFlight,
    Waiting(WaitReason),
    /// It refreshes the token.
    Leading,
    /// Another request refreshes the token; this is the how-manieth wait for one.
    Following(u8),
    Done,
    Failed(FailureKind),
}

impl RetryMachine {
    /// A request that has not begun. `seed` must differ from request to request (rule T5):
    /// [`derive_seed`](crate::derive_seed) makes many of one.
    #[must_use]
    pub const fn new(repeat: Repeat, seed: u64) -> RetryMachine {
        RetryMachine {
            seed,
            started: Time::ZERO,
            not_before: Time::ZERO,
            until: Time::ZERO,
            gate_time: 0,
            attempts: 0,
            stamp: Stamp::NONE,
            ticket: Ticket::NONE,
            first_heard: 0,
            status: 0,
            gate_waits: 0,
            recoveries: 0,
            phase: Phase::Ready,
            cause: None,
            flags: Flags::new(repeat),
        }
    }

    /// Takes an event that happened at `now` and says what to do next.
    ///
    /// Total: any event at any time in any order has a defined answer (rule T3). A `now` before the latest that
    /// `upstream` has seen counts as that latest (rule T2). `upstream` must be the same for the request's whole life.
    pub fn handle(&mut self, now: Time, event: Event, upstream: &mut Upstream) -> Action {
        let now = upstream.advance(now);
        let because = Because::default();
        Step { machine: self, upstream, now, because }.take(event)
    }

    /// When the next [`Tick`](Event::Tick) would matter, if ever. Ticks at other times are harmless.
    #[must_use]
    pub fn next_tick(&self, upstream: &Upstream) -> Option<Time> {
        match self.phase {
            Phase::InFlight => self.limit(upstream),
            Phase::Waiting(_) => Some(self.until),
            Phase::Leading | Phase::Following(_) => {
                Some(self.deadline(upstream).map_or(self.until, |deadline| deadline.min(self.until)))
            }
            Phase::Ready | Phase::Done | Phase::Failed(_) => None,
        }
    }

    /// How many attempts were sent.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The attempt that is under way, if one is.
    #[must_use]
    pub const fn in_flight(&self) -> Option<u32> {
        match self.phase {
            Phase::InFlight => Some(self.attempts),
            _ => None,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Failed(_))
    }

    /// The end of the attempt in flight, if there is a limit (S4).
    fn limit(&self, upstream: &Upstream) -> Option<Time> {
        let policy = &upstream.policy;
        (policy.deadline.is_some() || policy.attempt_timeout.is_some()).then_some(self.until)
    }

    fn deadline(&self, upstream: &Upstream) -> Option<Time> {
        upstream.policy.deadline.map(|limit| self.started.after(limit))
    }

    fn failure(&self, kind: FailureKind) -> Failure {
        Failure {
            kind,
            status: self.flags.has(Flags::HAS_STATUS).then_some(self.status),
            attempts: self.attempts,
            elapsed: self.until.since(self.started),
            not_before: (self.not_before != Time::ZERO).then_some(self.not_before),
            cause: self.cause,
            ended: self.until,
            rejected: Rejected::from_bits(self.gate_time),
        }
    }
}

/// One call of [`RetryMachine::handle`].
struct Step<'a> {
    machine: &'a mut RetryMachine,
    upstream: &'a mut Upstream,
    now: Time,
    because: Because,
}

impl Step<'_> {
    /// The transitions. What does not stand here changes nothing, and is answered with the action that is due still.
    fn take(&mut self, event: Event) -> Action {
        use Event::{Cancel, Reply, Start, Tick, Token, TransportError};
        use Phase::{Done, Failed, Following, InFlight, Leading, Ready, Waiting};

        let over = self.now >= self.machine.until;
        let newest = self.machine.attempts;
        match (self.machine.phase, event) {
            (Ready, event) => self.begin(event),

            (InFlight, Reply(attempt, reply)) if attempt == newest => self.answered(&reply),
            (InFlight, TransportError(attempt, error)) if attempt == newest => self.broke(error),
            (InFlight, Tick) if over && self.machine.limit(self.upstream).is_some() => {
                self.broke(crate::event::TransportError::TimedOut)
            }

            // F7: only ticks end waits. T4: never sooner.
            (Waiting(reason), Tick) if over => self.wait_over(reason),

            (Leading, Token(outcome)) => self.refreshed(outcome),
            (Leading, Tick) => self.lead_on(),
            (Following(waits), Tick) => self.follow_on(waits),

            // What comes late or unasked, T3.
            (_, Reply(attempt, reply)) => self.late_reply(attempt, &reply),
            (_, TransportError(attempt, _)) => self.late_error(attempt),
            (_, Token(outcome)) if self.settle(outcome) => self.again(),
            (_, Token(_)) => self.take(Tick),

            (Done | Failed(_), Cancel) | (_, Start | Tick) => self.again(),
            (_, Cancel) => self.fail(FailureKind::Cancelled),
        }
    }

    // ---- The end ----

    fn done(&mut self, attempt: u32, status: u16) -> Action {
        self.end(Phase::Done);
        self.machine.not_before = Time::ZERO;
        self.machine.status = status;
        if matches!(status, 200..=299) {
            self.note_success(attempt);
        }
        self.again()
    }

    fn fail(&mut self, kind: FailureKind) -> Action {
        self.end(Phase::Failed(kind));
        let known = [
            Some(self.machine.not_before).filter(|hint| *hint > self.now),
            self.upstream.gate.asked_until(self.now),
            self.upstream.breaker.next_probe(self.now),
        ];
        self.machine.not_before = known.into_iter().flatten().max().unwrap_or(Time::ZERO);
        self.again()
    }

    fn end(&mut self, phase: Phase) {
        // F5: the refresh may still be under way when a deadline ends the request; else it is abandoned.
        if self.machine.flags.has(Flags::HOLDS_LEASE) && phase != Phase::Failed(FailureKind::Deadline) {
            self.upstream.token.free(self.machine.stamp);
        }
        // S6: a probe that is under way gives its permit back; its result counts, if it comes.
        if self.machine.flags.has(Flags::UNANSWERED) {
            self.record(Health::Neutral, self.machine.attempts);
        }
        self.machine.gate_waits = 0;
        self.machine.until = self.now;
        self.machine.gate_time = self.because.rejected.to_bits();
        self.machine.phase = phase;
    }

    // ---- Answers ----

    fn is_past_deadline(&self) -> bool {
        self.machine.deadline(self.upstream).is_some_and(|deadline| self.now >= deadline)
    }

    /// The action that is due: after a transition into it, and again after an event that changed nothing.
    fn again(&self) -> Action {
        let because = self.because();
        match self.machine.phase {
            Phase::Waiting(reason) => Action::Wait { until: self.machine.until, reason, because },
            Phase::Following(_) => {
                let until = self.machine.next_tick(self.upstream).unwrap_or(self.machine.until);
                Action::AwaitToken { until, because }
            }
            Phase::Ready | Phase::InFlight | Phase::Leading => {
                Action::InFlight { until: self.machine.next_tick(self.upstream), because }
            }
            Phase::Done => {
                let rejected = Rejected::from_bits(self.machine.gate_time);
                let because = Because { attempt: because.attempt, rejected, ..Because::default() };
                Action::Done { status: self.machine.status, because }
            }
            Phase::Failed(kind) => Action::Surface(self.machine.failure(kind)),
        }
    }

    fn because(&self) -> Because {
        Because {
            attempt: self.machine.attempts,
            of: self.upstream.policy.max_retries.saturating_add(1).saturating_add(self.machine.recoveries.into()),
            wait: self.machine.until.since(self.now),
            ..self.because
        }
    }
}

const _: () = assert!(size_of::<RetryMachine>() <= 64);
