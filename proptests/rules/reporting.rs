//! The facts that a user gets: E1–E3, F7, F8.

use retry_machine::replay::{EventRecord, Replay, Settings};
use retry_machine::{
    Advice, BreakerPolicy, BudgetPolicy, Cause, Failure, FailureKind, Jitter, Policy, PolicyBuilder, Timestamp,
    TransportErrorKind,
};

use crate::support::{Answer, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, ms, secs};

/// Plays a trace; returns its last action line.
fn last_line(lines: &[&str]) -> serde_json::Value {
    let mut replay = Replay::new(&Settings::parse(lines[0]).unwrap()).unwrap();
    let mut last = None;
    for line in &lines[1..] {
        last = replay.step(&EventRecord::parse(line).unwrap()).unwrap();
    }
    last.unwrap().to_json_with_facts()
}

fn first_failure(policy: PolicyBuilder, status: u16, headers: &[(&str, &str)]) -> Failure {
    let mut scene = Scene::with(policy);
    let _ = scene.at(0).start();
    match scene.at(250).reply_with(status, headers) {
        retry_machine::Action::Fail(failure) => failure,
        other => panic!("{other}"),
    }
}

/// Returns the failure of a request whose 503 opens the breaker, at 30.25 s for 30 s.
fn failure_at_the_opening(headers: &[(&str, &str)]) -> Failure {
    let mut scene = Scene::with(exact().breaker(Some(BreakerPolicy { failure_threshold: 2, open_for: secs(30) })));
    let _ = scene.at(0).request(1).start();
    let _ = scene.at(0).request(1).reply(503);
    let _ = scene.at(0).start();
    scene.at(30_250).reply_with(503, headers).fails(FailureKind::BreakerOpen)
}

// ---- E1 ----

#[test]
fn e1_a_failure_says_kind_status_attempts_time_and_advice() {
    let mut scene = Scene::exact();
    scene.at(1_000).start().is("send 1");
    scene.at(1_500).reply(500).is("wait 2500 backoff");
    scene.at(2_500).tick().is("send 2");
    let failure = scene.at(3_250).reply(422).fails(FailureKind::Validation);
    assert_eq!((failure.status(), failure.attempts(), failure.elapsed()), (Some(422), 2, ms(2_250)));
    assert_eq!(
        (failure.advice(), failure.cause(), failure.not_before()),
        (Advice::ReadMessage, Some(Cause::Status), None)
    );
}

#[test]
fn e1_without_a_response_there_is_no_status() {
    let mut scene = Scene::with(exact().max_retries(0));
    scene.at(0).start().is("send 1");
    let failure = scene.at(0).error(TransportErrorKind::NotSent).fails(FailureKind::Exhausted);
    assert_eq!((failure.status(), failure.cause()), (None, Some(Cause::NotSent)));
}

#[test]
fn e1_the_last_status_stays_if_the_last_attempt_has_none() {
    let mut scene = Scene::with(exact().max_retries(1));
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2");
    let failure = scene.at(1_000).error(TransportErrorKind::Broken).fails(FailureKind::Exhausted);
    assert_eq!((failure.status(), failure.cause()), (Some(503), Some(Cause::Broken)));
}

// ---- E2 ----

#[test]
fn e2_every_wait_names_the_facts_used() {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    let action = scene.at(0).reply(503);
    let wait = action.end_of_wait();
    let text = action.to_string();
    assert!(text.starts_with("attempt 1 of 6 got 503; waiting "), "{text}");
    assert!(text.ends_with(" s (back-off 1 s ± 0.5 s)"), "{text}");
    let again = scene.at(1).tick().to_string();
    assert!(again.contains("still waiting"), "{again}");
    assert_eq!(scene.next_tick(), Some(wait));
}

