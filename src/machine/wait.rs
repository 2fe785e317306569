//! Waits: their limits (the end of P2, the gate of P1), and their end.

use super::{Phase, Step};
use crate::action::{Trigger, WaitReason};
use crate::failure::FailureKind;
use crate::policy::Jitter;
use crate::seed::{Purpose, draw};
use crate::time::Timestamp;
use crate::upstream::budget::Price;

impl Step<'_> {
    /// Waits until `own`, or until the gate opens if that is later, or fails if a limit forbids it (the end of P2, the
    /// gate of P1). `price` is that of a retry.
    pub(super) fn wait_or_fail(&mut self, own: (Timestamp, WaitReason), number: (Purpose, u32), price: Option<Price>) {
        let policy = &self.upstream.policy;
        let longest = policy.max_server_wait;
        let (mut until, mut reason) = own;
        // L1: a late hint counts, too.
        let hint_end = self.machine.not_before;
        if hint_end > until {
            (until, reason) = (hint_end, WaitReason::Hint(self.machine.flags.source()));
        }
        // L3: neither clamped nor slept.
        if hint_end.since(self.now) > longest {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        if let Some(opening) = self.upstream.gate.next_opening(self.now) {
            let spread = self.upstream.gate.register_waiter(&self.upstream.policy);
            let end = opening.after(self.draw(number, spread));
            if end > until {
                // F3: the spread that is added to the opening does not count.
                let asked = self.upstream.gate.asked_until(self.now).unwrap_or(self.now);
                if self.machine.gate_time.saturating_add(asked.since(self.now)) > longest {
                    return self.fail(FailureKind::ServerWaitTooLong);
                }
                (until, reason) = (end, WaitReason::Gate);
            }
        }
        if self.machine.deadline(self.upstream).is_some_and(|deadline| until >= deadline) {
            return self.fail(FailureKind::Deadline);
        }
        if self.upstream.breaker.next_probe(self.now).is_some_and(|probe| until < probe) {
            return self.fail(FailureKind::BreakerOpen);
        }
        // P3: charged last, and never given back.
        if let Some(price) = price {
            if !self.upstream.budget.try_withdraw(price, self.upstream.policy.budget) {
                self.refused = Some(until);
                return self.fail(FailureKind::Budget);
            }
            self.machine.flags.set_charged(price);
            let throttled = u16::from(price == Price::Throttle);
            self.machine.throttled_retries = self.machine.throttled_retries.saturating_add(throttled);
        }
        if reason == WaitReason::Gate {
            let wait = until.since(self.now);
            self.machine.gate_time = self.machine.gate_time.saturating_add(wait);
        }
        self.machine.until = until;
        self.machine.phase = Phase::Waiting(reason);
        if self.explanation.trigger == Trigger::Nothing {
            self.explanation.trigger = Trigger::GateClosed;
        }
    }

    /// Handles a tick at or after the end of a wait.
    pub(super) fn on_wait_end(&mut self, reason: WaitReason) {
        self.explanation.trigger = Trigger::WaitOver;
        if reason == WaitReason::Gate {
            self.settle_gate_time();
        }
        self.try_send();
    }

    /// Corrects the time spent at the gate from the planned time to the actual one (F3).
    pub(super) fn settle_gate_time(&mut self) {
        let (now, planned) = (self.now, self.machine.until);
        let time = &mut self.machine.gate_time;
        *time = time.saturating_add(now.since(planned)).saturating_sub(planned.since(now));
    }

    /// Returns the time in nanoseconds over which to spread clients that got the same hint (L2).
    pub(super) fn hint_spread(&self) -> u64 {
        match self.upstream.policy.jitter {
            Jitter::None => 0,
            _ => self.upstream.policy.jitter_spread,
        }
    }

    /// Draws a number of nanoseconds from 0 to the spread.
    pub(super) fn draw(&self, (purpose, number): (Purpose, u32), spread: u64) -> u64 {
        draw(self.machine.seed, purpose, number, 0..=spread)
    }
}
