//! Both drivers with the same scripts: how they carry out each action, and what they return (T4, E1, S4, B4).

use std::error::Error;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use retry_machine::drive::{CancelHandle, Clock, RefreshError, Request, SendResult, Step, StepTrigger, future};
use retry_machine::{Cause, Event, FailureKind, Idempotency, RefreshOutcome, Timestamp, TransportErrorKind, Upstream};

use super::script::{BOTH, Script, Send, with_tasks, with_threads};
use super::support::{at, exact, ms, secs};
use super::world::{Alive, Scene, Sleeper, Task, TestClock, UNAVAILABLE, run, threads, token_for};

#[test]
fn t4_e1_both_drivers_carry_out_each_action() {
    for play in BOTH {
        let sends = [
            Send::Answer(100, 503),
            Send::Hinted(429, "30"),
            Send::Answer(100, 401),
            Send::Fail(50, TransportErrorKind::NotSent),
            Send::Answer(100, 200),
        ];
        let played = play(Script::new(exact(), &sends).refreshes(&[(500, Ok("b"))]));
        let log = [
            "send 1",
            "wait 1100 backoff",
            "send 2",
            "wait 31100 retry_after",
            "send 3",
            "refresh until 61200",
            // P1: after the refresh the request asks the gate like a newcomer, and the throttle set a pace of 7.5 s (C8).
            "wait 38600 gate",
            "send 4 token 1",
            // C11: while somebody queues, a failure in transport closes the gate for the back-off.
            "wait 42650 backoff",
            "send 5 token 1",
            "done 200",
        ];
        assert_eq!(played.log, log);
        assert_eq!(played.end, ms(42_750));
        // All waits: 1000 + 30000 for the retries, 500 for the token, 6900 at the gate, 4000 for the last retry.
        assert_eq!(played.answer(), ("5: 200 b", 5, ms(42_400)));
        assert_eq!(played.ended.unwrap().explanation.to_string(), "");
    }
}

#[test]
fn t4_an_answer_at_once_is_an_answer() {
    for play in BOTH {
        let played = play(Script::new(exact(), &[Send::Answer(3, 204)]));
        assert_eq!(played.answer(), ("1: 204 a", 1, Duration::ZERO));
        assert_eq!(played.log, ["send 1", "done 204"]);
    }
}

#[test]
fn d14_a_request_that_is_not_idempotent_is_not_repeated_by_a_driver() {
    for play in BOTH {
        let mut script = Script::new(exact(), &[Send::Fail(1, TransportErrorKind::Broken)]);
        script.idempotency = Idempotency::NonIdempotent;
        let played = play(script);
        let (error, response, own) = played.error();
        assert_eq!((error.failure.kind(), response, own), (FailureKind::Ambiguous, None, Some("1: Broken a")));
    }
}

// ---- What a failed request hands back ----

#[test]
fn e1_the_response_that_the_failure_is_about_is_handed_back() {
    for play in BOTH {
        let played = play(Script::new(exact(), &[Send::Answer(1, 503), Send::Answer(1, 404)]));
        let (error, response, own) = played.error();
        assert_eq!((error.failure.kind(), error.failure.status()), (FailureKind::NotFound, Some(404)));
        assert_eq!((response, own, error.waited), (Some("2: 404 a"), None, secs(1)));
        assert_eq!(error.to_string(), error.failure.to_string());
        assert!(error.source().is_none());
    }
}

#[test]
fn e1_a_response_before_a_wait_is_not_kept() {
    for play in BOTH {
        let sends = [Send::Answer(1, 503), Send::Fail(1, TransportErrorKind::Broken)];
        let played = play(Script::new(exact().max_retries(1), &sends));
        let (error, response, own) = played.error();
        assert_eq!((error.failure.status(), error.failure.cause()), (Some(503), Some(Cause::Broken)));
        assert_eq!((response, own), (None, Some("2: Broken a")));
        assert_eq!(error.source().map(ToString::to_string), Some("2: Broken a".into()));
    }
}

#[test]
fn e1_a_response_before_a_wait_is_kept_on_demand() {
    for play in BOTH {
        let sends = [Send::Answer(1, 503), Send::Fail(1, TransportErrorKind::Broken)];
        let mut script = Script::new(exact().max_retries(1), &sends);
        script.keeps_response = true;
        let played = play(script);
        let (_, response, own) = played.error();
        assert_eq!((response, own), (Some("1: 503 a"), Some("2: Broken a")));
        assert_eq!((played.held, played.left.0), (1, 1));
    }
}

