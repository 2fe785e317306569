//! The queue at the gate (C8–C10, C14).

#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{Timestamp, seconds};

/// The queue. It has a clock of its own, which stands still while the gate is closed, so that a closing moves all slots
/// back by just that long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(super) struct Queue {
    /// The clock shows `reading` until this instant, and goes on from there.
    resumes_at: Timestamp,
    reading: u64,
    /// The clock's speed.
    speed: Speed,
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

/// A speed, in half steps: 1, 1½, 2, 3, 4, 6, 8 and so on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Speed(u8);

impl Speed {
    const OF_TIME: Speed = Speed(0);
    /// 2^32.
    const FASTEST: Speed = Speed(64);

    /// Returns the time on a clock of this speed in so many nanoseconds.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    fn run(self, nanos: u64) -> u64 {
        let doublings = u32::from(self.0 / 2);
        let run = if nanos.leading_zeros() < doublings { u64::MAX } else { nanos << doublings };
        if self.0 % 2 == 0 { run } else { run.saturating_add(run / 2) }
    }

    /// Returns the nanoseconds in which a clock of this speed goes so far.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    fn time(self, run: u64) -> u64 {
        let time = run >> (self.0 / 2);
        if self.0 % 2 == 0 { time } else { time / 3 * 2 }
    }
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue {
            resumes_at: Timestamp::ZERO,
            reading: 0,
            speed: Speed::OF_TIME,
            next: Slot(0),
            pace: 0,
            unsettled: None,
        }
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
        self.reading.saturating_add(self.speed.run(now.since(self.resumes_at)))
    }

    /// Returns the instant of a slot, if the clock is not stopped again. No slot comes after the next free one.
    pub(super) fn due(&self, slot: Slot) -> Timestamp {
        let slot = slot.min(self.next);
        if self.unsettled.is_some() {
            // The opening settles the pace. Until then the opening is all that is known.
            return Timestamp::ZERO;
        }
        let ahead = self.speed.time(slot.0.saturating_sub(self.reading));
        let behind = self.speed.time(self.reading.saturating_sub(slot.0));
        Timestamp::from_nanos(self.resumes_at.after(ahead).as_nanos().saturating_sub(behind))
    }

    /// Returns the instant of the next free slot: in the past where none waits.
    pub(super) fn next_free(&self) -> Timestamp {
        if self.pace == 0 { Timestamp::ZERO } else { self.due(self.next) }
    }

    fn step(&self) -> u64 {
        self.speed.run(self.pace)
    }

    /// Stops the clock until `until`.
    pub(super) fn stop(&mut self, now: Timestamp, until: Timestamp) {
        self.read(now);
        self.prolong_stop(until.since(now));
    }

    /// Reads the clock, so that it goes on from `now`, or from the end of its stop.
    fn read(&mut self, now: Timestamp) {
        self.reading = self.clock(now);
        self.resumes_at = self.resumes_at.max(now);
    }

    pub(super) fn prolong_stop(&mut self, nanos: u64) {
        self.resumes_at = self.resumes_at.after(nanos);
    }

    pub(super) fn shorten_stop(&mut self, nanos: u64) {
        self.resumes_at = Timestamp::from_nanos(self.resumes_at.as_nanos().saturating_sub(nanos));
    }

    pub(super) fn take_slot(&mut self) -> Slot {
        if self.pace == 0 {
            // Without a pace there is no queue: the opening is all that it waits for.
            return Slot(self.next.0.min(self.reading));
        }
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

    /// Lets a request pass now, before which none waits: the next one passes a pace later.
    pub(super) fn pass(&mut self) {
        self.next.0 = self.next.0.saturating_add(self.step());
    }

    /// Lets the clock run as time does if no slot lies ahead. It does not even show the time that has passed since the last
    /// one, so that it never comes near its end. Returns whether no slot lies ahead.
    pub(super) fn rewind_if_empty(&mut self, now: Timestamp) -> bool {
        let is_empty = self.next.0 <= self.reading || self.next.0 <= self.clock(now);
        if is_empty {
            self.reading = self.next.0;
            self.resumes_at = self.resumes_at.max(now);
            self.speed = Speed::OF_TIME;
        }
        is_empty
    }

    /// Lets all pass at once from now on. Slots that were given stay.
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

    /// Corrects a guessed pace at the opening, so that the slots given fit into a quarter of the time that the guess assumes
    /// for so many answers. Returns the new pace.
    pub(super) fn settle(&mut self, opens_at: Timestamp, answers: u32) -> u64 {
        let given = u64::from(self.unsettled.take().unwrap_or(0));
        let longest = (self.pace.saturating_mul(answers.into()) / FRACTION).max(SHORTEST);
        while self.speed.0 < Speed::FASTEST.0 && self.speed.time(self.pace).saturating_mul(given) > longest {
            self.speed.0 += 2;
        }
        self.pace = self.speed.time(self.pace).max(1);
        let heads = self.resumes_at.since(opens_at);
        self.resumes_at = opens_at.after(self.speed.time(heads));
        self.pace
    }

    /// Makes the clock slower by some half steps, and the pace with it, if the clock is faster than time. Returns the new
    /// pace.
    pub(super) fn slow_down(&mut self, half_steps: u8, now: Timestamp) -> Option<u64> {
        if self.speed == Speed::OF_TIME || self.pace == 0 {
            return None;
        }
        self.read(now);
        let step = self.speed.run(self.pace);
        self.speed.0 = self.speed.0.saturating_sub(half_steps);
        self.pace = self.speed.time(step);
        Some(self.pace)
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(super) fn rebase(&mut self, shift: Shift) {
        let now = shift.from();
        self.speed.0 = self.speed.0.min(Speed::FASTEST.0);
        if !shift.keeps_age(self.resumes_at) {
            // The second clock is too young to say when the first one went on.
            self.read(now);
        }
        shift.exact(&mut self.resumes_at);
    }
}

/// The slots of a guess fit into the time that it assumes for its answers, divided by this, but not less than `SHORTEST`.
const FRACTION: u64 = 4;
const SHORTEST: u64 = seconds(3);

#[cfg(test)]
mod tests {
    use super::{Queue, Speed};
    use crate::time::Timestamp;

    #[test]
    fn c8_a_clock_that_runs_fast_ends_at_the_end_of_time() {
        assert_eq!(Speed(5).run(1_000), 6_000);
        assert_eq!(Speed(5).time(6_000), 1_000);
        assert_eq!(Speed::FASTEST.run(1 << 31), 1 << 63);
        assert_eq!(Speed::FASTEST.run(1 << 32), u64::MAX);
        assert_eq!(Speed(65).run(1 << 32), u64::MAX);
    }

    #[test]
    fn c8_the_correction_of_a_guess_ends_at_the_fastest_clock() {
        for speed in [0, 63] {
            let mut queue = Queue { speed: Speed(speed), pace: u64::MAX, unsettled: Some(u32::MAX), ..Queue::new() };
            let pace = queue.settle(Timestamp::ZERO, 4);
            assert!(queue.speed.0 >= Speed::FASTEST.0 && pace > 0, "{queue:?}");
        }
    }
}
