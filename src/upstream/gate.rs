//! The gate: while it is closed no request is sent (rule S1).

use crate::policy::{Jitter, Policy};
use crate::time::Time;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Gate {
    closed_at: Time,
    opens_at: Time,
    /// Whether it has held a request already, this time or shortly before.
    crowded: bool,
}

impl Gate {
    pub(crate) const fn new() -> Gate {
        Gate { closed_at: Time::ZERO, opens_at: Time::ZERO, crowded: false }
    }

    /// When it opens, if it is closed.
    pub(crate) fn opening(&self, now: Time) -> Option<Time> {
        (now < self.opens_at).then_some(self.opens_at)
    }

    /// Closes it until `until`; it never opens sooner than was said before.
    pub(crate) fn close(&mut self, now: Time, until: Time) {
        if until <= now.max(self.opens_at) {
            return;
        }
        if self.opening(now).is_none() {
            let was_closed_for = self.opens_at.since(self.closed_at);
            // Open for longer than it was closed: those it held have come through.
            if now.since(self.opens_at) > was_closed_for {
                self.crowded = false;
            }
            self.closed_at = now;
        }
        self.opens_at = until;
    }

    /// Opens it now.
    pub(crate) fn open(&mut self, now: Time) {
        self.opens_at = self.opens_at.min(now);
    }

    /// Takes in a request that has to wait, and says over how many nanoseconds after the opening it may be spread.
    pub(crate) fn hold(&mut self, policy: &Policy) -> u64 {
        let lone = !self.crowded;
        self.crowded = true;
        match (policy.gate_spread, policy.jitter) {
            (Some(spread), _) => spread,
            // F2: where clients are told to be exact, the gate is.
            (None, Jitter::None) => 0,
            // L2: a lone request waits no longer than its hint and the spread.
            (None, _) if lone => policy.spread,
            // Requests that wake in step are throttled in step: as wide as the closed time they come evenly.
            (None, _) => policy.spread.max(self.opens_at.since(self.closed_at)),
        }
    }
}
