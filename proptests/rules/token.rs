//! The token: leaders and followers of a refresh: K1–K6, K8.

use retry_machine::{Action, FailureKind, PolicyBuilder, RefreshOutcome};

use crate::support::{ABANDONED, Answer, IN_VAIN, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, secs};

/// Returns a scene in which requests 0 to `n` − 1 have sent their first attempt.
fn all_sent(policy: PolicyBuilder, n: u64) -> Scene {
    let mut scene = Scene::with(policy);
    for request in 0..n {
        let _ = scene.at(0).request(request).start();
    }
    scene
}

/// Returns a scene in which request 0 leads a refresh until 30 s, and the others follow it.
fn one_leads(n: u64) -> Scene {
    let mut scene = all_sent(exact(), n);
    scene.at(0).reply(401).is("refresh until 30000");
    for request in 1..n {
        scene.at(0).request(request).reply(401).is("await until 30000");
    }
    scene
}

// ---- K1, K2 ----

#[test]
fn k1_a_401_is_followed_by_a_send_only_after_a_successful_refresh() {
    let mut scene = one_leads(1);
    scene.at(10).tick().is("in flight until 30000");
    scene.at(20).refreshed(REFRESHED).is("send 2 token 1");
    for outcome in IN_VAIN {
        let mut scene = one_leads(1);
        assert!(scene.at(20).refreshed(outcome).is_terminal());
    }
}

#[test]
fn k2_one_recovery_per_request_by_leading_by_following_or_by_a_newer_token() {
    let mut scene = one_leads(2);
    scene.at(10).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).reply(401).fails(FailureKind::Unauthorized);
    scene.at(20).request(1).tick().is("send 2 token 1");
    scene.at(30).request(1).reply(401).fails(FailureKind::Unauthorized);

    let mut scene = all_sent(exact(), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).request(1).reply(401).is("send 2 token 1");
    scene.at(30).request(1).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k2_attempts_are_at_most_one_plus_retries_plus_recoveries() {
    let mut scene = Scene::with(exact().max_retries(2).max_token_recoveries(3));
    let (mut now, mut action) = (0, scene.at(0).start());
    let mut statuses = [401, 503, 401, 503, 401, 503].into_iter();
    while !action.is_terminal() {
        action = match action {
            retry_machine::Action::Send { .. } => scene.at(now).reply(statuses.next().unwrap()),
            retry_machine::Action::RefreshToken { .. } => scene.at(now).refreshed(REFRESHED),
            _ => {
                now = action.end_of_wait().as_millis_ceil();
                scene.at(now).tick()
            }
        };
    }
    assert_eq!(action.fails(FailureKind::Exhausted).attempts(), 1 + 2 + 3);
}

#[test]
fn b3_a_send_after_a_refresh_is_not_a_retry() {
    let mut scene = Scene::with(exact().max_retries(1));
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 3 token 1");
    scene.at(1_000).reply(503).fails(FailureKind::Exhausted);
}

// ---- K3, K4 ----

#[test]
fn k3_the_first_leads_and_the_others_wait_for_it() {
    let mut scene = one_leads(50);
    scene.at(10).tick().is("in flight until 30000");
    for request in 1..50 {
        scene.at(10).request(request).tick().is("await until 30000");
    }
    scene.at(20).refreshed(REFRESHED).is("send 2 token 1");
    for request in 1..50 {
        scene.at(30).request(request).tick().is("send 2 token 1");
    }
}

#[test]
fn k4_a_401_for_an_older_token_is_sent_again_without_a_refresh() {
    let mut scene = all_sent(exact(), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).request(1).reply(401).is("send 2 token 1");
}

#[test]
fn k4_a_replaced_token_counts_as_newer() {
    let mut scene = all_sent(exact(), 1);
    scene.at(10).token_replaced();
    scene.at(20).reply(401).is("send 2 token 1");
}

// ---- K5 ----

#[test]
fn k5_at_the_leases_end_the_leader_fails_and_the_next_leads() {
    let mut scene = one_leads(3);
    scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(30_000).request(2).tick().is("await until 60000");
}

#[test]
fn k5_a_lease_ends_even_without_its_leaders_tick() {
    let mut scene = one_leads(2);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(30_001).tick().fails(FailureKind::TokenUnavailable);
}

#[test]
fn k5_an_outcome_after_the_leases_end_counts_while_the_lease_is_the_newest() {
    let mut scene = one_leads(2);
    scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
    scene.at(31_000).refreshed(REFRESHED).fails(FailureKind::TokenUnavailable);
    scene.at(32_000).request(1).tick().is("send 2 token 1");
}

