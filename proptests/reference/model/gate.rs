//! The gate, its queue, and the measurement that its pace rests on (S1, S7, C6 to C14).
//!
//! The queue has a clock of its own: it stands still while the gate is closed, and may run faster than time (C8). Slots
//! are instants of this clock, a step apart.

use super::span::{Ns, after, from_ms};

/// C7.
const SHORTEST: Ns = from_ms(30_000);
/// C7.
const LONGEST: Ns = from_ms(120_000);
/// C7: the good answers that a measurement needs.
const ENOUGH: u64 = 8;
/// C8: the good answers that a guess assumes at least.
const ASSUMED: u64 = 4;
/// C8: the half steps of the fastest clock.
const FASTEST: u32 = 64;

/// Why the gate closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// S1: a hint of a throttle, or one with nothing remaining.
    Hint,
    /// C11.
    Brake,
    /// S1: by hand.
    Operator,
}

#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// C13: the longest server wait, which bounds a closing, too (C12).
    longest_closing: Ns,
    /// The end of the last closing.
    pub opens: Ns,
    /// C12: until when it was asked to be closed.
    pub asked: Ns,
    /// C6: when the clock of the queue goes on.
    resumes: Ns,
    /// The reading of the clock of the queue when it goes on.
    reading: Ns,
    /// C8: how fast the clock runs: 1, 1½, 2, 3, 4, 6, 8 … times as fast as time.
    half_steps: u32,
    /// C9: the next free slot.
    next: Ns,
    /// The time between two slots; 0: there is no pace.
    pace: Ns,
    /// C8: while the opening is to correct a guess: the slots given.
    unsettled: Option<u64>,
    /// C7: the best time known between two good answers; 0: none.
    best: Ns,
    /// C7: the best time is a guess.
    is_guess: bool,
    /// C7: when the measurement began, without the time that does not count.
    since: Option<Ns>,
    /// C7: when the last attempt ended.
    last_end: Ns,
    /// Since the measurement began: the good answers, whether a request was refused, and whether one has waited.
    answers: u64,
    refused: bool,
    waited: bool,
}

impl Gate {
    pub fn new(longest_closing: Ns) -> Gate {
        Gate { longest_closing, ..Gate::default() }
    }

    pub fn is_closed(&self, now: Ns) -> bool {
        now < self.opens
    }

    /// C8: returns what the clock of the queue counts in this time.
    fn counted(&self, time: Ns) -> Ns {
        let whole = (time << (self.half_steps / 2)).min(u64::MAX.into());
        if self.half_steps % 2 == 1 { after(whole, whole / 2) } else { whole }
    }

    /// C8: returns the time in which the clock of the queue counts so much.
    fn time(&self, counted: Ns) -> Ns {
        let whole = counted >> (self.half_steps / 2);
        if self.half_steps % 2 == 1 { whole / 3 * 2 } else { whole }
    }

    fn clock(&self, now: Ns) -> Ns {
        after(self.reading, self.counted((now - self.resumes).max(0)))
    }

    /// C6: stops the clock until an instant.
    fn stop_clock(&mut self, now: Ns, length: Ns) {
        self.reading = self.clock(now);
        self.resumes = after(self.resumes.max(now), length);
    }

    /// C9: returns when a slot's turn comes.
    fn due(&self, slot: Ns) -> Ns {
        let slot = slot.min(self.next);
        if self.unsettled.is_some() {
            0 // C8: a request that waits is told the opening
        } else if slot >= self.reading {
            after(self.resumes, self.time(slot - self.reading))
        } else {
            (self.resumes - self.time(self.reading - slot)).max(0)
        }
    }

    /// C9: returns how far one slot is from the next, on the clock of the queue.
    fn step(&self) -> Ns {
        self.counted(self.pace)
    }

    fn next_free_in_queue(&self) -> Ns {
        if self.pace == 0 { 0 } else { self.due(self.next) }
    }

    /// C7: returns whether somebody queues.
    pub fn is_queuing(&self, now: Ns) -> bool {
        let is_told_the_opening = self.unsettled.is_some();
        self.pace > 0 && (is_told_the_opening || self.next_free_in_queue() > now || self.waited)
    }

    /// C8: looks at an open gate: its opening corrects a guess, and the clock of an empty queue runs as time does.
    pub fn look(&mut self, now: Ns) {
        if self.is_closed(now) {
            return;
        }
        self.correct_guess(now);
        if self.next <= self.clock(now) {
            self.reading = self.next;
            self.resumes = self.resumes.max(now);
            self.half_steps = 0;
            self.start_afresh(now);
        }
    }

    /// C7: after an idle time nobody queues, and the measurement begins anew.
    fn start_afresh(&mut self, now: Ns) {
        if self.since.is_none() || now - self.last_end.max(self.opens) <= LONGEST {
            return;
        }
        if self.is_guess {
            self.best = 0;
            self.is_guess = false;
        }
        self.last_end = now;
        self.begin_measurement(now);
        self.set_pace(0);
    }

    /// C8: the opening corrects a guess.
    fn correct_guess(&mut self, now: Ns) {
        let Some(given) = self.unsettled.take() else {
            return;
        };
        let answers = self.answers.max(ASSUMED);
        let longest = ((self.pace * Ns::from(answers)).min(u64::MAX.into()) / 4).max(from_ms(3_000));
        while self.half_steps < FASTEST && self.time(self.pace) * Ns::from(given) > longest {
            self.half_steps += 2;
        }
        // C10: those of the heads.
        let turns = (self.resumes - self.opens).max(0);
        self.resumes = after(self.opens, self.time(turns));
        self.pace = self.time(self.pace).max(1);
        self.best = self.pace;
        if self.answers < ENOUGH {
            self.begin_measurement(self.opens.min(now));
        }
    }

