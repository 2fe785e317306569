//! Compressed time: a virtual hour passes in seconds.

use std::time::{Duration, Instant};

use retry_machine::{Timestamp, drive};

/// A clock that server and clients share. It runs `factor` times as fast as real time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The real instant of virtual zero.
    pub origin: Instant,
    /// The calendar's time at virtual zero: Unix time in milliseconds.
    pub unix_origin_ms: u64,
    /// Virtual seconds per real second. At 0 virtual time stands still.
    pub factor: u32,
}

impl Clock {
    /// Returns the virtual milliseconds since the origin, rounded down.
    pub fn now_ms(&self) -> u64 {
        let nanos = self.origin.elapsed().as_nanos() * u128::from(self.factor);
        u64::try_from(nanos / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Returns the calendar's time at a virtual instant: Unix time in milliseconds.
    pub fn unix_at(&self, virtual_ms: u64) -> u64 {
        self.unix_origin_ms.saturating_add(virtual_ms)
    }
}

/// The clients' view of the clock.
impl drive::Clock for Clock {
    /// Returns whole milliseconds, so that a trace of a call repeats each instant exactly.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms())
    }

    fn unix_time(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.unix_at(self.now_ms())))
    }

    /// Rounds up, so that a sleep never ends too soon (B4). A `factor` of 0 counts as 1.
    fn real_time(&self, wait: Duration) -> Duration {
        let nanos = wait.as_nanos().div_ceil(self.factor.max(1).into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
