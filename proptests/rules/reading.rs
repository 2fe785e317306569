//! Reading a reply's headers: H1–H7.

use std::time::Duration;

use retry_machine::{BearerErrorCode, HeaderField, HintSource, Policy, RejectReason, Reply};

use crate::support::{ms, secs};

/// 2023-11-14 22:13:20 UTC.
const NOW: u64 = 1_700_000_000;
const DATE: (&str, &str) = ("Date", "Tue, 14 Nov 2023 22:13:20 GMT");

fn read(headers: &[(&str, &str)]) -> Reply {
    Policy::flextell().read(429, headers.iter().copied())
}

fn hint(headers: &[(&str, &str)]) -> Option<(Duration, HintSource)> {
    read(headers).hint().map(|hint| (hint.wait(), hint.source()))
}

fn retry_after(value: &str) -> Option<Duration> {
    hint(&[("Retry-After", value), DATE]).map(|(wait, _)| wait)
}

fn rejected(headers: &[(&str, &str)]) -> Vec<(HeaderField, RejectReason)> {
    read(headers).rejected().iter().collect()
}

// ---- H1 ----

#[test]
fn h1_names_match_in_any_case() {
    for name in ["retry-after", "Retry-After", "RETRY-AFTER", "rEtRy-aFtEr"] {
        assert_eq!(hint(&[(name, "30")]), Some((secs(30), HintSource::RetryAfter)), "{name}");
    }
}

#[test]
fn h1_only_the_known_names_are_looked_at() {
    for name in ["Retry-Afte", "Retry-After ", "XRetry-After", "Retry_After", "", "Age", "Expires"] {
        assert_eq!(read(&[(name, "30")]), Reply::new(429), "{name:?}");
    }
}

#[test]
fn h1_values_may_be_any_bytes() {
    for byte in 0..=u8::MAX {
        for value in [vec![byte], vec![b'1', byte], vec![byte, b'1'], vec![0xff, byte, 0xc3]] {
            for name in ["Retry-After", "Date", "RateLimit", "WWW-Authenticate", "X-RateLimit-Reset"] {
                let reply = Policy::flextell().read(429, [(name.as_bytes(), &value)]);
                let known_wait = reply.hint().is_none_or(|hint| hint.wait() <= secs(99));
                assert!(known_wait, "{name}: {value:?}");
            }
        }
    }
}

#[test]
fn h1_headers_can_be_fed_one_by_one() {
    let headers = [("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT"), DATE, ("X-RateLimit-Limit", "60")];
    let mut reader = Policy::flextell().reader(None, 429);
    for (name, value) in headers {
        reader.feed(name.as_bytes(), value.as_bytes());
    }
    let reply = reader.finish();
    assert_eq!(reply, read(&headers));
    assert_eq!((reply.hint().unwrap().wait(), reply.limit()), (secs(30), Some(60)));
}

// ---- H2 ----

#[test]
fn h2_retry_after_is_whole_seconds() {
    for (value, seconds) in [("0", 0), ("1", 1), ("30", 30), ("007", 7), ("86400", 86_400)] {
        assert_eq!(retry_after(value), Some(secs(seconds)), "{value:?}");
    }
}

#[test]
fn h2_optional_white_space_around_it_is_ignored() {
    for value in [" 30", "30 ", "\t30\t", " \t 30 \t "] {
        assert_eq!(retry_after(value), Some(secs(30)), "{value:?}");
    }
}

#[test]
fn h2_anything_else_is_malformed() {
    let values = [
        "", " ", "soon", "+30", "-3", "-0", "30.", ".5", "1e3", "1E3", "0x10", "30s", "30 s", "3 0", "120, 60",
        "30;q=1", "inf", "nan", "infinity", "null", "٣٠", "３０", "30\u{a0}", "\"30\"", "30\n", "30\r\n",
    ];
    for value in values {
        let headers = [("Retry-After", value)];
        assert_eq!(hint(&headers), None, "{value:?}");
        assert_eq!(rejected(&headers), [(HeaderField::RetryAfter, RejectReason::Malformed)], "{value:?}");
    }
}

#[test]
fn h2_too_many_digits_saturate() {
    for value in ["9999999999999999999", "99999999999999999999999999999999", "18446744073709551616"] {
        assert_eq!(retry_after(value), Some(Duration::from_nanos(u64::MAX)), "{value}");
        assert_eq!(rejected(&[("Retry-After", value)]), []);
    }
}

