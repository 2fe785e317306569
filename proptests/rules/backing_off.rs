//! Back-off, jitter and hints: B1–B4, L1–L3, F2, F4.

use std::collections::BTreeSet;
use std::time::Duration;

use retry_machine::{Action, FailureKind, Jitter, Policy, PolicyBuilder, Timestamp, TransportErrorKind};

use crate::support::{Answer, Scene, exact, ms, secs};

fn flextell() -> PolicyBuilder {
    Policy::flextell().into_builder()
}

/// Returns the waits before each retry, with 2,000 seeds, of a request whose attempts all fail.
fn waits(policy: &PolicyBuilder) -> Vec<BTreeSet<Duration>> {
    let mut all: Vec<BTreeSet<Duration>> = Vec::new();
    for seed in 0..2_000 {
        let mut scene = Scene::with(policy.clone().budget(None));
        scene.seed = seed;
        for (n, wait) in scene.fail_until_the_end(503).0.into_iter().enumerate() {
            all.resize_with(all.len().max(n + 1), BTreeSet::new);
            all[n].insert(wait);
        }
    }
    all
}

/// Asserts that the waits of each retry fill these intervals, in milliseconds.
#[track_caller]
fn fill(policy: &PolicyBuilder, intervals: &[(u64, u64)]) {
    let waits = waits(policy);
    assert_eq!(waits.len(), intervals.len());
    for (retry, (waits, (low, high))) in waits.iter().zip(intervals).enumerate() {
        let (shortest, longest) = (*waits.first().unwrap(), *waits.last().unwrap());
        let slack = ms((high - low) / 100 + 1);
        assert!(ms(*low) <= shortest && shortest <= ms(*low) + slack, "retry {}: {shortest:?}", retry + 1);
        assert!(ms(*high) <= longest + slack && longest <= ms(*high), "retry {}: {longest:?}", retry + 1);
        assert!(waits.len() > 1_000, "retry {}: {} distinct", retry + 1, waits.len());
    }
}

#[test]
fn b1_the_policy_sets_the_initial_backoff_the_factor_and_the_maximum() {
    let policy = exact().initial_backoff(ms(100)).backoff_factor(3, 1).max_backoff(ms(1_000));
    let (waits, _) = Scene::with(policy).fail_until_the_end(500);
    assert_eq!(waits, [ms(100), ms(300), ms(900), ms(1_000), ms(1_000)]);
}

#[test]
fn b1_the_guides_base_waits_are_1_2_4_8_16() {
    let (waits, _) = Scene::exact().fail_until_the_end(503);
    assert_eq!(waits, [1, 2, 4, 8, 16].map(secs));
}

#[test]
fn b1_a_ratio_is_worked_out_step_by_step_and_rounded_down() {
    let (waits, _) = Scene::with(exact().backoff_factor(16, 10)).fail_until_the_end(503);
    assert_eq!(waits, [1_000_000, 1_600_000, 2_560_000, 4_096_000, 6_553_600].map(Duration::from_micros));
    // 10, 13, 17 and 22: in one step it would be 10, 13, 17 and 23.
    let thirds = exact().initial_backoff(Duration::from_nanos(10)).backoff_factor(4, 3);
    let (waits, _) = Scene::with(thirds).fail_until_the_end(503);
    assert_eq!(waits, [10, 13, 17, 22, 29].map(Duration::from_nanos));
}

#[test]
fn b1_no_retry_number_overflows() {
    for factor in [(1, 1), (u32::MAX, u32::MAX), (3, 2), (u32::MAX, 1)] {
        for jitter in [Jitter::None, Jitter::Decorrelated, Jitter::Band { down: 1_000, up: u16::MAX }] {
            let policy = exact().jitter(jitter).backoff_factor(factor.0, factor.1).max_retries(u16::MAX).budget(None);
            let policy = policy.breaker(None);
            let (waits, end) = Scene::with(policy).fail_until_the_end(503);
            end.fails(FailureKind::Exhausted);
            assert_eq!(waits.len(), usize::from(u16::MAX));
            assert!(waits.iter().all(|wait| *wait <= secs(60)), "{factor:?}, {jitter:?}");
            if jitter == Jitter::None {
                let last = if factor.0 == factor.1 { secs(1) } else { secs(60) };
                assert_eq!(waits.last(), Some(&last), "{factor:?}");
            }
        }
    }
}

#[test]
fn b1_a_factor_of_one_gives_constant_waits() {
    let (waits, _) = Scene::with(exact().backoff_factor(1, 1)).fail_until_the_end(500);
    assert_eq!(waits, [secs(1); 5]);
}

