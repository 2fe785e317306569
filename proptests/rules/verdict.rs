//! Verdicts, hints that the driver read, pushbacks, and the limits of one request: D15–D17, D12, H10, H11, E1.

use retry_machine::{
    Action, Advice, BudgetPolicy, DialectField, Event, FailureKind, FieldMeaning, Idempotency, Jitter, Policy,
    PolicyBuilder, Reply, RequestLimits, RetryMachine, StatusMeaning, TimeUnit, Timestamp, TransportErrorKind,
    Upstream, Verdict,
};

use crate::support::{Answer, REFRESHED, Scene, exact, ms, secs};

const FIELDS: &[DialectField] = &[
    DialectField::new("x-should-retry", FieldMeaning::Verdict),
    DialectField::new("x-pushback-ms", FieldMeaning::Pushback(TimeUnit::Milliseconds)),
];

fn sent(policy: PolicyBuilder, is_unsafe: bool) -> Scene {
    let mut scene = Scene::with(policy.dialect(FIELDS));
    let action = if is_unsafe { scene.at(0).start_non_idempotent() } else { scene.at(0).start() };
    assert!(matches!(action, Action::Send { attempt: 1, .. }), "{action}");
    scene
}

fn reply(reply: Reply) -> Event {
    Event::Reply { attempt: 1, reply }
}

// ---- D15 ----

#[test]
fn d15_final_is_surfaced_whatever_the_status_says() {
    let kinds = [
        (200, FailureKind::UnexpectedStatus),
        (302, FailureKind::UnexpectedStatus),
        (400, FailureKind::BadRequest),
        (401, FailureKind::Unauthorized),
        (403, FailureKind::Forbidden),
        (404, FailureKind::NotFound),
        (409, FailureKind::Conflict),
        (422, FailureKind::Validation),
        (429, FailureKind::UnexpectedStatus),
        (503, FailureKind::UnexpectedStatus),
        (999, FailureKind::UnexpectedStatus),
    ];
    for (status, kind) in kinds {
        let mut scene = sent(exact(), false);
        let said = Reply::new(status).with_hint(secs(9)).with_verdict(Verdict::Final);
        let failure = scene.at(0).tell(reply(said)).fails(kind);
        assert_eq!(failure.status(), Some(status));
        // E1: the hint is still part of what is known; H10: it closes no gate.
        assert_eq!(failure.not_before(), Some(Timestamp::from_millis(9_000)));
        scene.at(0).request(1).start().is("send 1");
    }
}

#[test]
fn d15_transient_and_throttled_are_retried_also_above_a_2xx_and_for_unsafe_requests() {
    for is_unsafe in [false, true] {
        for status in [200, 302, 404, 409, 500, 503, 999] {
            let transient = Reply::new(status).with_verdict(Verdict::Transient);
            sent(exact(), is_unsafe).at(0).tell(reply(transient)).is("wait 1000 backoff");
            let hinted = Reply::new(status).with_hint(secs(7)).with_verdict(Verdict::Throttled);
            let mut scene = sent(exact(), is_unsafe);
            scene.at(0).tell(reply(hinted)).is("wait 7000 told");
            scene.at(0).request(1).start().is("wait 7000 gate");
        }
    }
}

#[test]
fn d15_a_verdict_never_shortens_a_hint_and_every_limit_holds() {
    let far = Reply::new(200).with_hint(secs(301)).with_verdict(Verdict::Transient);
    sent(exact(), false).at(0).tell(reply(far)).fails(FailureKind::ServerWaitTooLong);
    let again = Reply::new(200).with_verdict(Verdict::Transient);
    sent(exact().max_retries(0), false).at(0).tell(reply(again)).fails(FailureKind::Exhausted);
    let broke = BudgetPolicy { capacity: 0, ..BudgetPolicy::DEFAULT };
    let failure = sent(exact().budget(Some(broke)), false).at(0).tell(reply(again)).fails(FailureKind::Budget);
    // E1: the end of the back-off that the budget refused.
    assert_eq!(failure.not_before(), Some(Timestamp::from_millis(1_000)));
    sent(exact().deadline(Some(secs(1))), false).at(0).tell(reply(again)).fails(FailureKind::Deadline);
}

