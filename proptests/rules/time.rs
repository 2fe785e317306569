//! Time, random numbers, totality: T1–T6.

use std::collections::HashSet;

use retry_machine::{
    Action, Event, FailureKind, Idempotency, Jitter, Policy, Reply, RetryMachine, Timestamp, TransportErrorKind,
    Upstream, derive_seed,
};

use crate::support::{Answer, REFRESHED, Scene, exact, ms};

// ---- T1 ----

#[test]
fn t1_the_same_seed_and_events_give_the_same_actions() {
    let run = || {
        let mut scene = Scene::new(Policy::flextell());
        let mut said = vec![scene.at(0).start()];
        said.push(scene.at(10).reply(500));
        said.push(scene.at(2_000).tick());
        said.push(scene.at(2_010).reply_with(429, &[("Retry-After", "7")]));
        said
    };
    assert_eq!(run(), run());
}

#[test]
fn t1_a_draw_depends_on_the_number_of_the_wait_not_on_earlier_draws() {
    // One scene has two more draws: a wait at the gate before the first send, and a late hint.
    let second_wait = |disturbed: bool| {
        let mut scene = Scene::new(Policy::flextell());
        if disturbed {
            scene.at(0).request(1).start().is("send 1");
            let _ = scene.at(0).request(1).reply_with(429, &[("Retry-After", "1")]);
            let _ = scene.at(0).start();
            scene.at(9_000).tick().is("send 1");
        } else {
            scene.at(9_000).start().is("send 1");
        }
        let _ = scene.at(10_000).reply(503);
        scene.at(15_000).tick().is("send 2");
        if disturbed {
            scene.at(15_000).reply_to(1, 503, &[("Retry-After", "1")]).is("in flight");
        }
        scene.at(20_000).reply(503).end_of_wait()
    };
    assert_eq!(second_wait(true), second_wait(false));
}

// ---- T2 ----

#[test]
fn t2_a_time_before_the_latest_that_the_upstream_has_seen_counts_as_the_latest() {
    let mut scene = Scene::exact();
    scene.at(5_000).request(1).start().is("send 1");
    scene.at(1_000).start().is("send 1");
    scene.at(2_000).reply(503).is("wait 6000 backoff");
    scene.at(7_000).request(1).reply(200).is("done 200");
    scene.at(0).tick().is("send 2");
    let failure = scene.at(0).reply(400).fails(FailureKind::BadRequest);
    assert_eq!(failure.elapsed(), ms(2_000));
}

#[test]
fn t2_nothing_overflows_at_the_end_of_time() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(ms(1))).deadline(None));
    let end = Timestamp::from_nanos(u64::MAX - 1);
    let _ = scene.at_time(end).start();
    let wait = scene.at_time(end).reply_with(429, &[("Retry-After", "300")]);
    assert_eq!(wait.end_of_wait(), Timestamp::MAX);
    assert_eq!(scene.at_time(end).tick().end_of_wait(), Timestamp::MAX);
    assert!(matches!(
        scene.at_time(Timestamp::MAX).tick(),
        Action::Send { attempt: 2, until: Some(Timestamp::MAX), .. }
    ));
}

// ---- T3 ----

#[test]
fn t3_a_late_2xx_ends_the_request() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(ms(100))));
    scene.at(0).start().is("send 1 until 100");
    scene.at(100).tick().is("wait 1100 backoff");
    scene.at(200).reply_to(1, 200, &[]).is("done 200");

    let mut scene = Scene::with(exact().attempt_timeout(Some(ms(100))));
    scene.at(0).start().is("send 1 until 100");
    scene.at(100).tick().is("wait 1100 backoff");
    scene.at(1_100).tick().is("send 2 until 1200");
    scene.at(1_150).reply_to(1, 201, &[]).is("done 201");
}

#[test]
fn t3_a_late_hint_raises_the_not_before_of_its_request() {
    let mut scene = Scene::with(exact().attempt_timeout(Some(ms(100))));
    scene.at(0).start().is("send 1 until 100");
    scene.at(100).tick().is("wait 1100 backoff");
    scene.at(1_100).tick().is("send 2 until 1200");
    scene.at(1_150).reply_to(1, 503, &[("Retry-After", "60")]).is("in flight until 1200");
    scene.at(1_200).tick().is("wait 61150 retry_after");
}