    fn begin_measurement(&mut self, at: Ns) {
        self.since = Some(at);
        self.answers = 0;
        self.refused = false;
        self.waited = false;
    }

    fn set_pace(&mut self, pace: Ns) {
        self.pace = pace;
        if pace == 0 {
            self.unsettled = None;
        }
    }

    /// C7: an attempt has ended.
    pub fn attempt_ended(&mut self, now: Ns, good: bool) {
        self.look(now);
        match self.since {
            None => {
                self.last_end = now;
                self.begin_measurement(now);
            }
            Some(since) => {
                let gap = (now - self.last_end.max(self.opens)).max(0);
                let since = after(since, (gap - SHORTEST).max(0));
                self.since = Some(since);
                self.last_end = now;
                self.measure(now, (now - since).max(0));
            }
        }
        if good {
            self.answers += 1;
        }
    }

    /// C7: looks at a measurement of this age.
    fn measure(&mut self, now: Ns, age: Ns) {
        if age < SHORTEST || (self.answers < ENOUGH && age < LONGEST) {
            return;
        }
        let queuing = self.is_queuing(now);
        let grows = self.refused || !queuing;
        let part = self.best / 64;
        self.best = if grows { after(self.best, part) } else { self.best - part };
        if self.answers >= ENOUGH {
            let measured = (age / Ns::from(self.answers)).max(1);
            if self.best == 0 || (self.is_guess && self.refused) {
                self.best = measured;
                self.is_guess = false;
            } else if self.is_guess && !queuing {
                self.best = 0;
                self.is_guess = false;
            } else if self.is_guess {
                self.best = self.best.min(measured) / 4 * 3;
            } else {
                self.best = self.best.min(measured);
            }
        }
        self.begin_measurement(now);
        if self.pace > 0 {
            self.set_pace(if queuing { self.best.max(1) } else { 0 });
        }
    }

    /// S1, C6: closes the gate until an instant. Returns whether a hint has closed the open gate.
    pub fn close(&mut self, now: Ns, asked: Ns, why: Why) -> bool {
        // C12
        let until = if why == Why::Operator { asked } else { asked.min(after(now, self.longest_closing)) };
        // C12: nobody asked for a brake.
        let asked = if why == Why::Brake { until } else { asked };
        if until <= now {
            return false;
        }
        self.look(now);
        if self.is_closed(now) {
            if until > self.opens {
                self.resumes = after(self.resumes, until - self.opens);
                self.opens = until;
            }
            self.asked = self.asked.max(asked);
            return false;
        }
        if why == Why::Hint {
            self.learn(now, until);
        }
        self.stop_clock(now, until - now);
        self.next = self.next.max(self.reading);
        self.refused |= why != Why::Operator;
        self.opens = until;
        self.asked = asked;
        why == Why::Hint
    }

    /// C8: the best time becomes the pace.
    fn learn(&mut self, now: Ns, until: Ns) {
        if self.is_guess && self.half_steps > 0 && self.pace > 0 {
            // The guess was too fast.
            self.stop_clock(now, 0);
            let step = self.step();
            self.half_steps = self.half_steps.saturating_sub(if self.answers < ASSUMED { 2 } else { 1 });
            self.pace = self.time(step);
            self.best = self.pace;
        }
        let knows_nothing = self.best == 0;
        if self.best == 0 {
            let age = self.since.map_or(0, |since| (now - since).max(0));
            self.best = age.max(until - now) / Ns::from(self.answers.max(ASSUMED));
            self.is_guess = true;
        }
        self.best = self.best.max(1);
        self.set_pace(self.best);
        if knows_nothing && self.answers < ENOUGH {
            self.unsettled = Some(0);
        }
        self.waited = true;
    }

    /// S1: by hand.
    pub fn open(&mut self, now: Ns) {
        self.correct_guess(now);
        // The rest of the closing does not come.
        self.resumes = (self.resumes - (self.opens - now).max(0)).max(0);
        self.opens = self.opens.min(now);
        self.set_pace(0);
    }

    /// C9: returns when the next free slot's turn comes, behind the opening.
    pub fn next_free(&mut self, now: Ns) -> Ns {
        self.look(now);
        self.next_free_in_queue().max(self.opens)
    }

    /// C9.
    pub fn take_slot(&mut self) -> Ns {
        self.waited = true;
        if self.pace == 0 {
            return self.next.min(self.reading); // C9: there is no queue, only an opening
        }
        let slot = self.next;
        self.next = after(slot, self.step());
        if let Some(given) = &mut self.unsettled {
            *given += 1;
        }
        slot
    }

    /// C9: returns when the turn of a slot comes, behind the opening.
    pub fn turn(&mut self, slot: Ns, now: Ns) -> Ns {
        self.look(now);
        self.due(slot).max(self.opens)
    }

    /// C9: the last slot given is free again, another one stays empty.
    pub fn give_back(&mut self, slot: Ns) {
        if after(slot, self.step()) == self.next {
            self.next = slot;
        }
    }

    /// C10: a head moves all slots back.
    pub fn take_head(&mut self) {
        self.waited = true;
        self.resumes = after(self.resumes, self.pace);
    }

    /// C9: a request passes that need not wait.
    pub fn pass(&mut self, now: Ns) {
        self.look(now);
        self.next = after(self.next, self.step());
    }

    /// C14.
    pub fn give_up_queue(&mut self, now: Ns) {
        self.set_pace(0);
        self.begin_measurement(now);
    }
}
