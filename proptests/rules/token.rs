//! The token: K1–K8, F5.

use std::time::Duration;

use retry_machine::{FailureKind, PolicyBuilder, Time, TokenOutcome};

use crate::support::{Answer, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, secs};

/// Requests 0 to `n` − 1 have sent their first attempt.
fn all_sent(policy: PolicyBuilder, n: u64) -> Scene {
    let mut scene = Scene::with(policy);
    for request in 0..n {
        let _ = scene.at(0).request(request).start();
    }
    scene
}

/// Request 0 leads a refresh until 30 s, the others follow it.
fn one_leads(n: u64) -> Scene {
    let mut scene = all_sent(exact(), n);
    scene.at(0).reply(401).is("refresh until 30000");
    for request in 1..n {
        scene.at(0).request(request).reply(401).is("await until 30000");
    }
    scene
}

fn expires_in(seconds: u64) -> TokenOutcome {
    TokenOutcome::Refreshed { expires_in: Some(secs(seconds)) }
}

/// A token that is due at 70 s and expires at 100 s.
fn expiring() -> Scene {
    let mut scene = Scene::exact();
    scene.upstream.token_expires_in(Time::ZERO, secs(100));
    scene
}

// ---- K1, K2 ----

#[test]
fn k1_a_401_is_followed_by_a_send_only_after_a_successful_refresh() {
    let mut scene = one_leads(1);
    scene.at(10).tick().is("in flight until 30000");
    scene.at(20).token(REFRESHED).is("send 2 token 1");
    for outcome in [REJECTED, UNAVAILABLE] {
        let mut scene = one_leads(1);
        assert!(scene.at(20).token(outcome).is_terminal());
    }
}

#[test]
fn k2_one_recovery_per_request_by_leading_by_following_or_by_a_newer_token() {
    let mut scene = one_leads(2);
    scene.at(10).token(REFRESHED).is("send 2 token 1");
    scene.at(20).reply(401).fails(FailureKind::Unauthorized);
    scene.at(20).request(1).tick().is("send 2 token 1");
    scene.at(30).request(1).reply(401).fails(FailureKind::Unauthorized);

    let mut scene = all_sent(exact(), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).token(REFRESHED).is("send 2 token 1");
    scene.at(20).request(1).reply(401).is("send 2 token 1");
    scene.at(30).request(1).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k2_attempts_are_bounded_by_one_and_retries_and_recoveries() {
    let mut scene = Scene::with(exact().max_retries(2).max_recoveries(3));
    let (mut now, mut action) = (0, scene.at(0).start());
    let mut statuses = [401, 503, 401, 503, 401, 503].into_iter();
    while !action.is_terminal() {
        action = match action {
            retry_machine::Action::Send { .. } => scene.at(now).reply(statuses.next().unwrap()),
            retry_machine::Action::RefreshToken { .. } => scene.at(now).token(REFRESHED),
            _ => {
                now = action.end_of_wait().as_millis_ceil();
                scene.at(now).tick()
            }
        };
    }
    assert_eq!(action.fails(FailureKind::Exhausted).attempts(), 1 + 2 + 3);
}

#[test]
fn b3_a_send_after_a_refresh_is_no_retry() {
    let mut scene = Scene::with(exact().max_retries(1));
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).token(REFRESHED).is("send 2 token 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 3 token 1");
    scene.at(1_000).reply(503).fails(FailureKind::Exhausted);
}

// ---- K3, K4 ----

#[test]
fn k3_the_first_leads_and_the_others_wait_for_it() {
    let mut scene = one_leads(50);
    for request in 1..50 {
        scene.at(10).request(request).tick().is("await until 30000");
    }
    scene.at(20).token(REFRESHED).is("send 2 token 1");
    for request in 1..50 {
        scene.at(30).request(request).tick().is("send 2 token 1");
    }
}

