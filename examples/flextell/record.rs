//! Records a call as a trace, and replays the trace: it must give the same actions.

use std::time::Duration;

use http::header::SET_COOKIE;
use retry_machine::drive::StepTrigger;
use retry_machine::replay::{EventRecord, RecordKind, Replay, ReplayError, RequestEvent, Settings};
use retry_machine::{Action, Event, Idempotency, RequestLimits};
use serde_json::json;

use crate::client::Response;
use crate::stories::ATTEMPT_TIMEOUT;
use crate::timeline::Entry;

/// Returns the trace of a call: a line of settings, and a line for each event. A trace holds events only: it has no
/// request, no token and no body of a success. It omits cookies. If your service sends other secrets in the headers of
/// its responses, omit them, too.
pub fn trace(seed: u64, unix_ms: u64, idempotency: Idempotency, entries: &[Entry]) -> Vec<String> {
    let attempt_timeout_ms = millis(ATTEMPT_TIMEOUT);
    let settings = json!({
        "preset": "flextell", "seed": seed, "unix_ms": unix_ms, "attempt_timeout_ms": attempt_timeout_ms,
    });
    let events = entries.iter().map(|entry| {
        let kind = RecordKind::Request { number: 0, event: request_event(idempotency, entry) };
        EventRecord { at_ms: entry.step.at.as_millis_ceil(), kind }.to_json().to_string()
    });
    [settings.to_string()].into_iter().chain(events).collect()
}

/// Converts what led to a step to its recorded form, in which a reply is still unread.
fn request_event(idempotency: Idempotency, entry: &Entry) -> RequestEvent {
    let event = match entry.step.trigger {
        StepTrigger::Event(event) => event,
        StepTrigger::Refreshed { lease, outcome } => return RequestEvent::Refreshed { lease: Some(lease), outcome },
    };
    match event {
        Event::Start => RequestEvent::Start { idempotency, limits: RequestLimits::default(), login: 0, gate: 0 },
        Event::Tick => RequestEvent::Tick,
        Event::Cancel => RequestEvent::Cancel,
        Event::TransportError { attempt, kind } => RequestEvent::TransportError { attempt: Some(attempt), kind },
        Event::Reply { attempt, reply } => {
            let response = entry.response.as_ref();
            let headers = response.into_iter().flat_map(Response::headers).filter(|(name, _)| *name != SET_COOKIE);
            let body = response.filter(|response| !response.status().is_success()).map(Response::body);
            RequestEvent::Reply {
                attempt: Some(attempt),
                status: reply.status(),
                headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
                body: body.cloned(),
                verdict: None,
                hint_ms: None,
            }
        }
    }
}

/// Replays a trace and returns its actions.
pub fn replay(trace: &[String]) -> Result<Vec<Action>, ReplayError> {
    let mut lines = trace.iter();
    let settings = Settings::parse(lines.next().map_or("{}", String::as_str))?;
    let mut replay = Replay::new(&settings)?;
    let mut actions = Vec::new();
    for line in lines {
        actions.extend(replay.step(&EventRecord::parse(line)?)?.map(|record| record.action));
    }
    Ok(actions)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