#[test]
fn b2_at_the_maximum_jitter_remains_and_no_wait_exceeds_it() {
    fill(
        &flextell().max_backoff(secs(3)),
        &[(500, 1_500), (1_500, 2_500), (2_500, 3_000), (2_500, 3_000), (2_500, 3_000)],
    );
}

#[test]
fn b2_a_band_reaches_below_and_above_the_wait_and_downward_at_the_maximum() {
    let policy = flextell().max_backoff(secs(4)).max_retries(3);
    fill(&policy.clone().jitter(Jitter::Band { down: 100, up: 300 }), &[(900, 1_300), (1_800, 2_600), (2_800, 4_000)]);
    fill(&policy.jitter(Jitter::Band { down: 500, up: 0 }), &[(500, 1_000), (1_000, 2_000), (2_000, 4_000)]);
}

#[test]
fn b2_upward_jitter_adds_at_most_the_spread_and_is_downward_at_the_maximum() {
    let policy = flextell().jitter(Jitter::Above).max_backoff(secs(4)).max_retries(3);
    fill(&policy, &[(1_000, 1_500), (2_000, 2_500), (3_500, 4_000)]);
}

#[test]
fn b2_a_spread_above_the_back_off_begins_at_zero() {
    fill(&flextell().jitter_spread(secs(3)).max_retries(2), &[(0, 4_000), (0, 5_000)]);
}

#[test]
fn f2_full_jitter_spreads_over_the_whole_wait() {
    fill(&flextell().jitter(Jitter::FULL).max_retries(3), &[(0, 1_000), (0, 2_000), (0, 4_000)]);
}

#[test]
fn f2_equal_jitter_spreads_over_the_upper_half() {
    fill(&flextell().jitter(Jitter::EQUAL).max_retries(3), &[(500, 1_000), (1_000, 2_000), (2_000, 4_000)]);
}

#[test]
fn f2_proportional_jitter_spreads_a_quarter_to_either_side() {
    let policy = flextell().jitter(Jitter::PROPORTIONAL).max_retries(4).max_backoff(secs(4));
    fill(&policy, &[(750, 1_250), (1_500, 2_500), (3_000, 4_000), (3_000, 4_000)]);
}

#[test]
fn f2_decorrelated_jitter_grows_from_the_wait_before() {
    let policy = flextell().jitter(Jitter::Decorrelated).max_backoff(secs(20));
    assert_eq!(waits(&policy.clone().max_retries(1)).len(), 1);
    fill(&policy.clone().max_retries(1), &[(1_000, 3_000)]);
    for seed in 0..2_000 {
        let mut scene = Scene::with(policy.clone());
        scene.seed = seed;
        let mut previous = secs(1);
        for wait in scene.fail_until_the_end(503).0 {
            assert!(secs(1) <= wait && wait <= (3 * previous).min(secs(20)), "{wait:?} after {previous:?}");
            previous = wait;
        }
    }
}

#[test]
fn f2_without_jitter_all_waits_are_exact() {
    let mut scene = Scene::with(flextell().jitter(Jitter::None));
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "3")]).is("wait 3000 retry_after");
    scene.at(0).request(1).reply(503).is("wait 3000 gate");
    scene.at(0).request(2).start().is("wait 3000 gate");
}

#[test]
fn b4_a_coarser_clock_rounds_up() {
    assert_eq!(Timestamp::from_nanos(0).as_millis_ceil(), 0);
    assert_eq!(Timestamp::from_nanos(1).as_millis_ceil(), 1);
    assert_eq!(Timestamp::from_nanos(1_000_000).as_millis_ceil(), 1);
    assert_eq!(Timestamp::from_nanos(1_000_001).as_millis_ceil(), 2);
    assert_eq!(Timestamp::MAX.as_millis_ceil(), 18_446_744_073_710);
}

// ---- Hints ----

#[test]
fn l1_never_sooner_than_a_hint_whatever_else_happens() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(2))));
    scene.at(0).start().is("send 1 until 2000");
    scene.at(2_000).tick().is("wait 3000 backoff");
    scene.at(2_500).reply_to(1, 429, &[("Retry-After", "30")]).is("wait 32500 retry_after");
    scene.at(3_000).tick().is("wait 32500 retry_after");
    scene.at(4_000).open_gate();
    scene.at(32_499).tick().is("wait 32500 retry_after");
    scene.at(32_500).tick().is("send 2 until 34500");
}

