//! How waits grow, and how they are drawn.

use core::time::Duration;

use crate::time::nanos;

/// How a wait is drawn from the back-off `w` of its retry (rules B2, F2). Nothing drawn exceeds the longest back-off,
/// and where `w` is the longest there is still jitter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "rule B2 names five")]
pub enum Jitter {
    /// Exactly `w`, and exactly the time that the server asks for. Clients that fail together come back together: for
    /// tests, or where something else spreads them.
    None,
    /// Over `w` ± spread: the guide's jitter.
    #[default]
    Spread,
    /// Over [`w`, `w` + spread].
    Above,
    /// Over [`w` − `w` × down/1000, `w` + `w` × up/1000]. [`Jitter::FULL`], [`Jitter::EQUAL`] and
    /// [`Jitter::PROPORTIONAL`] are bands.
    Band {
        /// Thousandths of `w` below it, at most 1,000.
        down: u16,
        /// Thousandths of `w` above it.
        up: u16,
    },
    /// Over [initial, 3 × previous wait], the first over [initial, 3 × initial]; the factor plays no part.
    Decorrelated,
}

impl Jitter {
    /// Over [0, `w`]. Spreads a fleet best; a wait can be next to nothing.
    pub const FULL: Jitter = Jitter::Band { down: 1_000, up: 0 };
    /// Over [`w`/2, `w`].
    pub const EQUAL: Jitter = Jitter::Band { down: 500, up: 0 };
    /// Over `w` ± a quarter of it.
    pub const PROPORTIONAL: Jitter = Jitter::Band { down: 250, up: 250 };
}

/// The back-off after throttles without a hint, where it is another than that of other failures (rule B1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule B1 names three numbers, and users write them as a literal")]
pub struct ThrottleBackoff {
    /// The wait before the first retry.
    pub initial_backoff: Duration,
    /// By how much each further wait is longer: numerator and denominator, at least 1 together.
    pub backoff_factor: (u32, u32),
    /// The longest wait, jitter included.
    pub max_backoff: Duration,
}

impl ThrottleBackoff {
    pub(super) const fn growth(self) -> Growth {
        Growth { initial: nanos(self.initial_backoff), factor: self.backoff_factor, max: nanos(self.max_backoff) }
    }
}

/// A wait that grows: min(max, initial × factor^(n−1)). Nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Growth {
    pub(crate) initial: u64,
    /// Numerator and denominator.
    pub(crate) factor: (u32, u32),
    pub(crate) max: u64,
}

impl Growth {
    pub(super) const fn is_shrinking(&self) -> bool {
        self.factor.1 == 0 || self.factor.0 < self.factor.1
    }
}
