//! Which attempts are retried, and the order of the limits: D11–D14, P1–P3, F1.

use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Cause, CodeClass, Event, FailureKind, Policy, PolicyError, Reply,
    StatusMeaning, Timestamp, TransportErrorKind,
};

use crate::support::{Answer, REFRESHED, REJECTED, Scene, exact, ms, secs};

const TRANSPORT_ERRORS: [TransportErrorKind; 4] =
    [TransportErrorKind::NotSent, TransportErrorKind::TimedOut, TransportErrorKind::Broken, TransportErrorKind::Other];

// ---- D11 ----

#[test]
fn d11_the_policy_sets_which_statuses_are_retried() {
    let mut scene = Scene::with(exact().retry_statuses(&[404, 599]));
    for (request, status) in [(0, 404), (1, 599)] {
        scene.at(0).request(request).start().is("send 1");
        scene.at(0).request(request).reply(status).is("wait 1000 backoff");
    }
    for (request, status) in [(2, 429), (3, 500), (4, 503)] {
        scene.at(0).request(request).start().is("send 1");
        scene.at(0).request(request).reply(status).fails(FailureKind::UnexpectedStatus);
    }
}

#[test]
fn d11_statuses_outside_400_to_599_and_401_are_refused() {
    for status in (0..=u16::MAX).filter(|status| !(400..=599).contains(status) || *status == 401) {
        let refused = exact().retry_statuses(&[503, status]).build().unwrap_err();
        assert_eq!(refused, PolicyError::StatusHasNoMeaning { status });
    }
    for status in (400..=599).filter(|status| *status != 401) {
        let policy = exact().retry_statuses(&[status]).build().unwrap();
        let is_retried = |other| policy.meaning(other, false) != StatusMeaning::Surface;
        assert!((0..=u16::MAX).all(|other| is_retried(other) == (other == status)), "{status}");
    }
}

#[test]
fn d11_the_second_preset_follows_common_practice() {
    use StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
    for status in 0..=u16::MAX {
        let expected = match status {
            408 | 500 | 502..=504 | 520..=524 => (RetryIfSafe, Retry),
            425 | 529 => (Retry, Retry),
            429 => (Throttle, Throttle),
            403 => (Surface, Throttle),
            _ => (Surface, Surface),
        };
        let policy = Policy::common();
        assert_eq!((policy.meaning(status, false), policy.meaning(status, true)), expected, "{status}");
    }
}

// ---- D12 ----

#[test]
fn d12_the_status_decides_whatever_the_code() {
    for code in [CodeClass::None, CodeClass::Other] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).tell(Event::Reply { attempt: 1, reply: Reply::new(401).with_code(code) }).is("refresh until 30000");
    }
    for code in [CodeClass::InsufficientScope, CodeClass::TokenRevoked, CodeClass::Other] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).tell(Event::Reply { attempt: 1, reply: Reply::new(503).with_code(code) }).is("wait 1000 backoff");
        scene.at(1_000).tick().is("send 2");
        scene.at(1_000).tell(Event::Reply { attempt: 2, reply: Reply::new(200).with_code(code) }).is("done 200");
    }
}

#[test]
fn d12_a_401_that_a_refresh_cannot_help_fails() {
    for error in ["insufficient_scope", "insufficient_claims", "token_revoked"] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let challenge = format!(r#"Bearer error="{error}""#);
        scene.at(0).reply_with(401, &[("WWW-Authenticate", &challenge)]).fails(FailureKind::Unauthorized);
    }
    for code in [CodeClass::InsufficientScope, CodeClass::TokenRevoked] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene
            .at(0)
            .tell(Event::Reply { attempt: 1, reply: Reply::new(401).with_code(code) })
            .fails(FailureKind::Unauthorized);
    }
}

// ---- D13, D14 ----

#[test]
fn d13_every_transport_error_is_retried_for_idempotent_requests() {
    for error in TRANSPORT_ERRORS {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).error(error).is("wait 1000 backoff");
        scene.at(1_000).tick().is("send 2");
    }
}

