//! Chance: seeds, and the numbers drawn from them.

use core::ops::RangeInclusive;

/// Derives the seed of request number `n` from one seed (rule T5).
///
/// Two requests must not share a jitter sequence, or they come back together. A client that has one good seed, drawn
/// once from its system's entropy, gives each request `derive(seed, n)` with a counter `n`. Neighbouring seeds and
/// counters give unrelated results (the finaliser of `SplitMix64`: Steele, Lea and Flood, 2014).
///
/// ```
/// use retry_machine::derive_seed;
///
/// assert_ne!(derive_seed(7, 0), derive_seed(7, 1));
/// assert_ne!(derive_seed(7, 0), derive_seed(8, 0));
/// ```
#[must_use]
pub const fn derive_seed(seed: u64, n: u64) -> u64 {
    let z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a number is drawn for. Draws for different purposes are independent.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The wait before a retry; the number is that of the retry.
    Retry = 0,
    /// A wait at the gate before a send; the number counts them.
    Gate = 1,
    /// How long the breaker stays open; the number counts its openings.
    Breaker = 2,
    /// How much longer a gate stays closed that was closed before; the number is that of the attempt.
    Opening = 3,
    /// The wait before a retry after a throttle, where these are counted apart; the number is that of the retry.
    ThrottledRetry = 4,
}

/// Draws evenly from `range`. The result depends on the arguments alone, not on how many draws went before, so that
/// one wait more or less shifts nothing else (rule T1).
pub(crate) fn draw(seed: u64, purpose: Purpose, number: u32, range: RangeInclusive<u64>) -> u64 {
    let key = derive_seed(derive_seed(seed, purpose as u64), u64::from(number));
    fastrand::Rng::with_seed(key).u64(range)
}
