//! `Retry-After` and its kin: fields that say when, as a wait or as a date.

use super::ResetFormat;
use super::header_time::HeaderTime;
use super::http_date::HttpDate;
use crate::time;

/// `1*DIGIT` (rule H2). Anything else, the empty string too, is `None`; too many digits saturate.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(number.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

/// How many calls are left, or allowed: `1*DIGIT`, and a fraction, as some services send it, is no whole call.
pub(super) fn count(value: &[u8]) -> Option<u64> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let count = digits(parts.next()?)?;
    parts.next().is_none_or(|fraction| digits(fraction).is_some()).then_some(count)
}

/// `value` without the optional white space around it (RFC 9110 §5.6.3).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !blank(byte)) else { return &[] };
    let last = value.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    value.get(first..=last).unwrap_or_default()
}

/// `Retry-After`: seconds or an HTTP-date (rules H2, H3).
pub(super) fn retry_after(value: &[u8]) -> Option<HeaderTime> {
    if let Some(seconds) = digits(value) {
        return Some(HeaderTime::After(time::seconds(seconds)));
    }
    date(value)
}

fn date(value: &[u8]) -> Option<HeaderTime> {
    let date = HttpDate::parse(value)?;
    if date.has_two_digit_year() {
        return Some(HeaderTime::AtShort(date));
    }
    // The year is written out: the reference year changes nothing.
    Some(HeaderTime::At(date.unix_seconds(0)?.saturating_mul(1_000)))
}

/// `retry-after-ms` and `x-ms-retry-after-ms`: milliseconds (rule H5).
pub(super) fn millis(value: &[u8]) -> Option<HeaderTime> {
    digits(value).map(|millis| HeaderTime::After(time::millis(millis)))
}

/// `X-RateLimit-Reset` and `RateLimit-Reset` (rule H5). Some services send an HTTP-date there.
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
