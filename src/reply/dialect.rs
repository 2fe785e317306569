//! A service's own field names, as data (rule H11).

/// One field name of a service, and its one meaning (rule H11).
///
/// A policy has a `'static` table of these, so that it stays small, `Copy`-like data without lifetimes. The names that
/// every service uses (`Retry-After`, `X-RateLimit-*` and the other names of rules H2–H7) need no table; where the
/// table has such a name, the table decides.
///
/// ```
/// use retry_machine::{DialectField, FieldMeaning, Policy, TimeUnit};
///
/// const FIELDS: &[DialectField] = &[
///     DialectField::new("x-should-retry", FieldMeaning::Verdict),
///     DialectField::new("x-amz-retry-after", FieldMeaning::Wait(TimeUnit::Milliseconds)),
/// ];
/// let policy = Policy::common().into_builder().dialect(FIELDS).build()?;
/// let reply = policy.read(500, [("x-amz-retry-after", "1500")]);
/// assert_eq!(reply.hint().unwrap().wait().as_millis(), 1_500);
/// # Ok::<(), retry_machine::PolicyError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "a name and its meaning: users write tables of it")]
pub struct DialectField {
    /// The field's name, in any case.
    pub name: &'static str,
    /// The field's meaning.
    pub meaning: FieldMeaning,
}

impl DialectField {
    /// Makes an entry of a table.
    #[must_use]
    pub const fn new(name: &'static str, meaning: FieldMeaning) -> DialectField {
        DialectField { name, meaning }
    }
}

/// The meaning of a field in a [dialect](DialectField) (rule H11).
///
/// All rate-limit facts of a dialect go into the family of `X-RateLimit-*`: a table lists the names of one bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FieldMeaning {
    /// A time to wait. In milliseconds it ranks with `retry-after-ms`, in any other unit with `Retry-After`.
    Wait(TimeUnit),
    /// An order to come back exactly then, without jitter and back-off: zero is at once. A malformed, negative or
    /// repeated one means stop. It goes before every hint, and counts only on a reply that would be retried.
    Pushback(TimeUnit),
    /// When the rate limit is reset: ranks with `X-RateLimit-Reset`.
    Reset(TimeUnit),
    /// Number of calls left.
    Remaining,
    /// Number of calls that the limit allows.
    Limit,
    /// Calls used of those allowed: `32/40`, also after a name (`api-usage=18/5000`). At or beyond the limit nothing
    /// remains.
    UsedOfLimit,
    /// `true`: the reply is transient; `false`: it is final (rule D15). In any case; any other value is malformed.
    Verdict,
}

/// The unit of a time in a field. Numbers may have decimals, which are rounded up to whole milliseconds (rule H2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum TimeUnit {
    /// Seconds after the receipt of the response.
    Seconds,
    /// Milliseconds after the receipt of the response.
    Milliseconds,
    /// A Unix time in seconds.
    Unix,
    /// A Unix time in milliseconds.
    UnixMilliseconds,
    /// A span written with units, such as `6m0s` or `1.5s`. Feature `vendor-times`.
    #[cfg(feature = "vendor-times")]
    #[cfg_attr(docsrs, doc(cfg(feature = "vendor-times")))]
    Duration,
    /// An RFC 3339 time; its seconds may be missing. Feature `vendor-times`.
    #[cfg(feature = "vendor-times")]
    #[cfg_attr(docsrs, doc(cfg(feature = "vendor-times")))]
    Rfc3339,
}

/// Why a table cannot be a dialect: the place of the first bad entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DialectError {
    EmptyName { entry: usize },
    NotAName { entry: usize },
    Duplicate { entry: usize },
}

/// Looks the name up (H1: in any case). Costs one comparison where the table is empty.
pub(crate) fn lookup(fields: &'static [DialectField], name: &[u8]) -> Option<FieldMeaning> {
    fields.iter().find(|field| field.name.as_bytes().eq_ignore_ascii_case(name)).map(|field| field.meaning)
}

/// Checks a table, at compile time where it is built in a constant.
#[allow(clippy::indexing_slicing, reason = "both indices are below the length")]
pub(crate) const fn check(fields: &'static [DialectField]) -> Result<(), DialectError> {
    let mut entry = 0;
    while entry < fields.len() {
        let name = fields[entry].name.as_bytes();
        if name.is_empty() {
            return Err(DialectError::EmptyName { entry });
        }
        if !is_token(name) {
            return Err(DialectError::NotAName { entry });
        }
        let mut earlier = 0;
        while earlier < entry {
            if equal_names(fields[earlier].name.as_bytes(), name) {
                return Err(DialectError::Duplicate { entry });
            }
            earlier += 1;
        }
        entry += 1;
    }
    Ok(())
}

/// Returns whether two names are the same in any case; the method of slices is not `const` in the oldest compiler.
const fn equal_names(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        if !first.eq_ignore_ascii_case(second) {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

/// Returns whether this is a token of RFC 9110 §5.6.2, as every field name is.
const fn is_token(name: &[u8]) -> bool {
    let mut rest = name;
    while let [byte, others @ ..] = rest {
        if !byte.is_ascii_alphanumeric()
            && !matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            return false;
        }
        rest = others;
    }
    true
}
