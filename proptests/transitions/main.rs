//! State × event: the action of every pair, as a snapshot that a reader can review (T3), and the diagram of states that the
//! snapshot gives, for `docs/states.md`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test transitions` rewrites both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::time::Duration;
use std::{env, fs};

use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Event, FailureKind, RefreshOutcome, Timestamp, TransportErrorKind,
};

#[path = "../common/support.rs"]
mod support;
use support::{ABANDONED, Answer, REFRESHED, REJECTED, Scene, UNAVAILABLE, exact, secs};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data/snapshots/transitions.txt");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");

/// The instant of all states, in milliseconds.
const NOW: u64 = 10_000;

/// A state: its phase, its name in the snapshot after the phase, and its shortest script.
struct State {
    phase: &'static str,
    name: &'static str,
    /// The condition in the diagram, for transitions that only this state has.
    condition: &'static str,
    script: fn() -> Scene,
}

const fn state(phase: &'static str, name: &'static str, condition: &'static str, script: fn() -> Scene) -> State {
    State { phase, name, condition, script }
}

const STATES: [State; 33] = [
    state("ready", "", "", Scene::exact),
    state("ready", "gate closed", "gate closed", || {
        let mut scene = Scene::exact();
        close_gate(&mut scene);
        scene
    }),
    state("ready", "token due", "token due", || {
        let mut scene = Scene::exact();
        scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(15));
        scene
    }),
    state("ready", "token due, refresh under way", "", || {
        // The old token is still valid.
        let mut scene = Scene::exact();
        scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(15));
        scene.at(NOW).request(1).start().is("refresh until 40000");
        scene
    }),
    state("ready", "token dead, refresh under way", "refresh of a dead token under way", || {
        let mut scene = Scene::exact();
        lead(&mut scene);
        scene
    }),
    state("ready", "token rejected", "token rejected", || {
        let mut scene = Scene::exact();
        reject(&mut scene);
        scene
    }),
    state("in flight", "", "", || started(Scene::exact())),
    state("in flight", "limited", "attempt limit", || started(Scene::with(exact().attempt_timeout(Some(secs(15)))))),
    state("in flight", "again", "", || {
        let mut scene = Scene::exact();
        scene.at(0).start().is("send 1");
        scene.at(0).reply(503).is("wait 1000 backoff");
        scene.at(NOW).tick().is("send 2");
        scene
    }),
    state("in flight", "refresh under way", "refresh under way", || {
        let mut scene = started(Scene::exact());
        lead(&mut scene);
        scene
    }),
    state("in flight", "gate closed", "gate closed", || {
        let mut scene = started(Scene::exact());
        close_gate(&mut scene);
        scene
    }),
    state("in flight", "newer token", "newer token", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).token_replaced();
        scene
    }),
    state("in flight", "newer token, gate closed", "newer token, gate closed", || {
        let mut scene = started(Scene::exact());
        close_gate(&mut scene);
        scene.at(NOW).token_replaced();
        scene
    }),
    state("in flight", "no token", "no token", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).token_removed();
        scene
    }),
    state("in flight", "repeated", "second time", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).error(TransportErrorKind::Unprocessed).is("send 2");
        scene
    }),
    state("waiting", "back-off", "", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(503).is("wait 11000 backoff");
        scene
    }),
    state("waiting", "hint", "", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply_with(429, &[("Retry-After", "9")]).is("wait 19000 retry_after");
        scene
    }),
    state("waiting", "gate", "", || {
        let mut scene = Scene::exact();
        close_gate(&mut scene);
        scene.at(NOW).start().is("wait 19000 gate");
        scene
    }),
    state("waiting", "queue", "", || {
        // The gate has opened at 19 s, and the slot lies ahead.
        let mut scene = Scene::exact();
        close_gate(&mut scene);
        scene.at(NOW).start().is("wait 19000 gate");
        scene.at(19_000).tick().is("wait 21250 gate");
        scene
    }),
    state("waiting", "token due", "token due", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(503).is("wait 11000 backoff");
        scene.upstream.login.token_expires_in(Timestamp::from_millis(NOW), Duration::from_nanos(1));
        scene
    }),
    state("waiting", "token dead, refresh under way", "refresh of a dead token under way", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(503).is("wait 11000 backoff");
        scene.upstream.login.token_expires_in(Timestamp::from_millis(NOW), Duration::from_nanos(1));
        scene.at(NOW + 1).request(1).start().is("refresh until 40001");
        scene
    }),
    state("waiting", "token rejected", "token rejected", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(503).is("wait 11000 backoff");
        reject(&mut scene);
        scene
    }),
    state("leading", "early", "ahead of expiry", || {
        // The lease ends while the token is valid.
        let mut scene = Scene::with(exact().refresh_timeout(secs(3)));
        scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(15));
        scene.at(NOW).start().is("refresh until 13000");
        scene
    }),
    state("leading", "after a 401", "", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(401).is("refresh until 40000");
        scene
    }),
    state("leading", "after a 401, gate closed", "gate closed", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(401).is("refresh until 40000");
        scene.at(NOW).close_gate(19_000);
        scene
    }),
    state("following", "", "", || following(None)),
    state("following", "new token", "new token", || following(Some(REFRESHED))),
    state("following", "new token, gate closed", "new token, gate closed", || {
        let mut scene = started(Scene::exact());
        lead(&mut scene);
        scene.at(NOW).reply(401).is("await until 40000");
        scene.at(NOW).request(1).refreshed(REFRESHED).is("send 2 token 1");
        scene.at(NOW).request(1).reply_with(429, &[("Retry-After", "9")]).is("wait 19000 retry_after");
        scene
    }),
    state("following", "unavailable", "token unavailable", || following(Some(UNAVAILABLE))),
    state("following", "abandoned", "lease abandoned", || following(Some(ABANDONED))),
    state("following", "rejected", "token rejected", || following(Some(REJECTED))),
    state("following", "token removed", "token removed", || {
        let mut scene = following(None);
        scene.at(NOW).token_removed();
        scene
    }),
    state("done", "", "", || {
        let mut scene = started(Scene::exact());
        scene.at(NOW).reply(201).is("done 201");
        scene
    }),
];

