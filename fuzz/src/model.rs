//! The crate against the reference model: bytes become a trace, and both agree on every action and every fact.

/// The model and the generator of the ordinary tests.
#[path = "../../proptests/reference"]
#[allow(dead_code, reason = "the ordinary tests use more of it")]
pub(super) mod reference {
    pub mod generator;
    pub mod model;
    pub mod reading;
}

use retry_machine::replay::{EventRecord, Replay, Settings};
use serde_json::Value;

use self::reference::generator::Generator;
use self::reference::model::Model;

/// Checks a trace: `data` chooses the setting and the events.
pub fn check(data: &[u8]) {
    let mut generator = Generator::from_bytes(data);
    let mut trace = vec![generator.setting.clone()];
    let setting = Settings::parse(&generator.setting.to_string()).expect("a setting");
    let mut replay = Replay::new(&setting).expect("a policy");
    let mut model = Model::new(&generator.setting).expect("a setting");
    while let Some(line) = generator.next_event() {
        let event = EventRecord::parse(&line.to_string()).expect("an event");
        let action = replay.step(&event).expect("an event of a request that was started");
        let action = action.map(|action| action.to_json_with_facts());
        let verdict = model.check(&line, action.as_ref());
        generator.answered(&line, action);
        trace.push(line);
        if let Err(why) = verdict {
            let trace: Vec<_> = trace.iter().map(Value::to_string).collect();
            panic!("{why}\n\nThe trace:\n{}", trace.join("\n"));
        }
    }
}
