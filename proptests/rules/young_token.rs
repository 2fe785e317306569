//! A 401 for a token that has just come: K10.

use retry_machine::{
    DialectField, Event, FailureKind, FieldMeaning, Login, Policy, PolicyBuilder, RefreshOutcome, Reply, TimeUnit,
    Verdict, YoungToken,
};

use crate::support::{Answer, REFRESHED, Scene, at, exact, secs};

const CHALLENGE: &str = "WWW-Authenticate";
const COME_BACK: &[DialectField] = &[DialectField::new("x-come-back", FieldMeaning::Pushback(TimeUnit::Milliseconds))];

/// Returns a scene whose token came at 0, and whose policy has this answer.
fn young(answer: YoungToken) -> Scene {
    young_with(exact(), answer)
}

fn young_with(policy: PolicyBuilder, answer: YoungToken) -> Scene {
    let mut scene = Scene::with(policy.young_token(answer));
    scene.at(0).token_replaced();
    scene
}

/// Returns a scene in which a refresh at 0 brought the token, for this long.
fn refreshed_for(seconds: u64, answer: YoungToken) -> Scene {
    let mut scene = Scene::with(exact().young_token(answer));
    scene.at(0).request(9).start().is("send 1");
    scene.at(0).request(9).reply(401).is("refresh until 30000");
    let outcome = RefreshOutcome::Refreshed { expires_in: Some(secs(seconds)) };
    scene.at(0).request(9).refreshed(outcome).is("send 2 token 1");
    scene
}

// ---- The three answers ----

#[test]
fn k10_flextell_refreshes_and_common_surfaces() {
    for (policy, expected) in [(Policy::flextell(), "refresh until 30020"), (Policy::common(), "fail Unauthorized")] {
        let mut scene = Scene::new(policy);
        scene.at(0).token_replaced();
        scene.at(10).start().is("send 1 token 1");
        scene.at(20).reply(401).is(expected);
    }
}

#[test]
fn k10_refresh_refreshes_a_young_token_like_any_other() {
    let mut scene = young(YoungToken::Refresh);
    scene.at(0).start().is("send 1 token 1");
    scene.at(0).reply(401).is("refresh until 30000");
}

#[test]
fn k10_surface_fails_the_request_and_says_nothing_about_the_token() {
    let mut scene = young(YoungToken::Surface);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply(401).fails(FailureKind::Unauthorized);
    scene.at(20).request(1).start().is("send 1 token 1");
    assert_eq!(scene.upstream.login.state(at(20)).lease, None);
}

#[test]
fn k10_retry_sends_again_with_the_same_token_after_a_back_off() {
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply(401).is("wait 1010 backoff");
    scene.at(1_010).tick().is("send 2 token 1");
    scene.at(1_020).reply(401).is("wait 3020 backoff");
    // K3: nobody waits for a new token.
    scene.at(1_030).request(1).start().is("send 1 token 1");
}

