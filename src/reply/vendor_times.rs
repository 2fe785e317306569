//! Times that single services write: durations and RFC 3339 (rule H11; feature `vendor-times`).

use super::http_date::HttpDate;
use super::number::{Decimal, digits};

/// Reads a duration such as `6m0s`, `1.5s` or `120ms`, in milliseconds, rounded up. Units are d, h, m, s, ms, us, µs
/// and ns, in any order, each with its number; zero may stand without a unit.
pub(super) fn duration_millis(value: &[u8]) -> Option<u64> {
    if value == b"0" {
        return Some(0);
    }
    if value.is_empty() {
        return None;
    }
    let mut rest = value;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?);
        let unit_end = after.iter().position(u8::is_ascii_digit).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos = nanos.saturating_add(Decimal::parse(number)?.scaled(unit_nanos(unit)?));
        rest = after;
    }
    Some(nanos.div_ceil(1_000_000))
}

fn unit_nanos(unit: &[u8]) -> Option<u64> {
    Some(match unit {
        b"d" => 86_400_000_000_000,
        b"h" => 3_600_000_000_000,
        b"m" => 60_000_000_000,
        b"s" => 1_000_000_000,
        b"ms" => 1_000_000,
        // The micro sign and the Greek letter, in UTF-8.
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1_000,
        b"ns" => 1,
        _ => return None,
    })
}

impl Decimal<'_> {
    /// Returns the number times `unit`, rounded up.
    fn scaled(self, unit: u64) -> u64 {
        const BILLION: u64 = 1_000_000_000;
        let billionths = self.billionths();
        // Each product fits: whole seconds in a unit are at most 86,400, and the rest is below 10^9.
        let part = billionths * (unit / BILLION) + (billionths * (unit % BILLION)).div_ceil(BILLION);
        self.whole.saturating_mul(unit).saturating_add(part)
    }
}

/// Reads an RFC 3339 time, in Unix milliseconds, rounded up; the seconds may be missing. Impossible dates are `None`.
pub(super) fn rfc3339_millis(value: &[u8]) -> Option<i64> {
    let mut text = Text(value);
    let year = text.number(4)?;
    text.skip(b"-")?;
    let month = text.number(2)?;
    text.skip(b"-")?;
    let day = text.number(2)?;
    text.one_of(b"Tt ")?;
    let hour = text.number(2)?;
    text.skip(b":")?;
    let minute = text.number(2)?;
    let (second, millis) = match text.skip(b":") {
        Some(()) => (text.number(2)?, text.optional_fraction_millis()?),
        None => (0, 0),
    };
    let offset = text.offset()?;
    let is_time = hour <= 23 && minute <= 59 && second <= 60;
    if !is_time || !text.0.is_empty() {
        return None;
    }
    let second_of_day = (u32::from(hour) * 60 + u32::from(minute)) * 60 + u32::from(second);
    let date = HttpDate::new(year, u8::try_from(month).ok()?, u8::try_from(day).ok()?, second_of_day)?;
    Some((date.unix_seconds(0)? - offset) * 1_000 + millis)
}

/// The rest of the text.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn number(&mut self, length: usize) -> Option<u16> {
        let (number, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        u16::try_from(digits(number)?).ok()
    }

    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !bytes.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    /// Reads the point and the digits behind it, if it comes next, rounded up to milliseconds.
    fn optional_fraction_millis(&mut self) -> Option<i64> {
        if self.skip(b".").is_none() {
            return Some(0);
        }
        let end = self.0.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let (fraction, rest) = self.0.split_at(end);
        self.0 = rest;
        digits(fraction)?;
        i64::try_from(Decimal::of_fraction(fraction).thousandfold()).ok()
    }

    /// Reads `Z`, or an offset from UTC, in seconds.
    fn offset(&mut self) -> Option<i64> {
        match self.one_of(b"Zz+-")? {
            b'Z' | b'z' => Some(0),
            sign => {
                let hours = self.number(2)?;
                self.skip(b":")?;
                let minutes = self.number(2)?;
                let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60;
                (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -seconds } else { seconds })
            }
        }
    }
}