#[test]
fn d15_token_expired_is_a_401_of_any_status() {
    for status in [200, 400, 403, 498, 500] {
        let said = Reply::new(status).with_verdict(Verdict::TokenExpired);
        let mut scene = sent(exact(), true);
        scene.at(0).tell(reply(said)).is("refresh until 30000");
        scene.at(10).refreshed(REFRESHED).is("send 2 token 1");
        let failure = scene.at(20).tell(Event::Reply { attempt: 2, reply: said }).fails(FailureKind::Unauthorized);
        assert_eq!((failure.status(), failure.advice()), (Some(status), Advice::AuthorizeAgain));
    }
}

#[test]
fn d15_on_a_401_only_final_and_token_expired_say_something() {
    for verdict in [Verdict::Transient, Verdict::Throttled] {
        let said = Reply::new(401).with_hint(secs(5)).with_verdict(verdict);
        let mut scene = sent(exact(), false);
        scene.at(0).tell(reply(said)).is("refresh until 30000");
        // K3: nobody sends with a refused token. The gate is open.
        scene.at(0).token_replaced();
        scene.at(0).request(1).start().is("send 1 token 1");
    }
    // D12: token expired goes before a challenge that says that a refresh does not help.
    let policy = exact().dialect(FIELDS).build().unwrap();
    let challenge = [("WWW-Authenticate", r#"Bearer error="insufficient_scope""#)];
    let said = policy.read(401, challenge).with_verdict(Verdict::TokenExpired);
    sent(exact(), false).at(0).tell(reply(said)).is("refresh until 30000");
}

#[test]
fn d15_the_driver_wins_over_the_field_and_of_fields_final_wins() {
    let policy = exact().dialect(FIELDS).build().unwrap();
    let read = |values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("X-Should-Retry", *value)).collect();
        policy.read(503, headers)
    };
    assert_eq!(read(&["true"]).verdict(), Some(Verdict::Transient));
    assert_eq!(read(&["FALSE"]).verdict(), Some(Verdict::Final));
    assert_eq!(read(&["true", "False"]).verdict(), Some(Verdict::Final));
    assert_eq!(read(&["false", "true"]).verdict(), Some(Verdict::Final));
    for malformed in ["", "1", "yes", "true false", "\"true\""] {
        assert_eq!((read(&[malformed]).verdict(), read(&[malformed]).rejected().is_empty()), (None, false));
    }
    assert_eq!(read(&["false"]).with_verdict(Verdict::Throttled).verdict(), Some(Verdict::Throttled));
}

#[test]
fn d15_a_late_reply_with_a_verdict_ends_nothing_and_its_hint_counts_if_it_is_retried() {
    for (verdict, end) in [
        (Verdict::Final, "wait 1000 backoff"),
        (Verdict::TokenExpired, "wait 1000 backoff"),
        (Verdict::Transient, "wait 20000 told"),
        (Verdict::Throttled, "wait 20000 told"),
    ] {
        let mut scene = sent(exact().attempt_timeout(Some(ms(0))), false);
        scene.at(0).tick().is("wait 1000 backoff");
        let late = Reply::new(200).with_hint(secs(20)).with_verdict(verdict);
        let action = scene.at(0).tell(reply(late));
        assert_eq!(action.short(), end, "{verdict:?}");
    }
}

// ---- D12 ----

