//! The queue at the gate: S7, C9, C14.

use retry_machine::{BreakerPolicy, Event, FailureKind, Idempotency, PolicyBuilder, RequestLimits, RetryMachine};

use crate::support::{Answer, REFRESHED, Scene, at, exact, ms, secs};

/// Returns a scene at 32 s with a pace of 4 s: eight good answers came 4 s apart, and the 429 of request 0 closes the gate
/// until 42 s. The next free slot is at 46 s. Request 9 is in flight.
pub fn paced() -> Scene {
    paced_with(exact())
}

pub fn paced_with(policy: PolicyBuilder) -> Scene {
    let mut scene = Scene::with(policy);
    for request in 100..108 {
        let now = 4_000 * (request - 100);
        let _ = scene.at(now).request(request).start();
        scene.at(now).request(request).reply(200).is("done 200");
    }
    let _ = scene.at(32_000).request(9).start();
    let _ = scene.at(32_000).start();
    scene.at(32_000).reply_with(429, &[("Retry-After", "10")]).is("wait 42000 retry_after");
    scene
}

// ---- C9 ----

#[test]
fn c9_who_comes_takes_the_next_free_slot_a_pace_later() {
    let mut scene = paced();
    for request in 1..=5 {
        let slot = 42_000 + 4_000 * request;
        scene.at(32_000).request(request).start().is(&format!("wait {slot} gate"));
    }
    scene.at(46_000).request(1).tick().is("send 1");
    scene.at(49_999).request(2).tick().is("wait 50000 gate");
    scene.at(50_000).request(2).tick().is("send 1");
}

#[test]
fn c9_a_request_that_need_not_wait_moves_the_next_free_slot() {
    let mut scene = paced();
    scene.at(45_999).request(1).start().is("wait 46000 gate");
    // The slots until 60 s were not used: they do not add up.
    scene.at(60_000).request(2).start().is("send 1");
    scene.at(61_000).request(3).start().is("wait 64000 gate");
    scene.at(61_000).request(4).start().is("wait 68000 gate");
    scene.at(72_000).request(5).start().is("send 1");
    scene.at(72_000).request(6).start().is("wait 76000 gate");
}

#[test]
fn c9_after_an_idle_time_a_closing_gives_the_slots_from_its_opening_on() {
    let mut scene = paced();
    scene.at(100_000).close_gate(110_000);
    for (request, slot) in [(1, 110_000), (2, 114_000), (3, 118_000)] {
        scene.at(100_000).request(request).start().is(&format!("wait {slot} gate"));
    }
}

#[test]
fn c9_a_request_waits_on_only_if_deadline_and_breaker_allow_it() {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(20) };
    let mut scene = paced_with(exact().breaker(Some(breaker)));
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(42_000).tick().is("send 2");
    scene.at(42_500).reply(503).is("wait 44500 backoff");
    scene.at(43_000).close_gate(70_000);
    // The breaker opens until 82.5 s. The slot has moved to 73 s.
    let _ = scene.at(62_500).request(9).reply(503).fails(FailureKind::BreakerOpen);
    scene.at(62_500).request(1).tick().fails(FailureKind::BreakerOpen);

    let mut scene = paced();
    start_as(&mut scene, 1, 33_000, 20_000).is("wait 46000 gate");
    scene.at(43_000).close_gate(49_000);
    // Its slot has moved to 52 s, before the deadline, but the tick comes late.
    scene.at(53_000).request(1).tick().fails(FailureKind::Deadline);
}

#[test]
fn c9_a_slot_that_has_moved_back_is_waited_for() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(45_000).close_gate(47_000);
    // The clock stopped a second before its slot.
    scene.at(46_000).request(1).tick().is("wait 48000 gate");
    scene.at(48_000).request(1).tick().is("send 1");
}

