//! Results that the upstream records, the end of a request, and its pending action.

use super::super::reading::Facts;
use super::Model;
use super::action::{Action, Failure, Reason, advice};
use super::request::{AttemptResult, Request, State};
use super::settings::Jitter;
use super::span::{END, Span, after, from_ms};
use super::upstream::Health;

impl Model {
    /// S1, F3, H10: a reply may close the gate.
    pub(super) fn apply_hints_to_gate(&mut self, status: u64, facts: &Facts) {
        let mut until = 0;
        if status == 429 {
            self.upstream.throttles += 1;
            until = until.max(facts.hint.map_or(0, |(ms, _)| ms));
        }
        if status == 403 || (200..300).contains(&status) || status == 429 || self.settings.retries(status) {
            until = until.max(facts.closed_for.unwrap_or(0));
        }
        self.upstream.close_gate(self.now, after(self.now, from_ms(until)));
    }

    /// S3: returns the meaning of a status for the breaker.
    pub(super) fn health(&self, status: u64) -> Health {
        match status {
            401 | 429 => Health::Neutral,
            500..600 if self.settings.retries(status) => Health::Failure,
            _ => Health::Success,
        }
    }

    /// F6: a late result counts if it is the first 2xx of its attempt, or the first result of an
    /// attempt that was in flight when its request ended.
    pub(super) fn record_late(&mut self, r: &mut Request, k: usize, status: Option<u64>) {
        let success = status.is_some_and(|status| (200..300).contains(&status));
        let health = status.map_or(Health::Failure, |status| self.health(status));
        let is_first = r.attempts[k].result == AttemptResult::Open;
        if is_first || (success && r.attempts[k].result != AttemptResult::Succeeded) {
            self.record(r, k, health, success);
        }
    }

    /// S2, S3: records the result of attempt `k`, counted from 0.
    pub(super) fn record(&mut self, r: &mut Request, k: usize, health: Health, success: bool) {
        r.attempts[k].result = if success { AttemptResult::Succeeded } else { AttemptResult::Over };
        if success {
            self.upstream.deposit(&self.settings);
        }
        if let Some(settings) = &self.settings.breaker {
            let exact = self.settings.jitter == Jitter::None;
            let openings = r.attempts[k].openings;
            self.upstream.breaker.record(settings, self.now, exact, openings, (r.id, k), health);
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
        if let State::Leading { lease, .. } = r.state {
            self.upstream.leases[lease].freed = true; // F5
        }
        self.upstream.breaker.release(r.id, r.attempts.len().wrapping_sub(1)); // S6
        r.state = State::Ended(action.clone());
        action
    }

    /// E1, F8.
    pub(super) fn fail(&mut self, r: &mut Request, kind: &'static str) -> Action {
        if kind == "deadline" && matches!(r.state, State::Leading { .. }) {
            r.state = State::Starting; // F5: a deadline keeps the lease
        }
        self.upstream.breaker.release(r.id, r.attempts.len().wrapping_sub(1));
        let by_a_limit = matches!(kind, "exhausted" | "server_wait_too_long" | "deadline" | "budget" | "breaker_open");
        let failure = Failure {
            kind,
            status: r.status,
            attempts: r.attempts.len(),
            elapsed: self.now - r.started,
            not_before: self.not_before(r),
            cause: r.cause.filter(|_| by_a_limit),
            advice: advice(kind, r.cause == Some("status") && r.status == Some(500)),
            code: r.code.clone(),
            message: r.message.clone(),
        };
        self.end(r, Action::Fail(failure))
    }

    /// F8: returns the latest future instant known.
    pub(super) fn not_before(&mut self, r: &Request) -> Option<Span> {
        let now = self.now;
        let hint = r.not_before.map(|(until, _)| Span::exactly(until));
        let gate = self.upstream.gate_opens(now).map(|gate| Span::exactly(gate.opens));
        let probe = self.upstream.breaker.next_probe(now);
        let probe = probe.filter(|probe| self.guesses.ask(probe.hi > now, probe.lo <= now));
        [hint, gate, probe]
            .into_iter()
            .flatten()
            .filter(|span| span.hi > now)
            .reduce(|a, b| Span::new(a.lo.max(b.lo), a.hi.max(b.hi)))
    }

    /// Returns the action that repeats after an event without effect on this request (T3, T4).
    pub(super) fn pending_action(&mut self, r: &Request) -> Action {
        match &r.state {
            State::Ended(action) => action.clone(),
            State::Waiting { until, reason, .. } => Action::Wait { until: *until, reason: *reason },
            State::InFlight => Action::InFlight { until: r.attempts.last().and_then(|a| a.limit) },
            State::Leading { lease, .. } => {
                Action::InFlight { until: Some(r.or_deadline(self.upstream.leases[*lease].end)) }
            }
            State::Following { lease, .. } => {
                Action::AwaitRefresh { until: r.or_deadline(self.upstream.leases[*lease].end) }
            }
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
