//! Limits that all requests of an upstream share: S1–S6, F3, F6.

use std::collections::BTreeSet;
use std::time::Duration;

use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Cause, FailureKind, Policy, PolicyBuilder, RetryMachine, Timestamp,
    TransportErrorKind, Upstream,
};

use crate::support::{Answer, REFRESHED, Scene, exact, ms, secs};

/// Returns a scene with a closed gate: request 0 got a 429 with a hint of 10 s at 0 s.
fn closed() -> Scene {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene
}

// ---- S1: the gate ----

#[test]
fn s1_a_429s_hint_closes_the_upstream_for_every_request() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).request(2).start().is("send 1");
    scene.at(0).request(2).reply(503).is("wait 1000 backoff");
    scene.at(0).start().is("send 1");
    scene.at(500).reply_with(429, &[("Retry-After", "10")]).is("wait 10500 retry_after");
    scene.at(600).request(1).reply(503).is("wait 10500 gate");
    scene.at(1_000).request(2).tick().is("wait 10500 gate");
    scene.at(1_000).request(3).start().is("wait 10500 gate");
    scene.at(10_500).request(3).tick().is("send 1");
}

#[test]
fn s1_a_503s_hint_binds_its_own_request_alone() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(503, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).request(1).start().is("send 1");
}

#[test]
fn s1_a_remaining_of_0_with_a_reset_closes_the_gate() {
    for status in [200, 403, 429, 503] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let _ = scene.at(0).reply_with(status, &[("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "10")]);
        scene.at(0).request(1).start().is("wait 10000 gate");
    }
}

#[test]
fn s1_a_wait_ends_at_the_later_of_its_own_end_and_the_opening() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    let _ = scene.at(0).start();
    scene.at(0).reply_with(429, &[("Retry-After", "1")]).is("wait 1000 retry_after");
    scene.at(0).request(1).reply_with(503, &[("Retry-After", "5")]).is("wait 5000 retry_after");
    scene.at(100).request(2).start().is("wait 1000 gate");
}

#[test]
fn s1_the_gate_is_looked_at_again_when_a_wait_ends() {
    let mut scene = closed();
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).reply_with(429, &[("Retry-After", "20")]).is("wait 30000 retry_after");
    scene.at(10_000).request(1).tick().is("wait 30000 gate");
    scene.at(30_000).request(1).tick().is("send 1");
}

#[test]
fn s1_f3_a_request_waits_at_the_gate_for_at_most_the_longest_server_wait_in_all() {
    let mut scene = Scene::with(exact().max_server_wait(secs(15)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(2_000).request(2).start().is("wait 10000 gate");
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).reply_with(429, &[("Retry-After", "7")]).is("wait 17000 retry_after");
    let failure = scene.at(10_000).request(1).tick().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(Timestamp::from_millis(17_000)));
    scene.at(10_000).request(2).tick().is("wait 17000 gate");
}

#[test]
fn f3_the_time_actually_waited_counts_a_late_tick_too() {
    let mut scene = Scene::with(exact().max_server_wait(secs(15)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "5")]).is("wait 5000 retry_after");
    scene.at(0).request(1).start().is("wait 5000 gate");
    scene.at(5_000).tick().is("send 2");
    scene.at(12_000).reply_with(429, &[("Retry-After", "4")]).is("wait 16000 retry_after");
    scene.at(12_000).request(1).tick().fails(FailureKind::ServerWaitTooLong);
}

#[test]
fn f3_a_late_hint_ends_the_time_at_the_gate() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(0).request(1).start().is("send 1 until 1000");
    scene.at(500).reply_with(429, &[("Retry-After", "200")]).is("wait 200500 retry_after");
    scene.at(1_000).request(1).tick().is("wait 200500 gate");
    scene.at(10_500).request(1).reply_to(1, 503, &[("Retry-After", "250")]).is("wait 260500 retry_after");
    scene.at(250_000).tick().is("send 2 until 251000");
    scene.at(250_000).reply_with(429, &[("Retry-After", "280")]).is("wait 530000 retry_after");
    // It has waited at the gate for 9.5 s, and 269.5 s remain.
    scene.at(260_500).request(1).tick().is("wait 530000 gate");
}

#[test]
fn s1_f3_an_operator_can_open_the_gate_and_waits_under_way_keep_their_end() {
    let mut scene = closed();
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(5_000).open_gate();
    scene.at(5_000).request(2).start().is("send 1");
    scene.at(5_000).request(1).tick().is("wait 10000 gate");
    scene.at(5_000).tick().is("wait 10000 retry_after");
}

#[test]
fn s1_a_later_reply_never_opens_the_gate_sooner() {
    let mut scene = closed();
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(1_000).reply_to(1, 429, &[("Retry-After", "1")]).is("wait 10000 retry_after");
    scene.at(1_000).request(2).start().is("wait 10000 gate");
}

