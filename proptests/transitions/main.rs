//! State × event: the action of every pair, as a snapshot that a reader can review (T3).
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test transitions` rewrites it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::time::Duration;
use std::{env, fs};

use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Event, FailureKind, RefreshOutcome, Timestamp, TransportErrorKind,
};

#[path = "../common/support.rs"]
mod support;
use support::{Answer, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, secs};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data/snapshots/transitions.txt");

/// The instant of all states, in milliseconds.
const NOW: u64 = 10_000;

/// A state, and its shortest script.
type State = (&'static str, fn() -> Scene);

const STATES: [State; 11] = [
    ("ready", Scene::exact),
    ("in flight", || started(Scene::exact())),
    ("in flight, limited", || started(Scene::with(exact().attempt_timeout(Some(secs(15)))))),
    ("in flight again", || {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).reply(503).is("wait 1000 backoff");
        scene.at(NOW).tick().is("send 2");
        scene
    }),
    ("waiting, back-off", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(503).is("wait 11000 backoff");
        scene
    }),
    ("waiting, hint", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply_with(429, &[("Retry-After", "9")]).is("wait 19000 retry_after");
        scene
    }),
    ("waiting, gate", || {
        let mut scene = Scene::exact();
        scene.at(0).request(1).start().is("send 1");
        scene.at(NOW).request(1).reply_with(429, &[("Retry-After", "9")]).is("wait 19000 retry_after");
        scene.at(NOW).start().is("wait 19000 gate");
        scene
    }),
    ("leading, early", || {
        let mut scene = Scene::exact();
        scene.upstream.token_expires_in(Timestamp::ZERO, secs(15));
        scene.at(NOW).start().is("refresh until 40000");
        scene
    }),
    ("leading, after a 401", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(401).is("refresh until 40000");
        scene
    }),
    ("following", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).request(1).start().is("send 1");
        scene.at(NOW).request(1).reply(401).is("refresh until 40000");
        scene.at(NOW).reply(401).is("await until 40000");
        scene
    }),
    ("done", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(201).is("done 201");
        scene
    }),
];

/// Failures of each kind.
const FAILURES: [(FailureKind, fn() -> Scene); 17] = [
    (FailureKind::BadRequest, || answered(Scene::exact(), 400)),
    (FailureKind::Unauthorized, || answered(Scene::with(exact().max_token_recoveries(0)), 401)),
    (FailureKind::Forbidden, || answered(Scene::exact(), 403)),
    (FailureKind::NotFound, || answered(Scene::exact(), 404)),
    (FailureKind::Conflict, || answered(Scene::exact(), 409)),
    (FailureKind::Validation, || answered(Scene::exact(), 422)),
    (FailureKind::UnexpectedStatus, || answered(Scene::exact(), 502)),
    (FailureKind::Exhausted, || answered(Scene::with(exact().max_retries(0)), 503)),
    (FailureKind::ServerWaitTooLong, || answered(Scene::with(exact().max_server_wait(Duration::ZERO)), 429)),
    (FailureKind::Deadline, || answered(Scene::with(exact().deadline(Some(secs(10)))), 503)),
    (FailureKind::Budget, || {
        answered(Scene::with(exact().budget(Some(BudgetPolicy { capacity: 0, ..BudgetPolicy::DEFAULT }))), 503)
    }),
    (FailureKind::BreakerOpen, || {
        answered(Scene::with(exact().breaker(Some(BreakerPolicy { failure_threshold: 1, open_for: secs(10) }))), 503)
    }),
    (FailureKind::TokenRejected, || refreshed(REJECTED)),
    (FailureKind::TokenUnavailable, || refreshed(UNAVAILABLE)),
    (FailureKind::Transport, || non_idempotent_failed(TransportErrorKind::Other)),
    (FailureKind::Ambiguous, || non_idempotent_failed(TransportErrorKind::Broken)),
    (FailureKind::Cancelled, || {
        let mut scene = started(Scene::exact());
        let _ = scene.at(NOW).cancel();
        scene
    }),
];

fn started(mut scene: Scene) -> Scene {
    let _ = scene.at(0).start();
    scene
}

fn answered(scene: Scene, status: u16) -> Scene {
    let mut scene = started(scene);
    let _ = scene.at(NOW).reply_with(status, &[("Retry-After", "1")]);
    scene
}

fn refreshed(outcome: RefreshOutcome) -> Scene {
    let mut scene = started(Scene::exact());
    let _ = scene.at(NOW).reply(401);
    let _ = scene.at(NOW).refreshed(outcome);
    scene
}

fn non_idempotent_failed(error: TransportErrorKind) -> Scene {
    let mut scene = Scene::exact();
    let _ = scene.at(0).start_non_idempotent();
    let _ = scene.at(NOW).error(error);
    scene
}

/// An event, and how to give it to request 0.
type NamedEvent = (&'static str, fn(&mut Scene) -> Action);

const EVENTS: [NamedEvent; 22] = [
    ("start", |scene| scene.at(NOW).start()),
    ("early tick", |scene| scene.at(NOW - 8_000).tick()),
    ("due tick", |scene| {
        let due = due(scene);
        scene.at_time(due).tick()
    }),
    ("reply 200", |scene| scene.at(NOW + 1).reply(200)),
    ("reply 401", |scene| scene.at(NOW + 1).reply(401)),
    ("reply 404", |scene| scene.at(NOW + 1).reply(404)),
    ("reply 429", |scene| scene.at(NOW + 1).reply(429)),
    ("reply 429 in 30 s", |scene| scene.at(NOW + 1).reply_with(429, &[("Retry-After", "30")])),
    ("reply 503", |scene| scene.at(NOW + 1).reply(503)),
    ("late 200", |scene| late(scene, 200, &[])),
    ("late 401", |scene| late(scene, 401, &[])),
    ("late 429 in 30 s", |scene| late(scene, 429, &[("Retry-After", "30")])),
    ("not sent", |scene| scene.at(NOW + 1).error(TransportErrorKind::NotSent)),
    ("timed out", |scene| scene.at(NOW + 1).error(TransportErrorKind::TimedOut)),
    ("broken", |scene| scene.at(NOW + 1).error(TransportErrorKind::Broken)),
    ("other error", |scene| scene.at(NOW + 1).error(TransportErrorKind::Other)),
    ("late error", |scene| {
        let attempt = late_attempt(scene);
        scene.at(NOW + 1).tell(Event::TransportError { attempt, kind: TransportErrorKind::Broken })
    }),
    ("refreshed", |scene| scene.at(NOW + 1).refreshed(REFRESHED)),
    ("refreshed, due", |scene| {
        let due = due(scene);
        scene.at_time(due).refreshed(REFRESHED)
    }),
    ("rejected", |scene| scene.at(NOW + 1).refreshed(REJECTED)),
    ("unavailable", |scene| scene.at(NOW + 1).refreshed(UNAVAILABLE)),
    ("cancel", |scene| scene.at(NOW + 1).cancel()),
];

/// Returns when the next tick matters, or an hour from now.
fn due(scene: &Scene) -> Timestamp {
    let machine = scene.requests().get(&0);
    machine.and_then(|machine| machine.next_tick(&scene.upstream)).unwrap_or(Timestamp::from_millis(NOW + 3_600_000))
}

fn late(scene: &mut Scene, status: u16, headers: &[(&str, &str)]) -> Action {
    let attempt = late_attempt(scene);
    scene.at(NOW + 1).reply_to(attempt, status, headers)
}

/// Returns the number of the attempt before the newest.
fn late_attempt(scene: &Scene) -> u32 {
    scene.requests().get(&0).map_or(0, |machine| machine.attempts().saturating_sub(1))
}

fn snapshot() -> String {
    let failures = FAILURES.iter().map(|(kind, script)| {
        let failed: Box<dyn Fn() -> Scene> = Box::new(move || {
            let mut scene = script();
            scene.at(NOW).tick().fails(*kind);
            scene
        });
        (format!("failed, {kind:?}"), failed)
    });
    let states = STATES.iter().map(|(name, script)| {
        let state: Box<dyn Fn() -> Scene> = Box::new(script);
        ((*name).to_string(), state)
    });
    let mut text = String::from("# state | event | action\n");
    for (state, script) in states.chain(failures) {
        text.push('\n');
        for (event, tell) in EVENTS {
            let action = tell(&mut script());
            writeln!(text, "{state:26} | {event:17} | {}", action.short()).unwrap();
        }
    }
    text
}

#[test]
fn t3_every_event_in_every_state_has_its_answer() {
    let now = snapshot();
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(SNAPSHOT, &now).unwrap();
    }
    let before = fs::read_to_string(SNAPSHOT).expect("the snapshot is committed");
    for (now, before) in now.lines().zip(before.lines()) {
        assert_eq!(now, before, "a transition has changed; the top of this file says how to rewrite the snapshot");
    }
    assert_eq!(now.lines().count(), before.lines().count());
    let pairs = (STATES.len() + FAILURES.len()) * EVENTS.len();
    assert_eq!(now.lines().filter(|line| line.contains(" | ") && !line.starts_with('#')).count(), pairs);
}

#[test]
fn t3_an_ended_state_has_one_answer_to_everything() {
    let ends = STATES.iter().filter(|(name, _)| *name == "done").map(|(_, script)| script);
    for script in ends.chain(FAILURES.iter().map(|(_, script)| script)) {
        let answer = script().at(NOW).tick();
        assert!(answer.is_terminal());
        for (event, tell) in EVENTS {
            assert_eq!(tell(&mut script()), answer, "{event}");
        }
    }
}
