//! The presets: each is held by its system's own published vectors or documented examples, and has a trace that tells
//! its story.
//!
//! A vector either holds, or is a row in the table of `docs/decisions.md`. The tests hold the table to the vectors, both
//! ways.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use retry_machine::replay::Settings;
use retry_machine::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream, presets};
use serde_json::Value;

mod aws;
#[path = "../common/expect.rs"]
mod expect;
mod grpc;
mod services;
mod traces;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn vectors(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{ROOT}/proptests/data/vectors/{file}.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

/// Returns the first cells of the table of vectors that are decided otherwise.
fn decided() -> BTreeSet<String> {
    let text = fs::read_to_string(format!("{ROOT}/docs/decisions.md")).unwrap();
    let (_, table) = text.split_once("## Vectors decided otherwise").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next()).flat_map(|ids| ids.split(", ")).map(String::from).collect()
}

/// One upstream, and the request that is under way.
struct Call {
    upstream: Upstream,
    machine: RetryMachine,
    now: Timestamp,
    seed: u64,
}

impl Call {
    fn new(policy: Policy) -> Call {
        Call::with(Upstream::new(policy), Idempotency::Idempotent)
    }

    fn with(upstream: Upstream, idempotency: Idempotency) -> Call {
        let mut call =
            Call { upstream, machine: RetryMachine::new(idempotency, 7), now: Timestamp::from_millis(1_000), seed: 7 };
        let _ = call.start(idempotency);
        call
    }

    /// Begins a request of its own at the same upstream.
    fn start(&mut self, idempotency: Idempotency) -> Action {
        self.seed += 1;
        self.machine = RetryMachine::new(idempotency, self.seed);
        self.tell(Event::Start)
    }

    fn tell(&mut self, event: Event) -> Action {
        self.machine.handle(self.now, event, &mut self.upstream)
    }

    /// Answers the attempt in flight, read with the policy's dialect.
    fn reply(&mut self, status: u16, headers: &[(&str, &str)]) -> Action {
        let reply = self.upstream.policy().read(status, headers.iter().copied());
        self.answer(reply)
    }

    fn answer(&mut self, reply: Reply) -> Action {
        self.tell(Event::Reply { attempt: self.machine.attempts(), reply })
    }

    /// Returns what the budget holds now.
    fn balance(&self) -> Option<u32> {
        self.upstream.service.budget_balance(self.now)
    }

    /// Waits as long as the machine asked for.
    fn obey(&mut self, action: Action) -> Action {
        let Action::Wait { until, .. } = action else { panic!("{action}") };
        self.now = until;
        self.tell(Event::Tick)
    }

    /// Returns the length of a wait.
    #[track_caller]
    fn wait(&self, action: Action) -> Duration {
        let Action::Wait { until, .. } = action else { panic!("{action}") };
        until.saturating_duration_since(self.now)
    }
}

#[test]
fn each_preset_is_found_by_its_name() {
    let names: Vec<_> = presets::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each name once");
    assert_eq!(names.len(), 15, "count the functions of the module when you add one");
    let page = fs::read_to_string(format!("{ROOT}/docs/trace_format.md")).unwrap();
    for (name, preset) in presets::ALL {
        assert_eq!(presets::named(name), Some(preset()), "{name}");
        let line = format!(r#"{{"preset": "{name}"}}"#);
        assert_eq!(Settings::parse(&line).unwrap().policy().unwrap(), preset(), "{name}");
        assert!(page.contains(&format!("`{name}`")), "docs/trace_format.md does not list {name}");
    }
    assert_eq!(presets::named("nobody"), None);
    assert!(Settings::parse(r#"{"preset": "nobody"}"#).is_err());
}

#[test]
fn each_preset_is_written_as_settings_and_read_again() {
    for (name, preset) in presets::ALL {
        let line = Settings::new(preset()).to_json().unwrap().to_string();
        assert_eq!(Settings::parse(&line).unwrap().policy().unwrap(), preset(), "{name}: {line}");
    }
}

#[test]
fn each_preset_passes_the_builder() {
    for (name, preset) in presets::ALL {
        assert_eq!(preset().into_builder().build(), Ok(preset()), "{name}");
    }
}
