//! The header fields that could not be used, with the reasons: a set in one word, so that it needs no allocation.

use core::fmt;

/// A set of rejected fields with the reasons.
///
/// Its `Display` form is a list such as "retry-after is malformed, date is malformed".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RejectedFields(u64);

impl RejectedFields {
    pub(crate) const NONE: RejectedFields = RejectedFields(0);

    /// Returns whether every field could be used.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the fields and reasons in the set, in the order of the fields' precedence.
    pub fn iter(self) -> impl Iterator<Item = (HeaderField, RejectReason)> {
        HeaderField::ALL
            .into_iter()
            .flat_map(|field| RejectReason::ALL.into_iter().map(move |why| (field, why)))
            .filter(move |&(field, why)| self.contains(field, why))
    }

    pub(crate) fn add(&mut self, field: HeaderField, why: RejectReason) {
        self.0 |= bit(field, why);
        // H5: a void field has no parts that could be malformed.
        if self.0 & bit(field, RejectReason::Void) != 0 {
            self.0 &= !bit(field, RejectReason::Malformed);
        }
    }

    /// Returns whether the set has this pair.
    pub(super) const fn contains(self, field: HeaderField, why: RejectReason) -> bool {
        self.0 & bit(field, why) != 0
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> RejectedFields {
        RejectedFields(bits)
    }
}

/// Returns the place of a pair in the set: four bits for each field, one for each reason.
const fn bit(field: HeaderField, why: RejectReason) -> u64 {
    1 << (field as u32 * 4 + why as u32)
}

impl fmt::Display for RejectedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (field, why)) in self.iter().enumerate() {
            let separator = if n == 0 { "" } else { ", " };
            let why = match why {
                RejectReason::Malformed => "malformed",
                RejectReason::NoClock => "a date without a clock to judge it by",
                RejectReason::Duplicate => "given twice",
                RejectReason::Void => "void for a syntax error",
            };
            write!(f, "{separator}{} is {why}", field.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for RejectedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A header field that is read (rule H1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the field of its name, see `HeaderField::name`")]
pub enum HeaderField {
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
    XRateLimitResetAfter,
    Verdict,
    Pushback,
}

impl HeaderField {
    const ALL: [HeaderField; 16] = [
        HeaderField::RetryAfterMs,
        HeaderField::XMsRetryAfterMs,
        HeaderField::RetryAfter,
        HeaderField::XRateLimitLimit,
        HeaderField::XRateLimitRemaining,
        HeaderField::XRateLimitReset,
        HeaderField::RateLimitLimit,
        HeaderField::RateLimitRemaining,
        HeaderField::RateLimitReset,
        HeaderField::RateLimit,
        HeaderField::RateLimitPolicy,
        HeaderField::WwwAuthenticate,
        HeaderField::Date,
        HeaderField::XRateLimitResetAfter,
        HeaderField::Verdict,
        HeaderField::Pushback,
    ];

    /// Returns the field's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HeaderField::RetryAfterMs => "retry-after-ms",
            HeaderField::XMsRetryAfterMs => "x-ms-retry-after-ms",
            HeaderField::RetryAfter => "retry-after",
            HeaderField::XRateLimitLimit => "x-ratelimit-limit",
            HeaderField::XRateLimitRemaining => "x-ratelimit-remaining",
            HeaderField::XRateLimitReset => "x-ratelimit-reset",
            HeaderField::RateLimitLimit => "ratelimit-limit",
            HeaderField::RateLimitRemaining => "ratelimit-remaining",
            HeaderField::RateLimitReset => "ratelimit-reset",
            HeaderField::RateLimit => "ratelimit",
            HeaderField::RateLimitPolicy => "ratelimit-policy",
            HeaderField::WwwAuthenticate => "www-authenticate",
            HeaderField::Date => "date",
            HeaderField::XRateLimitResetAfter => "x-ratelimit-reset-after",
            HeaderField::Verdict => "verdict",
            HeaderField::Pushback => "pushback",
        }
    }
}

/// The reason why a field, a part of it, or one of several fields of a name was not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RejectReason {
    /// The value breaks the field's grammar.
    Malformed,
    /// The value is a date, and there is neither a `Date` in the response nor a wall clock to compare it with (rule H4).
    NoClock,
    /// Another field of the same name had a different value and was preferred (rules H6, F9).
    Duplicate,
    /// A syntax error in a structured field voids all its lines (rule H5).
    Void,
}

impl RejectReason {
    const ALL: [RejectReason; 4] =
        [RejectReason::Malformed, RejectReason::NoClock, RejectReason::Duplicate, RejectReason::Void];

    /// Returns the reason as one word, which the trace format uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RejectReason::Malformed => "malformed",
            RejectReason::NoClock => "no_clock",
            RejectReason::Duplicate => "duplicate",
            RejectReason::Void => "void",
        }
    }
}
