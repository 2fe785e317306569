//! Traces: any line gives an action, nothing, or an error with a sentence.

use retry_machine::replay::{EventRecord, Replay, ReplayError, Settings};

/// Checks `data` as a trace.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = run(lines());
    assert_eq!(run(lines()), first, "I12");
}

/// Replays the lines, up to the first one with an error, and returns the output.
fn run<'a>(mut lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut output = Vec::new();
    let Some(first) = lines.next() else { return output };
    let (setting, begin) = match EventRecord::is_event(first) {
        true => (Settings::parse("{}"), Some(first)),
        false => (Settings::parse(first), None),
    };
    let mut replay = match setting.and_then(|setting| Replay::new(&setting)) {
        Ok(replay) => replay,
        Err(error) => return vec![sentence(&error)],
    };
    for line in begin.into_iter().chain(lines) {
        match EventRecord::parse(line).and_then(|event| step(&mut replay, &event)) {
            Ok(Some(line)) => output.push(line),
            Ok(None) => {}
            Err(error) => {
                output.push(sentence(&error));
                break;
            }
        }
    }
    output
}

fn step(replay: &mut Replay, event: &EventRecord) -> Result<Option<String>, ReplayError> {
    let written = event.to_json().to_string();
    assert_eq!(EventRecord::parse(&written).as_ref(), Ok(event), "an event survives being written: {written}");
    let Some(action) = replay.step(event)? else { return Ok(None) };
    assert_eq!((action.at_ms, action.to_json()["at_ms"].as_u64()), (event.at_ms, Some(event.at_ms)));
    assert!(action.to_json()["explain"].as_str().is_some_and(|sentence| !sentence.is_empty()), "E2");
    Ok(Some(action.to_json_with_facts().to_string()))
}

fn sentence(error: &ReplayError) -> String {
    let sentence = error.to_string();
    assert!(!sentence.is_empty());
    sentence
}
