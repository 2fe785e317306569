//! The effect of each event on its request (T3, T4, F4, F7).

use super::super::reading::Facts;
use super::Model;
use super::action::{Action, Reason};
use super::decide::{Cause, Turn};
use super::event::{Outcome, Response, TransportErrorKind};
use super::meaning::{Class, Taken};
use super::record::Answered;
use super::request::{Request, State};
use super::span::{Ns, Span, after};
use super::upstream::Health;

impl Model {
    pub(super) fn on_tick(&mut self, r: &mut Request) -> Action {
        match r.state.clone() {
            State::Waiting { until, .. } => {
                if self.guesses.ask(self.now < until.hi, self.now >= until.lo) {
                    return self.pending_action(r); // T4: early
                }
                self.rule("T4 P1");
                r.server_waited = r.server_waited(self.now); // C13
                r.state = State::Starting;
                match r.place {
                    Some(place) => self.look_at_turn(r, place),
                    None => self.try_send(r, Turn::None),
                }
            }
            State::InFlight => {
                let limit = r.attempts.last().and_then(|a| a.limit);
                if limit.is_some_and(|limit| self.now >= limit) {
                    self.rule("S4");
                    return self.retry_or_fail(r, Cause::GivenUp, None);
                }
                self.pending_action(r)
            }
            State::Leading { lease, need } => self.look_at_login(r, lease, need, None),
            State::Following { lease, need, waits } => self.look_at_login(r, lease, need, Some(waits)),
            State::Starting | State::Ended(_) => self.pending_action(r),
        }
    }

    /// T3: the attempt is late like any other, but breaker and budget ignore it.
    fn never_sent(&mut self, r: &mut Request, response: &Response, taken: &Taken, facts: &Facts) -> Action {
        if r.attempts.is_empty() {
            self.rule("T3: before the first send");
            return self.pending_action(r);
        }
        self.apply_hints_to_gate(r, response.status, taken, facts);
        self.late_reply(r, response.status, taken)
    }

    /// T3, D15: returns the answer to a late reply.
    fn late_reply(&mut self, r: &mut Request, status: u64, taken: &Taken) -> Action {
        if matches!(r.state, State::Ended(_)) {
            return self.pending_action(r);
        }
        r.late_hints.push(taken.hint.map(|(hint, _)| after(self.now, hint)));
        if (200..300).contains(&status) && !taken.has_verdict {
            self.rule("T3: a late 2xx ends the request");
            return self.end(r, Action::Done { status });
        }
        match taken.hint {
            Some((hint, reason)) if hint > 0 && taken.may_be_retried(r.idempotent) => {
                self.on_late_hint(r, hint, reason)
            }
            _ => self.pending_action(r),
        }
    }

    pub(super) fn on_reply(
        &mut self,
        r: &mut Request,
        attempt: Option<u64>,
        response: &Response,
        facts: &Facts,
    ) -> Action {
        let status = response.status;
        let taken = self.take(response, facts, r.idempotent);
        let Some(k) = which(r, attempt) else {
            return self.never_sent(r, response, &taken, facts);
        };
        let in_flight = matches!(r.state, State::InFlight) && k == r.attempts.len() - 1;
        let is_answer = (200..300).contains(&status) && taken.class == Class::Answer;
        let answered = if is_answer { Answered::With2xx } else { Answered::Otherwise };
        if !in_flight {
            self.record_late(r, k, answered, taken.health, taken.charge.map(|throttled| (throttled, taken.hint)));
            self.apply_hints_to_gate(r, status, &taken, facts); // S1, H10
            return self.late_reply(r, status, &taken);
        }

        r.status = Some(status);
        r.code = facts.code.clone();
        r.message = facts.message.clone();
        r.insufficient = facts.insufficient;
        r.last_hint = taken.hint.map(|(hint, _)| after(self.now, hint)); // H10
        r.late_hints.clear();
        self.record(r, k, taken.health, answered);
        self.apply_hints_to_gate(r, status, &taken, facts); // S1, H10
        if taken.class != Class::Answer {
            r.cause = Some("status");
        }
        match taken.class {
            Class::Answer => {
                self.rule("D1");
                self.end(r, Action::Done { status })
            }
            Class::Unauthorized => self.on_unauthorized(r, facts, &taken),
            Class::Retry | Class::RetryIfSafe | Class::Throttle => {
                if let Some((wait, reason)) = taken.hint.filter(|(wait, _)| *wait > 0) {
                    r.raise_not_before(after(self.now, wait), reason); // L1
                }
                self.retry_or_fail(r, Cause::Reply(taken.class), taken.hint)
            }
            Class::Surface => {
                if let Some(throttled) = taken.charge {
                    self.charge_failure(r, throttled, taken.hint); // H11: a pushback stopped it
                }
                self.rule("D2-D10 D15 P2");
                let kind = match status {
                    400 => "bad_request",
                    401 => "unauthorized",
                    403 => "forbidden",
                    404 => "not_found",
                    409 => "conflict",
                    422 => "validation",
                    _ => "unexpected_status",
                };
                self.fail(r, kind)
            }
        }
    }

