//! Waits: how one is granted (the end of P2, the gate of P1), and what follows it.

use super::{Phase, Step};
use crate::action::{Action, News, WaitReason};
use crate::failure::FailureKind;
use crate::policy::Jitter;
use crate::seed::{Purpose, draw};
use crate::time::Time;

impl Step<'_> {
    /// The end of P2, and the gate of P1: grants a wait until `own`, or until the gate is open if that is later, unless
    /// a limit forbids it. `price` is for a retry: whether it is one after a 429.
    pub(super) fn wait(&mut self, own: (Time, WaitReason), number: (Purpose, u32), price: Option<bool>) -> Action {
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
            let spread = self.upstream.gate.hold(&self.upstream.policy);
            let end = opening.after(self.draw(number, spread));
            if end > until {
                // F3: the time actually waited, and the time to the opening: as long as was asked for, not what is added.
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
        // P3: last, and never refunded.
        if let Some(throttled) = price {
            if !self.upstream.budget.pay(throttled, self.upstream.policy.budget) {
                return self.fail(FailureKind::Budget);
            }
        }
        if reason == WaitReason::Gate {
            let wait = until.since(self.now);
            self.machine.gate_time = self.machine.gate_time.saturating_add(wait);
        }
        self.machine.until = until;
        self.machine.phase = Phase::Waiting(reason);
        if self.because.news == News::Nothing {
            self.because.news = News::Begin;
        }
        self.again()
    }

    pub(super) fn wait_over(&mut self, reason: WaitReason) -> Action {
        self.because.news = News::WaitOver;
        if reason == WaitReason::Gate {
            self.pass_gate();
        }
        self.proceed()
    }

    /// F3: the time actually waited at the gate counts, not the time that was planned.
    pub(super) fn pass_gate(&mut self) {
        let (now, planned) = (self.now, self.machine.until);
        let time = &mut self.machine.gate_time;
        *time = time.saturating_add(now.since(planned)).saturating_sub(planned.since(now));
    }

    /// L2: over how long clients that were all told the same are spread.
    pub(super) fn hint_spread(&self) -> u64 {
        match self.upstream.policy.jitter {
            Jitter::None => 0,
            _ => self.upstream.policy.spread,
        }
    }

    pub(super) fn draw(&self, (purpose, number): (Purpose, u32), spread: u64) -> u64 {
        draw(self.machine.seed, purpose, number, 0..=spread)
    }
}