/// Closes the gate until 19 s.
fn close_gate(scene: &mut Scene) {
    scene.at(0).request(1).start().is("send 1");
    scene.at(NOW).request(1).reply_with(429, &[("Retry-After", "9")]).is("wait 19000 retry_after");
}

/// Has the token rejected, for request 1.
fn reject(scene: &mut Scene) {
    lead(scene);
    let _ = scene.at(NOW).request(1).refreshed(REJECTED).fails(FailureKind::TokenRejected);
}

/// Lets request 1 lead a refresh.
fn lead(scene: &mut Scene) {
    scene.at(NOW).request(1).start().is("send 1");
    scene.at(NOW).request(1).reply(401).is("refresh until 40000");
}

/// Returns a scene in which request 0 follows request 1, after this outcome if there is one.
fn following(outcome: Option<RefreshOutcome>) -> Scene {
    let mut scene = started(Scene::exact());
    lead(&mut scene);
    scene.at(NOW).reply(401).is("await until 40000");
    if let Some(outcome) = outcome {
        let _ = scene.at(NOW).request(1).refreshed(outcome);
    }
    scene
}

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
        let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
        let mut scene = Scene::with(exact().breaker(Some(breaker)));
        scene.at(0).request(1).start().is("send 1");
        scene.at(0).request(1).reply(503).is("wait 1000 backoff");
        answered(scene, 503)
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

/// An event: its name in the snapshot, its kind in the diagram, and how to give it to request 0.
type NamedEvent = (&'static str, &'static str, fn(&mut Scene) -> Action);