#[test]
fn d12_the_switch_answers_scope_and_claims_with_one_refresh_that_names_them() {
    for error in ["insufficient_scope", "insufficient_claims", "token_revoked"] {
        let challenge = format!(r#"Bearer error="{error}""#);
        let headers = [("WWW-Authenticate", challenge.as_str())];
        let mut scene = sent(exact().refresh_on_insufficient(true), false);
        let action = scene.at(0).reply_with(401, &headers);
        if error == "token_revoked" {
            action.fails(FailureKind::Unauthorized);
            continue;
        }
        let Action::RefreshToken { challenge: Some(named), .. } = action else { panic!("{action}") };
        assert_eq!(named.name(), error);
        scene.at(0).refreshed(REFRESHED).is("send 2 token 1");
        // K2: the limit of recoveries holds; F8: the advice names the scope.
        let failure = scene.at(0).reply_with(401, &headers).fails(FailureKind::Unauthorized);
        assert_eq!(failure.advice(), Advice::AuthorizeWithScopes);
    }
}

// ---- D16 ----

#[test]
fn d16_a_told_hint_replaces_the_headers() {
    let policy = exact().dialect(FIELDS).build().unwrap();
    let said = policy.read(429, [("Retry-After", "60"), ("x-pushback-ms", "5")]).with_hint(secs(3));
    let mut scene = sent(exact(), false);
    scene.at(0).tell(reply(said)).is("wait 3000 told");
    scene.at(0).request(1).start().is("wait 3000 gate");
    // D11: it makes a reply hinted.
    let hinted = exact().on_hinted(418..=418, StatusMeaning::Retry);
    sent(hinted, false).at(0).tell(reply(Reply::new(418).with_hint(secs(0)))).is("wait 1000 backoff");
}

// ---- H11: pushbacks ----

#[test]
fn h11_a_pushback_is_exact_and_goes_before_every_hint() {
    let pushed = |wait| [("x-pushback-ms", wait), ("Retry-After", "60"), ("retry-after-ms", "9000")];
    for (wait, end) in [("0", "wait 0 pushback"), ("1500", "wait 1500 pushback"), ("0.5", "wait 1 pushback")] {
        let policy = exact().jitter(Jitter::Spread);
        sent(policy, false).at(0).reply_with(503, &pushed(wait)).is(end);
    }
    // L3 holds.
    sent(exact(), false).at(0).reply_with(503, &pushed("300001")).fails(FailureKind::ServerWaitTooLong);
}

#[test]
fn h11_a_malformed_negative_or_repeated_pushback_stops_what_would_be_retried() {
    let stops: [&[&str]; 6] = [&["xxx"], &["-1"], &[""], &["1000", "1000"], &["1000", "x"], &["1e3"]];
    for values in stops {
        let headers: Vec<_> = values.iter().map(|value| ("x-pushback-ms", *value)).collect();
        sent(exact(), false).at(0).reply_with(503, &headers).fails(FailureKind::UnexpectedStatus);
        // It counts only where the reply would be retried.
        sent(exact(), false).at(0).reply_with(200, &headers).is("done 200");
        sent(exact(), false).at(0).reply_with(404, &headers).fails(FailureKind::NotFound);
        sent(exact(), false).at(0).reply_with(401, &headers).is("refresh until 30000");
    }
}

// ---- D17 ----

fn limited(policy: PolicyBuilder, limits: RequestLimits) -> (Upstream, RetryMachine) {
    let mut upstream = Upstream::new(policy.build().unwrap());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 7).with_limits(limits);
    let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
    (upstream, machine)
}

fn failed(machine: &mut RetryMachine, upstream: &mut Upstream, at_ms: u64) -> Action {
    let event = Event::TransportError { attempt: machine.attempts(), kind: TransportErrorKind::NotSent };
    machine.handle(Timestamp::from_millis(at_ms), event, upstream)
}

