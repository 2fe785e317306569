//! The pace that a closing gives: C8.

use std::time::Duration;

use retry_machine::{Jitter, Policy};

use crate::support::{Answer, Scene, at, ms, secs};

fn pace(scene: &Scene, millis: u64) -> Option<Duration> {
    scene.upstream.gate.state(at(millis)).pace
}

/// Has request 0 throttled for so many seconds at `millis`.
fn throttle(scene: &mut Scene, millis: u64, seconds: u64) {
    let _ = scene.at(millis).start();
    let _ = scene.at(millis).reply_with(429, &[("Retry-After", &seconds.to_string())]);
}

/// Returns a scene in which request 0 was told so many seconds at 0 s, and so many requests have come since then.
fn held(seconds: u64, requests: u64) -> Scene {
    let mut scene = Scene::exact();
    throttle(&mut scene, 0, seconds);
    for request in 1..=requests {
        scene.at(0).request(request).start().is(&format!("wait {} gate", 1_000 * seconds));
    }
    scene
}

// ---- The guess ----

#[test]
fn c8_a_guess_is_the_longer_of_age_and_closing_divided_by_the_answers() {
    // The seconds of answers, the second and the hint of the throttle, and the pace in milliseconds.
    let cases = [
        // Nothing is known: a quarter of the closing.
        (&[][..], 0, 10, 2_500),
        (&[0], 10, 20, 5_000),
        // The age of the measurement is longer.
        (&[0], 20, 10, 5_000),
        (&[0, 1, 2], 20, 10, 5_000),
        (&[0, 1, 2, 3], 20, 10, 5_000),
        (&[0, 1, 2, 3, 4], 20, 10, 4_000),
        (&[0, 1, 2, 3, 4, 5, 6], 21, 10, 3_000),
        (&[0, 1, 2, 3, 4, 5, 6], 21, 35, 5_000),
    ];
    for (answers, second, hint, expected) in cases {
        let mut scene = Scene::exact();
        for (request, second) in (100..).zip(answers) {
            let _ = scene.at(1_000 * second).request(request).start();
            scene.at(1_000 * second).request(request).reply(200).is("done 200");
        }
        throttle(&mut scene, 1_000 * second, hint);
        assert_eq!(pace(&scene, 1_000 * second), Some(ms(expected)), "{answers:?}, {second}, {hint}");
    }
}

#[test]
fn c8_the_opening_halves_a_guess_until_the_slots_given_fit_into_a_quarter() {
    // The closing in seconds, the requests that came in it, and the pace in microseconds.
    let cases = [
        // A quarter of 12 s is 3 s, and so is the guess.
        (12, 0, 3_000_000),
        (12, 1, 3_000_000),
        (12, 2, 1_500_000),
        (12, 3, 750_000),
        (12, 4, 750_000),
        (12, 5, 375_000),
        (12, 8, 375_000),
        (12, 9, 187_500),
        // 3 s at least.
        (4, 1, 1_000_000),
        (4, 3, 1_000_000),
        (4, 4, 500_000),
        (240, 1, 60_000_000),
        (240, 4, 15_000_000),
        (240, 5, 7_500_000),
    ];
    for (closing, requests, expected) in cases {
        let mut scene = held(closing, requests);
        // Until the opening nobody knows.
        assert_eq!(pace(&scene, 1_000 * closing - 1), Some(ms(250 * closing)));
        assert_eq!(pace(&scene, 1_000 * closing), Some(Duration::from_micros(expected)), "{closing}, {requests}");
        if requests > 0 {
            // The first one passes a pace after the head.
            let slot = scene.at(1_000 * closing).request(1).tick().end_of_wait();
            assert_eq!(slot.saturating_duration_since(at(1_000 * closing)), Duration::from_micros(expected));
        }
    }
}

