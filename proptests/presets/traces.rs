//! The traces that tell each system's story: they carry their expectations.

use std::fs;

use retry_machine::presets;

use super::{ROOT, expect};

#[test]
fn each_preset_has_a_trace_that_holds() {
    let mut differences = String::new();
    for (name, _) in presets::ALL {
        let file = format!("{ROOT}/examples/replay/traces/preset_{name}.jsonl");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("\"preset\":\"{name}\"")), "{file} is about its preset");
        let outcome = expect::check(&text);
        assert!(outcome.expected >= 3, "{file} expects {} actions", outcome.expected);
        for difference in outcome.differences {
            differences += &format!("preset_{name}.jsonl, {difference}\n");
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn a_wrong_expectation_of_each_form_is_a_difference() {
    let differences = |expected: &str| {
        let trace = format!(
            "# A comment.\n{{\"jitter\":\"none\"}}\n{{\"at_ms\":0,\"event\":\"start\"}}\n\
             {{\"at_ms\":10,\"event\":\"reply\",\"status\":503,\"headers\":[[\"Retry-After\",\"5\"]]}}\n{expected}\n"
        );
        expect::check(&trace).differences.len()
    };
    let right = [
        r#"#= {"action":"wait","until_ms":5010}"#,
        r#"#= {"until_ms":[5010,5011],"reason":{"any":["backoff","retry_after"]}}"#,
        r#"#= {"reason":{"not":"backoff"},"facts":{"hint_ms":[5000,5000],"remaining":null}}"#,
    ];
    for expected in right {
        assert_eq!(differences(expected), 0, "{expected}");
    }
    let wrong = [
        r#"#= {"action":"send"}"#,
        r#"#= {"until_ms":[5011,6000]}"#,
        r#"#= {"reason":{"not":"retry_after"}}"#,
        r#"#= {"reason":{"any":["backoff","gate"]}}"#,
        r#"#= {"facts":{"hint_ms":4000}}"#,
        r#"#= {"nothing":{"of":"the kind"}}"#,
        r#"#= ["not an object"]"#,
        "#= not JSON",
        r#"{"at_ms":20,"event":"unheard"}"#,
    ];
    for expected in wrong {
        assert_eq!(differences(expected), 1, "{expected}");
    }
    assert_eq!(expect::check("#= {\"action\":\"send\"}").differences.len(), 1, "nothing happened before");
}
