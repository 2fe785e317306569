//! The crate against the reference model: bytes become a trace, and the two agree on every action and every fact read.

/// The same model and the same generator as in the ordinary tests.
#[path = "../../proptests/reference"]
#[allow(dead_code, reason = "the ordinary tests ask for more")]
mod reference {
    pub mod generator;
    pub mod model;
    pub mod reading;
}

use std::time::Duration;

use retry_machine::trace::{Event, Replay, Setting, Told, What};
use retry_machine::{Repeat, TokenOutcome, TransportError};
use serde_json::Value;

use self::reference::generator::Generator;
use self::reference::model::Model;

/// `data` says what the setting is and what happens.
pub fn check(data: &[u8]) {
    let mut generator = Generator::from_bytes(data);
    let mut trace = vec![generator.setting.clone()];
    let setting = Setting::parse(&generator.setting.to_string()).expect("a setting");
    let mut replay = Replay::new(&setting).expect("a policy");
    let mut model = Model::new(&generator.setting).expect("a setting");
    while let Some(line) = generator.next_event() {
        let action = replay.step(&event(&line)).expect("an event of a request that was started");
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

/// What the line says. To write and parse it takes longer than all else; the target `trace` does.
fn event(line: &Value) -> Event {
    let number = |key: &str| line[key].as_u64();
    let attempt = || number("attempt").map(|attempt| u32::try_from(attempt).expect("a small number"));
    let time = |key: &str| number(key).map(Duration::from_millis);
    let told = match line["event"].as_str().expect("a name") {
        "start" if line["repeat"] == "unsafe" => Told::Start { repeat: Repeat::Unsafe },
        "start" => Told::Start { repeat: Repeat::Safe },
        "tick" => Told::Tick,
        "cancel" => Told::Cancel,
        "token" => Told::Token(match line["outcome"].as_str().expect("a name") {
            "refreshed" => TokenOutcome::Refreshed { expires_in: time("expires_in_ms") },
            "rejected" => TokenOutcome::Rejected,
            _ => TokenOutcome::Unavailable { retry_after: time("retry_after_ms") },
        }),
        "transport_error" => {
            let kind = match line["kind"].as_str().expect("a name") {
                "not_sent" => TransportError::NotSent,
                "timed_out" => TransportError::TimedOut,
                "broken" => TransportError::Broken,
                _ => TransportError::Other,
            };
            Told::TransportError { attempt: attempt(), kind }
        }
        "reply" => {
            let text = |value: &Value| value.as_str().expect("text").to_string();
            let header = |pair: &Value| (text(&pair[0]), text(&pair[1]).into_bytes());
            Told::Reply {
                attempt: attempt(),
                status: number("status").and_then(|status| u16::try_from(status).ok()).expect("a status"),
                headers: line["headers"].as_array().into_iter().flatten().map(header).collect(),
                body: line["body"].as_str().map(|body| body.as_bytes().to_vec()),
            }
        }
        name => {
            let expires_in_ms = number("expires_in_ms");
            let what = if name == "open_gate" { What::OpenGate } else { What::TokenReplaced { expires_in_ms } };
            return Event { at_ms: number("at_ms").expect("an instant"), what };
        }
    };
    let what = What::Request { number: number("request").expect("a request"), event: told };
    Event { at_ms: number("at_ms").expect("an instant"), what }
}
