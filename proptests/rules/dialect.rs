//! Reading by the policy: decimals, further spellings, a service's own names (H2, H5, H6, H11).

use std::time::Duration;

use retry_machine::{
    DialectField, FailureKind, FieldMeaning, HeaderField, HintSource, Policy, PolicyError, RejectReason, Reply,
    ResetFormat, TimeUnit,
};

use crate::support::{Answer, Scene, exact, ms, secs};

fn read(headers: &[(&str, &str)]) -> Reply {
    Policy::flextell().read(429, headers.iter().copied())
}

fn hint(headers: &[(&str, &str)]) -> Option<Duration> {
    read(headers).hint().map(|hint| hint.wait())
}

/// Reads one field whose name has this meaning.
fn own(meaning: FieldMeaning, value: &str) -> Reply {
    let table = Box::leak(Box::new([DialectField::new("X-Own", meaning)]));
    let policy = exact().dialect(table).build().unwrap();
    // 2026-11-26T10:00:00Z.
    policy.read_at(Some(Duration::from_secs(1_795_687_200)), 429, [("x-oWN", value)])
}

// ---- H2 ----

#[test]
fn h2_decimals_are_read_and_rounded_up_to_whole_milliseconds() {
    let cases = [
        ("2.0", ms(2_000)),
        ("2.5", ms(2_500)),
        ("0.0", ms(0)),
        ("0.0001", ms(1)),
        ("1.2340", ms(1_234)),
        ("1.2341", ms(1_235)),
        ("1.9999", ms(2_000)),
        ("599.0", ms(599_000)),
        ("007.50", ms(7_500)),
        ("1.00000000000000000000000000000000001", ms(1_001)),
    ];
    for (value, wait) in cases {
        assert_eq!(hint(&[("Retry-After", value)]), Some(wait), "{value}");
        assert_eq!(hint(&[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", value)]), Some(wait), "{value}");
        assert_eq!(hint(&[("RateLimit-Remaining", "0"), ("RateLimit-Reset", value)]), Some(wait), "{value}");
    }
    for (value, wait) in [("1.5", ms(2)), ("1500.0", ms(1_500)), ("0.1", ms(1)), ("0.0", ms(0))] {
        assert_eq!(hint(&[("retry-after-ms", value)]), Some(wait), "{value}");
        assert_eq!(hint(&[("x-ms-retry-after-ms", value)]), Some(wait), "{value}");
    }
    // A Unix time, against the response's own clock.
    let date = ("Date", "Thu, 26 Nov 2026 10:00:00 GMT");
    let reset = |value| hint(&[date, ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", value)]);
    assert_eq!(reset("1795687201.2301"), Some(ms(1_231)));
    assert_eq!(reset("1795687201230.5"), Some(ms(1_231)));
}

#[test]
fn h2_what_only_looks_like_a_decimal_is_malformed() {
    for value in ["2.", ".5", ".", "2.0.0", "2,0", "+2.0", "-2.0", "2.0e1", "0x2.0", "2. 0", "2.0s", "1_0.0", "٢.0"] {
        assert_eq!(hint(&[("Retry-After", value)]), None, "{value}");
        assert_eq!(hint(&[("retry-after-ms", value)]), None, "{value}");
    }
    let huge = "9".repeat(400);
    let saturated = Duration::from_nanos(u64::MAX);
    assert_eq!(hint(&[("Retry-After", &format!("{huge}.{huge}"))]), Some(saturated));
    assert_eq!(hint(&[("retry-after-ms", &format!("{huge}.5"))]), Some(saturated));
}

#[test]
fn h2_decimal_counts_are_cut() {
    assert_eq!(read(&[("X-RateLimit-Remaining", "588.9")]).remaining(), Some(588));
    assert_eq!(read(&[("X-RateLimit-Remaining", "0.9")]).remaining(), Some(0));
    assert_eq!(read(&[("X-RateLimit-Remaining", ".9")]).remaining(), None);
}

// ---- H5 ----

#[test]
fn h5_the_other_spelling_of_the_family_is_read() {
    for prefix in ["X-RateLimit", "X-Rate-Limit", "x-rate-limit"] {
        let [limit, remaining, reset, after] =
            ["Limit", "Remaining", "Reset", "Reset-After"].map(|n| format!("{prefix}-{n}"));
        let reply = read(&[(&limit, "60"), (&remaining, "0"), (&reset, "12")]);
        assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(60), Some(0), Some(secs(12))));
        assert_eq!(reply.hint().unwrap().source(), HintSource::RateLimitReset);
        let reply = read(&[(&remaining, "0"), (&after, "1.2341")]);
        assert_eq!(reply.hint().map(|hint| hint.wait()), Some(ms(1_235)));
    }
}

#[test]
fn h5_reset_after_is_seconds_whatever_the_format_of_reset() {
    for format in [ResetFormat::Auto, ResetFormat::Unix, ResetFormat::Delta] {
        let policy = exact().rate_limit_reset(format).build().unwrap();
        let reply = policy.read(429, [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-After", "64.57")]);
        assert_eq!(reply.hint().map(|hint| hint.wait()), Some(ms(64_570)), "{format:?}");
    }
}

#[test]
fn h5_the_later_of_reset_and_reset_after_counts_and_neither_is_a_duplicate() {
    let date = ("Date", "Thu, 26 Nov 2026 10:00:00 GMT");
    let reply = read(&[
        date,
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", "1795687201.5"),
        ("X-RateLimit-Reset-After", "1.234"),
    ]);
    assert_eq!(reply.hint().map(|hint| hint.wait()), Some(ms(1_500)));
    assert!(reply.rejected().is_empty());
}

#[test]
fn h5_counts_may_have_a_window_behind_them() {
    for value in ["100;w=21600", "100 ; w=21600", "100;", "100;w=60;comment=\"x\"", "100"] {
        assert_eq!(read(&[("RateLimit-Limit", value)]).limit(), Some(100), "{value}");
        assert_eq!(read(&[("ratelimit-remaining", value)]).remaining(), Some(100), "{value}");
    }
    for value in [";w=60", "w=60;100", "100,w=60", ""] {
        assert_eq!(read(&[("RateLimit-Limit", value)]).limit(), None, "{value}");
    }
}

#[test]
fn h5_the_dictionary_of_draft_7_is_read() {
    let reply = read(&[("RateLimit", "limit=100, remaining=0, reset=50")]);
    assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(100), Some(0), Some(secs(50))));
    assert_eq!(reply.hint().map(|hint| hint.wait()), Some(secs(50)));
    // In any order, over several lines, with white space.
    let reply = read(&[("RateLimit", "reset=7"), ("RateLimit", " remaining=0 ,\tlimit=3")]);
    assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(3), Some(0), Some(secs(7))));
    // A bad value drops its member, also a decimal: this is a structured field.
    let reply = read(&[("RateLimit", "limit=x, remaining=0, reset=5.0")]);
    assert_eq!((reply.limit(), reply.remaining(), reply.reset(), reply.hint()), (None, Some(0), None, None));
    assert_eq!(reply.rejected().iter().collect::<Vec<_>>(), [(HeaderField::RateLimit, RejectReason::Malformed)]);
    // An Integer has at most 15 digits.
    let reply = read(&[("RateLimit", "limit=999999999999999, remaining=0")]);
    assert_eq!((reply.limit(), reply.remaining()), (Some(999_999_999_999_999), Some(0)));
    assert_eq!(read(&[("RateLimit", "remaining=0, limit=1234567890123456")]).remaining(), None);
    // Parameters say nothing, and a bad value does not take a good one back.
    let reply = read(&[("RateLimit", "limit=100;w=60, remaining=0;a=\"b,c\", reset=5, reset=-2")]);
    assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(100), Some(0), Some(secs(5))));
    // A policy of the current draft can have the name of a key.
    assert_eq!(read(&[("RateLimit", "limit;r=0;t=5")]).reset(), Some(secs(5)));
    // A syntax error voids the field with all its lines.
    for broken in ["limit=4 ;w=60", "limit=4;1", "limit=4;", "limit=4,", "limit=", "limit=4 remaining=0", "limit=4, =5"]
    {
        let reply = read(&[("RateLimit", "remaining=0, reset=5"), ("RateLimit", broken)]);
        assert_eq!((reply.limit(), reply.remaining(), reply.hint()), (None, None, None), "{broken}");
        assert_eq!(reply.rejected().iter().collect::<Vec<_>>(), [(HeaderField::RateLimit, RejectReason::Void)]);
    }
    // Any other key makes it something else.
    assert_eq!(read(&[("RateLimit", "limit=100, remaining=0, reset=50, extra=1")]).remaining(), None);
}

