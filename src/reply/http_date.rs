//! HTTP-date (RFC 9110 section 5.6.7): reads the instant that `Date` and `Retry-After` name (H3).

/// A well-formed HTTP-date, in UTC.
///
/// All three forms of RFC 9110 section 5.6.7 are read: IMF-fixdate, RFC 850 and asctime, with the
/// years 0000 to 9999. An RFC 850 date has a two-digit year, so it becomes an instant only beside
/// a reference year. Two values are equal if their forms' fields are: a two-digit year never equals
/// a four-digit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HttpDate {
    /// 0 to 9999, or 0 to 99 where `two_digit_year`.
    year: i32,
    two_digit_year: bool,
    /// 1 to 12.
    month: i32,
    /// 1 to 31, at most the month's length in some year that `year` can mean.
    day: i32,
    /// 0 to 86 400: the last one is 23:59:60.
    second_of_day: i32,
}

impl HttpDate {
    /// Makes a date of its parts, the month counted from 1. `None` for a month or day that does not exist.
    #[cfg(feature = "vendor-times")]
    pub fn new(year: i32, month: i32, day: i32, second_of_day: i32) -> Option<Self> {
        let date = HttpDate { year, two_digit_year: false, month, day, second_of_day };
        ((1..=12).contains(&month) && date.day_exists_in(year)).then_some(date)
    }

    /// Reads a date that fills `value` exactly: the grammar, case-sensitive, no white space around
    /// it (H3).
    ///
    /// Second 60 is read as the second after 59, at any minute. A wrong weekday does not matter, as
    /// long as it is a day's name in the right form: to drop the date would make the client call
    /// sooner than it was asked to. Anything else is `None`, impossible dates (31 February, hour 24)
    /// too. 29 February of a two-digit year is read if any century makes it a leap year.
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
        // F9: of the years 0 to 99 just those are leap that some century makes so, so that a
        // two-digit year can be judged as it stands.
        (text.0.is_empty() && date.day_exists_in(date.year)).then_some(date)
    }

    /// The date as seconds since 1970-01-01T00:00:00Z, negative before that.
    ///
    /// A two-digit year is the latest year with these digits that is at most `reference_year + 50`
    /// (H3, F9). References outside 0 to 9999 count as the nearer end. A four-digit year ignores the
    /// reference.
    ///
    /// `None` if the two-digit year turns out to have no 29 February: `29-Feb-00` where 00 is 1900 or
    /// 2100. For references from 1950 to 2049 it is 2000, so there this never happens.
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

    /// Whether the year was sent with two digits only, so that [`unix_seconds`](Self::unix_seconds)
    /// depends on its argument.
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

