//! Finds the field of a name, in any case (H1). Every header of every response comes here, so it is quick.

use super::rejected::HeaderField::{self, Date, RateLimit, RateLimitLimit, RateLimitPolicy, RateLimitRemaining};
use super::rejected::HeaderField::{RateLimitReset, RetryAfter, RetryAfterMs, WwwAuthenticate, XMsRetryAfterMs};
use super::rejected::HeaderField::{XRateLimitLimit, XRateLimitRemaining, XRateLimitReset, XRateLimitResetAfter};

/// The names that every service uses, of each length.
const fn names_of_length(length: usize) -> &'static [(&'static [u8], HeaderField)] {
    match length {
        4 => &[(b"date", Date)],
        9 => &[(b"ratelimit", RateLimit)],
        11 => &[(b"retry-after", RetryAfter)],
        14 => &[(b"retry-after-ms", RetryAfterMs)],
        15 => &[(b"ratelimit-limit", RateLimitLimit), (b"ratelimit-reset", RateLimitReset)],
        16 => &[(b"ratelimit-policy", RateLimitPolicy), (b"www-authenticate", WwwAuthenticate)],
        17 => &[(b"x-ratelimit-limit", XRateLimitLimit), (b"x-ratelimit-reset", XRateLimitReset)],
        // H5: with one hyphen more, the other spelling of the same family.
        18 => &[(b"x-rate-limit-limit", XRateLimitLimit), (b"x-rate-limit-reset", XRateLimitReset)],
        19 => &[(b"ratelimit-remaining", RateLimitRemaining), (b"x-ms-retry-after-ms", XMsRetryAfterMs)],
        21 => &[(b"x-ratelimit-remaining", XRateLimitRemaining)],
        22 => &[(b"x-rate-limit-remaining", XRateLimitRemaining)],
        23 => &[(b"x-ratelimit-reset-after", XRateLimitResetAfter)],
        24 => &[(b"x-rate-limit-reset-after", XRateLimitResetAfter)],
        _ => &[],
    }
}

/// The lengths and the first letters of these names, one bit each. Few other names have both.
const LENGTHS: u32 = {
    let (mut lengths, mut length) = (0, 0);
    while length < 32 {
        if !names_of_length(length).is_empty() {
            lengths |= 1 << length;
        }
        length += 1;
    }
    lengths
};
const FIRST_LETTERS: u32 = letter(b'd') | letter(b'r') | letter(b'w') | letter(b'x');

/// Returns the bit of a letter, in any case.
const fn letter(byte: u8) -> u32 {
    1 << (byte & 31)
}

/// Returns whether this can be a name that every service uses.
#[inline]
pub(super) const fn may_be_known(name: &[u8]) -> bool {
    match name {
        [first, ..] => name.len() < 32 && LENGTHS >> name.len() & 1 == 1 && FIRST_LETTERS & letter(*first) != 0,
        [] => false,
    }
}

/// Returns the field with this name in any case, if every service uses it.
pub(super) fn field_named(name: &[u8]) -> Option<HeaderField> {
    names_of_length(name.len()).iter().find(|(known, _)| are_same(name, known)).map(|(_, field)| *field)
}

/// Compares a name with one of the same length, 4 or 8 to 24 lower-case letters and hyphens, in any case.
fn are_same(name: &[u8], known: &[u8]) -> bool {
    // Of letters and hyphens only letters have bit 6, and bit 5 is the case of a letter.
    let match_words = |name: u64, known: u64| (name ^ known) & !((known & BIT_6) >> 1) == 0;
    match known.len().checked_sub(8) {
        // Eight bytes at a time, some of them twice.
        Some(last) => [0, last / 2, last].into_iter().all(|from| match_words(word(name, from), word(known, from))),
        None => match_words(half_word(name), half_word(known)),
    }
}

const BIT_6: u64 = u64::from_ne_bytes([1 << 6; 8]);

fn word(name: &[u8], from: usize) -> u64 {
    name.get(from..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn half_word(name: &[u8]) -> u64 {
    name.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes).into())
}
