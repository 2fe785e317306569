//! The retry budget: S2, C1–C4.

use std::time::Duration;

use retry_machine::{
    Action, BudgetPolicy, Cause, Charge, FailureKind, PolicyBuilder, Refund, Timestamp, TransportErrorKind,
};

use crate::support::{Answer, REFRESHED, Scene, exact, secs};

/// Returns a policy with this budget, which time does not refill.
fn budget(capacity: u32, retry_cost: u32, throttle_cost: u32, success_refund: u32) -> PolicyBuilder {
    let refill_every = Duration::ZERO;
    let budget =
        BudgetPolicy { capacity, retry_cost, throttle_cost, success_refund, refill_every, ..BudgetPolicy::DEFAULT };
    exact().budget(Some(budget)).breaker(None)
}

/// Returns what the budget holds.
fn balance(scene: &Scene, millis: u64) -> u32 {
    scene.upstream.service.budget_balance(Timestamp::from_millis(millis)).unwrap()
}

/// Returns how many of these requests are granted a retry after this status.
fn granted(scene: &mut Scene, requests: std::ops::Range<u64>, status: u16) -> usize {
    let tried = requests.map(|request| {
        let _ = scene.at(0).request(request).start();
        scene.at(0).request(request).reply(status)
    });
    tried.filter(|action| matches!(action, Action::Wait { .. })).count()
}

// ---- S2, C1 ----

#[test]
fn c1_the_default_budget_holds_25_and_a_retry_costs_5() {
    let expected = BudgetPolicy {
        capacity: 25,
        floor: 0,
        retry_cost: 5,
        throttle_cost: 5,
        charge: Charge::Retry,
        success_refund: 1,
        refund: Refund::Paid,
        refill_every: secs(60),
    };
    assert_eq!(BudgetPolicy::DEFAULT, expected);
    for status in [429, 500] {
        let mut scene = Scene::exact();
        assert_eq!(balance(&scene, 0), 25);
        for left in [20, 15, 10, 5, 0] {
            let request = u64::from(left);
            scene.at(0).request(request).start().is("send 1");
            scene.at(0).request(request).reply(status).is("wait 1000 backoff");
            assert_eq!(balance(&scene, 0), left);
        }
        scene.at(0).request(9).start().is("send 1");
        scene.at(0).request(9).reply(status).fails(FailureKind::Budget);
        assert_eq!(balance(&scene, 0), 0);
    }
}

#[test]
fn s2_the_budget_starts_full_and_retries_withdraw_from_it() {
    assert_eq!(granted(&mut Scene::with(budget(50, 5, 0, 1)), 0..100, 503), 10);
    assert_eq!(granted(&mut Scene::with(budget(9, 5, 0, 1)), 0..100, 503), 1);
    assert_eq!(granted(&mut Scene::with(budget(0, 5, 0, 1)), 0..100, 503), 0);
    assert_eq!(granted(&mut Scene::with(exact().budget(None)), 0..100, 503), 100);
}

#[test]
fn s2_on_an_empty_budget_a_request_fails_with_the_original_cause() {
    let mut scene = Scene::with(budget(0, 5, 0, 1));
    scene.at(0).start().is("send 1");
    let failure = scene.at(0).reply(503).fails(FailureKind::Budget);
    assert_eq!((failure.cause(), failure.status()), (Some(Cause::Status), Some(503)));
}

#[test]
fn s2_a_wait_at_the_gate_costs_nothing() {
    let mut scene = Scene::with(budget(0, 5, 0, 1));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).request(1).start().is("wait 10000 gate");
}

#[test]
fn s2_a_retry_after_a_429_costs_the_throttle_cost() {
    assert_eq!(granted(&mut Scene::with(budget(50, 5, 0, 1)), 0..100, 429), 100);
    assert_eq!(granted(&mut Scene::with(budget(50, 5, 10, 1)), 0..100, 429), 5);
}

#[test]
fn s2_successes_refill_the_budget_up_to_its_capacity() {
    let mut scene = Scene::with(budget(50, 5, 5, 1));
    assert_eq!(granted(&mut scene, 0..20, 503), 10);
    for request in 20..29 {
        let _ = scene.at(0).request(request).start();
        scene.at(0).request(request).reply(204).is("done 204");
    }
    assert_eq!(granted(&mut scene, 30..40, 503), 1, "nine successes pay for one retry");
    for request in 100..300 {
        let _ = scene.at(0).request(request).start();
        let _ = scene.at(0).request(request).reply(200);
    }
    assert_eq!(granted(&mut scene, 300..400, 503), 10, "the balance exceeds the capacity");
}

#[test]
fn s2_d18_each_good_answer_refills_the_budget_and_no_other_does() {
    for (status, refilled) in [(200, 4), (301, 4), (404, 4), (101, 4), (502, 0), (600, 0)] {
        let mut scene = Scene::with(budget(50, 5, 5, 1));
        assert_eq!(granted(&mut scene, 0..20, 503), 10);
        for request in 20..40 {
            let _ = scene.at(0).request(request).start();
            let _ = scene.at(0).request(request).reply(status);
        }
        assert_eq!(granted(&mut scene, 40..60, 503), refilled, "{status}");
    }
}