/// The year of an instant given in Unix seconds, UTC; 0 before the year 0, 9999 after the year 9999.
///
/// This is the reference year that [`HttpDate::unix_seconds`] wants.
#[must_use]
pub fn year_of(unix_seconds: i64) -> i32 {
    // A search needs no 64-bit division, which 32-bit targets would have to emulate.
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

/// Midnight of a day, counted from 0, of a year from -49 to 10 049: days fit an `i32` by far.
fn unix_seconds_at(year: i32, day_of_year: i32) -> i64 {
    const DAYS_BEFORE_1970: i32 = 719_528;
    i64::from(days_before_year(year) - DAYS_BEFORE_1970 + day_of_year) * 86_400
}

/// Days from 1 January of the year 0, itself a leap year, to 1 January of `year`.
fn days_before_year(year: i32) -> i32 {
    365 * year + (year + 3).div_euclid(4) - (year + 99).div_euclid(100) + (year + 399).div_euclid(400)
}

/// Days from 1 January to the first of `month`.
fn days_before_month(year: i32, month: i32) -> i32 {
    // The first term is right for a February of 30 days.
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

/// The first three letters of a day's name, and the rest, which only RFC 850 writes.
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

/// What is still unread.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    /// `06 Nov 1994 08:49:37 GMT`, after the day's name.
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

    /// `06-Nov-94 08:49:37 GMT`, after the day's name.
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

    /// `Nov  6 08:49:37 1994`, after the day's name.
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

    /// `08:49:37` as seconds since midnight.
    fn time_of_day(&mut self) -> Option<i32> {
        let hour = self.number::<2>()?;
        self.skip(b":")?;
        let minute = self.number::<2>()?;
        self.skip(b":")?;
        let second = self.number::<2>()?;
        (hour <= 23 && minute <= 59 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
    }

    /// A number of exactly `DIGITS` digits, at most 9.
    fn number<const DIGITS: usize>(&mut self) -> Option<i32> {
        let (digits, rest) = self.0.split_first_chunk::<DIGITS>()?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
    }

    /// What stands beside the first name that comes next.
    fn one_of<T: Copy>(&mut self, names: &[(&[u8], T)]) -> Option<T> {
        names.iter().find_map(|&(name, meaning)| self.skip(name).map(|()| meaning))
    }

    fn skip(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{HttpDate, year_of};

    /// The example instant of RFC 9110 section 5.6.7.
    const EXAMPLE: i64 = 784_111_777;

    fn read(value: &str) -> Option<i64> {
        read_in(value, 2026)
    }

    fn read_in(value: &str, reference_year: i32) -> Option<i64> {
        HttpDate::parse(value.as_bytes())?.unix_seconds(reference_year)
    }

    #[test]
    fn h3_all_three_forms_are_accepted() {
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(EXAMPLE));
        assert_eq!(read("Sunday, 06-Nov-94 08:49:37 GMT"), Some(EXAMPLE));
        assert_eq!(read("Sun Nov  6 08:49:37 1994"), Some(EXAMPLE));
        assert_eq!(read("Sun Nov 06 08:49:37 1994"), Some(EXAMPLE));
    }

    #[test]
    fn h3_each_form_writes_its_own_day_names() {
        for (short, long) in [
            ("Mon", "Monday"),
            ("Tue", "Tuesday"),
            ("Wed", "Wednesday"),
            ("Thu", "Thursday"),
            ("Fri", "Friday"),
            ("Sat", "Saturday"),
            ("Sun", "Sunday"),
        ] {
            let forms = |imf_asctime: &str, rfc850: &str| {
                [
                    read(&std::format!("{imf_asctime}, 06 Nov 1994 08:49:37 GMT")),
                    read(&std::format!("{imf_asctime} Nov  6 08:49:37 1994")),
                    read(&std::format!("{rfc850}, 06-Nov-94 08:49:37 GMT")),
                ]
            };
            // A wrong weekday does not matter, a wrong form does.
            assert_eq!(forms(short, long), [Some(EXAMPLE); 3]);
            assert_eq!(forms(long, short), [None; 3]);
        }
        assert_eq!(read("Monsday, 06-Nov-94 08:49:37 GMT"), None);
    }

    #[test]
    fn h3_dates_are_case_sensitive() {
        assert_eq!(read("sun, 06 Nov 1994 08:49:37 GMT"), None);
        assert_eq!(read("Sun, 06 NOV 1994 08:49:37 GMT"), None);
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 gmt"), None);
        assert_eq!(read("SUNDAY, 06-Nov-94 08:49:37 GMT"), None);
    }

    #[test]
    fn h3_nothing_but_the_grammar_is_accepted() {
        for value in [
            "",
            "Sun",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun,  6 Nov 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sun,06 Nov 1994 08:49:37 GMT",
            "Sun\t, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 01994 08:49:37 GMT",
            "Sun, 06 Nov -994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37.0 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov   6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, \u{0660}6 Nov 1994 08:49:37 GMT",
            "120",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn h3_every_month_has_its_name_and_length() {
        let mut start = 1_672_531_200;
        for (month, days) in [
            ("Jan", 31),
            ("Feb", 28),
            ("Mar", 31),
            ("Apr", 30),
            ("May", 31),
            ("Jun", 30),
            ("Jul", 31),
            ("Aug", 31),
            ("Sep", 30),
            ("Oct", 31),
            ("Nov", 30),
            ("Dec", 31),
        ] {
            let midnight = |day| read(&std::format!("Sun, {day:02} {month} 2023 00:00:00 GMT"));
            assert_eq!(midnight(1), Some(start));
            assert_eq!(midnight(days), Some(start + (i64::from(days) - 1) * 86_400));
            assert_eq!(midnight(days + 1), None);
            start += i64::from(days) * 86_400;
        }
    }

    #[test]
    fn h3_second_sixty_is_the_following_second() {
        assert_eq!(read("Mon, 31 Dec 1990 23:59:60 GMT"), Some(662_688_000));
        assert_eq!(read("Tue, 01 Jan 1991 00:00:00 GMT"), Some(662_688_000));
        assert_eq!(read("Mon, 31 Dec 1990 23:59:61 GMT"), None);
    }

    #[test]
    fn h3_impossible_dates_are_malformed() {
        for value in [
            "Wed, 31 Feb 2024 00:00:00 GMT",
            "Wed, 30 Feb 2024 00:00:00 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Wed, 29 Feb 1900 00:00:00 GMT",
            "Wed, 31 Apr 2024 00:00:00 GMT",
            "Wed, 32 Jan 2024 00:00:00 GMT",
            "Wed, 00 Jan 2024 00:00:00 GMT",
            "Wed Jan  0 00:00:00 2024",
            "Wed, 01 Jan 2024 24:00:00 GMT",
            "Wed, 01 Jan 2024 23:60:00 GMT",
            "Wednesday, 29-Feb-23 00:00:00 GMT",
            "Wednesday, 30-Feb-24 00:00:00 GMT",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(read("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(read("Thursday, 29-Feb-24 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(read("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
    }

    #[test]
    fn h3_all_four_digit_years_are_accepted() {
        assert_eq!(read("Sat, 01 Jan 0000 00:00:00 GMT"), Some(-62_167_219_200));
        assert_eq!(read("Wed, 31 Dec 1969 23:59:59 GMT"), Some(-1));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(read("Tue, 19 Jan 2038 03:14:08 GMT"), Some(1 << 31));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:60 GMT"), Some(253_402_300_800));
    }

    #[test]
    fn h3_two_digit_years_are_at_most_fifty_years_ahead() {
        let year_read = |two_digits: i32, reference_year| {
            let value = std::format!("Friday, 01-Jan-{two_digits:02} 00:00:00 GMT");
            read_in(&value, reference_year).map(year_of)
        };
        assert_eq!(year_read(76, 2026), Some(2076));
        assert_eq!(year_read(77, 2026), Some(1977));
        assert_eq!(year_read(26, 2026), Some(2026));
        assert_eq!(year_read(94, 1994), Some(1994));
        assert_eq!(year_read(44, 1994), Some(2044));
        assert_eq!(year_read(45, 1994), Some(1945));
        for reference_year in 1900..2300 {
            for two_digits in 0..100 {
                let year = year_read(two_digits, reference_year).unwrap();
                assert_eq!(year % 100, two_digits);
                assert!((reference_year - 49..=reference_year + 50).contains(&year));
            }
        }
    }

    #[test]
    fn f9_two_digit_years_are_defined_for_every_reference() {
        let date = HttpDate::parse(b"Friday, 01-Jan-99 00:00:00 GMT").unwrap();
        assert_eq!(date.unix_seconds(i32::MIN), date.unix_seconds(0));
        assert_eq!(date.unix_seconds(i32::MAX), date.unix_seconds(9999));
        // Within the first 50 years the answer may lie before the year 0.
        assert_eq!(date.unix_seconds(0), Some(-62_198_755_200));
    }

    #[test]
    fn f9_the_29th_of_february_is_judged_in_the_resolved_year() {
        let value = "Tuesday, 29-Feb-00 00:00:00 GMT";
        assert_eq!(read_in(value, 1949), None);
        assert_eq!(read_in(value, 1950), Some(951_782_400));
        assert_eq!(read_in(value, 2049), Some(951_782_400));
        assert_eq!(read_in(value, 2050), None);
    }

    #[test]
    fn f9_four_digit_years_ignore_the_reference() {
        let date = HttpDate::parse(b"Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert!(!date.has_two_digit_year());
        assert_eq!(date.unix_seconds(i32::MIN), Some(EXAMPLE));
        assert_eq!(date.unix_seconds(i32::MAX), Some(EXAMPLE));
        let date = HttpDate::parse(b"Sun Nov  6 08:49:37 1994").unwrap();
        assert!(!date.has_two_digit_year());
        let date = HttpDate::parse(b"Sunday, 06-Nov-94 08:49:37 GMT").unwrap();
        assert!(date.has_two_digit_year());
    }

    #[test]
    fn h3_the_year_of_an_instant_turns_at_midnight_and_saturates() {
        for year in 0..=9999 {
            let start = read(&std::format!("Sat, 01 Jan {year:04} 00:00:00 GMT")).unwrap();
            let end = read(&std::format!("Sat, 31 Dec {year:04} 23:59:59 GMT")).unwrap();
            assert_eq!((year_of(start), year_of(end)), (year, year));
            assert_eq!(year_of(start - 1), (year - 1).max(0));
            assert_eq!(year_of(end + 1), (year + 1).min(9999));
        }
        assert_eq!((year_of(i64::MIN), year_of(i64::MAX)), (0, 9999));
    }
}
