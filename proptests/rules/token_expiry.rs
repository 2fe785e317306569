//! The expiry and the replacement of the token: K7, F5.

use std::time::Duration;

use retry_machine::{FailureKind, RefreshOutcome, Timestamp};

use crate::support::{ABANDONED, Answer, IN_VAIN, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, secs};

/// Returns a scene in which request 0 leads a refresh until 30 s, and the others follow it.
fn one_leads(n: u64) -> Scene {
    let mut scene = Scene::exact();
    for request in 0..n {
        scene.at(0).request(request).start().is("send 1");
    }
    scene.at(0).reply(401).is("refresh until 30000");
    for request in 1..n {
        scene.at(0).request(request).reply(401).is("await until 30000");
    }
    scene
}

fn expires_in(seconds: u64) -> RefreshOutcome {
    RefreshOutcome::Refreshed { expires_in: Some(secs(seconds)) }
}

/// Returns a scene whose token is due for a refresh at 70 s and expires at 100 s.
fn expiring() -> Scene {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene
}

// ---- K7 ----

#[test]
fn k7_f5_a_send_after_expiry_minus_margin_refreshes_first() {
    let mut scene = expiring();
    scene.at(70_000).start().is("send 1");
    let mut scene = expiring();
    scene.at(70_001).start().is("refresh until 100001");
    scene.at(70_100).refreshed(expires_in(3_600)).is("send 1 token 1");
}

#[test]
fn k7_the_margin_is_at_most_half_of_the_lifetime() {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(10));
    scene.at(5_000).start().is("send 1");
    scene.at(5_001).request(1).start().is("refresh until 35001");
}

#[test]
fn k7_a_refresh_ahead_of_expiry_does_not_use_up_the_recovery() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_100).refreshed(REFRESHED).is("send 1 token 1");
    scene.at(80_200).reply(401).is("refresh until 110200");
    scene.at(80_300).refreshed(REFRESHED).is("send 2 token 2");
    scene.at(80_400).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k7_before_its_expiry_the_old_token_is_used_if_the_refresh_is_unavailable() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).request(1).start().is("send 1");
    scene.at(99_999).refreshed(UNAVAILABLE).is("send 1");
    scene.at(99_999).request(2).start().is("send 1");

    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(100_000).refreshed(UNAVAILABLE).fails(FailureKind::TokenUnavailable);
}

#[test]
fn k7_a_token_that_is_due_at_once_does_not_loop() {
    let short = || RefreshOutcome::Refreshed { expires_in: Some(Duration::from_nanos(1)) };
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_100).refreshed(short()).is("send 1 token 1");
    scene.at(80_200).reply(503).is("wait 81200 backoff");
    scene.at(81_200).tick().is("refresh until 111200");
    scene.at(81_300).refreshed(short()).is("send 2 token 2");
}

#[test]
fn k7_a_lifetime_of_zero_is_not_a_lifetime() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_100).refreshed(expires_in(0)).is("send 1 token 1");
    assert_eq!(scene.upstream.login.state(Timestamp::ZERO).expires, None);
    scene.at(1_000_000).request(1).start().is("send 1 token 1");

    let mut scene = expiring();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, Duration::ZERO);
    scene.at(1_000_000).start().is("send 1");
}

#[test]
fn k7_after_a_vain_refresh_the_next_waits_for_half_of_the_time_that_is_left() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).refreshed(UNAVAILABLE).is("send 1");
    scene.at(80_001).request(1).start().is("send 1");
    scene.at(89_999).request(2).start().is("send 1");
    scene.at(90_000).request(3).start().is("refresh until 120000");
    scene.at(96_000).request(3).refreshed(UNAVAILABLE).is("send 1");
    scene.at(97_999).request(4).start().is("send 1");
    scene.at(98_000).request(5).start().is("refresh until 128000");
}

#[test]
fn k7_the_time_counts_from_the_report() {
    let mut scene = expiring();
    scene.at(72_000).start().is("refresh until 102000");
    assert!(scene.at(90_000).report(1, UNAVAILABLE));
    scene.at(94_999).request(1).start().is("send 1");
    scene.at(95_000).request(2).start().is("refresh until 125000");
}

#[test]
fn k7_a_401_is_answered_by_a_refresh_also_in_that_time() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).refreshed(UNAVAILABLE).is("send 1");
    scene.at(80_010).reply(401).is("refresh until 110010");
}

#[test]
fn k7_an_expired_token_is_refreshed_also_in_that_time() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    // The clock of the report is behind.
    assert!(scene.at(0).report(1, UNAVAILABLE));
    scene.at(100_000).request(1).start().is("refresh until 130000");
}

#[test]
fn k7_an_abandoned_refresh_asks_for_no_rest() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).refreshed(ABANDONED).is("send 1");
    scene.at(80_001).request(1).start().is("refresh until 110001");
}

#[test]
fn k7_a_new_token_ends_the_rest() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).refreshed(UNAVAILABLE).is("send 1");
    scene.upstream.login.token_replaced(Timestamp::from_millis(80_000), Some(secs(2)));
    scene.at(81_001).request(1).start().is("refresh until 111001");
}

#[test]
fn k7_every_outcome_but_rejected_leaves_a_valid_token_in_use() {
    for outcome in [UNAVAILABLE, ABANDONED] {
        let mut scene = expiring();
        scene.at(80_000).start().is("refresh until 110000");
        scene.at(99_999).refreshed(outcome).is("send 1");
        let mut scene = expiring();
        scene.at(80_000).start().is("refresh until 110000");
        scene.at(100_000).refreshed(outcome).fails(FailureKind::TokenUnavailable);
    }
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_010).refreshed(REJECTED).fails(FailureKind::TokenRejected);
}