const EVENTS: [NamedEvent; 26] = [
    ("start", "start", |scene| scene.at(NOW).start()),
    ("early tick", "tick", |scene| scene.at(NOW - 8_000).tick()),
    ("due tick", "tick", |scene| {
        let due = due(scene);
        scene.at_time(due).tick()
    }),
    ("reply 200", "2xx", |scene| scene.at(NOW + 1).reply(200)),
    ("reply 304", "3xx", |scene| scene.at(NOW + 1).reply(304)),
    ("reply 401", "401", |scene| scene.at(NOW + 1).reply(401)),
    ("reply 404", "status not retried", |scene| scene.at(NOW + 1).reply(404)),
    ("reply 429", "retried status", |scene| scene.at(NOW + 1).reply(429)),
    ("reply 429 in 30 s", "retried status", |scene| scene.at(NOW + 1).reply_with(429, &[("Retry-After", "30")])),
    ("reply 503", "retried status", |scene| scene.at(NOW + 1).reply(503)),
    ("late 200", "late 2xx", |scene| late(scene, 200, &[])),
    ("late 401", "late reply", |scene| late(scene, 401, &[])),
    ("late 429 in 30 s", "late reply", |scene| late(scene, 429, &[("Retry-After", "30")])),
    ("unprocessed", "unprocessed", |scene| scene.at(NOW + 1).error(TransportErrorKind::Unprocessed)),
    ("permanent", "permanent error", |scene| scene.at(NOW + 1).error(TransportErrorKind::Permanent)),
    ("not sent", "transport error", |scene| scene.at(NOW + 1).error(TransportErrorKind::NotSent)),
    ("timed out", "transport error", |scene| scene.at(NOW + 1).error(TransportErrorKind::TimedOut)),
    ("broken", "transport error", |scene| scene.at(NOW + 1).error(TransportErrorKind::Broken)),
    ("other error", "transport error", |scene| scene.at(NOW + 1).error(TransportErrorKind::Other)),
    ("late error", "late error", |scene| {
        let attempt = late_attempt(scene);
        scene.at(NOW + 1).tell(Event::TransportError { attempt, kind: TransportErrorKind::Broken })
    }),
    ("refreshed", "refreshed", |scene| scene.at(NOW + 1).refreshed(REFRESHED)),
    ("refreshed, due", "refreshed", |scene| {
        let due = due(scene);
        scene.at_time(due).refreshed(REFRESHED)
    }),
    ("rejected", "rejected", |scene| scene.at(NOW + 1).refreshed(REJECTED)),
    ("unavailable", "unavailable", |scene| scene.at(NOW + 1).refreshed(UNAVAILABLE)),
    ("abandoned", "abandoned", |scene| scene.at(NOW + 1).refreshed(ABANDONED)),
    ("cancel", "cancel", |scene| scene.at(NOW + 1).cancel()),
];

/// Returns when the next tick matters, or an hour from now.
fn due(scene: &Scene) -> Timestamp {
    let machine = scene.requests().get(&0);
    machine
        .and_then(|machine| machine.next_tick(scene.upstream.policy()))
        .unwrap_or(Timestamp::from_millis(NOW + 3_600_000))
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
    let states = STATES.iter().map(|state| {
        let name = if state.name.is_empty() { state.phase.into() } else { format!("{}, {}", state.phase, state.name) };
        let script: Box<dyn Fn() -> Scene> = Box::new(state.script);
        (name, script)
    });
    let mut text = String::from("# state | event | action\n");
    for (state, script) in states.chain(failures) {
        text.push('\n');
        for (event, _, tell) in EVENTS {
            let action = tell(&mut script());
            writeln!(text, "{state:39} | {event:17} | {}", action.short()).unwrap();
        }
    }
    text
}

/// Returns the phase after an action, if the action says it.
fn phase_after(action: &Action) -> Option<&'static str> {
    match action {
        Action::Send { .. } => Some("in flight"),
        Action::Wait { .. } => Some("waiting"),
        Action::RefreshToken { .. } => Some("leading"),
        Action::AwaitRefresh { .. } => Some("following"),
        Action::Done { .. } => Some("done"),
        Action::Fail(_) => Some("failed"),
        // The attempt or the refresh goes on.
        Action::InFlight { .. } => None,
    }
}

