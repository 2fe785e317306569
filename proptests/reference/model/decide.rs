//! The checks before a send (P1) and after a failure (P2, P3).

use super::Model;
use super::action::{Action, Reason};
use super::event::TransportErrorKind;
use super::gate::Why;
use super::meaning::Class;
use super::record::Answered;
use super::request::{Attempt, AttemptResult, Request, State};
use super::span::{Ns, Span, after};
use super::upstream::{Health, Permit};
use super::wait::{Held, Own, Retry};

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Reply(Class),
    TransportError(TransportErrorKind),
    /// S4: no reply before its limit, found by a tick.
    GivenUp,
}

/// P1: whether the request has its turn at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    Now,
}

impl Model {
    /// P1: deadline, breaker, token, gate, send.
    pub(super) fn try_send(&mut self, r: &mut Request, turn: Turn) -> Action {
        if r.past_deadline(self.now) {
            self.rule("P1: deadline");
            return self.fail(r, "deadline");
        }
        if self.breaker_blocks() {
            self.rule("P1 S3: breaker");
            return self.fail(r, "breaker_open");
        }
        if let Some(action) = self.look_at_token(r) {
            return action;
        }
        let held = match self.held(r, turn) {
            Ok(held) => held,
            Err(kind) => return self.fail(r, kind),
        };
        let hint = r.binding_hint(self.now);
        if held != Held::No || hint.is_some() {
            let (end, reason) = hint.unwrap_or((self.now, Reason::Gate));
            let own = Own { end: Span::exactly(end), jitter: Span::exactly(0), reason };
            return self.wait(r, own, held, None);
        }
        if let (Turn::None, Some(gate)) = (turn, self.upstream.gates.get_mut(&r.gate)) {
            gate.pass(self.now);
        }
        self.send(r)
    }

    /// C9, C12, C14: returns whether a request that would be sent is held at the gate.
    fn held(&mut self, r: &Request, turn: Turn) -> Result<Held, &'static str> {
        let left = self.server_wait_left(r);
        let Some(gate) = self.upstream.gates.get_mut(&r.gate) else {
            return Ok(Held::No);
        };
        let is_closed = gate.is_closed(self.now);
        if turn == Turn::Now {
            return Ok(if is_closed { Held::AsHead } else { Held::No }); // P1
        }
        if is_closed && gate.asked - self.now > left {
            self.rule("C12");
            return Err("server_wait_too_long");
        }
        let free = gate.next_free(self.now);
        if !is_closed && free - self.now > self.settings.max_server_wait {
            gate.give_up_queue(self.now);
            self.rule("C14");
            return Ok(Held::No);
        }
        Ok(if free > self.now { Held::InQueue } else { Held::No })
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
        let generation = self.upstream.logins[&r.login].generation();
        r.attempts.push(Attempt { generation, limit, openings: breaker.openings, result: AttemptResult::Open });
        r.skip_expiry = false;
        r.uses_old_token = false;
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
            return self.try_send(r, Turn::Now); // P1: it keeps its turn
        }
        let brakes = match cause {
            Cause::Reply(_) => throttled && hint.is_none_or(|(wait, _)| wait == 0),
            Cause::TransportError(kind) => !matches!(kind, Unprocessed | Permanent),
            Cause::GivenUp => true,
        };
        if brakes {
            self.brake(r, throttled);
        }
        if cause != Cause::TransportError(Permanent) {
            self.charge_failure(r, throttled, hint);
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
        let own = self.own_wait(r, throttled, hint);
        let held = match self.upstream.closed_gate(r.gate, self.now) {
            None => Held::No,
            Some(_) if self.has_closed || r.has_queued => Held::AsHead, // C10
            Some(_) => Held::InQueue,
        };
        let price = self.price(throttled, hint);
        self.wait(r, own, held, Some(Retry { throttled, price }))
    }

    /// C11: while somebody queues, closes the gate for the back-off of the request's next retry.
    fn brake(&mut self, r: &mut Request, throttled: bool) {
        if self.upstream.gates.get(&r.gate).is_some_and(|gate| gate.is_queuing(self.now)) {
            self.rule("C11: the brake");
            let backoff = self.draw_backoff(r, throttled);
            r.drawn = Some(backoff);
            let gate = self.upstream.gates.get_mut(&r.gate).expect("looked at above");
            gate.close(self.now, after(self.now, backoff), Why::Brake);
        }
    }
}
