//! The gate: while it is closed no request is sent, and then those that it held pass one by one (S1, S7).

mod meter;
mod queue;

use core::time::Duration;

use self::meter::Meter;
use self::queue::Queue;
pub(crate) use self::queue::Slot;
#[cfg(feature = "serde")]
use crate::policy::Policy;
use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;

/// One rate limit: while the gate is closed no request that counts for it is sent, and then those that it held pass one by
/// one (rules S1, S7).
///
/// Most programs have one for each service, in an [`Upstream`](crate::Upstream). A service with several rate limits has one
/// for each, passed in a [`Scope`](crate::Scope).
///
/// ```
/// use retry_machine::{Gate, GateReason, Timestamp};
///
/// let mut gate = Gate::new();
/// gate.close(Timestamp::ZERO, Timestamp::from_millis(5_000)); // maintenance
/// let closed = gate.state(Timestamp::from_millis(900)).closed;
/// assert_eq!(closed, Some((Timestamp::from_millis(5_000), GateReason::Operator)));
/// gate.open(Timestamp::from_millis(1_000));
/// assert_eq!(gate.state(Timestamp::from_millis(1_000)).closed, None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Gate {
    /// The gate is closed before.
    opens_at: Timestamp,
    /// The end of the time for which the service asked not to be called, which can be later (C12). It counts only while
    /// the gate is closed.
    asked_until: Timestamp,
    closed_by: GateReason,
    queue: Queue,
    meter: Meter,
}

/// Why the gate closed (rule S1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum GateReason {
    /// A throttle with a hint.
    Throttle,
    /// A reply that said that nothing remains of a limit.
    NothingRemains,
    /// An attempt failed while requests passed the gate one by one (rule C11).
    Brake,
    /// [`Gate::close`].
    Operator,
}

/// The state of a [`Gate`], for logs and health pages (rule S1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct GateState {
    /// The opening and the reason, while the gate is closed.
    pub closed: Option<(Timestamp, GateReason)>,
    /// The time between two requests that pass, while requests pass one by one.
    pub pace: Option<Duration>,
    /// The instant at which the next request can pass: now, or the next free slot of the queue.
    pub next_free: Timestamp,
}

impl Gate {
    /// Creates an open gate.
    #[must_use]
    pub const fn new() -> Gate {
        Gate {
            opens_at: Timestamp::ZERO,
            asked_until: Timestamp::ZERO,
            closed_by: GateReason::Operator,
            queue: Queue::new(),
            meter: Meter::new(),
        }
    }

    pub(crate) fn is_closed(&self, now: Timestamp) -> bool {
        now < self.opens_at
    }

    pub(crate) const fn opens_at(&self) -> Timestamp {
        self.opens_at
    }

