//! HTTP-dates against a second reader.

use retry_machine::fuzzing::http_date::{HttpDate, year_of};

use super::second_reader;

/// Checks `data` as a date.
pub fn check(data: &[u8]) {
    let date = HttpDate::parse(data);
    let expected = second_reader::Date::parse(data);
    assert_eq!(date.is_some(), expected.is_some(), "H3: {:?}", data.escape_ascii().to_string());
    let (Some(date), Some(expected)) = (date, expected) else { return };
    assert_eq!(HttpDate::parse(data), Some(date), "I12");
    assert_eq!(date.has_two_digit_year(), expected.is_short);
    let years = (0..=9999).step_by(487).chain([i32::MIN, -1, 1949, 1950, 1976, 2026, 2049, 2050, 2099, i32::MAX]);
    for year in years {
        let seconds = date.unix_seconds(year);
        assert_eq!(seconds, expected.unix_seconds(year.into()), "F9: {date:?} near {year}");
        if let Some(seconds) = seconds {
            assert_eq!(i64::from(year_of(seconds)), second_reader::year_of(seconds), "{date:?}");
        }
    }
}
