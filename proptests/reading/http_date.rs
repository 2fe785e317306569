//! HTTP-date against two independent calendars, and as a round trip (H3, F9).

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime, date};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use retry_machine::fuzzing::http_date::{HttpDate, year_of};

/// A two-digit year in a test means this century, unless the test says otherwise.
const REFERENCE_YEAR: i32 = 2026;

const FORMS: [&str; 4] =
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y", "%a %b %d %H:%M:%S %Y"];
const RFC850: &str = FORMS[1];

const SHORT_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn ours(value: &[u8], reference_year: i32) -> Option<i64> {
    HttpDate::parse(value)?.unix_seconds(reference_year)
}

fn httpdates(value: &str) -> Option<i64> {
    let time: SystemTime = httpdate::parse_http_date(value).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).ok()
}

fn jiffs(value: &str) -> Option<i64> {
    let parser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(value).ok().map(Timestamp::as_second)
}

const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

fn unix(civil: DateTime) -> i64 {
    civil.duration_since(EPOCH).as_secs()
}

/// `None` outside the years that a calendar of four digits has.
fn civil(unix_seconds: i64) -> Option<DateTime> {
    let civil = EPOCH.checked_add(SignedDuration::from_secs(unix_seconds)).ok()?;
    (civil.year() >= 0).then_some(civil)
}

#[test]
fn h3_every_day_from_1970_to_2200_agrees_with_both_oracles() {
    let mut day = date(1970, 1, 1);
    let mut second_of_day = 0;
    while day.year() <= 2200 {
        let then = day.at(0, 0, 0, 0) + i64::from(second_of_day).seconds();
        let seconds = unix(then);
        let year = i32::from(day.year());
        for form in FORMS {
            let value = then.strftime(form).to_string();
            assert_eq!(ours(value.as_bytes(), year), Some(seconds), "{value}");
            if form != RFC850 {
                assert_eq!(httpdates(&value), Some(seconds), "{value}");
            }
        }
        let imf = then.strftime(FORMS[0]).to_string();
        assert_eq!(jiffs(&imf), Some(seconds), "{imf}");
        assert_eq!(year_of(seconds), year);
        day = day.tomorrow().unwrap();
        second_of_day = (second_of_day + 7_919) % 86_400;
    }
}

#[test]
fn h3_every_month_of_every_four_digit_year_has_its_length() {
    for year in 0..=9999_i16 {
        for month in 1..=12_i8 {
            let first = date(year, month, 1);
            let length = first.days_in_month();
            for day in [1, 28, length, length + 1] {
                let expected = Date::new(year, month, day).ok();
                let expected = expected.map(|date| unix(date.at(12, 34, 56, 0)));
                let name = MONTHS[usize::try_from(month - 1).unwrap()];
                let value = format!("Mon, {day:02} {name} {year:04} 12:34:56 GMT");
                assert_eq!(ours(value.as_bytes(), REFERENCE_YEAR), expected, "{value}");
                assert!(expected.is_none_or(|seconds| year_of(seconds) == i32::from(year)));
            }
        }
    }
}

/// The fields of a date that has the right shape, possible or not.
#[derive(Clone, Debug)]
struct Fields {
    form: usize,
    weekday: usize,
    year: i16,
    month: usize,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
}

impl Fields {
    fn render(&self) -> String {
        let Self { year, day, hour, minute, second, .. } = self;
        let (short, long) = (SHORT_DAYS[self.weekday], LONG_DAYS[self.weekday]);
        let month = MONTHS[self.month];
        let time = format!("{hour:02}:{minute:02}:{second:02}");
        match self.form {
            0 => format!("{short}, {day:02} {month} {year:04} {time} GMT"),
            1 => format!("{long}, {day:02}-{month}-{:02} {time} GMT", year % 100),
            2 => format!("{short} {month} {day:2} {time} {year:04}"),
            _ => format!("{short} {month} {day:02} {time} {year:04}"),
        }
    }

