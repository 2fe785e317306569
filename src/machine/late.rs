//! Late results, of attempts that are not in flight (T3, F4, F6).

use super::judge::{self, Judgment, Ruling};
use super::{Flags, Phase, Step};
use crate::action::{Trigger, WaitReason};
use crate::event::TransportErrorKind;
use crate::failure::FailureKind;
use crate::reply::{Hint, Reply};

impl Step<'_> {
    /// Handles a late reply (T3): a 2xx ends the request and a hint counts, and the upstream learns from both even
    /// after the end.
    pub(super) fn on_late_reply(&mut self, attempt: u32, reply: &Reply) {
        if self.machine.attempts == 0 {
            return;
        }
        let Ruling { judgment, price, health, hint } = judge::judge(&self.service.policy, reply, self.is_safe());
        // D15: a 2xx with a verdict is not an answer.
        let is_answer = reply.is_success() && judgment == Judgment::Answer;
        let first_answer = self.is_unanswered(attempt);
        let first_success = is_answer && self.remember_success(attempt);
        if first_answer {
            self.machine.flags.set(Flags::UNANSWERED, false);
        }
        // F6: any other late result would be the second one of its attempt.
        if first_answer || first_success {
            self.on_attempt_end(health, attempt);
            self.charge_failure(price, hint);
        }
        self.apply_hints(reply, judgment, hint);
        match self.machine.phase {
            Phase::Done | Phase::Failed(_) => {}
            _ if is_answer => {
                self.explanation.rejected = reply.rejected();
                self.succeed(attempt, reply.status());
            }
            Phase::Waiting(reason) if matches!(judgment, Judgment::Retry(_)) => self.extend_wait(reason, reply, hint),
            Phase::Ready | Phase::InFlight | Phase::Waiting(_) | Phase::Leading | Phase::Following(_) => {}
        }
    }

    /// Moves the end of a wait at once, without jitter, for a late reply that would be retried (F4).
    fn extend_wait(&mut self, reason: WaitReason, reply: &Reply, hint: Option<Hint>) {
        let Some(hint) = hint.filter(|hint| hint.nanos() > 0) else { return };
        self.explanation.rejected = reply.rejected();
        let until = self.now.after(hint.nanos());
        self.settle_server_time(reason);
        if until.since(self.now) > self.server_time_left() {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        if until <= self.machine.until {
            return self.wait_until(self.machine.until, reason);
        }
        if self.machine.deadline(&self.service.policy).is_some_and(|deadline| until >= deadline) {
            return self.fail(FailureKind::Deadline);
        }
        self.explanation.trigger = Trigger::LateHint(reply.status());
        self.wait_until(until, WaitReason::Hint(hint.source()));
    }

    /// Handles a late transport error. F6: only an attempt still in flight when the request ended can record a failure.
    pub(super) fn on_late_transport_error(&mut self, attempt: u32, kind: TransportErrorKind) {
        if self.is_unanswered(attempt) {
            self.machine.flags.set(Flags::UNANSWERED, false);
            self.on_attempt_end(judge::transport_health(kind), attempt);
            self.charge_failure(self.transport_price(kind), None);
        }
    }

    /// Returns whether this is the newest attempt and was under way when the request ended.
    fn is_unanswered(&self, attempt: u32) -> bool {
        self.machine.is_ended() && attempt == self.machine.attempts && self.machine.flags.has(Flags::UNANSWERED)
    }

    /// Returns whether the attempt was sent and succeeds for the first time, and remembers it for an ended request. A
    /// running request has nothing to remember, since its first success ends it.
    fn remember_success(&mut self, attempt: u32) -> bool {
        let Some(age) = self.machine.age(attempt) else { return false };
        let Some(mut ended) = self.machine.ended() else { return true };
        let is_first = ended.successes.insert(age);
        self.machine.set_ended(self.machine.phase, ended);
        is_first
    }
}