// ---- H3 ----

#[test]
fn h3_all_three_forms_of_a_date_are_accepted() {
    for date in ["Tue, 14 Nov 2023 22:13:50 GMT", "Tuesday, 14-Nov-23 22:13:50 GMT", "Tue Nov 14 22:13:50 2023"] {
        assert_eq!(retry_after(date), Some(secs(30)), "{date}");
    }
}

#[test]
fn h3_dates_are_case_sensitive_and_utc() {
    for date in ["tue, 14 Nov 2023 22:13:50 GMT", "Tue, 14 nov 2023 22:13:50 GMT", "Tue, 14 Nov 2023 22:13:50 gmt"] {
        assert_eq!(retry_after(date), None, "{date}");
    }
    for zone in ["UTC", "CET", "+0000", "EST", ""] {
        assert_eq!(retry_after(&format!("Tue, 14 Nov 2023 22:13:50 {zone}")), None, "{zone}");
    }
}

#[test]
fn h3_second_60_is_accepted_and_impossible_dates_are_not() {
    assert_eq!(retry_after("Tue, 14 Nov 2023 22:13:60 GMT"), Some(secs(40)));
    for date in [
        "Tue, 31 Feb 2024 00:00:00 GMT",
        "Tue, 29 Feb 2023 00:00:00 GMT",
        "Tue, 31 Nov 2023 22:13:50 GMT",
        "Tue, 00 Nov 2023 22:13:50 GMT",
        "Tue, 14 Nov 2023 24:00:00 GMT",
        "Tue, 14 Nov 2023 22:60:00 GMT",
        "Tue, 14 Nov 2023 22:13:61 GMT",
    ] {
        assert_eq!(retry_after(date), None, "{date}");
    }
}

#[test]
fn h3_a_wrong_weekday_does_not_matter() {
    assert_eq!(retry_after("Fri, 14 Nov 2023 22:13:50 GMT"), Some(secs(30)));
}

#[test]
fn h3_a_two_digit_year_is_at_most_fifty_years_after_the_reference() {
    // The reference is `Date`, in 2023: 73 is 2073, 74 is 1974.
    assert_eq!(retry_after("Tuesday, 14-Nov-74 22:13:20 GMT"), Some(secs(0)));
    assert!(retry_after("Tuesday, 14-Nov-73 22:13:20 GMT").unwrap() > secs(49 * 365 * 86_400));
}

#[test]
fn h3_without_a_date_the_wall_clock_is_the_reference_of_short_years() {
    // 2080-01-01: 81 is a year ahead.
    let wall_clock = secs(3_471_292_800);
    let headers = [("Retry-After", "Wednesday, 01-Jan-81 00:00:00 GMT")];
    let reply = Policy::flextell().read_at(Some(wall_clock), 429, headers);
    assert_eq!(reply.hint().unwrap().wait(), secs(366 * 86_400));
}

#[test]
fn h3_a_leap_day_of_a_century_without_one_is_malformed() {
    // In 2060 the latest year with these digits, at most 2110, is 2100.
    let date = ("Date", "Thu, 01 Jan 2060 00:00:00 GMT");
    let leap_day = ("Retry-After", "Monday, 29-Feb-00 00:00:00 GMT");
    assert_eq!(hint(&[leap_day, date]), None);
    assert_eq!(rejected(&[leap_day, date]), [(HeaderField::RetryAfter, RejectReason::Malformed)]);
}

// ---- H4 ----

#[test]
fn h4_a_date_of_the_response_may_have_a_two_digit_year() {
    let date = ("Date", "Tuesday, 14-Nov-23 22:13:20 GMT");
    let after = ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT");
    for wall_clock in [None, Some(secs(NOW + 86_400))] {
        // The second `Date` is the same instant.
        let reply = Policy::flextell().read_at(wall_clock, 429, [after, date, DATE]);
        assert_eq!(reply.hint().unwrap().wait(), secs(30));
        assert!(reply.rejected().is_empty(), "{}", reply.rejected());
    }
}

#[test]
fn h4_a_date_counts_from_the_responses_own_date_in_any_order() {
    let date = ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT");
    assert_eq!(hint(&[date, DATE]), Some((secs(30), HintSource::RetryAfter)));
    assert_eq!(hint(&[DATE, date]), Some((secs(30), HintSource::RetryAfter)));
}

