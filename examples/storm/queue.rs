//! The future events in order: a timing wheel in whole milliseconds.
//!
//! The wheel is the one of `hierarchical_hash_wheel_timer`. Events of the same millisecond come out in the order in which
//! they were put in, so that a run depends only on its seed.

use std::time::Duration;

use hierarchical_hash_wheel_timer::wheels::quad_wheel::QuadWheelWithOverflow;

pub struct Queue {
    wheel: QuadWheelWithOverflow<Due>,
    now: u64,
}

/// An event for the request that is stored under this key.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    /// The end of a wait, or of the time for an attempt.
    Tick(u32),
    /// The arrival of the answer.
    Reply(u32, Answer),
}

impl Due {
    pub fn key(self) -> usize {
        match self {
            Due::Tick(key) | Due::Reply(key, _) => key as usize,
        }
    }
}

/// An answer of the service.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    /// Milliseconds until the next call is allowed, or 0.
    pub retry_after: u32,
}

impl Queue {
    pub fn new() -> Queue {
        Queue { wheel: QuadWheelWithOverflow::default(), now: 0 }
    }

    /// Returns the current time in milliseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Adds an event at millisecond `at`, which must be in the future.
    pub fn put(&mut self, at: u64, due: Due) {
        let delay = Duration::from_millis(at - self.now);
        self.wheel.insert_with_delay(due, delay).expect("an instant in the future");
    }

    /// Advances by a millisecond, and removes and returns the events that are then due.
    pub fn advance(&mut self) -> Vec<Due> {
        self.now += 1;
        self.wheel.tick()
    }
}
