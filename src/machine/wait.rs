//! Waits: their limits (the end of P2, the gate of P1), and their end.

use super::{Flags, Phase, Step};
use crate::action::{Trigger, WaitReason};
use crate::failure::FailureKind;
use crate::policy::Jitter;
use crate::seed::{Purpose, draw};
use crate::time::Timestamp;
use crate::upstream::budget::Price;

/// The end of a request's own wait, for its back-off or its hint.
#[derive(Clone, Copy)]
pub(super) struct Own {
    pub(super) end: Timestamp,
    /// The draw on top of the time that the server asked for (L2), in nanoseconds. The jitter of a back-off is part of its end.
    pub(super) jitter: u64,
    pub(super) reason: WaitReason,
}

/// Whether a request has had its turn at the gate. It counts for a send that follows at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    None,
    Had,
}

/// Where the gate holds a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    No,
    /// In the queue, for the next free slot (C9).
    InQueue,
    /// Before the queue: it closed the gate, or was refused in its turn (C10).
    AsHead,
}

/// A place at the gate.
#[derive(Clone, Copy)]
struct Place {
    held: Held,
    /// The instant from which the gate lets the request pass.
    from: Timestamp,
    /// The same with what is drawn on top.
    end: Timestamp,
}

/// A retry that a wait is for.
#[derive(Clone, Copy)]
pub(super) struct Retry {
    /// Whether a throttle or another failure is behind it (B5).
    pub(super) kind: Price,
    /// `None`: it is free (C2).
    pub(super) price: Option<Price>,
}

