//! Writes a call down as a trace, and makes sure that the trace tells all: replayed, it gives the same actions.

use std::time::Duration;

use http::header::SET_COOKIE;
use retry_machine::replay::{EventRecord, RecordKind, Replay, ReplayError, RequestEvent, Settings};
use retry_machine::{Action, Event, Idempotency};
use serde_json::json;

use crate::client::Response;
use crate::stories::ATTEMPT_TIMEOUT;
use crate::timeline::Step;

/// The trace of a call: a line of settings, and a line for each event. It holds what the machine was told, and so no
/// request, no token and no body of a success. What else a response's headers carry is for the recorder to judge:
/// cookies are left out.
pub fn trace(seed: u64, unix_ms: u64, idempotency: Idempotency, steps: &[Step]) -> Vec<String> {
    let attempt_timeout_ms = millis(ATTEMPT_TIMEOUT);
    let setting = json!({
        "preset": "flextell", "seed": seed, "unix_ms": unix_ms, "attempt_timeout_ms": attempt_timeout_ms,
    });
    let events = steps.iter().map(|step| {
        let kind = RecordKind::Request { number: 0, event: told(idempotency, step) };
        EventRecord { at_ms: step.at.as_millis_ceil(), kind }.to_json().to_string()
    });
    [setting.to_string()].into_iter().chain(events).collect()
}

/// What the machine was told, before it was read.
fn told(idempotency: Idempotency, step: &Step) -> RequestEvent {
    match step.event {
        Event::Start => RequestEvent::Start { idempotency },
        Event::Tick => RequestEvent::Tick,
        Event::Cancel => RequestEvent::Cancel,
        Event::Refreshed(outcome) => RequestEvent::Refreshed(outcome),
        Event::TransportError { attempt, kind } => RequestEvent::TransportError { attempt: Some(attempt), kind },
        Event::Reply { attempt, reply } => {
            let response = step.response.as_ref();
            let headers = response.into_iter().flat_map(Response::headers).filter(|(name, _)| *name != SET_COOKIE);
            let body = response.filter(|response| !response.status().is_success()).map(Response::body);
            RequestEvent::Reply {
                attempt: Some(attempt),
                status: reply.status(),
                headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
                body: body.cloned(),
            }
        }
    }
}

/// The actions that a trace leads to.
pub fn replay(trace: &[String]) -> Result<Vec<Action>, ReplayError> {
    let mut lines = trace.iter();
    let setting = Settings::parse(lines.next().map_or("{}", String::as_str))?;
    let mut replay = Replay::new(&setting)?;
    let mut actions = Vec::new();
    for line in lines {
        actions.extend(replay.step(&EventRecord::parse(line)?)?.map(|answer| answer.action));
    }
    Ok(actions)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