#[test]
fn h4_the_clients_wrong_clock_does_not_matter_beside_a_date() {
    for wall_clock in [0, NOW - 86_400, NOW + 86_400] {
        let headers = [("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT"), DATE];
        let reply = Policy::flextell().read_at(Some(secs(wall_clock)), 429, headers);
        assert_eq!(reply.hint().unwrap().wait(), secs(30));
    }
}

#[test]
fn h4_without_a_usable_date_the_wall_clock_counts() {
    let after = ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT");
    for headers in [vec![after], vec![after, ("Date", "yesterday")]] {
        let reply = Policy::flextell().read_at(Some(ms(NOW * 1_000 + 250)), 429, headers);
        assert_eq!(reply.hint().unwrap().wait(), ms(29_750));
    }
}

#[test]
fn h4_without_any_clock_the_hint_is_dropped_and_the_reason_kept() {
    let headers = [("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT")];
    assert_eq!(hint(&headers), None);
    assert_eq!(rejected(&headers), [(HeaderField::RetryAfter, RejectReason::NoClock)]);
}

#[test]
fn h4_a_date_in_the_past_is_a_hint_of_zero() {
    assert_eq!(retry_after("Tue, 14 Nov 2023 22:13:19 GMT"), Some(Duration::ZERO));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
}

// ---- H6 ----

#[test]
fn h6_milliseconds_win_over_retry_after_and_that_over_a_reset() {
    let millis = ("retry-after-ms", "1500");
    let seconds = ("Retry-After", "9");
    let limits = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")];
    assert_eq!(hint(&[limits[0], limits[1], seconds, millis]), Some((ms(1_500), HintSource::RetryAfterMs)));
    assert_eq!(hint(&[limits[0], limits[1], seconds]), Some((secs(9), HintSource::RetryAfter)));
    assert_eq!(hint(&limits), Some((secs(60), HintSource::RateLimitReset)));
}

#[test]
fn h6_zero_is_valid_and_ends_the_search() {
    assert_eq!(hint(&[("retry-after-ms", "0"), ("Retry-After", "9")]), Some((secs(0), HintSource::RetryAfterMs)));
    let limits = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")];
    assert_eq!(hint(&[("Retry-After", "0"), limits[0], limits[1]]), Some((secs(0), HintSource::RetryAfter)));
}

