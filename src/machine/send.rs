//! The checks before a send (P1), and the send.

use super::{Flags, Phase, Step};
use crate::action::WaitReason;
use crate::event::Event;
use crate::failure::FailureKind;
use crate::seed::Purpose;
use crate::time::Timestamp;

impl Step<'_> {
    /// Handles the first event of the request.
    pub(super) fn begin(&mut self, event: Event) {
        self.machine.started = self.now;
        match event {
            Event::Cancel => self.fail(FailureKind::Cancelled),
            _ => self.try_send(),
        }
    }

    /// Sends an attempt if deadline, breaker, gate and token allow it, else waits, refreshes or fails (P1).
    pub(super) fn try_send(&mut self) {
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        if self.upstream.breaker.is_open(self.now) {
            return self.fail(FailureKind::BreakerOpen);
        }
        // L1: a late hint may bind this request beyond its last wait.
        if self.upstream.gate.is_closed(self.now) || self.now < self.machine.not_before {
            self.machine.gate_waits = self.machine.gate_waits.wrapping_add(1);
            let number = (Purpose::GateWait, u32::from(self.machine.gate_waits));
            let own = (self.now.max(self.machine.not_before), WaitReason::Hint(self.machine.flags.source()));
            return self.wait_or_fail(own, number, None);
        }
        if self.upstream.token.is_rejected() {
            return self.fail(FailureKind::TokenRejected);
        }
        // K7. F5: only once per send.
        if self.upstream.token.is_due(self.now) && !self.machine.flags.has(Flags::TOKEN_SETTLED) {
            self.machine.flags.set(Flags::EARLY, true);
            return self.lead_or_follow(0);
        }
        self.send();
    }

    fn send(&mut self) {
        let policy = &self.upstream.policy;
        let machine = &mut *self.machine;
        let timeout = machine.limits.attempt_timeout(policy).map(|limit| self.now.after(limit));
        let limits = [timeout, machine.deadline(self.upstream)];
        machine.until = limits.into_iter().flatten().min().unwrap_or(Timestamp::MAX);
        machine.attempts = machine.attempts.saturating_add(1);
        if machine.attempts == 1 || self.upstream.breaker.has_opened_since(machine.send_epoch) {
            machine.first_since_opening = machine.attempts;
        }
        machine.send_epoch = self.upstream.breaker.register_send(self.now, policy.breaker);
        // K5: the outcome of an expired lease still counts while no newer lease was given.
        if !self.upstream.token.is_current(machine.token_epoch) {
            machine.flags.set(Flags::HOLDS_LEASE, false);
        }
        if !machine.flags.has(Flags::HOLDS_LEASE) {
            machine.token_epoch = self.upstream.token.epoch();
        }
        machine.flags.set(Flags::UNANSWERED, true);
        machine.flags.set(Flags::TOKEN_SETTLED, false);
        machine.phase = Phase::InFlight;
        self.is_new = true;
    }
}