#[test]
fn l1_a_hint_also_binds_the_send_after_a_refresh() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(secs(2))));
    scene.at(0).start().is("send 1 until 2000");
    scene.at(2_000).tick().is("wait 3000 backoff");
    scene.at(3_000).tick().is("send 2 until 5000");
    scene.at(3_100).reply(401).is("refresh until 33100");
    scene.at(3_200).reply_to(1, 503, &[("Retry-After", "10")]).is("in flight until 33100");
    scene.at(3_300).refreshed(crate::support::REFRESHED).is("wait 13200 retry_after");
    scene.at(13_200).tick().is("send 3 token 1 until 15200");
}

#[test]
fn l2_after_a_429_the_wait_is_the_hint_plus_up_to_the_spread() {
    let mut ends = BTreeSet::new();
    for seed in 0..2_000 {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        scene.at(0).start().is("send 1");
        ends.insert(scene.at(0).reply_with(429, &[("Retry-After", "30")]).end_of_wait());
    }
    let (first, last) = (ends.first().unwrap().as_nanos(), ends.last().unwrap().as_nanos());
    assert!((30_000_000_000..30_005_000_000).contains(&first), "{first}");
    assert!((30_495_000_000..=30_500_000_000).contains(&last), "{last}");
    assert!(ends.len() > 1_000);
}

#[test]
fn l2_after_a_429_the_hint_counts_even_if_the_back_off_is_longer() {
    let mut scene = Scene::with(exact().initial_backoff(secs(50)));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "2")]).is("wait 2000 retry_after");
}

#[test]
fn l2_after_a_500_or_503_the_longer_of_hint_and_back_off_counts() {
    for status in [500, 503] {
        for (seconds, wait) in [("1", "wait 2000 backoff"), ("2", "wait 2000 backoff"), ("3", "wait 3000 retry_after")]
        {
            let mut scene = Scene::with(exact().initial_backoff(secs(2)));
            scene.at(0).start().is("send 1");
            scene.at(0).reply_with(status, &[("Retry-After", seconds)]).is(wait);
        }
    }
}

#[test]
fn l2_a_hint_of_zero_or_in_the_past_leaves_the_back_off() {
    let past = [("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Date", "Tue, 14 Nov 2023 22:13:20 GMT")];
    for headers in [&[("Retry-After", "0")][..], &past, &[("retry-after-ms", "0")]] {
        let (mut scene, mut now) = (Scene::exact(), 0);
        scene.at(0).start().is("send 1");
        for wait in [1_000, 2_000, 4_000, 8_000, 16_000] {
            scene.at(now).reply_with(429, headers).is(&format!("wait {} backoff", now + wait));
            now += wait;
            assert!(matches!(scene.at(now).tick(), Action::Send { .. }));
        }
        scene.at(now).reply_with(429, headers).fails(FailureKind::Exhausted);
    }
}

#[test]
fn l3_a_hint_beyond_max_server_wait_fails_with_its_instant() {
    for status in [429, 503] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let failure = scene.at(50).reply_with(status, &[("Retry-After", "301")]).fails(FailureKind::ServerWaitTooLong);
        assert_eq!(failure.not_before(), Some(Timestamp::from_millis(301_050)));
        assert_eq!(failure.elapsed(), ms(50), "at once");
    }
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(50).reply_with(429, &[("Retry-After", "300")]).is("wait 300050 retry_after");
}

#[test]
fn l3_f3_the_jitter_does_not_count_against_max_server_wait_and_is_cut_to_it() {
    for status in [429, 503] {
        for seed in 0..50 {
            let end = |hint: &str| {
                let mut scene = Scene::new(Policy::flextell());
                scene.seed = seed;
                scene.at(0).start().is("send 1");
                scene.at(0).reply_with(status, &[("retry-after-ms", hint)]).end_of_wait()
            };
            assert_eq!(end("300000"), Timestamp::from_millis(300_000));
            let (jittered, least) = (end("200000"), Timestamp::from_millis(200_000));
            assert!(jittered > least && jittered <= Timestamp::from_millis(200_500), "{jittered:?}");
            let cut = jittered.saturating_duration_since(least).min(ms(100));
            assert_eq!(end("299900"), Timestamp::from_millis(299_900).saturating_add(cut));
        }
    }
}

#[test]
fn f3_what_is_drawn_on_top_is_cut_to_a_nanosecond_before_the_deadline() {
    let deadline = Timestamp::from_millis(10_100);
    let ends = (0..100).map(|seed| {
        let mut scene = Scene::with(Policy::flextell().into_builder().deadline(Some(ms(10_100))));
        scene.seed = seed;
        let _ = scene.at(0).start();
        scene.at(0).reply_with(429, &[("Retry-After", "10")]).end_of_wait()
    });
    let ends: BTreeSet<_> = ends.collect();
    assert!(*ends.first().unwrap() >= Timestamp::from_millis(10_000));
    assert_eq!(ends.last().unwrap().as_nanos(), deadline.as_nanos() - 1);
}

