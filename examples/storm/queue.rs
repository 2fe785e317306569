//! The future events in order: a timing wheel in whole milliseconds.
//!
//! The wheel is the one of `hierarchical_hash_wheel_timer`. Events of the same millisecond come out in the order in which
//! they were put in, so that a run depends only on its seed.

use std::time::Duration;

use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::quad_wheel::QuadWheelWithOverflow;

use crate::service::Answer;

pub struct Queue {
    wheel: QuadWheelWithOverflow<Due>,
    now: u64,
}

/// An event that is due.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    /// This client begins a request.
    Begin(u32),
    /// An event for a request.
    Request(Request, Happening),
}

/// A request under way. Its key may be used again after its end, its number is not.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub key: u32,
    pub number: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// The end of a wait, or of the time for an attempt.
    Tick,
    /// The arrival of the answer.
    Reply(Answer),
    /// The caller gives up.
    Cancel,
}

impl Queue {
    pub fn new() -> Queue {
        Queue { wheel: QuadWheelWithOverflow::default(), now: 0 }
    }

    /// Returns the current time in milliseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Adds an event at millisecond `at`, or at the next one if that has passed.
    pub fn put(&mut self, at: u64, due: Due) {
        let delay = Duration::from_millis(at.max(self.now + 1) - self.now);
        self.wheel.insert_with_delay(due, delay).expect("an instant in the future");
    }

    /// Advances by a millisecond at least and to `end` at most, and removes and returns the events that are then due.
    pub fn advance(&mut self, end: u64) -> Vec<Due> {
        match self.wheel.can_skip() {
            Skip::Empty => {
                self.now = end;
                return Vec::new();
            }
            Skip::Millis(idle) => {
                let idle = u64::from(idle).min(end - self.now - 1) as u32;
                self.wheel.skip(idle);
                self.now += u64::from(idle);
            }
            Skip::None => {}
        }
        self.now += 1;
        self.wheel.tick()
    }
}
