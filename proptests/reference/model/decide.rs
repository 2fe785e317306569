//! The checks before a send (P1) and after a failure (P2, P3).

use super::Model;
use super::action::{Action, Reason};
use super::event::TransportErrorKind;
use super::meaning::Class;
use super::record::Answered;
use super::request::{Attempt, AttemptResult, Need, Request, State};
use super::settings::Jitter;
use super::span::{Ns, Span, after};
use super::upstream::{Health, Permit};

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Reply(Class),
    TransportError(TransportErrorKind),
    /// S4: no reply before its limit, found by a tick.
    GivenUp,
}

impl Model {
    /// P1: deadline, breaker, gate, token, send.
    pub(super) fn try_send(&mut self, r: &mut Request) -> Action {
        if r.past_deadline(self.now) {
            self.rule("P1: deadline");
            return self.fail(r, "deadline");
        }
        if self.breaker_blocks() {
            self.rule("P1 S3: breaker");
            return self.fail(r, "breaker_open");
        }
        match self.planned_wait(r, None) {
            Err(kind) => return self.fail(r, kind),
            Ok(Some((until, reason))) => {
                self.rule("P1 S1 L1: gate or hint");
                return self.wait(r, until, reason);
            }
            Ok(None) => {}
        }
        if self.upstream.rejected {
            self.rule("P1 K6: rejected sticks");
            return self.fail(r, "token_rejected");
        }
        if !r.skip_expiry && self.upstream.token_is_due(self.now, self.settings.refresh_margin) {
            self.rule("P1 K7");
            return self.lead_or_follow(r, Need::Proactive, 0);
        }
        self.send(r)
    }

    pub(super) fn send(&mut self, r: &mut Request) -> Action {
        self.rule("P1: send");
        let timeout = [self.settings.attempt_timeout, r.limits.attempt_timeout].into_iter().flatten().min(); // D17
        let limit = [timeout.map(|limit| after(self.now, limit)), r.deadline].into_iter().flatten().min(); // F1
        let breaker = &mut self.upstream.breaker;
        if let (Some(settings), Some(_)) = (&self.settings.breaker, breaker.open) {
            // S3: the send takes the permit, which expires after `open_ms`.
            let expires = after(self.now, settings.open);
            breaker.permit = Some(Permit { request: r.id, attempt: r.attempts.len(), expires });
        }
        let generation = self.upstream.generation;
        r.attempts.push(Attempt { generation, limit, openings: breaker.openings, result: AttemptResult::Open });
        r.skip_expiry = false;
        r.state = State::InFlight;
        Action::Send { generation, until: limit }
    }

    /// P2, P3. `hint` is the reply's effective hint.
    pub(super) fn retry_or_fail(&mut self, r: &mut Request, cause: Cause, hint: Option<(Ns, Reason)>) -> Action {
        use TransportErrorKind::{Broken, NotSent, Other, Permanent, TimedOut, Unprocessed};
        let k = r.attempts.len() - 1;
        let throttled = cause == Cause::Reply(Class::Throttle);
        let health = match cause {
            Cause::Reply(_) => None, // It has been recorded.
            Cause::TransportError(Unprocessed | Permanent) => Some(Health::Neutral),
            Cause::TransportError(NotSent | TimedOut | Broken | Other) | Cause::GivenUp => Some(Health::Failure),
        };
        if let Some(health) = health {
            self.record(r, k, health, Answered::Otherwise);
        }
        r.cause = Some(match cause {
            Cause::Reply(_) => "status",
            Cause::GivenUp | Cause::TransportError(TimedOut) => "timed_out",
            Cause::TransportError(Broken) => "broken",
            Cause::TransportError(NotSent) => "not_sent",
            Cause::TransportError(Unprocessed) => "unprocessed",
            Cause::TransportError(Permanent) => "permanent",
            Cause::TransportError(Other) => "other",
        });
        if cause == Cause::TransportError(Unprocessed) && !r.was_unprocessed {
            self.rule("D13: the first unprocessed attempt");
            r.was_unprocessed = true;
            r.state = State::Starting;
            return self.try_send(r);
        }
        if cause != Cause::TransportError(Permanent) {
            self.upstream.charge_failure(&self.settings, throttled);
        }
        let after_limit = r.attempts[k].limit.is_some_and(|limit| self.now >= limit);
        if !r.idempotent {
            // D13, D14, P2, F1
            let is_ambiguous = match cause {
                Cause::Reply(class) => class == Class::RetryIfSafe,
                Cause::GivenUp | Cause::TransportError(TimedOut | Broken) => true,
                Cause::TransportError(Other | Permanent) => after_limit,
                Cause::TransportError(NotSent | Unprocessed) => false,
            };
            if is_ambiguous {
                self.rule("D14 P2: ambiguous");
                return self.fail(r, "ambiguous");
            }
        }
        if cause == Cause::TransportError(Permanent) || (cause == Cause::TransportError(Other) && !r.idempotent) {
            self.rule("D13 D14");
            return self.fail(r, "transport");
        }
        if r.past_deadline(self.now) {
            self.rule("P2 F1: deadline already passed");
            return self.fail(r, "deadline");
        }
        let (count, limit) = match self.settings.throttle_retries {
            Some(limit) if throttled => (r.throttled_retries, limit), // B5
            _ => (r.retries, self.settings.max_retries),
        };
        let both = r.retries + r.throttled_retries; // D17
        if count >= limit || r.limits.max_retries.is_some_and(|limit| both >= limit) {
            self.rule("P2 B3 B5 D17");
            return self.fail(r, "exhausted");
        }
        if hint.is_some_and(|(wait, _)| wait > self.settings.max_server_wait) {
            self.rule("P2 L3");
            return self.fail(r, "server_wait_too_long");
        }
        let own = self.own_wait(r, throttled, hint);
        let (until, reason) = match self.planned_wait(r, Some(own)) {
            Err(kind) => return self.fail(r, kind),
            Ok(wait) => wait.expect("a retry has a wait"),
        };
        if let Some(probe) = self.upstream.breaker.next_probe(self.now) {
            if self.guesses.ask(until.lo < probe.hi, until.hi >= probe.lo) {
                self.rule("P2 S3: the wait would end before the next probe");
                return self.fail(r, "breaker_open");
            }
        }
        if !self.upstream.try_withdraw(&self.settings, throttled) {
            self.rule("P2 P3 S2");
            r.refused = Some(until);
            return self.fail(r, "budget");
        }
        self.rule("P2: wait");
        if throttled && self.settings.throttle_retries.is_some() {
            r.throttled_retries += 1;
        } else {
            r.retries += 1;
        }
        r.last_cost = self.settings.budget.as_ref().map(|budget| budget.cost(throttled));
        self.wait(r, until, reason)
    }

