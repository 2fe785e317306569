//! Results that the upstream records, the end of a request, and its pending action.

use super::super::reading::Facts;
use super::Model;
use super::action::{Action, Failure, Reason, advice};
use super::gate::Why;
use super::meaning::{Class, Taken};
use super::request::{AttemptResult, Place, Request, State};
use super::settings::Jitter;
use super::span::{END, Ns, Span, after};
use super::upstream::Health;

/// Whether a result is a 2xx that its request takes as the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    With2xx,
    Otherwise,
}

impl Model {
    /// H6, H10: a reply closes the gate until its effective hint and until nothing else.
    pub(super) fn apply_hints_to_gate(&mut self, r: &Request, status: u64, taken: &Taken, facts: &Facts) {
        let closes = match taken.class {
            Class::Throttle => true,
            Class::Retry | Class::RetryIfSafe => facts.nothing_remains,
            Class::Answer => facts.nothing_remains && (200..300).contains(&status),
            Class::Surface => facts.nothing_remains && status != 401,
            Class::Unauthorized => false,
        };
        if let (true, Some((hint, _)), Some(gate)) = (closes, taken.hint, self.upstream.gates.get_mut(&r.gate)) {
            self.has_closed = gate.close(self.now, after(self.now, hint), Why::Hint);
            self.rule("H6: closes the gate");
        }
    }

    /// C2: returns the price of a retry.
    pub(super) fn price(&self, throttled: bool, hint: Option<(Ns, Reason)>) -> u64 {
        let is_counted_apart = self.settings.throttle_retries.is_some() && hint.is_some_and(|(wait, _)| wait > 0);
        if throttled && (self.was_closed || is_counted_apart) {
            return 0;
        }
        self.upstream.balance.as_ref().map_or(0, |balance| balance.price(throttled))
    }

    /// S2: charges a failure, where failures are charged.
    pub(super) fn charge_failure(&mut self, r: &mut Request, throttled: bool, hint: Option<(Ns, Reason)>) {
        let price = self.price(throttled, hint);
        if let Some(balance) = &mut self.upstream.balance {
            balance.charge_failure(self.now, price, &mut r.paid);
        }
    }

    /// F6: a late result counts if it is the first 2xx of its attempt (without a verdict), or the first result of an
    /// attempt that was in flight when its request ended. `charge`: the price of a failure that is charged.
    pub(super) fn record_late(
        &mut self,
        r: &mut Request,
        k: usize,
        answered: Answered,
        health: Health,
        charge: Option<(bool, Option<(Ns, Reason)>)>,
    ) {
        let result = r.attempts[k].result;
        if result == AttemptResult::Open {
            self.record(r, k, health, answered);
            if let Some((throttled, hint)) = charge {
                self.charge_failure(r, throttled, hint);
            }
        } else if answered == Answered::With2xx && result != AttemptResult::Succeeded {
            self.record(r, k, health, answered);
        }
    }

    /// C7, S3, S2: records the result of attempt `k`, counted from 0.
    pub(super) fn record(&mut self, r: &mut Request, k: usize, health: Health, answered: Answered) {
        let success = health == Health::Success;
        r.attempts[k].result = match answered {
            Answered::With2xx => AttemptResult::Succeeded,
            Answered::Otherwise => AttemptResult::Over,
        };
        if let Some(gate) = self.upstream.gates.get_mut(&r.gate) {
            gate.attempt_ended(self.now, success);
        }
        if let Some(settings) = &self.settings.breaker {
            let exact = self.settings.jitter == Jitter::None;
            let openings = r.attempts[k].openings;
            self.upstream.breaker.record(settings, self.now, exact, openings, (r.id, k), health);
        }
        if let Some(balance) = self.upstream.balance.as_mut().filter(|_| success) {
            balance.deposit(self.now, &mut r.paid);
        }
    }

    /// S3: returns whether the breaker forbids a send now.
    pub(super) fn breaker_blocks(&mut self) -> bool {
        let Some(probe) = self.upstream.breaker.next_probe(self.now) else {
            return false;
        };
        let blocked = self.guesses.ask(self.now < probe.hi, self.now >= probe.lo);
        if !blocked {
            if let Some(open) = &mut self.upstream.breaker.open {
                open.hi = open.hi.min(self.now);
            }
        }
        blocked
    }

    pub(super) fn end(&mut self, r: &mut Request, action: Action) -> Action {
        self.upstream.breaker.release(r.id, r.attempts.len().wrapping_sub(1)); // S6
        if let (Some(Place::Queue(slot)), Some(gate)) = (r.place.take(), self.upstream.gates.get_mut(&r.gate)) {
            gate.give_back(slot); // C9
        }
        r.state = State::Ended(action.clone());
        action
    }

    /// E1, F8.
    pub(super) fn fail(&mut self, r: &mut Request, kind: &'static str) -> Action {
        self.upstream.breaker.release(r.id, r.attempts.len().wrapping_sub(1));
        let failure = Failure {
            kind,
            status: r.status,
            attempts: r.attempts.len(),
            elapsed: self.now - r.started,
            not_before: self.not_before(r),
            cause: r.cause,
            advice: advice(kind, r.cause, r.status, r.insufficient.is_some()),
            code: r.code.clone(),
            message: r.message.clone(),
        };
        self.end(r, Action::Fail(failure))
    }

    /// F8: returns the latest future instant known.
    pub(super) fn not_before(&mut self, r: &Request) -> Option<Span> {
        let now = self.now;
        let hint = r.not_before.map(|(until, _)| Span::exactly(until));
        let gate = self.upstream.closed_gate(r.gate, now).map(|gate| Span::exactly(gate.asked));
        let endpoint = self.upstream.logins[&r.login].throttled_until(self.settings.max_server_wait); // K6
        let probe = self.upstream.breaker.next_probe(now);
        let probe = probe.filter(|probe| self.guesses.ask(probe.hi > now, probe.lo <= now));
        // A late hint that does not bind may count or not.
        let mut last = r.last_hint;
        for late in &r.late_hints {
            if self.guesses.ask(true, true) {
                last = *late;
            }
        }
        let last = last.map(Span::exactly);
        [hint, last, r.refused, gate, probe, Some(Span::exactly(endpoint))]
            .into_iter()
            .flatten()
            .filter(|span| span.hi > now)
            .reduce(|a, b| Span::new(a.lo.max(b.lo), a.hi.max(b.hi)))
    }

    /// Returns the action that repeats after an event without effect on this request (T3, T4).
    pub(super) fn pending_action(&mut self, r: &Request) -> Action {
        let end = |lease: &usize| self.upstream.logins[&r.login].leases[*lease].end;
        match &r.state {
            State::Ended(action) => action.clone(),
            State::Waiting { until, reason, .. } => Action::Wait { until: *until, reason: *reason },
            State::InFlight => Action::InFlight { until: r.attempts.last().and_then(|a| a.limit) },
            State::Leading { lease, .. } => Action::InFlight { until: Some(r.or_deadline(end(lease))) },
            State::Following { lease, .. } => Action::AwaitRefresh { until: r.or_deadline(end(lease)) },
            State::Starting => Action::InFlight { until: Some(END) },
        }
    }

    /// F3: returns the later of two ends, and of equal ends the first.
    pub(super) fn later(&mut self, a: (Span, Reason), b: (Span, Reason)) -> (Span, Reason) {
        let lo = a.0.lo.max(b.0.lo);
        if self.guesses.ask(b.0.hi > a.0.lo, b.0.lo <= a.0.hi) {
            (Span::new(lo, b.0.hi), b.1)
        } else {
            (Span::new(lo, a.0.hi), a.1)
        }
    }
}
