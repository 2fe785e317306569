//! The clock of a handle.

use core::future::Future;
use core::time::Duration;
use std::time::{Instant, SystemTime};

use crate::Timestamp;

/// The clock of an [`Api`](super::Api). The default is [`SystemClock`]. Implement it for a platform without
/// [`Instant`], such as a browser, and for tests in virtual time; [`pages::drivers`](crate::pages::drivers) has one.
pub trait Clock: Send + Sync {
    /// Returns the time since an origin that never changes while the handle lives.
    fn now(&self) -> Timestamp;

    /// Returns the wall clock: the time since the Unix epoch. It judges dates in responses without a `Date` (rule H4).
    /// `None`: it is not known.
    fn unix_time(&self) -> Option<Duration>;

    /// Returns the real time in which `wait` passes on this clock. By default they are the same.
    fn real_time(&self, wait: Duration) -> Duration {
        wait
    }
}

/// The system's monotonic clock from the creation of this value on, and its wall clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Creates a clock that starts now.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_elapsed(self.origin.elapsed())
    }

    fn unix_time(&self) -> Option<Duration> {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()
    }
}

/// Lets time pass, on whatever runtime the client has. Functions such as `tokio::time::sleep` implement it.
pub trait Sleep: Clone {
    /// Completes when the time has passed.
    type Future: Future<Output = ()>;

    /// Returns a future that completes after `wait`. Completing early is harmless (rule B4).
    fn sleep(&self, wait: Duration) -> Self::Future;
}

impl<F: Fn(Duration) -> Fut + Clone, Fut: Future<Output = ()>> Sleep for F {
    type Future = Fut;

    fn sleep(&self, wait: Duration) -> Fut {
        self(wait)
    }
}
