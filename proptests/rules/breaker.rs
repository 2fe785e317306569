//! The circuit breaker: S3, C5, F6.

use std::collections::BTreeSet;
use std::time::Duration;

use retry_machine::{
    Action, BreakerPolicy, Cause, Event, FailureKind, Jitter, Policy, PolicyBuilder, Reply, Timestamp,
    TransportErrorKind,
};

use crate::support::{Answer, REFRESHED, Scene, exact, secs};

/// Returns a policy whose breaker opens after three failures that last 10 s, for 10 s.
fn policy() -> PolicyBuilder {
    exact().breaker(Some(BreakerPolicy { failure_threshold: 3, open_for: secs(10) })).budget(None)
}

fn one_more(scene: &mut Scene, at: u64, request: u64, status: u16) -> Action {
    assert!(matches!(scene.at(at).request(request).start(), Action::Send { .. }), "request {request} is not sent");
    scene.at(at).request(request).reply(status)
}

/// Returns a scene with a breaker that is open from 10 s to 20 s: requests 0 and 1 failed at 0 s, and request 2 at 10 s.
fn open() -> Scene {
    let mut scene = Scene::with(policy());
    one_more(&mut scene, 0, 0, 503).is("wait 1000 backoff");
    one_more(&mut scene, 0, 1, 500).is("wait 1000 backoff");
    one_more(&mut scene, 10_000, 2, 503).is("fail BreakerOpen");
    scene
}

/// Returns whether the breaker would refuse a request now.
fn is_open(scene: &Scene, at: u64) -> bool {
    let mut upstream = scene.upstream.clone();
    let mut machine = retry_machine::RetryMachine::new(retry_machine::Idempotency::Idempotent, 0);
    machine.handle(Timestamp::from_millis(at), Event::Start, &mut upstream).short() == "fail BreakerOpen"
}

#[test]
fn s3_c5_the_default_breaker_opens_after_seven_failures_that_last_ten_seconds() {
    assert_eq!(BreakerPolicy::DEFAULT, BreakerPolicy { failure_threshold: 7, open_for: secs(10) });
    let mut scene = Scene::with(exact().budget(None));
    for request in 0..6 {
        one_more(&mut scene, 0, request, 500).is("wait 1000 backoff");
    }
    one_more(&mut scene, 10_000, 6, 500).is("fail BreakerOpen");
    assert!(is_open(&scene, 19_999) && !is_open(&scene, 20_000));
}

#[test]
fn s3_the_breaker_can_be_turned_off() {
    let mut scene = Scene::with(exact().budget(None).breaker(None));
    for request in 0..1_000 {
        one_more(&mut scene, 100 * request, request, 500).is(&format!("wait {} backoff", 100 * request + 1_000));
    }
}

#[test]
fn c5_a_burst_of_failures_opens_nothing() {
    let mut scene = Scene::with(policy());
    let _ = one_more(&mut scene, 0, 0, 503);
    for request in 1..50 {
        one_more(&mut scene, 9_999, request, 503).is("wait 10999 backoff");
    }
    assert!(!is_open(&scene, 9_999));
    one_more(&mut scene, 10_000, 50, 503).is("fail BreakerOpen");
}

#[test]
fn c5_the_time_of_a_run_alone_opens_nothing() {
    let mut scene = Scene::with(policy());
    one_more(&mut scene, 0, 0, 503).is("wait 1000 backoff");
    one_more(&mut scene, 60_000, 1, 503).is("wait 61000 backoff");
    one_more(&mut scene, 60_000, 2, 503).is("fail BreakerOpen");
}

#[test]
fn c5_with_an_open_time_of_zero_the_number_decides_alone() {
    let policy = exact().breaker(Some(BreakerPolicy { failure_threshold: 2, open_for: Duration::ZERO }));
    let mut scene = Scene::with(policy);
    let _ = one_more(&mut scene, 0, 0, 503);
    // The breaker opens, for no time: the next one is the probe, and no wait ends before it.
    one_more(&mut scene, 0, 1, 503).is("wait 1000 backoff");
    assert!(!is_open(&scene, 0));
}

