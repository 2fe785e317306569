//! Requests that go on in another process: the drivers take any machine, and end it (T7, K12, S6).

use std::future::ready;

use proptest::prelude::*;
use retry_machine::drive::{Request, RequestError, Step, blocking, future};
use retry_machine::snapshot::{MachineSnapshot, UpstreamSnapshot};
use retry_machine::{
    Action, Event, Failure, FailureKind, Idempotency, PolicyBuilder, RefreshOutcome, Reply, RequestLimits,
    RetryMachine, Timestamp, TransportErrorKind, Upstream,
};

use super::support::{Answer as _, at, exact, ms, secs};
use super::world::{Scene, Sleeper, Task, TestClock, ThreadClock, bounded, request_of, run, tasks, threads, token};

/// The end of a request: its answer and the number of its attempts, and its steps.
type Resumed = (Result<(u16, u32), Box<RequestError<u16, ()>>>, Vec<String>);

/// Resumes a machine with one of the drivers, on a service without tokens whose clock shows `now`.
type Resume = fn(RetryMachine, PolicyBuilder, Timestamp) -> Resumed;

const BOTH: [Resume; 2] = [in_a_thread, in_a_task];

fn in_a_thread(machine: RetryMachine, policy: PolicyBuilder, now: Timestamp) -> Resumed {
    let clock = TestClock::default();
    clock.advance_to(now);
    clock.let_sleepers_move(true);
    let api = threads(policy, &clock);
    let mut log = Vec::new();
    let mut observer = |step: &Step| log.push(step.action.short());
    let request = Request::resume(machine).unwrap().observed_by(&mut observer);
    let call = api.call(request, |attempt| Ok::<_, (_, ())>((attempt.read(200, [("", "")]), 200)));
    (call.map(|answer| (answer.response, answer.attempts)), log)
}

fn in_a_task(machine: RetryMachine, policy: PolicyBuilder, now: Timestamp) -> Resumed {
    let clock = TestClock::default();
    clock.advance_to(now);
    let api = tasks(policy, &clock);
    let mut task = Task::new(async move {
        let mut log = Vec::new();
        let mut observer = |step: &Step| log.push(step.action.short());
        let request = Request::resume(machine).unwrap().observed_by(&mut observer);
        let call = api.call(request, |attempt| ready(Ok::<_, (_, ())>((attempt.read(200, [("", "")]), 200))));
        let result = call.await;
        (result.map(|answer| (answer.response, answer.attempts)), log)
    });
    run(&clock, &mut [&mut task]);
    task.take()
}

/// Returns a request of an earlier process that has got these events, each at its time in milliseconds.
fn earlier(machine: RetryMachine, events: &[(u64, Event)]) -> RetryMachine {
    let mut upstream = Upstream::new(exact().build().unwrap());
    let mut machine = machine;
    for (millis, event) in events {
        let _ = machine.handle(at(*millis), *event, &mut upstream);
    }
    machine
}

fn idempotent() -> RetryMachine {
    RetryMachine::new(Idempotency::Idempotent, 7)
}

const START: (u64, Event) = (0, Event::Start);

fn reply(millis: u64, status: u16) -> (u64, Event) {
    (millis, Event::Reply { attempt: 1, reply: Reply::new(status) })
}

#[test]
fn t7_a_request_that_has_not_begun_begins() {
    for resume in BOTH {
        let (result, log) = resume(idempotent(), exact(), at(5));
        assert_eq!(result.unwrap(), (200, 1));
        assert_eq!(log, ["send 1 no token", "done 200"]);
    }
}

#[test]
fn t7_a_request_that_waits_goes_on_waiting() {
    for resume in BOTH {
        let machine = earlier(idempotent(), &[START, reply(100, 503)]);
        let (result, log) = resume(machine, exact(), at(400));
        assert_eq!(result.unwrap(), (200, 2));
        assert_eq!(log, ["wait 1100 backoff", "send 2 no token", "done 200"]);
    }
}

#[test]
fn t7_a_wait_that_is_over_ends_at_once() {
    for resume in BOTH {
        let machine = earlier(idempotent(), &[START, reply(100, 503)]);
        assert_eq!(resume(machine, exact(), at(90_000)).0.unwrap(), (200, 2));
    }
}