#[test]
fn t3_any_other_late_answer_changes_nothing() {
    for status in [301, 400, 401, 403, 404, 422, 429, 500, 502, 503] {
        let mut scene = Scene::with(exact().attempt_timeout(Some(ms(100))));
        scene.at(0).start().is("send 1 until 100");
        scene.at(100).tick().is("wait 1100 backoff");
        scene.at(150).reply_to(1, status, &[]).is("wait 1100 backoff");
        scene.at(160).error(TransportErrorKind::Broken).is("wait 1100 backoff");
        scene.at(1_100).tick().is("send 2 until 1200");
        scene.at(1_110).reply_to(1, status, &[]).is("in flight until 1200");
        scene
            .at(1_120)
            .tell(Event::TransportError { attempt: 1, kind: TransportErrorKind::NotSent })
            .is("in flight until 1200");
        scene.at(1_130).reply(200).is("done 200");
    }
}

#[test]
fn t3_before_the_first_send_replies_and_errors_are_ignored() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).request(1).reply_with(429, &[("Retry-After", "10")]).is("wait 10000 retry_after");
    scene.at(0).start().is("wait 10000 gate");
    for attempt in [0, 1, 2] {
        scene.at(10).reply_to(attempt, 200, &[]).is("wait 10000 gate");
        scene.at(10).reply_to(attempt, 429, &[("Retry-After", "60")]).is("wait 10000 gate");
        scene.at(10).tell(Event::TransportError { attempt, kind: TransportErrorKind::Broken }).is("wait 10000 gate");
    }
    // S7: its slot, behind request 1.
    scene.at(10_000).tick().is("wait 12500 gate");
    scene.at(12_500).tick().is("send 1");
}

#[test]
fn t3_an_ended_request_always_repeats_its_last_action() {
    let events = |attempt| {
        [
            Event::Start,
            Event::Tick,
            Event::Reply { attempt, reply: Reply::new(200) },
            Event::Reply { attempt, reply: Reply::new(401) },
            Event::TransportError { attempt, kind: TransportErrorKind::TimedOut },
            Event::Cancel,
        ]
    };
    for status in [200, 404] {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        let end = scene.at(10).reply(status);
        assert!(end.is_terminal());
        for (n, event) in (0..3).flat_map(events).enumerate() {
            assert_eq!(scene.at(1_000 * n as u64).tell(event), end, "{event:?}");
        }
        assert_eq!(scene.next_tick(), None);
    }
}

#[test]
fn t3_after_the_end_the_upstream_still_hears_a_hint() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    scene.at(20).reply_with(429, &[("Retry-After", "5")]).fails(FailureKind::Cancelled);
    scene.at(30).request(1).start().is("wait 5020 gate");
}

#[test]
fn t3_after_the_end_the_upstream_still_hears_the_outcome_of_a_lease() {
    let mut scene = Scene::with(exact().deadline(Some(ms(1_000))));
    scene.at(0).start().is("send 1 until 1000");
    scene.at(10).reply(401).is("refresh until 30010");
    scene.at(1_000).tick().fails(FailureKind::Deadline);
    scene.at(1_100).refreshed(REFRESHED).fails(FailureKind::Deadline);
    scene.at(1_200).request(1).start().is("send 1 token 1 until 2200");
}

// ---- T4 ----

#[test]
fn t4_an_early_tick_gives_the_same_wait_again() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    for early in [0, 1, 500, 999] {
        scene.at(early).tick().is("wait 1000 backoff");
    }
    scene.at_time(Timestamp::from_nanos(999_999_999)).tick().is("wait 1000 backoff");
    scene.at(1_000).tick().is("send 2");
}

#[test]
fn t4_ticks_never_cause_a_second_send() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    for _ in 0..3 {
        scene.at(1_000_000).tick().is("in flight");
        scene.at(1_000_000).start().is("in flight");
    }
    assert_eq!(scene.next_tick(), None, "only its answer ends this attempt");
}