    pub(super) fn on_transport_error(
        &mut self,
        r: &mut Request,
        attempt: Option<u64>,
        error: TransportErrorKind,
    ) -> Action {
        let Some(k) = which(r, attempt) else {
            return self.pending_action(r);
        };
        if !(matches!(r.state, State::InFlight) && k == r.attempts.len() - 1) {
            self.rule("T3: late, changes nothing");
            use TransportErrorKind::{Permanent, Unprocessed};
            let is_neutral = matches!(error, Permanent | Unprocessed);
            let health = if is_neutral { Health::Neutral } else { Health::Failure };
            let is_free = error == Permanent || (error == Unprocessed && !r.was_unprocessed);
            self.record_late(r, k, Answered::Otherwise, health, (!is_free).then_some((false, None)));
            return self.pending_action(r);
        }
        self.retry_or_fail(r, Cause::TransportError(error), None)
    }

    /// K5, F5: returns whether the outcome counts, too.
    pub(super) fn on_outcome(&mut self, r: &mut Request, lease: Option<u64>, outcome: Outcome) -> (bool, Action) {
        let counts = self.upstream.login(r.login, &self.settings).report(self.now, lease, outcome);
        self.rule(if counts { "K5 K6: counts" } else { "K5: does not count" });
        let action = match r.state {
            State::Leading { .. } | State::Following { .. } => self.on_tick(r), // F5
            _ => self.pending_action(r),                                        // F7
        };
        (counts, action)
    }

    /// S6.
    pub(super) fn on_cancel(&mut self, r: &mut Request) -> Action {
        if matches!(r.state, State::Ended(_)) {
            return self.pending_action(r);
        }
        self.rule("S6");
        self.fail(r, "cancelled")
    }

    /// F4.
    pub(super) fn on_late_hint(&mut self, r: &mut Request, hint: Ns, reason: Reason) -> Action {
        self.rule("T3 F4: a late hint");
        let at = after(self.now, hint);
        r.raise_not_before(at, reason);
        let State::Waiting { until, .. } = r.state else {
            return self.pending_action(r);
        };
        let waited = r.server_waited(self.now);
        if at - self.now + waited > self.settings.max_server_wait {
            return self.fail(r, "server_wait_too_long"); // L3, C13
        }
        if self.guesses.ask(at > until.lo, at <= until.hi) {
            if r.past_deadline(at) {
                return self.fail(r, "deadline");
            }
            r.server_waited = waited;
            r.state = State::Waiting { begun: self.now, until: Span::exactly(at), reason };
        }
        self.pending_action(r)
    }
}

/// Returns the index of the attempt that an event names, or `None` if it was never sent.
fn which(r: &Request, attempt: Option<u64>) -> Option<usize> {
    let newest = r.attempts.len();
    let named = attempt.map_or(newest, |k| usize::try_from(k).unwrap_or(usize::MAX));
    (1..=newest).contains(&named).then(|| named - 1)
}
