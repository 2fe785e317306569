//! HTTP-date (RFC 9110 §5.6.7): reads the instant in `Date`, `Retry-After` or the reset of a rate limit (rule H3).

/// A well-formed HTTP-date, in UTC.
///
/// It has one of the three forms of RFC 9110 §5.6.7: IMF-fixdate, RFC 850 or asctime, with a year from 0000 to 9999. An
/// RFC 850 date has a two-digit year, so that only a reference year makes it an instant. Two dates are equal if all their
/// fields are equal: a two-digit year never equals a four-digit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HttpDate {
    /// 0 to 9999, or 0 to 99 if `two_digit_year`.
    year: i32,
    two_digit_year: bool,
    /// 1 to 12.
    month: i32,
    /// 1 to 31, and at most the month's length in some year that `year` can mean.
    day: i32,
    /// 0 to 86,400, which is 23:59:60.
    second_of_day: i32,
}

impl HttpDate {
    /// Makes a date of its parts, the month counted from 1. Returns `None` for a month or day that does not exist.
    #[cfg(feature = "vendor-times")]
    #[must_use]
    pub fn new(year: i32, month: i32, day: i32, second_of_day: i32) -> Option<Self> {
        let date = HttpDate { year, two_digit_year: false, month, day, second_of_day };
        ((1..=12).contains(&month) && date.day_exists_in(year)).then_some(date)
    }

