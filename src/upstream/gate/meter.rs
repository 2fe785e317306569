//! The measurement of the time between two answers, from which the pace follows (C7, C8).

use super::queue::Queue;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{Timestamp, seconds};

/// The measurement under way, and the best result so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(super) struct Meter {
    /// The shortest time between two answers that was seen, in nanoseconds, forgotten slowly. Zero: nothing is known.
    best: u64,
    /// `best` is a guess.
    is_guess: bool,
    /// The beginning of the measurement, less idle times. `None` before the first attempt ends.
    since: Option<Timestamp>,
    /// The end of the last attempt.
    last_end: Timestamp,
    /// Good answers since then, as the next two.
    answers: u32,
    refused: bool,
    /// A request waited at the gate.
    waited: bool,
}

/// A measurement takes at least this long, and has at least so many answers.
const SHORT: u64 = seconds(30);
const ENOUGH: u32 = 8;
/// With fewer answers it takes so long.
const LONG: u64 = seconds(120);
/// Of the time between two ends of attempts, with the gate open, no more than this counts; the rest is idle.
const MOST: u64 = seconds(30);
/// The number of answers that a guess assumes at least.
const ASSUMED: u32 = 4;
/// The best time grows and is forgotten by a 64th.
const STEP: u32 = 6;

impl Meter {
    pub(super) const fn new() -> Meter {
        Meter {
            best: 0,
            is_guess: false,
            since: None,
            last_end: Timestamp::ZERO,
            answers: 0,
            refused: false,
            waited: false,
        }
    }

    pub(super) fn count_answer(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }

    pub(super) fn note_refusal(&mut self) {
        self.refused = true;
    }

    pub(super) fn note_waiter(&mut self) {
        self.waited = true;
    }

    pub(super) fn is_queuing(&self, now: Timestamp, queue: &Queue) -> bool {
        queue.pace() > 0 && (queue.is_unsettled() || queue.next_free() > now || self.waited)
    }

    pub(super) fn restart(&mut self, now: Timestamp) {
        self.since = Some(now);
        (self.answers, self.refused, self.waited) = (0, false, false);
    }

    /// Begins anew if no attempt has ended for long, and forgets a guess. Returns whether it has begun anew.
    pub(super) fn start_afresh_after_idle_time(&mut self, now: Timestamp, opened_at: Timestamp) -> bool {
        let is_idle = self.since.is_some() && now.since(self.last_end.max(opened_at)) > LONG;
        if is_idle {
            if self.is_guess {
                (self.best, self.is_guess) = (0, false);
            }
            self.last_end = now;
            self.restart(now);
        }
        is_idle
    }

    /// Completes the measurement if it is time, and sets the pace anew (C7).
    pub(super) fn on_attempt_end(&mut self, now: Timestamp, opened_at: Timestamp, queue: &mut Queue) {
        let Some(since) = self.since else {
            self.last_end = now;
            return self.restart(now);
        };
        // Idle time is not slowness.
        let idle = now.since(self.last_end.max(opened_at)).saturating_sub(MOST);
        let since = since.after(idle);
        (self.since, self.last_end) = (Some(since), now);
        let age = now.since(since);
        if age < SHORT || self.answers < ENOUGH && age < LONG {
            return;
        }
        let is_queuing = self.is_queuing(now, queue);
        if self.refused || !is_queuing {
            self.best = self.best.saturating_add(self.best >> STEP);
        } else {
            self.best -= self.best >> STEP;
        }
        if self.answers >= ENOUGH {
            let seen = (age / u64::from(self.answers)).max(1);
            (self.best, self.is_guess) = match self.best {
                0 => (seen, false),
                _ if self.is_guess && self.refused => (seen, false),
                // None waits at a guess: it is not needed.
                _ if self.is_guess && !is_queuing => (0, false),
                // None was refused: the service can do more.
                best if self.is_guess => (best.min(seen) / 4 * 3, true),
                best => (best.min(seen), false),
            };
        }
        self.restart(now);
        if queue.pace() > 0 {
            queue.set_pace(if is_queuing { self.best.max(1) } else { 0 });
        }
    }

    /// Sets the pace for a closing (C8).
    pub(super) fn choose_pace(&mut self, now: Timestamp, until: Timestamp, queue: &mut Queue) {
        if self.is_guess {
            // The guess was too fast: by much, if there was hardly an answer.
            let half_steps = if self.answers < ASSUMED { 2 } else { 1 };
            self.best = queue.slow_down(half_steps, now).unwrap_or(self.best);
        }
        let is_cold = self.best == 0;
        if is_cold {
            let age = self.since.map_or(0, |since| now.since(since));
            self.best = age.max(until.since(now)) / u64::from(self.answers_in_guess());
            self.is_guess = true;
        }
        self.best = self.best.max(1);
        queue.set_pace(self.best);
        // A service that has answered is known well enough.
        if is_cold && self.answers < ENOUGH {
            queue.leave_unsettled();
        }
        self.waited = true;
    }

    /// Returns the number of answers on which a guess rests.
    pub(super) fn answers_in_guess(&self) -> u32 {
        self.answers.max(ASSUMED)
    }

    /// Takes the pace that the opening corrected, and measures anew if little was known (C8).
    pub(super) fn on_opening(&mut self, now: Timestamp, pace: u64) {
        self.best = pace;
        if self.answers < ENOUGH {
            self.restart(now);
        }
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(super) fn rebase(&mut self, shift: Shift) {
        if let Some(since) = &mut self.since {
            shift.exact(since);
        }
        shift.exact(&mut self.last_end);
    }
}