#[test]
fn h11_the_name_of_a_meaning_is_not_a_field() {
    for name in ["verdict", "Pushback"] {
        let reply = read(&[(name, "retry"), (name, "1")]);
        assert_eq!((reply.hint(), reply.rejected().iter().count()), (None, 0), "{name}");
    }
}

// ---- H6 ----

#[test]
fn h6_what_decides_the_hint_decides_the_gate() {
    // Azure DevOps: `Retry-After` beside a reset that is minutes away.
    let headers = [("Retry-After", "4"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "300")];
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &headers).is("wait 4000 retry_after");
    scene.at(0).request(1).start().is("wait 4000 gate");
    // A 2xx that says that nothing is left closes it until the effective hint, too.
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(200, &headers).is("done 200");
    scene.at(0).request(1).start().is("wait 4000 gate");
}

#[test]
fn h6_h10_where_the_gate_stays_open() {
    let exhausted = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "30")];
    let left = [("Retry-After", "30"), ("X-RateLimit-Remaining", "1")];
    let zero = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "0")];
    type Case<'a> = (u16, &'a [(&'a str, &'a str)], bool);
    let cases: [Case<'_>; 10] = [
        (200, &exhausted, true),
        (404, &exhausted, true),
        (503, &exhausted, true),
        (429, &exhausted, true),
        (302, &exhausted, false),
        (401, &exhausted, false),
        (200, &left, false),
        (404, &left, false),
        (503, &left, false),
        (429, &zero, false),
    ];
    for (status, headers, closes) in cases {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let _ = scene.at(0).reply_with(status, headers);
        // K3: nobody sends with a refused token.
        scene.at(0).token_replaced();
        let expected = if closes { "wait 30000 gate" } else { "send 1 token 1" };
        assert_eq!(scene.at(0).request(1).start().short(), expected, "{status} {headers:?}");
    }
}