#[test]
fn s1_the_gate_can_be_switched_off() {
    let mut scene = Scene::with(exact().gate(false));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).request(1).start().is("send 1");
}

#[test]
fn s1_a_lone_request_waits_at_most_its_hint_and_the_spread() {
    for seed in 0..500 {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        scene.at(0).start().is("send 1");
        let end = scene.at(0).reply_with(429, &[("Retry-After", "60")]).end_of_wait();
        assert!(end <= Timestamp::from_millis(60_500), "{end:?}");
    }
}

#[test]
fn s1_the_requests_that_the_gate_holds_do_not_pass_together() {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    let _ = scene.at(0).reply_with(429, &[("Retry-After", "60")]);
    let ends: BTreeSet<_> = (1..=200).map(|n| scene.at(0).request(n).start().end_of_wait()).collect();
    let (first, last) = (*ends.first().unwrap(), *ends.last().unwrap());
    assert_eq!(ends.len(), 200);
    assert!(first >= Timestamp::from_millis(60_000) && last <= Timestamp::from_millis(120_000));
    assert!(last.saturating_duration_since(first) > secs(50), "the spread is shorter than the closed time");
}

#[test]
fn s1_behind_a_short_closing_the_requests_are_spread_over_the_spread() {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    let _ = scene.at(0).reply_with(429, &[("retry-after-ms", "100")]);
    let ends: BTreeSet<_> = (1..=500).map(|n| scene.at(0).request(n).start().end_of_wait()).collect();
    let (first, last) = (*ends.first().unwrap(), *ends.last().unwrap());
    assert!(first >= Timestamp::from_millis(100) && last <= Timestamp::from_millis(600), "{first:?}, {last:?}");
    assert!(last > Timestamp::from_millis(590), "the spread is longer than the closed time");
}

#[test]
fn s1_a_throttle_after_an_exhausted_limit_is_the_first_one() {
    for seed in 0..500 {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        scene.at(0).request(1).start().is("send 1");
        let limit = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")];
        scene.at(0).request(1).reply_with(200, &limit).is("done 200");
        scene.at(61_000).start().is("send 1");
        let end = scene.at(61_000).reply_with(429, &[("Retry-After", "60")]).end_of_wait();
        assert!(end <= Timestamp::from_millis(121_500), "{end:?}");
    }
}

#[test]
fn s1_a_request_throttled_again_is_spread_over_the_closed_time() {
    // The waits of a lone request after its second 429. After the first the gate is closed for 60 s.
    let waits = |again: Timestamp| -> BTreeSet<Duration> {
        let wait = |seed| {
            let mut scene = Scene::new(Policy::flextell());
            scene.seed = seed;
            scene.at(0).start().is("send 1");
            let sent = scene.at(0).reply_with(429, &[("Retry-After", "60")]).end_of_wait();
            scene.at_time(sent).tick().is("send 2");
            let end = scene.at_time(again).reply_with(429, &[("Retry-After", "60")]).end_of_wait();
            end.saturating_duration_since(again)
        };
        (0..500).map(wait).collect()
    };
    // The spread is at most the time for which the gate was closed.
    for again in [61_000, 120_000] {
        let waits = waits(Timestamp::from_millis(again));
        assert!(*waits.first().unwrap() >= secs(60) && *waits.last().unwrap() <= secs(240), "{waits:?}");
        assert!(*waits.last().unwrap() > secs(200), "the gate opens later, and the requests that it held are spread");
    }
    let calm = waits(Timestamp::from_millis(120_001));
    assert!(*calm.first().unwrap() >= secs(60) && *calm.last().unwrap() <= ms(60_500), "{calm:?}");
}

#[test]
fn s1_the_policy_can_set_the_spread() {
    let mut scene = Scene::with(Policy::flextell().into_builder().gate_spread(Some(secs(2))));
    scene.at(0).start().is("send 1");
    let _ = scene.at(0).reply_with(429, &[("Retry-After", "60")]);
    let ends: BTreeSet<_> = (1..=500).map(|n| scene.at(0).request(n).start().end_of_wait()).collect();
    assert!(
        *ends.first().unwrap() >= Timestamp::from_millis(60_000)
            && *ends.last().unwrap() <= Timestamp::from_millis(62_000)
    );
    assert!(*ends.last().unwrap() > Timestamp::from_millis(61_900));
}

#[test]
fn f3_at_equal_ends_the_reason_is_back_off_before_hint_before_gate() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).request(2).start().is("send 1");
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "1")]).is("wait 1000 retry_after");
    scene.at(0).request(1).reply(503).is("wait 1000 backoff");
    scene.at(0).request(2).reply_with(503, &[("Retry-After", "1")]).is("wait 1000 backoff");
}

// ---- S2: the budget ----

