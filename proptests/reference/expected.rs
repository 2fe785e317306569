//! The hand-made traces: the line after an event names its expected action, after `#>`.

use crate::reference::model::Model;
use serde_json::{Value, json};

struct Exchange {
    event: Value,
    expected: Option<String>,
}

fn traces() -> Vec<(String, Value, Vec<Exchange>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data/traces")).unwrap() {
        let path = entry.unwrap().path();
        let mut setting = json!({});
        let mut steps: Vec<Exchange> = Vec::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(expected) = line.strip_prefix("#> ") {
                steps.last_mut().unwrap().expected = Some(expected.to_string());
            } else if !line.starts_with('#') {
                let value: Value = serde_json::from_str(line).unwrap();
                match value.get("event") {
                    Some(_) => steps.push(Exchange { event: value, expected: None }),
                    None => setting = value,
                }
            }
        }
        all.push((path.file_name().unwrap().to_string_lossy().into_owned(), setting, steps));
    }
    assert!(all.len() > 40);
    all
}

/// Compares an action with `action key=value key="a value"`. Each value is JSON or a bare word, of the action or of its facts.
fn agrees(expected: &str, action: &Value) -> Result<(), String> {
    let (name, mut rest) = expected.split_once(' ').unwrap_or((expected, ""));
    if action["action"] != name {
        return Err("action".into());
    }
    while let Some((key, tail)) = rest.trim_start().split_once('=') {
        let end = match tail.strip_prefix('"') {
            Some(text) => text.find('"').unwrap() + 2,
            None => tail.find(' ').unwrap_or(tail.len()),
        };
        let (value, tail) = tail.split_at(end);
        let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        if *action.get(key).unwrap_or(&action["facts"][key]) != value {
            return Err(key.into());
        }
        rest = tail;
    }
    Ok(())
}

#[test]
fn every_trace_gives_the_actions_it_expects() {
    let mut wrong = Vec::new();
    for (name, setting, steps) in traces() {
        let mut model = Model::new(&setting).unwrap();
        for Exchange { event, expected } in steps {
            let action = model.predict(&event).unwrap_or_else(|why| panic!("{name}: {why}"));
            match (expected, action) {
                (Some(expected), Some(action)) => {
                    if let Err(key) = agrees(&expected, &action) {
                        wrong.push(format!("{name}: {event}\n  expected {expected}\n  but {key} of {action} differs"));
                    }
                }
                (None, None) => {}
                (expected, action) => wrong.push(format!("{name}: {event}: {expected:?} {action:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_model_agrees_with_itself_and_with_nothing_else() {
    for (name, setting, steps) in traces() {
        let mut model = Model::new(&setting).unwrap();
        for Exchange { event, .. } in steps {
            let action = model.clone().predict(&event).unwrap();
            if let Some(action) = &action {
                // Any other value of any key is a disagreement.
                for key in action.as_object().unwrap().keys().filter(|key| *key != "facts") {
                    let mut other = action.clone();
                    other[key] = json!("something else");
                    assert!(model.clone().check(&event, Some(&other)).is_err(), "{name}: {key} of {other}");
                }
            }
            model.check(&event, action.as_ref()).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

/// Returns whether a value is as a line behind `#=` says: equal, or within `[a, b]`, or as `not` and `any` say, or key by key.
fn holds(expected: &Value, seen: &Value) -> bool {
    match expected {
        Value::Array(range) => (range[0].as_f64()..=range[1].as_f64()).contains(&seen.as_f64()),
        Value::Object(map) => map.iter().all(|(key, value)| match (key.as_str(), value) {
            ("not", value) => seen != value,
            ("any", value) => value.as_array().unwrap().contains(seen),
            _ => holds(value, &seen[key]),
        }),
        value => value == seen,
    }
}

#[test]
fn every_trace_of_the_field_gives_the_actions_it_expects() {
    let folder = std::env::var("FIELD").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data/field").into());
    let (mut wrong, mut expectations) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut model = Model::new(&json!({})).unwrap();
        let mut latest = (Value::Null, Value::Null);
        for line in text.lines().filter(|line| path.extension().is_some_and(|e| e == "jsonl") && !line.is_empty()) {
            if let Some(expected) = line.strip_prefix("#=") {
                let expected: Value = serde_json::from_str(expected).unwrap();
                expectations += 1;
                if !holds(&expected, &latest.1) {
                    wrong.push(format!("{}: {}\n  expected {expected}\n  but {}", path.display(), latest.0, latest.1));
                }
            } else if !line.starts_with('#') {
                let value: Value = serde_json::from_str(line).unwrap();
                match value.get("event") {
                    None => model = Model::new(&crate::spelt_out(&value)).unwrap(),
                    Some(_) => {
                        let action = model.predict(&value).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
                        latest = (value, action.unwrap_or_default());
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(expectations > 80, "{expectations} expectations");
}
