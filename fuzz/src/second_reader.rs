//! A second reader of numbers, dates and times. It follows the same rules, written for brevity with the whole of `std`.

use std::time::Duration;

use retry_machine::ResetFormat;

/// The reference for a short year if there is no clock.
const FALLBACK_YEAR: i64 = 2026;

/// Reads `1*DIGIT`, saturating (H2).
pub fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads a number, with or without decimals, times 10^`places` and rounded up (H2).
pub fn decimal(value: &[u8], places: usize) -> Option<u64> {
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b"0"[..]),
    };
    let (whole, _) = (digits(whole)?, digits(fraction)?);
    let near: String = (0..places).map(|n| char::from(*fraction.get(n).unwrap_or(&b'0'))).collect();
    let near = if places == 0 { 0 } else { near.parse::<u64>().ok()? };
    let is_cut = fraction.iter().skip(places).any(|digit| *digit != b'0');
    let power = 10_u64.pow(u32::try_from(places).ok()?);
    Some(whole.saturating_mul(power).saturating_add(near).saturating_add(is_cut.into()))
}

/// Reads a number of calls without its fraction and without the window behind it (H5).
pub fn count(value: &[u8]) -> Option<u64> {
    let value = trim(value.split(|byte| *byte == b';').next()?);
    match value.iter().position(|byte| *byte == b'.') {
        Some(point) => digits(&value[point + 1..]).and(digits(&value[..point])),
        None => digits(value),
    }
}

/// Removes the optional white space (RFC 9110 §5.6.3).
pub fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| *byte != b' ' && *byte != b'\t';
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
    &value[start..end]
}

/// An HTTP-date with its year as it was written (H3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date {
    pub year: i64,
    pub is_short: bool,
    pub month: i64,
    pub day: i64,
    pub second_of_day: i64,
}

impl Date {
    pub fn parse(value: &[u8]) -> Option<Date> {
        let words: Vec<&str> = std::str::from_utf8(value).ok()?.split(' ').collect();
        let is_day = |name: &str| ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&name);
        let (year, is_short, month, day, time) = match *words {
            [name, day, month, year, time, "GMT"] if is_day(name.strip_suffix(',')?) => {
                (number(year, 4)?, false, month, number(day, 2)?, time)
            }
            [name, date, time, "GMT"] => {
                let days = ["Monday,", "Tuesday,", "Wednesday,", "Thursday,", "Friday,", "Saturday,", "Sunday,"];
                days.contains(&name).then_some(())?;
                let [day, month, year] = *date.split('-').collect::<Vec<_>>() else { return None };
                (number(year, 2)?, true, month, number(day, 2)?, time)
            }
            [name, month, day, time, year] if is_day(name) => (number(year, 4)?, false, month, number(day, 2)?, time),
            [name, month, "", day, time, year] if is_day(name) => {
                (number(year, 4)?, false, month, number(day, 1)?, time)
            }
            _ => return None,
        };
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = 1 + i64::try_from(months.iter().position(|name| *name == month)?).ok()?;
        let [hour, minute, second] = *time.split(':').collect::<Vec<_>>() else { return None };
        let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
        let in_range = hour <= 23 && minute <= 59 && second <= 60;
        let date = Date { year, is_short, month, day, second_of_day: hour * 3600 + minute * 60 + second };
        // If any year with these two digits is a leap year, the one from 2000 on is.
        let exists = date.exists_in(if is_short { 2000 + year } else { year });
        (in_range && exists).then_some(date)
    }

    /// Returns the Unix time. A two-digit year is the latest one that is at most the reference plus 50 (F9).
    pub fn unix_seconds(self, reference: i64) -> Option<i64> {
        let latest = reference.clamp(0, 9999) + 50;
        let year = match self.is_short {
            true => (latest - 99..=latest).find(|year| year.rem_euclid(100) == self.year)?,
            false => self.year,
        };
        let day = self.exists_in(year).then(|| days_from_civil(year, self.month, self.day))?;
        Some(day * 86_400 + self.second_of_day)
    }

    fn exists_in(self, year: i64) -> bool {
        let first = |month| days_from_civil(year + month / 12, month % 12 + 1, 1);
        (1..=first(self.month) - first(self.month - 1)).contains(&self.day)
    }
}

/// Returns the number of days since 1970-01-01 in the Gregorian calendar. Years are counted from March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

pub fn year_of(unix_seconds: i64) -> i64 {
    let guess = (unix_seconds.div_euclid(31_556_952) + 1970).clamp(0, 9999);
    let begins = |year: &i64| days_from_civil(*year, 1, 1).saturating_mul(86_400) <= unix_seconds;
    (guess - 2..=guess + 2).rev().find(begins).unwrap_or(0).clamp(0, 9999)
}

fn number(text: &str, length: usize) -> Option<i64> {
    let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// The clock that places the times of a response (H4).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    millis: Option<i64>,
    year: i64,
}

impl Clock {
    pub fn new(date: Option<Date>, wall: Option<Duration>) -> Clock {
        let seconds = |wall: Duration| i64::try_from(wall.as_secs()).unwrap_or(i64::MAX);
        let millis = |wall: Duration| seconds(wall).saturating_mul(1000).saturating_add(wall.subsec_millis().into());
        let wall_year = wall.map_or(FALLBACK_YEAR, |wall| year_of(seconds(wall)));
        match date.and_then(|date| date.unix_seconds(wall_year)) {
            Some(date) => Clock { millis: Some(date * 1000), year: year_of(date) },
            None => Clock { millis: wall.map(millis), year: wall_year },
        }
    }

    pub fn has_time(self) -> bool {
        self.millis.is_some()
    }

    /// Returns the nanoseconds until a Unix time.
    fn until(self, millis: i64) -> Option<u64> {
        let wait = millis.saturating_sub(self.millis?);
        Some(u64::try_from(wait).unwrap_or(0).saturating_mul(1_000_000))
    }

    /// Returns the nanoseconds until an HTTP-date.
    fn date(self, value: &[u8]) -> Option<u64> {
        self.until(Date::parse(value)?.unix_seconds(self.year)? * 1000)
    }

    /// Reads a `Retry-After` in nanoseconds.
    pub fn retry_after(self, value: &[u8]) -> Option<u64> {
        let seconds = decimal(value, 3).map(|millis| millis.saturating_mul(1_000_000));
        seconds.or_else(|| self.date(value))
    }

    /// Reads an `X-RateLimit-Reset` in nanoseconds (H5).
    pub fn reset(self, value: &[u8], format: ResetFormat) -> Option<u64> {
        let (Some(millis), Some(rounded_up)) = (decimal(value, 3), decimal(value, 0)) else { return self.date(value) };
        let whole = digits(value.split(|byte| *byte == b'.').next()?)?;
        let at = |millis| self.until(i64::try_from(millis).unwrap_or(i64::MAX));
        match (format, whole) {
            (ResetFormat::Auto, 1_000_000_000_000..) => at(rounded_up),
            (ResetFormat::Auto, 1_000_000_000..) | (ResetFormat::Unix, _) => at(millis),
            _ => Some(millis.saturating_mul(1_000_000)),
        }
    }
}