#[test]
fn k4_a_401_for_an_older_token_is_sent_again_without_a_refresh() {
    let mut scene = all_sent(exact(), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).token(REFRESHED).is("send 2 token 1");
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
fn k5_at_the_leases_end_the_leader_is_surfaced_and_the_next_leads() {
    let mut scene = one_leads(3);
    scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(30_000).request(2).tick().is("await until 60000");
}

#[test]
fn k5_without_its_leaders_tick_a_lease_ends_all_the_same() {
    let mut scene = one_leads(2);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(30_001).tick().fails(FailureKind::TokenUnavailable);
}

#[test]
fn k5_an_outcome_after_the_leases_end_counts_while_the_lease_is_the_newest() {
    let mut scene = one_leads(2);
    scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
    scene.at(31_000).token(REFRESHED).fails(FailureKind::TokenUnavailable);
    scene.at(32_000).request(1).tick().is("send 2 token 1");
}

#[test]
fn k5_an_outcome_of_an_older_lease_is_ignored() {
    for outcome in [REFRESHED, REJECTED, UNAVAILABLE] {
        let mut scene = one_leads(2);
        scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
        scene.at(30_000).request(1).tick().is("refresh until 60000");
        scene.at(31_000).token(outcome).fails(FailureKind::TokenUnavailable);
        scene.at(32_000).request(1).tick().is("in flight until 60000");
        scene.at(33_000).request(1).token(REFRESHED).is("send 2 token 1");
    }
}

#[test]
fn k5_an_outcome_of_who_holds_no_lease_is_ignored() {
    let mut scene = one_leads(2);
    for outcome in [REFRESHED, REJECTED, UNAVAILABLE] {
        scene.at(10).request(1).token(outcome).is("await until 30000");
    }
    scene.at(20).token(REFRESHED).is("send 2 token 1");
    scene.at(30).token(REFRESHED).is("in flight");
    scene.at(30).token(REJECTED).is("in flight");
    scene.at(30).request(1).tick().is("send 2 token 1");
}

#[test]
fn k5_cancel_frees_the_lease_at_once() {
    let mut scene = one_leads(2);
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    scene.at(20).request(1).tick().is("refresh until 30020");
}

#[test]
fn k5_a_deadline_keeps_the_lease_until_its_end() {
    let mut scene = Scene::with(exact().deadline(Some(secs(10))));
    scene.at(0).start().is("send 1 until 10000");
    scene.at(5_000).request(1).start().is("send 1 until 15000");
    scene.at(5_000).reply(401).is("refresh until 35000");
    scene.at(5_000).request(1).reply(401).is("await until 15000");
    scene.at(10_000).tick().fails(FailureKind::Deadline);
    scene.at(10_001).request(1).tick().is("await until 15000");
    scene.at(11_000).token(REFRESHED).fails(FailureKind::Deadline);
    scene.at(11_001).request(1).tick().is("send 2 token 1 until 15000");
}

// ---- K6 ----

#[test]
fn k6_all_followers_share_the_outcome() {
    let shared = [(REJECTED, FailureKind::TokenRejected), (UNAVAILABLE, FailureKind::TokenUnavailable)];
    for (outcome, kind) in shared {
        let mut scene = one_leads(4);
        scene.at(10).token(outcome).fails(kind);
        for request in 1..4 {
            scene.at(20).request(request).tick().fails(kind);
        }
    }
}

#[test]
fn k6_rejected_sticks_to_its_generation_until_the_token_is_replaced() {
    let mut scene = one_leads(1);
    scene.at(10).token(REJECTED).fails(FailureKind::TokenRejected);
    let failure = scene.at(20).request(1).start().fails(FailureKind::TokenRejected);
    assert_eq!(failure.attempts(), 0, "it was not sent");
    scene.at(30).token_replaced();
    scene.at(40).request(2).start().is("send 1 token 1");
}

#[test]
fn k6_a_throttled_token_endpoint_is_left_alone() {
    let mut scene = all_sent(exact(), 3);
    scene.at(0).reply(401).is("refresh until 30000");
    let throttled = TokenOutcome::Unavailable { retry_after: Some(secs(60)) };
    scene.at(1_000).token(throttled).fails(FailureKind::TokenUnavailable);
    scene.at(60_999).request(1).reply(401).fails(FailureKind::TokenUnavailable);
    scene.at(61_000).request(2).reply(401).is("refresh until 91000");
}

#[test]
fn k6_unavailable_does_not_stick() {
    let mut scene = all_sent(exact(), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(10).token(UNAVAILABLE).fails(FailureKind::TokenUnavailable);
    scene.at(20).request(1).reply(401).is("refresh until 30020");
}

// ---- K7 ----

#[test]
fn k7_a_send_after_expiry_less_margin_refreshes_first() {
    let mut scene = expiring();
    scene.at(70_000).start().is("send 1");
    let mut scene = expiring();
    scene.at(70_001).start().is("refresh until 100001");
    scene.at(70_100).token(expires_in(3_600)).is("send 1 token 1");
}

#[test]
fn k7_the_margin_is_at_most_half_of_the_lifetime() {
    let mut scene = Scene::exact();
    scene.upstream.token_expires_in(Time::ZERO, secs(10));
    scene.at(5_000).start().is("send 1");
    scene.at(5_001).request(1).start().is("refresh until 35001");
}

#[test]
fn k7_it_does_not_use_the_recovery() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_100).token(REFRESHED).is("send 1 token 1");
    scene.at(80_200).reply(401).is("refresh until 110200");
    scene.at(80_300).token(REFRESHED).is("send 2 token 2");
    scene.at(80_400).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k7_before_the_real_expiry_an_unavailable_refresh_means_the_old_token() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).request(1).start().is("await until 110000");
    scene.at(99_999).token(UNAVAILABLE).is("send 1");
    scene.at(99_999).request(1).tick().is("send 1");

    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(100_000).token(UNAVAILABLE).fails(FailureKind::TokenUnavailable);
}

