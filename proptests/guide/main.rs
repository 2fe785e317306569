//! The error-handling guide of the Flextell API as tests that read like its tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::time::Duration;

use retry_machine::{Action, FailureKind, Policy, TransportErrorKind};

#[path = "../common/support.rs"]
mod support;
use support::{Answer, REFRESHED, Scene, exact, ms, secs};

/// Returns what the machine does after the first response.
fn what_to_do(status: u16) -> String {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    match scene.at(100).reply_with(status, &[("Retry-After", "30")]) {
        Action::Fail(failure) if failure.advice().as_str().is_empty() => format!("fail: {}", failure.kind()),
        Action::Fail(failure) => format!("fail: {}", failure.advice().as_str()),
        Action::RefreshToken { .. } => "refresh the token, then retry".into(),
        Action::Wait { until, .. } if until.as_nanos() >= 30_100_000_000 => "wait for Retry-After, then retry".into(),
        other => other.short(),
    }
}

// ---- HTTP status codes ----

#[test]
fn d2_d3_d4_d5_d6_d7_d8_d9_the_guides_table_of_statuses() {
    #[rustfmt::skip]
    let table = [
        (400, "fail: fix the request: check its required fields and data types"),
        (401, "refresh the token, then retry"),
        (403, "fail: authorize again with the right scopes"),
        (404, "fail: check the id and the path: ids are case-sensitive"),
        (409, "fail: change the request: use a unique identifier"),
        (422, "fail: read the message: it says which field failed"),
        (429, "wait for Retry-After, then retry"),
        (500, "wait for Retry-After, then retry"),
        (503, "wait for Retry-After, then retry"),
    ];
    for (status, then) in table {
        assert_eq!(what_to_do(status), then, "{status}");
    }
}

#[test]
fn d1_2xx_and_3xx_are_the_answer() {
    for status in 200..=399 {
        assert_eq!(what_to_do(status), format!("done {status}"));
    }
}

#[test]
fn d2_a_400_fails_at_once() {
    fails_with(400, FailureKind::BadRequest);
}

#[test]
fn d3_a_401_is_sent_again_once_with_a_new_token() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(100).reply(401).is("refresh until 30100");
    scene.at(200).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(300).reply(200).is("done 200");
}

#[test]
fn d3_a_second_401_fails() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(100).reply(401).is("refresh until 30100");
    scene.at(200).refreshed(REFRESHED).is("send 2 token 1");
    let failure = scene.at(300).reply(401).fails(FailureKind::Unauthorized);
    assert_eq!((failure.status(), failure.attempts()), (Some(401), 2));
}

#[test]
fn d4_a_403_fails_without_a_refresh() {
    fails_with(403, FailureKind::Forbidden);
}

#[test]
fn d5_a_404_fails_at_once() {
    fails_with(404, FailureKind::NotFound);
}

#[test]
fn d6_a_409_fails_at_once() {
    fails_with(409, FailureKind::Conflict);
}

#[test]
fn d7_a_422_fails_at_once() {
    fails_with(422, FailureKind::Validation);
}

#[track_caller]
fn fails_with(status: u16, kind: FailureKind) {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let failure = scene.at(100).reply_with(status, &[("Retry-After", "1")]).fails(kind);
    assert_eq!((failure.status(), failure.attempts()), (Some(status), 1));
    assert_eq!(failure.elapsed(), ms(100));
}

#[test]
fn d8_a_429_waits_for_the_hint_or_else_backs_off() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(100).reply_with(429, &[("Retry-After", "30")]).is("wait 30100 retry_after");
    scene.at(30_100).tick().is("send 2");
    scene.at(30_200).reply(429).is("wait 32200 backoff");
    scene.at(32_200).tick().is("send 3");
}

#[test]
fn d9_a_500_or_503_backs_off_unless_the_hint_is_longer() {
    for status in [500, 503] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).reply(status).is("wait 1000 backoff");
        scene.at(1_000).tick().is("send 2");
        scene.at(1_000).reply_with(status, &[("Retry-After", "1")]).is("wait 3000 backoff");
        scene.at(3_000).tick().is("send 3");
        scene.at(3_000).reply_with(status, &[("Retry-After", "5")]).is("wait 8000 retry_after");
        scene.at(8_000).tick().is("send 4");
    }
}

#[test]
fn d10_every_other_status_fails() {
    let listed = [101, 400, 401, 403, 404, 409, 422, 429, 500, 503];
    for status in (0..=u16::MAX).filter(|status| !(200..=399).contains(status) && !listed.contains(status)) {
        assert_eq!(what_to_do(status), "fail: this response is not retried", "{status}");
    }
}

// ---- Retry strategy ----

#[test]
fn d10_step_1_only_429_500_and_503_are_retried() {
    let retried: Vec<u16> = (0..=u16::MAX).filter(|status| what_to_do(*status).starts_with("wait")).collect();
    assert_eq!(retried, [429, 500, 503]);
}

#[test]
fn l1_step_2_a_429_is_not_retried_sooner_than_its_retry_after() {
    // The gate would hold it back as well.
    for gate in [false, true] {
        let mut scene = Scene::with(exact().gate(gate));
        scene.at(0).start().is("send 1");
        scene.at(0).reply_with(429, &[("Retry-After", "30")]).is("wait 30000 retry_after");
        for early in [0, 1, 1_000, 15_000, 16_000, 29_999] {
            scene.at(early).tick().is("wait 30000 retry_after");
        }
        scene.at(30_000).tick().is("send 2");
    }
}

