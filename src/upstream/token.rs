//! The token: which generation is current, and who refreshes it (rules K3–K8).

use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Token {
    generation: u32,
    /// Whether the refresh of the current generation was rejected for good.
    rejected: bool,
    /// When the current generation was due for a refresh, and when it expires, if that is known.
    expiry: Option<Expiry>,
    /// Counts every event below, so that a stamp tells what came before and after.
    clock: Epoch,
    /// When the current generation was installed.
    installed: Epoch,
    /// The newest lease: when it was given, and that is its name.
    lease: Epoch,
    lease_end: Timestamp,
    /// Whether its holder is still expected to refresh. An outcome counts also when it is not (K5).
    lease_open: bool,
    /// The newest lease of this generation that ended without a useful answer, or else the generation's begin.
    unavailable: Epoch,
    /// The oldest of the leases that, with none between them that ended otherwise, ended like it.
    unavailable_since: Epoch,
    /// Whether a lease after those ended otherwise.
    run_is_over: bool,
    /// No new lease before.
    throttled_until: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
struct Expiry {
    due: Timestamp,
    expires: Timestamp,
}

/// A point in the order of the token's events. Wraps around; no request lives through half of four billion of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Epoch(u32);

impl Epoch {
    pub(crate) const NONE: Epoch = Epoch(0);

    const fn is_after(self, other: Epoch) -> bool {
        self.0 != other.0 && self.0.wrapping_sub(other.0) <= u32::MAX / 2
    }
}

/// What a request that needs a fresh token is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Refresh it. Nobody else does before `until`.
    Lead { lease: Epoch, until: Timestamp },
    /// Wait for the one that does.
    Follow { lease: Epoch, until: Timestamp },
    /// The token endpoint is to be left alone.
    LeaveAlone,
}

/// What a follower finds when it looks at the lease that it follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseStatus {
    /// Still under way, and nobody else refreshes the token before.
    UnderWay { until: Timestamp },
    /// It, or a later one, or the user, brought a new token.
    NewToken,
    /// The refresh was rejected for good.
    Rejected,
    /// It brought no useful answer.
    Unavailable,
    /// It ended without any outcome.
    Abandoned,
}

impl Token {
    pub(crate) const fn new() -> Token {
        Token {
            generation: 0,
            rejected: false,
            expiry: None,
            clock: Epoch::NONE,
            installed: Epoch::NONE,
            lease: Epoch::NONE,
            lease_end: Timestamp::ZERO,
            lease_open: false,
            unavailable: Epoch::NONE,
            unavailable_since: Epoch::NONE,
            run_is_over: false,
            throttled_until: Timestamp::ZERO,
        }
    }

    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) const fn wakeups(&self) -> u32 {
        self.clock.0
    }

    pub(crate) const fn is_rejected(&self) -> bool {
        self.rejected
    }

    /// The present, for a send: a token installed later is newer than the one that it uses (K4).
    pub(crate) const fn epoch(&self) -> Epoch {
        self.clock
    }

    pub(crate) const fn is_newer_than(&self, epoch: Epoch) -> bool {
        self.installed.is_after(epoch)
    }

    /// K7: later than the expiry less the margin (strictly: F5).
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|expiry| now > expiry.due)
    }

    /// Whether the current token may still be used, for all that is known.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry.expires)
    }

    /// There is a new token: refreshed, or replaced by the user, which ends a lease (F5).
    pub(crate) fn install(&mut self, now: Timestamp, lifetime: Option<u64>, margin: u64) {
        self.generation = self.generation.wrapping_add(1);
        self.installed = self.advance();
        self.unavailable = self.installed;
        self.unavailable_since = self.installed;
        self.run_is_over = false;
        self.rejected = false;
        self.lease_open = false;
        self.set_lifetime(now, lifetime, margin);
    }

    /// K7: the margin is at most half of the lifetime, or a short-lived token would be due at once.
    pub(crate) fn set_lifetime(&mut self, now: Timestamp, lifetime: Option<u64>, margin: u64) {
        self.expiry = lifetime.map(|lifetime| Expiry {
            due: now.after(lifetime - margin.min(lifetime / 2)),
            expires: now.after(lifetime),
        });
    }

    /// K3: one refresh at a time. Who asks first leads, the others follow.
    pub(crate) fn take_turn(&mut self, now: Timestamp, timeout: u64) -> Turn {
        if self.lease_open && now < self.lease_end {
            Turn::Follow { lease: self.lease, until: self.lease_end }
        } else if now < self.throttled_until {
            Turn::LeaveAlone
        } else {
            // The one before may have ended in another way.
            self.run_is_over |= self.lease != self.unavailable;
            self.lease = self.advance();
            self.lease_end = now.after(timeout);
            self.lease_open = true;
            Turn::Lead { lease: self.lease, until: self.lease_end }
        }
    }

    /// Whether an outcome from the holder of `lease` counts (K5): it is the newest, and the token is the same still.
    pub(crate) fn is_current(&self, lease: Epoch) -> bool {
        lease == self.lease && !self.is_newer_than(lease)
    }

    /// The refresh of the current lease was rejected for good (K6).
    pub(crate) fn reject(&mut self) {
        self.rejected = true;
        self.lease_open = false;
        self.advance();
    }

    /// The refresh of the current lease brought no useful answer (K6).
    pub(crate) fn fail(&mut self, throttled_until: Timestamp) {
        if self.run_is_over {
            self.unavailable_since = self.lease;
            self.run_is_over = false;
        }
        self.unavailable = self.lease;
        self.throttled_until = self.throttled_until.max(throttled_until);
        self.lease_open = false;
        self.advance();
    }

    /// The holder of `lease` is gone: others may lead at once (K5). If it is heard of all the same before another
    /// lease is given, its outcome counts.
    pub(crate) fn free(&mut self, lease: Epoch) {
        if self.lease_open && self.is_current(lease) {
            self.lease_open = false;
            self.advance();
        }
    }

    /// What has become of `lease` (K6, K8).
    pub(crate) fn lease_status(&self, lease: Epoch, now: Timestamp) -> LeaseStatus {
        if self.is_newer_than(lease) {
            LeaseStatus::NewToken
        } else if self.rejected {
            LeaseStatus::Rejected
        } else if !self.unavailable_since.is_after(lease) && !lease.is_after(self.unavailable) {
            LeaseStatus::Unavailable
        } else if lease == self.lease && self.lease_open && now < self.lease_end {
            LeaseStatus::UnderWay { until: self.lease_end }
        } else {
            LeaseStatus::Abandoned
        }
    }

    fn advance(&mut self) -> Epoch {
        self.clock = Epoch(self.clock.0.wrapping_add(1));
        self.clock
    }

    /// T7, K5: what a snapshot says of the lease ends no later than one that is given now.
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, latest: Timestamp) {
        self.lease_end = self.lease_end.min(latest);
    }

    /// T7.
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) {
        shift.ahead(&mut self.lease_end);
        shift.ahead(&mut self.throttled_until);
        if let Some(Expiry { due, expires }) = &mut self.expiry {
            shift.ahead(due);
            shift.ahead(expires);
        }
    }
}
