//! The three parts: several logins and gates at one service: S8.

use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Event, FailureKind, Gate, GateReason, Idempotency, Login, Policy,
    RetryMachine, Scope, Service, TransportErrorKind, Upstream,
};

use crate::support::{Answer, REFRESHED, Scene, at, exact, ms, secs};

#[test]
fn s8_two_gates_have_a_queue_each_and_one_login() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).gate(1).start().is("send 1");
    scene.at(10).reply_with(429, &[("Retry-After", "5")]).is("wait 5010 retry_after");
    scene.at(20).request(2).start().is("wait 5010 gate");
    scene.at(20).request(3).gate(1).start().is("send 1");
    // One refresh.
    scene.at(30).request(1).reply(401).is("refresh until 30030");
    scene.at(40).request(4).gate(1).start().is("await until 30030");
    scene.at(50).request(1).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(60).request(3).reply(401).is("send 2 token 1");
    scene.at(60).request(4).tick().is("send 1 token 1");
}

#[test]
fn s8_a_gate_is_opened_and_closed_by_hand_alone() {
    let mut scene = Scene::exact();
    scene.at(0).gate(1).close_gate(5_000);
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).gate(1).start().is("wait 5000 gate");
    scene.at(0).close_gate(9_000);
    scene.at(10).gate(1).open_gate();
    scene.at(10).request(2).gate(1).start().is("send 1");
    scene.at(10).request(3).start().is("wait 9000 gate");
    assert_eq!(scene.upstream.gate.state(at(10)).closed, Some((at(9_000), GateReason::Operator)));
    assert_eq!(scene.gates[&1].state(at(10)).closed, None);
}

#[test]
fn s8_two_logins_refresh_side_by_side() {
    let mut scene = Scene::exact();
    for (request, login) in [(0, 0), (1, 1), (2, 1), (3, 0)] {
        scene.at(0).request(request).login(login).start().is("send 1");
    }
    scene.at(10).reply(401).is("refresh until 30010");
    scene.at(10).request(1).reply(401).is("refresh until 30010");
    assert_eq!((scene.lease(0), scene.lease(1)), (1, 1));
    scene.at(10).request(2).reply(401).is("await until 30010");
    scene.at(20).request(1).refreshed(REFRESHED).is("send 2 token 1");
    scene.at(20).request(2).tick().is("send 2 token 1");
    // The other login has its own token.
    scene.at(20).tick().is("in flight until 30010");
    scene.at(20).request(3).reply(401).is("await until 30010");
    assert_eq!((scene.upstream.login.generation(), scene.logins[&1].generation()), (Some(0), Some(1)));
}

#[test]
fn s8_one_login_without_a_token_changes_nothing_for_another() {
    let mut scene = Scene::exact();
    scene.logins.insert(1, Login::without_token());
    scene.at(0).request(1).login(1).start().is("send 1 no token");
    scene.at(0).request(1).reply(401).fails(FailureKind::Unauthorized);
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
}

#[test]
fn s8_all_logins_and_gates_share_one_budget() {
    let budget = BudgetPolicy { capacity: 10, ..BudgetPolicy::DEFAULT };
    let mut scene = Scene::with(exact().budget(Some(budget)));
    for request in 0..3 {
        scene.at(0).request(request).login(request).gate(request).start().is("send 1");
    }
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(0).request(1).reply(503).is("wait 1000 backoff");
    scene.at(0).request(2).reply(503).fails(FailureKind::Budget);
}

#[test]
fn s8_all_logins_and_gates_share_one_breaker() {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let mut scene = Scene::with(exact().breaker(Some(breaker)));
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).login(1).gate(1).start().is("send 1");
    scene.at(0).error(TransportErrorKind::NotSent).is("wait 1000 backoff");
    scene.at(10_000).request(1).error(TransportErrorKind::NotSent).fails(FailureKind::BreakerOpen);
    scene.at(10_000).request(2).login(2).gate(2).start().fails(FailureKind::BreakerOpen);
}

#[test]
fn s8_t2_all_logins_and_gates_share_one_latest_time() {
    let mut scene = Scene::with(exact().deadline(Some(secs(5))));
    scene.at(1_000).start().is("send 1 until 6000");
    scene.at(0).request(1).login(1).gate(1).start().is("send 1 until 6000");
}

