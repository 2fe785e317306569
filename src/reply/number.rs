//! Numbers in header fields (rule H2): digits, decimals, counts.

/// Reads `1*DIGIT`. Anything else is `None`, the empty string too; too many digits saturate.
#[cfg(feature = "vendor-times")]
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    leading_digits(value).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// Reads the digits at the start, at least one, and returns what stands behind them, too. Too many digits saturate.
fn leading_digits(value: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    let mut rest = value;
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        number = number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        rest = after;
    }
    (rest.len() < value.len()).then_some((number, rest))
}

/// A number of a field: its whole part, and the digits behind the point.
#[derive(Clone, Copy)]
pub(super) struct Decimal<'a> {
    pub(super) whole: u64,
    /// Digits only.
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Reads `1*DIGIT` or `1*DIGIT "." 1*DIGIT`.
    pub(super) fn parse(value: &'a [u8]) -> Option<Decimal<'a>> {
        let (whole, rest) = leading_digits(value)?;
        let fraction = match rest {
            [b'.', fraction @ ..] if leading_digits(fraction).is_some_and(|(_, rest)| rest.is_empty()) => fraction,
            [] => rest,
            _ => return None,
        };
        Some(Decimal { whole, fraction })
    }

    /// Returns the number times 1,000, rounded up: seconds in milliseconds.
    pub(super) fn thousandfold(self) -> u64 {
        self.whole.saturating_mul(1_000).saturating_add(self.part(3))
    }

    /// Returns the part behind the point in billionths, rounded up: at most 10^9.
    #[cfg(feature = "vendor-times")]
    pub(super) fn billionths(self) -> u64 {
        self.part(9)
    }

    /// Returns the part behind the point times 10^`places`, rounded up.
    fn part(self, places: usize) -> u64 {
        if self.fraction.is_empty() {
            return 0;
        }
        let near = self.fraction.iter().copied().chain(core::iter::repeat(b'0')).take(places);
        let near = near.fold(0, |number, digit| 10 * number + u64::from(digit - b'0'));
        near + u64::from(self.fraction.iter().skip(places).any(|digit| *digit != b'0'))
    }

    /// Makes a number below 1 of its digits behind the point, all of which are digits.
    #[cfg(feature = "vendor-times")]
    pub(super) const fn of_fraction(fraction: &'a [u8]) -> Decimal<'a> {
        Decimal { whole: 0, fraction }
    }

    /// Returns the number rounded up.
    pub(super) fn ceil(self) -> u64 {
        self.whole.saturating_add(u64::from(self.fraction.iter().any(|digit| *digit != b'0')))
    }
}

/// Reads a number of calls: a fraction of a call is not a call. A window may stand behind it (`100;w=21600`, H5).
pub(super) fn count(value: &[u8]) -> Option<u64> {
    let number = value.split(|byte| *byte == b';').next()?;
    Decimal::parse(trim(number)).map(|decimal| decimal.whole)
}

/// Reads calls used and allowed: `32/40` or `api-usage=18/5000` (H11).
pub(super) fn used_of_limit(value: &[u8]) -> Option<(u64, u64)> {
    let slash = value.iter().position(|byte| *byte == b'/')?;
    let (used, limit) = (value.get(..slash)?, value.get(slash + 1..)?);
    // A window behind the count has an equals sign, too.
    let used = match used.iter().position(|byte| matches!(byte, b'=' | b';')) {
        Some(end) if used.get(end) == Some(&b'=') => used.get(end + 1..)?,
        _ => used,
    };
    Some((count(trim(used))?, count(trim(limit))?))
}

/// Removes the optional white space around a value (RFC 9110 §5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
