//! The state that requests share (S8): the budget and the breaker of the service, its logins, its gates.

use super::gate::Gate;
use super::login::Login;
use super::settings::{BreakerSettings, Budget, Charge, Refund, Settings};
use super::span::{Ns, Span};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Upstream {
    /// Those that an event has named.
    pub logins: BTreeMap<u64, Login>,
    /// S1: those that an event has named, unless the policy turns them off.
    pub gates: BTreeMap<u64, Gate>,
    /// S2, unless the policy turns it off.
    pub balance: Option<Balance>,
    /// S3.
    pub breaker: Breaker,
}

/// S2.
#[derive(Clone, Debug)]
pub struct Balance {
    settings: Budget,
    tokens: u64,
    /// C4: when it was last full, or when time last brought a token.
    refilled: Ns,
}

#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// C5: the run of bad results while closed, and when the first of them came.
    pub failures: u64,
    pub since: Ns,
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
            logins: BTreeMap::new(),
            gates: BTreeMap::new(),
            balance: settings.budget.clone().map(Balance::full),
            breaker: Breaker::default(),
        }
    }

    /// S8: returns a login, which begins when it is first named.
    pub fn login(&mut self, login: u64, settings: &Settings) -> &mut Login {
        self.logins.entry(login).or_insert_with(|| Login::new(settings))
    }

    /// S8: returns a gate, which begins when it is first named, unless the policy has none.
    pub fn gate(&mut self, gate: u64, settings: &Settings) -> Option<&mut Gate> {
        let begin = || Gate::new(settings.max_server_wait);
        settings.gate.then(|| self.gates.entry(gate).or_insert_with(begin))
    }

    /// S1: returns the gate while it is closed.
    pub fn closed_gate(&self, gate: u64, now: Ns) -> Option<&Gate> {
        self.gates.get(&gate).filter(|gate| gate.is_closed(now))
    }
}

impl Balance {
    /// S2, C1: it starts full.
    fn full(settings: Budget) -> Balance {
        Balance { tokens: settings.capacity, settings, refilled: 0 }
    }

    /// C4.
    fn refill(&mut self, now: Ns) {
        let every = self.settings.refill_every;
        if every > 0 {
            let brought = (now - self.refilled) / every;
            self.refilled += brought * every;
            self.add(u64::try_from(brought).expect("time does not go back"));
        }
        if self.tokens == self.settings.capacity {
            self.refilled = now;
        }
    }

    fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.settings.capacity);
    }

    /// C3: a good answer gives back. `paid` is what its request has paid and not got back.
    pub fn deposit(&mut self, now: Ns, paid: &mut u64) {
        self.refill(now);
        let paid = std::mem::take(paid);
        let nominal = self.settings.success_refund;
        self.add(match self.settings.refund {
            Refund::Fixed => nominal,
            Refund::LastCost => {
                if paid > 0 {
                    paid
                } else {
                    nominal
                }
            }
            Refund::Paid => nominal.saturating_add(paid),
        });
    }

    /// S2: charges a failure, where failures are charged.
    pub fn charge_failure(&mut self, now: Ns, price: u64, paid: &mut u64) {
        if self.settings.charge == Charge::Failure {
            self.refill(now);
            self.pay(price.min(self.tokens), paid);
        }
    }

    /// S2, P3: charges a retry, where failures are not. Returns whether the balance is enough.
    pub fn try_withdraw(&mut self, now: Ns, price: u64, paid: &mut u64) -> bool {
        self.refill(now);
        let is_charged = self.settings.charge == Charge::Retry;
        let price = if is_charged { price } else { 0 };
        if self.tokens.checked_sub(price).is_none_or(|rest| rest < self.settings.floor) {
            return false;
        }
        if is_charged {
            self.pay(price, paid);
        }
        true
    }

    /// C3: remembers what the request has paid, as far as a good answer gives it back.
    fn pay(&mut self, price: u64, paid: &mut u64) {
        self.tokens -= price;
        *paid = match self.settings.refund {
            Refund::Fixed => 0,
            Refund::LastCost => price,
            Refund::Paid => paid.saturating_add(price),
        };
    }

    /// S2: returns the price of a retry.
    pub fn price(&self, throttled: bool) -> u64 {
        if throttled { self.settings.throttle_cost } else { self.settings.retry_cost }
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
                if self.failures == 0 {
                    self.since = now;
                }
                self.failures += 1;
                let run_is_over = self.failures >= s.failures && now - self.since >= s.open; // C5
                if self.open.is_some() || run_is_over {
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
