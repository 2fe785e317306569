//! Limits of requests and of what they share: S4–S6, F6.

use std::time::Duration;

use retry_machine::{
    BreakerPolicy, BudgetPolicy, Cause, FailureKind, Policy, Refund, RetryMachine, TransportErrorKind, Upstream,
};

use crate::support::{Answer, Scene, exact, secs};

/// Returns a budget for one retry, in which a success pays for another one and nothing else does.
fn one_retry(success_refund: u32) -> Option<BudgetPolicy> {
    let (refund, refill_every) = (Refund::Fixed, Duration::ZERO);
    Some(BudgetPolicy { capacity: 5, success_refund, refund, refill_every, ..BudgetPolicy::DEFAULT })
}

// ---- S4: deadlines ----

#[test]
fn s4_an_attempt_past_its_limit_has_timed_out() {
    let mut scene = Scene::with(exact().budget(one_retry(0)).attempt_timeout(Some(secs(1))));
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
    assert!(size_of::<Upstream>() <= 576, "{} bytes, and nothing behind a pointer", size_of::<Upstream>());
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
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let mut scene = Scene::with(exact().breaker(Some(breaker)));
    scene.at(0).start().is("send 1");
    scene.at(0).error(TransportErrorKind::NotSent).is("wait 1000 backoff");
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).error(TransportErrorKind::NotSent).fails(FailureKind::BreakerOpen);
    scene.at(20_000).request(1).start().is("send 1");
    scene.at(20_000).request(2).start().fails(FailureKind::BreakerOpen);
    scene.at(20_001).request(1).cancel().fails(FailureKind::Cancelled);
    scene.at(20_001).request(3).start().is("send 1");
}

// ---- F6 ----

#[test]
fn f6_a_late_2xx_refunds_and_a_late_failure_does_not_count_again() {
    let mut scene = Scene::with(exact().budget(one_retry(5)).attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene.at(1_500).reply_to(1, 503, &[]).is("wait 2000 backoff");
    let _ = scene.at(1_500).request(1).start();
    scene.at(1_500).request(1).reply(500).fails(FailureKind::Budget);
    scene.at(1_600).reply_to(1, 200, &[]).is("done 200");
    let _ = scene.at(1_600).request(2).start();
    scene.at(1_600).request(2).reply(500).is("wait 2600 backoff");
}