#[test]
fn e1_a_kept_response_is_not_the_answer_of_a_later_attempt() {
    for play in BOTH {
        let mut script = Script::new(exact(), &[Send::Answer(1, 503), Send::Hinted(429, "1"), Send::Answer(1, 200)]);
        script.keeps_response = true;
        let played = play(script);
        assert_eq!(played.answer().0, "3: 200 a");
        assert_eq!((played.held, played.left.0), (1, 1), "the older ones were dropped");
    }
}

#[test]
fn e1_a_response_that_is_not_the_answer_is_dropped_before_the_next_wait() {
    for play in BOTH {
        let sends = [Send::Answer(1, 503), Send::Hinted(429, "1"), Send::Answer(1, 401), Send::Answer(1, 200)];
        let played = play(Script::new(exact(), &sends).refreshes(&[(5, Ok("b"))]));
        assert_eq!(played.answer().0, "4: 200 b");
        assert_eq!((played.held, played.left), (0, (1, 0)));
    }
}

#[test]
fn e1_the_response_of_a_401_that_no_refresh_helped_is_handed_back() {
    for play in BOTH {
        let sends = [Send::Answer(1, 401), Send::Answer(1, 401)];
        let played = play(Script::new(exact(), &sends).refreshes(&[(5, Ok("b"))]));
        let (error, response, _) = played.error();
        assert_eq!((error.failure.kind(), response), (FailureKind::Unauthorized, Some("2: 401 b")));
    }
}

#[test]
fn e1_an_error_before_the_last_response_is_forgotten() {
    for play in BOTH {
        let sends = [Send::Fail(1, TransportErrorKind::NotSent), Send::Answer(1, 422)];
        let played = play(Script::new(exact(), &sends));
        let (_, response, own) = played.error();
        assert_eq!((response, own), (Some("2: 422 a"), None));
    }
}

#[test]
fn e1_an_attempt_that_was_dropped_does_not_bring_back_an_older_error() {
    let sends = [Send::Fail(1, TransportErrorKind::NotSent), Send::Nothing];
    let played = with_tasks(Script::new(limited().max_retries(1), &sends));
    let (error, response, own) = played.error();
    assert_eq!(error.failure.cause(), Some(Cause::TimedOut));
    assert_eq!((response, own), (None, None));
}

#[test]
fn e1_a_request_that_was_never_sent_hands_back_nothing() {
    for play in BOTH {
        let played = play(Script::new(exact().deadline(Some(Duration::ZERO)), &[]));
        let (error, response, own) = played.error();
        assert_eq!((error.failure.kind(), response, own), (FailureKind::Deadline, None, None));
    }
}

#[test]
fn e1_the_drivers_error_has_the_clients_error_as_its_source() {
    let api = threads(exact().max_retries(0), &TestClock::default());
    let send = |_| -> SendResult<(), std::io::Error> {
        Err((TransportErrorKind::NotSent, std::io::Error::other("unplugged")))
    };
    let error = api.call(Idempotency::Idempotent, send).unwrap_err();
    assert_eq!(error.source().map(ToString::to_string), Some("unplugged".into()));
    assert!(error.to_string().starts_with("gave up after 1 attempt"), "{error}");
}

// ---- Outcomes of a refresh ----

#[test]
fn k6_each_outcome_of_a_refresh_has_its_failure() {
    let outcomes = [
        (RefreshError::Rejected, FailureKind::TokenRejected),
        (UNAVAILABLE, FailureKind::TokenUnavailable),
        (RefreshError::Abandoned, FailureKind::TokenUnavailable),
    ];
    for play in BOTH {
        for (outcome, kind) in outcomes {
            let played = play(Script::new(exact(), &[Send::Answer(1, 401)]).refreshes(&[(700, Err(outcome))]));
            let (error, response, _) = played.error();
            assert_eq!((error.failure.kind(), response, error.waited), (kind, None, ms(700)), "{outcome:?}");
        }
    }
}

#[test]
fn k6_a_throttled_token_endpoint_says_when_to_come_back() {
    for play in BOTH {
        let outcome = Err(RefreshError::Unavailable { retry_after: Some(secs(40)) });
        let played = play(Script::new(exact(), &[Send::Answer(1, 401)]).refreshes(&[(699, outcome)]));
        let (error, ..) = played.error();
        assert_eq!(error.failure.not_before(), Some(retry_machine::Timestamp::from_millis(40_700)));
    }
}