    /// B1, B2, L2: returns the end of the wait before the next retry, without the gate.
    pub(super) fn own_wait(&mut self, r: &mut Request, throttled: bool, hint: Option<(Ns, Reason)>) -> (Span, Reason) {
        let s = &self.settings;
        let apart = s.throttle_retries.is_some();
        let n = 1 + if throttled && apart { r.throttled_retries } else { r.retries };
        let chain = usize::from(throttled && (apart || s.throttled.is_some()));
        let backoff = s.backoff(s.growth(throttled), n, r.previous[chain]);
        if !apart && s.throttled.is_some() {
            // F2: the earlier waits are worked out again with the parameters of the retry.
            let other = s.backoff(s.growth(!throttled), n, r.previous[1 - chain]);
            r.previous[1 - chain] = Some(other.hi);
        }
        r.previous[chain] = Some(backoff.hi);
        r.drawn_from = chain;
        let backoff = (backoff.after(self.now), Reason::Backoff);
        match hint {
            // L2: a pushback is exact, also one of zero.
            Some((wait, Reason::Pushback)) => (Span::exactly(after(self.now, wait)), Reason::Pushback),
            Some((wait, reason)) if wait > 0 => {
                let hint = (Span::new(wait, wait + self.settings.hint_jitter()).after(self.now), reason);
                if throttled { hint } else { self.later(backoff, hint) }
            }
            _ => backoff,
        }
    }

    /// Returns the wait before a send, if there is one: its own, a late hint, or the gate (L1, L3, S1, F3).
    pub(super) fn planned_wait(
        &mut self,
        r: &Request,
        own: Option<(Span, Reason)>,
    ) -> Result<Option<(Span, Reason)>, &'static str> {
        let mut wait = own;
        if let Some((until, reason)) = r.not_before.filter(|(until, _)| *until > self.now) {
            if until - self.now > self.settings.max_server_wait {
                self.rule("L3: the hint");
                return Err("server_wait_too_long");
            }
            let jitter = if reason == Reason::Pushback { 0 } else { self.settings.hint_jitter() }; // L2
            let hint = (Span::new(until, after(until, jitter)), reason);
            wait = Some(match wait {
                // A wait that already obeys the hint does not change.
                Some(own) if own.0.lo >= until => own,
                Some(own) => self.later(own, hint),
                None => hint,
            });
        }
        if let Some(gate) = self.upstream.gate_opens(self.now) {
            let spread = self.gate_spread(gate.closed_at, gate.opens);
            let end = (Span::new(gate.opens, after(gate.opens, spread)), Reason::Gate);
            wait = Some(match wait {
                Some(own) => self.later(own, end),
                None => end,
            });
            if wait.is_some_and(|(_, reason)| reason == Reason::Gate)
                && r.gate_waited + (gate.opens - self.now) > self.settings.max_server_wait
            {
                self.rule("S1 F3: too long at the gate");
                return Err("server_wait_too_long");
            }
        }
        if let (Some((until, _)), Some(deadline)) = (&mut wait, r.deadline) {
            if self.guesses.ask(until.hi >= deadline, until.lo < deadline) {
                self.rule("L3 P2: would end at or after the deadline");
                return Err("deadline");
            }
            until.hi = until.hi.min(deadline - 1);
        }
        Ok(wait)
    }

    /// S1, F2: returns the widest spread after the gate's opening.
    pub(super) fn gate_spread(&self, closed_at: Ns, opens: Ns) -> Ns {
        if let Some(spread) = self.settings.gate_spread {
            return spread;
        }
        if self.settings.hint_jitter() == 0 && self.settings.jitter == Jitter::None {
            return 0;
        }
        let lone_first_throttle = self.is_throttle && self.started == 1 && self.upstream.throttles == 1;
        if lone_first_throttle { self.settings.spread } else { self.settings.spread.max(opens - closed_at) }
    }

    pub(super) fn wait(&mut self, r: &mut Request, until: Span, reason: Reason) -> Action {
        r.state = State::Waiting { begun: self.now, until, reason };
        Action::Wait { until, reason }
    }
}