#[test]
fn c8_with_more_answers_a_quarter_of_the_time_assumed_for_them_is_longer() {
    // Six answers in 24 s give 4 s, and six of them are 24 s: 6 s for those that came.
    let mut scene = Scene::exact();
    for request in 100..106 {
        let _ = scene.at(0).request(request).start();
        scene.at(0).request(request).reply(200).is("done 200");
    }
    throttle(&mut scene, 24_000, 10);
    for request in 1..=3 {
        scene.at(24_000).request(request).start().is("wait 34000 gate");
    }
    assert_eq!(pace(&scene, 33_999), Some(secs(4)));
    assert_eq!(pace(&scene, 34_000), Some(secs(2)));
}

#[test]
fn c8_with_eight_answers_the_guess_is_not_corrected() {
    let mut scene = Scene::exact();
    for request in 100..108 {
        let _ = scene.at(0).request(request).start();
        scene.at(0).request(request).reply(200).is("done 200");
    }
    throttle(&mut scene, 24_000, 10);
    // 3 s: each is told its slot at once.
    for (request, slot) in [(1, 37_000), (2, 40_000), (3, 43_000), (4, 46_000)] {
        scene.at(24_000).request(request).start().is(&format!("wait {slot} gate"));
    }
    assert_eq!(pace(&scene, 34_000), Some(secs(3)));
}

#[test]
fn c8_slots_before_the_correction_keep_their_order() {
    let mut scene = held(12, 4);
    for (request, slot) in [(4, 15_000), (3, 14_250), (2, 13_500), (1, 12_750)] {
        scene.at(12_000).request(request).tick().is(&format!("wait {slot} gate"));
    }
    // The newcomers come after them, with the same pace.
    scene.at(12_000).request(5).start().is("wait 15750 gate");
    scene.at(12_000).request(6).start().is("wait 16500 gate");
}

#[test]
fn c8_the_measurement_begins_anew_at_the_opening_of_a_guess() {
    let mut scene = held(12, 0);
    scene.at(12_000).tick().is("send 2");
    // Eight answers: since 12 s they take 30 s at 42 s. C7: nobody waits for the guess, and it is forgotten.
    for request in 1..=7 {
        scene.at(12_000 + 3_000 * request).request(request).start().is("send 1");
        scene.at(14_999 + 3_000 * request).request(request).reply(200).is("done 200");
    }
    scene.at(41_000).reply(200).is("done 200");
    scene.at(41_000).request(8).start().is("send 1");
    assert_eq!(pace(&scene, 41_999), Some(secs(3)));
}

// ---- The guess was too fast ----

/// Returns a scene at 12 s with a pace of 375 ms, eight times as fast as the guess of 3 s, and eight requests in the queue.
/// Request 0 is in flight again.
fn eight_times_as_fast() -> Scene {
    let mut scene = held(12, 8);
    scene.at(12_000).tick().is("send 2");
    assert_eq!(pace(&scene, 12_000), Some(ms(375)));
    scene
}

/// Lets requests from the queue pass at their slots, and answers them.
fn answer(scene: &mut Scene, requests: std::ops::RangeInclusive<u64>) {
    for request in requests {
        let end = at(12_000).saturating_add(ms(375 * request));
        scene.at_time(end).request(request).tick().is("send 1");
        scene.at_time(end).request(request).reply(200).is("done 200");
    }
}

#[test]
fn c8_refused_again_with_hardly_an_answer_the_clock_slows_down_by_two_half_steps() {
    let mut scene = eight_times_as_fast();
    // 8 times, 4 times, 2 times, and as time does.
    for (now, pace_ms, sent) in
        [(12_000, 750, "send 3"), (17_000, 1_500, "send 4"), (22_000, 3_000, "send 5"), (27_000, 3_000, "send 6")]
    {
        scene.at(now).reply_with(429, &[("Retry-After", "5")]).is(&format!("wait {} retry_after", now + 5_000));
        assert_eq!(pace(&scene, now), Some(ms(pace_ms)), "{now}");
        scene.at(now + 5_000).tick().is(sent);
    }
}