#[test]
fn s2_a_lone_request_gets_its_five_retries() {
    let (waits, end) = Scene::exact().fail_until_the_end(503);
    assert_eq!(waits.len(), 5);
    end.fails(FailureKind::Exhausted);
}

#[test]
fn s2_a_send_after_a_refresh_costs_nothing() {
    let mut scene = Scene::with(budget(0, 5, 5, 0));
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).refreshed(REFRESHED).is("send 2 token 1");
}

// ---- C2 ----

/// Returns a scene in which requests 0 to 3 are in flight, and the 429 of request 0 has closed the gate until 10 s.
fn closed(policy: PolicyBuilder) -> Scene {
    let mut scene = Scene::with(policy);
    for request in 0..4 {
        scene.at(0).request(request).start().is("send 1");
    }
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene
}

#[test]
fn c2_a_throttle_that_finds_the_gate_closed_is_free() {
    let mut scene = closed(exact());
    assert_eq!(balance(&scene, 0), 20, "the throttle that closes the gate is not");
    scene.at(0).request(1).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).request(2).reply(429).is("wait 10000 gate");
    assert_eq!(balance(&scene, 0), 20);
    // Another failure has its price.
    scene.at(0).request(3).reply(503).is("wait 10000 gate");
    assert_eq!(balance(&scene, 0), 15);
    // At the opening the gate is closed no more.
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).reply(429).short();
    assert_eq!(balance(&scene, 10_000), 10);
}

#[test]
fn c2_a_free_retry_needs_no_balance_but_the_floor() {
    let mut scene = closed(budget(5, 5, 5, 0));
    assert_eq!(balance(&scene, 0), 0);
    scene.at(0).request(1).reply(429).is("wait 10000 gate");
    scene.at(0).request(3).reply(503).fails(FailureKind::Budget);
    let floor = BudgetPolicy { capacity: 5, floor: 1, throttle_cost: 4, ..BudgetPolicy::DEFAULT };
    let mut scene = closed(exact().budget(Some(floor)));
    assert_eq!(balance(&scene, 0), 1);
    scene.at(0).request(1).reply(429).is("wait 10000 gate");
}

#[test]
fn c2_where_throttles_are_counted_apart_one_with_a_hint_is_free() {
    let mut scene = Scene::with(exact().throttle_retries(Some(2)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "1")]).is("wait 1000 retry_after");
    assert_eq!(balance(&scene, 0), 25);
    for hint in ["0", "soon"] {
        let mut scene = Scene::with(exact().throttle_retries(Some(2)));
        scene.at(0).start().is("send 1");
        scene.at(0).reply_with(429, &[("Retry-After", hint)]).is("wait 1000 backoff");
        assert_eq!(balance(&scene, 0), 20, "{hint}");
    }
    // A hint on another failure is not counted apart.
    let mut scene = Scene::with(exact().throttle_retries(Some(2)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(503, &[("Retry-After", "5")]).is("wait 5000 retry_after");
    assert_eq!(balance(&scene, 0), 20);
}

#[test]
fn c2_where_failures_are_charged_a_free_throttle_charges_nothing() {
    let charged = BudgetPolicy { charge: Charge::Failure, ..BudgetPolicy::DEFAULT };
    let mut scene = closed(exact().budget(Some(charged)));
    assert_eq!(balance(&scene, 0), 20);
    scene.at(0).request(1).reply(429).is("wait 10000 gate");
    assert_eq!(balance(&scene, 0), 20);
    scene.at(0).request(3).reply(503).is("wait 10000 gate");
    assert_eq!(balance(&scene, 0), 15);
    let mut scene = Scene::with(exact().budget(Some(charged)).throttle_retries(Some(2)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "1")]).is("wait 1000 retry_after");
    assert_eq!(balance(&scene, 0), 25);
}

// ---- C3 ----

/// Returns a scene at 3 s whose request 0 has paid 10, and is in flight for the third time. 60 of 100 are left.
fn has_paid() -> Scene {
    let mut scene = Scene::with(budget(100, 5, 5, 1).attempt_timeout(Some(secs(30))));
    assert_eq!(granted(&mut scene, 100..106, 503), 6);
    scene.at(0).start().is("send 1 until 30000");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2 until 31000");
    scene.at(1_000).reply(429).is("wait 3000 backoff");
    scene.at(3_000).tick().is("send 3 until 33000");
    assert_eq!(balance(&scene, 3_000), 60);
    scene
}

#[test]
fn c3_a_good_answer_gives_back_1_and_all_that_its_request_has_paid() {
    for status in [200, 304, 404] {
        let mut scene = has_paid();
        let _ = scene.at(3_000).reply(status);
        assert_eq!(balance(&scene, 3_000), 71, "{status}");
    }
    // A request that has paid nothing gives back 1.
    let mut scene = has_paid();
    scene.at(3_000).request(1).start().is("send 1 until 33000");
    scene.at(3_000).request(1).reply(200).is("done 200");
    assert_eq!(balance(&scene, 3_000), 61);
}

