//! Time as the machine sees it: nanoseconds since an origin that the driver chooses.

use core::fmt;
use core::time::Duration;

#[cfg(feature = "serde")]
pub(crate) mod shift;

/// An instant: nanoseconds since an origin that the driver chooses (rule T2).
///
/// The origin can be the start of the process, the boot of a device or the start of a simulation. It must be the same
/// for all requests of one [`Upstream`](crate::Upstream). Range: 0 to 2^64 − 1 ns, about 584 years. All arithmetic
/// saturates, and there is no operator that could overflow.
///
/// ```
/// use core::time::Duration;
/// use retry_machine::Timestamp;
///
/// let now = Timestamp::from_millis(1_500);
/// assert_eq!(now.saturating_add(Duration::from_millis(500)), Timestamp::from_millis(2_000));
/// assert_eq!(now.saturating_duration_since(Timestamp::MAX), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin.
    pub const ZERO: Timestamp = Timestamp(0);
    /// The last instant: sums beyond it saturate here.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// Returns the instant `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Timestamp {
        Timestamp(nanos)
    }

    /// Returns the instant `millis` milliseconds after the origin, at most [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis.saturating_mul(NANOS_PER_MILLI))
    }

    /// Returns the instant `elapsed` after the origin, at most [`Timestamp::MAX`]. With `std`, pass `start.elapsed()`.
    #[must_use]
    pub const fn from_elapsed(elapsed: Duration) -> Timestamp {
        Timestamp(nanos(elapsed))
    }

    /// Returns the nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the whole milliseconds since the origin, rounded up, so that a coarser clock never waits too short a
    /// time (rule B4).
    #[must_use]
    pub const fn as_millis_ceil(self) -> u64 {
        self.0.div_ceil(NANOS_PER_MILLI)
    }

    /// Returns the instant `wait` later, at most [`Timestamp::MAX`].
    #[must_use]
    pub const fn saturating_add(self, wait: Duration) -> Timestamp {
        self.after(nanos(wait))
    }

    /// Returns the time from `earlier` to this instant, zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.since(earlier))
    }

    /// Returns the instant `nanos` later, saturating.
    // A device has one copy of this and of some other arithmetic on 64 bits, where each of dozens would take more bytes.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub(crate) const fn after(self, nanos: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(nanos))
    }

    /// Returns the nanoseconds since `earlier`, saturating.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub(crate) const fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

pub(crate) const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Returns a duration in nanoseconds, saturating at 584 years.
#[cfg_attr(target_pointer_width = "32", inline(never))]
pub(crate) const fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(NANOS_PER_SECOND).saturating_add(duration.subsec_nanos() as u64)
}

/// Converts milliseconds to nanoseconds, saturating.
pub(crate) const fn millis(millis: u64) -> u64 {
    millis.saturating_mul(NANOS_PER_MILLI)
}

/// Converts seconds to nanoseconds, saturating.
pub(crate) const fn seconds(seconds: u64) -> u64 {
    seconds.saturating_mul(NANOS_PER_SECOND)
}

/// Nanoseconds, displayed for people: "3.72 s".
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = Duration::from_nanos(self.0);
        let millis = wait.subsec_millis();
        match (wait.subsec_nanos(), millis % 10, millis % 100) {
            (0, _, _) => write!(f, "{} s", wait.as_secs()),
            (_, 0, 0) => write!(f, "{}.{} s", wait.as_secs(), millis / 100),
            (_, 0, _) => write!(f, "{}.{:02} s", wait.as_secs(), millis / 10),
            _ => write!(f, "{}.{millis:03} s", wait.as_secs()),
        }
    }
}
