//! Hostile responses (H1, I11): huge values, thousands of headers, any byte, numbers and dates at their limits, fields that
//! contradict each other. Reading gives a defined result in time linear in the input. With quadratic time these tests would
//! not end.

use std::time::Duration;

use retry_machine::{HeaderField, HintSource, Policy, RejectReason, Reply};

const NAMES: [&str; 13] = [
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "ratelimit",
    "ratelimit-policy",
    "www-authenticate",
    "date",
];

/// Each hostile value repeats one of these pieces, which parsers skip, begin a new element with, or look ahead for.
const PIECES: [&str; 22] = [
    " ",
    "\t",
    "0",
    "9",
    ",",
    ", ",
    ";",
    "\"",
    "\\",
    "\"\\",
    "a=",
    "a;",
    "a;b=1,",
    "Bearer ",
    "Bearer error=",
    "(",
    "((",
    "?",
    ":",
    "Sun, 06 Nov 1994 ",
    "\0",
    "\u{fc}",
];

fn read(headers: &[(&str, &[u8])]) -> Reply {
    Policy::flextell().read_at(Some(Duration::from_secs(1_700_000_000)), 429, headers.iter().copied())
}

#[test]
fn h1_a_megabyte_of_anything_in_any_field_is_read_in_linear_time() {
    for piece in PIECES {
        let value = piece.repeat((1 << 20) / piece.len());
        for name in NAMES {
            let reply = read(&[(name, value.as_bytes())]);
            let digits = piece == "0" || piece == "9";
            assert!(
                digits || !reply.rejected().is_empty() || value.trim_matches([' ', '\t']).is_empty(),
                "{name}: {piece:?}"
            );
        }
    }
}

#[test]
fn h1_ten_thousand_headers_are_read_in_one_pass() {
    let noise: Vec<_> = (0..10_000).map(|n| (format!("x-noise-{n}"), "1")).collect();
    let mut headers: Vec<(&str, &[u8])> = noise.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    headers.insert(9_999, ("Retry-After", b"30"));
    assert_eq!(read(&headers).hint().unwrap().wait(), Duration::from_secs(30));

    // H6: of ten thousand values of one field the latest wins.
    let values: Vec<_> = (0..10_000).map(|n| (n * 7_919 % 10_007).to_string()).collect();
    let headers: Vec<(&str, &[u8])> = values.iter().map(|value| ("retry-after", value.as_bytes())).collect();
    let reply = read(&headers);
    let latest = values.iter().map(|value| value.parse::<u64>().unwrap()).max().unwrap();
    assert_eq!(reply.hint().unwrap().wait(), Duration::from_secs(latest));
    assert_eq!(reply.rejected().iter().collect::<Vec<_>>(), [(HeaderField::RetryAfter, RejectReason::Duplicate)]);
}

#[test]
fn h1_every_byte_is_accepted_in_every_place() {
    for byte in 0..=u8::MAX {
        for name in NAMES {
            for value in [vec![byte], vec![b'3', byte, b'0'], vec![byte; 300]] {
                let reply = read(&[(name, &value)]);
                assert_eq!(reply, read(&[(name, &value)]), "{name}: {value:?}");
            }
        }
        // H1: a name with other bytes is unknown.
        assert_eq!(read(&[(&char::from(byte).to_string(), b"30")]), Reply::new(429));
    }
}

#[test]
fn h2_four_hundred_digits_saturate() {
    let digits = "9".repeat(400);
    for (name, source) in [("retry-after", HintSource::RetryAfter), ("retry-after-ms", HintSource::RetryAfterMs)] {
        let hint = read(&[(name, digits.as_bytes())]).hint().unwrap();
        assert_eq!((hint.wait(), hint.source()), (Duration::from_nanos(u64::MAX), source));
    }
    let headers = [("x-ratelimit-limit", digits.as_bytes()), ("x-ratelimit-remaining", digits.as_bytes())];
    let reply = read(&headers);
    assert_eq!((reply.limit(), reply.remaining()), (Some(u64::MAX), Some(u64::MAX)));
    // Bug 17 of docs/peer_bugs.md: neither a panic nor a wait into the past.
    for value in ["-9223372036854775808", "9223372036854775807", "9223372036854775808", "18446744073709551616"] {
        let reply = read(&[("x-ratelimit-remaining", b"0"), ("x-ratelimit-reset", value.as_bytes())]);
        assert_eq!(reply.hint().is_none(), value.starts_with('-'), "{value}");
    }
}

#[test]
fn h2_obs_fold_and_nul_are_malformed() {
    for value in ["30\r\n", "30\r\n 40", "\0", "30\0", "\u{661}\u{662}", "\u{ff13}\u{ff10}"] {
        let reply = read(&[("retry-after", value.as_bytes())]);
        assert_eq!(reply.hint(), None, "{value:?}");
        assert_eq!(reply.rejected().iter().collect::<Vec<_>>(), [(HeaderField::RetryAfter, RejectReason::Malformed)]);
    }
}

#[test]
fn h3_the_first_and_the_last_date_of_the_calendar_are_read() {
    let hint = |date: &str, now: &str| {
        let reply = read(&[("retry-after", date.as_bytes()), ("date", now.as_bytes())]);
        reply.hint().map(|hint| hint.wait())
    };
    let (first, last) = ("Sat, 01 Jan 0000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:60 GMT");
    assert_eq!(hint(first, last), Some(Duration::ZERO));
    assert_eq!(hint(last, "Fri, 31 Dec 9999 23:59:30 GMT"), Some(Duration::from_secs(30)));
    // Ten thousand years have more nanoseconds than a `u64` holds.
    assert_eq!(hint(last, first), Some(Duration::from_nanos(u64::MAX)));
}

#[test]
fn h6_fields_that_contradict_each_other_give_the_latest_that_counts() {
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("retry-after", b"5"),
        ("retry-after", b"Tue, 14 Nov 2023 22:13:30 GMT"),
        ("retry-after", b"soon"),
        ("date", b"Tue, 14 Nov 2023 22:13:20 GMT"),
        ("date", b"yesterday"),
        ("x-ratelimit-remaining", b"9"),
        ("x-ratelimit-remaining", b"0"),
        ("x-ratelimit-reset", b"40"),
        ("ratelimit-remaining", b"3"),
        ("ratelimit-reset", b"500"),
        ("ratelimit", b"\"a\";r=0;t=60, \"b\";r=7;t=600"),
    ];
    let reply = read(&headers);
    assert_eq!(reply.hint().unwrap().wait(), Duration::from_secs(10));
    assert_eq!((reply.remaining(), reply.reset()), (Some(0), Some(Duration::from_secs(40))));
    // Their order changes nothing.
    for _ in 0..headers.len() {
        headers.rotate_left(1);
        assert_eq!(read(&headers), reply);
    }
}
