//! Reading rate limits and hints in milliseconds, and which of them count: H5, H9, H10, F9.

use std::time::Duration;

use retry_machine::{FailureKind, HeaderField, HintSource, Policy, RejectReason, Reply, ResetFormat};

use crate::support::{Answer, Scene, exact, ms, secs};

const DATE: (&str, &str) = ("Date", "Tue, 14 Nov 2023 22:13:20 GMT");

fn read(headers: &[(&str, &str)]) -> Reply {
    read_as(ResetFormat::Auto, headers)
}

fn read_as(reset: ResetFormat, headers: &[(&str, &str)]) -> Reply {
    exact().rate_limit_reset(reset).build().unwrap().read(429, headers.iter().copied())
}

fn wait(reply: Reply) -> Option<Duration> {
    reply.hint().map(|hint| hint.wait())
}

fn rejected(reply: Reply) -> Vec<(HeaderField, RejectReason)> {
    reply.rejected().iter().collect()
}

// ---- H5 ----

#[test]
fn h5_both_millisecond_fields_are_read() {
    for name in ["retry-after-ms", "x-ms-retry-after-ms", "Retry-After-Ms"] {
        assert_eq!(wait(read(&[(name, "1500")])), Some(ms(1_500)), "{name}");
    }
}

#[test]
fn f9_of_both_millisecond_fields_the_later_counts() {
    for values in [["100", "900"], ["900", "100"]] {
        let reply = read(&[("retry-after-ms", values[0]), ("x-ms-retry-after-ms", values[1])]);
        assert_eq!(wait(reply), Some(ms(900)));
    }
}

#[test]
fn h5_a_list_and_a_dictionary_in_one_response_are_one_field() {
    let list = ("RateLimit", "\"a\";r=5");
    let facts = |other| {
        let reply = read(&[list, other, ("RateLimit-Policy", "\"a\";q=9")]);
        (reply.limit(), reply.remaining(), reply.reset())
    };
    // The tightest counts, with its own reset and no other.
    assert_eq!(facts(("RateLimit", "limit=8, remaining=3, reset=7")), (Some(9), Some(3), Some(secs(7))));
    assert_eq!(facts(("RateLimit", "limit=8, remaining=6, reset=7")), (Some(9), Some(5), None));
    assert_eq!(facts(("RateLimit", "\"b\";r=4;t=7")), (Some(9), Some(4), Some(secs(7))));
    assert_eq!(facts(("RateLimit", "\"b\";r=6;t=7")), (Some(9), Some(5), None));
}

#[test]
fn h5_rate_limits_are_read_with_and_without_x() {
    for prefix in ["X-RateLimit", "RateLimit", "x-ratelimit"] {
        let names = ["Limit", "Remaining", "Reset"].map(|name| format!("{prefix}-{name}"));
        let reply = read(&[(&names[0], "60"), (&names[1], "7"), (&names[2], "12")]);
        assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(60), Some(7), Some(secs(12))));
        assert_eq!(reply.hint(), None, "something remains");
    }
}

#[test]
fn h5_the_policy_says_what_a_reset_means() {
    use ResetFormat::{Auto, Delta, Unix};
    #[rustfmt::skip]
    let table = [
        (Auto, "12", Some(secs(12))),
        (Auto, "999999999", Some(secs(999_999_999))),
        (Auto, "1700000030", Some(secs(30))),
        (Auto, "1000000000", Some(Duration::ZERO)),
        (Auto, "1700000030500", Some(ms(30_500))),
        (Auto, "1000000000000", Some(Duration::ZERO)),
        (Unix, "12", Some(Duration::ZERO)),
        (Unix, "1700000030", Some(secs(30))),
        (Delta, "12", Some(secs(12))),
        (Delta, "1700000030", Some(secs(1_700_000_030))),
        (Auto, "-1", None),
        (Auto, "-9223372036854775808", None),
        (Auto, "12.5", Some(ms(12_500))),
    ];
    for (format, value, wait) in table {
        let headers = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", value), DATE];
        assert_eq!(read_as(format, &headers).reset(), wait, "{format:?} {value}");
    }
}