#[test]
fn s3_a_run_of_failures_opens_the_breaker() {
    let scene = open();
    assert!(is_open(&scene, 10_000) && is_open(&scene, 19_999) && !is_open(&scene, 20_000));
}

#[test]
fn s3_transport_errors_are_failures_too() {
    use TransportErrorKind::{Broken, NotSent, Other};
    let mut scene = Scene::with(policy());
    for (request, at, error) in [(0, 0, NotSent), (1, 5_000, Broken), (2, 10_000, Other)] {
        assert!(!is_open(&scene, at));
        scene.at(at).request(request).start().is("send 1");
        let _ = scene.at(at).request(request).error(error);
    }
    assert!(is_open(&scene, 10_000));
}

#[test]
fn s3_a_requests_own_retries_count() {
    let mut scene = Scene::with(policy());
    for (sent, at, end) in
        [(0, 0, "wait 1000 backoff"), (1_000, 1_000, "wait 3000 backoff"), (3_000, 10_000, "fail BreakerOpen")]
    {
        let _ = scene.at(sent).tick();
        scene.at(at).reply(503).is(end);
    }
    assert!(is_open(&scene, 10_000));
}

#[test]
fn s3_429_and_401_are_neutral() {
    let mut scene = Scene::with(policy());
    for (request, status) in [503, 429, 503, 401].into_iter().enumerate() {
        let _ = one_more(&mut scene, 0, request as u64, status);
    }
    scene.at(0).request(3).refreshed(REFRESHED).is("send 2 token 1");
    let _ = one_more(&mut scene, 10_000, 4, 429);
    assert!(!is_open(&scene, 10_000), "a neutral result opens nothing");
    let _ = one_more(&mut scene, 10_000, 5, 503);
    assert!(is_open(&scene, 10_000));
}

#[test]
fn s3_d18_c5_every_good_answer_ends_the_run() {
    for success in [200, 301, 400, 403, 404, 408] {
        let mut scene = Scene::with(policy());
        for (request, (at, status)) in
            [(0, 503), (0, 503), (5_000, success), (10_000, 503), (10_000, 503)].into_iter().enumerate()
        {
            let _ = one_more(&mut scene, at, request as u64, status);
        }
        assert!(!is_open(&scene, 10_000), "{success}");
        // The new run began at 10 s.
        let _ = one_more(&mut scene, 19_999, 8, 503);
        assert!(!is_open(&scene, 19_999), "{success}");
        let _ = one_more(&mut scene, 20_000, 9, 503);
        assert!(is_open(&scene, 20_000), "{success}");
    }
}

#[test]
fn s3_d18_an_answer_that_is_neither_good_nor_bad_leaves_the_run_as_it_is() {
    for neutral in [429, 502, 0, 99, 600] {
        let mut scene = Scene::with(policy());
        for (request, status) in [503, 503, neutral].into_iter().enumerate() {
            let _ = one_more(&mut scene, 0, request as u64, status);
        }
        assert!(!is_open(&scene, 0), "{neutral}");
        let _ = one_more(&mut scene, 10_000, 9, 503);
        assert!(is_open(&scene, 10_000), "{neutral}");
    }
}

#[test]
fn s3_while_open_requests_fail_with_the_instant_of_the_next_probe() {
    let mut scene = open();
    let failure = scene.at(11_000).request(9).start().fails(FailureKind::BreakerOpen);
    assert_eq!((failure.not_before(), failure.attempts()), (Some(Timestamp::from_millis(20_000)), 0));
}

#[test]
fn s3_a_request_whose_back_off_would_end_before_the_probe_fails() {
    let mut scene = Scene::with(policy());
    for request in 0..4 {
        scene.at(0).request(request).start().is("send 1");
    }
    for request in 0..2 {
        scene.at(0).request(request).reply(503).is("wait 1000 backoff");
    }
    let failure = scene.at(10_000).request(2).reply(503).fails(FailureKind::BreakerOpen);
    assert_eq!((failure.cause(), failure.status()), (Some(Cause::Status), Some(503)));
    scene.at(10_000).request(3).reply_with(503, &[("Retry-After", "10")]).is("wait 20000 retry_after");
}

