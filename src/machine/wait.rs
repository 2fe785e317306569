//! Waits: how one is granted (the end of P2, the gate of P1), and what follows its end.

use super::{Phase, Step};
use crate::action::{Trigger, WaitReason};
use crate::failure::FailureKind;
use crate::policy::Jitter;
use crate::seed::{Purpose, draw};
use crate::time::Timestamp;
use crate::upstream::budget::Price;

impl Step<'_> {
    /// The end of P2, and the gate of P1: grants a wait until `own`, or until the gate opens if that is later, unless a
    /// limit forbids it. `price` is that of a retry.
    pub(super) fn wait_or_fail(&mut self, own: (Timestamp, WaitReason), number: (Purpose, u32), price: Option<Price>) {
        let policy = &self.upstream.policy;
        let longest = policy.max_server_wait;
        let (mut until, mut reason) = own;
        // L1: a hint that came late counts as well.
        if self.machine.not_before > until {
            (until, reason) = (self.machine.not_before, WaitReason::Hint(self.machine.flags.source()));
        }
        // L3: neither clamped nor slept.
        if self.machine.not_before.since(self.now) > longest {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        if let Some(opening) = self.upstream.gate.opening(self.now) {
            let spread = self.upstream.gate.register_waiter(&self.upstream.policy);
            let end = opening.after(self.draw(number, spread));
            if end > until {
                // F3: the time spent at the gate and the time asked for count, the added spread does not.
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
        // P3: charged last, and never refunded.
        if let Some(price) = price {
            if !self.upstream.budget.try_withdraw(price, self.upstream.policy.budget) {
                self.refused = Some(until);
                return self.fail(FailureKind::Budget);
            }
            self.machine.flags.set_charged(Some(price));
            self.machine.throttled_retries += u16::from(price == Price::Throttle);
        }
        if reason == WaitReason::Gate {
            let wait = until.since(self.now);
            self.machine.gate_time = self.machine.gate_time.saturating_add(wait);
        }
        self.machine.until = until;
        self.machine.phase = Phase::Waiting(reason);
        if self.explanation.trigger == Trigger::Nothing {
            self.explanation.trigger = Trigger::Begin;
        }
    }

    /// A tick at or after the end of a wait.
    pub(super) fn on_wait_end(&mut self, reason: WaitReason) {
        self.explanation.trigger = Trigger::WaitOver;
        if reason == WaitReason::Gate {
            self.settle_gate_time();
        }
        self.try_send();
    }

    /// F3: the time that the request spent at the gate counts, not the time that was planned.
    pub(super) fn settle_gate_time(&mut self) {
        let (now, planned) = (self.now, self.machine.until);
        let time = &mut self.machine.gate_time;
        *time = time.saturating_add(now.since(planned)).saturating_sub(planned.since(now));
    }

    /// L2: over how long clients that got the same hint are spread.
    pub(super) fn hint_spread(&self) -> u64 {
        match self.upstream.policy.jitter {
            Jitter::None => 0,
            _ => self.upstream.policy.jitter_spread,
        }
    }

    pub(super) fn draw(&self, (purpose, number): (Purpose, u32), spread: u64) -> u64 {
        draw(self.machine.seed, purpose, number, 0..=spread)
    }
}