#[test]
fn t4_ticks_never_cause_a_second_refresh() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    for early in [0, 1, 29_999] {
        scene.at(early).tick().is("in flight until 30000");
    }
}

#[test]
fn t4_in_flight_says_when_the_next_tick_would_matter() {
    let limits = exact().attempt_timeout(Some(ms(700))).deadline(Some(ms(1_000)));
    let mut scene = Scene::with(limits);
    scene.at(0).start().is("send 1 until 700");
    scene.at(1).tick().is("in flight until 700");
    assert_eq!(scene.next_tick(), Some(Timestamp::from_millis(700)));
    scene.at(2).reply(401).is("refresh until 30002");
    scene.at(3).tick().is("in flight until 1000");
    assert_eq!(scene.next_tick(), Some(Timestamp::from_millis(1_000)));
}

#[test]
fn t4_without_a_limit_no_tick_gives_an_attempt_up() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at_time(Timestamp::MAX).tick().is("in flight");
    assert_eq!(scene.next_tick(), None);
}

#[test]
fn t4_a_late_tick_runs_all_checks_before_the_send() {
    let mut scene = Scene::with(exact().deadline(Some(ms(10_000))));
    scene.at(0).start().is("send 1 until 10000");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(10_000).tick().fails(FailureKind::Deadline);

    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    scene.at(0).request(1).start().is("send 1");
    scene.at(2_000).request(1).reply_with(429, &[("Retry-After", "60")]).is("wait 62000 retry_after");
    scene.at(3_000).tick().is("wait 62000 gate");
}

#[test]
fn t4_a_machine_says_when_it_wants_a_tick() {
    let mut scene = Scene::exact();
    scene.at(0).start().is("send 1");
    scene.at(0).reply(503).is("wait 1000 backoff");
    assert_eq!(scene.next_tick(), Some(Timestamp::from_millis(1_000)));
    assert_eq!(scene.machine(0).in_flight(), None);
    scene.at(1_000).tick().is("send 2");
    assert_eq!(scene.machine(0).in_flight(), Some(2));
    scene.at(1_000).reply(401).is("refresh until 31000");
    assert_eq!(scene.next_tick(), Some(Timestamp::from_millis(31_000)));
    scene.at(2_000).refreshed(REFRESHED).is("send 3 token 1");
    scene.at(3_000).reply(200).is("done 200");
    assert_eq!(scene.next_tick(), None);
}

// ---- T5, T6 ----

#[test]
fn t5_derived_seeds_are_well_spread() {
    let seeds: Vec<u64> = (0..100).flat_map(|seed| (0..100).map(move |n| derive_seed(seed, n))).collect();
    assert_eq!(seeds.iter().collect::<HashSet<_>>().len(), seeds.len());
    for bit in 0..64 {
        let ones = seeds.iter().filter(|seed| *seed >> bit & 1 == 1).count();
        assert!((4_700..=5_300).contains(&ones), "bit {bit} is set in {ones} of 10000");
    }
}

#[test]
fn t5_requests_with_derived_seeds_do_not_come_back_together() {
    let mut scene = Scene::with(Policy::flextell().into_builder().budget(None));
    let mut ends = HashSet::new();
    for request in 0..100 {
        scene.at(0).request(request).start().is("send 1");
        ends.insert(scene.at(0).request(request).reply(500).end_of_wait());
    }
    assert_eq!(ends.len(), 100);
}

#[test]
fn t6_a_clone_goes_on_as_its_original_would() {
    let mut upstream = Upstream::new(Policy::flextell().into_builder().jitter(Jitter::FULL).build().unwrap());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 3);
    let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
    let (mut twin, mut other_upstream) = (machine.clone(), upstream.clone());
    assert_eq!((&twin, &other_upstream), (&machine, &upstream));
    let reply = Event::Reply { attempt: 1, reply: Reply::new(500) };
    assert_eq!(
        machine.handle(Timestamp::ZERO, reply, &mut upstream),
        twin.handle(Timestamp::ZERO, reply, &mut other_upstream)
    );
    assert_eq!(HashSet::from([machine]), HashSet::from([twin]));
}
