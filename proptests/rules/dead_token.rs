//! Who waits while a dead token is refreshed: K3.

use std::time::Duration;

use retry_machine::{BreakerPolicy, Event, FailureKind, PolicyBuilder, Reply, RequestLimits, Timestamp, Verdict};

use crate::support::{ABANDONED, Answer, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, secs};

/// Returns a scene in which request 0 leads a refresh until 30 s, since a 401 has come for its token.
fn refused() -> Scene {
    refused_with(exact())
}

fn refused_with(policy: PolicyBuilder) -> Scene {
    let mut scene = Scene::with(policy);
    let _ = scene.at(0).start();
    scene.at(0).reply(401).is("refresh until 30000");
    scene
}

/// Returns a scene in which request 0 leads a refresh from 80 s on, ahead of the expiry at 100 s.
fn expiring() -> Scene {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(80_000).start().is("refresh until 110000");
    scene
}

#[test]
fn k3_after_a_401_a_request_that_begins_follows() {
    let mut scene = refused();
    scene.at(10).request(1).start().is("await until 30000");
    scene.at(20).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(30).request(1).tick().is("send 1 token 1");
}

#[test]
fn k3_after_a_401_a_request_whose_wait_ends_follows() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).request(1).reply(503).is("wait 1000 backoff");
    scene.at(10).reply(401).is("refresh until 30010");
    scene.at(1_000).request(1).tick().is("await until 30010");
    scene.at(2_000).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(2_000).request(1).tick().is("send 2 token 1");
}

#[test]
fn k3_after_a_401_what_was_held_at_the_gate_follows() {
    let mut scene = refused();
    scene.at(0).request(1).login(1).start().is("send 1");
    scene.at(10).close_gate(5_000);
    scene.at(20).request(2).start().is("await until 30000");
    scene.at(30).request(1).reply(503).is("wait 5000 gate");
    // Its login has another token.
    scene.at(5_000).request(1).tick().is("send 2");
}

#[test]
fn k3_an_attempt_in_flight_goes_on() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).start().is("send 1");
    scene.at(10).reply(401).is("refresh until 30010");
    scene.at(20).request(1).reply(200).is("done 200");
}

#[test]
fn k3_a_token_is_refused_whoever_took_the_lease() {
    // Request 0 leads ahead of expiry, and the 401 comes for another one.
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(0).request(1).start().is("send 1");
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_010).request(2).start().is("send 1");
    scene.at(80_020).request(1).reply(401).is("await until 110000");
    scene.at(80_030).request(3).start().is("await until 110000");
}

#[test]
fn k3_a_401_past_the_last_recovery_is_one_for_the_token_too() {
    let mut scene = Scene::with(exact().max_token_recoveries(0));
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(0).request(1).start().is("send 1");
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_010).request(1).reply(401).fails(FailureKind::Unauthorized);
    scene.at(80_020).request(2).start().is("await until 110000");
}

#[test]
fn k3_a_401_that_a_refresh_does_not_answer_says_nothing_about_the_token() {
    let scope = [("WWW-Authenticate", r#"Bearer error="insufficient_scope""#)];
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(0).request(1).start().is("send 1");
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(80_010).request(1).reply_with(401, &scope).fails(FailureKind::Unauthorized);
    scene.at(80_020).request(2).start().is("send 1");
}

#[test]
fn k3_a_401_past_the_deadline_of_its_request_is_one_for_the_token_too() {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    let limits = RequestLimits { deadline: Some(secs(85)), ..RequestLimits::default() };
    scene.at(0).request(1).start_with(limits).is("send 1 until 85000");
    scene.at(80_000).start().is("refresh until 110000");
    scene.at(85_000).request(1).reply(401).fails(FailureKind::Deadline);
    scene.at(85_010).request(2).start().is("await until 110000");
}

#[test]
fn k3_a_late_or_a_final_401_says_nothing_about_the_token() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(79))));
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    scene.at(0).request(1).start().is("send 1 until 79000");
    scene.at(0).request(2).start().is("send 1 until 79000");
    scene.at(79_000).request(1).tick().is("wait 80000 backoff");
    scene.at(79_000).start().is("refresh until 109000");
    scene.at(79_010).request(1).reply_to(1, 401, &[]).is("wait 80000 backoff");
    let is_final = Event::Reply { attempt: 1, reply: Reply::new(401).with_verdict(Verdict::Final) };
    scene.at(79_020).request(2).tell(is_final).fails(FailureKind::Unauthorized);
    scene.at(79_030).request(3).start().is("send 1 until 158030");
}

#[test]
fn k3_before_the_expiry_only_the_leader_waits_and_after_it_all_do() {
    let mut scene = expiring();
    scene.at(80_000).request(1).start().is("send 1");
    scene.at(99_999).request(2).start().is("send 1");
    scene.at(100_000).request(3).start().is("await until 110000");
    scene.at(100_010).refreshed(REFRESHED).is("send 1 token 1");
    scene.at(100_020).request(3).tick().is("send 1 token 1");
}

