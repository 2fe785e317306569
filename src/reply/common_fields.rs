//! The fields that every service uses: their names, in any case (H1), and their meanings. Every header of every response is
//! looked up here, so it is quick.

use super::dialect::FieldMeaning;
use super::dialect::TimeUnit::{self, Milliseconds, Seconds};
use super::facts::Fact;
use super::header_time::TimeFacts;
use super::rejected::HeaderField as Field;

/// The meaning of a field: how its value is read, and which facts it states.
#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// A wait in this unit.
    Wait(Fact, TimeUnit),
    /// A time in this unit.
    Time(TimeFacts, TimeUnit),
    /// Seconds or an HTTP-date.
    RetryAfter,
    /// A number whose meaning the policy knows, or an HTTP-date.
    Reset(TimeFacts),
    /// A number of calls.
    Count(Fact),
    /// Calls used of those allowed.
    UsedOfLimit,
    RateLimit,
    RateLimitPolicy,
    WwwAuthenticate,
    Date,
    Verdict,
    Pushback(TimeUnit),
}

/// A field's name in lower case, the field that it is reported as, and its meaning.
type Known = (&'static [u8], Field, Meaning);

/// Returns the names that have this length.
#[rustfmt::skip]
const fn known_of_length(length: usize) -> &'static [Known] {
    use Meaning::{Count, Date, RateLimit, RateLimitPolicy, Reset, RetryAfter, Wait, WwwAuthenticate};
    match length {
        4 => &[(b"date", Field::Date, Date)],
        9 => &[(b"ratelimit", Field::RateLimit, RateLimit)],
        11 => &[(b"retry-after", Field::RetryAfter, RetryAfter)],
        14 => &[(b"retry-after-ms", Field::RetryAfterMs, Wait(Fact::RetryAfterMs, Milliseconds))],
        15 => &[
            (b"ratelimit-limit", Field::RateLimitLimit, Count(Fact::Limit)),
            (b"ratelimit-reset", Field::RateLimitReset, Reset(TimeFacts::RESET)),
        ],
        16 => &[
            (b"ratelimit-policy", Field::RateLimitPolicy, RateLimitPolicy),
            (b"www-authenticate", Field::WwwAuthenticate, WwwAuthenticate),
        ],
        17 => &[
            (b"x-ratelimit-limit", Field::XRateLimitLimit, Count(Fact::XLimit)),
            (b"x-ratelimit-reset", Field::XRateLimitReset, Reset(TimeFacts::X_RESET)),
        ],
        // H5: with one hyphen more, the other spelling of the same family.
        18 => &[
            (b"x-rate-limit-limit", Field::XRateLimitLimit, Count(Fact::XLimit)),
            (b"x-rate-limit-reset", Field::XRateLimitReset, Reset(TimeFacts::X_RESET)),
        ],
        19 => &[
            (b"ratelimit-remaining", Field::RateLimitRemaining, Count(Fact::Remaining)),
            (b"x-ms-retry-after-ms", Field::XMsRetryAfterMs, Wait(Fact::XMsRetryAfterMs, Milliseconds)),
        ],
        21 => &[(b"x-ratelimit-remaining", Field::XRateLimitRemaining, Count(Fact::XRemaining))],
        22 => &[(b"x-rate-limit-remaining", Field::XRateLimitRemaining, Count(Fact::XRemaining))],
        23 => &[(b"x-ratelimit-reset-after", Field::XRateLimitResetAfter, Wait(Fact::XResetAfter, Seconds))],
        24 => &[(b"x-rate-limit-reset-after", Field::XRateLimitResetAfter, Wait(Fact::XResetAfter, Seconds))],
        _ => &[],
    }
}

/// The lengths and the first letters of these names, one bit each. Few other names have both.
const LENGTHS: u32 = {
    let (mut lengths, mut length) = (0, 0);
    while length < 32 {
        if !known_of_length(length).is_empty() {
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

/// Returns whether this can be one of these names.
#[inline]
pub(super) const fn may_have(name: &[u8]) -> bool {
    match name {
        [first, ..] => name.len() < 32 && LENGTHS >> name.len() & 1 == 1 && FIRST_LETTERS & letter(*first) != 0,
        [] => false,
    }
}

/// Returns the field with this name in any case, and its meaning, if every service uses it.
pub(super) fn lookup(name: &[u8]) -> Option<(Field, Meaning)> {
    known_of_length(name.len())
        .iter()
        .find(|(known, ..)| are_same(name, known))
        .map(|&(_, field, meaning)| (field, meaning))
}

/// Returns the common field that a field of a dialect stands for, and its meaning (H11).
pub(super) const fn of_dialect(meaning: FieldMeaning) -> (Field, Meaning) {
    match meaning {
        FieldMeaning::Wait(unit @ Milliseconds) => (Field::RetryAfterMs, Meaning::Wait(Fact::RetryAfterMs, unit)),
        FieldMeaning::Wait(unit) => (Field::RetryAfter, Meaning::Time(TimeFacts::RETRY_AFTER, unit)),
        FieldMeaning::Reset(unit) => (Field::XRateLimitReset, Meaning::Time(TimeFacts::X_RESET, unit)),
        FieldMeaning::Remaining => (Field::XRateLimitRemaining, Meaning::Count(Fact::XRemaining)),
        FieldMeaning::Limit => (Field::XRateLimitLimit, Meaning::Count(Fact::XLimit)),
        FieldMeaning::UsedOfLimit => (Field::XRateLimitRemaining, Meaning::UsedOfLimit),
        FieldMeaning::Verdict => (Field::Verdict, Meaning::Verdict),
        FieldMeaning::Pushback(unit) => (Field::Pushback, Meaning::Pushback(unit)),
    }
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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::{known_of_length, lookup, may_have};

    #[test]
    fn h1_each_common_name_is_found_in_any_case_and_none_that_differs() {
        let known: Vec<_> = (0..64).flat_map(known_of_length).collect();
        assert_eq!(known.len(), 18);
        for (name, field, _) in known {
            for case in [name.to_vec(), name.to_ascii_uppercase()] {
                assert!(may_have(&case), "{case:?}");
                assert_eq!(lookup(&case).map(|(field, _)| field), Some(*field), "{case:?}");
                for place in 0..case.len() {
                    for bit in 0..8 {
                        let mut other = case.clone();
                        other[place] ^= 1 << bit;
                        let is_same = other.eq_ignore_ascii_case(name);
                        let found = lookup(&other).map(|(field, _)| field);
                        assert_eq!(found == Some(*field), is_same, "{other:?}");
                    }
                }
            }
        }
    }
}
