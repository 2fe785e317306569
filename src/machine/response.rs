//! The attempt in flight gets its result: what the shared state learns of it, and where the request goes from there.

use super::judge::{self, Judgment};
use super::{Flags, Step};
use crate::action::Trigger;
use crate::event::TransportErrorKind;
use crate::failure::Cause;
use crate::policy::Jitter;
use crate::reply::{BearerErrorCode, Reply};
use crate::seed::{Purpose, draw};
use crate::time::Timestamp;
use crate::upstream::Upstream;
use crate::upstream::breaker::Health;
use crate::upstream::budget::Price;

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
        let judgment = judge::judge(&self.upstream.policy, reply, self.is_safe());
        // F8: an answer is not a failure.
        if judgment != Judgment::Answer {
            self.machine.cause = Some(Cause::Status);
        }
        self.apply_hints(reply, judgment);
        self.on_health(judge::health(&self.upstream.policy, reply), self.machine.attempts);
        self.charge_failure(judge::failure_price(&self.upstream.policy, reply));
        match judgment {
            Judgment::Answer => self.succeed(self.machine.attempts, status),
            Judgment::RefreshToken => self.on_unauthorized(reply),
            Judgment::Fail(kind) => self.fail(kind),
            Judgment::Retry(price) => self.retry_or_fail(price, judge::effective_hint(reply)),
        }
    }

    /// Handles an attempt in flight that got no complete response, or that has reached its limit (D13).
    pub(super) fn on_transport_error(&mut self, kind: TransportErrorKind) {
        self.explanation.trigger = Trigger::TransportError(kind);
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.cause = Some(judge::transport_cause(kind));
        self.on_health(judge::transport_health(kind), self.machine.attempts);
        self.charge_failure(self.transport_price(kind));
        if kind == TransportErrorKind::Unprocessed && !self.machine.flags.has(Flags::REPEATED) {
            // D13: the peer did nothing with the request, so that once it goes out again at once, without a price.
            self.machine.flags.set(Flags::REPEATED, true);
            return self.try_send();
        }
        let is_past_limit = self.machine.limit(self.upstream).is_some_and(|limit| self.now >= limit);
        match judge::transport_failure(kind, self.is_safe(), is_past_limit) {
            Some(failure) => self.fail(failure),
            None => self.retry_or_fail(Price::Retry, None),
        }
    }

    /// Charges a failed attempt, where the policy charges failures.
    pub(super) fn charge_failure(&mut self, price: Option<Price>) {
        if let Some(price) = price {
            self.upstream.budget.on_failure(price, self.upstream.policy.budget);
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

    /// Applies the hints of a reply to this request (L1) and to the gate (S1).
    pub(super) fn apply_hints(&mut self, reply: &Reply, judgment: Judgment) {
        let hint = match judgment {
            Judgment::Retry(_) => judge::effective_hint(reply),
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
            Judgment::Retry(Price::Retry) | Judgment::Fail(_) => reply.is_exhausted() && reply.status() != 401,
            Judgment::Answer => reply.is_exhausted() && reply.is_success(),
            Judgment::RefreshToken => false,
        };
        if closes && hint.nanos() > 0 && self.upstream.policy.gate {
            self.close_gate(hint.nanos(), judgment == Judgment::Retry(Price::Throttle));
        }
    }

    fn close_gate(&mut self, wait: u64, throttled: bool) {
        let (seed, number) = (self.machine.seed, self.machine.attempts);
        let jitter = |most| draw(seed, Purpose::GateOpening, number, 0..=most);
        let Upstream { gate, policy, .. } = &mut *self.upstream;
        gate.close(self.now, self.now.after(wait), throttled, policy, jitter);
    }

    /// Returns whether the request is safe to repeat (D14).
    pub(super) fn is_safe(&self) -> bool {
        !self.machine.flags.has(Flags::NON_IDEMPOTENT)
    }

    /// Reports the health that the result of an attempt shows (D18) to the breaker (S3) and the budget (S2).
    pub(super) fn on_health(&mut self, health: Health, attempt: u32) {
        self.record_health(health, attempt);
        if health == Health::Good {
            self.upstream.budget.deposit(self.machine.flags.charged(), self.upstream.policy.budget);
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
        let exact = self.upstream.policy.jitter == Jitter::None;
        let open_time = |opening, open_for: u64| {
            let longest = if exact { open_for } else { open_for.saturating_add(open_for / 2) };
            draw(seed, Purpose::BreakerOpenTime, opening, open_for..=longest)
        };
        self.upstream.breaker.record(health, sent, self.now, self.upstream.policy.breaker, open_time);
    }
}