fn budget(capacity: u32, retry_cost: u32, throttle_cost: u32, success_refund: u32) -> PolicyBuilder {
    exact().budget(Some(BudgetPolicy { capacity, retry_cost, throttle_cost, success_refund, ..BudgetPolicy::DEFAULT }))
}

/// Returns how many of these requests are granted a retry after this status.
fn granted(scene: &mut Scene, requests: std::ops::Range<u64>, status: u16) -> usize {
    let tried = requests.map(|request| {
        let _ = scene.at(0).request(request).start();
        scene.at(0).request(request).reply(status)
    });
    tried.filter(|action| matches!(action, Action::Wait { .. })).count()
}

#[test]
fn s2_the_budget_starts_full_and_retries_withdraw_from_it() {
    assert_eq!(granted(&mut Scene::with(budget(50, 5, 0, 1)), 0..100, 503), 10);
    assert_eq!(granted(&mut Scene::exact(), 0..100, 500), 10, "the default is 50 tokens, 5 for a retry");
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
    assert_eq!(granted(&mut Scene::exact(), 0..100, 429), 100);
    assert_eq!(granted(&mut Scene::with(budget(50, 5, 10, 1)), 0..100, 429), 5);
}

#[test]
fn s2_successes_refill_the_budget_up_to_its_capacity() {
    let mut scene = Scene::exact();
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
        let mut scene = Scene::exact();
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

// ---- S4: deadlines ----

#[test]
fn s4_an_attempt_past_its_limit_has_timed_out() {
    let mut scene = Scene::with(budget(5, 5, 0, 0).attempt_timeout(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(999).tick().is("in flight until 1000");
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene.at(2_000).tick().is("send 2 until 3000");
    let failure = scene.at(3_000).tick().fails(FailureKind::Budget);
    assert_eq!(failure.cause(), Some(Cause::TimedOut));
}

#[test]
fn s4_the_deadline_counts_from_the_start_and_covers_the_whole_request() {
    let mut scene = Scene::with(exact().deadline(Some(secs(5))));
    scene.at(1_000).start().is("send 1 until 6000");
    scene.at(2_000).reply(503).is("wait 3000 backoff");
    scene.at(3_000).tick().is("send 2 until 6000");
    scene.at(6_000).tick().fails(FailureKind::Deadline);
}

// ---- S5, S6 ----

#[test]
fn s5_shared_state_never_grows() {
    let mut scene = Scene::new(Policy::flextell());
    for request in 0..1_000 {
        let _ = scene.at(request).request(request).start();
        let _ = scene.at(request).request(request).reply_with(429, &[("Retry-After", "1")]);
    }
    assert!(size_of::<Upstream>() <= 480, "{} bytes, and nothing behind a pointer", size_of::<Upstream>());
    assert!(!std::mem::needs_drop::<Upstream>() && !std::mem::needs_drop::<RetryMachine>());
}

#[test]
fn s6_a_cancelled_request_fails_in_every_state() {
    type Prepare = fn(&mut Scene);
    let states: [Prepare; 4] = [
        |_| {},
        |scene| drop(scene.at(0).start().short()),
        |scene| drop((scene.at(0).start().short(), scene.at(0).reply(503).short())),
        |scene| drop((scene.at(0).start().short(), scene.at(0).reply(401).short())),
    ];
    for (attempts, prepare) in [0, 1, 1, 1].into_iter().zip(states) {
        let mut scene = Scene::exact();
        prepare(&mut scene);
        let failure = scene.at(10).cancel().fails(FailureKind::Cancelled);
        assert_eq!(failure.attempts(), attempts);
    }
}

#[test]
fn s6_a_cancelled_probe_gives_its_permit_back() {
    let breaker = BreakerPolicy { failure_threshold: 1, open_for: secs(10) };
    let mut scene = Scene::with(exact().breaker(Some(breaker)));
    scene.at(0).start().is("send 1");
    scene.at(0).error(TransportErrorKind::NotSent).fails(FailureKind::BreakerOpen);
    scene.at(10_000).request(1).start().is("send 1");
    scene.at(10_000).request(2).start().fails(FailureKind::BreakerOpen);
    scene.at(10_001).request(1).cancel().fails(FailureKind::Cancelled);
    scene.at(10_001).request(3).start().is("send 1");
}

// ---- F6 ----

#[test]
fn f6_a_late_2xx_refunds_and_a_late_failure_does_not_count_again() {
    let mut scene = Scene::with(budget(5, 5, 0, 5).attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene.at(1_500).reply_to(1, 503, &[]).is("wait 2000 backoff");
    let _ = scene.at(1_500).request(1).start();
    scene.at(1_500).request(1).reply(500).fails(FailureKind::Budget);
    scene.at(1_600).reply_to(1, 200, &[]).is("done 200");
    let _ = scene.at(1_600).request(2).start();
    scene.at(1_600).request(2).reply(500).is("wait 2600 backoff");
}
