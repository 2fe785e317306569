//! What comes late: T3, F4, F6.

use super::{Flags, Phase, Step};
use crate::action::{Action, News, WaitReason};
use crate::failure::FailureKind;
use crate::reply::{Hint, Reply};
use crate::upstream::breaker::Health;

impl Step<'_> {
    /// T3: a late 2xx ends the request, a late hint counts, and the upstream hears both to the last.
    pub(super) fn late_reply(&mut self, attempt: u32, reply: &Reply) -> Action {
        if self.machine.attempts == 0 {
            return self.again();
        }
        self.hear(reply);
        let first_answer = self.is_unanswered(attempt);
        let first_success = reply.is_success() && self.note_success(attempt);
        if first_answer {
            self.machine.flags.set(Flags::UNANSWERED, false);
        }
        // F6: a failure would be the second of its attempt.
        if first_answer || first_success {
            self.record(self.health(reply.status()), attempt);
            self.refund(reply);
        }
        if self.machine.is_ended() {
            return self.again();
        }
        if reply.is_success() {
            self.because.rejected = reply.rejected();
            return self.done(attempt, reply.status());
        }
        match self.machine.phase {
            Phase::Waiting(_) => self.prolong(reply),
            _ => self.again(),
        }
    }

    /// F4: a late hint moves the end of a wait at once, without jitter.
    pub(super) fn prolong(&mut self, reply: &Reply) -> Action {
        let counts = |hint: &Hint| hint.nanos() > 0 && self.hint_counts(reply.status());
        let Some(hint) = reply.hint().filter(counts) else {
            return self.again();
        };
        self.because.rejected = reply.rejected();
        if hint.nanos() > self.upstream.policy.max_server_wait {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        let until = self.now.after(hint.nanos());
        if until > self.machine.until {
            if self.machine.deadline(self.upstream).is_some_and(|deadline| until >= deadline) {
                return self.fail(FailureKind::Deadline);
            }
            if self.machine.phase == Phase::Waiting(WaitReason::Gate) {
                // F3: what it has waited at the gate counts, what it would have does not.
                self.pass_gate();
            }
            self.because.news = News::LateHint(reply.status());
            self.machine.until = until;
            self.machine.phase = Phase::Waiting(WaitReason::Hint(hint.source()));
        }
        self.again()
    }

    /// F6: only an attempt that the request ended without can still fail.
    pub(super) fn late_error(&mut self, attempt: u32) -> Action {
        if self.is_unanswered(attempt) {
            self.machine.flags.set(Flags::UNANSWERED, false);
            self.record(Health::Bad, attempt);
        }
        self.again()
    }

    /// Whether this is the newest attempt, and the request ended while it was under way.
    pub(super) fn is_unanswered(&self, attempt: u32) -> bool {
        self.machine.is_ended() && attempt == self.machine.attempts && self.machine.flags.has(Flags::UNANSWERED)
    }

    /// Notes that this attempt has succeeded. Returns whether it was sent and succeeds for the first time: it can but
    /// once. While the request goes on there is nothing to remember, for the first success ends it; after that it is
    /// remembered of the last eight attempts, and those before are not heard.
    pub(super) fn note_success(&mut self, attempt: u32) -> bool {
        let newest = self.machine.attempts;
        if !(1..=newest).contains(&attempt) {
            return false;
        }
        if !self.machine.is_ended() {
            return true;
        }
        let bit = 1_u8.checked_shl(newest - attempt).unwrap_or(0);
        let is_first = bit & !self.machine.gate_waits != 0;
        self.machine.gate_waits |= bit;
        is_first
    }
}