#[test]
fn t7_d14_an_attempt_that_was_in_flight_counts_as_broken_off() {
    for resume in BOTH {
        let (result, log) = resume(earlier(idempotent(), &[START]), exact(), at(400));
        assert_eq!(result.unwrap(), (200, 2));
        assert_eq!(log, ["wait 1400 backoff", "send 2 no token", "done 200"]);
        let machine = earlier(RetryMachine::new(Idempotency::NonIdempotent, 7), &[START]);
        let error = resume(machine, exact(), at(400)).0.unwrap_err();
        assert_eq!((error.failure.kind(), error.response), (FailureKind::Ambiguous, None));
    }
}

#[test]
fn k12_a_leader_of_an_earlier_process_ends_with_its_lease() {
    for resume in BOTH {
        let machine = earlier(idempotent(), &[START, reply(100, 401)]);
        assert!(machine.lease().is_some());
        let error = resume(machine, exact(), at(400)).0.unwrap_err();
        // This login has no token (K9), and so nobody can refresh it.
        assert!(matches!(error.failure.kind(), FailureKind::TokenUnavailable | FailureKind::TokenRejected));
    }
}

#[test]
fn k12_who_waited_for_a_token_in_an_earlier_process_ends() {
    let mut upstream = Upstream::new(exact().build().unwrap());
    let mut leader = idempotent();
    let mut follower = RetryMachine::new(Idempotency::Idempotent, 8);
    for machine in [&mut leader, &mut follower] {
        let _ = machine.handle(at(0), Event::Start, &mut upstream);
    }
    for machine in [&mut leader, &mut follower] {
        let _ = machine.handle(at(100), reply(100, 401).1, &mut upstream);
    }
    assert!(leader.lease() == Some(1) && follower.lease() == Some(1));
    let scene = Scene::new(exact());
    scene.clock.advance_to(at(400));
    let mut leader = request_of(&scene.api, &scene.server, Request::resume(leader).unwrap());
    let mut follower = request_of(&scene.api, &scene.server, Request::resume(follower).unwrap());
    scene.run_until(30_100, &mut [&mut leader, &mut follower]);
    // Its refresh died with the process: the lease runs out, and the other one leads.
    assert_eq!(leader.take(), Err(FailureKind::TokenUnavailable));
    assert_eq!(scene.endpoint.begun(), 1);
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run(&mut [&mut follower]);
    assert_eq!(follower.take(), Ok("200 new".into()));
}

#[test]
fn k11_a_leader_of_an_earlier_process_shares_the_refresh_of_this_one() {
    let machine = earlier(idempotent(), &[START, reply(100, 401)]);
    let scene = Scene::new(exact());
    scene.clock.advance_to(at(200));
    let mut leader = scene.waiting();
    let mut resumed = request_of(&scene.api, &scene.server, Request::resume(machine).unwrap());
    resumed.poll();
    assert_eq!(scene.endpoint.begun(), 1);
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run(&mut [&mut leader, &mut resumed]);
    assert_eq!((leader.take(), resumed.take()), (Ok("200 new".into()), Ok("200 new".into())));
}

#[test]
fn t7_i3_a_request_that_has_ended_is_refused() {
    let done = earlier(idempotent(), &[START, reply(100, 200)]);
    assert!(matches!(Request::resume(done), Err(Action::Done { status: 200, .. })));
    let failed = earlier(idempotent(), &[START, reply(100, 404)]);
    let Err(Action::Fail(failure)) = Request::resume(failed) else { panic!("it has failed") };
    assert_eq!((failure.kind(), failure.elapsed()), (FailureKind::NotFound, ms(100)));
    let cancelled = earlier(idempotent(), &[(0, Event::Cancel)]);
    assert!(matches!(Request::resume(cancelled), Err(Action::Fail(_))));
}