// ---- Limits ----

fn limited() -> retry_machine::PolicyBuilder {
    exact().attempt_timeout(Some(secs(2)))
}

#[test]
fn s4_at_its_limit_an_attempt_is_dropped_and_the_next_begun() {
    for play in BOTH {
        let played = play(Script::new(limited(), &[Send::Nothing, Send::Answer(1_999, 200)]));
        assert_eq!(played.answer(), ("2: 200 a", 2, secs(1)));
        assert_eq!(played.log, ["send 1 until 2000", "wait 3000 backoff", "send 2 until 5000", "done 200"]);
        assert_eq!(played.timeouts, [Some(secs(2)); 2]);
        assert_eq!(played.left.1, 0, "no send is left");
    }
}

#[test]
fn s4_the_deadline_ends_a_send() {
    for play in BOTH {
        let played = play(Script::new(exact().deadline(Some(secs(5))), &[Send::Nothing]));
        let (error, ..) = played.error();
        assert_eq!((error.failure.kind(), error.failure.elapsed()), (FailureKind::Deadline, secs(5)));
        assert_eq!(played.timeouts, [Some(secs(5))]);
        assert_eq!(played.left.1, 0);
    }
}

#[test]
fn s4_the_deadline_forbids_a_wait() {
    for play in BOTH {
        let sends = [Send::Answer(1, 503), Send::Answer(4_500, 503)];
        let played = play(Script::new(exact().deadline(Some(secs(6))), &sends));
        let (error, response, _) = played.error();
        assert_eq!((error.failure.kind(), error.failure.elapsed()), (FailureKind::Deadline, ms(5_501)));
        assert_eq!(response, Some("2: 503 a"), "the failure is about it");
    }
}

#[test]
fn s4_a_wait_for_a_refresh_ends_with_the_requests_deadline() {
    let script = Script::new(exact().deadline(Some(secs(5))), &[Send::Answer(100, 401)]);
    let played = with_tasks(script.refreshes(&[(60_000, Ok("b"))]));
    let (error, ..) = played.error();
    assert_eq!((error.failure.kind(), error.failure.elapsed()), (FailureKind::Deadline, secs(5)));
    assert_eq!(error.waited, ms(4_900));
}

#[test]
fn k5_a_refresh_ends_with_its_lease_for_the_request_that_waits() {
    let played = with_tasks(Script::new(exact(), &[Send::Answer(100, 401)]).refreshes(&[(60_000, Ok("b"))]));
    let (error, ..) = played.error();
    assert_eq!((error.failure.kind(), error.failure.elapsed()), (FailureKind::TokenUnavailable, ms(30_100)));
}

#[test]
fn t4_b4_timers_that_fire_early_are_harmless() {
    let sends = [Send::Answer(1, 503), Send::Hinted(429, "30"), Send::Answer(1, 401), Send::Answer(1_500, 200)];
    let play = |is_hasty| {
        let mut script = Script::new(limited(), &sends).refreshes(&[(20_000, Ok("b"))]);
        script.is_hasty = is_hasty;
        with_tasks(script)
    };
    let (calm, hasty) = (play(false), play(true));
    assert_eq!(calm.log, hasty.log);
    assert_eq!((calm.answer(), calm.end), (hasty.answer(), hasty.end));
    assert_eq!(with_threads(Script::new(limited(), &sends).refreshes(&[(20_000, Ok("b"))])).log, calm.log);
}

/// A clock that shows the past once after each time that it was asked.
struct Unsteady(TestClock, AtomicU64);

impl Clock for Unsteady {
    fn now(&self) -> Timestamp {
        let behind = (self.1.fetch_add(1, Ordering::SeqCst) % 2) * 1_500_000_000;
        Timestamp::from_nanos(self.0.time().as_nanos().saturating_sub(behind))
    }

    fn unix_time(&self) -> Option<Duration> {
        None
    }
}

