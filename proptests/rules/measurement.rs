//! The measurement of the time between two good answers: C7.

use std::time::Duration;

use retry_machine::TransportErrorKind;

use crate::queue::paced;
use crate::support::{Answer, Scene, at, exact, ms, secs};

/// Sends a request and answers it at once.
fn answer(scene: &mut Scene, millis: u64, status: u16) {
    let request = 1_000 + scene.requests().len() as u64;
    let sent = scene.at(millis).request(request).start().short();
    assert_eq!(sent, "send 1", "at {millis}");
    let _ = scene.at(millis).request(request).reply(status);
}

/// Answers a request at each of these seconds with a 200.
fn answers(scene: &mut Scene, seconds: impl IntoIterator<Item = u64>) {
    for second in seconds {
        answer(scene, 1_000 * second, 200);
    }
}

/// Has a request throttled for 10 s, and returns the pace that the closing gives, in microseconds.
fn pace_of_a_closing(scene: &mut Scene, millis: u64) -> u128 {
    let request = 1_000 + scene.requests().len() as u64;
    scene.at(millis).request(request).start().is("send 1");
    let _ = scene.at(millis).request(request).reply_with(429, &[("Retry-After", "10")]);
    pace(scene, millis).unwrap().as_micros()
}

fn pace(scene: &Scene, millis: u64) -> Option<Duration> {
    scene.upstream.gate.state(at(millis)).pace
}

fn every(step: usize, from: u64, to: u64) -> impl Iterator<Item = u64> {
    (from..=to).step_by(step)
}

// ---- The measurement ----

#[test]
fn c7_eight_answers_in_thirty_seconds_are_a_measurement() {
    // Eight answers in 30 s: it begins with the first attempt that ends, and is looked at when one ends.
    let mut scene = Scene::exact();
    answers(&mut scene, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(pace_of_a_closing(&mut scene, 30_000), 3_750_000);
    // A known pace tells everybody a slot at once.
    scene.at(30_000).request(1).start().is("wait 43750 gate");
}

#[test]
fn c7_without_thirty_seconds_nothing_is_measured() {
    let mut scene = Scene::exact();
    answers(&mut scene, [0, 1, 2, 3, 4, 5, 6, 7]);
    // C8: a guess; the age of the measurement, 29.999 s, divided by eight answers.
    assert_eq!(pace_of_a_closing(&mut scene, 29_999), 3_749_875);
}

#[test]
fn c7_with_fewer_than_eight_answers_it_takes_two_minutes() {
    let mut scene = Scene::exact();
    answers(&mut scene, [0, 20, 40, 60, 80]);
    // At 100 s it is not complete, at 120 s it is, with six answers: nothing is known, and the next one begins.
    answers(&mut scene, [100, 120]);
    // 25 s, divided by the two answers since, or 4.
    answers(&mut scene, [135]);
    assert_eq!(pace_of_a_closing(&mut scene, 145_000), 6_250_000);
    let mut scene = Scene::exact();
    answers(&mut scene, [0, 20, 40, 60, 80, 100]);
    // Not complete: 119 s, divided by six answers.
    assert_eq!(pace_of_a_closing(&mut scene, 119_000), 19_833_333);
}

#[test]
fn c7_only_good_answers_count() {
    let mut scene = Scene::with(exact().budget(None).breaker(None));
    answers(&mut scene, [0, 4, 8, 12, 16, 20, 24, 28]);
    for (second, status) in [(2, 503), (6, 429), (10, 502)] {
        answer(&mut scene, 28_000 + second * 10, status);
    }
    assert_eq!(pace_of_a_closing(&mut scene, 32_000), 4_000_000);
    // A 404 is a good answer.
    let mut scene = Scene::exact();
    for second in 0..8 {
        answer(&mut scene, 1_000 * second, 404);
    }
    assert_eq!(pace_of_a_closing(&mut scene, 32_000), 4_000_000);
}

#[test]
fn c7_a_late_success_counts_and_a_late_failure_does_not_end_an_attempt_twice() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(1))));
    scene.at(0).start().is("send 1 until 1000");
    // The measurement begins.
    scene.at(1_000).tick().is("wait 2000 backoff");
    for request in 1..8 {
        let _ = scene.at(1_000).request(request).start();
        scene.at(1_000).request(request).reply(200).is("done 200");
    }
    scene.at(1_500).reply_to(1, 200, &[]).is("done 200");
    scene.at(31_000).request(9).start().is("send 1 until 32000");
    scene.at(31_000).request(9).reply_with(429, &[("Retry-After", "10")]).is("wait 41000 retry_after");
    assert_eq!(pace(&scene, 31_000), Some(ms(3_750)), "eight answers in 30 s");
}