    /// Reads a date that fills `value` exactly. It is case-sensitive, without white space around it (rule H3).
    ///
    /// Second 60 is the second after 59, in any minute. A wrong weekday does not matter if it is a day's name in the right
    /// form: without the date, the client would call sooner than the server asked. 29 February of a two-digit year is
    /// read if any century makes it a leap year. Returns `None` for anything else, including an impossible date such as
    /// 31 February or hour 24.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut text = Text(value);
        let day_name_ending = text.one_of(&DAY_NAMES)?;
        let date = if text.skip(b", ").is_some() {
            text.imf_fixdate()?
        } else if text.skip(b" ").is_some() {
            text.asctime_date()?
        } else {
            text.skip(day_name_ending)?;
            text.skip(b", ")?;
            text.rfc850_date()?
        };
        // F9: a year from 0 to 99 is a leap year if and only if some century makes its two digits one. So this check is
        // right for a two-digit year.
        (text.0.is_empty() && date.day_exists_in(date.year)).then_some(date)
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
        let year = if self.two_digit_year {
            let latest = reference_year.clamp(FIRST_YEAR, LAST_YEAR) + 50;
            latest - (latest - self.year).rem_euclid(100)
        } else {
            self.year
        };
        let day_of_year = days_before_month(year, self.month) + self.day - 1;
        self.day_exists_in(year).then(|| unix_seconds_at(year, day_of_year) + i64::from(self.second_of_day))
    }

    /// Returns whether the year has two digits, so that [`unix_seconds`](Self::unix_seconds) depends on its argument.
    #[must_use]
    pub fn has_two_digit_year(self) -> bool {
        self.two_digit_year
    }

    fn day_exists_in(self, year: i32) -> bool {
        let length = match self.month {
            2 => 28 + i32::from(is_leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        (1..=length).contains(&self.day)
    }
}

/// Returns the year of a Unix time in seconds, clamped to the years from 0 to 9999: the reference year for
/// [`HttpDate::unix_seconds`].
#[must_use]
pub fn year_of(unix_seconds: i64) -> i32 {
    // 32-bit targets have to emulate a 64-bit division. A search needs none.
    let (mut low, mut high) = (FIRST_YEAR, LAST_YEAR);
    while low < high {
        let middle = (low + high + 1) / 2;
        if unix_seconds_at(middle, 0) <= unix_seconds {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

const FIRST_YEAR: i32 = 0;
const LAST_YEAR: i32 = 9999;

/// Returns the start of a day, counted from 0, of a year from -49 to 10,049, whose days easily fit an `i32`.
fn unix_seconds_at(year: i32, day_of_year: i32) -> i64 {
    const DAYS_BEFORE_1970: i32 = 719_528;
    i64::from(days_before_year(year) - DAYS_BEFORE_1970 + day_of_year) * 86_400
}

/// Returns the number of days from 1 January of the year 0, which is a leap year, to 1 January of `year`.
fn days_before_year(year: i32) -> i32 {
    365 * year + (year + 3).div_euclid(4) - (year + 99).div_euclid(100) + (year + 399).div_euclid(400)
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

/// The first three letters of each day's name, and the rest, which only an RFC 850 date has.
const DAY_NAMES: [(&[u8], &[u8]); 7] = [
    (b"Mon", b"day"),
    (b"Tue", b"sday"),
    (b"Wed", b"nesday"),
    (b"Thu", b"rsday"),
    (b"Fri", b"day"),
    (b"Sat", b"urday"),
    (b"Sun", b"day"),
];

const MONTH_NAMES: [(&[u8], i32); 12] = [
    (b"Jan", 1),
    (b"Feb", 2),
    (b"Mar", 3),
    (b"Apr", 4),
    (b"May", 5),
    (b"Jun", 6),
    (b"Jul", 7),
    (b"Aug", 8),
    (b"Sep", 9),
    (b"Oct", 10),
    (b"Nov", 11),
    (b"Dec", 12),
];

/// The unread rest of a value.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// Reads `06 Nov 1994 08:49:37 GMT`, after the day's name.
    fn imf_fixdate(&mut self) -> Option<HttpDate> {
        let day = self.number::<2>()?;
        self.skip(b" ")?;
        let month = self.one_of(&MONTH_NAMES)?;
        self.skip(b" ")?;
        let year = self.number::<4>()?;
        self.skip(b" ")?;
        let second_of_day = self.time_of_day()?;
        self.skip(b" GMT")?;
        Some(HttpDate { year, two_digit_year: false, month, day, second_of_day })
    }

    /// Reads `06-Nov-94 08:49:37 GMT`, after the day's name.
    fn rfc850_date(&mut self) -> Option<HttpDate> {
        let day = self.number::<2>()?;
        self.skip(b"-")?;
        let month = self.one_of(&MONTH_NAMES)?;
        self.skip(b"-")?;
        let year = self.number::<2>()?;
        self.skip(b" ")?;
        let second_of_day = self.time_of_day()?;
        self.skip(b" GMT")?;
        Some(HttpDate { year, two_digit_year: true, month, day, second_of_day })
    }

    /// Reads `Nov  6 08:49:37 1994`, after the day's name.
    fn asctime_date(&mut self) -> Option<HttpDate> {
        let month = self.one_of(&MONTH_NAMES)?;
        self.skip(b" ")?;
        let day = match self.skip(b" ") {
            Some(()) => self.number::<1>()?,
            None => self.number::<2>()?,
        };
        self.skip(b" ")?;
        let second_of_day = self.time_of_day()?;
        self.skip(b" ")?;
        let year = self.number::<4>()?;
        Some(HttpDate { year, two_digit_year: false, month, day, second_of_day })
    }

    /// Reads `08:49:37` as seconds since midnight.
    fn time_of_day(&mut self) -> Option<i32> {
        let hour = self.number::<2>()?;
        self.skip(b":")?;
        let minute = self.number::<2>()?;
        self.skip(b":")?;
        let second = self.number::<2>()?;
        (hour <= 23 && minute <= 59 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
    }

    /// Reads a number of exactly `DIGITS` digits, at most 9.
    fn number<const DIGITS: usize>(&mut self) -> Option<i32> {
        let (digits, rest) = self.0.split_first_chunk::<DIGITS>()?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
    }

    /// Reads the first of `names` that matches, and returns its meaning.
    fn one_of<T: Copy>(&mut self, names: &[(&[u8], T)]) -> Option<T> {
        names.iter().find_map(|&(name, meaning)| self.skip(name).map(|()| meaning))
    }

    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }
}
