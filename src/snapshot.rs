//! Snapshots of a request or an upstream, to store and restore them (rule T7; feature `serde`).
//!
//! When a device goes to sleep or a process restarts, the restored state goes on as if nothing had happened. A snapshot
//! stores instants relative to its own `now`, so that the clock at the restoration may have another origin.
//!
//! ```
//! # fn main() -> Result<(), retry_machine::snapshot::SnapshotError> {
//! use retry_machine::snapshot::{MachineSnapshot, UpstreamSnapshot};
//! use retry_machine::{Action, Event, Policy, Idempotency, Reply, RetryMachine, Timestamp, Upstream};
//!
//! let mut upstream = Upstream::new(Policy::flextell());
//! let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
//! let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
//! let _ = machine.handle(Timestamp::ZERO, Event::Reply { attempt: 1, reply: Reply::new(503) }, &mut upstream);
//!
//! let now = Timestamp::from_millis(200);
//! let saved = (UpstreamSnapshot::new(&upstream, now), MachineSnapshot::new(&machine, now));
//! // … serialize to JSON or to flash, and back …
//!
//! let now = Timestamp::from_millis(5_000); // another clock
//! let mut upstream = saved.0.restore(Policy::flextell(), now)?;
//! let mut machine = saved.1.restore(now)?;
//! let action = machine.handle(now, Event::Tick, &mut upstream);
//! assert!(matches!(action, Action::Wait { until, .. } if until < Timestamp::from_millis(6_500)));
//! # Ok(())
//! # }
//! ```
//!
//! The serialized form is an object with a `version`, now 1, and private fields. Another version or an unknown field is
//! an error. The form holds nothing secret (rule H9). It does not include the policy, which comes with the program.
//! Save the upstream and its requests at the same `now`, or a lease may end at different times for its holder and for
//! the upstream.
//!
//! An instant can lie up to 146 years (2^62 ns) before its snapshot's `now`. An instant 438 years after `now`, or
//! later, counts as [`Timestamp::MAX`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::machine::RetryMachine;
use crate::policy::Policy;
use crate::time::Timestamp;
use crate::time::shift::{Shift, TooEarly};
use crate::upstream::Upstream;
use crate::upstream::breaker::Breaker;
use crate::upstream::budget::Budget;
use crate::upstream::gate::Gate;
use crate::upstream::token::Token;

/// A stored request.
///
/// ```
/// use retry_machine::snapshot::MachineSnapshot;
/// use retry_machine::{Idempotency, RetryMachine, Timestamp};
///
/// let machine = RetryMachine::new(Idempotency::Idempotent, 7);
/// let snapshot = MachineSnapshot::new(&machine, Timestamp::from_millis(200));
/// assert_eq!(snapshot.restore(Timestamp::ZERO)?, machine);
/// # Ok::<(), retry_machine::snapshot::SnapshotError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSnapshot {
    version: u32,
    #[serde(with = "crate::machine::snapshot::Fields")]
    machine: RetryMachine,
}

impl MachineSnapshot {
    /// Saves a request at `now`.
    #[must_use]
    pub fn new(machine: &RetryMachine, now: Timestamp) -> MachineSnapshot {
        let mut machine = machine.clone();
        // Nothing is too early: `ORIGIN` is later than any instant of a request is before its `now`.
        let _ = machine.rebase(Shift::new(now, ORIGIN));
        MachineSnapshot { version: VERSION, machine }
    }

    /// Restores the request at `now`, which may be of another clock.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version or describes an impossible state, or if `now` is so early
    /// that the request would have started before the clock's origin.
    pub fn restore(&self, now: Timestamp) -> Result<RetryMachine, SnapshotError> {
        check_version(self.version)?;
        let mut machine = self.machine.clone();
        machine.rebase(Shift::new(ORIGIN, now))?;
        if machine.is_possible() { Ok(machine) } else { Err(SnapshotError::Impossible) }
    }
}

/// A stored upstream, without its policy.
///
/// ```
/// use retry_machine::snapshot::UpstreamSnapshot;
/// use retry_machine::{Policy, Timestamp, Upstream};
///
/// let upstream = Upstream::new(Policy::flextell());
/// let snapshot = UpstreamSnapshot::new(&upstream, Timestamp::from_millis(200));
/// let restored = snapshot.restore(Policy::flextell(), Timestamp::from_millis(5_000))?;
/// assert_eq!(restored.generation(), upstream.generation());
/// # Ok::<(), retry_machine::snapshot::SnapshotError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSnapshot {
    version: u32,
    token: Token,
    gate: Gate,
    budget: Budget,
    breaker: Breaker,
}

impl UpstreamSnapshot {
    /// Saves an upstream at `now`.
    #[must_use]
    pub fn new(upstream: &Upstream, now: Timestamp) -> UpstreamSnapshot {
        let Upstream { token, gate, budget, breaker, .. } = upstream.clone();
        let mut snapshot = UpstreamSnapshot { version: VERSION, token, gate, budget, breaker };
        snapshot.rebase(Shift::new(now, ORIGIN));
        snapshot
    }

    /// Restores the upstream at `now`, which may be of another clock, with this policy. Values beyond what `policy`
    /// allows are clamped: the budget's balance, the token's lease, and the times for which the breaker is open and the
    /// gate is closed.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version.
    pub fn restore(&self, policy: Policy, now: Timestamp) -> Result<Upstream, SnapshotError> {
        check_version(self.version)?;
        let mut snapshot = self.clone();
        snapshot.rebase(Shift::new(ORIGIN, now));
        snapshot.gate.clamp(now, &policy);
        snapshot.budget.clamp(policy.budget);
        snapshot.token.clamp(now.after(policy.refresh_timeout));
        snapshot.breaker.clamp(now, policy.breaker);
        let UpstreamSnapshot { token, gate, budget, breaker, .. } = snapshot;
        let mut upstream = Upstream::new(policy);
        upstream.advance(now);
        (upstream.token, upstream.gate, upstream.budget, upstream.breaker) = (token, gate, budget, breaker);
        Ok(upstream)
    }

    fn rebase(&mut self, shift: Shift) {
        self.token.rebase(shift);
        self.breaker.rebase(shift);
        self.budget.rebase(shift);
        self.gate.rebase(shift);
    }
}

/// The reason why a snapshot cannot be restored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The snapshot has another version than 1.
    #[error("the snapshot has version {version}, but only version 1 can be read")]
    Version {
        /// The snapshot's version.
        version: u32,
    },
    /// The snapshot describes a state that no request can reach.
    #[error("the snapshot describes an impossible state")]
    Impossible,
    /// An instant of the snapshot would lie before the clock's origin. A clock with a fixed date as its origin avoids
    /// this.
    #[error("the snapshot goes further back than the origin of the clock")]
    TooEarly,
}

impl From<TooEarly> for SnapshotError {
    fn from(_: TooEarly) -> SnapshotError {
        SnapshotError::TooEarly
    }
}

/// The `now` of every stored snapshot: far from both ends of time.
const ORIGIN: Timestamp = Timestamp::from_nanos(1 << 62);

/// The version of the serialized form.
const VERSION: u32 = 1;

fn check_version(version: u32) -> Result<(), SnapshotError> {
    if version == VERSION { Ok(()) } else { Err(SnapshotError::Version { version }) }
}