#[test]
fn s3_after_the_open_time_one_probe_is_let_through() {
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    scene.at(20_000).request(5).start().fails(FailureKind::BreakerOpen);
    scene.at(20_100).request(4).reply(200).is("done 200");
    assert!(!is_open(&scene, 20_100), "the success closes the breaker");
    let _ = one_more(&mut scene, 20_100, 6, 503);
    assert!(!is_open(&scene, 20_100), "a new run of failures begins");
}

#[test]
fn s3_the_probes_failure_opens_the_breaker_again() {
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    scene.at(20_100).request(4).reply(503).fails(FailureKind::BreakerOpen);
    assert!(is_open(&scene, 30_099) && !is_open(&scene, 30_100));
}

#[test]
fn s3_a_neutral_probe_frees_the_permit() {
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    scene.at(20_100).request(4).reply(401).is("refresh until 50100");
    scene.at(20_100).token_replaced();
    scene.at(20_100).request(5).start().is("send 1 token 1");
    scene.at(20_100).request(6).start().fails(FailureKind::BreakerOpen);
}

#[test]
fn s3_a_neutral_result_of_an_older_probe_frees_nothing() {
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    scene.at(30_000).request(5).start().is("send 1");
    scene.at(30_100).request(4).reply(401).is("refresh until 60100");
    assert!(is_open(&scene, 30_100), "the other probe holds the permit");
}

#[test]
fn s3_a_probe_without_a_result_blocks_only_for_the_open_time() {
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    assert!(is_open(&scene, 29_999) && !is_open(&scene, 30_000));
    scene.at(30_000).request(5).start().is("send 1");
    assert!(is_open(&scene, 30_000));
    scene.at(30_100).request(5).reply(200).is("done 200");
    assert!(!is_open(&scene, 30_100), "the success of the second probe closes the breaker");
}

#[test]
fn s3_the_permit_is_taken_at_the_send_not_at_the_check() {
    let mut scene = open();
    scene.at(10_000).request(4).start().fails(FailureKind::BreakerOpen);
    scene.upstream.login.token_expires_in(Timestamp::from_millis(10_000), secs(8));
    scene.at(20_000).request(5).start().is("refresh until 50000");
    assert!(!is_open(&scene, 20_000), "request 5 has not sent yet");
}

#[test]
fn s3_results_of_attempts_sent_before_the_opening_are_ignored() {
    for status in [200, 503] {
        let mut scene = Scene::with(policy());
        for request in 0..4 {
            scene.at(0).request(request).start().is("send 1");
        }
        for (request, at) in [(0, 0), (1, 0), (2, 10_000)] {
            let _ = scene.at(at).request(request).reply(503);
        }
        let _ = scene.at(15_000).request(3).reply(status);
        assert!(is_open(&scene, 19_999) && !is_open(&scene, 20_000), "{status}");
    }
}