// ---- Idle time ----

#[test]
fn c7_of_a_gap_thirty_seconds_count() {
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 28));
    // 100 s later: 28 s and 30 s, divided by eight.
    assert_eq!(pace_of_a_closing(&mut scene, 128_000), 7_250_000);
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 28));
    // 30 s count in full.
    assert_eq!(pace_of_a_closing(&mut scene, 58_000), 7_250_000);
}

#[test]
fn c7_after_two_idle_minutes_the_measurement_begins_anew() {
    let after = |idle: u64| {
        let mut scene = Scene::exact();
        answers(&mut scene, every(4, 0, 28));
        pace_of_a_closing(&mut scene, 28_000 + idle)
    };
    assert_eq!(after(120_000), 7_250_000, "28 s and 30 s, divided by eight");
    assert_eq!(after(120_001), 2_500_000, "C8: nothing is known");
}

#[test]
fn c7_after_two_idle_minutes_the_best_time_is_still_known() {
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 32));
    assert_eq!(pace_of_a_closing(&mut scene, 500_000), 4_000_000);
}

#[test]
fn c7_after_two_idle_minutes_there_is_no_pace_and_no_guess() {
    let mut scene = Scene::exact();
    let _ = scene.at(0).start();
    let _ = scene.at(0).reply_with(429, &[("Retry-After", "10")]);
    scene.at(10_000).tick().is("send 2");
    scene.at(10_000).reply(200).is("done 200");
    assert_eq!(pace(&scene, 130_000), Some(ms(2_500)));
    assert_eq!(pace(&scene, 130_001), None);
    // An hour later a retry does not wait for a pace.
    scene.at(3_600_000).request(1).start().is("send 1");
    scene.at(3_600_000).request(1).reply(503).is("wait 3601000 backoff");
    scene.at(3_601_000).request(1).tick().is("send 2");
    // The guess was 2.5 s. It is made anew.
    assert_eq!(pace_of_a_closing(&mut scene, 3_602_000), 2_500_000);
    assert_eq!(pace(&scene, 3_602_000), Some(ms(2_500)));
}

#[test]
fn c7_while_a_slot_lies_ahead_the_time_is_not_idle() {
    let mut scene = paced();
    // Slots every 4 s from 46 s on: the last one at 166 s, and no attempt ends before that.
    for request in 20..51 {
        let _ = scene.at(32_000).request(request).start();
    }
    assert_eq!(pace(&scene, 165_000), Some(ms(4_000)));
}

#[test]
fn c7_a_guess_that_waits_for_its_correction_is_a_queue() {
    let mut scene = Scene::exact();
    for request in 0..4 {
        let _ = scene.at(0).request(request).start();
    }
    let _ = scene.at(0).request(0).reply_with(429, &[("Retry-After", "300")]);
    // Two measurements end in the closing, and none began to wait in the second one.
    let _ = scene.at(130_000).request(1).reply(404);
    let _ = scene.at(260_000).request(2).reply(404);
    assert!(pace(&scene, 260_000).is_some());
}

#[test]
fn c7_the_time_of_a_closing_is_not_idle() {
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 28));
    scene.at(28_000).close_gate(100_000);
    // The gap counts from the opening: all of the 102 s before it and 4 s behind it, divided by eight.
    assert_eq!(pace_of_a_closing(&mut scene, 104_000), 13_000_000);
}

// ---- The best time ----

#[test]
fn c7_the_best_time_grows_by_a_64th_where_nobody_queues() {
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 32));
    // The next eight come 5 s apart. The best time was 4 s.
    answers(&mut scene, every(5, 37, 67));
    assert_eq!(pace_of_a_closing(&mut scene, 72_000), 4_062_500);
}

#[test]
fn c7_with_eight_answers_it_is_at_most_the_measured_time() {
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 32));
    answers(&mut scene, every(2, 34, 62));
    assert_eq!(pace_of_a_closing(&mut scene, 64_000), 2_000_000);
}

