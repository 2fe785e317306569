//! The attempt in flight gets its result: what the shared state learns of it, and where the request goes from there.

use super::judge::{self, Judgment, Ruling};
use super::wait::Turn;
use super::{Flags, Step};
use crate::action::Trigger;
use crate::event::TransportErrorKind;
use crate::failure::{Cause, FailureKind};
use crate::policy::{Jitter, YoungToken};
use crate::reply::{BearerErrorCode, Hint, Pushback, Reply};
use crate::seed::{Purpose, draw};
use crate::time::Timestamp;
use crate::upstream::breaker::Health;
use crate::upstream::budget::Price;
use crate::upstream::gate::GateReason;

impl Step<'_> {
    /// Handles a reply to the attempt in flight. Its facts are recorded before anything can fail the request.
    pub(super) fn on_reply(&mut self, reply: &Reply) {
        let status = reply.status();
        self.explanation.trigger = Trigger::Status(status);
        self.explanation.rejected = reply.rejected();
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.flags.set(Flags::HAS_STATUS, true);
        self.machine.status = status;
        let revoked = reply.is_token_revoked().then_some(BearerErrorCode::TokenRevoked);
        self.machine.challenge = reply.lacking().or(revoked).or(reply.challenge());
        let Ruling { mut judgment, mut price, health, hint } =
            judge::judge(&self.service.policy, reply, self.is_safe());
        if judgment == Judgment::RefreshToken && self.young_token(reply) == Some(YoungToken::Retry) {
            // K10: not about the expiry of the token. H11: a pushback counts.
            judgment = match reply.pushback() {
                Some(Pushback::Stop) => Judgment::Fail(FailureKind::Unauthorized),
                _ => Judgment::Retry(Price::Retry),
            };
            price = Some(Price::Retry);
        }
        // F8: an answer is not a failure.
        if judgment != Judgment::Answer {
            self.machine.flags.set_cause(Cause::Status);
        }
        self.on_attempt_end(health, self.machine.attempts);
        self.apply_hints(reply, judgment, hint);
        if judgment == Judgment::Retry(Price::Throttle) && hint.is_none_or(|hint| hint.nanos() == 0) {
            self.brake(Price::Throttle);
        }
        self.charge_failure(price, hint);
        match judgment {
            Judgment::Answer => self.succeed(self.machine.attempts, status),
            Judgment::RefreshToken => self.on_unauthorized(reply),
            Judgment::Fail(kind) => self.fail(kind),
            Judgment::Retry(price) => self.retry_or_fail(price, hint),
        }
    }

    /// Handles an attempt in flight that got no complete response, or that has reached its limit (D13).
    pub(super) fn on_transport_error(&mut self, kind: TransportErrorKind) {
        self.explanation.trigger = Trigger::TransportError(kind);
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.flags.set_cause(judge::transport_cause(kind));
        self.on_attempt_end(judge::transport_health(kind), self.machine.attempts);
        self.charge_failure(self.transport_price(kind), None);
        if kind == TransportErrorKind::Unprocessed && !self.machine.flags.has(Flags::REPEATED) {
            // D13: the peer did nothing with the request, so that once it goes out again at once, without a price.
            self.machine.flags.set(Flags::REPEATED, true);
            return self.try_send(Turn::Had);
        }
        // C11: neither says that the service is in trouble.
        if !matches!(kind, TransportErrorKind::Unprocessed | TransportErrorKind::Permanent) {
            self.brake(Price::Retry);
        }
        let is_past_limit = self.machine.limit(&self.service.policy).is_some_and(|limit| self.now >= limit);
        match judge::transport_failure(kind, self.is_safe(), is_past_limit) {
            Some(failure) => self.fail(failure),
            None => self.retry_or_fail(Price::Retry, None),
        }
    }

    /// Charges a failed attempt, where the policy charges failures.
    pub(super) fn charge_failure(&mut self, price: Option<Price>, hint: Option<Hint>) {
        if let Some(kind) = price {
            let price = self.price(kind, hint);
            self.service.budget.on_failure(
                price,
                &mut self.machine.paid,
                self.now,
                self.service.policy.budget.as_ref(),
            );
        }
    }

    /// Returns the price of a failure in transport: none for one that does not repeat, or that D13 repeats at once.
    pub(super) fn transport_price(&self, kind: TransportErrorKind) -> Option<Price> {
        match kind {
            TransportErrorKind::Permanent => None,
            TransportErrorKind::Unprocessed if !self.machine.flags.has(Flags::REPEATED) => None,
            _ => Some(Price::Retry),
        }
    }

    /// Applies the hints of a reply to this request (L1) and to the gate (S1). `hint` decides where the reply is retried.
    pub(super) fn apply_hints(&mut self, reply: &Reply, judgment: Judgment, hint: Option<Hint>) {
        let hint = match judgment {
            Judgment::Retry(_) => hint,
            Judgment::Answer | Judgment::RefreshToken | Judgment::Fail(_) => reply.hint(),
        };
        if !self.machine.is_ended() {
            // E1: the last reply's hint, whatever its status.
            self.machine.last_hint = hint.map_or(Timestamp::ZERO, |hint| self.now.after(hint.nanos()));
        }
        let Some(hint) = hint else { return };
        let until = self.now.after(hint.nanos());
        // L1, H10: it binds a request that is sent again.
        if matches!(judgment, Judgment::Retry(_)) && until > self.machine.not_before && !self.machine.is_ended() {
            self.machine.not_before = until;
            self.machine.flags.set_source(hint.source());
        }
        // H6, H10: a throttle closes the gate, and so does a limit with nothing left, where the reply is not about the
        // token.
        let closes = match judgment {
            Judgment::Retry(Price::Throttle) => true,
            Judgment::Retry(Price::Retry) | Judgment::Fail(_) => reply.is_exhausted() && !reply.is_about_token(),
            Judgment::Answer => reply.is_exhausted() && reply.is_success(),
            Judgment::RefreshToken => false,
        };
        if closes {
            let reason = match judgment {
                Judgment::Retry(Price::Throttle) => GateReason::Throttle,
                _ => GateReason::NothingRemains,
            };
            self.close_gate(hint.nanos(), reason);
        }
    }

    /// Closes the gate for the back-off of the retry that comes next, if requests pass it one by one: what failed is a
    /// sign that they pass too fast (C11).
    fn brake(&mut self, price: Price) {
        if self.gate.is_queuing(self.now) {
            let backoff = self.backoff(price);
            self.close_gate(backoff.wait, GateReason::Brake);
        }
    }

    fn close_gate(&mut self, wait: u64, reason: GateReason) {
        let longest = self.service.policy.max_server_wait;
        self.closed_gate |= self.gate.close_for(self.now, self.now.after(wait), reason, longest);
    }

    /// Returns whether the request is safe to repeat (D14).
    pub(super) fn is_safe(&self) -> bool {
        !self.machine.flags.has(Flags::NON_IDEMPOTENT)
    }

    /// Reports the end of an attempt, with the health that its result shows (D18), to gate (C7), breaker (S3) and budget
    /// (S2).
    pub(super) fn on_attempt_end(&mut self, health: Health, attempt: u32) {
        self.gate.on_attempt_end(self.now, health == Health::Good);
        self.record_health(health, attempt);
        if health == Health::Good {
            self.service.budget.deposit(&mut self.machine.paid, self.now, self.service.policy.budget.as_ref());
        }
    }

    /// Reports the result of an attempt to the breaker (S3).
    pub(super) fn record_health(&mut self, health: Health, attempt: u32) {
        // The breaker ignores attempts sent before its latest opening. It knows the newest attempt by its epoch; of older
        // attempts only the request knows when they were sent.
        if attempt < self.machine.first_since_opening {
            return;
        }
        let sent = self.machine.send_epoch;
        let seed = self.machine.seed;
        let exact = self.service.policy.jitter == Jitter::None;
        let open_time = |opening, open_for: u64| {
            let longest = if exact { open_for } else { open_for.saturating_add(open_for / 2) };
            draw(seed, Purpose::BreakerOpenTime, opening, open_for..=longest)
        };
        self.service.breaker.record(health, sent, self.now, self.service.policy.breaker.as_ref(), open_time);
    }
}
