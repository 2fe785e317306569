//! The wait before a retry: exponential back-off and its jitter.

use crate::action::RangeForm;
use crate::policy::{Growth, Jitter, Policy};
use crate::seed::{Purpose, draw};

/// The back-off of one retry: the range that it is drawn from, and the draw.
#[derive(Clone, Copy)]
pub(crate) struct Backoff {
    /// Nanoseconds, as all here: the wait without its jitter.
    base: u64,
    pub(crate) low: u64,
    pub(crate) high: u64,
    /// The wait.
    pub(crate) wait: u64,
}

/// Number of waits that a decorrelated wait looks back, so that its cost has a bound. After so many retries the waits
/// have reached any cap below years.
const MEMORY: u16 = 64;

impl Backoff {
    /// Returns the back-off before retry `n` of its kind, counted from 1; `purpose` tells the draws of the kinds apart (B5).
    pub(crate) fn before_retry(n: u16, growth: &Growth, policy: &Policy, purpose: Purpose, seed: u64) -> Backoff {
        let first = match policy.jitter {
            Jitter::Decorrelated => n.saturating_sub(MEMORY).max(1),
            _ => n,
        };
        let mut previous = growth.initial;
        let mut number = first;
        loop {
            let base = growth.wait(number);
            let (low, high) = range(base, previous, growth, policy);
            let wait = draw(seed, purpose, u32::from(number), low..=high);
            if number >= n {
                return Backoff { base, low, high, wait };
            }
            previous = wait;
            number += 1;
        }
    }

    /// Returns how its range reads.
    pub(crate) const fn form(&self) -> RangeForm {
        let is_centered = self.high.abs_diff(self.base) == self.base.abs_diff(self.low);
        if is_centered { RangeForm::Centered } else { RangeForm::Uneven }
    }
}

impl Growth {
    /// Returns min(cap, base × factor^(n−1)), worked out step by step, each step rounded down, up to the cap (B1).
    fn wait(&self, n: u16) -> u64 {
        let mut wait = self.initial.min(self.max);
        for _ in 1..n {
            let longer = scale(wait, self.factor.0, self.factor.1).min(self.max);
            // A wait that a step leaves as it is stays so: at the cap, at zero, with factor 1.
            if longer == wait {
                break;
            }
            wait = longer;
        }
        wait
    }
}

/// Returns `nanos × numerator / denominator`, rounded down, saturating. `denominator` is not zero.
#[cfg_attr(target_pointer_width = "32", inline(never))]
fn scale(nanos: u64, numerator: u32, denominator: u32) -> u64 {
    let (numerator, denominator) = (u64::from(numerator), u64::from(denominator));
    let (whole, rest) = (nanos / denominator, nanos % denominator);
    // The second product is below 2^64: both of its factors are below 2^32.
    whole.saturating_mul(numerator).saturating_add(rest * numerator / denominator)
}

/// Returns the ends of the range that the wait is drawn from (B2, F2): never empty, never above the cap. Where the wait is the
/// cap, the range reaches down from there as far as the jitter is wide, so that waits at the cap keep their jitter.
fn range(wait: u64, previous: u64, growth: &Growth, policy: &Policy) -> (u64, u64) {
    let cap = growth.max;
    let thousandths = |part: u16| scale(wait, u32::from(part), 1_000);
    let (down, up) = match policy.jitter {
        Jitter::None => (0, 0),
        Jitter::Spread => (policy.jitter_spread, policy.jitter_spread),
        Jitter::Above => (0, policy.jitter_spread),
        Jitter::Band { down, up } => (thousandths(down), thousandths(up)),
        Jitter::Decorrelated => {
            let low = growth.initial.min(cap);
            return (low, previous.saturating_mul(3).clamp(low, cap));
        }
    };
    if wait >= cap {
        (cap.saturating_sub(down.max(up)), cap)
    } else {
        (wait.saturating_sub(down), wait.saturating_add(up).min(cap))
    }
}
