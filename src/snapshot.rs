//! Snapshots of a request, an upstream or one of its parts, to store and restore them (rule T7; feature `serde`).
//!
//! When a device goes to sleep or a process restarts, the restored state goes on as if nothing had happened. A snapshot
//! stores instants relative to its own `now`, so that the clock at the restoration may have another origin: that of another
//! process, of the next boot, of another machine. An instant that has passed keeps its age as far as the new clock can
//! express it, and else counts as its origin.
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
//! the login.
//!
//! An instant can lie up to 146 years (2^62 ns) before its snapshot's `now`. An instant 438 years after `now`, or
//! later, counts as [`Timestamp::MAX`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::machine::RetryMachine;
use crate::policy::Policy;
use crate::time::Timestamp;
use crate::time::shift::Shift;
use crate::upstream::breaker::Breaker;
use crate::upstream::budget::Budget;
use crate::upstream::{Gate, Login, Service, Upstream};

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
        machine.rebase(Shift::new(now, ORIGIN));
        MachineSnapshot { version: VERSION, machine }
    }

    /// Restores the request at `now`, which may be of another clock.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version or describes an impossible state.
    pub fn restore(&self, now: Timestamp) -> Result<RetryMachine, SnapshotError> {
        check_version(self.version)?;
        let mut machine = self.machine.clone();
        machine.rebase(Shift::new(ORIGIN, now));
        if machine.is_possible() { Ok(machine) } else { Err(SnapshotError::Impossible) }
    }
}

/// A stored service, without its policy (rule S8).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSnapshot {
    version: u32,
    budget: Budget,
    breaker: Breaker,
}

impl ServiceSnapshot {
    /// Saves a service at `now`.
    #[must_use]
    pub fn new(service: &Service, now: Timestamp) -> ServiceSnapshot {
        let Service { budget, breaker, .. } = service.clone();
        let mut snapshot = ServiceSnapshot { version: VERSION, budget, breaker };
        snapshot.rebase(Shift::new(now, ORIGIN));
        snapshot
    }

    /// Restores the service at `now`, which may be of another clock, with this policy. The budget's balance and the time
    /// for which the breaker is open are clamped to what `policy` allows.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version.
    pub fn restore(&self, policy: Policy, now: Timestamp) -> Result<Service, SnapshotError> {
        check_version(self.version)?;
        let mut snapshot = self.clone();
        snapshot.rebase(Shift::new(ORIGIN, now));
        snapshot.budget.clamp(policy.budget.as_ref());
        snapshot.breaker.clamp(now, policy.breaker.as_ref());
        let mut service = Service::new(policy);
        service.advance(now);
        (service.budget, service.breaker) = (snapshot.budget, snapshot.breaker);
        Ok(service)
    }

    fn rebase(&mut self, shift: Shift) {
        self.breaker.rebase(shift);
        self.budget.rebase(shift);
    }
}

/// A stored login (rule S8). It does not hold the token: store that with your secrets, and its generation beside it.
///
/// ```
/// use retry_machine::snapshot::LoginSnapshot;
/// use retry_machine::{Login, Policy, Timestamp};
///
/// let login = Login::new();
/// let snapshot = LoginSnapshot::new(&login, Timestamp::from_millis(3_600_000));
/// let restored = snapshot.restore(&Policy::flextell(), Timestamp::from_millis(5_000))?;
/// assert_eq!(restored.generation(), login.generation());
/// # Ok::<(), retry_machine::snapshot::SnapshotError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginSnapshot {
    version: u32,
    login: Login,
}

impl LoginSnapshot {
    /// Saves a login at `now`.
    #[must_use]
    pub fn new(login: &Login, now: Timestamp) -> LoginSnapshot {
        let mut login = login.clone();
        login.rebase(Shift::new(now, ORIGIN));
        LoginSnapshot { version: VERSION, login }
    }

    /// Restores the login at `now`, which may be of another clock. The end of a lease is clamped to what `policy` allows.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version.
    pub fn restore(&self, policy: &Policy, now: Timestamp) -> Result<Login, SnapshotError> {
        check_version(self.version)?;
        let mut login = self.login.clone();
        login.rebase(Shift::new(ORIGIN, now));
        login.clamp(now, policy);
        Ok(login)
    }
}

/// A stored gate (rule S8).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSnapshot {
    version: u32,
    gate: Gate,
}

impl GateSnapshot {
    /// Saves a gate at `now`.
    #[must_use]
    pub fn new(gate: &Gate, now: Timestamp) -> GateSnapshot {
        let mut gate = gate.clone();
        gate.rebase(Shift::new(now, ORIGIN));
        GateSnapshot { version: VERSION, gate }
    }

    /// Restores the gate at `now`, which may be of another clock. A closing is clamped to the longest server wait of
    /// `policy`, unless an operator closed the gate.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version.
    pub fn restore(&self, policy: &Policy, now: Timestamp) -> Result<Gate, SnapshotError> {
        check_version(self.version)?;
        let mut gate = self.gate.clone();
        gate.rebase(Shift::new(ORIGIN, now));
        gate.clamp(now, policy);
        Ok(gate)
    }
}

/// A stored upstream, without its policy: its three parts, saved at one instant.
///
/// ```
/// use retry_machine::snapshot::UpstreamSnapshot;
/// use retry_machine::{Policy, Timestamp, Upstream};
///
/// let upstream = Upstream::new(Policy::flextell());
/// let snapshot = UpstreamSnapshot::new(&upstream, Timestamp::from_millis(3_600_000));
/// let restored = snapshot.restore(Policy::flextell(), Timestamp::from_millis(5_000))?;
/// assert_eq!(restored.login.generation(), upstream.login.generation());
/// # Ok::<(), retry_machine::snapshot::SnapshotError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSnapshot {
    service: ServiceSnapshot,
    login: LoginSnapshot,
    gate: GateSnapshot,
}

impl UpstreamSnapshot {
    /// Saves an upstream at `now`.
    #[must_use]
    pub fn new(upstream: &Upstream, now: Timestamp) -> UpstreamSnapshot {
        UpstreamSnapshot {
            service: ServiceSnapshot::new(&upstream.service, now),
            login: LoginSnapshot::new(&upstream.login, now),
            gate: GateSnapshot::new(&upstream.gate, now),
        }
    }

    /// Restores the upstream at `now`, which may be of another clock, with this policy. Values beyond what `policy`
    /// allows are clamped, as the parts say.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if the snapshot has another version.
    pub fn restore(&self, policy: Policy, now: Timestamp) -> Result<Upstream, SnapshotError> {
        let login = self.login.restore(&policy, now)?;
        let gate = self.gate.restore(&policy, now)?;
        Ok(Upstream { service: self.service.restore(policy, now)?, login, gate })
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
}

/// The `now` of every stored snapshot: far from both ends of time.
const ORIGIN: Timestamp = Timestamp::from_nanos(1 << 62);

/// The version of the serialized form.
const VERSION: u32 = 1;

fn check_version(version: u32) -> Result<(), SnapshotError> {
    if version == VERSION { Ok(()) } else { Err(SnapshotError::Version { version }) }
}