#[test]
fn k7_a_token_that_is_due_at_once_does_not_loop() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_100).token(expires_in(0)).is("send 1 token 1");
    scene.at(80_200).reply(503).is("wait 81200 backoff");
    scene.at(81_200).tick().is("refresh until 111200");
    scene.at(81_300).token(TokenOutcome::Refreshed { expires_in: Some(Duration::ZERO) }).is("send 2 token 2");
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
fn k8_a_tick_looks_at_the_upstream_first() {
    let mut scene = all_sent(exact().deadline(Some(secs(20))), 2);
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).request(1).reply(401).is("await until 20000");
    scene.at(10).token(REJECTED).fails(FailureKind::TokenRejected);
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
fn k8_the_counter_moves_when_followers_should_be_ticked() {
    for outcome in [REFRESHED, REJECTED, UNAVAILABLE] {
        let mut scene = one_leads(2);
        let before = scene.upstream.wakeups();
        scene.at(10).request(1).tick().is("await until 30000");
        assert_eq!(scene.upstream.wakeups(), before, "nothing to see");
        let _ = scene.at(10).token(outcome);
        assert_ne!(scene.upstream.wakeups(), before, "{outcome:?}");
    }
    let mut scene = one_leads(2);
    let before = scene.upstream.wakeups();
    let _ = scene.at(10).cancel();
    assert_ne!(scene.upstream.wakeups(), before, "the lease is free");
    let mut scene = one_leads(2);
    scene.at(10).token_replaced();
    assert_ne!(scene.upstream.wakeups(), before, "the token was replaced");
}

// ---- F5 ----

#[test]
fn f5_the_first_generation_is_0_and_each_new_token_is_one_more() {
    let mut scene = Scene::exact();
    assert_eq!(scene.upstream.generation(), 0);
    scene.at(0).token_replaced();
    assert_eq!(scene.upstream.generation(), 1);
    scene.at(0).start().is("send 1 token 1");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).token(REFRESHED).is("send 2 token 2");
    assert_eq!(scene.upstream.generation(), 2);
}

#[test]
fn f5_after_a_proactive_refresh_only_the_expiry_check_is_skipped() {
    let mut scene = expiring();
    scene.at(0).request(1).start().is("send 1");
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).request(1).reply_with(429, &[("Retry-After", "60")]).is("wait 140000 retry_after");
    scene.at(80_100).token(expires_in(1)).is("wait 140000 gate");
    scene.at(140_000).tick().is("send 1 token 1");
}

#[test]
fn f5_a_fresh_request_sends_with_the_token_there_is() {
    let mut scene = one_leads(1);
    scene.at(10).request(1).start().is("send 1");
}

#[test]
fn f5_an_early_leader_whose_lease_ends_sends_with_the_token_that_is_still_valid() {
    let mut scene = Scene::with(exact().refresh_timeout(secs(10)));
    scene.upstream.token_expires_in(Time::ZERO, secs(100));
    scene.at(80_000).start().is("refresh until 90000");
    scene.at(90_000).tick().is("send 1");

    let mut scene = expiring();
    scene.at(71_000).start().is("refresh until 101000");
    let throttled = TokenOutcome::Unavailable { retry_after: Some(secs(60)) };
    scene.at(72_000).token(throttled).is("send 1");
    scene.at(73_000).request(1).start().is("send 1");
}

#[test]
fn f5_replacing_the_token_ends_the_lease_and_its_leader_then_sends() {
    let mut scene = one_leads(2);
    scene.at(10).token_replaced();
    scene.at(20).request(1).tick().is("send 2 token 1");
    scene.at(20).tick().is("in flight until 30000");
    scene.at(30_000).tick().is("send 2 token 1");
    for outcome in [REFRESHED, REJECTED, UNAVAILABLE] {
        let mut scene = one_leads(1);
        scene.at(10).token_replaced();
        scene.at(20).token(outcome).is("send 2 token 1");
        assert_eq!(scene.upstream.generation(), 1);
    }
}

#[test]
fn f5_an_outcome_that_does_not_count_acts_as_a_tick() {
    let mut scene = one_leads(2);
    scene.at(10).token(REFRESHED).is("send 2 token 1");
    scene.at(20).request(1).token(UNAVAILABLE).is("send 2 token 1");
    scene.at(20).reply(503).is("wait 1020 backoff");
    scene.at(1_020).token(REJECTED).is("send 3 token 1");
}