// ---- H11 ----

#[test]
fn h11_each_meaning_and_unit_of_an_own_name() {
    use FieldMeaning::{Limit, Remaining, Reset, UsedOfLimit, Wait};
    use TimeUnit::{Milliseconds, Seconds, Unix, UnixMilliseconds};
    let waits = [
        (Seconds, "1.5", ms(1_500), HintSource::RetryAfter),
        (Milliseconds, "1.5", ms(2), HintSource::RetryAfterMs),
        (Unix, "1795687201", ms(1_000), HintSource::RetryAfter),
        (UnixMilliseconds, "1795687200250", ms(250), HintSource::RetryAfter),
    ];
    for (unit, value, wait, source) in waits {
        let hint = own(Wait(unit), value).hint().unwrap();
        assert_eq!((hint.wait(), hint.source()), (wait, source), "{unit:?}");
        let reply = own(Reset(unit), value);
        assert_eq!((reply.reset(), reply.hint()), (Some(wait), None), "{unit:?}");
    }
    assert_eq!(own(Remaining, "7.9").remaining(), Some(7));
    assert_eq!(own(Limit, "7;w=1").limit(), Some(7));
    for (value, remaining, limit) in [
        ("32/40", 8, 40),
        ("18;w=60/5000", 4982, 5000),
        ("api-usage=18;w=60/5000", 4982, 5000),
        ("40/40", 0, 40),
        ("41/40", 0, 40),
        ("api-usage=18/5000", 4_982, 5_000),
        (" 1.0 / 2.0 ", 1, 2),
    ] {
        let reply = own(UsedOfLimit, value);
        assert_eq!((reply.remaining(), reply.limit()), (Some(remaining), Some(limit)), "{value}");
    }
    for malformed in ["32", "32/", "/40", "a/b", "1/2/3", "=/", ""] {
        let reply = own(UsedOfLimit, malformed);
        assert_eq!((reply.remaining(), reply.limit()), (None, None), "{malformed}");
        assert!(!reply.rejected().is_empty(), "{malformed}");
    }
}

#[test]
fn h11_an_own_name_goes_before_the_name_that_every_service_uses() {
    const JIRA: &[DialectField] = &[DialectField::new("Retry-After", FieldMeaning::Wait(TimeUnit::Milliseconds))];
    let policy = exact().dialect(JIRA).build().unwrap();
    assert_eq!(policy.read(429, [("retry-after", "30")]).hint().map(|hint| hint.wait()), Some(ms(30)));
}