#[test]
fn c7_without_eight_answers_it_grows_alone() {
    let mut scene = Scene::exact();
    answers(&mut scene, every(4, 0, 32));
    answers(&mut scene, [62, 92, 122]);
    // 120 s with four answers: 4 s and a 64th.
    assert_eq!(pace_of_a_closing(&mut scene, 152_000), 4_062_500);
}

/// Starts so many requests in a queue, and answers each as soon as its slot comes. Returns the instants of their sends in
/// milliseconds.
fn serve(scene: &mut Scene, now: u64, requests: std::ops::Range<u64>) -> Vec<u64> {
    let mut ends: Vec<_> =
        requests.map(|request| (request, scene.at(now).request(request).start().end_of_wait())).collect();
    for (request, end) in &mut ends {
        while let retry_machine::Action::Wait { until, .. } = scene.at_time(*end).request(*request).tick() {
            *end = until;
        }
        scene.at_time(*end).request(*request).reply(200).is("done 200");
    }
    ends.iter().map(|(_, end)| end.as_nanos() / 1_000_000).collect()
}

#[test]
fn c7_the_best_time_grows_if_a_request_was_refused_and_shrinks_if_none_was_and_somebody_queues() {
    let mut scene = paced();
    let sent = serve(&mut scene, 33_000, 11..40);
    assert_eq!(sent[..2], [46_000, 50_000]);
    assert_eq!(sent.len(), 29);
    // The first measurement ends at 78 s and has the refusal: 4 s and a 64th. Those that end at 110 s and 142 s have none:
    // each a 64th less.
    let less = |nanos: u64| nanos - nanos / 64;
    let expected = less(less(4_062_500_000));
    assert_eq!(pace(&scene, 158_000), Some(Duration::from_nanos(expected)));
}

#[test]
fn c7_where_nobody_queues_the_pace_ends() {
    let mut scene = paced();
    scene.at(42_000).tick().is("send 2");
    scene.at(42_000).reply(200).is("done 200");
    // The slot at 46 s has passed. Each answer comes when the next slot has passed, too.
    for number in 1..=16 {
        let request = 10 + number;
        let now = 50_000 + 5_000 * number;
        scene.at(now).request(request).start().is("send 1");
        assert_eq!(pace(&scene, now), Some(if number <= 8 { ms(4_000) } else { Duration::from_nanos(4_062_500_000) }));
        scene.at(now + 4_500).request(request).reply(200).is("done 200");
        if number == 16 {
            assert_eq!(pace(&scene, now + 4_500), None);
        }
    }
    // Then all pass at once.
    for request in 30..35 {
        scene.at(135_000).request(request).start().is("send 1");
    }
}

// ---- A guess ----

/// Returns a scene at 12 s with a guess of 3 s: request 0 was told 12 s, and is in flight again. The measurement begins.
fn guessed() -> Scene {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "12")]).is("wait 12000 retry_after");
    scene.at(12_000).tick().is("send 2");
    assert_eq!(pace(&scene, 12_000), Some(secs(3)));
    scene
}

#[test]
fn c7_a_guess_that_nobody_waits_for_is_forgotten() {
    let mut scene = guessed();
    scene.at(12_000).reply(200).is("done 200");
    // Each answer comes when the next slot has passed.
    for request in 1..=8 {
        let now = 16_000 + 4_000 * request;
        scene.at(now).request(request).start().is("send 1");
        assert_eq!(pace(&scene, now), Some(secs(3)));
        scene.at(now + 3_500).request(request).reply(200).is("done 200");
    }
    assert_eq!(pace(&scene, 51_500), None);
    // Nothing is known: C8 guesses from the two answers of the new measurement.
    assert_eq!(pace_of_a_closing(&mut scene, 52_000), 2_500_000);
}

#[test]
fn c7_a_guess_becomes_the_measured_time_if_a_request_was_refused() {
    let mut scene = guessed();
    scene.at(12_000).reply_with(429, &[("Retry-After", "8")]).is("wait 20000 retry_after");
    scene.at(20_000).tick().is("send 3");
    scene.at(20_000).reply(200).is("done 200");
    answers(&mut scene, every(4, 28, 52));
    assert_eq!(pace(&scene, 52_000), Some(secs(3)));
    // Since 12 s: 44 s, divided by eight answers.
    answers(&mut scene, [56]);
    assert_eq!(pace(&scene, 56_000), Some(ms(5_500)));
}