#[test]
fn e2_every_action_explains_itself_in_a_sentence() {
    let mut scene = Scene::exact();
    let said = |action: retry_machine::Action| action.to_string();
    assert_eq!(said(scene.at(0).start()), "sending attempt 1 with token 0");
    let hint = [("Retry-After", "30")];
    assert_eq!(said(scene.at(0).reply_with(503, &hint)), "attempt 1 of 6 got 503; waiting 30 s (retry-after)");
    let _ = scene.at(0).request(1).start();
    assert_eq!(said(scene.at(30_000).tick()), "the wait is over; sending attempt 2 with token 0");
    assert_eq!(said(scene.at(30_000).tick()), "an attempt or a refresh is under way");
    assert_eq!(said(scene.at(30_000).reply(401)), "attempt 2 of 7 got 401; refreshing the token");
    assert_eq!(said(scene.at(30_100).refreshed(REFRESHED)), "there is a new token; sending attempt 3 with token 1");
    let gone = said(scene.at(30_200).error(TransportErrorKind::Broken));
    assert_eq!(gone, "attempt 3 of 7 was cut off; waiting 2 s (back-off 2 s)");
    let _ = scene.at(32_200).tick();
    assert_eq!(said(scene.at(32_300).reply(200)), "done with 200");
}

#[test]
fn e2_a_hint_that_is_shorter_than_the_back_off_is_named_beside_it() {
    let said = |headers: &[(&str, &str)]| Scene::exact().after_the_start().reply_with(503, headers).to_string();
    let shorter =
        "attempt 1 of 6 got 503; waiting 1 s (back-off 1 s, which is longer than the 0.95 s that the server asked for)";
    assert_eq!(said(&[("retry-after-ms", "950")]), shorter);
    assert_eq!(said(&[("Retry-After", "0")]), "attempt 1 of 6 got 503; waiting 1 s (back-off 1 s)");
    assert_eq!(said(&[("Retry-After", "2")]), "attempt 1 of 6 got 503; waiting 2 s (retry-after)");
}

#[test]
fn e2_every_wait_names_its_reason() {
    let said = |headers: &[(&str, &str)]| Scene::exact().after_the_start().reply_with(429, headers).to_string();
    assert_eq!(said(&[]), "attempt 1 of 6 got 429; waiting 1 s (back-off 1 s)");
    let millis = [("retry-after-ms", "2500")];
    assert_eq!(said(&millis), "attempt 1 of 6 got 429; waiting 2.5 s (retry-after in milliseconds)");
    let reset = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9")];
    assert_eq!(said(&reset), "attempt 1 of 6 got 429; waiting 9 s (rate-limit reset)");
    let mut scene = Scene::exact();
    let _ = scene.after_the_start().reply_with(429, &millis);
    assert_eq!(scene.at(0).request(1).start().to_string(), "waiting 2.5 s (its turn at the gate)");
}

#[test]
fn e2_a_back_off_says_from_which_range_it_was_drawn() {
    let said = |jitter| {
        let action = Scene::with(Policy::flextell().into_builder().jitter(jitter)).after_the_start().reply(503);
        action.to_string().split_once(" (").unwrap().1.to_owned()
    };
    assert_eq!(said(Jitter::None), "back-off 1 s)");
    assert_eq!(said(Jitter::Spread), "back-off 1 s ± 0.5 s)");
    assert_eq!(said(Jitter::PROPORTIONAL), "back-off 1 s ± 0.25 s)");
    assert_eq!(said(Jitter::FULL), "back-off between 0 s and 1 s)");
    assert_eq!(said(Jitter::Above), "back-off between 1 s and 1.5 s)");
}