#[test]
fn k5_a_refreshed_from_an_older_lease_counts() {
    let mut scene = one_leads(3);
    scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(30_000).request(2).tick().is("await until 60000");
    assert!(scene.at(31_000).report(1, REFRESHED));
    assert_eq!(scene.upstream.login.generation(), Some(1));
    scene.at(32_000).request(1).tick().is("send 2 token 1");
    scene.at(32_000).request(2).tick().is("send 2 token 1");
    // The token that lease 2 was to replace is gone.
    assert!(!scene.at(33_000).report(2, REFRESHED));
    assert_eq!(scene.upstream.login.generation(), Some(1));
}

#[test]
fn k5_another_outcome_of_an_older_lease_does_not_count() {
    for outcome in IN_VAIN {
        let mut scene = one_leads(3);
        scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
        scene.at(30_000).request(1).tick().is("refresh until 60000");
        scene.at(30_000).request(2).tick().is("await until 60000");
        assert!(!scene.at(31_000).report(1, outcome));
        scene.at(32_000).request(1).tick().is("in flight until 60000");
        scene.at(32_000).request(2).tick().is("await until 60000");
        scene.at(33_000).request(1).refreshed(REFRESHED).is("send 2 token 1");
    }
}

#[test]
fn k5_f5_an_outcome_is_a_tick_for_a_leader_whose_lease_was_taken_over() {
    let two = |policy| {
        let mut scene = all_sent(policy, 2);
        scene.at(0).reply(401).is("refresh until 30000");
        let _ = scene.at(0).request(1).reply(401);
        scene.at(30_000).request(1).tick().is("refresh until 60000");
        scene
    };
    for outcome in IN_VAIN {
        two(exact()).at(31_000).refreshed(outcome).fails(FailureKind::TokenUnavailable);
        let deadline = exact().deadline(Some(secs(40)));
        two(deadline).at(41_000).refreshed(outcome).fails(FailureKind::Deadline);
    }
}

#[test]
fn k5_an_outcome_counts_whoever_reports_it() {
    let mut scene = one_leads(3);
    scene.at(10).request(1).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).tick().is("send 2 token 1");
    scene.at(20).request(2).tick().is("send 2 token 1");

    let mut scene = one_leads(2);
    assert!(scene.at(10).report(1, REJECTED), "straight to the login");
    scene.at(20).tick().fails(FailureKind::TokenRejected);
    scene.at(20).request(1).tick().fails(FailureKind::TokenRejected);
}

#[test]
fn k5_an_outcome_counts_once() {
    for outcome in [REFRESHED, REJECTED, UNAVAILABLE, ABANDONED] {
        let mut scene = one_leads(1);
        assert!(scene.at(10).report(1, outcome));
        for second in IN_VAIN {
            assert!(!scene.at(20).report(1, second), "{second:?} after {outcome:?}");
        }
    }
}

#[test]
fn k5_a_cancel_leaves_the_lease() {
    let mut scene = one_leads(2);
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    scene.at(20).request(1).tick().is("await until 30000");
    scene.at(30).refreshed(REFRESHED).fails(FailureKind::Cancelled);
    scene.at(40).request(1).tick().is("send 2 token 1");
}

#[test]
fn k5_whoever_cancels_leaves_the_lease_to_the_others() {
    let mut scene = one_leads(4);
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    scene.at(20).request(1).cancel().fails(FailureKind::Cancelled);
    scene.at(20).request(2).tick().is("await until 30000");
    scene.at(30_000).request(2).tick().is("refresh until 60000");
    scene.at(30_001).request(2).cancel().fails(FailureKind::Cancelled);
    scene.at(30_002).request(3).tick().is("await until 60000");
}

#[test]
fn k5_f5_a_deadline_leaves_the_lease() {
    let mut scene = Scene::with(exact().deadline(Some(secs(10))));
    scene.at(0).start().is("send 1 until 10000");
    scene.at(5_000).request(1).start().is("send 1 until 15000");
    scene.at(5_000).reply(401).is("refresh until 35000");
    scene.at(5_000).request(1).reply(401).is("await until 15000");
    scene.at(10_000).tick().fails(FailureKind::Deadline);
    scene.at(10_001).request(1).tick().is("await until 15000");
    scene.at(11_000).refreshed(REFRESHED).fails(FailureKind::Deadline);
    scene.at(11_001).request(1).tick().is("send 2 token 1 until 15000");
}

// ---- K6 ----

#[test]
fn k6_all_followers_share_the_outcome() {
    let shared = [(REJECTED, FailureKind::TokenRejected), (UNAVAILABLE, FailureKind::TokenUnavailable)];
    for (outcome, kind) in shared {
        let mut scene = one_leads(4);
        scene.at(10).refreshed(outcome).fails(kind);
        for request in 1..4 {
            scene.at(20).request(request).tick().fails(kind);
        }
    }
}

