//! A request that has ended: four fields of the machine then have another meaning, which only this file knows.
//!
//! ```text
//!     field        while the request runs                    once it has ended
//!     until        end of the wait, attempt or lease         when it ended
//!     not_before   the hint that binds it                    `not_before` of its failure; zero: unknown
//!     server_time  nanoseconds spent waiting for the server  the rejected fields of its last reply
//!     slot         its place in the queue at the gate        the successes among its last eight attempts, one bit each
//! ```

use super::{Flags, Phase, RetryMachine, Step};
use crate::action::{Action, Explanation};
use crate::failure::{Failure, FailureKind};
use crate::reply::RejectedFields;
use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::upstream::gate::Slot;

/// The facts of a request that has ended.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    /// The instant from which another request is welcome, if one is known.
    pub(super) not_before: Option<Timestamp>,
    pub(super) rejected: RejectedFields,
    pub(super) successes: Successes,
}

/// Which of the last eight attempts succeeded: bit 0 stands for the newest attempt.
#[derive(Clone, Copy)]
pub(super) struct Successes(u8);

impl Successes {
    pub(super) const NONE: Successes = Successes(0);

    /// Adds the attempt that was sent `age` attempts before the newest. Returns whether it was not in the set and is
    /// recent enough to be remembered.
    #[must_use]
    pub(super) fn insert(&mut self, age: u32) -> bool {
        let bit = 1_u8.checked_shl(age).unwrap_or(0);
        let is_first = bit & !self.0 != 0;
        self.0 |= bit;
        is_first
    }
}

impl RetryMachine {
    /// Returns the facts of the request, if it has ended.
    pub(super) fn ended(&self) -> Option<Ended> {
        matches!(self.phase, Phase::Done | Phase::Failed(_)).then(|| self.view())
    }

    /// Ends the request, or replaces the facts of one that has ended.
    pub(super) fn set_ended(&mut self, phase: Phase, ended: Ended) {
        self.phase = phase;
        self.until = ended.at;
        self.not_before = ended.not_before.unwrap_or(Timestamp::ZERO);
        self.server_time = ended.rejected.to_bits();
        self.slot = Slot(ended.successes.0.into());
    }

    /// Returns the terminal action of the request, if it has ended.
    #[cfg(feature = "std")]
    pub(crate) fn terminal_action(&self) -> Option<Action> {
        match self.phase {
            Phase::Done => Some(self.answer()),
            Phase::Failed(kind) => Some(Action::Fail(self.failure(kind))),
            Phase::Ready | Phase::InFlight | Phase::Waiting(_) | Phase::Leading | Phase::Following(_) => None,
        }
    }

    /// Returns the terminal action of a request that was answered.
    pub(super) fn answer(&self) -> Action {
        let rejected = self.view().rejected;
        let explanation = Explanation { attempt: self.attempts, rejected, ..Explanation::default() };
        Action::Done { status: self.status, explanation }
    }

    /// Returns the failure of a request that ended with this kind (E1).
    pub(super) fn failure(&self, kind: FailureKind) -> Failure {
        let Ended { at, not_before, rejected, .. } = self.view();
        Failure {
            kind,
            status: self.flags.has(Flags::HAS_STATUS).then_some(self.status),
            attempts: self.attempts,
            elapsed: at.since(self.started),
            ended: at,
            not_before,
            cause: self.flags.cause(),
            rejected,
            challenge: self.challenge,
        }
    }

    /// Moves the instants of the end to another clock.
    #[cfg(feature = "serde")]
    pub(super) fn rebase_ended(&mut self, shift: Shift) {
        let mut ended = self.view();
        shift.exact(&mut ended.at);
        if let Some(not_before) = &mut ended.not_before {
            shift.exact(not_before);
        }
        self.set_ended(self.phase, ended);
    }

    fn view(&self) -> Ended {
        Ended {
            at: self.until,
            not_before: (self.not_before != Timestamp::ZERO).then_some(self.not_before),
            rejected: RejectedFields::from_bits(self.server_time),
            successes: Successes((self.slot.0 & 0xff) as u8),
        }
    }
}

impl Step<'_> {
    /// Returns the latest known instant from which another request is welcome (F8).
    pub(super) fn latest_known_instant(&self) -> Option<Timestamp> {
        let own = self.machine.not_before.max(self.machine.last_hint);
        let latest = Some(own)
            .max(self.gate.asked_until(self.now))
            .max(self.login.throttled_until(&self.service.policy))
            .max(self.service.breaker.next_probe(self.now))
            .max(self.refused);
        latest.filter(|instant| *instant > self.now)
    }
}