#[test]
fn d17_a_resumed_request_keeps_its_own_limits() {
    let limits = RequestLimits { deadline: Some(secs(5)), max_retries: Some(1), attempt_timeout: None };
    let failure = |machine: RetryMachine, now| -> Failure {
        let clock = TestClock::default();
        clock.advance_to(now);
        clock.let_sleepers_move(true);
        // Wider limits here change nothing.
        let wide = RequestLimits { deadline: Some(secs(500)), max_retries: Some(9), attempt_timeout: None };
        let request = Request::resume(machine).unwrap().limits(wide);
        let api = threads(exact(), &clock);
        api.call(request, |_| Ok::<_, (TransportErrorKind, ())>((Reply::new(503), ()))).unwrap_err().failure
    };
    let waiting = || earlier(idempotent().with_limits(limits), &[START, reply(100, 503)]);
    let exhausted = failure(waiting(), at(400));
    assert_eq!((exhausted.kind(), exhausted.attempts()), (FailureKind::Exhausted, 2));
    // The deadline counts from its start, in the earlier process.
    let late = failure(waiting(), at(6_000));
    assert_eq!((late.kind(), late.attempts()), (FailureKind::Deadline, 1));
}

#[test]
fn t7_a_service_from_a_snapshot_goes_on() {
    let mut upstream = Upstream::new(exact().build().unwrap());
    let mut machine = idempotent();
    let _ = machine.handle(at(0), Event::Start, &mut upstream);
    let throttled = upstream.policy().read(429, [("Retry-After", "30")]);
    let _ = machine.handle(at(100), Event::Reply { attempt: 1, reply: throttled }, &mut upstream);
    let saved = (UpstreamSnapshot::new(&upstream, at(200)), MachineSnapshot::new(&machine, at(200)));
    // Another process, another clock.
    let clock = TestClock::default();
    clock.advance_to(at(5_000));
    let upstream = saved.0.restore(exact().build().unwrap(), clock.time()).unwrap();
    let machine = saved.1.restore(clock.time()).unwrap();
    let api = future::Api::with_upstream(upstream, Sleeper { clock: clock.clone(), is_hasty: false }, clock.clone());
    assert!(api.gate_state().closed.is_some());
    let call = api.clone();
    let mut task = Task::new(async move {
        let request = Request::resume(machine).unwrap();
        let call = call.call(request, |attempt| ready(Ok::<_, (_, ())>((attempt.read(200, [("", "")]), ()))));
        call.await.map(|answer| answer.attempts).map_err(|error| error.failure.kind())
    });
    run(&clock, &mut [&mut task]);
    assert_eq!((task.take(), clock.time()), (Ok(2), at(34_900)));
    // And back: what requests share is all there.
    let again = UpstreamSnapshot::new(&api.upstream(), clock.time());
    let restored = again.restore(exact().build().unwrap(), at(0)).unwrap();
    assert_eq!(restored.service.budget_balance(at(0)), api.budget_balance());
}

// ---- Any machine ----

/// Something that happens to a request before it is resumed, after some milliseconds.
fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let statuses = prop::sample::select(vec![200, 401, 403, 404, 429, 500, 503, 599]);
    let kinds = prop::sample::select(vec![
        TransportErrorKind::NotSent,
        TransportErrorKind::TimedOut,
        TransportErrorKind::Broken,
        TransportErrorKind::Unprocessed,
        TransportErrorKind::Other,
    ]);
    let event = prop_oneof![
        4 => (1_u32..4, statuses, 0_u64..60).prop_map(|(attempt, status, hint)| {
            let reply = Reply::new(status);
            Event::Reply { attempt, reply: if hint > 40 { reply.with_hint(secs(hint)) } else { reply } }
        }),
        2 => (1_u32..4, kinds).prop_map(|(attempt, kind)| Event::TransportError { attempt, kind }),
        4 => Just(Event::Tick),
    ];
    prop::collection::vec((0_u64..40_000, event), 0..8)
}