#[test]
fn k6_a_follower_that_looks_late_takes_the_newest_outcome_since_its_lease_began() {
    /// Lets the refresh of request 0 end, then those of others. Returns the action of request 1, a follower of request 0
    /// that gets its tick only after that.
    fn after(first: RefreshOutcome, others: &[RefreshOutcome]) -> Action {
        let mut scene = all_sent(exact(), 5);
        scene.at(0).reply(401).is("refresh until 30000");
        scene.at(0).request(1).reply(401).is("await until 30000");
        scene.at(10).refreshed(first).fails(FailureKind::TokenUnavailable);
        for (request, outcome) in (2..).zip(others) {
            scene.at(30).request(request).reply(401).is("refresh until 30030");
            let _ = scene.at(30).request(request).refreshed(*outcome);
        }
        scene.at(50).request(1).tick()
    }
    after(UNAVAILABLE, &[]).fails(FailureKind::TokenUnavailable);
    after(ABANDONED, &[]).is("refresh until 30050");
    after(ABANDONED, &[UNAVAILABLE]).fails(FailureKind::TokenUnavailable);
    after(UNAVAILABLE, &[ABANDONED]).is("refresh until 30050");
    after(UNAVAILABLE, &[ABANDONED, UNAVAILABLE]).fails(FailureKind::TokenUnavailable);
    after(UNAVAILABLE, &[REFRESHED]).is("send 2 token 1");
    after(ABANDONED, &[REJECTED]).fails(FailureKind::TokenRejected);
}

#[test]
fn k6_rejected_sticks_to_its_generation_until_the_token_is_replaced() {
    let mut scene = all_sent(exact(), 1);
    scene.at(0).request(3).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).refreshed(REJECTED).fails(FailureKind::TokenRejected);
    let failure = scene.at(20).request(1).start().fails(FailureKind::TokenRejected);
    assert_eq!(failure.attempts(), 0, "the request was sent");
    scene.at(20).request(3).reply(401).fails(FailureKind::TokenRejected);
    scene.at(30).token_replaced();
    scene.at(40).request(2).start().is("send 1 token 1");
}

#[test]
fn k6_a_throttled_token_endpoint_is_left_alone() {
    let mut scene = all_sent(exact(), 3);
    scene.at(0).reply(401).is("refresh until 30000");
    let throttled = RefreshOutcome::Unavailable { retry_after: Some(secs(60)) };
    scene.at(1_000).refreshed(throttled).fails(FailureKind::TokenUnavailable);
    scene.at(60_999).request(1).reply(401).fails(FailureKind::TokenUnavailable);
    scene.at(61_000).request(2).reply(401).is("refresh until 91000");
}

#[test]
fn k6_unavailable_does_not_stick() {
    let mut scene = all_sent(exact(), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).refreshed(UNAVAILABLE).fails(FailureKind::TokenUnavailable);
    scene.at(20).request(1).reply(401).is("refresh until 30020");
}

// ---- K8 ----

#[test]
fn k8_a_follower_waits_until_the_leases_end_or_its_deadline() {
    let mut scene = all_sent(exact().deadline(Some(secs(20))), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).request(1).reply(401).is("await until 20000");
    scene.at(20_000).request(1).tick().fails(FailureKind::Deadline);
}

#[test]
fn k8_a_followers_tick_looks_at_the_upstream_first() {
    let mut scene = all_sent(exact().deadline(Some(secs(20))), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).request(1).reply(401).is("await until 20000");
    scene.at(10).refreshed(REJECTED).fails(FailureKind::TokenRejected);
    scene.at(25_000).request(1).tick().fails(FailureKind::TokenRejected);
}

#[test]
fn k8_f5_after_three_waits_a_fourth_is_not_begun() {
    let mut scene = one_leads(5);
    for (leader, now) in [(1, 30_000), (2, 60_000)] {
        let until = now + 30_000;
        scene.at(now).request(leader).tick().is(&format!("refresh until {until}"));
        scene.at(now).request(4).tick().is(&format!("await until {until}"));
    }
    scene.at(90_000).request(3).tick().is("refresh until 120000");
    scene.at(90_000).request(4).tick().fails(FailureKind::TokenUnavailable);
}

#[test]
fn k8_the_wake_up_counter_changes_when_those_who_wait_need_a_tick() {
    for outcome in [REFRESHED, REJECTED, UNAVAILABLE, ABANDONED] {
        let mut scene = one_leads(2);
        let before = scene.upstream.login.wakeups();
        scene.at(10).request(1).tick().is("await until 30000");
        let _ = scene.at(10).cancel();
        assert_eq!(scene.upstream.login.wakeups(), before, "nothing has changed");
        let _ = scene.at(10).refreshed(outcome);
        assert_ne!(scene.upstream.login.wakeups(), before, "{outcome:?}");
    }
    let mut scene = one_leads(2);
    let before = scene.upstream.login.wakeups();
    scene.at(10).token_replaced();
    assert_ne!(scene.upstream.login.wakeups(), before, "the token was replaced");
    let mut scene = one_leads(2);
    let before = scene.upstream.login.wakeups();
    scene.at(10).token_removed();
    assert_ne!(scene.upstream.login.wakeups(), before, "the token was removed");
}
