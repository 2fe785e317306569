//! The meaning of a reply as data: D11, D13, D18, B5.

use retry_machine::{
    Advice, BreakerPolicy, Cause, FailureKind, Idempotency, Policy, PolicyBuilder, PolicyError, StatusMeaning,
    TransportErrorKind,
};

use crate::support::{Answer, REFRESHED, Scene, exact, secs};

fn common() -> PolicyBuilder {
    Policy::common().into_builder().jitter(retry_machine::Jitter::None)
}

/// Returns a scene with one request under way, which is not safe to repeat if `is_unsafe`.
fn sent(policy: PolicyBuilder, is_unsafe: bool) -> Scene {
    let mut scene = Scene::with(policy);
    let action = if is_unsafe { scene.at(0).start_non_idempotent() } else { scene.at(0).start() };
    action.is("send 1");
    scene
}

// ---- D11 ----

#[test]
fn d11_each_meaning_does_what_it_says_plain_and_hinted() {
    use StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
    let hint = [("Retry-After", "30")];
    for meaning in [Surface, Retry, RetryIfSafe, Throttle] {
        for (hinted, headers) in [(false, &[][..]), (true, &hint[..])] {
            let other = if meaning == Surface { Retry } else { Surface };
            let (plain, with_hint) = if hinted { (other, meaning) } else { (meaning, other) };
            let policy = || exact().on(507..=507, plain).on_hinted(507..=507, with_hint);
            let end = if hinted { "wait 30000 retry_after" } else { "wait 1000 backoff" };
            for is_unsafe in [false, true] {
                let action = sent(policy(), is_unsafe).at(0).reply_with(507, headers);
                match (meaning, is_unsafe) {
                    (Surface, _) => _ = action.fails(FailureKind::UnexpectedStatus),
                    (RetryIfSafe, true) => _ = action.fails(FailureKind::Ambiguous),
                    _ => action.is(end),
                }
            }
            // Only a throttle closes the gate for others.
            let mut scene = sent(policy(), false);
            let _ = scene.at(0).reply_with(507, headers);
            let closes = meaning == Throttle && hinted;
            scene.at(0).request(1).start().is(if closes { "wait 30000 gate" } else { "send 1" });
        }
    }
}

#[test]
fn d11_a_hint_of_any_length_counts_and_one_that_cannot_be_used_does_not() {
    let reset_without_clock = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1700000000")];
    let hinted: [&[(&str, &str)]; 5] = [
        &[("Retry-After", "0")],
        &[("Date", "Thu, 26 Nov 2026 10:00:00 GMT"), ("Retry-After", "Thu, 26 Nov 2026 09:00:00 GMT")],
        &[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "0")],
        &[("retry-after-ms", "7")],
        &[("RateLimit", "\"a\";r=0;t=9")],
    ];
    for headers in hinted {
        sent(common(), false).at(0).reply_with(403, headers).end_of_wait();
    }
    let plain: [&[(&str, &str)]; 4] =
        [&[], &[("Retry-After", "soon")], &reset_without_clock, &[("X-RateLimit-Remaining", "0")]];
    for headers in plain {
        sent(common(), false).at(0).reply_with(403, headers).fails(FailureKind::Forbidden);
    }
}

#[test]
fn d11_a_post_behind_a_mesh_is_not_repeated_unless_the_server_names_a_time() {
    for status in [408, 500, 502, 503, 504, 520, 524] {
        sent(common(), true).at(0).reply(status).fails(FailureKind::Ambiguous);
        sent(common(), true).at(0).reply_with(status, &[("Retry-After", "2")]).end_of_wait();
        sent(common(), false).at(0).reply(status).is("wait 1000 backoff");
    }
    for status in [425, 529] {
        sent(common(), true).at(0).reply(status).is("wait 1000 backoff");
    }
}