#[test]
fn c7_a_guess_that_is_queued_for_without_a_refusal_becomes_three_quarters() {
    let mut scene = guessed();
    scene.at(12_000).reply(200).is("done 200");
    let requests = 1..=20;
    for request in requests.clone() {
        scene.at(12_000).request(request).start().is(&format!("wait {} gate", 12_000 + 3_000 * request));
    }
    for request in requests {
        let now = 12_000 + 3_000 * request;
        scene.at(now).request(request).tick().is("send 1");
        // At 42 s there were ten answers in 30 s: 3 s. Three quarters of the smaller one, which is 3 s less a 64th.
        let expected = if now <= 42_000 { secs(3) } else { Duration::from_nanos(2_214_843_750) };
        assert_eq!(pace(&scene, now), Some(expected), "{now}");
        scene.at(now).request(request).reply(200).is("done 200");
    }
    // It is a guess still: the next measurement takes three quarters of it again.
    assert_eq!(pace(&scene, 72_000), Some(Duration::from_nanos(1_635_177_612)));
}

#[test]
fn c7_after_a_refusal_the_measured_time_is_not_a_guess() {
    // Eight requests make the guess eight times as fast, and a 429 at once four times.
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "12")]).is("wait 12000 retry_after");
    for request in 1..=8 {
        scene.at(0).request(request).start().is("wait 12000 gate");
    }
    scene.at(12_000).tick().is("send 2");
    scene.at(12_000).reply_with(429, &[("Retry-After", "5")]).is("wait 17000 retry_after");
    assert_eq!(pace(&scene, 12_000), Some(ms(750)));
    // From then on somebody queues all the time.
    for request in 9..=60 {
        let _ = scene.at(12_000).request(request).start().end_of_wait();
    }
    let mut last = at(0);
    for request in 1..=60 {
        last = scene.at(17_000).request(request).tick().end_of_wait();
        scene.at_time(last).request(request).tick().is("send 1");
        if last >= at(50_000) {
            break;
        }
        scene.at_time(last).request(request).reply(200).is("done 200");
    }
    let measured = scene.upstream.gate.state(last).pace;
    assert_ne!(measured, Some(ms(750)));
    let request = scene.requests().iter().rev().find(|(_, machine)| machine.in_flight().is_some()).map(|(n, _)| *n);
    let request = request.filter(|request| *request > 0).unwrap();
    let _ = scene.at_time(last).request(request).reply_with(429, &[("Retry-After", "5")]).end_of_wait();
    // It is known, not guessed: nothing slows down.
    assert_eq!(scene.upstream.gate.state(last).pace, measured);
}

#[test]
fn c8_with_eight_answers_at_the_opening_the_measurement_goes_on() {
    let mut scene = Scene::exact();
    answers(&mut scene, [0, 0, 0, 0, 0, 0, 0]);
    for request in [0, 1] {
        scene.at(24_000).request(request).start().is("send 1");
    }
    scene.at(24_000).reply_with(429, &[("Retry-After", "11")]).is("wait 35000 retry_after");
    scene.at(25_000).request(1).reply(200).is("done 200");
    scene.at(35_000).tick().is("send 2");
    scene.at(36_000).reply(200).is("done 200");
    // 36 s since the first end, divided by eight answers.
    assert_eq!(pace(&scene, 36_000), Some(ms(4_500)));
}

#[test]
fn c7_a_brake_is_a_refusal() {
    let mut scene = guessed();
    scene.at(12_000).error(TransportErrorKind::Broken).is("wait 14000 backoff");
    scene.at(14_000).tick().is("send 3");
    scene.at(14_000).reply(200).is("done 200");
    // The next free slot: 12 s, two heads of 3 s, and 2 s for the closing.
    answers(&mut scene, every(4, 20, 44));
    assert_eq!(pace(&scene, 44_000), Some(secs(3)));
    answers(&mut scene, [48]);
    assert_eq!(pace(&scene, 48_000), Some(ms(4_500)), "36 s, divided by eight");
}