#[test]
fn d17_the_tighter_limit_holds() {
    let deadline = |own, policy| {
        let limits = RequestLimits { deadline: own, ..RequestLimits::default() };
        let (upstream, machine) = limited(exact().deadline(policy), limits);
        machine.next_tick(upstream.policy()).map(Timestamp::as_millis_ceil)
    };
    assert_eq!(deadline(Some(secs(2)), None), Some(2_000));
    assert_eq!(deadline(Some(secs(2)), Some(secs(9))), Some(2_000));
    assert_eq!(deadline(Some(secs(9)), Some(secs(2))), Some(2_000));
    assert_eq!(deadline(None, Some(secs(2))), Some(2_000));
    assert_eq!(deadline(None, None), None);
    // Whole milliseconds, rounded up, and 49 days at most.
    assert_eq!(deadline(Some(std::time::Duration::from_micros(1)), None), Some(1));
    assert_eq!(deadline(Some(std::time::Duration::MAX), None), Some(49 * 24 * 3_600_000));
    let attempt = |own, policy| {
        let limits = RequestLimits { attempt_timeout: own, ..RequestLimits::default() };
        let (upstream, machine) = limited(exact().attempt_timeout(policy), limits);
        machine.next_tick(upstream.policy()).map(Timestamp::as_millis_ceil)
    };
    assert_eq!(attempt(Some(secs(2)), Some(secs(9))), Some(2_000));
    assert_eq!(attempt(Some(secs(9)), Some(secs(2))), Some(2_000));
    assert_eq!(attempt(Some(secs(9)), None), Some(9_000));
}

#[test]
fn d17_the_requests_own_retries_bound_both_counts_together() {
    let retries = |own: Option<u16>, policy: PolicyBuilder| {
        let limits = RequestLimits { max_retries: own, ..RequestLimits::default() };
        let (mut upstream, mut machine) = limited(policy.budget(None), limits);
        let mut now = 0;
        while let Action::Wait { until, .. } = failed(&mut machine, &mut upstream, now) {
            now = until.as_millis_ceil();
            let _ = machine.handle(until, Event::Tick, &mut upstream);
        }
        machine.attempts() - 1
    };
    assert_eq!(retries(Some(0), exact()), 0);
    assert_eq!(retries(Some(2), exact()), 2);
    assert_eq!(retries(Some(9), exact()), 5);
    assert_eq!(retries(None, exact()), 5);
    assert_eq!(retries(Some(u16::MAX), exact()), 5);
    // Both counts of B5.
    let limits = RequestLimits { max_retries: Some(2), ..RequestLimits::default() };
    let (mut upstream, mut machine) = limited(exact().throttle_retries(Some(9)).budget(None), limits);
    let status = |attempt, status| Event::Reply { attempt, reply: Reply::new(status) };
    machine.handle(Timestamp::ZERO, status(1, 429), &mut upstream).is("wait 1000 backoff");
    machine.handle(Timestamp::from_millis(1_000), Event::Tick, &mut upstream).is("send 2");
    machine.handle(Timestamp::from_millis(1_000), status(2, 503), &mut upstream).is("wait 2000 backoff");
    machine.handle(Timestamp::from_millis(2_000), Event::Tick, &mut upstream).is("send 3");
    machine.handle(Timestamp::from_millis(2_000), status(3, 429), &mut upstream).fails(FailureKind::Exhausted);
}

// ---- E1, F8 ----

#[test]
fn e1_not_before_knows_the_last_replys_hint_whatever_its_status() {
    for status in [404, 409, 418, 501] {
        let failure = match sent(exact(), false).at(0).reply_with(status, &[("Retry-After", "30")]) {
            Action::Fail(failure) => failure,
            other => panic!("{other}"),
        };
        assert_eq!(failure.not_before(), Some(Timestamp::from_millis(30_000)), "{status}");
    }
    // Also of a 401 whose refresh comes to nothing later.
    let mut scene = sent(exact(), false);
    scene.at(0).reply_with(401, &[("Retry-After", "30")]).is("refresh until 30000");
    let failure = scene.at(10).refreshed(crate::support::UNAVAILABLE).fails(FailureKind::TokenUnavailable);
    assert_eq!(failure.not_before(), Some(Timestamp::from_millis(30_000)));
    assert_eq!(Policy::flextell().max_retries(), 5);
}