/// Returns the kind of an event in the diagram, or `None` if the page explains the event in a sentence.
fn kind_in(phase: &str, condition: &str, kind: &'static str) -> Option<&'static str> {
    let is_outcome = matches!(kind, "refreshed" | "rejected" | "unavailable" | "abandoned");
    match (phase, kind) {
        ("ready", "start" | "cancel") => Some(kind),
        ("ready", _) => None,
        ("in flight" | "waiting", _) if is_outcome => None,
        // An outcome that comes after that of the condition.
        ("following", _) if is_outcome && !condition.is_empty() => None,
        ("waiting" | "leading" | "following", "2xx") => Some("late 2xx"),
        _ => Some(kind),
    }
}

/// Returns the events that lead from one phase to another, in few words. One with a condition is left out where it leads
/// there under a part of that condition, too.
fn label(from: &str, to: &str) -> String {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let (plain, conditional): (Vec<_>, Vec<_>) =
        STATES.iter().filter(|state| state.phase == from).partition(|state| state.condition.is_empty());
    for State { condition, script, .. } in plain.into_iter().chain(conditional) {
        for (_, kind, tell) in EVENTS {
            let Some(kind) = kind_in(from, condition, kind) else { continue };
            let is_known = found.iter().any(|(known, part)| *known == kind && condition.contains(part));
            if !is_known && phase_after(&tell(&mut script())) == Some(to) {
                found.push((kind, condition));
            }
        }
    }
    let words = found.iter().map(|(kind, condition)| match *condition {
        "" => (*kind).to_owned(),
        condition => format!("{kind} ({condition})"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Returns the page with the diagram: an arrow for each pair of phases that the scenes reach.
fn page() -> String {
    let phases = [
        ("ready", "Ready"),
        ("in flight", "InFlight"),
        ("waiting", "Waiting"),
        ("leading", "Leading"),
        ("following", "Following"),
        ("done", "Done"),
        ("failed", "Failed"),
    ];
    let mut diagram = String::from("stateDiagram-v2\n    [*] --> Ready\n");
    for (from, node) in phases {
        // An attempt in flight leads to another one where it is sent again at once.
        for (to, other) in phases.into_iter().filter(|(to, _)| *to != from || from == "in flight") {
            let label = label(from, to);
            if !label.is_empty() {
                writeln!(diagram, "    {node} --> {other}: {label}").unwrap();
            }
        }
    }
    diagram += "    Done --> [*]\n    Failed --> [*]\n";
    format!(
        "# States of a request\n\n\
         Each arrow names the events that lead from one state to another, or to the next attempt, with a condition in parentheses. \
         The first\nevent starts a request, whatever it is, except `cancel`. The outcome of a refresh is told to the login, and then \
         acts as a tick for a\nrequest that leads or follows. A limit of the policy leads to `Failed` in place of the next send \
         or wait.\n\n```mermaid\n{diagram}```\n\n\
         `UPDATE_SNAPSHOTS=1 cargo test --test transitions` draws the diagram from the scenes in `proptests/transitions/main.rs`. \
         Each scene brings a\nrequest into a state, and gets every event. `proptests/data/snapshots/transitions.txt` lists each \
         action. In these scenes, an event without\nan arrow leaves the request in its state.\n"
    )
}

#[test]
fn t3_the_diagram_of_states_shows_every_arrow_of_the_scenes() {
    let page = page();
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let before = fs::read_to_string(PAGE).expect("the page is committed");
    assert_eq!(page, before, "the diagram is out of date; the top of this file says how to rewrite it");
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
    let ends = STATES.iter().filter(|state| state.phase == "done").map(|state| &state.script);
    for script in ends.chain(FAILURES.iter().map(|(_, script)| script)) {
        let answer = script().at(NOW).tick();
        assert!(answer.is_terminal());
        for (event, _, tell) in EVENTS {
            assert_eq!(tell(&mut script()), answer, "{event}");
        }
    }
}
