//! The brake: C11.

use retry_machine::{Event, FailureKind, GateReason, Policy, Reply, Timestamp, TransportErrorKind, Verdict};

use crate::queue::{paced, paced_with};
use crate::support::{Answer, Scene, at, exact, ms, secs};

/// Returns a scene at 42 s: request 0 is in flight for the second time, and request 1 queues for 46 s.
fn queuing() -> Scene {
    sent_again(paced())
}

fn sent_again(mut scene: Scene) -> Scene {
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    let _ = scene.at(42_000).tick();
    assert_eq!(closed(&scene, 42_000), None);
    scene
}

fn closed(scene: &Scene, millis: u64) -> Option<(Timestamp, GateReason)> {
    scene.upstream.gate.state(at(millis)).closed
}

#[test]
fn c11_an_error_in_transport_closes_the_gate_for_the_back_off() {
    use TransportErrorKind::{Broken, NotSent, Other, TimedOut};
    for error in [NotSent, TimedOut, Broken, Other] {
        let mut scene = queuing();
        // The second retry: 2 s. The request is a head, for it has waited at the gate before.
        scene.at(43_000).error(error).is("wait 45000 backoff");
        assert_eq!(closed(&scene, 43_000), Some((at(45_000), GateReason::Brake)));
        assert_eq!(scene.upstream.gate.state(at(43_000)).pace, Some(ms(4_000)), "the pace stays");
        // 2 s for the closing, 4 s for the head.
        scene.at(46_000).request(1).tick().is("wait 52000 gate");
        scene.at(45_000).tick().is("send 3");
    }
}

#[test]
fn c11_a_throttle_without_a_hint_closes_the_gate_for_the_back_off() {
    for headers in [&[][..], &[("Retry-After", "0")], &[("Retry-After", "soon")]] {
        let mut scene = queuing();
        scene.at(43_000).reply_with(429, headers).is("wait 45000 backoff");
        assert_eq!(closed(&scene, 43_000), Some((at(45_000), GateReason::Brake)));
        scene.at(46_000).request(1).tick().is("wait 52000 gate");
    }
    let mut scene = queuing();
    let reply = Reply::new(200).with_verdict(Verdict::Throttled);
    scene.at(43_000).tell(Event::Reply { attempt: 2, reply }).is("wait 45000 backoff");
    assert_eq!(closed(&scene, 43_000), Some((at(45_000), GateReason::Brake)));
}

#[test]
fn c11_an_attempt_given_up_at_its_limit_brakes() {
    let mut scene = sent_again(paced_with(exact().attempt_timeout(Some(secs(1)))));
    scene.at(43_000).tick().is("wait 45000 backoff");
    assert_eq!(closed(&scene, 43_000), Some((at(45_000), GateReason::Brake)));
}

#[test]
fn c11_the_closing_is_drawn_as_the_retry_is() {
    for seed in 0..100 {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        scene.at(0).start().is("send 1");
        let sent = scene.at(0).reply_with(429, &[("Retry-After", "10")]).end_of_wait();
        scene.at_time(sent).tick().is("send 2");
        let now = sent.saturating_add(ms(100));
        let end = scene.at_time(now).error(TransportErrorKind::Broken).end_of_wait();
        assert_eq!(scene.upstream.gate.state(now).closed, Some((end, GateReason::Brake)));
        let wait = end.saturating_duration_since(now);
        assert!(wait >= ms(1_500) && wait <= ms(2_500), "{wait:?}");
    }
}

#[test]
fn c11_a_brake_needs_no_retry_that_is_left() {
    let mut scene = sent_again(paced_with(exact().max_retries(1)));
    scene.at(43_000).error(TransportErrorKind::Broken).fails(FailureKind::Exhausted);
    assert_eq!(closed(&scene, 43_000), Some((at(45_000), GateReason::Brake)));
    // A request that is not idempotent is not sent again at all.
    let mut scene = paced();
    scene.at(33_000).request(1).start_non_idempotent().is("wait 46000 gate");
    scene.at(46_000).request(1).tick().is("send 1");
    scene.at(47_000).request(1).error(TransportErrorKind::Broken).fails(FailureKind::Ambiguous);
    assert_eq!(closed(&scene, 47_000), Some((at(48_000), GateReason::Brake)));
}

