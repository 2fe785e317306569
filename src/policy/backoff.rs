//! The growth of waits, and their jitter.

use core::time::Duration;

use crate::time::nanos;

/// The distribution of a wait around the back-off `w` of its retry (rules B2, F2). A drawn wait never exceeds
/// `max_backoff`, and even where `w` has reached `max_backoff` all kinds but [`None`](Jitter::None) still spread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "rule B2 names five")]
pub enum Jitter {
    /// Exactly `w`, and exactly the time that the server asks for. Clients that fail together come back together: use
    /// it for tests, or where something else spreads them.
    None,
    /// Between `w` − spread and `w` + spread, see
    /// [`PolicyBuilder::jitter_spread`](crate::PolicyBuilder::jitter_spread): the guide's jitter.
    #[default]
    Spread,
    /// Between `w` and `w` + spread.
    Above,
    /// Between `w` less some thousandths of it and `w` plus some. [`Jitter::FULL`], [`Jitter::EQUAL`] and
    /// [`Jitter::PROPORTIONAL`] are bands.
    Band {
        /// Thousandths of `w` below it, at most 1,000.
        down: u16,
        /// Thousandths of `w` above it.
        up: u16,
    },
    /// Between `initial_backoff` and three times the previous wait; the first wait is drawn up to three times
    /// `initial_backoff`. The factor is not used.
    Decorrelated,
}

impl Jitter {
    /// Between 0 and `w`. Spreads a fleet best, but a wait can be close to zero.
    pub const FULL: Jitter = Jitter::Band { down: 1_000, up: 0 };
    /// Between `w`/2 and `w`.
    pub const EQUAL: Jitter = Jitter::Band { down: 500, up: 0 };
    /// Between ¾ `w` and 1¼ `w`.
    pub const PROPORTIONAL: Jitter = Jitter::Band { down: 250, up: 250 };
}

/// The back-off after throttles without a hint, where it differs from that of other failures (rule B1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule B1 names three numbers, and users write them as a literal")]
pub struct ThrottleBackoff {
    /// The wait before the first retry.
    pub initial_backoff: Duration,
    /// The factor by which each wait is longer than the one before: numerator and denominator of a ratio of at least 1.
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
