//! Traces that carry their expectations.
//!
//! A line `#= {…}` behind an event says what the action line of that event must hold. A value is compared as it is;
//! `[a, b]` is a range; `{"not": x}` is anything else than `x`; `{"any": […]}` is one of these; any other object is
//! compared key by key. Other lines that start with `#` are comments. The action lines carry the facts of the response
//! (`replay --facts`).
#![allow(dead_code, unreachable_pub)]

use retry_machine::replay::{EventRecord, RecordKind, Replay, Settings};
use serde_json::Value;

/// The outcome of a trace with expectations.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The number of expectations.
    pub expected: usize,
    /// One sentence for each difference.
    pub differences: Vec<String>,
}

/// Replays the text of a trace and compares its actions with its expectations.
pub fn check(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut replay = None;
    let mut action: Option<Value> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(expected) = line.strip_prefix("#=") {
            outcome.expected += 1;
            match (serde_json::from_str(expected), &action) {
                (Ok(Value::Object(expected)), Some(action)) => {
                    for (key, want) in expected.iter().filter(|(key, want)| !holds(want, &action[key.as_str()])) {
                        let (got, explain) = (&action[key.as_str()], &action["explain"]);
                        outcome.differences.push(format!("line {number}: {key} is {got}, not {want}: {explain}"));
                    }
                }
                (Ok(_), Some(_)) => outcome.differences.push(format!("line {number}: not a JSON object")),
                (Ok(_), None) => outcome.differences.push(format!("line {number}: the line before it has no action")),
                (Err(error), _) => outcome.differences.push(format!("line {number}: {error}")),
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            match step(&mut replay, line) {
                Ok(answer) => action = answer,
                Err(error) => {
                    outcome.differences.push(format!("line {number} cannot be read: {error}"));
                    return outcome;
                }
            }
        }
    }
    outcome
}

/// Takes one line: the first may be the settings, all others are events.
fn step(replay: &mut Option<Replay>, line: &str) -> Result<Option<Value>, String> {
    let text = |error: retry_machine::replay::ReplayError| error.to_string();
    if replay.is_none() && !EventRecord::is_event(line) {
        *replay = Some(Replay::new(&Settings::parse(line).map_err(text)?).map_err(text)?);
        return Ok(None);
    }
    if replay.is_none() {
        *replay = Some(Replay::new(&Settings::parse("{}").map_err(text)?).map_err(text)?);
    }
    let replay = replay.as_mut().ok_or("the trace has no settings")?;
    let event = EventRecord::parse(line).map_err(text)?;
    let is_request = matches!(event.kind, RecordKind::Request { .. });
    let action = replay.step(&event).map_err(text)?;
    Ok(action.filter(|_| is_request).map(|action| action.to_json_with_facts()))
}

/// Compares a value of an action line with the one that is wanted.
fn holds(want: &Value, got: &Value) -> bool {
    match want {
        Value::Array(range) => match (range.as_slice(), got.as_f64()) {
            ([low, high], Some(got)) => {
                low.as_f64().is_some_and(|low| low <= got) && high.as_f64().is_some_and(|high| got <= high)
            }
            _ => false,
        },
        Value::Object(want) => match (want.get("not"), want.get("any")) {
            (Some(unwanted), _) => got != unwanted,
            (None, Some(any)) => any.as_array().is_some_and(|any| any.contains(got)),
            (None, None) => got.is_object() && want.iter().all(|(key, want)| holds(want, &got[key.as_str()])),
        },
        want => want == got,
    }
}