    /// Returns the end of the time for which the service asked not to be called, while the gate is closed. It is not before
    /// the opening, whatever a stored gate says.
    pub(crate) fn asked_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.is_closed(now).then_some(self.asked_until.max(self.opens_at))
    }

    /// Returns the state at `now` (rule S1).
    #[must_use]
    pub fn state(&self, now: Timestamp) -> GateState {
        let mut gate = self.clone();
        gate.look(now);
        GateState {
            closed: gate.is_closed(now).then_some((gate.opens_at, gate.closed_by)),
            pace: (gate.queue.pace() > 0).then_some(Duration::from_nanos(gate.queue.pace())),
            next_free: gate.next_free(now).max(now),
        }
    }

    // ---- What an operator tells ----

    /// Closes the gate until `until`, for an operator who knows that the service is not ready (rule S1). Does nothing if the
    /// gate is closed for longer already. The longest server wait does not limit it: a request that would have to wait longer
    /// fails at once. It sets no pace, and a policy without a gate ignores it.
    pub fn close(&mut self, now: Timestamp, until: Timestamp) {
        self.close_for(now, until, GateReason::Operator, 0);
    }

    /// Opens the gate, for an operator who knows that the service is ready (rule S1). Requests that come afterwards pass at
    /// once; waits under way keep their end (rule F3).
    pub fn open(&mut self, now: Timestamp) {
        self.settle(now);
        // The clock goes on from here, too: the rest of the closing does not come.
        self.queue.shorten_stop(self.opens_at.since(now));
        self.opens_at = self.opens_at.min(now);
        self.queue.dissolve();
    }

    // ---- What attempts tell ----

    /// Takes the end of an attempt into the measurement. `is_good`: it got a good answer (C7, D18).
    pub(crate) fn on_attempt_end(&mut self, now: Timestamp, is_good: bool) {
        self.look(now);
        self.meter.on_attempt_end(now, self.opens_at, &mut self.queue);
        if is_good {
            self.meter.count_answer();
        }
    }

    /// Closes the gate until `until`, for others at most for `longest` (C12). Returns whether it was open and is closed
    /// now, so that the reply which closed it is the first of the held ones (C10).
    pub(crate) fn close_for(&mut self, now: Timestamp, until: Timestamp, reason: GateReason, longest: u64) -> bool {
        let (asked, longest_end) = (until, now.after(longest));
        let until = if reason == GateReason::Operator { until } else { until.min(longest_end) };
        // Nobody asked for a brake.
        let asked = if reason == GateReason::Brake { until } else { asked };
        if until <= now {
            return false;
        }
        self.look(now);
        if self.is_closed(now) {
            // C6: all slots move by the difference, and nothing else changes.
            if until > self.opens_at {
                self.queue.prolong_stop(until.since(self.opens_at));
                (self.opens_at, self.closed_by) = (until, reason);
            }
            self.asked_until = self.asked_until.max(asked);
            return false;
        }
        let learns = matches!(reason, GateReason::Throttle | GateReason::NothingRemains);
        if learns {
            self.meter.choose_pace(now, until, &mut self.queue);
        }
        self.queue.stop(now, until);
        if reason != GateReason::Operator {
            self.meter.note_refusal();
        }
        (self.opens_at, self.asked_until, self.closed_by) = (until, asked, reason);
        learns
    }

    // ---- What requests ask ----

    /// Returns whether requests pass one by one, and one waits or has waited lately (C11).
    pub(crate) fn is_queuing(&self, now: Timestamp) -> bool {
        self.meter.is_queuing(now, &self.queue)
    }

    /// Returns the instant at which a request that comes now can pass. It lies ahead while the gate is closed, and
    /// while a queue stands before it.
    pub(crate) fn next_free(&mut self, now: Timestamp) -> Timestamp {
        self.look(now);
        self.queue.next_free().max(self.opens_at)
    }

    /// Gives away the next free slot (C9).
    pub(crate) fn take_slot(&mut self) -> Slot {
        self.meter.note_waiter();
        self.queue.take_slot()
    }

    /// Returns the instant of a slot, as far as it is known now (C9).
    pub(crate) fn due(&mut self, slot: Slot, now: Timestamp) -> Timestamp {
        self.look(now);
        self.queue.due(slot).max(self.opens_at)
    }

    /// Takes back a slot of which no use was made, if it is the last one.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        self.queue.give_back(slot);
    }

    /// Lets the head of the queue, whose turn had come, pass first after the opening: all others pass one slot later
    /// (C10).
    pub(crate) fn let_head_first(&mut self) {
        self.meter.note_waiter();
        self.queue.move_back();
    }

    /// Lets a request pass that need not wait, as [`next_free`](Gate::next_free) has just said (C9).
    pub(crate) fn pass(&mut self) {
        self.queue.pass();
    }

    /// Gives the queue up: it is too long, or its pace is wrong (C14). Those that wait keep their slots.
    pub(crate) fn give_queue_up(&mut self, now: Timestamp) {
        self.queue.dissolve();
        self.meter.restart(now);
    }

    /// Brings the gate up to date: the opening, the end of the queue, and idle time change it.
    fn look(&mut self, now: Timestamp) {
        if !self.is_closed(now) {
            self.settle(now);
            if self.queue.rewind_if_empty(now) && self.meter.start_afresh_after_idle_time(now, self.opens_at) {
                self.queue.dissolve();
            }
        }
    }

    fn settle(&mut self, now: Timestamp) {
        if self.queue.is_unsettled() {
            let pace = self.queue.settle(self.opens_at, self.meter.answers_in_guess());
            self.meter.on_opening(self.opens_at.min(now), pace);
        }
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) {
        shift.exact(&mut self.opens_at);
        shift.ahead(&mut self.asked_until);
        self.meter.rebase(shift);
        self.queue.rebase(shift);
    }

    /// Clamps the opening of a snapshot to the longest server wait (T7). A closing by an operator has no limit.
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, now: Timestamp, policy: &Policy) {
        if self.closed_by != GateReason::Operator {
            self.opens_at = self.opens_at.min(now.after(policy.max_server_wait));
        }
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}
