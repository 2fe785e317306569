//! The circuit breaker: stops calling an upstream that only fails (rule S3).

use crate::policy::BreakerPolicy;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{Time, nanos};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Breaker {
    state: State,
    /// The number of the newest ticket. A new one is printed at every opening and for every probe, so that a ticket
    /// tells what its attempt was sent before and after.
    newest: u32,
    /// The ticket printed at the latest opening.
    opening: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
enum State {
    /// Every attempt is let through.
    Closed { failures_in_a_row: u32 },
    /// None is, before `until`; then the next is the probe.
    Open { until: Time },
    /// Half-open: the probe is under way, and may take until `until`.
    Probing { ticket: u32, until: Time },
}

/// When an attempt was sent, in the breaker's own order of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Ticket(u32);

impl Ticket {
    pub(crate) const NONE: Ticket = Ticket(0);
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
    pub(crate) fn next_probe(&self, now: Time) -> Option<Time> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until } | State::Probing { until, .. } => (now < until).then_some(until),
        }
    }

    /// An attempt is sent: [`next_probe`](Breaker::next_probe) was asked before. If it is the probe it takes the
    /// permit.
    pub(crate) fn send(&mut self, now: Time, policy: Option<BreakerPolicy>) -> Ticket {
        if let (Some(policy), State::Open { .. } | State::Probing { .. }) = (policy, self.state) {
            let ticket = self.print_ticket();
            self.state = State::Probing { ticket, until: now.after(nanos(policy.open)) };
        }
        Ticket(self.newest)
    }

    /// An attempt brought a result. `jitter` draws the open time, from as long as the policy says to half as long
    /// again (F6); its argument counts the openings.
    pub(crate) fn record(
        &mut self,
        health: Health,
        ticket: Ticket,
        now: Time,
        policy: Option<BreakerPolicy>,
        jitter: impl FnOnce(u32, u64) -> u64,
    ) {
        let Some(policy) = policy else { return };
        if self.has_opened_since(ticket) {
            return;
        }
        match (health, self.state) {
            (Health::Good, _) => self.state = State::Closed { failures_in_a_row: 0 },
            (Health::Bad, State::Closed { failures_in_a_row: run }) if run.saturating_add(1) < policy.failures => {
                self.state = State::Closed { failures_in_a_row: run + 1 };
            }
            (Health::Bad, _) => {
                self.opening = self.print_ticket();
                let open = jitter(self.opening, nanos(policy.open));
                self.state = State::Open { until: now.after(open) };
            }
            (Health::Neutral, State::Probing { ticket: permit, .. }) if permit == ticket.0 => {
                self.state = State::Open { until: now };
            }
            (Health::Neutral, _) => {}
        }
    }

    /// Whether an attempt with this ticket was sent before the latest opening. Tickets wrap around; no attempt is under
    /// way for half of four billion openings.
    pub(crate) fn has_opened_since(&self, ticket: Ticket) -> bool {
        ticket.0.wrapping_sub(self.opening) > u32::MAX / 2
    }

    fn print_ticket(&mut self) -> u32 {
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
    pub(crate) fn cut(&mut self, now: Time, policy: Option<BreakerPolicy>) {
        let open = policy.map_or(0, |policy| nanos(policy.open));
        if let State::Open { until } | State::Probing { until, .. } = &mut self.state {
            *until = (*until).min(now.after(open).after(open / 2));
        }
    }
}
