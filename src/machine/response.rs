//! The result of the attempt in flight, and its effect on the shared state.

use super::{Flags, Step};
use crate::action::Trigger;
use crate::event::TransportErrorKind;
use crate::failure::{Cause, FailureKind};
use crate::policy::Jitter;
use crate::reply::Reply;
use crate::seed::{Purpose, draw};
use crate::upstream::Upstream;
use crate::upstream::breaker::Health;

impl Step<'_> {
    /// Handles a reply to the attempt in flight.
    pub(super) fn on_reply(&mut self, reply: &Reply) {
        let status = reply.status();
        self.explanation.trigger = Trigger::Status(status);
        self.explanation.rejected = reply.rejected();
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.flags.set(Flags::HAS_STATUS, true);
        self.machine.status = status;
        self.machine.cause = Some(Cause::Status);
        self.apply_hints(reply);
        self.record_health(self.health(status), self.machine.attempts);
        self.deposit_for(reply);
        match status {
            200..=399 => self.succeed(self.machine.attempts, status),
            401 => self.on_unauthorized(reply),
            _ => self.retry_or_fail(self.classify_status(status), reply.hint()),
        }
    }

    /// Handles a transport error of the attempt in flight, or its limit.
    pub(super) fn on_transport_error(&mut self, kind: TransportErrorKind) {
        self.explanation.trigger = Trigger::TransportError(kind);
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.cause = Some(match kind {
            TransportErrorKind::NotSent => Cause::NotSent,
            TransportErrorKind::TimedOut => Cause::TimedOut,
            TransportErrorKind::Broken => Cause::Broken,
            TransportErrorKind::Other => Cause::Other,
        });
        self.record_health(Health::Bad, self.machine.attempts);
        self.retry_or_fail(self.classify_transport_error(kind), None);
    }

    /// Returns the kind of failure, if this transport error is not retried (D13, D14).
    fn classify_transport_error(&self, kind: TransportErrorKind) -> Option<FailureKind> {
        // P2: an attempt that reached its limit is ambiguous, whatever its transport then reports.
        let is_past_limit = self.machine.limit(self.upstream).is_some_and(|limit| self.now >= limit);
        match (kind, self.machine.flags.has(Flags::NON_IDEMPOTENT)) {
            (TransportErrorKind::NotSent, _) | (_, false) => None,
            (TransportErrorKind::Other, true) if !is_past_limit => Some(FailureKind::Transport),
            (_, true) => Some(FailureKind::Ambiguous),
        }
    }

    /// Applies the hints of a reply to this request (L1) and to the gate (S1).
    pub(super) fn apply_hints(&mut self, reply: &Reply) {
        let status = reply.status();
        let counts = self.hint_counts(status);
        if let Some(hint) = reply.hint().filter(|_| counts) {
            let at = self.now.after(hint.nanos());
            if at > self.machine.not_before && !self.machine.is_ended() {
                self.machine.not_before = at;
                self.machine.flags.set_source(hint.source());
            }
        }
        if self.upstream.policy.gate {
            let throttled = reply.hint().filter(|_| status == 429).map(|hint| hint.nanos());
            let exhausted = reply.closed_for().filter(|_| counts || reply.is_success() || status == 403);
            for (wait, throttled) in [(throttled, true), (exhausted, false)] {
                if let Some(wait) = wait {
                    self.close_gate(wait, throttled);
                }
            }
        }
    }

    fn close_gate(&mut self, wait: u64, throttled: bool) {
        let (seed, number) = (self.machine.seed, self.machine.attempts);
        let jitter = |most| draw(seed, Purpose::GateOpening, number, 0..=most);
        let Upstream { gate, policy, .. } = &mut *self.upstream;
        gate.close(self.now, self.now.after(wait), throttled, policy, jitter);
    }

    /// Refills the budget after a success (S2).
    pub(super) fn deposit_for(&mut self, reply: &Reply) {
        if reply.is_success() {
            self.upstream.budget.deposit(self.upstream.policy.budget);
        }
    }

    /// Returns whether the hints of a reply with this status count (H10).
    pub(super) fn hint_counts(&self, status: u16) -> bool {
        status == 429 || self.upstream.policy.retries(status)
    }

    /// Returns the health of the upstream that a status shows (S3).
    pub(super) fn health(&self, status: u16) -> Health {
        match status {
            429 | 401 => Health::Neutral,
            500..=599 if self.upstream.policy.retries(status) => Health::Bad,
            _ => Health::Good,
        }
    }

    /// Reports the result of an attempt to the breaker (S3).
    pub(super) fn record_health(&mut self, health: Health, attempt: u32) {
        // The breaker ignores attempts sent before its latest opening.
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
