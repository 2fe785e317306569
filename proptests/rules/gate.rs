//! The gate: S1, S7, C6, F3.

use std::time::Duration;

use retry_machine::{FailureKind, GateReason, GateState, Policy, Timestamp};

use crate::queue::paced;
use crate::support::{Answer, Scene, at, exact, ms};

/// Returns a scene with a closed gate: request 0 got a 429 with a hint of 10 s at 0 s.
fn closed() -> Scene {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene
}

/// The opening and the reason, the pace, and the next free slot.
type State = (Option<(Timestamp, GateReason)>, Option<Duration>, Timestamp);

fn state(scene: &Scene, millis: u64) -> State {
    let GateState { closed, pace, next_free, .. } = scene.upstream.gate.state(at(millis));
    (closed, pace, next_free)
}

// ---- S1 ----

#[test]
fn s1_s7_a_429s_hint_closes_the_upstream_for_every_request() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).request(2).start().is("send 1");
    scene.at(0).request(2).reply(503).is("wait 1000 backoff");
    scene.at(0).start().is("send 1");
    scene.at(500).reply_with(429, &[("Retry-After", "10")]).is("wait 10500 retry_after");
    scene.at(600).request(1).reply(503).is("wait 10500 gate");
    scene.at(1_000).request(2).tick().is("wait 10500 gate");
    scene.at(1_000).request(3).start().is("wait 10500 gate");
    // Then they pass one by one, in the order in which they came (C8 has the pace).
    scene.at(10_500).request(3).tick().is("wait 12375 gate");
    scene.at(10_500).request(2).tick().is("wait 11750 gate");
    scene.at(10_500).request(1).tick().is("wait 11125 gate");
    scene.at(10_500).tick().is("send 2");
    scene.at(11_125).request(1).tick().is("send 2");
    scene.at(11_750).request(2).tick().is("send 2");
    scene.at(12_375).request(3).tick().is("send 1");
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
fn s1_c6_the_gate_is_looked_at_again_when_a_wait_ends() {
    let mut scene = closed();
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).reply_with(429, &[("Retry-After", "20")]).is("wait 30000 retry_after");
    // Behind request 0, which passes first both times: two slots of 2.5 s.
    scene.at(10_000).request(1).tick().is("wait 35000 gate");
    scene.at(35_000).request(1).tick().is("send 1");
}

#[test]
fn s1_f3_an_operator_can_open_the_gate_and_waits_under_way_keep_their_end() {
    let mut scene = closed();
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(5_000).open_gate();
    assert_eq!(state(&scene, 5_000), (None, None, at(5_000)));
    // The queue has ended: all pass at once.
    scene.at(5_000).request(2).start().is("send 1");
    scene.at(5_000).request(3).start().is("send 1");
    scene.at(5_000).request(1).tick().is("wait 10000 gate");
    scene.at(5_000).tick().is("wait 10000 retry_after");
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).request(1).tick().is("send 1");
    scene.at(10_000).request(4).start().is("send 1");
}

#[test]
fn s1_after_an_opening_by_hand_the_clock_of_the_queue_goes_on() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(34_000).open_gate();
    // The slot of request 1 has come to 38 s. A closing of 7 s moves it to 45 s, before the end of its wait.
    scene.at(35_000).close_gate(42_000);
    scene.at(46_000).request(1).tick().is("send 1");
}

#[test]
fn s1_f3_opening_an_open_gate_ends_the_queue() {
    let mut scene = paced();
    scene.at(40_000).request(1).start().is("wait 46000 gate");
    scene.at(43_000).open_gate();
    scene.at(43_000).request(2).start().is("send 1");
    scene.at(43_000).request(1).tick().is("wait 46000 gate");
    scene.at(46_000).request(1).tick().is("send 1");
}

#[test]
fn s1_c6_a_later_reply_never_opens_the_gate_sooner() {
    let mut scene = closed();
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(1_000).reply_to(1, 429, &[("Retry-After", "1")]).is("wait 10000 retry_after");
    scene.at(1_000).request(2).start().is("wait 10000 gate");
}

#[test]
fn s1_an_operator_can_close_the_gate_and_it_has_no_pace() {
    let mut scene = Scene::exact();
    scene.at(1_000).close_gate(5_000);
    for request in 0..3 {
        scene.at(1_000).request(request).start().is("wait 5000 gate");
    }
    let closed = (Some((at(5_000), GateReason::Operator)), None, at(5_000));
    assert_eq!(state(&scene, 4_999), closed);
    for request in 0..4 {
        scene.at(5_000).request(request).tick().is("send 1");
    }
}