#[test]
fn t2_a_clock_that_steps_back_ends_nothing_early_and_hangs_nobody() {
    for first in 0..2 {
        let clock = TestClock::default();
        let unsteady = Unsteady(clock.clone(), AtomicU64::new(first));
        let upstream = Upstream::new(limited().max_retries(2).build().unwrap());
        let api = future::Api::with_upstream(upstream, Sleeper { clock: clock.clone(), is_hasty: false }, unsteady);
        let mut task = Task::new(async move {
            let call = api.call(Idempotency::Idempotent, |attempt| async move {
                match attempt.number() {
                    1 => pending().await,
                    2 => Ok((attempt.read(503, [("Retry-After", "20")]), ())),
                    _ => Ok::<_, (TransportErrorKind, ())>((attempt.read(200, [("", "")]), ())),
                }
            });
            call.await.map(|answer| answer.attempts).map_err(|error| error.failure.kind())
        });
        run(&clock, &mut [&mut task]);
        assert_eq!(task.take(), Ok(3));
        assert!(clock.time() >= at(23_000) && clock.time() < at(40_000), "{:?}", clock.time());
    }
}

// ---- What an observer sees ----

#[test]
fn k11_the_leader_alone_sees_its_refresh_end() {
    let scene = Scene::new(exact());
    let observed = || {
        let (api, server) = (scene.api.clone(), scene.server.clone());
        let mut task = Task::new(async move {
            let mut triggers = Vec::new();
            let mut observer = |step: &Step| triggers.push((step.at, step.trigger));
            let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
            api.call(request, |attempt| ready(server.answer(&attempt))).await.unwrap();
            triggers
        });
        task.poll();
        task
    };
    let (mut leader, mut follower) = (observed(), observed());
    scene.clock.advance(secs(3));
    scene.endpoint.finish(0, Ok(token_for("new", 600)));
    scene.run(&mut [&mut leader, &mut follower]);
    let refreshed = |step: &(Timestamp, StepTrigger)| matches!(step.1, StepTrigger::Refreshed { .. });
    let steps = leader.take();
    assert_eq!(steps.len(), 4, "{steps:?}");
    let outcome = RefreshOutcome::Refreshed { expires_in: Some(secs(600)) };
    assert_eq!(steps[2], (at(3_000), StepTrigger::Refreshed { lease: 1, outcome }));
    assert_eq!(steps.iter().filter(|step| refreshed(step)).count(), 1);
    let steps = follower.take();
    assert!(!steps.iter().any(refreshed), "{steps:?}");
    assert_eq!(steps[1], (at(3_000), StepTrigger::Event(Event::Tick)));
}

// ---- Cancelling tasks ----

#[test]
fn s6_a_cancel_ends_each_wait_of_a_task_and_drops_its_send() {
    // In a send, in a back-off, at the gate, and in the wait for a token, as leader and as follower.
    for place in 0..5 {
        let scene = Scene::new(exact());
        let (handle, alive) = (CancelHandle::new(), Alive::default());
        if place == 2 {
            scene.api.close_gate(secs(100));
        }
        let leader = (place == 4).then(|| scene.waiting());
        let (api, sends, cancel) = (scene.api.clone(), alive.clone(), handle.clone());
        let mut task = Task::new(async move {
            let request = Request::new(Idempotency::Idempotent).cancelled_by(&cancel);
            let call = api.call(request, |attempt| {
                let living = sends.one();
                async move {
                    let _living = living;
                    match place {
                        0 => pending().await,
                        1 => Ok::<_, (TransportErrorKind, ())>((attempt.read(503, [("", "")]), ())),
                        _ => Ok((attempt.read(401, [("", "")]), ())),
                    }
                }
            });
            call.await.map_err(|error| error.failure.kind())
        });
        task.poll();
        assert_eq!((task.has_ended(), alive.count()), (false, u32::from(place == 0)));
        handle.cancel();
        assert!(task.is_woken(), "place {place}");
        assert_eq!(task.poll().take().unwrap_err(), FailureKind::Cancelled);
        assert_eq!(alive.count(), 0);
        drop(leader);
    }
}

#[test]
fn s6_an_answer_that_has_come_wins_over_a_cancel() {
    let scene = Scene::new(exact());
    let handle = CancelHandle::new();
    let (api, cancel, clock) = (scene.api.clone(), handle.clone(), scene.clock.clone());
    let mut task = Task::new(async move {
        let request = Request::new(Idempotency::Idempotent).cancelled_by(&cancel);
        let call = api.call(request, |attempt| {
            let wait = clock.sleep(secs(1));
            async move {
                wait.await;
                Ok::<_, (TransportErrorKind, ())>((attempt.read(200, [("", "")]), ()))
            }
        });
        call.await.is_ok()
    });
    task.poll();
    scene.clock.advance(secs(1));
    handle.cancel();
    assert!(task.poll().take());
}
