//! Seeds, and the pseudo-random numbers drawn from them.

use core::ops::RangeInclusive;

/// Derives the seed of request number `n` from the seed of a client (rule T5).
///
/// Two requests must not share a jitter sequence, or they come back together. Draw one seed from the system's entropy
/// when the client starts, and count its requests. Neighboring seeds and counters give unrelated results: the function
/// is the finalizer of `SplitMix64` (Steele, Lea and Flood, 2014). All values are valid; `n` may wrap around.
///
/// ```
/// use retry_machine::{Idempotency, RetryMachine, derive_seed};
///
/// let client_seed = 0x5eed; // from the system's entropy
/// let machines: Vec<_> =
///     (0..3).map(|n| RetryMachine::new(Idempotency::Idempotent, derive_seed(client_seed, n))).collect();
/// assert_ne!(derive_seed(client_seed, 0), derive_seed(client_seed, 1));
/// assert_ne!(derive_seed(client_seed, 0), derive_seed(client_seed + 1, 0));
/// ```
#[must_use]
pub const fn derive_seed(seed: u64, n: u64) -> u64 {
    let z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The purpose of a draw. Draws for different purposes are independent.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The wait before a retry. The number is that of the retry.
    Retry = 0,
    /// The wait of the head at the gate for its opening. The number is that of the last attempt.
    GateWait = 1,
    /// The time for which the breaker stays open. The number counts its openings.
    BreakerOpenTime = 2,
    /// The wait before a retry after a throttle, where these are counted apart (B5). The number is that of the retry.
    ThrottledRetry = 4,
}

/// Draws a number from `range`, uniformly. The result depends only on the arguments and not on earlier draws, so that
/// an additional wait does not shift the others (T1).
pub(crate) fn draw(seed: u64, purpose: Purpose, number: u32, range: RangeInclusive<u64>) -> u64 {
    let key = derive_seed(derive_seed(seed, purpose as u64), u64::from(number));
    fastrand::Rng::with_seed(key).u64(range)
}