    /// Returns the date according to another calendar, with two-digit years as F9 describes them.
    fn expected(&self, reference_year: i32) -> Option<i64> {
        let year = match self.form {
            1 => (0..=9999)
                .rev()
                .find(|&year| i32::from(year) <= reference_year + 50 && year % 100 == self.year % 100)?,
            _ => self.year,
        };
        let month = i8::try_from(self.month + 1).unwrap();
        let date = Date::new(year, month, self.day).ok()?;
        let is_leap_second = self.second == 60;
        let second = if is_leap_second { 59 } else { self.second };
        let time = jiff::civil::Time::new(self.hour, self.minute, second, 0).ok()?;
        Some(unix(date.to_datetime(time)) + i64::from(is_leap_second))
    }

    fn has_right_weekday(&self) -> bool {
        let month = i8::try_from(self.month + 1).unwrap();
        Date::new(self.year, month, self.day)
            .is_ok_and(|date| date.weekday().to_monday_zero_offset() == i8::try_from(self.weekday).unwrap())
    }
}

prop_compose! {
    fn fields(days: std::ops::Range<i8>, seconds: std::ops::Range<i8>)(
        form in 0..4_usize, weekday in 0..7_usize, year in prop_oneof![0..10_000_i16, 1960..2110_i16],
        month in 0..12_usize, day in days, hour in 0..26_i8, minute in 0..63_i8, second in seconds,
    ) -> Fields {
        Fields { form, weekday, year, month, day, hour, minute, second }
    }
}

/// Generates a date in the right form with a few random edits.
fn mutated_date() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b" ,:-0123456789GMT".to_vec()), any::<u8>()];
    let edit = (any::<prop::sample::Index>(), 0..4_u8, byte);
    (fields(1..29, 0..61), prop::collection::vec(edit, 1..4)).prop_map(|(fields, edits)| {
        let mut value = fields.render().into_bytes();
        for (index, kind, byte) in edits {
            let at = index.index(value.len());
            match kind {
                0 => value[at] = byte,
                1 => value.insert(at, byte),
                2 if value.len() > 1 => drop(value.remove(at)),
                _ => value.truncate(at.max(1)),
            }
        }
        value
    })
}

/// Nothing is accepted that cannot be written again, byte for byte, but for what is free: the
/// weekday, and second 60.
fn assert_strict(value: &[u8]) -> Result<(), TestCaseError> {
    let Some(seconds) = ours(value, REFERENCE_YEAR) else {
        return Ok(());
    };
    let text = std::str::from_utf8(value).expect("dates are ASCII");
    let mut renderings = Vec::new();
    for (leap, second) in [(0, "%S"), (1, "60")] {
        for (short, long) in SHORT_DAYS.iter().zip(LONG_DAYS) {
            for form in FORMS {
                let form = form.replace("%S", second).replace("%a", short).replace("%A", long);
                renderings.extend(civil(seconds - leap).map(|then| then.strftime(&form).to_string()));
            }
        }
    }
    prop_assert!(renderings.iter().any(|rendering| rendering == text), "{text}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn h3_fields_mean_what_another_calendar_says(
        fields in fields(0..34, 0..63), reference_year in 100..9_900_i32,
    ) {
        let value = fields.render();
        prop_assert_eq!(ours(value.as_bytes(), reference_year), fields.expected(reference_year), "{}", value);
    }

    #[test]
    fn h3_an_instant_survives_being_written_and_read(seconds in -62_167_219_200..253_402_300_800_i64) {
        let then = civil(seconds).unwrap();
        for form in FORMS {
            let value = then.strftime(form).to_string();
            let reference_year = i32::from(then.year());
            prop_assert_eq!(ours(value.as_bytes(), reference_year), Some(seconds), "{}", value);
        }
        prop_assert_eq!(year_of(seconds), i32::from(then.year()));
    }

    #[test]
    fn h3_mutated_dates_are_read_strictly(value in mutated_date()) {
        assert_strict(&value)?;
        prop_assert_eq!(HttpDate::parse(&value), HttpDate::parse(&value));
    }

    /// Checks that `httpdate` accepts no more mutated dates than this reader, except for white space around them and any
    /// byte between date and time in the form of RFC 850.
    #[test]
    fn h3_what_httpdate_accepts_we_accept(value in mutated_date()) {
        let text = String::from_utf8_lossy(&value);
        if let Some(theirs) = httpdates(&text) {
            let trimmed = text.trim().as_bytes();
            let separator = trimmed.len().checked_sub("_08:49:37 GMT".len()).and_then(|at| trimmed.get(at));
            if trimmed.contains(&b'-') && separator != Some(&b' ') {
                prop_assert_eq!(HttpDate::parse(trimmed), None, "{}", text);
                return Ok(());
            }
            prop_assert_eq!(ours(trimmed, year_of(theirs)), Some(theirs), "{}", text);
            prop_assert_eq!(HttpDate::parse(&value).is_some(), trimmed.len() == value.len());
        }
    }

    /// And httpdate accepts what we do, but for the listed differences.
    #[test]
    fn h3_what_we_accept_httpdate_accepts(fields in fields(1..32, 0..61)) {
        let value = fields.render();
        if let Some(seconds) = ours(value.as_bytes(), i32::from(fields.year)) {
            let differs = !fields.has_right_weekday()
                || fields.second == 60
                || fields.year < 1970
                || (fields.form == 1 && !(1970..2070).contains(&fields.year));
            prop_assert_eq!(httpdates(&value) == Some(seconds), !differs, "{}", value);
        }
    }

    #[test]
    fn h3_any_bytes_give_a_defined_result(
        value in prop::collection::vec(any::<u8>(), 0..64), reference_year in any::<i32>(),
    ) {
        assert_strict(&value)?;
        prop_assert_eq!(ours(&value, reference_year), ours(&value, reference_year));
    }

    #[test]
    fn f9_any_reference_year_gives_a_defined_result(fields in fields(1..32, 0..61), reference_year in any::<i32>()) {
        let value = fields.render();
        let seconds = ours(value.as_bytes(), reference_year);
        if let (1, Some(seconds)) = (fields.form, seconds) {
            let latest = reference_year.clamp(0, 9999) + 50;
            let year = year_of(seconds - i64::from(fields.second == 60));
            prop_assert!(((latest - 99).max(0)..=latest.min(9999)).contains(&year));
        }
        prop_assert_eq!(seconds, ours(value.as_bytes(), reference_year));
    }

    #[test]
    fn f9_any_instant_has_a_year(seconds in prop_oneof![any::<i64>(), -70_000_000_000..260_000_000_000_i64]) {
        let year = year_of(seconds);
        prop_assert!((0..=9999).contains(&year));
        if let Some(then) = civil(seconds) {
            prop_assert_eq!(year, i32::from(then.year()));
        }
    }
}

