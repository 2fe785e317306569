//! The budget and late successes: F6.

use std::time::Duration;

use retry_machine::{BudgetPolicy, FailureKind, Refund};

use crate::support::{Answer, Scene, exact, secs};

/// Returns a budget in which each success pays for one retry, and nothing else does.
fn budget(capacity: u32) -> Option<BudgetPolicy> {
    Some(BudgetPolicy {
        capacity,
        throttle_cost: 0,
        success_refund: 5,
        refund: Refund::Fixed,
        refill_every: Duration::ZERO,
        ..BudgetPolicy::DEFAULT
    })
}

/// Returns a scene with an empty budget, in which each success pays for one retry.
fn with_an_empty_budget() -> Scene {
    let mut scene = Scene::with(exact().budget(budget(10)).attempt_timeout(Some(secs(1))));
    for request in [100, 101] {
        assert!(is_granted(&mut scene, request));
    }
    assert!(!is_granted(&mut scene, 102));
    scene
}

/// Returns whether a new request is granted a retry.
fn is_granted(scene: &mut Scene, request: u64) -> bool {
    let _ = scene.at(0).request(request).start();
    !scene.at(0).request(request).reply(503).is_terminal()
}

/// Returns whether one more new request is granted a retry.
fn next_is_granted(scene: &mut Scene) -> bool {
    let next = scene.requests().len() as u64;
    is_granted(scene, next)
}

/// Returns a scene whose request 0 gave up two attempts, and ended because the first of them succeeded late.
fn succeeded_late() -> Scene {
    let mut scene = Scene::with(exact().budget(budget(20)).attempt_timeout(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene.at(2_000).tick().is("send 2 until 3000");
    scene.at(3_000).tick().is("wait 5000 backoff");
    scene.at(4_000).reply_to(1, 200, &[]).is("done 200");
    for request in [100, 101, 102] {
        assert!(is_granted(&mut scene, request));
    }
    assert!(!is_granted(&mut scene, 103), "the budget is empty");
    scene
}

#[test]
fn f6_the_same_late_2xx_twice_refunds_once() {
    let mut scene = succeeded_late();
    scene.at(4_000).reply_to(1, 200, &[]).is("done 200");
    assert!(!is_granted(&mut scene, 200));
}

#[test]
fn f6_a_late_2xx_of_another_attempt_refunds_too() {
    let mut scene = succeeded_late();
    scene.at(4_000).reply_to(2, 200, &[]).is("done 200");
    assert!(is_granted(&mut scene, 200));
}

#[test]
fn f6_a_late_2xx_of_each_attempt_refunds_only_once() {
    let mut scene = succeeded_late();
    scene.at(4_000).reply_to(2, 200, &[]).is("done 200");
    assert!(is_granted(&mut scene, 200));
    for attempt in [1, 2, 1, 2] {
        scene.at(4_000).reply_to(attempt, 200, &[]).is("done 200");
        assert!(!is_granted(&mut scene, 300 + u64::from(attempt)), "attempt {attempt} counts again");
    }
}

#[test]
fn f6_each_late_2xx_of_the_last_eight_attempts_refunds_once() {
    let policy = exact().initial_backoff(secs(1)).backoff_factor(1, 1).max_retries(9).attempt_timeout(Some(secs(1)));
    let policy = policy.breaker(None);
    let mut scene = Scene::with(policy.budget(budget(100)));
    let _ = scene.at(0).start();
    for attempt in 1..10 {
        let _ = scene.at(2_000 * attempt - 1_000).tick();
        scene.at(2_000 * attempt).tick().is(&format!("send {} until {}", attempt + 1, 2_000 * attempt + 1_000));
    }
    scene.at(19_000).tick().fails(FailureKind::Exhausted);
    while next_is_granted(&mut scene) {}
    for attempt in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] {
        for first in [true, false] {
            scene.at(19_000).reply_to(attempt, 200, &[]).fails(FailureKind::Exhausted);
            assert_eq!(next_is_granted(&mut scene), first && attempt > 2, "attempt {attempt}");
        }
    }
}

#[test]
fn f6_after_a_cancel_the_same_2xx_twice_refunds_once() {
    let mut scene = with_an_empty_budget();
    let _ = scene.at(0).start();
    scene.at(0).cancel().fails(FailureKind::Cancelled);
    scene.at(0).reply(200).fails(FailureKind::Cancelled);
    assert!(is_granted(&mut scene, 200));
    scene.at(0).reply(200).fails(FailureKind::Cancelled);
    assert!(!is_granted(&mut scene, 201));
}

#[test]
fn f6_the_budget_ignores_attempts_that_were_never_sent() {
    let mut scene = with_an_empty_budget();
    let _ = scene.at(0).start();
    scene.at(0).cancel().fails(FailureKind::Cancelled);
    for attempt in [0, 2, u32::MAX] {
        scene.at(0).reply_to(attempt, 200, &[]).fails(FailureKind::Cancelled);
    }
    assert!(!is_granted(&mut scene, 200));
}