#[test]
fn c9_an_own_end_after_the_slot_takes_none() {
    let mut scene = paced();
    // Its hint ends at 52 s, its slot would be at 46 s.
    scene.at(32_000).request(9).reply_with(503, &[("Retry-After", "20")]).is("wait 52000 retry_after");
    scene.at(32_000).request(1).start().is("wait 46000 gate");
    scene.at(32_000).request(2).start().is("wait 50000 gate");
    scene.at(32_000).request(3).start().is("wait 54000 gate");
    // It asks again then.
    scene.at(52_000).request(9).tick().is("wait 58000 gate");
    scene.at(58_000).request(9).tick().is("send 2");
}

#[test]
fn c9_an_own_end_at_the_slot_takes_it() {
    let mut scene = paced();
    scene.at(36_000).request(9).reply_with(503, &[("Retry-After", "10")]).is("wait 46000 retry_after");
    scene.at(36_000).request(1).start().is("wait 50000 gate");
    scene.at(46_000).request(9).tick().is("send 2");
}

#[test]
fn c9_only_the_last_slot_is_given_back() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(33_000).request(2).start().is("wait 50000 gate");
    scene.at(34_000).request(2).cancel().fails(FailureKind::Cancelled);
    scene.at(34_000).request(3).start().is("wait 50000 gate");
    scene.at(35_000).request(1).cancel().fails(FailureKind::Cancelled);
    scene.at(35_000).request(4).start().is("wait 54000 gate");
    scene.at(50_000).request(3).tick().is("send 1");
}

#[test]
fn c9_a_slot_is_given_back_once_and_only_while_it_is_held() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(34_000).request(1).cancel().fails(FailureKind::Cancelled);
    scene.at(34_000).request(1).cancel().fails(FailureKind::Cancelled);
    scene.at(34_000).request(2).start().is("wait 46000 gate");
    scene.at(46_000).request(2).tick().is("send 1");
    // It has passed: nothing is left to give back.
    scene.at(46_000).request(2).cancel().fails(FailureKind::Cancelled);
    scene.at(46_000).request(3).start().is("wait 50000 gate");
}

#[test]
fn c9_a_late_success_gives_the_slot_back() {
    let mut scene = paced_with(exact().attempt_timeout(Some(secs(3))));
    // Request 9 times out at 35 s, and queues.
    scene.at(35_000).request(9).tick().is("wait 46000 gate");
    scene.at(36_000).request(9).reply_to(1, 200, &[]).is("done 200");
    scene.at(36_000).request(1).start().is("wait 46000 gate");
}

#[test]
fn c9_a_wait_is_never_shortened() {
    let mut scene = paced();
    for (request, slot) in [(1, 46_000), (2, 50_000), (3, 54_000)] {
        scene.at(33_000).request(request).start().is(&format!("wait {slot} gate"));
    }
    for request in [1, 2] {
        scene.at(34_000).request(request).cancel().fails(FailureKind::Cancelled);
    }
    scene.at(50_000).request(3).tick().is("wait 54000 gate");
    scene.at(50_000).open_gate();
    scene.at(53_999).request(3).tick().is("wait 54000 gate");
}

#[test]
fn c9_a_wait_at_the_gate_looks_at_the_checks_before_it_when_it_ends() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.upstream.login.token_expires_in(at(34_000), ms(1));
    scene.at(46_000).request(1).tick().is("refresh until 76000");
    // P1: its turn has passed. Nobody else waits, and the slot after it has come.
    scene.at(50_000).request(1).refreshed(REFRESHED).is("send 1 token 1");
}

// ---- C14 ----

#[test]
fn c14_behind_a_queue_that_is_too_long_a_request_passes_at_once_and_the_pace_is_given_up() {
    let mut scene = paced_with(exact().max_server_wait(secs(15)));
    scene.at(36_000).request(1).start().is("wait 46000 gate");
    scene.at(36_000).request(2).start().is("wait 50000 gate");
    scene.at(40_000).request(3).start().is("wait 54000 gate");
    scene.at(43_000).request(4).start().is("wait 58000 gate");
    // Its slot would be 15.001 s away, and a millisecond later just 15 s.
    scene.at(46_999).request(5).start().is("send 1");
    assert_eq!(scene.upstream.gate.state(at(46_999)).pace, None);
    scene.at(46_999).request(6).start().is("send 1");
    // Those that wait keep their slots.
    scene.at(49_999).request(2).tick().is("wait 50000 gate");
    scene.at(54_000).request(3).tick().is("send 1");
    scene.at(57_999).request(4).tick().is("wait 58000 gate");
    scene.at(58_000).request(4).tick().is("send 1");
}