#[test]
fn c11_other_results_do_not_brake() {
    use TransportErrorKind::{Permanent, Unprocessed};
    for status in [200, 404, 500, 502, 503] {
        let mut scene = queuing();
        let _ = scene.at(43_000).reply(status);
        assert_eq!(closed(&scene, 43_000), None, "{status}");
        scene.at(46_000).request(1).tick().is("send 1");
    }
    let mut scene = queuing();
    scene.at(43_000).error(Unprocessed).is("send 3");
    assert_eq!(closed(&scene, 43_000), None);
    scene.at(43_000).error(Unprocessed).is("wait 45000 backoff");
    assert_eq!(closed(&scene, 43_000), None);
    let mut scene = queuing();
    scene.at(43_000).error(Permanent).fails(FailureKind::Transport);
    assert_eq!(closed(&scene, 43_000), None);
    // A 429 that is final is not retried.
    let mut scene = queuing();
    let reply = Reply::new(429).with_verdict(Verdict::Final);
    scene.at(43_000).tell(Event::Reply { attempt: 2, reply }).fails(FailureKind::UnexpectedStatus);
    assert_eq!(closed(&scene, 43_000), None);
}

#[test]
fn c11_a_late_result_does_not_brake() {
    let mut scene = queuing();
    scene.at(43_000).cancel().fails(FailureKind::Cancelled);
    scene.at(43_100).error(TransportErrorKind::Broken).fails(FailureKind::Cancelled);
    scene.at(43_100).reply_to(1, 429, &[]).fails(FailureKind::Cancelled);
    assert_eq!(closed(&scene, 43_100), None);
}

#[test]
fn c11_where_nobody_queues_nothing_brakes() {
    // Without a pace.
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).error(TransportErrorKind::Broken).is("wait 1000 backoff");
    assert_eq!(closed(&scene, 0), None);
    scene.at(0).close_gate(10_000);
    scene.at(0).request(1).start().is("wait 10000 gate");
    scene.at(10_000).request(1).tick().is("send 1");
    scene.at(10_000).request(1).reply(429).is("wait 11000 backoff");
    assert_eq!(closed(&scene, 10_000), None);
    // Without a gate.
    let mut scene = sent_again_without_a_gate();
    scene.at(43_000).error(TransportErrorKind::Broken).is("wait 45000 backoff");
    assert_eq!(closed(&scene, 43_000), None);
}

/// Returns a scene at 78 s, at which a measurement ends and the next one begins. Eight requests have passed one by one.
fn measured() -> Scene {
    let mut scene = paced();
    for (request, slot) in (11..19).zip((46_000..).step_by(4_000)) {
        scene.at(33_000).request(request).start().is(&format!("wait {slot} gate"));
    }
    for (request, slot) in (11..19).zip((46_000..).step_by(4_000)) {
        scene.at(slot).request(request).tick().is("send 1");
        scene.at(slot).request(request).reply(200).is("done 200");
    }
    scene.at(78_000).request(20).start().is("send 1");
    scene.at(78_000).request(20).reply(200).is("done 200");
    scene
}

#[test]
fn c7_c11_somebody_queues_if_a_request_has_waited_since_the_measurement_began() {
    // Nobody has waited since 78 s, and no slot lies ahead at 90 s.
    let mut scene = measured();
    scene.at(83_000).request(30).start().is("send 1");
    scene.at(90_000).request(30).error(TransportErrorKind::Broken).is("wait 91000 backoff");
    assert_eq!(closed(&scene, 90_000), None);
    // A request has waited in the queue.
    let mut scene = measured();
    scene.at(83_000).request(30).start().is("send 1");
    let slot = scene.at(84_000).request(31).start().end_of_wait();
    scene.at_time(slot).request(31).tick().is("send 1");
    scene.at(99_000).request(30).error(TransportErrorKind::Broken).is("wait 100000 backoff");
    assert_eq!(closed(&scene, 99_000), Some((at(100_000), GateReason::Brake)));
    // A request has waited as a head: request 0 has had its turn before.
    let mut scene = measured();
    scene.at(83_000).tick().is("send 2");
    scene.at(84_000).close_gate(86_000);
    scene.at(84_000).reply(503).is("wait 86000 backoff");
    scene.at(86_000).tick().is("send 3");
    scene.at(99_000).error(TransportErrorKind::Broken).is("wait 103000 backoff");
    assert_eq!(closed(&scene, 99_000), Some((at(103_000), GateReason::Brake)));
    // A reply has closed the gate.
    let mut scene = measured();
    for (now, request) in [(83_000, 30), (88_000, 31)] {
        scene.at(now).request(request).start().is("send 1");
    }
    scene.at(93_000).request(30).reply_with(200, &[("RateLimit", "\"a\";r=0;t=2")]).is("done 200");
    scene.at(99_100).request(31).error(TransportErrorKind::Broken).is("wait 100100 backoff");
    assert_eq!(closed(&scene, 99_100), Some((at(100_100), GateReason::Brake)));
}

fn sent_again_without_a_gate() -> Scene {
    let mut scene = paced_with(exact().gate(false));
    scene.at(42_000).tick().is("send 2");
    scene
}
