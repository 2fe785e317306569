//! The queue at the gate (C8–C10, C14).

use crate::time::Timestamp;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;

/// The queue. It has a clock of its own, which stands still while the gate is closed, so that a closing moves all slots
/// back by just that long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(super) struct Queue {
    /// The clock shows `reading` until this instant, and goes on from there.
    resumes_at: Timestamp,
    reading: u64,
    /// The clock runs 2^`doublings` times as fast as time.
    doublings: u8,
    /// The next free slot.
    next: Slot,
    /// The time between two slots in nanoseconds. Zero: there is no queue, and all pass at once.
    pace: u64,
    /// The number of slots given while the pace is a guess that the opening will correct.
    unsettled: Option<u32>,
}

/// A place in the queue: nanoseconds of the queue's own clock (C9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Slot(pub(crate) u64);

/// More doublings than any pace has bits left.
const MAX_DOUBLINGS: u8 = 32;

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue { resumes_at: Timestamp::ZERO, reading: 0, doublings: 0, next: Slot(0), pace: 0, unsettled: None }
    }

    pub(super) const fn pace(&self) -> u64 {
        self.pace
    }

    /// Sets the pace. Without one there is no queue.
    pub(super) fn set_pace(&mut self, pace: u64) {
        self.pace = pace;
        if pace == 0 {
            self.unsettled = None;
        }
    }

    fn clock(&self, now: Timestamp) -> u64 {
        let run = now.since(self.resumes_at);
        let run = if run.leading_zeros() < u32::from(self.doublings) { u64::MAX } else { run << self.doublings };
        self.reading.saturating_add(run)
    }

    /// Returns the instant of a slot, if the clock is not stopped again.
    pub(super) fn due(&self, slot: Slot) -> Timestamp {
        if self.unsettled.is_some() {
            // The opening settles the pace. Until then the opening is all that is known.
            return Timestamp::ZERO;
        }
        let ahead = slot.0.saturating_sub(self.reading) >> self.doublings;
        let behind = self.reading.saturating_sub(slot.0) >> self.doublings;
        Timestamp::from_nanos(self.resumes_at.after(ahead).as_nanos().saturating_sub(behind))
    }

    /// Returns the instant of the next free slot: in the past where none waits.
    pub(super) fn next_free(&self) -> Timestamp {
        if self.pace == 0 { Timestamp::ZERO } else { self.due(self.next) }
    }

    fn step(&self) -> u64 {
        self.pace.saturating_mul(1 << self.doublings)
    }

    /// Stops the clock until `until`.
    pub(super) fn stop(&mut self, now: Timestamp, until: Timestamp) {
        self.reading = self.clock(now);
        self.next.0 = self.next.0.max(self.reading);
        self.resumes_at = self.resumes_at.max(now).after(until.since(now));
    }

    pub(super) fn prolong_stop(&mut self, nanos: u64) {
        self.resumes_at = self.resumes_at.after(nanos);
    }

    pub(super) fn take_slot(&mut self) -> Slot {
        let slot = self.next;
        self.next.0 = slot.0.saturating_add(self.step());
        if let Some(given) = &mut self.unsettled {
            *given = given.saturating_add(1);
        }
        slot
    }

    pub(super) fn give_back(&mut self, slot: Slot) {
        if slot.0.saturating_add(self.step()) == self.next.0 {
            self.next = slot;
        }
    }

    /// Moves all slots back by one.
    pub(super) fn move_back(&mut self) {
        self.resumes_at = self.resumes_at.after(self.pace);
    }

    /// Lets a request pass now: the next one passes a pace later.
    pub(super) fn pass(&mut self, now: Timestamp) {
        if self.pace > 0 {
            self.restart_clock(now);
            self.next.0 = self.reading.saturating_add(self.step());
        }
    }

    /// None waits: the clock can run as time does.
    fn restart_clock(&mut self, now: Timestamp) {
        self.reading = self.clock(now);
        self.resumes_at = self.resumes_at.max(now);
        self.doublings = 0;
    }

    /// From now on all pass at once. Slots that were given stay.
    pub(super) fn dissolve(&mut self) {
        self.set_pace(0);
    }

    /// Marks the pace as a guess that the opening corrects by the number of slots that are given until then (C8).
    pub(super) fn leave_unsettled(&mut self) {
        self.unsettled = Some(0);
    }

    pub(super) const fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Corrects a guessed pace at the opening, so that the slots given fit into about the time for which the gate was
    /// closed; `fits` of them do without a correction. Returns the number of halvings.
    pub(super) fn settle(&mut self, opens_at: Timestamp, fits: u32) -> u8 {
        let given = self.unsettled.take().unwrap_or(0);
        let mut doublings = 0;
        while doublings < MAX_DOUBLINGS && u64::from(fits) << doublings < u64::from(given) * SPEEDUP {
            doublings += 1;
        }
        self.doublings = doublings;
        self.pace = (self.pace >> doublings).max(1);
        let heads = self.resumes_at.since(opens_at);
        self.resumes_at = opens_at.after(heads >> doublings);
        doublings
    }

    /// Halves the speed at which a guess is tried. Returns whether it was more than that of time.
    pub(super) fn slow_down(&mut self, now: Timestamp) -> bool {
        if self.doublings == 0 {
            return false;
        }
        self.reading = self.clock(now);
        self.resumes_at = self.resumes_at.max(now);
        self.doublings -= 1;
        self.pace = self.pace.saturating_mul(2);
        true
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(super) fn rebase(&mut self, shift: Shift) {
        let now = shift.from();
        if self.resumes_at < now {
            (self.reading, self.resumes_at) = (self.clock(now), now);
        }
        self.doublings = self.doublings.min(MAX_DOUBLINGS);
        shift.ahead(&mut self.resumes_at);
    }
}

/// The slots of a guess fit into the closed time, divided by this.
const SPEEDUP: u64 = 1;