#[test]
fn c14_when_the_pace_is_given_up_the_measurement_begins_anew() {
    let mut scene = paced_with(exact().max_server_wait(secs(15)));
    for (now, request) in [(36_000, 1), (36_000, 2), (40_000, 3)] {
        let _ = scene.at(now).request(request).start().end_of_wait();
    }
    scene.at(42_000).tick().is("send 2");
    scene.at(42_000).reply(200).is("done 200");
    scene.at(42_999).request(4).start().is("send 1");
    for request in 20..27 {
        scene.at(48_000).request(request).start().is("send 1");
        scene.at(48_000).request(request).reply(200).is("done 200");
    }
    // Eight answers since 32 s, but only seven since the pace was given up: the best time is 4 s still.
    scene.at(62_000).request(30).start().is("send 1");
    let _ = scene.at(62_000).request(30).reply_with(429, &[("Retry-After", "10")]);
    assert_eq!(scene.upstream.gate.state(at(62_000)).pace, Some(secs(4)));
}

#[test]
fn c14_a_slot_at_the_longest_wait_is_taken() {
    let mut scene = paced_with(exact().max_server_wait(secs(15)));
    for (now, request, slot) in [(36_000, 1, 46_000), (36_000, 2, 50_000), (40_000, 3, 54_000), (43_000, 4, 58_000)] {
        scene.at(now).request(request).start().is(&format!("wait {slot} gate"));
    }
    scene.at(47_000).request(5).start().is("wait 62000 gate");
}

#[test]
fn c14_while_the_gate_is_closed_the_queue_is_not_given_up() {
    let mut scene = paced_with(exact().max_server_wait(secs(15)));
    scene.at(32_000).request(1).start().is("wait 46000 gate");
    scene.at(32_000).request(2).start().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(scene.upstream.gate.state(at(32_000)).pace, Some(secs(4)));
}

/// Starts a request of the scene with a deadline of its own.
fn start_as(scene: &mut Scene, request: u64, now: u64, deadline: u64) -> retry_machine::Action {
    let limits = RequestLimits { deadline: Some(ms(deadline)), ..RequestLimits::default() };
    scene.at(now).request(request).start_with(limits)
}

/// Starts a request with a deadline of its own.
fn start(scene: &mut Scene, now: u64, deadline: u64) -> retry_machine::Action {
    let limits = RequestLimits { deadline: Some(ms(deadline)), ..RequestLimits::default() };
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 1).with_limits(limits);
    machine.handle(at(now), Event::Start, &mut scene.upstream)
}

#[test]
fn c14_before_an_open_gate_a_slot_leaves_a_quarter_of_the_time() {
    let scene = || {
        let mut scene = paced();
        for request in 1..=3 {
            let _ = scene.at(33_000).request(request).start();
        }
        scene
    };
    // The slot is at 58 s, 15 s from now: three quarters of the time must be longer.
    start(&mut scene(), 43_000, 20_000).fails(FailureKind::Deadline);
    start(&mut scene(), 43_000, 20_004).is("wait 58000 gate");
    // One that fails so has not taken a slot.
    let mut scene = scene();
    start(&mut scene, 43_000, 20_000).fails(FailureKind::Deadline);
    scene.at(43_000).request(4).start().is("wait 58000 gate");
}

#[test]
fn c14_before_a_closed_gate_a_slot_must_lie_before_the_deadline() {
    start(&mut paced(), 36_000, 10_000).fails(FailureKind::Deadline);
    start(&mut paced(), 36_000, 10_001).is("wait 46000 gate");
}
