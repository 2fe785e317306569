//! `Retry-After` and its kin: fields that say when, as a wait or as a date.

use core::cmp::Ordering;

use super::ResetFormat;
use super::http_date::HttpDate;
use crate::time::{self, NANOS_PER_MILLI};

/// `1*DIGIT` (rule H2). Anything else, the empty string too, is `None`; too many digits saturate.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(number.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

/// How many calls are left, or allowed: `1*DIGIT`, and a fraction, as some services send it, is no whole call.
pub(crate) fn count(value: &[u8]) -> Option<u64> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let count = digits(parts.next()?)?;
    parts.next().is_none_or(|fraction| digits(fraction).is_some()).then_some(count)
}

/// `value` without the optional white space around it (RFC 9110 §5.6.3).
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = value.iter().position(|byte| !blank(byte)) else { return &[] };
    let last = value.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    value.get(first..=last).unwrap_or_default()
}

/// One statement of a time.
#[derive(Clone, Copy)]
pub(crate) enum When {
    /// Nanoseconds after the receipt of the response.
    After(u64),
    /// A Unix time in milliseconds.
    At(i64),
    /// A date with a year of two digits, whose century is not known before the whole response is (rule H3).
    AtShort(HttpDate),
}

impl When {
    /// `Retry-After`: seconds or an HTTP-date (rules H2, H3).
    pub(crate) fn retry_after(value: &[u8]) -> Option<When> {
        if let Some(seconds) = digits(value) {
            return Some(When::After(time::seconds(seconds)));
        }
        When::date(value)
    }

    fn date(value: &[u8]) -> Option<When> {
        let date = HttpDate::parse(value)?;
        if date.has_two_digit_year() {
            return Some(When::AtShort(date));
        }
        // The year is written out: the reference year changes nothing.
        Some(When::At(date.unix_seconds(0)?.saturating_mul(1_000)))
    }

    /// `retry-after-ms` and `x-ms-retry-after-ms`: milliseconds (rule H5).
    pub(crate) fn millis(value: &[u8]) -> Option<When> {
        digits(value).map(|millis| When::After(time::millis(millis)))
    }

    /// `X-RateLimit-Reset` and `RateLimit-Reset` (rule H5). Some services send an HTTP-date there.
    pub(crate) fn reset(value: &[u8], format: ResetFormat) -> Option<When> {
        let Some(number) = digits(value) else { return When::date(value) };
        let at = |millis: u64| When::At(i64::try_from(millis).unwrap_or(i64::MAX));
        Some(match format {
            ResetFormat::Unix => at(number.saturating_mul(1_000)),
            ResetFormat::Auto if number >= 1_000_000_000_000 => at(number),
            ResetFormat::Auto if number >= 1_000_000_000 => at(number.saturating_mul(1_000)),
            ResetFormat::Auto | ResetFormat::Delta => When::After(time::seconds(number)),
        })
    }
}

/// The latest of each kind that a field said: which of them is the latest of all is known only when the clock is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latest {
    after: Option<u64>,
    at: Option<i64>,
    short: Option<HttpDate>,
    /// Whether a wait lost against another, and a date against another.
    wait_lost: bool,
    date_lost: bool,
}

impl Latest {
    /// Takes one more statement (rule H6: the same field twice, the later time wins).
    pub(crate) fn add(&mut self, when: When) {
        match when {
            When::After(wait) => self.wait_lost |= keep(&mut self.after, wait, Ord::cmp),
            When::At(at) => self.date_lost |= keep(&mut self.at, at, Ord::cmp),
            // Which of two short years is later depends on the century; within one century is the best guess.
            When::AtShort(date) => {
                let seconds = |date: &HttpDate| date.unix_seconds(super::reader::FALLBACK_YEAR);
                self.date_lost |= keep(&mut self.short, date, |a, b| seconds(a).cmp(&seconds(b)));
            }
        }
    }

    /// Whether a date is among them.
    pub(crate) fn has_date(&self) -> bool {
        self.at.is_some() || self.short.is_some()
    }

    /// Nanoseconds from the receipt of the response to the latest of all, `clock` being the response's time in Unix
    /// milliseconds and `year` the one that short years are near to. What has passed is zero. Without a clock only
    /// waits count (rule H4).
    pub(crate) fn resolve(&self, clock: Option<i64>, year: impl Fn() -> i32) -> Option<u64> {
        let until = |at: i64| {
            let millis = u64::try_from(at.saturating_sub(clock?)).unwrap_or(0);
            Some(time::millis(millis))
        };
        let [at, short] = self.dates(year);
        [self.after, at.and_then(until), short.and_then(until)].into_iter().flatten().max()
    }

    /// Whether it was said more than once, and not each time the same instant: then one of them lost. Without a clock
    /// no date wins or loses.
    pub(crate) fn is_contradictory(&self, clock: Option<i64>, year: impl Fn() -> i32) -> bool {
        let at_once = |wait: u64| clock?.checked_add(i64::try_from(wait / NANOS_PER_MILLI).ok()?);
        let [at, short] = self.dates(year);
        let mut ways = [self.after.and_then(at_once), at, short].into_iter().flatten();
        let first = ways.next();
        let mixed = clock.is_some() && ways.any(|other| Some(other) != first);
        self.wait_lost || clock.is_some() && self.date_lost || mixed
    }

    /// The dates, in Unix milliseconds.
    fn dates(&self, year: impl Fn() -> i32) -> [Option<i64>; 2] {
        let short = self.short.and_then(|date| date.unix_seconds(year()));
        [self.at, short.map(|seconds| seconds.saturating_mul(1_000))]
    }
}

/// Keeps the later of two statements; returns whether they differ.
fn keep<T: Copy>(slot: &mut Option<T>, new: T, order: impl Fn(&T, &T) -> Ordering) -> bool {
    let Some(old) = *slot else {
        *slot = Some(new);
        return false;
    };
    let order = order(&new, &old);
    if order == Ordering::Greater {
        *slot = Some(new);
    }
    order != Ordering::Equal
}