#[test]
fn h5_a_unix_reset_without_a_clock_is_dropped_and_reported() {
    let reply = read(&[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1700000030")]);
    assert_eq!((reply.hint(), reply.reset()), (None, None));
    assert_eq!(rejected(reply), [(HeaderField::XRateLimitReset, RejectReason::NoClock)]);
}

#[test]
fn h5_the_drafts_structured_field_is_read() {
    let reply = read(&[("RateLimit", r#""default";r=0;t=30"#), ("RateLimit-Policy", r#""default";q=100;w=60"#)]);
    assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(100), Some(0), Some(secs(30))));
    assert_eq!(reply.hint().unwrap().source(), HintSource::RateLimitReset);
}

#[test]
fn h5_of_the_members_with_nothing_left_the_largest_t_counts() {
    let reply = read(&[("RateLimit", "burst;r=0;t=1, hour;r=0;t=1800, day;r=5;t=80000"), ("RateLimit", "x;r=0;t=60")]);
    assert_eq!(wait(reply), Some(secs(1_800)));
}

#[test]
fn h5_a_syntax_error_voids_the_field_with_all_its_lines() {
    for lines in [["a;r=0;t=30", "b;;r=0"], ["b;;r=0", "a;r=0;t=30"]] {
        let reply = read(&[("RateLimit", lines[0]), ("RateLimit", lines[1])]);
        assert_eq!(reply.hint(), None);
        assert_eq!(rejected(reply), [(HeaderField::RateLimit, RejectReason::Void)]);
    }
}

#[test]
fn h5_a_bad_value_drops_its_member_alone() {
    for bad in ["b;r=-1;t=99", "b;r=0.5;t=99", "b;r=\"0\";t=99", "b;r=0;t=-5", "b;t=99", "(b);r=0;t=99", "5;r=0;t=99"] {
        let reply = read(&[("RateLimit", &format!("a;r=0;t=30, {bad}"))]);
        assert_eq!(wait(reply), Some(secs(30)), "{bad}");
        assert_eq!(rejected(reply), [(HeaderField::RateLimit, RejectReason::Malformed)], "{bad}");
    }
}

#[test]
fn h5_an_invalid_policy_does_not_touch_the_limit_beside_it() {
    let reply = read(&[("RateLimit", "a;r=0;t=30"), ("RateLimit-Policy", "a;q=")]);
    assert_eq!((wait(reply), reply.limit()), (Some(secs(30)), None));
    assert_eq!(rejected(reply), [(HeaderField::RateLimitPolicy, RejectReason::Void)]);
}

#[test]
fn f9_a_members_name_may_be_a_string_or_a_token() {
    for name in ["default", "\"default\"", "*x", "\"a b\""] {
        assert_eq!(wait(read(&[("RateLimit", &format!("{name};r=0;t=30"))])), Some(secs(30)), "{name}");
    }
}

#[test]
fn f9_remaining_given_twice_is_the_smaller() {
    for values in [["0", "9"], ["9", "0"]] {
        let headers = [("X-RateLimit-Remaining", values[0]), ("X-RateLimit-Remaining", values[1])];
        let reply = read(&[headers[0], headers[1], ("X-RateLimit-Reset", "30")]);
        assert_eq!((reply.remaining(), wait(reply)), (Some(0), Some(secs(30))));
        assert_eq!(rejected(reply), [(HeaderField::XRateLimitRemaining, RejectReason::Duplicate)]);
    }
}

#[test]
fn f9_facts_come_from_x_before_plain_before_structured() {
    let structured = [("RateLimit", "a;r=3;t=3"), ("RateLimit-Policy", "a;q=3")];
    let plain = [("RateLimit-Limit", "2"), ("RateLimit-Remaining", "2"), ("RateLimit-Reset", "2")];
    let x = [("X-RateLimit-Limit", "1"), ("X-RateLimit-Remaining", "1"), ("X-RateLimit-Reset", "1")];
    let facts = |headers: &[(&str, &str)]| {
        let reply = read(headers);
        (reply.limit(), reply.remaining(), reply.reset())
    };
    assert_eq!(facts(&[&structured[..], &plain[..], &x[..]].concat()), (Some(1), Some(1), Some(secs(1))));
    assert_eq!(facts(&[&structured[..], &plain[..]].concat()), (Some(2), Some(2), Some(secs(2))));
    assert_eq!(facts(&structured), (Some(3), Some(3), Some(secs(3))));
}

#[test]
fn f9_of_several_dates_the_first_valid_one_counts() {
    let after = ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT");
    let other = ("Date", "Tue, 14 Nov 2023 22:00:00 GMT");
    assert_eq!(wait(read(&[after, ("Date", "never"), DATE, other])), Some(secs(30)));
    assert_eq!(rejected(read(&[DATE, other])), [(HeaderField::Date, RejectReason::Duplicate)]);
    // The same instant in another form is not a duplicate.
    for same in ["Tue Nov 14 22:13:20 2023", "Tuesday, 14-Nov-23 22:13:20 GMT"] {
        assert_eq!(rejected(read(&[DATE, ("Date", same), after])), []);
    }
    // Only a date that exists is valid: with a wall clock of 2080 the year is 2100, which has no 29 February.
    let headers = [("Date", "Monday, 29-Feb-00 00:00:00 GMT"), DATE, after];
    let reply = Policy::flextell().read_at(Some(secs(3_471_292_800)), 429, headers);
    assert_eq!((wait(reply), rejected(reply)), (Some(secs(30)), vec![(HeaderField::Date, RejectReason::Malformed)]));
}

// ---- H9 ----

#[test]
fn h9_nothing_secret_is_kept() {
    let secret = "s3cr3t-t0k3n";
    let challenge = format!(r#"Bearer realm="{secret}", error="invalid_token", error_description="{secret}""#);
    let headers = [("Authorization", secret), ("WWW-Authenticate", &challenge), ("Retry-After", secret)];
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let action = scene.at(10).reply_with(401, &headers);
    let reply = Policy::flextell().read(401, headers);
    let failure = scene.at(30_010).tick().fails(FailureKind::TokenUnavailable);
    let seen = [
        format!("{reply:?} {action:?} {action}"),
        format!("{:?} {:?}", scene.machine(0), scene.upstream),
        format!("{failure:?} {failure}"),
    ];
    for text in seen {
        assert!(!text.contains(secret), "{text}");
        assert!(!text.is_empty());
    }
}

// ---- H10 ----

const REMAINING_0: [(&str, &str); 2] = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")];

#[test]
fn h10_hints_count_on_429_and_on_retried_statuses() {
    for status in [429, 500, 503] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).reply_with(status, &[("Retry-After", "60")]).is("wait 60000 retry_after");
    }
    let mut scene = Scene::with(exact().retry_statuses(&[408]));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(408, &[("Retry-After", "60")]).is("wait 60000 retry_after");
}

#[test]
fn h10_on_a_2xx_and_where_it_fails_only_a_remaining_of_0_closes_the_gate() {
    for status in [200, 204, 400, 403, 404, 422, 502, 999] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        assert!(scene.at(0).reply_with(status, &REMAINING_0).is_terminal());
        scene.at(0).request(1).start().is("wait 60000 gate");

        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        assert!(scene.at(0).reply_with(status, &[("Retry-After", "60")]).is_terminal());
        scene.at(0).request(1).start().is("send 1");
    }
}

#[test]
fn h10_elsewhere_a_hint_is_a_fact_without_effect() {
    let cases =
        [(301, true), (401, true), (400, false), (404, false), (409, false), (422, false), (502, false), (999, false)];
    for (status, nothing_left) in cases {
        let headers = [REMAINING_0[0], REMAINING_0[1], ("Retry-After", "60")];
        let headers = if nothing_left { &headers[..] } else { &headers[2..] };
        assert_eq!(wait(Policy::flextell().read(status, headers.iter().copied())), Some(secs(60)));
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        assert!(!matches!(scene.at(0).reply_with(status, headers), retry_machine::Action::Wait { .. }), "{status}");
        // K3: nobody sends with a refused token.
        scene.at(0).token_replaced();
        scene.at(0).request(1).start().is("send 1 token 1");
    }
}

#[test]
fn h10_a_429_with_something_left_has_no_hint() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let headers = [("X-RateLimit-Remaining", "9"), ("X-RateLimit-Reset", "60")];
    scene.at(0).reply_with(429, &headers).is("wait 1000 backoff");
}
