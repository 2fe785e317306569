//! Closings and waits that are too long: C12, C13.

use retry_machine::{FailureKind, GateReason, TransportErrorKind};

use crate::queue::{paced, paced_with};
use crate::support::{Answer, Scene, at, exact, secs};

// ---- C12 ----

#[test]
fn c12_one_reply_closes_the_gate_for_others_for_at_most_the_longest_wait() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let failure = scene.at(0).reply_with(429, &[("Retry-After", "3600")]).fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(3_600_000)), "its own hint binds it in full");
    assert_eq!(scene.upstream.gate.state(at(0)).closed, Some((at(300_000), GateReason::Throttle)));
    // A newcomer fails at once, and learns what was asked for.
    let failure = scene.at(299_999).request(1).start().fails(FailureKind::ServerWaitTooLong);
    assert_eq!((failure.not_before(), failure.attempts()), (Some(at(3_600_000)), 0));
    // After the opening requests pass as after any other: C8 has the pace, a quarter of the closing.
    scene.at(300_000).request(2).start().is("send 1");
    scene.at(300_000).request(3).start().is("wait 375000 gate");
}

#[test]
fn c12_requests_that_wait_already_go_on() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).close_gate(10_000);
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(0).reply_with(429, &[("Retry-After", "3600")]).fails(FailureKind::ServerWaitTooLong);
    scene.at(0).request(2).start().fails(FailureKind::ServerWaitTooLong);
    scene.at(10_000).request(1).tick().is("wait 300000 gate");
    scene.at(300_000).request(1).tick().is("send 1");
}

#[test]
fn c12_a_later_reply_that_asks_for_more_counts_too() {
    let mut scene = paced();
    // The gate is closed already: the latest end is asked for.
    scene.at(33_000).request(9).reply_with(429, &[("Retry-After", "3600")]).fails(FailureKind::ServerWaitTooLong);
    assert_eq!(scene.upstream.gate.state(at(33_000)).closed, Some((at(333_000), GateReason::Throttle)));
    let failure = scene.at(34_000).request(1).start().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(3_633_000)));
}

#[test]
fn c12_a_longer_time_that_a_newcomer_may_wait_is_waited() {
    let mut scene = Scene::with(exact().max_server_wait(secs(60)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "61")]).fails(FailureKind::ServerWaitTooLong);
    assert_eq!(scene.upstream.gate.state(at(0)).closed, Some((at(60_000), GateReason::Throttle)));
    scene.at(999).request(1).start().fails(FailureKind::ServerWaitTooLong);
    // 60 s before the end of what was asked for.
    scene.at(1_000).request(2).start().is("wait 60000 gate");
}

#[test]
fn c12_a_brake_asks_for_nothing_beyond_its_end() {
    let policy = exact().max_server_wait(secs(15)).initial_backoff(secs(20));
    let mut scene = paced_with(policy);
    scene.at(42_000).tick().is("send 2");
    // The back-off would be 40 s. The gate is closed for 15 s, and the slot at 46 s moves to 61 s.
    scene.at(43_000).error(TransportErrorKind::Broken).fails(FailureKind::ServerWaitTooLong);
    assert_eq!(scene.upstream.gate.state(at(43_000)).closed, Some((at(58_000), GateReason::Brake)));
    scene.at(48_000).request(1).start().is("wait 61000 gate");
}

#[test]
fn c12_an_operator_closes_the_gate_without_that_limit() {
    let mut scene = Scene::exact();
    scene.at(0).close_gate(3_600_000);
    assert_eq!(scene.upstream.gate.state(at(0)).closed, Some((at(3_600_000), GateReason::Operator)));
    let failure = scene.at(0).start().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(3_600_000)));
    scene.at(3_300_000).request(1).start().is("wait 3600000 gate");
}

// ---- C13: when a wait begins ----

#[test]
fn c13_hints_count_together() {
    for (second, is_granted) in [("100", true), ("101", false)] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).reply_with(429, &[("Retry-After", "200")]).is("wait 200000 retry_after");
        scene.at(200_000).tick().is("send 2");
        let action = scene.at(200_000).reply_with(503, &[("Retry-After", second)]);
        if is_granted {
            action.is("wait 300000 retry_after");
        } else {
            assert_eq!(action.fails(FailureKind::ServerWaitTooLong).not_before(), Some(at(301_000)));
        }
    }
}

#[test]
fn c13_a_wait_at_the_gate_and_a_hint_count_together() {
    let mut scene = Scene::exact();
    scene.at(0).close_gate(200_000);
    scene.at(0).start().is("wait 200000 gate");
    scene.at(200_000).tick().is("send 1");
    let failure = scene.at(200_000).reply_with(503, &[("Retry-After", "101")]).fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(301_000)));
}

