//! Snapshots: a request or an upstream as it stands, to be stored and restored (rule T7; feature `serde`).
//!
//! A device goes to sleep, a process is restarted: what was saved goes on as if nothing had happened. A snapshot stores
//! instants relative to its own `now`, so the clock it is restored with may have another origin.
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
//! // … to JSON, to flash, and back …
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
//! The serialised form is an object with a `version` (now 1) and fields that are the crate's own business; what this
//! version cannot read it refuses. It holds nothing secret (rule H9). The policy is no part of it: it comes with the
//! program. Save the upstream and its requests at the same `now`, or a lease that one holds may end at another time for
//! the other.
//!
//! An instant may lie up to 146 years (2^62 ns) before its snapshot's `now`; what lies 438 years after it or more counts
//! as [`Timestamp::MAX`].

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

/// What instants in a snapshot are relative to: far from both ends of time.
const ORIGIN: Timestamp = Timestamp::from_nanos(1 << 62);

/// The version of the serialised form.
const VERSION: u32 = 1;

/// A request as it stood.
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
        // Into the snapshot's own time everything fits: nothing lies further back than time itself goes.
        let _ = machine.rebase(Shift::new(now, ORIGIN));
        MachineSnapshot { version: VERSION, machine }
    }

    /// Restores it at `now`, of whatever clock.
    ///
    /// # Errors
    ///
    /// A [`SnapshotError`] if this version cannot read it, if no request can be in such a state, or if `now` is so early
    /// that the request would have begun before time does.
    pub fn restore(&self, now: Timestamp) -> Result<RetryMachine, SnapshotError> {
        check(self.version)?;
        let mut machine = self.machine.clone();
        machine.rebase(Shift::new(ORIGIN, now))?;
        if machine.is_possible() { Ok(machine) } else { Err(SnapshotError::Impossible) }
    }
}

/// An upstream as it stood, without its policy.
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
        let _ = snapshot.rebase(Shift::new(now, ORIGIN));
        snapshot
    }

    /// Restores it at `now`, of whatever clock, under this policy. What is more than can be is cut: a budget, and for how
    /// long the token is leased, the breaker open and the gate closed.
    ///
    /// # Errors
    ///
    /// A [`SnapshotError`] if this version cannot read it, or if `now` is so early that the gate would have closed before
    /// time begins.
    pub fn restore(&self, policy: Policy, now: Timestamp) -> Result<Upstream, SnapshotError> {
        check(self.version)?;
        let mut this = self.clone();
        this.rebase(Shift::new(ORIGIN, now))?;
        this.gate.clamp();
        this.budget.clamp(policy.budget);
        this.token.clamp(now.after(policy.refresh_timeout));
        this.breaker.clamp(now, policy.breaker);
        let UpstreamSnapshot { token, gate, budget, breaker, .. } = this;
        let mut upstream = Upstream::new(policy);
        upstream.advance(now);
        (upstream.token, upstream.gate, upstream.budget, upstream.breaker) = (token, gate, budget, breaker);
        Ok(upstream)
    }

    fn rebase(&mut self, shift: Shift) -> Result<(), TooEarly> {
        self.token.rebase(shift);
        self.breaker.rebase(shift);
        self.gate.rebase(shift)
    }
}

fn check(version: u32) -> Result<(), SnapshotError> {
    if version == VERSION { Ok(()) } else { Err(SnapshotError::Version { version }) }
}

/// Why a snapshot cannot be restored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is of another version.
    #[error("version {version} of the snapshot cannot be read, only version 1 can")]
    Version {
        /// The snapshot's version.
        version: u32,
    },
    /// No request can be in such a state.
    #[error("the snapshot is of a state that cannot be")]
    Impossible,
    /// Something in it would have happened before time begins. A clock that begins at a fixed date has room enough.
    #[error("the clock is too young: the snapshot goes further back than it does")]
    TooEarly,
}

impl From<TooEarly> for SnapshotError {
    fn from(_: TooEarly) -> SnapshotError {
        SnapshotError::TooEarly
    }
}
