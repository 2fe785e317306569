//! What the upstream hears of a reply.

use super::Step;
use crate::policy::Jitter;
use crate::reply::Reply;
use crate::seed::{Purpose, draw};
use crate::upstream::Upstream;
use crate::upstream::breaker::Health;

impl Step<'_> {
    /// What a reply says about time, to this request (L1) and to all of the upstream (S1).
    pub(super) fn hear(&mut self, reply: &Reply) {
        let status = reply.status();
        let counts = self.hint_counts(status);
        if let Some(hint) = reply.hint().filter(|_| counts) {
            let at = self.now.after(hint.nanos());
            if at > self.machine.not_before && !self.machine.is_ended() {
                self.machine.not_before = at;
                self.machine.flags.set_source(hint.source());
            }
        }
        if self.upstream.policy.gate {
            let throttled = reply.hint().filter(|_| status == 429).map(|hint| hint.nanos());
            let exhausted = reply.closed_for().filter(|_| counts || reply.is_success() || status == 403);
            for (wait, throttled) in [(throttled, true), (exhausted, false)] {
                if let Some(wait) = wait {
                    let (seed, number) = (self.machine.seed, self.machine.attempts);
                    let jitter = |most| draw(seed, Purpose::Opening, number, 0..=most);
                    let Upstream { gate, policy, .. } = &mut *self.upstream;
                    gate.close(self.now, self.now.after(wait), throttled, policy, jitter);
                }
            }
        }
    }

    /// S2: each success refills the budget.
    pub(super) fn refund(&mut self, reply: &Reply) {
        if reply.is_success() {
            self.upstream.budget.refund(self.upstream.policy.budget);
        }
    }

    /// H10.
    pub(super) fn hint_counts(&self, status: u16) -> bool {
        status == 429 || self.upstream.policy.retries(status)
    }

    /// S3: what a status says about the health of the upstream.
    pub(super) fn health(&self, status: u16) -> Health {
        match status {
            429 | 401 => Health::Neutral,
            500..=599 if self.upstream.policy.retries(status) => Health::Bad,
            _ => Health::Good,
        }
    }

    /// Tells the breaker how an attempt ended.
    pub(super) fn record(&mut self, health: Health, attempt: u32) {
        // S3: the breaker has opened since.
        if attempt < self.machine.first_heard {
            return;
        }
        let ticket = self.machine.ticket;
        let seed = self.machine.seed;
        let exact = self.upstream.policy.jitter == Jitter::None;
        let open_time = |opening, open: u64| {
            let longest = if exact { open } else { open.saturating_add(open / 2) };
            draw(seed, Purpose::Breaker, opening, open..=longest)
        };
        self.upstream.breaker.record(health, ticket, self.now, self.upstream.policy.breaker, open_time);
    }
}
