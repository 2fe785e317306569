//! The gate: while it is closed no request is sent (rule S1).

use crate::policy::{Jitter, Policy};
use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::{Shift, TooEarly};

/// The state of the gate. It is closed before `opens_at`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Gate {
    closed_at: Timestamp,
    /// The end of the time for which the upstream asked not to be called.
    asked_until: Timestamp,
    /// The opening: `asked_until`, or later by a jitter.
    opens_at: Timestamp,
    /// Whether a request already waits for the opening.
    has_waiters: bool,
    /// Whether a 429 closed it this time or shortly before.
    throttled: bool,
    /// Whether a 429 closed it this time, and another one shortly before.
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

    pub(crate) fn is_closed(&self, now: Timestamp) -> bool {
        now < self.opens_at
    }

    /// Returns the instant of the opening, if the gate is closed.
    pub(crate) fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        (now < self.opens_at).then_some(self.opens_at)
    }

    /// Returns the end of the time for which the upstream asked not to be called, if it lies ahead.
    pub(crate) fn asked_until(&self, now: Timestamp) -> Option<Timestamp> {
        (now < self.asked_until).then_some(self.asked_until)
    }

    /// Closes the gate until `until`, for a 429 (`throttled`) or for a rate limit with nothing left. Never moves the
    /// opening earlier. `jitter` draws a delay of the opening, up to its argument in nanoseconds.
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
        if !self.is_closed(now) {
            // S1: it was open for longer than it was closed, so the requests that it held have been sent.
            let is_calm = now.since(self.opens_at) > self.opens_at.since(self.closed_at);
            self.throttled &= !is_calm;
            self.throttled_again = throttled && self.throttled;
            self.has_waiters = false;
            self.closed_at = now;
        }
        self.throttled |= throttled;
        self.asked_until = until;
        self.opens_at = until;
        // S1: adds up to 100 % jitter so that independent clients do not reopen in step.
        if self.throttled_again && policy.gate_spread.is_none() && policy.jitter != Jitter::None {
            self.opens_at = until.after(jitter(until.since(self.closed_at)));
        }
    }

    /// Opens the gate now.
    pub(crate) fn open(&mut self, now: Timestamp) {
        self.opens_at = self.opens_at.min(now);
        self.asked_until = self.asked_until.min(now);
    }

    /// Registers a request that must wait. Returns the time in nanoseconds after the opening over which to spread it.
    pub(crate) fn register_waiter(&mut self, policy: &Policy) -> u64 {
        let is_first = !self.has_waiters && !self.throttled_again;
        self.has_waiters = true;
        match (policy.gate_spread, policy.jitter) {
            (Some(spread), _) => spread,
            // F2: without jitter the gate is exact.
            (None, Jitter::None) => 0,
            // L2: a lone request waits for its hint and the spread, not longer.
            (None, _) if is_first => policy.jitter_spread,
            // S1: requests that wake in step are throttled in step.
            (None, _) => policy.jitter_spread.max(self.opens_at.since(self.closed_at)),
        }
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) -> Result<(), TooEarly> {
        shift.exact(&mut self.closed_at)?;
        shift.exact(&mut self.asked_until)?;
        shift.exact(&mut self.opens_at)
    }

    /// Clamps the opening of a snapshot to twice the time that the upstream asked for (T7).
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self) {
        let longest = self.asked_until.after(self.asked_until.since(self.closed_at));
        self.opens_at = self.opens_at.min(longest);
    }
}