#[test]
fn k3_a_follower_shares_every_outcome_without_having_sent() {
    let outcomes = [(REJECTED, FailureKind::TokenRejected), (UNAVAILABLE, FailureKind::TokenUnavailable)];
    for (outcome, kind) in outcomes {
        let mut scene = refused();
        scene.at(10).request(1).start().is("await until 30000");
        scene.at(20).refreshed(outcome).fails(kind);
        assert_eq!(scene.at(30).request(1).tick().fails(kind).attempts(), 0);
    }
    let mut scene = refused();
    scene.at(10).request(1).start().is("await until 30000");
    scene.at(20).refreshed(ABANDONED).fails(FailureKind::TokenUnavailable);
    scene.at(30).request(1).tick().is("refresh until 30030");
    scene.at(40).request(1).refreshed(REFRESHED).is("send 1 token 1");
}

#[test]
fn k3_a_follower_may_lead_after_the_lease() {
    let mut scene = refused();
    scene.at(10).request(1).start().is("await until 30000");
    scene.at(10).request(2).start().is("await until 30000");
    scene.at(30_000).request(2).tick().is("refresh until 60000");
    scene.at(30_000).request(1).tick().is("await until 60000");
}

#[test]
fn k3_following_uses_no_recovery() {
    let mut scene = refused();
    scene.at(10).request(1).start().is("await until 30000");
    scene.at(20).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(30).request(1).tick().is("send 1 token 1");
    // Request 0 has used its own. K3: a token that is refused now is refused for all.
    scene.at(40).reply(401).fails(FailureKind::Unauthorized);
    scene.at(50).request(1).reply(401).is("refresh until 30050");
    scene.at(60).request(1).refreshed(REFRESHED).is("send 2 token 2");
    scene.at(70).request(1).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k3_k8_the_leases_that_a_request_waits_for_count_from_the_first() {
    let mut scene = refused();
    for follower in 1..=4 {
        scene.at(10).request(follower).start().is("await until 30000");
    }
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(30_000).request(4).tick().is("await until 60000");
    scene.at(60_000).request(2).tick().is("refresh until 90000");
    scene.at(60_000).request(4).tick().is("await until 90000");
    scene.at(90_000).request(3).tick().is("refresh until 120000");
    scene.at(90_000).request(4).tick().fails(FailureKind::TokenUnavailable);
}

#[test]
fn k3_a_follower_waits_until_its_deadline() {
    let mut scene = refused_with(exact().deadline(Some(secs(10))));
    scene.at(5_000).request(1).start().is("await until 15000");
    scene.at(15_000).request(1).tick().fails(FailureKind::Deadline);
}

#[test]
fn k3_once_no_lease_is_open_the_token_is_tried_again() {
    // Nobody can know better before a 401 has come for it.
    let mut scene = refused();
    scene.at(30_000).request(1).start().is("send 1");
    scene.at(30_010).request(1).reply(401).is("refresh until 60010");
    scene.at(30_020).request(2).start().is("await until 60010");

    let mut scene = refused();
    scene.at(10).refreshed(UNAVAILABLE).fails(FailureKind::TokenUnavailable);
    scene.at(20).request(1).start().is("send 1");
}

#[test]
fn k3_a_new_token_is_not_refused() {
    let mut scene = refused();
    scene.at(10).request(1).start().is("await until 30000");
    scene.at(20).token_replaced();
    scene.at(30).request(2).start().is("send 1 token 1");
    scene.at(30).request(1).tick().is("send 1 token 1");
}

#[test]
fn k3_p1_the_breaker_comes_before_the_token_and_the_gate_behind_it() {
    let breaker = BreakerPolicy { failure_threshold: 1, open_for: Duration::ZERO };
    let mut scene = refused_with(exact().breaker(Some(breaker)));
    scene.at(5).close_gate(60_000);
    scene.at(10).request(1).start().is("await until 30000");
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let mut scene = refused_with(exact().breaker(Some(breaker)));
    scene.at(0).request(1).login(1).start().is("send 1");
    scene.at(0).request(2).login(1).start().is("send 1");
    scene.at(0).request(1).reply(503).is("wait 1000 backoff");
    scene.at(10_000).request(2).reply(503).fails(FailureKind::BreakerOpen);
    scene.at(10_010).request(3).start().fails(FailureKind::BreakerOpen);
}

#[test]
fn k3_a_request_that_has_a_new_token_follows_when_that_one_is_refused_before_it_is_sent() {
    let mut scene = refused();
    scene.at(10).request(1).start().is("await until 30000");
    scene.at(20).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).request(2).start().is("send 1 token 1");
    scene.at(25).request(2).reply(401).is("refresh until 30025");
    scene.at(30).request(1).tick().is("await until 30025");
    assert_eq!(scene.machine(1).lease(), Some(2));
    scene.at(40).request(2).refreshed(REFRESHED).is("send 2 token 2");
    scene.at(50).request(1).tick().is("send 1 token 2");
}
