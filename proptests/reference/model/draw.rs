//! The draws (T1, T5). The model draws only what others see and the request's own line does not show: the brake (C11).

use super::span::{Ns, Span};

/// T1: the purposes of a draw.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Retry = 0,
    /// B5: where throttles are counted apart.
    ThrottledRetry = 4,
}

/// T5: `SplitMix64`.
pub fn derive_seed(seed: u64, n: u64) -> u64 {
    let z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// T1: draws from `range`, evenly. `seed` is that of the request.
pub fn draw(seed: u64, purpose: Purpose, number: u64, range: Span) -> Ns {
    let mut state = derive_seed(derive_seed(seed, purpose as u64), number);
    let options = u128::try_from(range.hi - range.lo).expect("a range that is not empty") + 1;
    if options > u128::from(u64::MAX) {
        return Ns::from(next(&mut state)); // all of the 64 bits
    }
    // Lemire's method: the numbers that would make some options more likely than others are drawn again.
    let rejected = (1 << 64) % options;
    loop {
        let product = u128::from(next(&mut state)) * options;
        if product % (1 << 64) >= rejected {
            return range.lo + Ns::try_from(product >> 64).expect("64 bits");
        }
    }
}

/// Returns the next number of `WyRand`.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x2d35_8dcc_aa6c_78a5);
    let product = u128::from(*state) * u128::from(*state ^ 0x8bb8_4b93_962e_acc9);
    (product ^ product >> 64) as u64
}