#[test]
fn d13_an_attempt_that_was_not_sent_is_retried_for_every_request() {
    let mut scene = Scene::exact();
    scene.at(0).start_non_idempotent().is("send 1");
    scene.at(0).error(TransportErrorKind::NotSent).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2");
}

#[test]
fn d14_other_transport_errors_fail_a_non_idempotent_request() {
    let kinds = [
        (TransportErrorKind::TimedOut, FailureKind::Ambiguous),
        (TransportErrorKind::Broken, FailureKind::Ambiguous),
        (TransportErrorKind::Other, FailureKind::Transport),
    ];
    for (error, kind) in kinds {
        let mut scene = Scene::exact();
        scene.at(0).start_non_idempotent().is("send 1");
        scene.at(0).error(error).fails(kind);
    }
}

#[test]
fn d14_the_guide_retries_500_for_every_method() {
    for status in [429, 500, 503] {
        let mut scene = Scene::exact();
        scene.at(0).start_non_idempotent().is("send 1");
        scene.at(0).reply(status).is("wait 1000 backoff");
    }
}

// ---- P1 ----

/// Returns a scene at 10 s in which request 0 waits until 1 s, the token is rejected, the breaker is open until 20 s, and the
/// gate is closed until 30 s.
fn with_every_obstacle(policy: retry_machine::PolicyBuilder) -> Scene {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let mut scene = Scene::with(policy.breaker(Some(breaker)));
    for request in 0..=3 {
        let _ = scene.at(0).request(request).start();
    }
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(0).request(1).reply(401).is("refresh until 30000");
    scene.at(0).request(1).refreshed(REJECTED).fails(FailureKind::TokenRejected);
    scene.at(10_000).request(3).reply(500).fails(FailureKind::BreakerOpen);
    let _ = scene.at(10_000).request(2).reply_with(429, &[("Retry-After", "20")]);
    scene
}

#[test]
fn p1_deadline_then_breaker_then_token_then_gate_then_send() {
    with_every_obstacle(exact().deadline(Some(secs(15)))).at(15_000).tick().fails(FailureKind::Deadline);
    with_every_obstacle(exact()).at(19_999).tick().fails(FailureKind::BreakerOpen);
    let mut scene = with_every_obstacle(exact());
    // From 20 s on the breaker lets a probe pass.
    scene.at(20_000).tick().fails(FailureKind::TokenRejected);
    scene.at(20_000).token_replaced();
    scene.at(20_000).request(4).start().is("wait 30000 gate");
    // C10: request 2 is the head, and the next one passes a quarter of the closing later.
    scene.at(30_000).request(4).tick().is("wait 35000 gate");
    scene.at(35_000).request(4).tick().is("send 1 token 1");
}

#[test]
fn p1_a_request_leads_a_refresh_behind_a_closed_gate() {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(80_000).close_gate(90_000);
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(81_000).refreshed(REFRESHED).is("wait 90000 gate");
    scene.at(90_000).tick().is("send 1 token 1");
}

#[test]
fn p1_a_turn_does_not_last_while_the_request_waits_for_a_token() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "12")]).is("wait 12000 retry_after");
    scene.at(0).request(1).start().is("wait 12000 gate");
    scene.at(12_000).request(1).tick().is("wait 15000 gate");
    scene.upstream.login.token_expires_in(Timestamp::from_millis(13_000), ms(1));
    // Its turn comes, but the token is due. The next slot is the one at 18 s.
    scene.at(15_000).request(1).tick().is("refresh until 45000");
    scene.at(15_100).request(1).refreshed(REFRESHED).is("wait 18000 gate");
    scene.at(18_000).request(1).tick().is("send 1 token 1");
}

