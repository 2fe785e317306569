//! The token: which generation is current, and who refreshes it (rules K3–K8).

use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;

/// The state of the token. It never holds the token itself (H9).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Token {
    generation: u32,
    /// Whether the refresh of the current generation was rejected for good.
    rejected: bool,
    /// The expiry of the current generation, if it is known.
    expiry: Option<Expiry>,
    /// The epoch of the latest event of the token. Each event begins a new epoch.
    clock: Epoch,
    /// The epoch that began when the current generation was installed.
    installed: Epoch,
    /// The newest lease. The epoch that began when a lease was given is the lease's name.
    lease: Epoch,
    lease_end: Timestamp,
    /// Whether its holder is still expected to report. Its outcome counts even if it is not (K5).
    lease_open: bool,
    /// The newest lease of this generation that ended as unavailable (K6). `installed` if there is none.
    unavailable: Epoch,
    /// The oldest lease of the run that ends with `unavailable`: all leases of a run ended as unavailable.
    unavailable_since: Epoch,
    /// Whether a later lease ended in another way.
    run_is_over: bool,
    /// No lease is given earlier (K6).
    throttled_until: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
struct Expiry {
    /// The expiry less the margin (K7).
    due: Timestamp,
    expires: Timestamp,
}

/// A logical clock: the order of the token's events. Wraps around, but no request lives for two billion events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Epoch(u32);

impl Epoch {
    pub(crate) const NONE: Epoch = Epoch(0);

    const fn is_after(self, other: Epoch) -> bool {
        self.0 != other.0 && self.0.wrapping_sub(other.0) <= u32::MAX / 2
    }
}

/// The role of a request that needs a new token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// The request refreshes the token. No other request does before `until`.
    Lead { lease: Epoch, until: Timestamp },
    /// The request waits for the holder of this lease.
    Follow { lease: Epoch, until: Timestamp },
    /// The token endpoint asked to be left alone (K6).
    Throttled,
}

/// The status of the lease that a follower waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseStatus {
    /// The refresh is still under way.
    UnderWay { until: Timestamp },
    /// This lease, a later one or the user has brought a new token.
    NewToken,
    /// The refresh was rejected for good.
    Rejected,
    /// The token endpoint gave no useful answer.
    Unavailable,
    /// The lease ended without an outcome.
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

    /// Returns the current epoch. A token installed later is newer than the one that a send uses now (K4).
    pub(crate) const fn epoch(&self) -> Epoch {
        self.clock
    }

    pub(crate) const fn is_newer_than(&self, epoch: Epoch) -> bool {
        self.installed.is_after(epoch)
    }

    /// Returns whether `now` is later than the expiry less the margin (K7; strictly later: F5).
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|expiry| now > expiry.due)
    }

    /// Returns whether the current token is not known to have expired.
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry.expires)
    }

    /// Installs a new token, which was refreshed, or replaced by the user. Ends an open lease (F5).
    pub(crate) fn install(&mut self, now: Timestamp, lifetime: Option<u64>, margin: u64) {
        self.generation = self.generation.wrapping_add(1);
        self.installed = self.next_epoch();
        self.unavailable = self.installed;
        self.unavailable_since = self.installed;
        self.run_is_over = false;
        self.rejected = false;
        self.lease_open = false;
        self.set_lifetime(now, lifetime, margin);
    }

    /// Sets the expiry. K7: the margin is at most half of the lifetime, or a short-lived token would be due at once.
    pub(crate) fn set_lifetime(&mut self, now: Timestamp, lifetime: Option<u64>, margin: u64) {
        self.expiry = lifetime.map(|lifetime| Expiry {
            due: now.after(lifetime - margin.min(lifetime / 2)),
            expires: now.after(lifetime),
        });
    }

    /// Gives a request its role (K3): the first one leads, and the others follow while its lease is open.
    pub(crate) fn take_turn(&mut self, now: Timestamp, timeout: u64) -> Turn {
        if self.lease_open && now < self.lease_end {
            Turn::Follow { lease: self.lease, until: self.lease_end }
        } else if now < self.throttled_until {
            Turn::Throttled
        } else {
            // The lease before may have ended in another way.
            self.run_is_over |= self.lease != self.unavailable;
            self.lease = self.next_epoch();
            self.lease_end = now.after(timeout);
            self.lease_open = true;
            Turn::Lead { lease: self.lease, until: self.lease_end }
        }
    }

    /// Returns whether an outcome from the holder of `lease` counts (K5): no newer lease was given, and the token is
    /// the same.
    pub(crate) fn is_current(&self, lease: Epoch) -> bool {
        lease == self.lease && !self.is_newer_than(lease)
    }

    /// Records that the refresh of the current lease was rejected for good (K6).
    pub(crate) fn record_rejected(&mut self) {
        self.rejected = true;
        self.lease_open = false;
        self.next_epoch();
    }

    /// Records that the refresh of the current lease got no useful answer (K6).
    pub(crate) fn record_unavailable(&mut self, throttled_until: Timestamp) {
        if self.run_is_over {
            self.unavailable_since = self.lease;
            self.run_is_over = false;
        }
        self.unavailable = self.lease;
        self.throttled_until = self.throttled_until.max(throttled_until);
        self.lease_open = false;
        self.next_epoch();
    }

    /// Frees `lease`, whose holder has ended: others can lead at once (K5). If the holder still reports before another
    /// lease is given, its outcome counts.
    pub(crate) fn free_lease(&mut self, lease: Epoch) {
        if self.lease_open && self.is_current(lease) {
            self.lease_open = false;
            self.next_epoch();
        }
    }

    /// Returns the status of `lease` (K6, K8).
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

    fn next_epoch(&mut self) -> Epoch {
        self.clock = Epoch(self.clock.0.wrapping_add(1));
        self.clock
    }

    /// Clamps the end of a snapshot's lease to that of a lease given now (T7, K5).
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, latest: Timestamp) {
        self.lease_end = self.lease_end.min(latest);
    }

    /// Moves the instants to another clock (T7).
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