#[test]
fn h6_of_two_values_the_later_time_wins() {
    for values in [["5", "60"], ["60", "5"]] {
        let headers = values.map(|value| ("Retry-After", value));
        assert_eq!(hint(&headers), Some((secs(60), HintSource::RetryAfter)));
        assert_eq!(rejected(&headers), [(HeaderField::RetryAfter, RejectReason::Duplicate)]);
    }
    let equal = [("Retry-After", "5"), ("Retry-After", "5")];
    assert_eq!((hint(&equal), rejected(&equal)), (Some((secs(5), HintSource::RetryAfter)), vec![]));
    let mixed = [("Retry-After", "5"), ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT"), DATE];
    assert_eq!(hint(&mixed), Some((secs(30), HintSource::RetryAfter)));
    assert_eq!(rejected(&mixed), [(HeaderField::RetryAfter, RejectReason::Duplicate)]);
}

#[test]
fn h6_two_different_values_are_reported_as_duplicates() {
    let soon = "Tue, 14 Nov 2023 22:13:30 GMT";
    let later = "Tue, 14 Nov 2023 22:13:50 GMT";
    let [short_soon, short_later] = ["Tuesday, 14-Nov-23 22:13:30 GMT", "Tuesday, 14-Nov-23 22:13:50 GMT"];
    let different: [&[&str]; 10] = [
        &["5", "30"],
        &["30", "5"],
        &["30", "30", "5"],
        &[soon, later],
        &[short_later, short_soon],
        &[short_soon, later],
        &["10", later],
        &["29", later],
        // The value that lost is reported.
        &["5", "30", later],
        &[soon, later, "30"],
    ];
    for values in different {
        let headers: Vec<_> = values.iter().map(|value| ("Retry-After", *value)).chain([DATE]).collect();
        assert_eq!(hint(&headers), Some((secs(30), HintSource::RetryAfter)), "{values:?}");
        assert_eq!(rejected(&headers), [(HeaderField::RetryAfter, RejectReason::Duplicate)], "{values:?}");
    }
    for equal in [["30", later], [later, short_later], [short_later, "30"], [later, later], [short_later, short_later]]
    {
        let headers: Vec<_> = equal.iter().map(|value| ("Retry-After", *value)).chain([DATE]).collect();
        assert_eq!(hint(&headers), Some((secs(30), HintSource::RetryAfter)), "{equal:?}");
        assert_eq!(rejected(&headers), [], "{equal:?}");
    }
}

#[test]
fn h6_d16_a_driver_may_set_the_hint_itself() {
    let reply = read(&[("Retry-After", "9")]).with_hint(ms(1_500));
    assert_eq!(reply.hint().map(|hint| (hint.wait(), hint.source())), Some((ms(1_500), HintSource::Told)));
}

#[test]
fn h6_a_malformed_field_falls_through_and_is_reported() {
    let headers = [("retry-after-ms", "1.5.0"), ("Retry-After", "9")];
    assert_eq!(hint(&headers), Some((secs(9), HintSource::RetryAfter)));
    assert_eq!(rejected(&headers), [(HeaderField::RetryAfterMs, RejectReason::Malformed)]);
    assert_eq!(format!("{:?}", read(&headers).rejected()), "{(RetryAfterMs, Malformed)}");
    let names = [RejectReason::Malformed, RejectReason::NoClock, RejectReason::Duplicate, RejectReason::Void]
        .map(RejectReason::name);
    assert_eq!(names, ["malformed", "no_clock", "duplicate", "void"]);
    let half = [("Retry-After", "soon"), ("Retry-After", "9")];
    assert_eq!(hint(&half), Some((secs(9), HintSource::RetryAfter)));
    assert_eq!(rejected(&half), [(HeaderField::RetryAfter, RejectReason::Malformed)]);
}

// ---- H7 ----

fn challenge(lines: &[&str]) -> Option<BearerErrorCode> {
    let headers: Vec<_> = lines.iter().map(|line| ("WWW-Authenticate", *line)).collect();
    Policy::flextell().read(401, headers).challenge()
}

#[test]
fn h7_the_error_of_a_bearer_challenge_is_read() {
    let expired = r#"Bearer realm="api", error="invalid_token", error_description="it \"expired\", sorry""#;
    assert_eq!(challenge(&[expired]), Some(BearerErrorCode::InvalidToken));
    assert_eq!(challenge(&["bearer ERROR=insufficient_scope"]), Some(BearerErrorCode::InsufficientScope));
    assert_eq!(
        challenge(&[r#"Negotiate dG9rZW4=, , Bearer error="invalid_token""#]),
        Some(BearerErrorCode::InvalidToken)
    );
    assert_eq!(challenge(&["Basic realm=x", r#"Bearer error="token_revoked""#]), Some(BearerErrorCode::TokenRevoked));
    assert_eq!(challenge(&["Bearer error=\"new\""]).map(BearerErrorCode::name), Some("other"));
}

#[test]
fn h7_an_error_in_a_quoted_realm_or_of_another_scheme_is_ignored() {
    assert_eq!(challenge(&[r#"Bearer realm="error=\"invalid_token\"""#]), None);
    assert_eq!(challenge(&[r#"Bearer realm=a, DPoP error="insufficient_scope""#]), None);
    assert_eq!(challenge(&[r#"Digest error="insufficient_scope""#]), None);
}

#[test]
fn h7_of_several_errors_insufficient_scope_wins() {
    let (scope, token) = (r#"Bearer error="insufficient_scope""#, r#"Bearer error="invalid_token""#);
    for lines in [[scope, token], [token, scope]] {
        assert_eq!(challenge(&lines), Some(BearerErrorCode::InsufficientScope));
        assert_eq!(challenge(&[&lines.join(", ")]), Some(BearerErrorCode::InsufficientScope));
    }
}

#[test]
fn f9_a_malformed_challenge_voids_its_line_only() {
    let lines = [r#"Bearer error="insufficient_scope"#, r#"Bearer error="invalid_token""#];
    assert_eq!(challenge(&lines), Some(BearerErrorCode::InvalidToken));
    for malformed in ["Bearer =", r#"Bearer "x""#] {
        assert_eq!(
            rejected(&[("WWW-Authenticate", malformed)]),
            [(HeaderField::WwwAuthenticate, RejectReason::Malformed)]
        );
    }
}