#[test]
fn p1_d13_the_repetition_keeps_its_turn() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "12")]).is("wait 12000 retry_after");
    scene.at(12_000).tick().is("send 2");
    // The next free slot is at 15 s, but the repetition takes none.
    scene.at(12_100).error(TransportErrorKind::Unprocessed).is("send 3");
    // A closed gate holds it as a head: until the opening, whoever queues.
    scene.at(12_200).request(2).start().is("wait 15000 gate");
    scene.at(12_300).close_gate(20_000);
    scene.at(12_300).request(1).error(TransportErrorKind::Unprocessed).is("wait 20000 gate");
    scene.at(20_000).request(1).tick().is("send 2");
}

#[test]
fn p1_at_the_start_too_the_deadline_comes_first() {
    Scene::with(exact().deadline(Some(secs(0)))).at(0).start().fails(FailureKind::Deadline);
}

// ---- P2 ----

/// Removes the limits one by one, in their order: the first that remains is the failure.
#[test]
fn p2_the_first_limit_that_applies_is_the_failure() {
    let policy = exact().max_server_wait(secs(50));
    let empty = Some(BudgetPolicy { capacity: 0, ..BudgetPolicy::DEFAULT });
    let breaker = Some(BreakerPolicy { failure_threshold: 2, open_for: secs(100) });
    let hint = &[("Retry-After", "60")][..];
    let fail = |policy: retry_machine::PolicyBuilder, at: u64, headers: &[(&str, &str)]| {
        let mut scene = Scene::with(policy);
        // C5: the run of failures begins.
        let _ = scene.at(0).request(1).start();
        let _ = scene.at(0).request(1).reply(500);
        let _ = scene.at(100_000).start();
        let Action::Fail(failure) = scene.at(100_000 + at).reply_with(500, headers) else {
            panic!("a limit was ignored")
        };
        assert_eq!((failure.cause(), failure.status()), (Some(Cause::Status), Some(500)));
        failure.kind()
    };
    let policy = policy.budget(empty);
    assert_eq!(fail(policy.clone(), 0, &[]), FailureKind::Budget);
    let policy = policy.breaker(breaker);
    assert_eq!(fail(policy.clone(), 0, &[]), FailureKind::BreakerOpen);
    let policy = policy.deadline(Some(secs(1)));
    assert_eq!(fail(policy.clone(), 0, &[]), FailureKind::Deadline);
    assert_eq!(fail(policy.clone(), 0, hint), FailureKind::ServerWaitTooLong);
    let policy = policy.max_retries(0);
    assert_eq!(fail(policy.clone(), 0, hint), FailureKind::Exhausted);
    assert_eq!(fail(policy, 1_000, hint), FailureKind::Deadline);
}

#[test]
fn p2_a_status_that_is_not_retried_and_ambiguity_come_before_exhausted() {
    let policy = exact().max_retries(0).on(500..=500, StatusMeaning::RetryIfSafe);
    let mut scene = Scene::with(policy.clone());
    scene.at(0).start_non_idempotent().is("send 1");
    scene.at(0).reply(500).fails(FailureKind::Ambiguous);
    let mut scene = Scene::with(policy);
    scene.at(0).start_non_idempotent().is("send 1");
    scene.at(0).reply(404).fails(FailureKind::NotFound);
}

#[test]
fn p2_a_non_idempotent_request_in_flight_at_its_limit_is_ambiguous() {
    for limits in [exact().attempt_timeout(Some(secs(1))), exact().deadline(Some(secs(1)))] {
        let mut scene = Scene::with(limits.clone());
        scene.at(0).start_non_idempotent().is("send 1 until 1000");
        scene.at(1_000).tick().fails(FailureKind::Ambiguous);
        for error in [TransportErrorKind::TimedOut, TransportErrorKind::Broken, TransportErrorKind::Other] {
            let mut scene = Scene::with(limits.clone());
            scene.at(0).start_non_idempotent().is("send 1 until 1000");
            scene.at(1_000).error(error).fails(FailureKind::Ambiguous);
        }
    }
}