#[test]
fn e2_every_failure_says_why_the_last_attempt_failed() {
    let said = |error| Scene::with(exact().max_retries(0)).after_the_start().error(error).to_string();
    for (error, last) in [
        (TransportErrorKind::NotSent, "could not be sent"),
        (TransportErrorKind::TimedOut, "timed out"),
        (TransportErrorKind::Broken, "was cut off"),
        (TransportErrorKind::Other, "failed in transport"),
    ] {
        assert_eq!(
            said(error),
            format!("gave up after 1 attempt and 0 s, the last {last}: no retries are left; try later")
        );
    }
    assert_eq!(
        Scene::exact().at(0).cancel().to_string(),
        "gave up after 0 attempts and 0 s: the request was cancelled"
    );
    let failure = first_failure(exact(), 404, &[("RateLimit", "?"), ("Retry-After", "1"), ("Retry-After", "2")]);
    let sentence = "gave up after 1 attempt and 0.25 s, the last response was 404: ";
    assert!(failure.to_string().starts_with(sentence), "{failure}");
    let rejected = " (retry-after is given twice, ratelimit is void for a syntax error)";
    assert!(failure.to_string().ends_with(rejected), "{failure}");
    let failure = first_failure(exact().max_retries(0), 429, &[("Retry-After", "20")]);
    assert!(failure.to_string().ends_with("; try later, no sooner than 20 s from now"), "{failure}");
}

#[test]
fn e2_every_failure_by_a_status_has_its_sentence() {
    for (status, clauses) in [
        (400, "the request is invalid; fix the request: check its required fields and data types"),
        (403, "the token lacks a permission; authorize again with the right scopes"),
        (404, "there is no such resource; check the id and the path: ids are case-sensitive"),
        (409, "the request conflicts with an existing resource; change the request: use a unique identifier"),
        (418, "this response is not retried"),
        (422, "the request failed validation; read the message: it says which field failed"),
    ] {
        let failure = first_failure(exact(), status, &[]);
        let sentence = format!("gave up after 1 attempt and 0.25 s, the last response was {status}: {clauses}");
        assert_eq!(failure.to_string(), sentence);
    }
}

#[test]
fn e2_a_failed_refresh_ahead_of_expiry_has_its_sentences() {
    let refreshing = || {
        let mut scene = Scene::exact();
        scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(10));
        scene.at(6_000).start().is("refresh until 36000");
        scene
    };
    assert_eq!(
        refreshing().at(6_000).refreshed(UNAVAILABLE).to_string(),
        "the refresh failed, but the current token is still valid; sending attempt 1 with token 0"
    );
    assert_eq!(
        refreshing().at(11_000).refreshed(UNAVAILABLE).to_string(),
        "gave up after 0 attempts and 5 s: there is no new token; try later"
    );
    assert_eq!(
        refreshing().at(6_000).refreshed(REJECTED).to_string(),
        "gave up after 0 attempts and 0 s: the token refresh was rejected; authorize again"
    );
}

#[test]
fn e2_every_action_says_its_attempt() {
    let mut scene = Scene::exact();
    let attempts = [
        scene.at(0).start(),
        scene.at(0).tick(),
        scene.at(0).reply(503),
        scene.at(1_000).tick(),
        scene.at(1_000).reply(401),
        scene.at(1_000).refreshed(REFRESHED),
        scene.at(1_000).reply(200),
    ]
    .map(|action| action.attempt());
    assert_eq!(attempts, [1, 1, 1, 2, 2, 3, 3]);
    assert_eq!(scene.machine(0).attempts(), 3);
    scene.at(1_000).request(1).start().is("send 1 token 1");
    assert_eq!(scene.at(1_000).request(1).reply(404).attempt(), 1);
    assert_eq!(scene.at(1_000).request(2).cancel().attempt(), 0);
}

#[test]
fn e2_malformed_and_dropped_hints_are_named() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let text = scene.at(0).reply_with(429, &[("Retry-After", "soon")]).to_string();
    assert!(text.contains("got 429 (retry-after is malformed)"), "{text}");
    let failure = first_failure(exact(), 404, &[("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT")]);
    assert!(failure.to_string().contains("retry-after is a date without a clock"), "{failure}");
    let answer = Scene::exact().after_the_start().reply_with(200, &[("Retry-After", "soon")]);
    assert_eq!(answer.to_string(), "done with 200 (retry-after is malformed)");
}