#[test]
fn h3_known_differences_to_httpdate() {
    let both = |value: &str| (ours(value.as_bytes(), REFERENCE_YEAR), httpdates(value));
    // A wrong weekday.
    assert_eq!(both("Mon, 06 Nov 1994 08:49:37 GMT"), (Some(784_111_777), None));
    // Second 60.
    assert_eq!(both("Mon, 31 Dec 1990 23:59:60 GMT"), (Some(662_688_000), None));
    // Before 1970.
    assert_eq!(both("Wed, 31 Dec 1969 23:59:59 GMT"), (Some(-1), None));
    // A fixed pivot: 70 is 1970 there, and at most 50 years ahead here.
    let in_2070 = Some(3_155_760_000);
    assert_eq!(both("Wednesday, 01-Jan-70 00:00:00 GMT"), (in_2070, None));
    assert_eq!(both("Thursday, 01-Jan-70 00:00:00 GMT"), (in_2070, Some(0)));
    // White space around the date, which is the caller's to trim here.
    assert_eq!(both(" Sun, 06 Nov 1994 08:49:37 GMT\t"), (None, Some(784_111_777)));
}

#[test]
fn h3_known_differences_to_jiff() {
    let both = |value: &str| (ours(value.as_bytes(), REFERENCE_YEAR), jiffs(value));
    // Second 60 is the second before there.
    assert_eq!(both("Mon, 31 Dec 1990 23:59:60 GMT"), (Some(662_688_000), Some(662_687_999)));
    // Email dates are looser: white space, one digit, no weekday, other zones, small letters.
    for value in [
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun,  6 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "sun, 06 nov 1994 08:49:37 gmt",
    ] {
        assert_eq!(both(value), (None, Some(784_111_777)), "{value}");
    }
}

#[test]
fn h3_long_input_is_refused_at_once() {
    let value = format!("Sun, 06 Nov 1994 08:49:37 GMT{}", " ".repeat(1 << 20));
    assert_eq!(HttpDate::parse(value.as_bytes()), None);
}