#[test]
fn c13_a_slot_beyond_the_longest_wait_ends_the_request_and_is_not_taken() {
    let mut scene = paced_with(exact().max_server_wait(secs(15)));
    scene.at(32_000).request(1).start().is("wait 46000 gate");
    let failure = scene.at(32_000).request(2).start().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(50_000)), "its place at the gate");
    // Its hint ends sooner.
    let failure = scene.at(32_000).request(9).reply_with(503, &[("Retry-After", "5")]);
    assert_eq!(failure.fails(FailureKind::ServerWaitTooLong).not_before(), Some(at(50_000)));
    scene.at(35_000).request(3).start().is("wait 50000 gate");
}

#[test]
fn c13_back_offs_do_not_count() {
    let mut scene = Scene::with(exact().max_server_wait(secs(10)));
    scene.at(0).start().is("send 1");
    for (now, wait, sent) in
        [(0, 1_000, "send 2"), (1_000, 3_000, "send 3"), (3_000, 7_000, "send 4"), (7_000, 15_000, "send 5")]
    {
        scene.at(now).reply(503).is(&format!("wait {wait} backoff"));
        scene.at(wait).tick().is(sent);
    }
    // A hint longer than the back-off, as long as all that may be asked for.
    scene.at(15_000).reply_with(429, &[("Retry-After", "10")]).is("wait 25000 retry_after");
}

// ---- C13: when a wait is prolonged ----

#[test]
fn c13_f3_a_request_waits_at_the_gate_for_at_most_the_longest_server_wait_in_all() {
    let mut scene = paced_with(exact().max_server_wait(secs(20)));
    scene.at(32_000).request(1).start().is("wait 46000 gate");
    scene.at(36_000).request(2).start().is("wait 50000 gate");
    scene.at(44_000).close_gate(51_000);
    // 14 s are spent, and the slot has moved to 53 s: 7 s more are too long.
    let failure = scene.at(46_000).request(1).tick().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(53_000)));
    // 14 s are spent, and the slot has moved to 57 s.
    let failure = scene.at(50_000).request(2).tick().fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.not_before(), Some(at(57_000)));
    let mut scene = paced_with(exact().max_server_wait(secs(20)));
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(44_000).close_gate(51_000);
    scene.at(46_000).request(1).tick().is("wait 53000 gate");
}

#[test]
fn c13_f3_the_time_actually_waited_counts_a_late_tick_too() {
    let mut scene = Scene::with(exact().max_server_wait(secs(15)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "5")]).is("wait 5000 retry_after");
    scene.at(0).request(1).start().is("wait 5000 gate");
    scene.at(5_000).tick().is("send 2");
    scene.at(12_000).reply_with(429, &[("Retry-After", "4")]).is("wait 16000 retry_after");
    scene.at(12_000).request(1).tick().fails(FailureKind::ServerWaitTooLong);
}

#[test]
fn c13_a_wait_that_is_prolonged_to_the_deadline_ends_the_request() {
    for (deadline, ends) in [(20_000, true), (20_001, false)] {
        let limit = std::time::Duration::from_millis(deadline);
        let mut scene = Scene::with(exact().deadline(Some(limit)));
        scene.at(0).close_gate(10_000);
        scene.at(0).start().is("wait 10000 gate");
        scene.at(5_000).close_gate(20_000);
        let action = scene.at(10_000).tick();
        if ends {
            action.fails(FailureKind::Deadline);
        } else {
            action.is("wait 20000 gate");
        }
    }
}

// ---- C13: a late hint ----

#[test]
fn c13_f4_a_late_hint_is_checked_with_the_time_really_spent() {
    for (hint, is_granted) in [("290500", true), ("290501", false)] {
        let mut scene = Scene::with(exact().attempt_timeout(Some(secs(1))));
        scene.at(0).start().is("send 1 until 1000");
        scene.at(0).request(1).start().is("send 1 until 1000");
        scene.at(500).reply_with(429, &[("Retry-After", "200")]).is("wait 200500 retry_after");
        scene.at(1_000).request(1).tick().is("wait 200500 gate");
        // It has waited at the gate for 9.5 s, and 290.5 s remain.
        let action = scene.at(10_500).request(1).reply_to(1, 503, &[("retry-after-ms", hint)]);
        if is_granted {
            action.is("wait 301000 retry_after_ms");
            // Its slot has passed in the meantime.
            scene.at(301_000).request(1).tick().is("send 2 until 302000");
        } else {
            assert_eq!(action.fails(FailureKind::ServerWaitTooLong).not_before(), Some(at(301_001)));
        }
    }
}

#[test]
fn c13_f4_a_late_hint_that_does_not_move_the_end_is_checked_too() {
    let mut scene = paced_with(exact().max_server_wait(secs(20)).attempt_timeout(Some(secs(1))));
    scene.at(33_000).request(9).tick().is("wait 46000 gate");
    scene.at(43_000).request(9).reply_to(1, 503, &[("Retry-After", "2")]).is("wait 46000 gate");
    // 10 s are spent.
    let failure = scene.at(43_000).request(9).reply_to(1, 503, &[("Retry-After", "11")]);
    assert_eq!(failure.fails(FailureKind::ServerWaitTooLong).not_before(), Some(at(54_000)));
}
