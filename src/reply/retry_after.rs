//! Numbers and times in header values: `Retry-After`, its variants in milliseconds, and the resets of rate limits.

use super::ResetFormat;
use super::header_time::HeaderTime;
use super::http_date::HttpDate;
use crate::time;

/// Reads `Retry-After`: seconds or an HTTP-date (rules H2, H3).
pub(super) fn retry_after(value: &[u8]) -> Option<HeaderTime> {
    if let Some(seconds) = digits(value) {
        return Some(HeaderTime::After(time::seconds(seconds)));
    }
    date(value)
}

/// Reads `retry-after-ms` or `x-ms-retry-after-ms`: milliseconds (rule H5).
pub(super) fn millis(value: &[u8]) -> Option<HeaderTime> {
    digits(value).map(|millis| HeaderTime::After(time::millis(millis)))
}

/// Reads `X-RateLimit-Reset` or `RateLimit-Reset`: a number, or the HTTP-date that some services send (rule H5).
pub(super) fn reset(value: &[u8], format: ResetFormat) -> Option<HeaderTime> {
    let Some(number) = digits(value) else { return date(value) };
    let at = |millis: u64| HeaderTime::At(i64::try_from(millis).unwrap_or(i64::MAX));
    Some(match format {
        ResetFormat::Unix => at(number.saturating_mul(1_000)),
        ResetFormat::Auto if number >= 1_000_000_000_000 => at(number),
        ResetFormat::Auto if number >= 1_000_000_000 => at(number.saturating_mul(1_000)),
        ResetFormat::Auto | ResetFormat::Delta => HeaderTime::After(time::seconds(number)),
    })
}

fn date(value: &[u8]) -> Option<HeaderTime> {
    let date = HttpDate::parse(value)?;
    if date.has_two_digit_year() {
        return Some(HeaderTime::AtShort(date));
    }
    // A year of four digits ignores the reference year.
    Some(HeaderTime::At(date.unix_seconds(0)?.saturating_mul(1_000)))
}

/// Reads the number of calls that are left or allowed: `1*DIGIT`. Some services send a fraction, which is dropped because
/// it is not a whole call (rule H5).
pub(super) fn count(value: &[u8]) -> Option<u64> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let count = digits(parts.next()?)?;
    parts.next().is_none_or(|fraction| digits(fraction).is_some()).then_some(count)
}

/// Reads `1*DIGIT`, saturating (rule H2). Returns `None` for anything else, including the empty string.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(number.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

/// Removes the optional white space around `value` (RFC 9110 §5.6.3).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !blank(byte)) else { return &[] };
    let last = value.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    value.get(first..=last).unwrap_or_default()
}
