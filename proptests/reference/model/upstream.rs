//! The state that all requests of one upstream share: token, gate, budget, breaker.

use super::event::Outcome;
use super::settings::{BreakerSettings, Charge, Refund, Settings};
use super::span::{Ns, Span, after};

#[derive(Clone, Debug)]
pub struct Upstream {
    /// K4.
    pub generation: u64,
    /// K7: when the token expires and its lifetime, if the driver reported them.
    pub expiry: Option<Expiry>,
    /// K6: the current generation's refresh was rejected.
    pub rejected: bool,
    /// K6: no new lease before this instant.
    pub throttled_until: Ns,
    /// Every lease, oldest first.
    pub leases: Vec<Lease>,
    /// S1: the last closing of the gate, unless the user has opened it since.
    pub gate: Option<Gate>,
    /// Number of throttles that this upstream has got.
    pub throttles: u64,
    /// S2: the balance.
    pub budget: u64,
    /// S3.
    pub breaker: Breaker,
}

#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    pub at: Ns,
    pub lifetime: Ns,
}

/// K5.
#[derive(Clone, Debug)]
pub struct Lease {
    pub holder: u64,
    pub end: Ns,
    /// The generation that the refresh replaces.
    pub generation: u64,
    pub outcome: Option<Outcome>,
    /// Given back before its end.
    pub freed: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Gate {
    pub closed_at: Ns,
    pub opens: Ns,
}

#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// The run of failures while closed.
    pub failures: u64,
    /// Number of openings. An attempt with a smaller number was sent before the latest opening.
    pub openings: u64,
    /// While open: the bounds of the instant of the next probe.
    pub open: Option<Span>,
    pub permit: Option<Permit>,
}

#[derive(Clone, Copy, Debug)]
pub struct Permit {
    pub request: u64,
    pub attempt: usize,
    pub expires: Ns,
}

/// The meaning of an attempt's result for the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Failure,
    Neutral,
    Success,
}

impl Upstream {
    pub fn new(settings: &Settings) -> Upstream {
        Upstream {
            generation: 0, // F5
            expiry: settings.token_expires_in.map(|lifetime| Expiry { at: lifetime, lifetime }),
            rejected: false,
            throttled_until: 0,
            leases: Vec::new(),
            gate: None,
            throttles: 0,
            budget: settings.budget.as_ref().map_or(0, |b| b.capacity), // S2: it starts full
            breaker: Breaker::default(),
        }
    }

    /// Installs a new token, from a refresh or from the user (K4, K6, K7).
    pub fn new_token(&mut self, now: Ns, expires_in: Option<Ns>) {
        self.generation += 1;
        self.expiry = expires_in.map(|lifetime| Expiry { at: after(now, lifetime), lifetime });
        self.rejected = false;
    }

    /// K7, F5: returns whether `now` is strictly later than the expiry less the margin, which is at most half the lifetime.
    pub fn token_is_due(&self, now: Ns, margin: Ns) -> bool {
        self.expiry.is_some_and(|e| now > e.at - margin.min(e.lifetime / 2))
    }

    /// Returns the newest lease while it has neither ended nor got an outcome (I6). Replacing the token ends it (F5).
    pub fn active_lease(&self, now: Ns) -> Option<usize> {
        let lease = self.leases.last()?;
        let active = !lease.freed && lease.outcome.is_none() && lease.generation == self.generation && now < lease.end;
        active.then(|| self.leases.len() - 1)
    }

    /// K5: returns the lease for which this request's outcome counts.
    pub fn counting_lease(&self, request: u64) -> Option<usize> {
        let lease = self.leases.last()?;
        let counts = lease.holder == request && lease.outcome.is_none() && lease.generation == self.generation;
        counts.then(|| self.leases.len() - 1)
    }

    /// S1: returns the gate while it is closed.
    pub fn gate_opens(&self, now: Ns) -> Option<Gate> {
        self.gate.filter(|gate| gate.opens > now)
    }

    /// S1: closes the gate until `until`, and never opens it sooner than before.
    pub fn close_gate(&mut self, now: Ns, until: Ns) {
        match self.gate_opens(now) {
            Some(gate) => self.gate = Some(Gate { opens: gate.opens.max(until), ..gate }),
            None if until > now => self.gate = Some(Gate { closed_at: now, opens: until }),
            None => {}
        }
    }

    /// S2: deposits the refund of a good answer. `last_cost` is the price of its request's last retry.
    pub fn deposit(&mut self, settings: &Settings, last_cost: Option<u64>) {
        if let Some(budget) = &settings.budget {
            let refund = match budget.refund {
                Refund::Fixed => budget.success_refund,
                Refund::LastCost => last_cost.unwrap_or(budget.success_refund),
            };
            self.budget = self.budget.saturating_add(refund).min(budget.capacity);
        }
    }

    /// S2: charges a failure, where failures are charged.
    pub fn charge_failure(&mut self, settings: &Settings, throttled: bool) {
        if let Some(budget) = settings.budget.as_ref().filter(|budget| budget.charge == Charge::Failure) {
            self.budget = self.budget.saturating_sub(budget.cost(throttled));
        }
    }

    /// S2, P3: withdraws the cost of a retry. Returns whether the balance was enough.
    pub fn try_withdraw(&mut self, settings: &Settings, throttled: bool) -> bool {
        let Some(budget) = &settings.budget else {
            return true;
        };
        let cost = match budget.charge {
            Charge::Retry => budget.cost(throttled),
            Charge::Failure => 0, // Its failure has been charged.
        };
        match self.budget.checked_sub(cost).filter(|rest| *rest >= budget.floor) {
            Some(rest) => {
                self.budget = rest;
                true
            }
            None => false,
        }
    }
}

impl Breaker {
    /// S3: records the result of an attempt that was sent after `openings` openings.
    pub fn record(
        &mut self,
        s: &BreakerSettings,
        now: Ns,
        exact: bool,
        openings: u64,
        from: (u64, usize),
        health: Health,
    ) {
        if openings != self.openings {
            return; // sent before the opening
        }
        match health {
            Health::Success => {
                self.open = None;
                self.permit = None;
                self.failures = 0;
            }
            Health::Failure => {
                self.failures += 1;
                if self.open.is_some() || self.failures >= s.failures {
                    // F6: jittered in [open, 1.5 × open]
                    let longest = if exact { s.open } else { s.open + s.open / 2 };
                    self.open = Some(Span::new(s.open, longest).after(now));
                    self.openings += 1;
                    self.permit = None;
                    self.failures = 0;
                }
            }
            Health::Neutral => self.release(from.0, from.1),
        }
    }

    /// S6: frees the permit of this attempt, if it holds one.
    pub fn release(&mut self, request: u64, attempt: usize) {
        self.permit = self.permit.filter(|p| (p.request, p.attempt) != (request, attempt));
    }

    /// Returns the permit of a probe that is under way and has not expired.
    pub fn probing(&self, now: Ns) -> Option<Permit> {
        self.permit.filter(|p| self.open.is_some() && now < p.expires)
    }

    /// Returns the instant of the next probe while open. That is the expiry of the permit while a probe is under way.
    pub fn next_probe(&self, now: Ns) -> Option<Span> {
        let open = self.open?;
        Some(self.probing(now).map_or(open, |p| Span::exactly(p.expires)))
    }
}