#[test]
fn s1_step_2_no_request_is_sent_sooner_than_a_429s_retry_after() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let _ = scene.at(0).reply_with(429, &[("Retry-After", "30")]);
    for early in [0, 1, 1_000, 15_000, 16_000, 29_999] {
        scene.at(early).request(1 + early).start().is("wait 30000 gate");
    }
    // S7: then they pass one by one, behind the one that was told.
    scene.at(30_000).request(1).tick().is("wait 30937.5 gate");
    scene.at(30_000).tick().is("send 2");
    scene.at(30_938).request(1).tick().is("send 1");
}

#[test]
fn b1_step_3_the_wait_doubles_from_a_base_of_one_second() {
    for status in [500, 503] {
        let (waits, _) = Scene::exact().fail_until_the_end(status);
        assert_eq!(waits, [secs(1), secs(2), secs(4), secs(8), secs(16)], "{status}");
    }
}

#[test]
fn b2_step_4_jitter_keeps_clients_apart() {
    let first_wait = |seed| {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        scene.at(0).start().is("send 1");
        scene.at(0).reply(503).end_of_wait()
    };
    let waits: BTreeSet<_> = (0..1_000).map(first_wait).collect();
    assert_eq!(waits.len(), 1_000, "two of a thousand clients retry at the same instant");
}

#[test]
fn b3_step_5_after_five_retries_the_request_fails() {
    let (waits, end) = Scene::exact().fail_until_the_end(503);
    let failure = end.fails(FailureKind::Exhausted);
    assert_eq!((waits.len(), failure.attempts(), failure.status()), (5, 6, Some(503)));
}

/// Attempt, back-off, and the bounds with jitter (± 500 ms), in milliseconds.
const BACK_OFF_INTERVALS: [(usize, u64, u64, u64); 5] = [
    (1, 1_000, 500, 1_500),
    (2, 2_000, 1_500, 2_500),
    (3, 4_000, 3_500, 4_500),
    (4, 8_000, 7_500, 8_500),
    (5, 16_000, 15_500, 16_500),
];

#[test]
fn b2_the_guides_table_of_back_off_intervals() {
    let mut waits: [BTreeSet<Duration>; 5] = Default::default();
    for seed in 0..8_000 {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        let (of_seed, _) = scene.fail_until_the_end(503);
        assert_eq!(of_seed.len(), 5);
        for (set, wait) in waits.iter_mut().zip(of_seed) {
            set.insert(wait);
        }
    }
    for (attempt, base, low, high) in BACK_OFF_INTERVALS {
        let waits = &waits[attempt - 1];
        let (shortest, longest) = (*waits.first().unwrap(), *waits.last().unwrap());
        assert!(ms(low) <= shortest && shortest < ms(low + 2), "attempt {attempt}: shortest {shortest:?}");
        assert!(ms(high - 2) < longest && longest <= ms(high), "attempt {attempt}: longest {longest:?}");
        assert!(waits.len() > 7_900, "attempt {attempt}: {} distinct waits", waits.len());
        let mean = waits.iter().sum::<Duration>() / u32::try_from(waits.len()).unwrap();
        assert!(mean.abs_diff(ms(base)) < ms(20), "attempt {attempt}: mean {mean:?}");
    }
}

#[test]
fn d2_d3_d4_d5_d6_d7_never_retry_a_400_401_403_404_409_or_422() {
    for status in [400, 401, 403, 404, 409, 422] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let answer = scene.at(0).reply_with(status, &[("Retry-After", "1")]);
        assert!(!matches!(answer, Action::Send { .. } | Action::Wait { .. }), "{status}: {answer}");
        for later in [1, 1_000, 1_500, 60_000, 86_400_000] {
            let answer = scene.at(later).tick();
            assert!(!matches!(answer, Action::Send { .. }), "{status} at {later}: {answer}");
        }
    }
}

// ---- Common mistakes ----

#[test]
fn d3_a_401_with_invalid_token_is_refreshed_and_the_original_request_sent_again() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(10).reply_with(401, &[("WWW-Authenticate", r#"Bearer error="invalid_token""#)]).is("refresh until 30010");
    scene.at(20).refreshed(REFRESHED).is("send 2 token 1");
}

#[test]
fn d4_a_403_never_leads_to_a_refresh_whatever_its_challenge_says() {
    for code in ["invalid_token", "insufficient_scope", "invalid_request"] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let challenge = format!(r#"Bearer error="{code}""#);
        scene.at(10).reply_with(403, &[("WWW-Authenticate", &challenge)]).fails(FailureKind::Forbidden);
    }
}

#[test]
fn b3_the_limit_counts_transport_errors_and_statuses_alike() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let mut now = 0;
    for retry in 1..=5 {
        let wait = match retry % 2 {
            0 => scene.at(now).error(TransportErrorKind::NotSent),
            _ => scene.at(now).reply(500),
        };
        now = wait.end_of_wait().as_millis_ceil();
        scene.at(now).tick().is(&format!("send {}", retry + 1));
    }
    scene.at(now).error(TransportErrorKind::Broken).fails(FailureKind::Exhausted);
}

#[test]
fn b3_the_policy_sets_the_limit() {
    for retries in 0..4 {
        let mut scene = Scene::with(exact().max_retries(retries));
        assert_eq!(scene.upstream.policy().max_retries(), retries);
        let (waits, end) = scene.fail_until_the_end(500);
        assert_eq!(waits.len(), usize::from(retries));
        assert_eq!(end.fails(FailureKind::Exhausted).attempts(), u32::from(retries) + 1);
    }
}