#[test]
fn c3_no_more_than_the_capacity() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2");
    scene.at(1_000).reply(200).is("done 200");
    assert_eq!(balance(&scene, 1_000), 25);
}

#[test]
fn c3_a_late_success_gives_back_once() {
    let mut scene = has_paid();
    scene.at(33_000).tick().is("wait 37000 backoff");
    assert_eq!(balance(&scene, 33_000), 55);
    scene.at(34_000).reply_to(1, 200, &[]).is("done 200");
    assert_eq!(balance(&scene, 34_000), 71);
    // Another one gives back 1, and the same one nothing.
    scene.at(34_000).reply_to(3, 200, &[]).is("done 200");
    assert_eq!(balance(&scene, 34_000), 72);
    for attempt in [1, 3] {
        scene.at(34_000).reply_to(attempt, 200, &[]).is("done 200");
    }
    assert_eq!(balance(&scene, 34_000), 72);
}

#[test]
fn c3_after_a_good_401s_refresh_what_was_paid_comes_back_once() {
    let mut scene = has_paid();
    // A 401 is neutral: nothing comes back before the answer.
    scene.at(3_000).reply(401).is("refresh until 33000");
    assert_eq!(balance(&scene, 3_000), 60);
    scene.at(3_000).refreshed(REFRESHED).is("send 4 token 1 until 33000");
    scene.at(3_000).reply(200).is("done 200");
    assert_eq!(balance(&scene, 3_000), 71);
}

#[test]
fn c3_a_request_that_fails_gives_nothing_back() {
    let mut scene = has_paid();
    scene.at(3_000).reply(502).fails(FailureKind::UnexpectedStatus);
    assert_eq!(balance(&scene, 3_000), 60);
    let mut scene = has_paid();
    scene.at(3_000).cancel().fails(FailureKind::Cancelled);
    assert_eq!(balance(&scene, 3_000), 60);
    // But its late success does.
    scene.at(3_000).reply(200).fails(FailureKind::Cancelled);
    assert_eq!(balance(&scene, 3_000), 71);
    let mut scene = has_paid();
    scene.at(3_000).error(TransportErrorKind::Permanent).fails(FailureKind::Transport);
    assert_eq!(balance(&scene, 3_000), 60);
}

// ---- C4 ----

#[test]
fn c4_a_minute_brings_one_token_from_the_last_full_budget_on() {
    let mut scene = Scene::exact();
    // The budget was full until 90 s, whatever the minute is.
    for request in 0..2 {
        scene.at(90_000).request(request).start().is("send 1");
        scene.at(90_000).request(request).reply(503).is("wait 91000 backoff");
    }
    for (millis, left) in [(90_000, 15), (149_999, 15), (150_000, 16), (209_999, 16), (210_000, 17), (690_000, 25)] {
        assert_eq!(balance(&scene, millis), left, "{millis}");
    }
    assert_eq!(balance(&scene, u64::MAX), 25, "up to the capacity");
    // A withdrawal between two tokens changes nothing for the next one.
    scene.at(160_000).request(2).start().is("send 1");
    scene.at(160_000).request(2).reply(503).is("wait 161000 backoff");
    for (millis, left) in [(160_000, 11), (209_999, 11), (210_000, 12)] {
        assert_eq!(balance(&scene, millis), left, "{millis}");
    }
}

#[test]
fn c4_the_minutes_begin_anew_when_the_budget_is_full() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    // Full again at 300 s, and asked at 330 s.
    assert_eq!((balance(&scene, 299_999), balance(&scene, 300_000)), (24, 25));
    scene.at(330_000).request(1).start().is("send 1");
    scene.at(330_000).request(1).reply(503).is("wait 331000 backoff");
    assert_eq!((balance(&scene, 389_999), balance(&scene, 390_000)), (20, 21));
}

#[test]
fn c4_a_retry_is_paid_with_what_time_has_brought() {
    let mut scene = Scene::with(exact().breaker(None));
    for request in 0..5 {
        scene.at(0).request(request).start().is("send 1");
        scene.at(0).request(request).reply(503).is("wait 1000 backoff");
    }
    for (request, now) in [(5, 0), (6, 299_999)] {
        scene.at(now).request(request).start_non_idempotent().is("send 1");
        scene.at(now).request(request).reply(500).fails(FailureKind::Budget);
    }
    scene.at(300_000).request(7).start().is("send 1");
    scene.at(300_000).request(7).reply(429).is("wait 301000 backoff");
}

#[test]
fn c4_with_a_time_of_zero_time_brings_nothing() {
    let mut scene = Scene::with(budget(25, 5, 5, 1));
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    assert_eq!(balance(&scene, u64::MAX), 20);
}
