//! The wait before a retry: exponential back-off and its jitter.

use core::fmt;
use core::ops::RangeInclusive;

use crate::policy::{Jitter, Policy};
use crate::seed::{Purpose, draw};
use crate::time::Seconds;

/// The back-off of one retry: the range that the wait is drawn from, and the wait. All times are in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Backoff {
    /// The wait without its jitter.
    base: u64,
    low: u64,
    high: u64,
    /// The wait with its jitter.
    pub(crate) wait: u64,
}

/// The number of earlier retries from which a decorrelated wait is computed: it bounds the cost of a wait. After so
/// many retries the waits have reached any `max_backoff` below several years.
const REMEMBERED_RETRIES: u32 = 64;

impl Backoff {
    /// Draws the back-off before retry `n`, which counts from 1.
    pub(crate) fn before_retry(n: u32, policy: &Policy, seed: u64) -> Backoff {
        let first = match policy.jitter {
            Jitter::Decorrelated => n.saturating_sub(REMEMBERED_RETRIES).max(1),
            _ => n,
        };
        let mut previous = policy.initial_backoff;
        let mut backoff = Backoff { base: 0, low: 0, high: 0, wait: 0 };
        for n in first..=n {
            let base = exponential(n, policy);
            let range = jitter_range(base, previous, policy);
            let (low, high) = (*range.start(), *range.end());
            let wait = draw(seed, Purpose::Retry, n, range);
            backoff = Backoff { base, low, high, wait };
            previous = wait;
        }
        backoff
    }
}

/// B1: min(`max_backoff`, `initial_backoff` × `backoff_factor`^(n−1)), saturating.
fn exponential(n: u32, policy: &Policy) -> u64 {
    let growth = u64::from(policy.backoff_factor).saturating_pow(n.saturating_sub(1));
    policy.initial_backoff.saturating_mul(growth).min(policy.max_backoff)
}

/// B2, F2: returns the range that a wait is drawn from. It is never empty, and never beyond `max_backoff`.
fn jitter_range(w: u64, previous: u64, policy: &Policy) -> RangeInclusive<u64> {
    let around = |spread: u64| w.saturating_sub(spread)..=w.saturating_add(spread).min(policy.max_backoff);
    match policy.jitter {
        Jitter::None => w..=w,
        Jitter::Spread => around(policy.jitter_spread),
        Jitter::Full => 0..=w,
        Jitter::Equal => w - w / 2..=w,
        Jitter::Proportional => around(w / 4),
        Jitter::Decorrelated => {
            let low = policy.initial_backoff.min(policy.max_backoff);
            low..=previous.saturating_mul(3).clamp(low, policy.max_backoff)
        }
    }
}

/// "back-off 4 s ± 0.5 s".
impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backoff { base, low, high, .. } = *self;
        if low == high {
            write!(f, "back-off {}", Seconds(low))
        } else if high.abs_diff(base) == base.abs_diff(low) {
            write!(f, "back-off {} ± {}", Seconds(base), Seconds(high.abs_diff(base)))
        } else {
            write!(f, "back-off between {} and {}", Seconds(low), Seconds(high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tenths: u64) -> u64 {
        tenths * 100_000_000
    }

    #[test]
    fn b1_the_guides_base_waits_are_1_2_4_8_16() {
        let policy = Policy::flextell();
        for (n, wait) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160)] {
            assert_eq!(exponential(n, &policy), seconds(wait), "retry {n}");
        }
    }

    #[test]
    fn b2_the_guides_table_of_intervals() {
        let policy = Policy::flextell();
        for (n, low, high) in [(1, 5, 15), (2, 15, 25), (3, 35, 45), (4, 75, 85), (5, 155, 165)] {
            let Backoff { low: lowest, high: highest, .. } = Backoff::before_retry(n, &policy, 0);
            assert_eq!((lowest, highest), (seconds(low), seconds(high)), "retry {n}");
        }
    }

    #[test]
    fn b1_no_retry_number_overflows() {
        for factor in [1, 2, 3, u32::MAX] {
            let policy = Policy { backoff_factor: factor, ..Policy::flextell() };
            for n in [57, 64, 65, 70, 4_294_967_294, u32::MAX] {
                let expected = if factor == 1 { policy.initial_backoff } else { policy.max_backoff };
                assert_eq!(exponential(n, &policy), expected, "factor {factor}, retry {n}");
            }
        }
    }
}