#[test]
fn k7_a_kept_token_is_used_as_long_as_it_is_valid() {
    // The gate holds the request after a vain refresh, and opens before or after the expiry.
    for (opening, expected) in [(99_999, "send 1"), (100_000, "refresh until 130000")] {
        let mut scene = expiring();
        scene.at(80_000).start().is("refresh until 110000");
        scene.at(80_000).close_gate(opening);
        scene.at(80_010).refreshed(ABANDONED).is(&format!("wait {opening} gate"));
        scene.at(opening).tick().is(expected);
    }
}

#[test]
fn k7_a_kept_token_is_kept_for_one_send() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_010).refreshed(ABANDONED).is("send 1");
    scene.at(80_020).reply(503).is("wait 81020 backoff");
    scene.at(81_020).tick().is("refresh until 111020");
}

#[test]
fn k7_f5_a_new_token_is_sent_whatever_its_expiry() {
    // The gate holds the request beyond the expiry of the token that its refresh brought.
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).close_gate(99_000);
    scene.at(80_010).refreshed(expires_in(1)).is("wait 99000 gate");
    scene.at(99_000).tick().is("send 1 token 1");
}

#[test]
fn k7_a_lifetime_of_less_than_a_millisecond_has_passed_at_once() {
    for (lifetime, expected) in [(999_999, "refresh until 30000"), (1_000_000, "send 1")] {
        let mut scene = Scene::exact();
        scene.upstream.login.token_expires_in(Timestamp::ZERO, Duration::from_nanos(lifetime));
        scene.at(0).start().is(expected);
    }
}

// ---- F5 ----

#[test]
fn f5_the_first_generation_is_0_and_each_new_token_is_one_more() {
    let mut scene = Scene::exact();
    assert_eq!(scene.upstream.login.generation(), Some(0));
    scene.at(0).token_replaced();
    assert_eq!(scene.upstream.login.generation(), Some(1));
    scene.at(0).start().is("send 1 token 1");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).refreshed(REFRESHED).is("send 2 token 2");
    assert_eq!(scene.upstream.login.generation(), Some(2));
}

#[test]
fn f5_after_a_proactive_refresh_only_the_expiry_check_is_skipped() {
    let mut scene = expiring();
    scene.at(0).request(1).start().is("send 1");
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_000).request(1).reply_with(429, &[("Retry-After", "60")]).is("wait 140000 retry_after");
    scene.at(80_100).refreshed(expires_in(1)).is("wait 140000 gate");
    // S7: its slot, behind request 1.
    scene.at(140_000).tick().is("wait 155000 gate");
    scene.at(155_000).tick().is("send 1 token 1");
}

#[test]
fn f5_a_new_request_sends_with_the_current_token() {
    let mut scene = one_leads(1);
    scene.at(10).token_replaced();
    scene.at(20).request(1).start().is("send 1 token 1");
}

#[test]
fn f5_an_early_leader_whose_lease_ends_sends_with_the_token_that_is_still_valid() {
    let mut scene = Scene::with(exact().refresh_timeout(secs(10)));
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(80_000).start().is("refresh until 90000");
    scene.at(90_000).tick().is("send 1");
    // K5: the outcome still counts.
    scene.at(91_000).refreshed(REFRESHED).is("in flight");
    assert_eq!(scene.upstream.login.generation(), Some(1));
    scene.at(92_000).reply(401).is("send 2 token 1");

    let mut scene = expiring();
    scene.at(71_000).start().is("refresh until 101000");
    let throttled = RefreshOutcome::Unavailable { retry_after: Some(secs(60)) };
    scene.at(72_000).refreshed(throttled).is("send 1");
    scene.at(73_000).request(1).start().is("send 1");
}

#[test]
fn k5_f5_replacing_the_token_ends_the_lease_and_its_leader_then_sends() {
    let mut scene = one_leads(2);
    scene.at(10).token_replaced();
    scene.at(15).request(2).start().is("send 1 token 1");
    scene.at(20).request(1).tick().is("send 2 token 1");
    scene.at(20).request(2).reply(401).is("refresh until 30020");
    // K3: the new token has been refused since then.
    scene.at(25).tick().is("await until 30020");
    for outcome in [REFRESHED].into_iter().chain(IN_VAIN) {
        let mut scene = one_leads(1);
        scene.at(10).token_replaced();
        assert!(!scene.at(15).report(1, outcome), "{outcome:?}");
        scene.at(20).refreshed(outcome).is("send 2 token 1");
        assert_eq!(scene.upstream.login.generation(), Some(1));
    }
}

#[test]
fn k4_f5_after_a_replacement_a_401_is_that_of_the_new_token() {
    let mut scene = expiring();
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_010).token_replaced();
    scene.at(80_020).refreshed(REFRESHED).is("send 1 token 1");
    scene.at(80_030).reply(401).is("refresh until 110030");
}

#[test]
fn f5_an_outcome_acts_as_a_tick_only_for_a_request_that_leads_or_follows() {
    let mut scene = one_leads(2);
    scene.at(10).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).request(1).refreshed(UNAVAILABLE).is("send 2 token 1");
    scene.at(20).reply(503).is("wait 1020 backoff");
    for outcome in [REFRESHED].into_iter().chain(IN_VAIN) {
        scene.at(1_020).refreshed(outcome).is("wait 1020 backoff");
    }
}

#[test]
fn k5_a_late_answer_leaves_the_lease() {
    let mut scene = one_leads(2);
    scene.at(10).reply_to(1, 200, &[]).is("done 200");
    scene.at(20).request(1).tick().is("await until 30000");
    scene.at(30_000).request(1).tick().is("refresh until 60000");
}
