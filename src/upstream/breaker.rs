//! The circuit breaker: stops calling an upstream that only fails (rule S3).

use crate::policy::BreakerPolicy;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{Timestamp, nanos};

/// The state of the breaker. Epochs order its events: each opening and each probe begins a new epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Breaker {
    state: State,
    /// The newest epoch.
    newest: u32,
    /// The epoch that the latest opening began.
    opening: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum State {
    /// All attempts pass. The run of failures began at `since`.
    Closed { failures_in_a_row: u32, since: Timestamp },
    /// No attempt passes before `until`. The next one after it is the probe.
    Open { until: Timestamp },
    /// Half-open: the probe is under way, and its permit ends at `until`.
    Probing { epoch: u32, until: Timestamp },
}

impl State {
    const CALM: State = State::Closed { failures_in_a_row: 0, since: Timestamp::ZERO };
}

/// The breaker's epoch in which an attempt was sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct SendEpoch(u32);

impl SendEpoch {
    pub(crate) const NONE: SendEpoch = SendEpoch(0);
}

/// The health of the upstream, as the result of an attempt shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Good,
    Bad,
    /// The result says nothing about it (D18).
    Neutral,
}

impl Breaker {
    pub(crate) const fn new() -> Breaker {
        Breaker { state: State::CALM, newest: 0, opening: 0 }
    }

    /// Returns whether no attempt is let through.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.next_probe(now).is_some()
    }

    /// Returns the instant of the next probe, if no attempt passes now.
    pub(crate) fn next_probe(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until } | State::Probing { until, .. } => (now < until).then_some(until),
        }
    }

    /// Registers an attempt that is sent. The caller has checked [`next_probe`](Breaker::next_probe), so outside of the
    /// closed state the attempt is the probe and takes the permit.
    pub(crate) fn register_send(&mut self, now: Timestamp, policy: Option<&BreakerPolicy>) -> SendEpoch {
        if let (Some(policy), State::Open { .. } | State::Probing { .. }) = (policy, self.state) {
            let epoch = self.next_epoch();
            self.state = State::Probing { epoch, until: now.after(nanos(policy.open_for)) };
        }
        SendEpoch(self.newest)
    }

    /// Records the result of an attempt. `jitter` draws the open time from the epoch of the opening and the policy's
    /// open time (F6).
    pub(crate) fn record(
        &mut self,
        health: Health,
        sent: SendEpoch,
        now: Timestamp,
        policy: Option<&BreakerPolicy>,
        jitter: impl FnOnce(u32, u64) -> u64,
    ) {
        let Some(policy) = policy else { return };
        if self.has_opened_since(sent) {
            return;
        }
        match (health, self.state) {
            (Health::Good, _) => self.state = State::CALM,
            (Health::Bad, State::Closed { failures_in_a_row, since }) => {
                let since = if failures_in_a_row == 0 { now } else { since };
                let failures_in_a_row = failures_in_a_row.saturating_add(1);
                // C5: a burst of failures is not a run.
                if failures_in_a_row >= policy.failure_threshold && now.since(since) >= nanos(policy.open_for) {
                    self.open(now, policy, jitter);
                } else {
                    self.state = State::Closed { failures_in_a_row, since };
                }
            }
            (Health::Bad, State::Open { .. } | State::Probing { .. }) => self.open(now, policy, jitter),
            (Health::Neutral, State::Probing { epoch: probe, .. }) if probe == sent.0 => {
                // The permit is free again.
                self.state = State::Open { until: now };
            }
            (Health::Neutral, _) => {}
        }
    }

    fn open(&mut self, now: Timestamp, policy: &BreakerPolicy, jitter: impl FnOnce(u32, u64) -> u64) {
        self.opening = self.next_epoch();
        let open_time = jitter(self.opening, nanos(policy.open_for));
        self.state = State::Open { until: now.after(open_time) };
    }

    /// Returns whether an attempt of this epoch was sent before the latest opening. Epochs wrap around, but no attempt
    /// is under way for two billion openings.
    pub(crate) fn has_opened_since(&self, sent: SendEpoch) -> bool {
        sent.0.wrapping_sub(self.opening) > u32::MAX / 2
    }

    fn next_epoch(&mut self) -> u32 {
        self.newest = self.newest.wrapping_add(1);
        self.newest
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) {
        match &mut self.state {
            State::Closed { since, .. } => shift.exact(since),
            State::Open { until } | State::Probing { until, .. } => shift.ahead(until),
        }
    }

    /// Clamps the open time of a snapshot to one and a half times that of the policy (T7, F6).
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, now: Timestamp, policy: Option<&BreakerPolicy>) {
        let open_for = policy.map_or(0, |policy| nanos(policy.open_for));
        if let State::Open { until } | State::Probing { until, .. } = &mut self.state {
            *until = (*until).min(now.after(open_for).after(open_for / 2));
        }
    }
}