#[test]
fn s1_an_operator_only_closes_the_gate_longer() {
    let mut scene = closed();
    scene.at(1_000).close_gate(9_000);
    scene.at(1_000).request(1).start().is("wait 10000 gate");
    scene.at(2_000).close_gate(12_000);
    // C6: all slots move by the difference.
    scene.at(10_000).request(1).tick().is("wait 12000 gate");
    scene.at(12_000).request(1).tick().is("wait 14500 gate");
    let mut scene = Scene::exact();
    scene.at(1_000).close_gate(1_000);
    scene.at(1_000).start().is("send 1");
}

#[test]
fn s1_the_gate_can_be_switched_off() {
    let mut scene = Scene::with(exact().gate(false));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).close_gate(20_000);
    scene.at(0).request(2).start().is("send 1");
    // S8: the gate stores what it was told, and no request looks.
    assert_eq!(state(&scene, 0), (Some((at(20_000), GateReason::Operator)), None, at(20_000)));
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).request(3).start().is("send 1");
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
        assert!(end <= at(121_500), "{end:?}");
    }
}

#[test]
fn s1_the_state_of_the_gate_is_visible() {
    let open = |millis| (None, None, at(millis));
    assert_eq!(state(&Scene::exact(), 7), open(7));
    // T2: the upstream has seen 32 s.
    let scene = paced();
    let (closed, pace) = (Some((at(42_000), GateReason::Throttle)), Some(ms(4_000)));
    assert_eq!(state(&scene, 0), (closed, pace, at(46_000)));
    assert_eq!(state(&scene, 41_999), (closed, pace, at(46_000)));
    // Open, with a queue: the next free slot, and then now.
    assert_eq!(state(&scene, 42_000), (None, pace, at(46_000)));
    assert_eq!(state(&scene, 50_000), (None, pace, at(50_000)));

    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let limit = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "60")];
    scene.at(0).reply_with(200, &limit).is("done 200");
    let closed = Some((at(60_000), GateReason::NothingRemains));
    assert_eq!(state(&scene, 0), (closed, Some(Duration::from_secs(15)), at(60_000)));
}

// ---- S7, C6 ----

#[test]
fn s7_a_newcomer_does_not_overtake_those_who_wait() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(34_000).request(2).start().is("wait 50000 gate");
    scene.at(42_000).tick().is("send 2");
    // The gate is open, but two wait before it.
    scene.at(43_000).request(3).start().is("wait 54000 gate");
    scene.at(46_000).request(1).tick().is("send 1");
    scene.at(46_000).request(4).start().is("wait 58000 gate");
}

#[test]
fn s7_the_requests_that_the_gate_holds_do_not_pass_together() {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    let _ = scene.at(0).reply_with(429, &[("Retry-After", "60")]);
    for n in 1..=200 {
        scene.at(0).request(n).start().is("wait 60000 gate");
    }
    // C8: 15 s, halved until 200 slots fit into 15 s: 58.59375 ms.
    let mut last = at(60_000);
    for n in 1..=200 {
        let end = scene.at(60_000).request(n).tick().end_of_wait();
        assert_eq!(end.saturating_duration_since(last), Duration::from_nanos(58_593_750), "request {n}");
        last = end;
    }
}

#[test]
fn c6_a_closing_moves_all_slots_back_by_its_length() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(33_000).request(2).start().is("wait 50000 gate");
    scene.at(43_000).close_gate(48_000);
    scene.at(44_000).request(3).start().is("wait 59000 gate");
    scene.at(46_000).request(1).tick().is("wait 51000 gate");
    scene.at(50_000).request(2).tick().is("wait 55000 gate");
    scene.at(51_000).request(1).tick().is("send 1");
    // Once more, after the first slot has passed.
    scene.at(52_000).close_gate(53_500);
    scene.at(55_000).request(2).tick().is("wait 56500 gate");
    scene.at(59_000).request(3).tick().is("wait 60500 gate");
}

#[test]
fn c6_a_later_end_moves_opening_and_slots_by_the_difference_and_nothing_else() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    // Request 9 was sent before the closing, and is told 15 s: 6 s more.
    scene.at(33_000).request(9).reply_with(429, &[("Retry-After", "15")]).is("wait 56000 gate");
    let closed = Some((at(48_000), GateReason::Throttle));
    assert_eq!(state(&scene, 33_000), (closed, Some(ms(4_000)), at(60_000)));
    scene.at(46_000).request(1).tick().is("wait 52000 gate");
    // The first one asked for 42 s, but the gate is closed until 48 s.
    scene.at(42_000).tick().is("wait 48000 gate");
    scene.at(48_000).tick().is("send 2");
    scene.at(48_000).request(1).tick().is("wait 52000 gate");
}

#[test]
fn s1_c6_no_attempt_goes_through_a_closed_gate() {
    let mut scene = paced();
    scene.at(41_999).request(1).start().is("wait 46000 gate");
    scene.at(41_999).tick().is("wait 42000 retry_after");
    scene.at(42_000).close_gate(400_000);
    scene.at(42_000).tick().fails(FailureKind::ServerWaitTooLong);
}