#[test]
fn l3_a_wait_that_would_end_at_or_after_the_deadline_fails_at_once() {
    for (deadline, waits) in [(1_001, true), (1_000, false), (999, false)] {
        let mut scene = Scene::with(exact().deadline(Some(ms(deadline))));
        let _ = scene.at(0).start();
        let action = scene.at(0).reply(503);
        action.is(if waits { "wait 1000 backoff" } else { "fail Deadline" });
    }
    let mut scene = Scene::with(exact().deadline(Some(secs(10))));
    scene.at(0).start().is("send 1 until 10000");
    let failure = scene.at(50).reply_with(429, &[("Retry-After", "30")]).fails(FailureKind::Deadline);
    assert_eq!(failure.not_before(), Some(Timestamp::from_millis(30_050)));
}

#[test]
fn l3_a_server_that_always_asks_for_900_seconds_costs_one_attempt() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    let failure = scene.at(0).reply_with(429, &[("Retry-After", "900")]).fails(FailureKind::ServerWaitTooLong);
    assert_eq!(failure.attempts(), 1);
}

// ---- F4 ----

/// Returns a scene whose request gave up its first attempt at 1 s and waits until 2 s.
fn given_up(policy: PolicyBuilder) -> Scene {
    let mut scene = Scene::with(policy.attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene
}

#[test]
fn f4_a_late_hint_moves_the_end_of_a_wait_at_once_and_without_jitter() {
    let mut scene = given_up(exact());
    scene.at(1_500).reply_to(1, 503, &[("Retry-After", "9")]).is("wait 10500 retry_after");
    scene.at(1_600).reply_to(1, 503, &[("Retry-After", "1")]).is("wait 10500 retry_after");
    scene.at(10_500).tick().is("send 2 until 11500");

    let mut scene = Scene::with(flextell().attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    let _ = scene.at(1_000).tick();
    scene.at(1_500).reply_to(1, 503, &[("Retry-After", "9")]).is("wait 10500 retry_after");
}

#[test]
fn f4_a_late_hint_that_does_not_end_later_changes_nothing() {
    given_up(exact()).at(1_500).reply_to(1, 503, &[("retry-after-ms", "500")]).is("wait 2000 backoff");
    // A hint of zero does not either, even if the tick is late.
    given_up(exact()).at(3_000).reply_to(1, 503, &[("Retry-After", "0")]).is("wait 2000 backoff");
}

#[test]
fn f4_a_late_hint_is_checked_against_the_limits_at_once() {
    given_up(exact()).at(1_500).reply_to(1, 429, &[("Retry-After", "300")]).is("wait 301500 retry_after");
    given_up(exact()).at(1_500).reply_to(1, 429, &[("Retry-After", "301")]).fails(FailureKind::ServerWaitTooLong);
    let mut scene = given_up(exact().deadline(Some(secs(5))));
    scene.at(1_500).reply_to(1, 503, &[("Retry-After", "1")]).is("wait 2500 retry_after");
    scene.at(1_600).reply_to(1, 503, &[("Retry-After", "4")]).fails(FailureKind::Deadline);
}

#[test]
fn f4_the_wait_for_a_late_hint_names_its_source() {
    let limit = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9")];
    let sources: [(&[(&str, &str)], _); 3] = [
        (&[("Retry-After", "9")], "wait 11000 retry_after"),
        (&[("retry-after-ms", "9000")], "wait 11000 retry_after_ms"),
        (&limit, "wait 11000 rate_limit_reset"),
    ];
    for (headers, wait) in sources {
        let mut scene = given_up(exact().gate(false));
        scene.at(2_000).tick().is("send 2 until 3000");
        scene.at(2_000).reply_to(1, 429, headers).is("in flight until 3000");
        // Of two hints that end together the action names the first.
        scene.at(2_000).reply_to(1, 429, &[("Retry-After", "9")]).is("in flight until 3000");
        // A hint that ends sooner changes nothing.
        scene.at(2_000).reply_to(1, 429, &[("retry-after-ms", "1")]).is("in flight until 3000");
        scene.at(2_500).error(TransportErrorKind::Other).is(wait);
    }
}

#[test]
fn f4_a_late_hint_on_a_status_that_is_not_retried_changes_nothing() {
    for status in [400, 401, 403, 404, 502] {
        given_up(exact()).at(1_500).reply_to(1, status, &[("Retry-After", "9")]).is("wait 2000 backoff");
    }
    let mut scene = given_up(exact());
    scene.at(1_500).error(TransportErrorKind::Other).is("wait 2000 backoff");
}
