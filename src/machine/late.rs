//! Late results, of attempts that are not in flight (T3, F4, F6).

use super::{Flags, Phase, Step};
use crate::action::{Trigger, WaitReason};
use crate::failure::FailureKind;
use crate::reply::{Hint, Reply};
use crate::upstream::breaker::Health;

impl Step<'_> {
    /// Handles a late reply (T3): a 2xx ends the request and a hint counts, and the upstream learns from both even
    /// after the end.
    pub(super) fn on_late_reply(&mut self, attempt: u32, reply: &Reply) {
        if self.machine.attempts == 0 {
            return;
        }
        self.apply_hints(reply);
        let first_answer = self.is_unanswered(attempt);
        let first_success = reply.is_success() && self.remember_success(attempt);
        if first_answer {
            self.machine.flags.set(Flags::UNANSWERED, false);
        }
        // F6: any other late result would be the second one of its attempt.
        if first_answer || first_success {
            self.record_health(self.health(reply.status()), attempt);
            self.deposit_for(reply);
        }
        match self.machine.phase {
            Phase::Done | Phase::Failed(_) => {}
            _ if reply.is_success() => {
                self.explanation.rejected = reply.rejected();
                self.succeed(attempt, reply.status());
            }
            Phase::Waiting(_) => self.extend_wait(reply),
            Phase::Ready | Phase::InFlight | Phase::Leading | Phase::Following(_) => {}
        }
    }

    /// Moves the end of a wait at once, without jitter (F4).
    fn extend_wait(&mut self, reply: &Reply) {
        let counts = |hint: &Hint| hint.nanos() > 0 && self.hint_counts(reply.status());
        let Some(hint) = reply.hint().filter(counts) else { return };
        self.explanation.rejected = reply.rejected();
        if hint.nanos() > self.upstream.policy.max_server_wait {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        let until = self.now.after(hint.nanos());
        if until <= self.machine.until {
            return;
        }
        if self.machine.deadline(self.upstream).is_some_and(|deadline| until >= deadline) {
            return self.fail(FailureKind::Deadline);
        }
        if self.machine.phase == Phase::Waiting(WaitReason::Gate) {
            // F3: only the time spent at the gate counts.
            self.settle_gate_time();
        }
        self.explanation.trigger = Trigger::LateHint(reply.status());
        self.machine.until = until;
        self.machine.phase = Phase::Waiting(WaitReason::Hint(hint.source()));
    }

    /// Handles a late transport error. F6: only an attempt still in flight when the request ended can record a failure.
    pub(super) fn on_late_transport_error(&mut self, attempt: u32) {
        if self.is_unanswered(attempt) {
            self.machine.flags.set(Flags::UNANSWERED, false);
            self.record_health(Health::Bad, attempt);
        }
    }

    /// Returns whether this is the newest attempt and was under way when the request ended.
    fn is_unanswered(&self, attempt: u32) -> bool {
        self.machine.is_ended() && attempt == self.machine.attempts && self.machine.flags.has(Flags::UNANSWERED)
    }

    /// Records the success of an attempt. Returns whether the attempt was sent and succeeds for the first time. A
    /// success ends a running request, so only an ended request needs a memory: of its last eight attempts.
    fn remember_success(&mut self, attempt: u32) -> bool {
        let Some(age) = self.machine.age(attempt) else { return false };
        let Some(mut ended) = self.machine.ended() else { return true };
        let is_first = ended.successes.insert(age);
        self.machine.set_ended(self.machine.phase, ended);
        is_first
    }
}
