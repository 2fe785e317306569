//! A login without a token, and one whose token is removed: K9.

use retry_machine::{FailureKind, Login, Policy};

use crate::support::{ABANDONED, Answer, IN_VAIN, REFRESHED, Scene, exact, secs};

/// Returns a scene whose login has never had a token.
fn without() -> Scene {
    let mut scene = Scene::exact();
    scene.upstream.login = Login::without_token();
    scene
}

#[test]
fn k9_a_send_without_a_token_has_no_generation() {
    let mut scene = without();
    assert_eq!(scene.upstream.login.generation(), None);
    let action = scene.at(0).start();
    assert_eq!(action.to_string(), "sending attempt 1");
    action.is("send 1 no token");
}

#[test]
fn k9_a_401_fails_its_request_at_once_and_nothing_else_changes() {
    let mut scene = without();
    scene.at(0).start().is("send 1 no token");
    scene.at(0).request(1).start().is("send 1 no token");
    let login = scene.upstream.login.clone();
    scene.at(10).reply(401).fails(FailureKind::Unauthorized);
    assert_eq!(scene.upstream.login, login);
    scene.at(20).request(2).start().is("send 1 no token");
    scene.at(20).request(1).reply(503).is("wait 1020 backoff");
    scene.at(1_020).request(1).tick().is("send 2 no token");
}

#[test]
fn k9_everything_else_is_as_with_a_token() {
    let mut scene = without();
    scene.at(0).start().is("send 1 no token");
    scene.at(0).reply_with(429, &[("Retry-After", "5")]).is("wait 5000 retry_after");
    scene.at(0).request(1).start().is("wait 5000 gate");
    scene.at(5_000).tick().is("send 2 no token");
    scene.at(5_010).reply(404).fails(FailureKind::NotFound);
}

#[test]
fn k9_the_first_token_has_generation_0_and_the_next_one_is_one_more() {
    let mut scene = without();
    scene.at(0).token_replaced();
    assert_eq!(scene.upstream.login.generation(), Some(0));
    scene.at(0).start().is("send 1");
    scene.at(10).token_removed();
    scene.at(20).token_replaced();
    assert_eq!(scene.upstream.login.generation(), Some(1));
}

#[test]
fn k9_k4_a_401_for_an_attempt_without_a_token_is_sent_again_with_the_one_that_came() {
    let mut scene = without();
    scene.at(0).start().is("send 1 no token");
    scene.at(10).token_replaced();
    scene.at(20).reply(401).is("send 2");
    scene.at(30).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k9_a_401_for_a_token_that_was_removed_fails_its_request() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(10).token_removed();
    scene.at(20).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k9_requests_that_wait_for_a_new_token_fail_when_it_is_removed() {
    let mut scene = Scene::exact();
    for request in 0..3 {
        scene.at(0).request(request).start().is("send 1");
    }
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(0).request(1).reply(401).is("await until 30000");
    scene.at(10).token_removed();
    scene.at(20).tick().fails(FailureKind::TokenRejected);
    scene.at(20).request(1).tick().fails(FailureKind::TokenRejected);
    // Others go on, without a token.
    scene.at(20).request(2).reply(503).is("wait 1020 backoff");
    scene.at(1_020).request(2).tick().is("send 2 no token");
    scene.at(20).request(3).start().is("send 1 no token");
}

#[test]
fn k9_removing_the_token_ends_the_lease_and_its_outcome_does_not_count() {
    for outcome in [REFRESHED].into_iter().chain(IN_VAIN) {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).reply(401).is("refresh until 30000");
        scene.at(10).token_removed();
        assert_eq!(scene.upstream.login.state(crate::support::at(10)).lease, None);
        assert!(!scene.at(20).report(1, outcome), "{outcome:?}");
        assert_eq!(scene.upstream.login.generation(), None);
        // Nor for the token of a user who logs in again.
        scene.at(30).token_replaced();
        assert!(!scene.at(40).report(1, outcome), "{outcome:?}");
        assert_eq!(scene.upstream.login.generation(), Some(1));
    }
}

#[test]
fn k9_a_token_that_is_removed_takes_its_rejection_and_its_expiry_along() {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(crate::support::at(0), secs(10));
    scene.at(9_000).start().is("refresh until 39000");
    assert!(scene.at(9_010).report(1, crate::support::REJECTED));
    scene.at(9_020).token_removed();
    scene.at(60_000).request(1).start().is("send 1 no token");
    scene.at(60_000).token_replaced();
    scene.at(60_000).request(2).start().is("send 1 token 1");
}

#[test]
fn k9_the_calls_of_a_refresh_use_a_login_without_a_token() {
    let mut scene = Scene::with(exact());
    scene.logins.insert(1, Login::without_token());
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    // The call of the refresh meets the same gate and breaker, and waits for nobody.
    scene.at(0).request(1).login(1).start().is("send 1 no token");
    scene.at(10).request(1).reply(200).is("done 200");
    scene.at(10).refreshed(REFRESHED).is("send 2 token 1");
}

#[test]
fn k9_without_a_token_a_report_has_no_lease() {
    let mut scene = Scene::new(Policy::common());
    scene.upstream.login = Login::without_token();
    assert!(!scene.at(0).report(1, REFRESHED) && !scene.at(0).report(0, ABANDONED));
    assert_eq!(scene.upstream.login, Login::without_token());
}