#[test]
fn e2_a_failure_is_one_sentence() {
    let (_, end) = Scene::exact().fail_until_the_end(503);
    let sentence = "gave up after 6 attempts and 31 s, the last response was 503: no retries are left; try later";
    assert_eq!(end.to_string(), sentence);
}

// ---- E3, H8 ----

#[test]
fn e3_the_bodys_code_and_message_reach_the_user() {
    let line = last_line(&[
        r#"{"jitter": "none"}"#,
        r#"{"at_ms": 0, "event": "start"}"#,
        r#"{"at_ms": 9, "event": "reply", "status": 422, "body": "{\"error\": \"validation_error\", \"message\": \"The 'email' field is malformed.\"}"}"#,
    ]);
    assert_eq!((&line["kind"], &line["advice"]), (&"validation".into(), &"read_message".into()));
    assert_eq!(line["code"], "validation_error");
    assert_eq!(line["message"], "The 'email' field is malformed.");
}

#[test]
fn h8_a_success_body_is_never_parsed_and_a_bad_one_leaves_the_status_to_decide() {
    let body = r#""body": "{\"error\": \"token_revoked\"}"}"#;
    let reply = |status: u16, body: &str| format!(r#"{{"at_ms": 9, "event": "reply", "status": {status}, {body}"#);
    let start = r#"{"at_ms": 0, "event": "start"}"#;
    let line = last_line(&["{}", start, &reply(200, body)]);
    assert_eq!((&line["action"], &line["facts"]["code"]), (&"done".into(), &serde_json::Value::Null));
    let line = last_line(&["{}", start, &reply(401, body)]);
    assert_eq!((&line["kind"], &line["facts"]["code"]), (&"unauthorized".into(), &"token_revoked".into()));
    let line = last_line(&["{}", start, &reply(401, r#""body": "<html>"}"#)]);
    assert_eq!((&line["action"], &line["facts"]["code"]), (&"refresh_token".into(), &serde_json::Value::Null));
}

// ---- F7 ----

#[test]
fn f7_only_ticks_end_waits() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene.at(9_000).start().is("wait 2000 backoff");
    scene.at(9_000).reply_to(1, 503, &[]).is("wait 2000 backoff");
    scene.at(9_000).error(TransportErrorKind::NotSent).is("wait 2000 backoff");
    scene.at(9_000).tick().is("send 2 until 10000");
}

#[test]
fn f7_only_a_tick_gives_an_attempt_up() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(9_000).start().is("in flight until 1000");
    scene.at(9_000).reply_to(0, 503, &[]).is("in flight until 1000");
    scene.at(9_000).reply(200).is("done 200");
}

// ---- F8 ----

#[test]
fn f8_not_before_is_the_latest_future_instant_known() {
    let limits = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60"), ("Retry-After", "20")];
    let at = |failure: Failure| failure.not_before();
    // H6: `Retry-After` goes before the reset, also for the gate.
    assert_eq!(at(first_failure(exact().max_retries(0), 429, &limits)), Some(Timestamp::from_millis(20_250)));
    assert_eq!(at(first_failure(exact().max_retries(0), 429, &limits[..2])), Some(Timestamp::from_millis(60_250)));
    assert_eq!(at(first_failure(exact().max_retries(0), 429, &limits[2..])), Some(Timestamp::from_millis(20_250)));
    assert_eq!(at(first_failure(exact(), 403, &limits[..2])), Some(Timestamp::from_millis(60_250)));
    assert_eq!(at(first_failure(exact(), 404, &limits)), Some(Timestamp::from_millis(20_250)));
    assert_eq!(at(first_failure(exact(), 404, &[])), None);
    assert_eq!(at(failure_at_the_opening(&limits[2..])), Some(Timestamp::from_millis(60_250)));
    // A hint has passed at its end.
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &limits[2..]).is("wait 20000 retry_after");
    scene.at(20_000).tick().is("send 2");
    assert_eq!(at(scene.at(20_000).reply(404).fails(FailureKind::NotFound)), None);
}

#[test]
fn f8_every_failure_of_a_request_that_failed_has_a_cause() {
    let empty = Some(BudgetPolicy { capacity: 0, ..BudgetPolicy::DEFAULT });
    let limits = [
        (exact().max_retries(0), FailureKind::Exhausted),
        (exact().max_server_wait(secs(1)), FailureKind::ServerWaitTooLong),
        (exact().deadline(Some(secs(1))), FailureKind::Deadline),
        (exact().budget(empty), FailureKind::Budget),
    ];
    for (policy, kind) in limits {
        let failure = first_failure(policy, 503, &[("Retry-After", "2")]);
        assert_eq!((failure.kind(), failure.cause()), (kind, Some(Cause::Status)));
    }
    assert_eq!(failure_at_the_opening(&[]).cause(), Some(Cause::Status));
    for status in [400, 403, 404, 409, 422, 502] {
        assert_eq!(first_failure(exact(), status, &[]).cause(), Some(Cause::Status), "{status}");
    }
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    assert_eq!(scene.at(0).cancel().fails(FailureKind::Cancelled).cause(), None);
}

#[test]
fn f8_the_cause_says_why_the_last_attempt_failed() {
    let causes = [
        (TransportErrorKind::NotSent, Cause::NotSent),
        (TransportErrorKind::TimedOut, Cause::TimedOut),
        (TransportErrorKind::Broken, Cause::Broken),
        (TransportErrorKind::Other, Cause::Other),
    ];
    for (error, cause) in causes {
        let mut scene = Scene::with(exact().max_retries(0));
        scene.at(0).start().is("send 1");
        assert_eq!(scene.at(0).error(error).fails(FailureKind::Exhausted).cause(), Some(cause));
    }
}

#[test]
fn f8_each_kind_of_failure_has_its_advice() {
    let of_status = |status| first_failure(exact().max_token_recoveries(0), status, &[]).advice();
    #[rustfmt::skip]
    let table = [
        (400, Advice::FixRequest), (401, Advice::AuthorizeAgain), (403, Advice::AuthorizeWithScopes),
        (404, Advice::CheckId), (409, Advice::MakeUnique), (422, Advice::ReadMessage), (502, Advice::None),
    ];
    for (status, advice) in table {
        assert_eq!(of_status(status), advice, "{status}");
    }
    for (status, advice) in [(500, Advice::ContactSupport), (503, Advice::TryLater), (429, Advice::TryLater)] {
        assert_eq!(first_failure(exact().max_retries(0), status, &[]).advice(), advice, "exhausted by {status}");
    }
    for (outcome, advice) in [(REJECTED, Advice::AuthorizeAgain), (UNAVAILABLE, Advice::TryLater)] {
        let mut scene = Scene::exact();
        let _ = scene.at(0).start();
        let _ = scene.at(0).reply(401);
        let retry_machine::Action::Fail(failure) = scene.at(0).refreshed(outcome) else { panic!("{outcome:?}") };
        assert_eq!(failure.advice(), advice);
    }
    for (error, advice) in
        [(TransportErrorKind::Broken, Advice::CheckWhetherApplied), (TransportErrorKind::Other, Advice::TryLater)]
    {
        let mut scene = Scene::exact();
        let _ = scene.at(0).start_non_idempotent();
        let retry_machine::Action::Fail(failure) = scene.at(0).error(error) else { panic!("{error:?}") };
        assert_eq!(failure.advice(), advice);
    }
    assert_eq!(Scene::exact().at(0).cancel().fails(FailureKind::Cancelled).advice(), Advice::None);
    let limits = exact().deadline(Some(ms(0)));
    assert_eq!(Scene::with(limits).at(0).start().fails(FailureKind::Deadline).advice(), Advice::TryLater);
}
