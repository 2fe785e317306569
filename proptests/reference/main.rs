//! The crate against a reference model: a second, independent, obvious implementation, written from the rules and not from
//! the code. Both get the same events, for many requests on one upstream. The tests compare every action and every fact
//! read. A disagreement is a bug in one of them.
//!
//! `TRACES=100000 cargo test --release --test reference` runs more traces.

#[path = "."]
mod reference {
    pub mod generator;
    pub mod model;
    pub mod reading;
}

mod bounds;
mod expected;
mod often;

use std::fs;

use reference::generator::Generator;
use reference::model::Model;
use retry_machine::replay::{EventRecord, Replay, Settings};
use serde_json::Value;

/// Returns the action line with which the crate answers an event line.
fn answer(replay: &mut Replay, event: &Value) -> Option<Value> {
    let event = EventRecord::parse(&event.to_string()).unwrap();
    replay.step(&event).unwrap().map(|action| action.to_json_with_facts())
}

fn start(setting: &Value) -> (Replay, Model) {
    let replay = Replay::new(&Settings::parse(&setting.to_string()).unwrap()).unwrap();
    (replay, Model::new(&spelt_out(setting)).unwrap())
}

/// Returns the settings with the crate's own spelling of a preset that the model does not know: a service's numbers are not
/// rules. The traces give such a preset whole keys only.
fn spelt_out(setting: &Value) -> Value {
    match setting["preset"].as_str() {
        None | Some("flextell" | "common") => setting.clone(),
        Some(_) => Settings::parse(&setting.to_string()).unwrap().to_json().unwrap(),
    }
}

/// Returns the first disagreement. A trace that one of them refuses has none.
fn disagreement(setting: &Value, events: &[Value]) -> Option<String> {
    let mut replay = Replay::new(&Settings::parse(&setting.to_string()).ok()?).ok()?;
    let mut model = Model::new(&spelt_out(setting)).ok()?;
    for event in events {
        let record = EventRecord::parse(&event.to_string()).ok()?;
        let action = replay.step(&record).ok()?.map(|action| action.to_json_with_facts());
        match model.check(event, action.as_ref()) {
            Err(why) if why.starts_with("trace: ") => return None,
            Err(why) => return Some(why),
            Ok(()) => {}
        }
    }
    None
}

/// Leaves out whatever a disagreement does not need. Returns the trace and the disagreement.
fn shortened(mut setting: Value, mut events: Vec<Value>) -> (Vec<Value>, String) {
    let mut why = disagreement(&setting, &events).expect("a trace on which they disagree");
    let mut n = events.len();
    while n > 0 {
        n -= 1;
        let event = events.remove(n);
        match disagreement(&setting, &events) {
            Some(other) => why = other,
            None => events.insert(n, event),
        }
    }
    let keys: Vec<String> = setting.as_object().expect("an object").keys().cloned().collect();
    for key in keys {
        let value = setting.as_object_mut().and_then(|map| map.remove(&key)).expect("one of its keys");
        match disagreement(&setting, &events) {
            Some(other) => why = other,
            None => setting[key] = value,
        }
    }
    events.insert(0, setting);
    (events, why)
}

#[test]
fn the_crate_and_the_model_agree_on_generated_traces() {
    let traces = std::env::var("TRACES").map_or(1_500, |traces| traces.parse().unwrap());
    for seed in 0..traces {
        let mut generator = Generator::new(seed);
        let (mut replay, mut model) = start(&generator.setting);
        let mut events = Vec::new();
        while let Some(event) = generator.next_event() {
            events.push(event.clone());
            let action = answer(&mut replay, &event);
            if model.check(&event, action.as_ref()).is_err() {
                let (trace, why) = shortened(generator.setting, events);
                let trace: Vec<_> = trace.iter().map(Value::to_string).collect();
                panic!("seed {seed}: {why}\n\nThe trace, shortened:\n{}", trace.join("\n"));
            }
            generator.answered(&event, action);
        }
    }
    println!("{traces} traces, every action agreed on");
}

#[test]
fn the_crate_and_the_model_agree_on_written_traces() {
    let mut traces = 0;
    for folder in ["proptests/data/traces", "examples/replay/traces"] {
        for entry in fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let mut lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()).peekable();
            let setting =
                lines.next_if(|line| line.get("event").is_none()).unwrap_or(Value::Object(Default::default()));
            let (mut replay, mut model) = start(&setting);
            for event in lines {
                let action = answer(&mut replay, &event);
                model.check(&event, action.as_ref()).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            }
            traces += 1;
        }
    }
    assert!(traces > 60, "{traces} traces");
}
