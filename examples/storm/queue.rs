//! What is going to happen, in order: a timing wheel in whole milliseconds.
//!
//! The wheel is that of `hierarchical_hash_wheel_timer`. What is due in the same millisecond comes out in the order in
//! which it was put in, so that a run does not depend on anything but its seed.

use std::time::Duration;

use hierarchical_hash_wheel_timer::wheels::quad_wheel::QuadWheelWithOverflow;

pub struct Queue {
    wheel: QuadWheelWithOverflow<Due>,
    now: u64,
}

/// Something that happens to the request that is stored under this key.
#[derive(Clone, Copy, Debug)]
pub enum Due {
    /// A wait is over, or an attempt has taken too long.
    Tick(u32),
    /// The answer arrives.
    Reply(u32, Answer),
}

impl Due {
    pub fn key(self) -> usize {
        match self {
            Due::Tick(key) | Due::Reply(key, _) => key as usize,
        }
    }
}

/// What the service says.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    /// In how many milliseconds to come again, or 0.
    pub retry_after: u32,
}

impl Queue {
    pub fn new() -> Queue {
        Queue { wheel: QuadWheelWithOverflow::default(), now: 0 }
    }

    /// The present, in milliseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Puts in what happens at millisecond `at`, which must lie in the future.
    pub fn put(&mut self, at: u64, due: Due) {
        let delay = Duration::from_millis(at - self.now);
        self.wheel.insert_with_delay(due, delay).expect("an instant in the future");
    }

    /// Lets a millisecond pass, and takes out what is due then.
    pub fn advance(&mut self) -> Vec<Due> {
        self.now += 1;
        self.wheel.tick()
    }
}