/// Changes some numbers of a stored request.
fn corrupt(value: &mut serde_json::Value, changes: &mut impl Iterator<Item = (u8, u64)>) {
    match value {
        serde_json::Value::Number(number) => {
            if let Some((what, other)) = changes.next() {
                match what {
                    0 => *number = other.into(),
                    1 => *number = (other % 8).into(),
                    _ => {}
                }
            }
        }
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| corrupt(value, changes)),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| corrupt(value, changes)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever machine is handed in: nothing panics, and the request ends.
    #[test]
    fn t7_i7_any_machine_that_can_be_restored_ends(
        events in events(),
        (idempotent, reports, statuses) in (any::<bool>(), prop::collection::vec(0_u8..4, 0..3), prop::collection::vec(0_usize..6, 12)),
        changes in prop::collection::vec((0_u8..12, any::<u64>()), 0..24),
    ) {
        let idempotency = if idempotent { Idempotency::Idempotent } else { Idempotency::NonIdempotent };
        let mut upstream = Upstream::new(exact().build().unwrap());
        let mut machine = RetryMachine::new(idempotency, 7);
        let mut now = 0;
        let _ = machine.handle(at(now), Event::Start, &mut upstream);
        for (wait, event) in events {
            now += wait;
            let _ = machine.handle(at(now), event, &mut upstream);
            for report in &reports {
                let outcome = [RefreshOutcome::Abandoned, RefreshOutcome::Rejected][usize::from(*report) % 2];
                let _ = upstream.login.report_refresh(at(now), u32::from(*report), outcome);
            }
        }
        let mut stored = serde_json::to_value(MachineSnapshot::new(&machine, at(now))).unwrap();
        corrupt(&mut stored, &mut changes.into_iter());
        let Ok(snapshot) = serde_json::from_value::<MachineSnapshot>(stored) else { return Ok(()) };
        let scene = Scene::with_refresh(exact(), super::world::Endpoint::new(), |clock| {
            let clock = clock.clone();
            let mut number = 0;
            Box::new(move |_| {
                number += 1;
                let (wait, outcome) = (clock.sleep(secs(20)), number % 3);
                Box::pin(async move {
                    wait.await;
                    if outcome == 0 { Err(super::world::UNAVAILABLE) } else { Ok(token("new")) }
                })
            })
        });
        scene.clock.advance_to(at(1_000_000));
        let Ok(machine) = snapshot.restore(scene.clock.time()) else { return Ok(()) };
        let Ok(request) = Request::resume(machine.clone()) else { return Ok(()) };
        let api = scene.api.clone();
        let mut task = Task::new(async move {
            let mut statuses = statuses.into_iter().cycle();
            let call = api.call(request, |attempt| {
                let status = [200, 401, 429, 503, 500, 200][statuses.next().unwrap()];
                ready(Ok::<_, (_, ())>((attempt.read(status, [("Retry-After", "3")]), ())))
            });
            drop(call.await);
        });
        scene.run(&mut [&mut task]);
        prop_assert!(task.has_ended(), "{machine:?} hangs");
    }
}

#[test]
fn t7_any_machine_can_be_cancelled_and_dropped() {
    for events in [vec![START], vec![START, reply(1, 503)], vec![START, reply(1, 401)], vec![START, reply(1, 429)]] {
        let scene = Scene::new(exact());
        let machine = earlier(idempotent(), &events);
        let handle = retry_machine::drive::CancelHandle::new();
        let request = Request::resume(machine.clone()).unwrap().cancelled_by(&handle);
        let mut task = request_of(&scene.api, &scene.server, request);
        task.poll();
        handle.cancel();
        if !task.has_ended() {
            task.poll();
        }
        assert_eq!(task.take(), Err(FailureKind::Cancelled));
        let mut dropped = request_of(&scene.api, &scene.server, Request::resume(machine).unwrap());
        dropped.poll();
        dropped.cancel();
    }
}

#[test]
fn t7_a_resumed_request_that_is_cancelled_before_it_goes_on_ends_at_once() {
    bounded(|| {
        let handle = retry_machine::drive::CancelHandle::new();
        handle.cancel();
        for events in [vec![START], vec![START, reply(1, 503)], vec![START, reply(1, 401)]] {
            let upstream = Upstream::new(exact().build().unwrap());
            let api = blocking::Api::with_upstream(upstream, ThreadClock(TestClock::default()));
            let request = Request::resume(earlier(idempotent(), &events)).unwrap().cancelled_by(&handle);
            let call = api.call(request, |_| -> Result<(Reply, ()), (_, ())> { panic!("it is not sent") });
            assert_eq!(call.unwrap_err().failure.kind(), FailureKind::Cancelled);
        }
    });
}
