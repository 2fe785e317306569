//! What a response said that could not be used, and why: a set in one word, so that it travels without allocating.

use core::fmt;

/// A header field that is read. Its number is its place in [`RejectedFields`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the field of its name, see `Field::name`")]
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

    /// The field's name in lower case.
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

    /// Returns the field with this name, in any case (rule H1), if it is one that every service uses.
    pub(crate) fn named(name: &[u8]) -> Option<HeaderField> {
        match HeaderField::ALL.into_iter().find(|field| field.name().as_bytes().eq_ignore_ascii_case(name)) {
            // A dialect's, without a name of their own.
            Some(HeaderField::Verdict | HeaderField::Pushback) => None,
            Some(field) => Some(field),
            // H5: the other spelling of the same family.
            None if name.eq_ignore_ascii_case(b"x-rate-limit-limit") => Some(HeaderField::XRateLimitLimit),
            None if name.eq_ignore_ascii_case(b"x-rate-limit-remaining") => Some(HeaderField::XRateLimitRemaining),
            None if name.eq_ignore_ascii_case(b"x-rate-limit-reset") => Some(HeaderField::XRateLimitReset),
            None if name.eq_ignore_ascii_case(b"x-rate-limit-reset-after") => Some(HeaderField::XRateLimitResetAfter),
            None => None,
        }
    }
}

/// Why a field, a part of it, or one of several fields of a name was not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RejectReason {
    /// Not of the field's grammar.
    Malformed,
    /// A date, and neither a `Date` in the response nor a wall clock to judge it by (rule H4).
    NoClock,
    /// Another field of the same name said something else and was preferred (rules H6, F9).
    Duplicate,
    /// A structured field with a syntax error, which voids all its lines (rule H5).
    Void,
}

impl RejectReason {
    const ALL: [RejectReason; 4] =
        [RejectReason::Malformed, RejectReason::NoClock, RejectReason::Duplicate, RejectReason::Void];

    /// The reason as one word, as the trace format has it.
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

/// A set of fields that were rejected, with the reasons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RejectedFields(u64);

impl RejectedFields {
    pub(crate) const NONE: RejectedFields = RejectedFields(0);

    /// Whether everything that was found could be used.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in the set, in the order of the fields' precedence.
    pub fn iter(self) -> impl Iterator<Item = (HeaderField, RejectReason)> {
        HeaderField::ALL
            .into_iter()
            .flat_map(|field| RejectReason::ALL.into_iter().map(move |why| (field, why)))
            .filter(move |&(field, why)| self.0 & bit(field, why) != 0)
    }

    pub(crate) fn add(&mut self, field: HeaderField, why: RejectReason) {
        self.0 |= bit(field, why);
        // H5: where all of it counts for nothing, it does not matter what was wrong with a part.
        if self.0 & bit(field, RejectReason::Void) != 0 {
            self.0 &= !bit(field, RejectReason::Malformed);
        }
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> RejectedFields {
        RejectedFields(bits)
    }
}

const fn bit(field: HeaderField, why: RejectReason) -> u64 {
    1 << (field as u32 * 4 + why as u32)
}

/// "retry-after is malformed, date is malformed".
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
