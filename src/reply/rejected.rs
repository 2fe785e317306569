//! What a response said that could not be used, and why: a set in one word, so that it travels without allocating.

use core::fmt;

/// A header field that is read. Its number is its place in [`Rejected`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the field of its name, see `Field::name`")]
pub enum Field {
    RetryAfterMs,
    XMsRetryAfterMs,
    RetryAfter,
    XRateLimitLimit,
    XRateLimitRemaining,
    XRateLimitReset,
    RateLimitLimit,
    RateLimitRemaining,
    RateLimitReset,
    RateLimit,
    RateLimitPolicy,
    WwwAuthenticate,
    Date,
}

impl Field {
    const ALL: [Field; 13] = [
        Field::RetryAfterMs,
        Field::XMsRetryAfterMs,
        Field::RetryAfter,
        Field::XRateLimitLimit,
        Field::XRateLimitRemaining,
        Field::XRateLimitReset,
        Field::RateLimitLimit,
        Field::RateLimitRemaining,
        Field::RateLimitReset,
        Field::RateLimit,
        Field::RateLimitPolicy,
        Field::WwwAuthenticate,
        Field::Date,
    ];

    /// The field's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Field::RetryAfterMs => "retry-after-ms",
            Field::XMsRetryAfterMs => "x-ms-retry-after-ms",
            Field::RetryAfter => "retry-after",
            Field::XRateLimitLimit => "x-ratelimit-limit",
            Field::XRateLimitRemaining => "x-ratelimit-remaining",
            Field::XRateLimitReset => "x-ratelimit-reset",
            Field::RateLimitLimit => "ratelimit-limit",
            Field::RateLimitRemaining => "ratelimit-remaining",
            Field::RateLimitReset => "ratelimit-reset",
            Field::RateLimit => "ratelimit",
            Field::RateLimitPolicy => "ratelimit-policy",
            Field::WwwAuthenticate => "www-authenticate",
            Field::Date => "date",
        }
    }

    /// The field with this name, in any case (rule H1), if it is one that is read.
    pub(crate) fn named(name: &[u8]) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// Why a field, a part of it, or one of several fields of a name was not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Why {
    /// Not of the field's grammar.
    Malformed,
    /// A date, and neither a `Date` in the response nor a wall clock to judge it by (rule H4).
    NoClock,
    /// Another field of the same name said something else and was preferred (rules H6, F9).
    Duplicate,
    /// A structured field with a syntax error, which voids all its lines (rule H5).
    Void,
}

impl Why {
    const ALL: [Why; 4] = [Why::Malformed, Why::NoClock, Why::Duplicate, Why::Void];

    /// The reason as one word, as the trace format has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Why::Malformed => "malformed",
            Why::NoClock => "no_clock",
            Why::Duplicate => "duplicate",
            Why::Void => "void",
        }
    }
}

/// A set of fields that were rejected, with the reasons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rejected(u64);

impl Rejected {
    pub(crate) const NONE: Rejected = Rejected(0);

    /// Whether everything that was found could be used.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in the set, in the order of the fields' precedence.
    pub fn iter(self) -> impl Iterator<Item = (Field, Why)> {
        Field::ALL
            .into_iter()
            .flat_map(|field| Why::ALL.into_iter().map(move |why| (field, why)))
            .filter(move |&(field, why)| self.0 & bit(field, why) != 0)
    }

    pub(crate) fn add(&mut self, field: Field, why: Why) {
        self.0 |= bit(field, why);
        // H5: where all of it counts for nothing, it does not matter what was wrong with a part.
        if self.0 & bit(field, Why::Void) != 0 {
            self.0 &= !bit(field, Why::Malformed);
        }
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Rejected {
        Rejected(bits)
    }
}

const fn bit(field: Field, why: Why) -> u64 {
    1 << (field as u32 * 4 + why as u32)
}

/// "retry-after is malformed, date is malformed".
impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (field, why)) in self.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            let why = match why {
                Why::Malformed => "malformed",
                Why::NoClock => "a date without a clock to judge it by",
                Why::Duplicate => "given twice",
                Why::Void => "void for a syntax error",
            };
            write!(f, "{separator}{} is {why}", field.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