#[test]
fn s3_an_earlier_attempt_of_the_probing_request_is_ignored_too() {
    let mut scene = Scene::with(policy().initial_backoff(secs(20)).attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 21000 backoff");
    let _ = one_more(&mut scene, 1_500, 1, 503);
    let _ = one_more(&mut scene, 11_000, 2, 503);
    scene.at(21_000).tick().is("send 2 until 22000");
    scene.at(21_100).reply_to(1, 200, &[]).is("done 200");
    // The probe only gave its permit back.
    scene.at(21_100).request(3).start().is("send 1 until 22100");
    scene.at(21_100).request(4).start().fails(FailureKind::BreakerOpen);
}

#[test]
fn s3_f6_the_open_time_is_jittered_by_half() {
    let ends: BTreeSet<Timestamp> = (0..500)
        .map(|seed| {
            let policy = Policy::flextell()
                .into_builder()
                .breaker(Some(BreakerPolicy { failure_threshold: 1, open_for: secs(10) }));
            let mut scene = Scene::with(policy.jitter(Jitter::Spread));
            scene.seed = seed;
            let _ = one_more(&mut scene, 0, 0, 503);
            one_more(&mut scene, 10_000, 1, 503).fails(FailureKind::BreakerOpen).not_before().unwrap()
        })
        .collect();
    let (first, last) = (*ends.first().unwrap(), *ends.last().unwrap());
    assert!(ends.len() > 490);
    assert!(Timestamp::from_millis(20_000) <= first && first < Timestamp::from_millis(20_100), "{first:?}");
    assert!(Timestamp::from_millis(24_900) < last && last <= Timestamp::from_millis(25_000), "{last:?}");
}

#[test]
fn f6_an_attempt_fails_at_most_once() {
    let mut scene = Scene::with(policy().attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    for _ in 0..5 {
        scene.at(11_100).reply_to(1, 503, &[]).is("wait 2000 backoff");
        scene
            .at(11_100)
            .tell(Event::TransportError { attempt: 1, kind: TransportErrorKind::Broken })
            .is("wait 2000 backoff");
    }
    assert!(!is_open(&scene, 11_100));
}

#[test]
fn f6_a_late_2xx_counts_as_success() {
    let mut scene = Scene::with(policy().attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    let _ = scene.at(1_100).request(1).start();
    let _ = scene.at(1_100).request(1).reply(503);
    scene.at(1_200).reply_to(1, 200, &[]).is("done 200");
    let _ = scene.at(11_300).request(2).start();
    let _ = scene.at(11_300).request(2).reply(503);
    assert!(!is_open(&scene, 11_300), "the success ended the run");
}

#[test]
fn f6_a_late_2xx_of_an_earlier_attempt_counts_as_success() {
    let mut scene = Scene::with(policy().attempt_timeout(Some(secs(1))));
    let _ = scene.at(0).start();
    scene.at(1_000).tick().is("wait 2000 backoff");
    scene.at(2_000).tick().is("send 2 until 3000");
    let _ = one_more(&mut scene, 2_100, 1, 503);
    scene.at(2_200).reply_to(1, 200, &[]).is("done 200");
    let _ = one_more(&mut scene, 12_300, 2, 503);
    assert!(!is_open(&scene, 12_300), "the success ended the run");
}

#[test]
fn t3_f6_after_the_end_an_abandoned_attempt_can_still_fail_once() {
    let broken = Event::TransportError { attempt: 1, kind: TransportErrorKind::Broken };
    for failure in [Event::Reply { attempt: 1, reply: Reply::new(503) }, broken] {
        let mut scene = Scene::with(policy());
        let _ = scene.at(0).start();
        scene.at(0).cancel().fails(FailureKind::Cancelled);
        let _ = one_more(&mut scene, 0, 1, 503);
        for _ in 0..3 {
            scene.at(10_000).tell(failure).fails(FailureKind::Cancelled);
            assert!(!is_open(&scene, 10_000), "the attempt failed more than once");
        }
        let _ = one_more(&mut scene, 10_000, 2, 503);
        assert!(is_open(&scene, 10_000), "the abandoned attempt's failure is the third");
    }
}

#[test]
fn t3_after_the_end_the_breaker_hears_the_result_of_an_abandoned_attempt() {
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    scene.at(20_001).request(4).cancel().fails(FailureKind::Cancelled);
    scene.at(20_002).request(4).reply(200).fails(FailureKind::Cancelled);
    let _ = one_more(&mut scene, 20_003, 5, 503);
    assert!(!is_open(&scene, 20_003), "the success closed the breaker");
}

#[test]
fn s3_the_next_probe_is_known_while_the_breaker_is_open() {
    let at = Timestamp::from_millis;
    let scene = open();
    assert_eq!(Scene::exact().upstream.service.next_probe(at(0)), None);
    assert_eq!(scene.upstream.service.next_probe(at(10_000)), Some(at(20_000)));
    assert_eq!(scene.upstream.service.next_probe(at(19_999)), Some(at(20_000)));
    assert_eq!(scene.upstream.service.next_probe(at(20_000)), None, "the next request is the probe");
    let mut scene = open();
    scene.at(20_000).request(4).start().is("send 1");
    assert_eq!(scene.upstream.service.next_probe(at(20_000)), Some(at(30_000)), "the permit ends after the open time");
}