#[test]
fn c8_refused_again_with_four_answers_the_clock_slows_down_by_a_half_step() {
    let mut scene = eight_times_as_fast();
    scene.at(12_000).reply(200).is("done 200");
    answer(&mut scene, 1..=3);
    scene.at(13_500).request(4).tick().is("send 1");
    // 8 times becomes 6 times: 375 ms become 500 ms.
    scene.at(13_500).request(4).reply_with(429, &[("Retry-After", "5")]).is("wait 18500 retry_after");
    assert_eq!(pace(&scene, 13_500), Some(ms(500)));
    // The head, and then those that wait.
    for (request, slot) in [(5, 19_500), (6, 20_000), (7, 20_500), (8, 21_000)] {
        scene.at(18_500).request(request).tick().is(&format!("wait {slot} gate"));
    }
    scene.at(18_500).request(9).start().is("wait 21500 gate");
}

#[test]
fn c8_the_half_steps_are_8_6_4_3_2_one_and_a_half_and_1() {
    let mut scene = eight_times_as_fast();
    scene.at(12_000).reply(200).is("done 200");
    answer(&mut scene, 1..=3);
    scene.at(13_500).request(4).tick().is("send 1");
    let mut now = 13_500;
    for (number, pace_ms) in (2..).zip([500, 750, 1_000, 1_500, 2_000]) {
        scene
            .at(now)
            .request(4)
            .reply_with(429, &[("Retry-After", "1")])
            .is(&format!("wait {} retry_after", now + 1_000));
        assert_eq!(pace(&scene, now), Some(ms(pace_ms)));
        now += 1_000;
        scene.at(now).request(4).tick().is(&format!("send {number}"));
    }
    assert_eq!(now, 18_500);
}

#[test]
fn c8_when_a_request_need_not_wait_the_clock_runs_as_time_does_again() {
    let mut scene = eight_times_as_fast();
    for request in 1..=8 {
        scene.at(12_000 + 375 * request).request(request).tick().is("send 1");
    }
    // The next free slot was at 15.375 s.
    scene.at(20_000).request(9).start().is("send 1");
    scene.at(20_000).request(10).start().is("wait 20375 gate");
    // The guess is what it is: there is nothing to slow down.
    scene.at(20_000).request(9).reply_with(429, &[("Retry-After", "5")]).is("wait 25000 retry_after");
    assert_eq!(pace(&scene, 20_000), Some(ms(375)));
}

#[test]
fn c8_when_no_slot_lies_ahead_the_clock_runs_as_time_does_again() {
    let mut scene = eight_times_as_fast();
    for request in 1..=8 {
        scene.at(12_000 + 375 * request).request(request).tick().is("send 1");
    }
    scene.at(20_000).request(8).reply_with(429, &[("Retry-After", "5")]).is("wait 25000 retry_after");
    assert_eq!(pace(&scene, 20_000), Some(ms(375)));
}

#[test]
fn c8_an_opening_by_hand_corrects_the_guess_too() {
    let mut scene = held(12, 8);
    scene.at(1_000).open_gate();
    // From the opening on a slot each 375 ms, the fifth at 2.875 s. A closing moves it by 9.5 s.
    scene.at(2_000).close_gate(11_500);
    scene.at(12_000).request(1).tick().is("send 1");
    for (request, slot) in [(5, "12375"), (6, "12750"), (8, "13500")] {
        scene.at(12_000).request(request).tick().is(&format!("wait {slot} gate"));
    }
}

#[test]
fn c8_f2_the_jitter_does_not_change_the_pace() {
    for jitter in [Jitter::None, Jitter::Spread, Jitter::FULL, Jitter::Decorrelated] {
        let mut scene = Scene::with(Policy::flextell().into_builder().jitter(jitter));
        throttle(&mut scene, 0, 12);
        for request in 1..=4 {
            scene.at(0).request(request).start().is("wait 12000 gate");
        }
        for (request, slot) in [(1, 12_750), (2, 13_500), (3, 14_250), (4, 15_000)] {
            scene.at(12_000).request(request).tick().is(&format!("wait {slot} gate"));
        }
    }
}
