//! The gate: while it is closed no request is sent (rule S1).

use crate::policy::{Jitter, Policy};
use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::{Shift, TooEarly};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Gate {
    closed_at: Timestamp,
    /// Until when the upstream asked not to be called.
    asked_until: Timestamp,
    /// When it opens: then, or a while later.
    opens_at: Timestamp,
    /// Whether a request waits for the opening already.
    has_waiters: bool,
    /// Whether a 429 closed it, now or shortly before.
    throttled: bool,
    /// Whether a 429 closed it now, and another one shortly before.
    throttled_again: bool,
}

impl Gate {
    pub(crate) const fn new() -> Gate {
        Gate {
            closed_at: Timestamp::ZERO,
            asked_until: Timestamp::ZERO,
            opens_at: Timestamp::ZERO,
            has_waiters: false,
            throttled: false,
            throttled_again: false,
        }
    }

    /// When it opens, if it is closed.
    pub(crate) fn opening(&self, now: Timestamp) -> Option<Timestamp> {
        (now < self.opens_at).then_some(self.opens_at)
    }

    /// Until when the upstream asked not to be called, if that lies ahead.
    pub(crate) fn asked_until(&self, now: Timestamp) -> Option<Timestamp> {
        (now < self.asked_until).then_some(self.asked_until)
    }

    /// Closes it until `until`, for a 429 or since nothing is left; it never opens sooner than was said before. What it is
    /// closed for beyond that is drawn by `jitter`, from none to as much.
    pub(crate) fn close(
        &mut self,
        now: Timestamp,
        until: Timestamp,
        throttled: bool,
        policy: &Policy,
        jitter: impl FnOnce(u64) -> u64,
    ) {
        if until <= now.max(self.opens_at) {
            self.asked_until = self.asked_until.max(until);
            return;
        }
        if self.opening(now).is_none() {
            // Open for longer than it was closed: those it held have come through.
            let is_calm = now.since(self.opens_at) > self.opens_at.since(self.closed_at);
            self.throttled &= !is_calm;
            self.throttled_again = throttled && self.throttled;
            self.has_waiters = false;
            self.closed_at = now;
        }
        self.throttled |= throttled;
        self.asked_until = until;
        self.opens_at = until;
        // Many clients, each with a gate of its own, were told the same: they must not open in step for ever.
        if self.throttled_again && policy.gate_spread.is_none() && policy.jitter != Jitter::None {
            self.opens_at = until.after(jitter(until.since(self.closed_at)));
        }
    }

    /// Opens it now.
    pub(crate) fn open(&mut self, now: Timestamp) {
        self.opens_at = self.opens_at.min(now);
        self.asked_until = self.asked_until.min(now);
    }

    /// Takes in a request that has to wait, and says over how many nanoseconds after the opening it may be spread.
    pub(crate) fn register_waiter(&mut self, policy: &Policy) -> u64 {
        let lone = !self.has_waiters && !self.throttled_again;
        self.has_waiters = true;
        match (policy.gate_spread, policy.jitter) {
            (Some(spread), _) => spread,
            // F2: where clients are told to be exact, the gate is.
            (None, Jitter::None) => 0,
            // L2: a lone request waits no longer than its hint and the spread.
            (None, _) if lone => policy.jitter_spread,
            // Requests that wake in step are throttled in step: as wide as the closed time they come evenly.
            (None, _) => policy.jitter_spread.max(self.opens_at.since(self.closed_at)),
        }
    }

    /// T7.
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) -> Result<(), TooEarly> {
        shift.exact(&mut self.closed_at)?;
        shift.exact(&mut self.asked_until)?;
        shift.exact(&mut self.opens_at)
    }

    /// T7: what a snapshot says is closed for as long again as was asked for, at most.
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self) {
        let longest = self.asked_until.after(self.asked_until.since(self.closed_at));
        self.opens_at = self.opens_at.min(longest);
    }
}
