//! HTTP-date (RFC 9110 §5.6.7): reads the instant in `Date`, `Retry-After` or the reset of a rate limit (rule H3).

/// A well-formed HTTP-date, in UTC.
///
/// It has one of the three forms of RFC 9110 §5.6.7: IMF-fixdate, RFC 850 or asctime, with a year from 0000 to 9999. An
/// RFC 850 date has a two-digit year, so that only a reference year makes it an instant. Two dates are equal if all their
/// fields are equal: a two-digit year never equals a four-digit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HttpDate {
    /// 0 to 86,400, which is 23:59:60.
    second_of_day: u32,
    /// 0 to 9999, or [`TWO_DIGITS`] and a year of two digits.
    year: u16,
    /// 1 to 12.
    month: u8,
    /// 1 to 31, and at most the month's length in some year that `year` can mean.
    day: u8,
}

/// Marks a year of two digits.
const TWO_DIGITS: u16 = 10_000;

impl HttpDate {
    /// Makes a date of its parts: a year from 0 to 9999, and the month counted from 1. Returns `None` for a month or day that
    /// does not exist.
    #[cfg(feature = "vendor-times")]
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8, second_of_day: u32) -> Option<Self> {
        let date = HttpDate { second_of_day, year, month, day };
        date.exists_in(year.into()).then_some(date)
    }

    /// Reads a date that fills `value` exactly. It is case-sensitive, without white space around it (rule H3).
    ///
    /// Second 60 is the second after 59, in any minute. A wrong weekday does not matter if it is a day's name in the right
    /// form: without the date, the client would call sooner than the server asked. 29 February of a two-digit year is
    /// read if any century makes it a leap year. Returns `None` for anything else, including an impossible date such as
    /// 31 February or hour 24.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        // Each form has its parts at fixed places, but for the long name of the day.
        match value.len() {
            // Sun, 06 Nov 1994 08:49:37 GMT
            29 => {
                let is_form =
                    has(value, 3, b", ") && has(value, 7, b" ") && has(value, 11, b" ") && has(value, 16, b" ");
                let date = HttpDate::of_parts(part(value, 5)?, part(value, 8)?, part(value, 12)?, part(value, 17)?)?;
                (is_form && has(value, 25, b" GMT") && is_day_name(part(value, 0)?)).then_some(date)
            }
            // Sun Nov  6 08:49:37 1994
            24 => {
                let is_form =
                    has(value, 3, b" ") && has(value, 7, b" ") && has(value, 10, b" ") && has(value, 19, b" ");
                let day = match part(value, 8)? {
                    [b' ', digit] => [b'0', digit],
                    day => day,
                };
                let date = HttpDate::of_parts(day, part(value, 4)?, part(value, 20)?, part(value, 11)?)?;
                (is_form && is_day_name(part(value, 0)?)).then_some(date)
            }
            // Sunday, 06-Nov-94 08:49:37 GMT
            30..=33 => {
                let (name, rest) = value.split_at_checked(value.len() - 24)?;
                let is_form = has(rest, 0, b", ") && has(rest, 4, b"-") && has(rest, 8, b"-") && has(rest, 11, b" ");
                let [y, z] = part(rest, 9)?;
                let date = HttpDate::of_parts(part(rest, 2)?, part(rest, 5)?, [b'0', b'0', y, z], part(rest, 12)?)?;
                let date = HttpDate { year: TWO_DIGITS + date.year, ..date };
                (is_form && has(rest, 20, b" GMT") && is_long_day_name(name)).then_some(date)
            }
            _ => None,
        }
    }

    fn of_parts(day: [u8; 2], month: [u8; 3], year: [u8; 4], time: [u8; 8]) -> Option<Self> {
        let [d, e] = day;
        let date = HttpDate {
            second_of_day: second_of_day(time)?,
            year: number(year)?,
            month: month_number(month)?,
            day: u8::try_from(number([b'0', b'0', d, e])?).ok()?,
        };
        // F9: right for a year of two digits, too. From 0 to 99 a year is a leap year if and only if some century makes its
        // two digits one.
        date.exists_in(date.year.into()).then_some(date)
    }

    /// Returns the date in seconds since 1970-01-01T00:00:00Z, negative before that.
    ///
    /// A two-digit year is the latest year with these digits that is at most `reference_year + 50` (rules H3, F9). The
    /// reference is clamped to the years from 0 to 9999. A four-digit year ignores it.
    ///
    /// Returns `None` for 29 February of a two-digit year that is not a leap year: `29-Feb-00` if 00 is 1900 or 2100. For
    /// references from 1950 to 2049 it is 2000.
    #[must_use]
    pub fn unix_seconds(self, reference_year: i32) -> Option<i64> {
        let year = if self.has_two_digit_year() {
            let latest = reference_year.clamp(FIRST_YEAR, LAST_YEAR) + 50;
            latest - (latest - i32::from(self.year - TWO_DIGITS)).rem_euclid(100)
        } else {
            self.year.into()
        };
        let day_of_year = days_before_month(year, self.month.into()) + i32::from(self.day) - 1;
        self.exists_in(year).then(|| unix_seconds_at(year, day_of_year) + i64::from(self.second_of_day))
    }

    /// Returns whether the year has two digits, so that [`unix_seconds`](Self::unix_seconds) depends on its argument.
    #[must_use]
    pub fn has_two_digit_year(self) -> bool {
        self.year >= TWO_DIGITS
    }

    fn exists_in(self, year: i32) -> bool {
        let length = match self.month {
            2 => 28 + u8::from(is_leap(year)),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        (1..=length).contains(&self.day)
    }

    /// Packs the date into a number, from which [`from_bits`](Self::from_bits) makes it again.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.second_of_day) << 32
            | u64::from(self.year) << 16
            | u64::from(self.month) << 8
            | u64::from(self.day)
    }

    pub(crate) fn from_bits(bits: u64) -> HttpDate {
        let [a, b, c, d, year_high, year_low, month, day] = bits.to_be_bytes();
        HttpDate {
            second_of_day: u32::from_be_bytes([a, b, c, d]),
            year: u16::from_be_bytes([year_high, year_low]),
            month,
            day,
        }
    }
}