#[test]
fn s8_t2_told_directly_a_part_takes_now_as_it_comes() {
    let mut scene = Scene::exact();
    scene.at(10_000).start().is("send 1");
    // The service has seen 10 s.
    scene.at(0).close_gate(3_000);
    assert_eq!(scene.upstream.gate.state(at(0)).closed, Some((at(3_000), GateReason::Operator)));
    scene.at(0).request(1).start().is("send 1");
    scene.upstream.login.token_replaced(at(0), Some(secs(60)));
    assert_eq!(scene.upstream.login.state(at(10_000)).expires, Some(at(60_000)));
    // Nor does it tell the service the time.
    scene.at(90_000).close_gate(99_000);
    assert_eq!(scene.upstream.service.next_probe(at(0)), None);
    scene.at(20_000).reply(503).is("wait 99000 gate");
}

#[test]
fn s8_s1_a_policy_without_a_gate_ignores_one() {
    let mut scene = Scene::with(exact().gate(false));
    scene.at(0).close_gate(60_000);
    scene.at(0).gate(1).close_gate(60_000);
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).gate(1).start().is("send 1");
    scene.at(10).reply_with(429, &[("Retry-After", "5")]).is("wait 5010 retry_after");
    scene.at(5_010).tick().is("send 2");
    let failure = scene.at(5_020).reply(404).fails(FailureKind::NotFound);
    assert_eq!(failure.not_before(), None, "the gate does not count");
}

#[test]
fn s8_an_upstream_is_one_of_each() {
    let policy = Policy::flextell();
    let Upstream { mut service, mut login, mut gate } = Upstream::new(policy.clone());
    assert_eq!(service, Service::new(policy.clone()));
    assert_eq!((&login, &gate), (&Login::new(), &Gate::new()));
    assert_eq!(service.policy(), &policy);

    let mut upstream = Upstream::new(policy);
    let mut machines = [7, 7].map(|seed| RetryMachine::new(Idempotency::Idempotent, seed));
    for event in [Event::Start, Event::Tick, Event::Cancel] {
        let scope = Scope { service: &mut service, login: &mut login, gate: &mut gate };
        let [one, other] = &mut machines;
        assert_eq!(one.handle(at(5), event, scope), other.handle(at(5), event, &mut upstream));
    }
    assert_eq!(upstream, Upstream { service, login, gate });
}

#[test]
fn s8_a_request_in_a_scope_needs_only_the_policy_for_its_next_tick() {
    let mut scene = Scene::exact();
    scene.at(0).login(1).gate(1).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    assert_eq!(scene.next_tick(), Some(at(1_000)));
}

#[test]
fn s6_a_cancel_gives_back_the_slot_and_the_probe_and_keeps_the_lease() {
    // The slot.
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "12")]).is("wait 12000 retry_after");
    scene.at(0).request(1).start().is("wait 12000 gate");
    scene.at(12_000).request(2).start().is("wait 18000 gate");
    scene.at(12_001).request(2).cancel().fails(FailureKind::Cancelled);
    scene.at(12_002).request(3).start().is("wait 18000 gate");
    // The probe.
    let breaker = BreakerPolicy { failure_threshold: 1, open_for: secs(0) };
    let mut scene = Scene::with(exact().breaker(Some(breaker)));
    scene.at(0).start().is("send 1");
    let _ = scene.at(0).reply(503);
    scene.at(0).cancel().fails(FailureKind::Cancelled);
    scene.at(0).request(1).start().is("send 1");
    // The lease.
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    let wakeups = scene.upstream.login.wakeups();
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    assert_eq!(scene.upstream.login.state(at(10)).lease, Some((1, at(30_000))));
    assert_eq!(scene.upstream.login.wakeups(), wakeups, "nobody needs to look");
    assert!(matches!(scene.at(20).request(1).start(), Action::AwaitRefresh { .. }));
}

#[test]
fn f5_an_outcome_does_not_tick_a_request_that_waits_or_sends() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(ms(500))));
    scene.at(0).start().is("send 1 until 500");
    scene.at(0).request(1).start().is("send 1 until 500");
    scene.at(0).reply(401).is("refresh until 30000");
    scene.at(600).request(1).refreshed(REFRESHED).is("in flight until 500");
    scene.at(600).request(1).tick().is("wait 1600 backoff");
}