#[test]
fn d11_later_entries_win_and_ranges_name_their_mistake() {
    let policy = exact().on(500..=599, StatusMeaning::Retry).on(501..=501, StatusMeaning::Surface).build().unwrap();
    assert_eq!(policy.meaning(500, false), StatusMeaning::Retry);
    assert_eq!(policy.meaning(501, true), StatusMeaning::Surface);
    assert_eq!(policy.meaning(599, true), StatusMeaning::Retry);
    let no_meaning = |status| PolicyError::StatusHasNoMeaning { status };
    #[allow(clippy::reversed_empty_ranges, reason = "the mistake that the builder refuses")]
    let refused = [
        (399..=500, no_meaning(399)),
        (599..=600, no_meaning(600)),
        (401..=401, no_meaning(401)),
        (400..=499, no_meaning(401)),
        (0..=u16::MAX, no_meaning(0)),
        (599..=500, PolicyError::EmptyStatusRange { first: 599, last: 500 }),
    ];
    for (statuses, error) in refused {
        assert_eq!(exact().on(statuses.clone(), StatusMeaning::Retry).build().unwrap_err(), error);
        assert_eq!(exact().on_hinted(statuses, StatusMeaning::Retry).build().unwrap_err(), error);
    }
}

#[test]
fn d11_every_status_keeps_its_own_pair_of_meanings() {
    use StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
    let all = [Surface, Retry, RetryIfSafe, Throttle];
    let pair = |status: u16| (all[usize::from(status % 4)], all[usize::from(status / 4 % 4)]);
    let statuses = || (400..=599_u16).filter(|status| *status != 401);
    let policy = statuses().fold(exact(), |policy, status| {
        policy.on(status..=status, pair(status).0).on_hinted(status..=status, pair(status).1)
    });
    let policy = policy.build().unwrap();
    for status in statuses() {
        assert_eq!((policy.meaning(status, false), policy.meaning(status, true)), pair(status), "{status}");
    }
    for status in [0, 200, 399, 401, 600, u16::MAX] {
        assert_eq!((policy.meaning(status, false), policy.meaning(status, true)), (Surface, Surface), "{status}");
    }
}

// ---- D1 ----

#[test]
fn d1_a_switch_of_protocols_is_an_answer() {
    sent(exact(), false).at(0).reply(101).is("done 101");
    sent(exact(), false).at(0).reply(100).fails(FailureKind::UnexpectedStatus);
}

// ---- D13 ----

#[test]
fn d13_what_the_peer_did_not_process_goes_out_again_at_once_and_then_counts_as_not_sent() {
    for is_unsafe in [false, true] {
        let mut scene = sent(exact().max_retries(1), is_unsafe);
        scene.at(5).error(TransportErrorKind::Unprocessed).is("send 2");
        scene.at(6).error(TransportErrorKind::Unprocessed).is("wait 1006 backoff");
        scene.at(1_006).tick().is("send 3");
        let failure = scene.at(1_007).error(TransportErrorKind::Unprocessed).fails(FailureKind::Exhausted);
        assert_eq!((failure.cause(), failure.attempts()), (Some(Cause::Unprocessed), 3));
    }
}

#[test]
fn d13_the_repetition_costs_nothing_and_does_not_count_as_a_retry() {
    let mut scene = sent(exact().max_retries(0).budget(None), true);
    scene.at(1).error(TransportErrorKind::Unprocessed).is("send 2");
    scene.at(2).reply(500).fails(FailureKind::Exhausted);
}

#[test]
fn d13_past_its_deadline_an_unprocessed_request_fails_as_deadline() {
    let mut scene = Scene::with(exact().deadline(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(1_000).error(TransportErrorKind::Unprocessed).fails(FailureKind::Deadline);
}

#[test]
fn d13_a_permanent_error_is_surfaced_to_be_fixed() {
    for is_unsafe in [false, true] {
        let failure = sent(exact(), is_unsafe).at(0).error(TransportErrorKind::Permanent).fails(FailureKind::Transport);
        assert_eq!(failure.advice(), Advice::FixRequest);
        assert_eq!(failure.cause(), Some(Cause::Permanent));
    }
}

// ---- D14 ----

#[test]
fn d14_the_method_and_the_key_give_the_idempotency() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert_eq!(Idempotency::of(method, false), Idempotency::Idempotent, "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "", "GETS", "PROPFIND"] {
        assert_eq!(Idempotency::of(method, false), Idempotency::NonIdempotent, "{method}");
        assert_eq!(Idempotency::of(method, true), Idempotency::Idempotent, "{method}");
    }
}

// ---- D18 ----

/// Returns the health that the result of a probe shows: after a good result the next requests are sent, after a bad one none
/// is, and after a neutral one the first is the next probe.
fn health_of(policy: PolicyBuilder, probe: impl FnOnce(&mut Scene)) -> &'static str {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let mut scene = Scene::with(policy.max_retries(0).breaker(Some(breaker)));
    for (request, at) in [(0, 0), (9, 10_000)] {
        scene.at(at).request(request).start().is("send 1");
        scene.at(at).request(request).error(TransportErrorKind::NotSent).fails(FailureKind::Exhausted);
    }
    scene.at(20_000).request(1).start().is("send 1");
    probe(&mut scene);
    // Two more requests: after a good result both are sent, after a neutral one only the next probe is.
    let first = scene.at(20_001).request(2).start().short();
    let second = scene.at(20_001).request(3).start().short();
    match (first.as_str(), second.as_str()) {
        ("send 1", "send 1") => "good",
        ("send 1" | "send 1 token 1", "fail BreakerOpen") => "neutral",
        ("fail BreakerOpen", "fail BreakerOpen") => "bad",
        other => panic!("{other:?}"),
    }
}

