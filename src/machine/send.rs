//! The checks before a send (P1), and the send.

use super::wait::{Held, Own, Turn};
use super::{Flags, Phase, Step};
use crate::action::WaitReason;
use crate::event::Event;
use crate::failure::FailureKind;
use crate::time::Timestamp;
use crate::upstream::login::TokenOrLease;

impl Step<'_> {
    /// Handles the first event of the request.
    pub(super) fn begin(&mut self, event: Event) {
        self.machine.started = self.now;
        match event {
            Event::Cancel => self.fail(FailureKind::Cancelled),
            _ => self.try_send(Turn::None),
        }
    }

    /// Sends an attempt if deadline, breaker, token and gate allow it, else fails, refreshes or waits (P1).
    pub(super) fn try_send(&mut self, turn: Turn) {
        if let Some(kind) = self.first_refusal() {
            return self.fail(kind);
        }
        if self.has_usable_token() && self.passes_gate(turn) {
            self.send();
        }
    }

    /// Returns why the request must not go on, whatever token and gate say: the first two checks.
    pub(super) fn first_refusal(&self) -> Option<FailureKind> {
        if self.is_past_deadline() {
            Some(FailureKind::Deadline)
        } else if self.service.breaker.is_open(self.now) {
            Some(FailureKind::BreakerOpen)
        } else {
            None
        }
    }

    /// Asks the gate. Returns whether the request can pass now; else it waits or has failed.
    fn passes_gate(&mut self, turn: Turn) -> bool {
        let is_closed = self.gate.is_closed(self.now);
        let held = match turn {
            Turn::Had if is_closed => Held::AsHead,
            Turn::Had => Held::No,
            Turn::None => match self.ask_for_slot(is_closed) {
                Ok(held) => held,
                Err(kind) => {
                    self.fail(kind);
                    return false;
                }
            },
        };
        // L1: a late hint may bind this request beyond its last wait.
        let own = Own {
            end: self.now.max(self.machine.not_before),
            jitter: 0,
            reason: WaitReason::Hint(self.machine.flags.source()),
        };
        if held == Held::No && own.end <= self.now {
            if turn == Turn::None {
                self.gate.pass();
            }
            return true;
        }
        self.wait_or_fail(own, held, None);
        false
    }

    /// Returns where a request has to wait that has not had its turn at the gate (C9), or why it cannot.
    fn ask_for_slot(&mut self, is_closed: bool) -> Result<Held, FailureKind> {
        // C12: the service asked for more time than the request may wait.
        let asked = self.gate.asked_until(self.now);
        if asked.is_some_and(|asked| asked.since(self.now) > self.server_time_left()) {
            return Err(FailureKind::ServerWaitTooLong);
        }
        let free = self.gate.next_free(self.now);
        if !is_closed && free.since(self.now) > self.service.policy.max_server_wait {
            // C14: the pace is wrong, or the queue hopeless.
            self.gate.give_queue_up(self.now);
            return Ok(Held::No);
        }
        Ok(if free > self.now { Held::InQueue } else { Held::No })
    }

    fn send(&mut self) {
        let policy = &self.service.policy;
        let machine = &mut *self.machine;
        let timeout = machine.limits.attempt_timeout(policy).map(|limit| self.now.after(limit));
        let limits = [timeout, machine.deadline(policy)];
        machine.until = limits.into_iter().flatten().min().unwrap_or(Timestamp::MAX);
        machine.attempts = machine.attempts.saturating_add(1);
        if machine.attempts == 1 || self.service.breaker.has_opened_since(machine.send_epoch) {
            machine.first_since_opening = machine.attempts;
        }
        machine.send_epoch = self.service.breaker.register_send(self.now, policy.breaker.as_ref());
        machine.token_or_lease = TokenOrLease::from(self.login.token());
        machine.flags.set(Flags::UNANSWERED, true);
        machine.flags.set(Flags::TOKEN_SETTLED | Flags::TOKEN_KEPT, false);
        machine.phase = Phase::InFlight;
        self.is_new = true;
    }
}