impl Step<'_> {
    /// Waits for the request's own end or at the gate, whichever is later, or fails if a limit forbids it (the end of P2,
    /// the gate of P1).
    pub(super) fn wait_or_fail(&mut self, own: Own, held: Held, retry: Option<Retry>) {
        let place = self.place(own, held, retry);
        let (end, reason) = match self.limited_end(own, place) {
            Ok(end) => end,
            Err(kind) => return self.fail(kind),
        };
        self.take(place.held);
        if self.service.breaker.next_probe(self.now).is_some_and(|probe| end < probe) {
            return self.leave_slot_and_fail(FailureKind::BreakerOpen);
        }
        // P3: charged last, and never given back by a cancel.
        if let Some(Retry { kind, price }) = retry {
            let policy = self.service.policy.budget.as_ref();
            if !self.service.budget.try_withdraw(price, &mut self.machine.paid, self.now, policy) {
                self.refused = Some(end);
                return self.leave_slot_and_fail(FailureKind::Budget);
            }
            let throttled = u16::from(kind == Price::Throttle);
            self.machine.throttled_retries = self.machine.throttled_retries.saturating_add(throttled);
        }
        self.wait_until(end, reason);
        if self.explanation.trigger == Trigger::Nothing {
            self.explanation.trigger = Trigger::GateClosed;
        }
    }

    /// Returns until when the gate holds the request.
    fn place(&mut self, own: Own, held: Held, retry: Option<Retry>) -> Place {
        match held {
            Held::No => Place { held, from: self.now, end: self.now },
            Held::InQueue => match self.gate.next_free(self.now) {
                // The request comes back by itself, and asks again then.
                free if free < own.end => Place { held: Held::No, from: self.now, end: self.now },
                free => Place { held, from: free, end: free },
            },
            Held::AsHead => {
                let opening = self.gate.opens_at();
                let jitter = match (retry, own.reason) {
                    (Some(_), WaitReason::Hint(_)) => own.jitter,
                    // A back-off has a jitter of its own.
                    (Some(Retry { kind: Price::Retry, .. }), _) => 0,
                    _ => self.draw((Purpose::GateWait, self.machine.attempts), self.hint_spread()),
                };
                Place { held, from: opening, end: opening.after(jitter) }
            }
        }
    }

    /// Returns the end of a wait and the limit that decides it, or the limit that forbids the wait.
    fn limited_end(&mut self, own: Own, place: Place) -> Result<(Timestamp, WaitReason), FailureKind> {
        // L3, C13: neither clamped nor slept. L1: a late hint counts, too.
        let asked = place.from.max(self.machine.not_before);
        let left = self.server_time_left();
        if asked.since(self.now) > left {
            self.refused = Some(asked);
            return Err(FailureKind::ServerWaitTooLong);
        }
        // F3: of equal ends the first decides. A draw on top is cut to the rest.
        let hint = WaitReason::Hint(self.machine.flags.source());
        let (mut end, mut reason) = (own.end.after(own.jitter), own.reason);
        for (later, its) in [(self.machine.not_before, hint), (place.end, WaitReason::Gate)] {
            if later > end {
                (end, reason) = (later, its);
            }
        }
        if reason != WaitReason::Backoff {
            end = end.min(self.now.after(left));
        }
        if let Some(deadline) = self.machine.deadline(&self.service.policy) {
            let least = if reason == WaitReason::Backoff { end } else { asked.max(own.end) };
            if least.after(self.reserve(place.held, deadline)) >= deadline {
                return Err(FailureKind::Deadline);
            }
            end = end.min(Timestamp::from_nanos(deadline.as_nanos() - 1));
        }
        Ok((end, reason))
    }

    /// Returns the time that a wait must leave for the attempt. In front of an open gate the deadline would else fail the
    /// requests of a queue one by one, each with its slot (C14).
    fn reserve(&self, held: Held, deadline: Timestamp) -> u64 {
        if held == Held::InQueue && !self.gate.is_closed(self.now) { deadline.since(self.now) / 4 } else { 0 }
    }

    /// Takes a place at the gate, before breaker and budget are asked (C10).
    fn take(&mut self, held: Held) {
        let flag = match held {
            Held::No => return,
            Held::InQueue => {
                self.machine.slot = self.gate.take_slot();
                Flags::IN_QUEUE
            }
            Held::AsHead => {
                self.gate.let_head_first();
                Flags::IS_HEAD
            }
        };
        self.machine.flags.set(flag, true);
        self.machine.flags.set(Flags::QUEUED, true);
    }

    /// Fails a request that has just got its slot. The slot stays empty, so that what fails slows the queue down (C10).
    fn leave_slot_and_fail(&mut self, kind: FailureKind) {
        self.machine.flags.set(Flags::IN_QUEUE, false);
        self.fail(kind);
    }

    /// Waits, and counts the time.
    pub(super) fn wait_until(&mut self, end: Timestamp, reason: WaitReason) {
        if reason != WaitReason::Backoff {
            self.machine.server_time = self.machine.server_time.saturating_add(end.since(self.now));
        }
        self.machine.until = end;
        self.machine.phase = Phase::Waiting(reason);
    }

    /// Handles a tick at or after the end of a wait. At the gate the end is asked again: a closing in the meantime
    /// prolongs the wait (C9).
    pub(super) fn on_wait_end(&mut self, reason: WaitReason) {
        self.explanation.trigger = Trigger::WaitOver;
        self.settle_server_time(reason);
        let is_head = self.machine.flags.has(Flags::IS_HEAD);
        if !is_head && !self.machine.flags.has(Flags::IN_QUEUE) {
            return self.try_send(Turn::None);
        }
        match self.first_refusal() {
            Some(FailureKind::BreakerOpen) => return self.leave_slot_and_fail(FailureKind::BreakerOpen),
            Some(kind) => return self.fail(kind),
            None => {}
        }
        let gate = &mut *self.gate;
        let due = if is_head { gate.opens_at() } else { gate.due(self.machine.slot, self.now) };
        if due <= self.now {
            self.machine.flags.set(Flags::IN_QUEUE, false);
            self.machine.flags.set(Flags::IS_HEAD, false);
            return self.try_send(Turn::Had);
        }
        if due.since(self.now) > self.server_time_left() {
            self.refused = Some(due);
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        if self.machine.deadline(&self.service.policy).is_some_and(|deadline| due >= deadline) {
            return self.fail(FailureKind::Deadline);
        }
        self.explanation.trigger = Trigger::GateClosed;
        self.wait_until(due, WaitReason::Gate);
    }

    /// Corrects the time spent waiting for the server from the planned time to the actual one (C13).
    pub(super) fn settle_server_time(&mut self, reason: WaitReason) {
        if reason == WaitReason::Backoff {
            return;
        }
        let (now, planned) = (self.now, self.machine.until);
        let time = &mut self.machine.server_time;
        *time = time.saturating_add(now.since(planned)).saturating_sub(planned.since(now));
    }

    /// Returns the time in nanoseconds for which the request may still wait for hints and at the gate (C13).
    pub(super) fn server_time_left(&self) -> u64 {
        self.service.policy.max_server_wait.saturating_sub(self.machine.server_time)
    }

    /// Returns the time in nanoseconds over which to spread clients that got the same hint (L2).
    pub(super) fn hint_spread(&self) -> u64 {
        match self.service.policy.jitter {
            Jitter::None => 0,
            _ => self.service.policy.jitter_spread,
        }
    }

    /// Draws a number of nanoseconds from 0 to the spread.
    pub(super) fn draw(&self, (purpose, number): (Purpose, u32), spread: u64) -> u64 {
        draw(self.machine.seed, purpose, number, 0..=spread)
    }
}