#[test]
fn d18_what_an_answer_says_about_health() {
    let cases = [
        (101, "good"),
        (204, "good"),
        (304, "good"),
        (400, "good"),
        (403, "good"),
        (404, "good"),
        (422, "good"),
        (408, "neutral"),
        (425, "neutral"),
        (429, "neutral"),
        (500, "bad"),
        (503, "bad"),
        (529, "bad"),
        (501, "neutral"),
        (599, "neutral"),
        (0, "neutral"),
        (99, "neutral"),
        (600, "neutral"),
        (u16::MAX, "neutral"),
    ];
    for (status, health) in cases {
        let heard = health_of(common(), |scene| _ = scene.at(20_000).request(1).reply(status));
        assert_eq!(heard, health, "{status}");
    }
    let errors = [
        (TransportErrorKind::NotSent, "bad"),
        (TransportErrorKind::TimedOut, "bad"),
        (TransportErrorKind::Broken, "bad"),
        (TransportErrorKind::Other, "bad"),
        (TransportErrorKind::Permanent, "neutral"),
    ];
    for (kind, health) in errors {
        let heard = health_of(common(), |scene| _ = scene.at(20_000).request(1).error(kind));
        assert_eq!(heard, health, "{kind:?}");
    }
    let unprocessed = |scene: &mut Scene| {
        // Twice: the first time the request goes out again, as the next probe.
        scene.at(20_000).request(1).error(TransportErrorKind::Unprocessed).is("send 2");
        scene.at(20_000).request(1).error(TransportErrorKind::Unprocessed).fails(FailureKind::Exhausted);
    };
    assert_eq!(health_of(common(), unprocessed), "neutral");
}

#[test]
fn d18_a_401_is_neutral_and_its_refresh_goes_on() {
    let heard = health_of(common(), |scene| {
        scene.at(20_000).request(1).reply(401).is("refresh until 50000");
        scene.at(20_000).request(1).refreshed(REFRESHED).is("send 2 token 1");
        _ = scene.at(20_000).request(1).reply(401);
    });
    assert_eq!(heard, "neutral");
}

// ---- B5 ----

#[test]
fn b5_counted_apart_each_kind_has_its_own_number_and_limit() {
    let mut scene = sent(exact().max_retries(1).throttle_retries(Some(2)).budget(None), false);
    scene.at(0).reply(429).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2");
    scene.at(1_000).reply(503).is("wait 2000 backoff");
    scene.at(2_000).tick().is("send 3");
    scene.at(2_000).reply(429).is("wait 4000 backoff");
    scene.at(4_000).tick().is("send 4");
    scene.at(4_000).reply(429).fails(FailureKind::Exhausted);
}

#[test]
fn b5_counted_together_they_share_one_number_also_with_waits_of_their_own() {
    let minute =
        retry_machine::ThrottleBackoff { initial_backoff: secs(60), backoff_factor: (2, 1), max_backoff: secs(3_600) };
    let mut scene = sent(exact().max_retries(3).throttle_backoff(Some(minute)), false);
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2");
    // B1: the second retry of all, the first one that is throttled.
    scene.at(1_000).reply(429).is("wait 121000 backoff");
    scene.at(121_000).tick().is("send 3");
    scene.at(121_000).reply(503).is("wait 125000 backoff");
    scene.at(125_000).tick().is("send 4");
    scene.at(125_000).reply(503).fails(FailureKind::Exhausted);
}