#[test]
fn h11_a_table_is_checked_by_the_builder() {
    const fn named(name: &'static str) -> DialectField {
        DialectField::new(name, FieldMeaning::Limit)
    }
    let refused: [(&'static [DialectField], PolicyError, &str); 4] = [
        (
            const { &[named("a"), named("")] },
            PolicyError::DialectNameEmpty { entry: 1 },
            "dialect: entry 1 has an empty name",
        ),
        (
            const { &[named("a"), named("b"), named("A")] },
            PolicyError::DialectNameTwice { entry: 2 },
            "dialect: entry 2 has the name of an earlier entry",
        ),
        (
            const { &[named("x y")] },
            PolicyError::DialectNameInvalid { entry: 0 },
            "dialect: the name of entry 0 is not a field name",
        ),
        (
            const { &[named("größe")] },
            PolicyError::DialectNameInvalid { entry: 0 },
            "dialect: the name of entry 0 is not a field name",
        ),
    ];
    for (table, error, text) in refused {
        let refused = exact().dialect(table).build().unwrap_err();
        assert_eq!((refused, refused.to_string().as_str()), (error, text));
    }
    // A policy in a constant is checked by the compiler.
    const POLICY: Policy = match Policy::flextell().into_builder().dialect(&[named("x-limit")]).build() {
        Ok(policy) => policy,
        Err(_) => panic!("a dialect that is refused"),
    };
    assert_eq!(POLICY.read(200, [("X-Limit", "5")]).limit(), Some(5));
}

#[test]
fn h11_durations_are_read() {
    let wait = |value: &str| own(FieldMeaning::Wait(TimeUnit::Duration), value).hint().map(|hint| hint.wait());
    let cases = [
        ("6m0s", ms(360_000)),
        ("1.5s", ms(1_500)),
        ("1h2m3s", ms(3_723_000)),
        ("120ms", ms(120)),
        ("1d", secs(86_400)),
        ("0", ms(0)),
        ("0s", ms(0)),
        ("1.0000001ms", ms(2)),
        ("1us", ms(1)),
        ("1µs", ms(1)),
        ("1μs", ms(1)),
        ("999999ns", ms(1)),
        ("1000001ns", ms(2)),
        ("0.1h", secs(360)),
        ("0.3333333333d", ms(28_800_001)),
        ("3s2m", secs(123)),
    ];
    for (value, expected) in cases {
        assert_eq!(wait(value), Some(expected), "{value}");
    }
    for malformed in ["", "1", "s", "1.s", ".5s", "-1s", "+1s", "1 s", "1s ago", "1x", "1m2", "1.2.3s", "00", "PT6M"] {
        assert_eq!(wait(malformed), None, "{malformed}");
    }
    let huge = "9".repeat(60) + "d";
    assert_eq!(wait(&huge), Some(Duration::from_millis(u64::MAX / 1_000_000 + 1).min(Duration::from_nanos(u64::MAX))));
}

#[test]
fn h11_rfc_3339_times_are_read() {
    let wait = |value: &str| own(FieldMeaning::Wait(TimeUnit::Rfc3339), value).hint().map(|hint| hint.wait());
    let cases = [
        ("2026-11-26T10:00:01Z", ms(1_000)),
        ("2026-11-26t10:00:01z", ms(1_000)),
        ("2026-11-26 10:00:01Z", ms(1_000)),
        ("2026-11-26T10:02Z", ms(120_000)),
        ("2026-11-26T10:00:00.0001Z", ms(1)),
        ("2026-11-26T10:00:00.250Z", ms(250)),
        ("2026-11-26T12:00:01+02:00", ms(1_000)),
        ("2026-11-26T09:30:01-00:30", ms(1_000)),
        ("2026-11-26T10:00:60Z", ms(60_000)),
        ("2026-11-27T00:00:00Z", secs(14 * 3_600)),
        ("2020-02-29T00:00:00Z", ms(0)),
    ];
    for (value, expected) in cases {
        assert_eq!(wait(value), Some(expected), "{value}");
    }
    let malformed = [
        "",
        "2026-11-26",
        "2026-11-26T10:00:01",
        "2026-11-31T10:00:01Z",
        "2026-13-01T10:00:01Z",
        "2026-00-01T10:00:01Z",
        "2027-02-29T10:00:01Z",
        "2026-11-26T24:00:00Z",
        "2026-11-26T10:60:00Z",
        "2026-11-26T10:00:61Z",
        "2026-11-26T10:00:00.Z",
        "2026-11-26T10:00.5Z",
        "2026-11-26T10:00:00+24:00",
        "2026-11-26T10:00:00+02",
        "2026-11-26T10:00:00Zx",
        "26-11-26T10:00:00Z",
        "+2026-11-26T10:00:00Z",
    ];
    for value in malformed {
        assert_eq!(wait(value), None, "{value}");
    }
}

#[test]
fn h11_a_date_of_an_own_name_needs_a_clock() {
    const FIELDS: &[DialectField] = &[
        DialectField::new("x-reset", FieldMeaning::Wait(TimeUnit::Unix)),
        DialectField::new("x-push", FieldMeaning::Pushback(TimeUnit::Unix)),
    ];
    let policy = exact().dialect(FIELDS).build().unwrap();
    let reply = policy.read(503, [("x-reset", "1795687201")]);
    assert_eq!(reply.hint(), None);
    assert_eq!(reply.rejected().iter().collect::<Vec<_>>(), [(HeaderField::RetryAfter, RejectReason::NoClock)]);
    // A pushback that cannot be obeyed means stop.
    let mut scene = Scene::with(exact().dialect(FIELDS));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(503, &[("x-push", "1795687201")]).fails(FailureKind::UnexpectedStatus);
}
