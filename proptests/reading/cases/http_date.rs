//! Single HTTP-dates (H3, F9).

use retry_machine::fuzzing::http_date::{HttpDate, year_of};

/// The example instant of RFC 9110 §5.6.7.
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
                read(&format!("{imf_asctime}, 06 Nov 1994 08:49:37 GMT")),
                read(&format!("{imf_asctime} Nov  6 08:49:37 1994")),
                read(&format!("{rfc850}, 06-Nov-94 08:49:37 GMT")),
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
fn h3_only_the_grammar_is_accepted() {
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
        let midnight = |day| read(&format!("Sun, {day:02} {month} 2023 00:00:00 GMT"));
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
        let value = format!("Friday, 01-Jan-{two_digits:02} 00:00:00 GMT");
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
        let start = read(&format!("Sat, 01 Jan {year:04} 00:00:00 GMT")).unwrap();
        let end = read(&format!("Sat, 31 Dec {year:04} 23:59:59 GMT")).unwrap();
        assert_eq!((year_of(start), year_of(end)), (year, year));
        assert_eq!(year_of(start - 1), (year - 1).max(0));
        assert_eq!(year_of(end + 1), (year + 1).min(9999));
    }
    assert_eq!((year_of(i64::MIN), year_of(i64::MAX)), (0, 9999));
}
