//! Writes a call down as a trace, and makes sure that the trace tells all: replayed, it gives the same actions.

use std::time::Duration;

use http::header::SET_COOKIE;
use retry_machine::trace::{self, Replay, Setting, Told, TraceError, What};
use retry_machine::{Action, Event, Repeat};
use serde_json::json;

use crate::client::Response;
use crate::stories::ATTEMPT_TIMEOUT;
use crate::timeline::Step;

/// The trace of a call: a line of settings, and a line for each event. It holds what the machine was told, and so no
/// request, no token and no body of a success. What else a response's headers carry is for the recorder to judge:
/// cookies are left out.
pub fn trace(seed: u64, unix_ms: u64, repeat: Repeat, steps: &[Step]) -> Vec<String> {
    let attempt_timeout_ms = millis(ATTEMPT_TIMEOUT);
    let setting = json!({
        "preset": "flextell", "seed": seed, "unix_ms": unix_ms, "attempt_timeout_ms": attempt_timeout_ms,
    });
    let events = steps.iter().map(|step| {
        let what = What::Request { number: 0, event: told(repeat, step) };
        trace::Event { at_ms: step.at.as_millis_ceil(), what }.to_json().to_string()
    });
    [setting.to_string()].into_iter().chain(events).collect()
}

/// What the machine was told, before it was read.
fn told(repeat: Repeat, step: &Step) -> Told {
    match step.event {
        Event::Start => Told::Start { repeat },
        Event::Tick => Told::Tick,
        Event::Cancel => Told::Cancel,
        Event::Token(outcome) => Told::Token(outcome),
        Event::TransportError(attempt, kind) => Told::TransportError { attempt: Some(attempt), kind },
        Event::Reply(attempt, reply) => {
            let response = step.response.as_ref();
            let headers = response.into_iter().flat_map(Response::headers).filter(|(name, _)| *name != SET_COOKIE);
            let body = response.filter(|response| !response.status().is_success()).map(Response::body);
            Told::Reply {
                attempt: Some(attempt),
                status: reply.status(),
                headers: headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
                body: body.cloned(),
            }
        }
    }
}

/// The actions that a trace leads to.
pub fn replay(trace: &[String]) -> Result<Vec<Action>, TraceError> {
    let mut lines = trace.iter();
    let setting = Setting::parse(lines.next().map_or("{}", String::as_str))?;
    let mut replay = Replay::new(&setting)?;
    let mut actions = Vec::new();
    for line in lines {
        actions.extend(replay.step(&trace::Event::parse(line)?)?.map(|answer| answer.action));
    }
    Ok(actions)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