#[test]
fn p2_a_reply_is_on_time_if_no_tick_gave_its_attempt_up() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(5_000).reply(404).fails(FailureKind::NotFound);
    let mut scene = Scene::with(exact().deadline(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(5_000).reply(200).is("done 200");
}

// ---- P3 ----

#[test]
fn p3_only_a_granted_wait_is_charged() {
    let one = BudgetPolicy { capacity: 5, retry_cost: 5, throttle_cost: 0, success_refund: 0, ..BudgetPolicy::DEFAULT };
    let policy = || exact().budget(Some(one)).max_server_wait(secs(50));
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let (in_5, in_60) = (("Retry-After", "5"), ("Retry-After", "60"));
    let nothing_left = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")];
    let refusals = [
        (policy(), &[in_60][..], FailureKind::ServerWaitTooLong),
        (policy(), &nothing_left, FailureKind::ServerWaitTooLong),
        (policy().max_server_wait(secs(90)).deadline(Some(secs(30))), &[in_60], FailureKind::Deadline),
        (policy().breaker(Some(breaker)), &[in_5], FailureKind::BreakerOpen),
    ];
    for (policy, headers, kind) in refusals {
        let mut scene = Scene::with(policy);
        // C5: the run of failures begins, without a retry.
        scene.at(0).request(9).start_non_idempotent().short();
        scene.at(0).request(9).error(TransportErrorKind::Broken).fails(FailureKind::Ambiguous);
        for request in 0..3 {
            let _ = scene.at(10_000).request(request).start();
        }
        scene.at(10_000).reply_with(503, headers).fails(kind);
        scene.at(10_000).open_gate();
        scene.at(10_000).request(1).reply_with(503, &[("Retry-After", "20")]).is("wait 30000 retry_after");
        scene.at(10_000).request(2).reply_with(503, &[("Retry-After", "20")]).fails(FailureKind::Budget);
    }
}

#[test]
fn p3_a_cancel_refunds_nothing() {
    let one = BudgetPolicy { capacity: 5, retry_cost: 5, throttle_cost: 0, success_refund: 5, ..BudgetPolicy::DEFAULT };
    let mut scene = Scene::with(exact().budget(Some(one)));
    for request in 0..2 {
        scene.at(0).request(request).start().is("send 1");
    }
    scene.at(0).request(0).reply(503).is("wait 1000 backoff");
    scene.at(10).request(0).cancel().fails(FailureKind::Cancelled);
    scene.at(20).request(1).reply(503).fails(FailureKind::Budget);
}

// ---- F1 ----

#[test]
fn f1_past_the_deadline_only_a_failure_that_would_be_retried_becomes_deadline() {
    let kinds = [
        (400, FailureKind::BadRequest),
        (403, FailureKind::Forbidden),
        (404, FailureKind::NotFound),
        (502, FailureKind::UnexpectedStatus),
        (401, FailureKind::Deadline),
        (429, FailureKind::Deadline),
        (500, FailureKind::Deadline),
        (503, FailureKind::Deadline),
    ];
    for (status, kind) in kinds {
        let mut scene = Scene::with(exact().deadline(Some(secs(1))));
        scene.at(0).start().is("send 1 until 1000");
        scene.at(1_000).reply(status).fails(kind);
    }
}

#[test]
fn f1_an_answered_or_unsent_request_is_never_ambiguous() {
    let late = || {
        let mut scene = Scene::with(exact().deadline(Some(secs(1))));
        scene.at(0).start_non_idempotent().is("send 1 until 1000");
        scene
    };
    late().at(1_000).reply(503).fails(FailureKind::Deadline);
    late().at(1_000).error(TransportErrorKind::NotSent).fails(FailureKind::Deadline);
    late().at(1_000).error(TransportErrorKind::Broken).fails(FailureKind::Ambiguous);
}

#[test]
fn f1_a_sends_limit_is_the_earlier_of_attempt_limit_and_deadline() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(5))).deadline(Some(secs(8))));
    scene.at(0).start().is("send 1 until 5000");
    scene.at(4_000).reply(401).is("refresh until 34000");
    scene.at(4_500).refreshed(REFRESHED).is("send 2 token 1 until 8000");
}