#[test]
fn k10_retry_is_counted_like_a_retried_status_whatever_k2_says() {
    let mut scene = young_with(exact().max_retries(1).max_token_recoveries(0), YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply(401).is("wait 1010 backoff");
    scene.at(1_010).tick().is("send 2 token 1");
    scene.at(1_020).reply(401).fails(FailureKind::Exhausted);
}

#[test]
fn k10_retry_uses_no_recovery() {
    let mut scene = young(YoungToken::Retry);
    scene.at(20_000).start().is("send 1 token 1");
    scene.at(29_500).reply(401).is("wait 30500 backoff");
    scene.at(30_500).tick().is("send 2 token 1");
    // The token is no longer young.
    scene.at(30_600).reply(401).is("refresh until 60600");
    scene.at(30_700).refreshed(REFRESHED).is("send 3 token 2");
}

#[test]
fn k10_s2_retry_is_priced() {
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply(401).is("wait 1010 backoff");
    assert_eq!(scene.upstream.service.budget_balance(at(10)), Some(20));
}

#[test]
fn k10_retry_holds_for_a_request_that_is_not_idempotent() {
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start_non_idempotent().is("send 1 token 1");
    scene.at(10).reply(401).is("wait 1010 backoff");
}

#[test]
fn k10_l2_a_hint_of_a_401_that_is_retried_counts_for_its_request_alone() {
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply_with(401, &[("Retry-After", "7")]).is("wait 7010 retry_after");
    scene.at(20).request(1).start().is("send 1 token 1");
    // S1: a 401 never closes the gate.
    let nothing_left = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9")];
    scene.at(30).request(1).reply_with(401, &nothing_left).is("wait 9030 rate_limit_reset");
    scene.at(40).request(2).start().is("send 1 token 1");
}

#[test]
fn k10_l3_a_hint_that_is_too_long_ends_the_request() {
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply_with(401, &[("Retry-After", "301")]).fails(FailureKind::ServerWaitTooLong);
}

#[test]
fn k10_h11_a_pushback_of_a_401_that_is_retried_counts_as_does_its_stop() {
    let mut scene = young_with(exact().dialect(COME_BACK), YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).reply_with(401, &[("x-come-back", "40")]).is("wait 50 pushback");
    scene.at(50).tick().is("send 2 token 1");
    scene.at(60).reply_with(401, &[("x-come-back", "-1")]).fails(FailureKind::Unauthorized);
}

#[test]
fn k10_d18_a_401_that_is_retried_is_neutral() {
    let mut scene = young(YoungToken::Retry);
    for request in 0..9 {
        scene.at(0).request(request).start().is("send 1 token 1");
    }
    for (request, now) in (0..9).zip([0, 0, 0, 0, 20_000, 20_000, 20_000, 20_000, 20_000]) {
        let action = scene.at(now).request(request).reply(401);
        assert!(action.short().contains("backoff") || action.short() == "fail Budget", "{action}");
    }
    scene.at(20_000).request(20).start().is("send 1 token 1");
}

#[test]
fn k10_d15_token_expired_is_as_a_401() {
    let reply = Reply::new(200).with_verdict(Verdict::TokenExpired);
    for (answer, expected) in [
        (YoungToken::Refresh, "refresh until 30000"),
        (YoungToken::Surface, "fail Unauthorized"),
        (YoungToken::Retry, "wait 1000 backoff"),
    ] {
        let mut scene = young(answer);
        scene.at(0).start().is("send 1 token 1");
        scene.at(0).tell(Event::Reply { attempt: 1, reply }).is(expected);
    }
}

// ---- Its age ----

#[test]
fn k10_a_token_is_young_for_less_than_the_margin_when_the_401_arrives() {
    let mut scene = young(YoungToken::Surface);
    scene.at(0).start().is("send 1 token 1");
    scene.at(29_999).request(1).start().is("send 1 token 1");
    scene.at(29_999).reply(401).fails(FailureKind::Unauthorized);
    scene.at(30_000).request(1).reply(401).is("refresh until 60000");
}

#[test]
fn k10_the_policys_margin_counts() {
    let mut scene = young_with(exact().refresh_margin(secs(5)), YoungToken::Surface);
    scene.at(0).start().is("send 1 token 1");
    scene.at(5_000).reply(401).is("refresh until 35000");
}

#[test]
fn k10_half_of_a_short_lifetime_is_the_margin() {
    let mut scene = refreshed_for(10, YoungToken::Surface);
    scene.at(4_999).start().is("send 1 token 1");
    scene.at(4_999).reply(401).fails(FailureKind::Unauthorized);
    scene.at(5_000).request(1).start().is("send 1 token 1");
    scene.at(5_000).request(1).reply(401).is("refresh until 35000");

    let mut scene = refreshed_for(3_600, YoungToken::Surface);
    scene.at(29_000).start().is("send 1 token 1");
    scene.at(29_999).reply(401).fails(FailureKind::Unauthorized);
}

#[test]
fn k10_the_first_token_is_never_young() {
    for answer in [YoungToken::Refresh, YoungToken::Surface, YoungToken::Retry] {
        let mut scene = Scene::with(exact().young_token(answer));
        scene.upstream.login.token_expires_in(at(0), secs(3_600));
        scene.at(0).start().is("send 1");
        scene.at(0).reply(401).is("refresh until 30000");
    }
}

#[test]
fn k10_k9_without_a_token_nothing_is_young() {
    let mut scene = Scene::with(exact().young_token(YoungToken::Retry));
    scene.upstream.login = Login::without_token();
    scene.at(0).start().is("send 1 no token");
    scene.at(0).reply(401).fails(FailureKind::Unauthorized);
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    scene.at(10).token_removed();
    scene.at(20).reply(401).fails(FailureKind::Unauthorized);
}

// ---- Exempt ----

#[test]
fn k10_k4_a_401_for_an_older_generation_is_exempt() {
    for answer in [YoungToken::Surface, YoungToken::Retry] {
        let mut scene = Scene::with(exact().young_token(answer));
        scene.at(0).start().is("send 1");
        scene.at(10).token_replaced();
        scene.at(20).reply(401).is("send 2 token 1");
    }
}

#[test]
fn k10_d12_a_401_that_the_switch_answers_is_exempt() {
    for error in ["insufficient_scope", "insufficient_claims"] {
        let challenge = format!("Bearer error=\"{error}\"");
        for answer in [YoungToken::Surface, YoungToken::Retry] {
            let mut scene = young_with(exact().refresh_on_insufficient(true), answer);
            scene.at(0).start().is("send 1 token 1");
            scene.at(0).reply_with(401, &[(CHALLENGE, &challenge)]).is("refresh until 30000");
        }
    }
}

#[test]
fn k10_d15_token_expired_overrides_a_scope() {
    let policy = exact().refresh_on_insufficient(true);
    let reply = Policy::flextell().read(401, [(CHALLENGE, r#"Bearer error="insufficient_scope""#)]);
    let mut scene = young_with(policy, YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    let expired = Event::Reply { attempt: 1, reply: reply.with_verdict(Verdict::TokenExpired) };
    scene.at(10).tell(expired).is("wait 1010 backoff");
}

#[test]
fn k10_d12_a_401_that_no_refresh_helps_fails_and_is_not_retried() {
    for error in ["insufficient_scope", "insufficient_claims", "token_revoked"] {
        let mut scene = young(YoungToken::Retry);
        scene.at(0).start().is("send 1 token 1");
        let challenge = format!("Bearer error=\"{error}\"");
        scene.at(0).reply_with(401, &[(CHALLENGE, &challenge)]).fails(FailureKind::Unauthorized);
    }
}

#[test]
fn k10_d15_a_final_401_fails() {
    let mut scene = young(YoungToken::Retry);
    scene.at(0).start().is("send 1 token 1");
    let reply = Reply::new(401).with_verdict(Verdict::Final);
    scene.at(0).tell(Event::Reply { attempt: 1, reply }).is("fail Unauthorized");
}
