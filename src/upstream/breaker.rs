//! The circuit breaker: stops calling an upstream that only fails (rule S3).

use crate::policy::BreakerPolicy;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{Timestamp, nanos};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Breaker {
    state: State,
    /// The number of the newest epoch. A new one is printed at every opening and for every probe, so that a epoch
    /// tells what its attempt was sent before and after.
    newest: u32,
    /// The epoch printed at the latest opening.
    opening: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum State {
    /// Every attempt is let through.
    Closed { failures_in_a_row: u32 },
    /// None is, before `until`; then the next is the probe.
    Open { until: Timestamp },
    /// Half-open: the probe is under way, and may take until `until`.
    Probing { epoch: u32, until: Timestamp },
}

/// When an attempt was sent, in the breaker's own order of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct SendEpoch(u32);

impl SendEpoch {
    pub(crate) const NONE: SendEpoch = SendEpoch(0);
}

/// What an attempt says about the health of the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    Good,
    Bad,
    /// 429, 401, and attempts that were given up by the user.
    Neutral,
}

impl Breaker {
    pub(crate) const fn new() -> Breaker {
        Breaker { state: State::Closed { failures_in_a_row: 0 }, newest: 0, opening: 0 }
    }

    /// The instant of the next probe, if nothing is let through before.
    pub(crate) fn next_probe(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until } | State::Probing { until, .. } => (now < until).then_some(until),
        }
    }

    /// An attempt is sent: [`next_probe`](Breaker::next_probe) was asked before. If it is the probe it takes the
    /// permit.
    pub(crate) fn send(&mut self, now: Timestamp, policy: Option<BreakerPolicy>) -> SendEpoch {
        if let (Some(policy), State::Open { .. } | State::Probing { .. }) = (policy, self.state) {
            let epoch = self.next_epoch();
            self.state = State::Probing { epoch, until: now.after(nanos(policy.open_for)) };
        }
        SendEpoch(self.newest)
    }

    /// An attempt brought a result. `jitter` draws the open time, from as long as the policy says to half as long
    /// again (F6); its argument counts the openings.
    pub(crate) fn record(
        &mut self,
        health: Health,
        sent: SendEpoch,
        now: Timestamp,
        policy: Option<BreakerPolicy>,
        jitter: impl FnOnce(u32, u64) -> u64,
    ) {
        let Some(policy) = policy else { return };
        if self.has_opened_since(sent) {
            return;
        }
        match (health, self.state) {
            (Health::Good, _) => self.state = State::Closed { failures_in_a_row: 0 },
            (Health::Bad, State::Closed { failures_in_a_row: run })
                if run.saturating_add(1) < policy.failure_threshold =>
            {
                self.state = State::Closed { failures_in_a_row: run + 1 };
            }
            (Health::Bad, _) => {
                self.opening = self.next_epoch();
                let open = jitter(self.opening, nanos(policy.open_for));
                self.state = State::Open { until: now.after(open) };
            }
            (Health::Neutral, State::Probing { epoch: permit, .. }) if permit == sent.0 => {
                self.state = State::Open { until: now };
            }
            (Health::Neutral, _) => {}
        }
    }

    /// Whether an attempt with this epoch was sent before the latest opening. Tickets wrap around; no attempt is under
    /// way for half of four billion openings.
    pub(crate) fn has_opened_since(&self, sent: SendEpoch) -> bool {
        sent.0.wrapping_sub(self.opening) > u32::MAX / 2
    }

    fn next_epoch(&mut self) -> u32 {
        self.newest = self.newest.wrapping_add(1);
        self.newest
    }

    /// T7.
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) {
        if let State::Open { until } | State::Probing { until, .. } = &mut self.state {
            shift.ahead(until);
        }
    }

    /// T7, F6: what a snapshot says is open for half as long again as the policy says, at most.
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, now: Timestamp, policy: Option<BreakerPolicy>) {
        let open = policy.map_or(0, |policy| nanos(policy.open_for));
        if let State::Open { until } | State::Probing { until, .. } = &mut self.state {
            *until = (*until).min(now.after(open).after(open / 2));
        }
    }
}