/// Returns the year of a Unix time in seconds, clamped to the years from 0 to 9999: the reference year for
/// [`HttpDate::unix_seconds`].
#[must_use]
pub fn year_of(unix_seconds: i64) -> i32 {
    let (first, last) = (unix_seconds_at(FIRST_YEAR, 0), unix_seconds_at(LAST_YEAR, 0));
    let seconds = unix_seconds.clamp(first, last);
    let days = i32::try_from((seconds - first) / 86_400).unwrap_or(0);
    // At most one year off, since leap years are not spread evenly.
    let year = days * 400 / DAYS_IN_400_YEARS;
    year - i32::from(unix_seconds_at(year, 0) > seconds) + i32::from(unix_seconds_at(year + 1, 0) <= seconds)
}

const FIRST_YEAR: i32 = 0;
const LAST_YEAR: i32 = 9999;

/// Returns the start of a day, counted from 0, of a year from -49 to 10,049, whose days easily fit an `i32`.
fn unix_seconds_at(year: i32, day_of_year: i32) -> i64 {
    const DAYS_BEFORE_1970: i32 = 719_528;
    i64::from(days_before_year(year) - DAYS_BEFORE_1970 + day_of_year) * 86_400
}

const DAYS_IN_400_YEARS: i32 = 146_097;

/// Returns the number of days from 1 January of the year 0, which is a leap year, to 1 January of `year`.
fn days_before_year(year: i32) -> i32 {
    // With 400 years more no quotient is negative.
    let year = year + 400;
    365 * year + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400 - DAYS_IN_400_YEARS
}

/// Returns the number of days from 1 January to the first day of `month`.
fn days_before_month(year: i32, month: i32) -> i32 {
    // The quotient is right for a February of 30 days.
    let missing = match month {
        1 | 2 => 0,
        _ if is_leap(year) => 1,
        _ => 2,
    };
    (367 * month - 362) / 12 - missing
}

fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Returns the bytes of a part.
fn part<const LENGTH: usize>(value: &[u8], from: usize) -> Option<[u8; LENGTH]> {
    value.get(from..)?.first_chunk().copied()
}

fn has<const LENGTH: usize>(value: &[u8], from: usize, separator: &[u8; LENGTH]) -> bool {
    part(value, from) == Some(*separator)
}

fn is_day_name(name: [u8; 3]) -> bool {
    matches!(&name, b"Mon" | b"Tue" | b"Wed" | b"Thu" | b"Fri" | b"Sat" | b"Sun")
}

fn is_long_day_name(name: &[u8]) -> bool {
    matches!(name, b"Monday" | b"Tuesday" | b"Wednesday" | b"Thursday" | b"Friday" | b"Saturday" | b"Sunday")
}

fn month_number(name: [u8; 3]) -> Option<u8> {
    Some(match &name {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    })
}

/// Reads a number of four digits.
fn number(digits: [u8; 4]) -> Option<u16> {
    let [a, b, c, d] = (u32::from_be_bytes(digits) ^ u32::from_be_bytes(*b"0000")).to_be_bytes().map(u16::from);
    (a <= 9 && b <= 9 && c <= 9 && d <= 9).then(|| a * 1_000 + b * 100 + c * 10 + d)
}

/// Reads `08:49:37`, all bytes at once.
fn second_of_day(time: [u8; 8]) -> Option<u32> {
    // This leaves the value of each digit, and nothing of a colon.
    let digits = u64::from_be_bytes(time) ^ u64::from_be_bytes(*b"00:00:00");
    // A sum with a byte above 9 sets its top bit.
    let are_digits = (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 == 0;
    let [hours, hour, colon, minutes, minute, other_colon, seconds, second] = digits.to_be_bytes().map(u32::from);
    let (hour, minute, second) = (hours * 10 + hour, minutes * 10 + minute, seconds * 10 + second);
    let is_time = are_digits && colon | other_colon == 0 && hour <= 23 && minute <= 59 && second <= 60;
    is_time.then_some((hour * 60 + minute) * 60 + second)
}
