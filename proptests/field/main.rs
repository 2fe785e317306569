//! Stories of real services and clients, as traces: each is named after its rule, tells its story in its first line, and
//! carries its expectations.

use std::fs;

#[path = "../common/expect.rs"]
mod expect;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data/field");

/// Returns the names and the texts of the traces, in order.
fn traces() -> Vec<(String, String)> {
    let mut traces: Vec<_> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    traces.sort();
    traces
}

/// Returns the rule that a file is named after.
fn rule(name: &str) -> &str {
    name.split('_').next().unwrap()
}

#[test]
fn b5_c1_c3_c10_c12_c13_d11_d12_d13_d15_d17_d18_h2_h6_k3_k5_k6_k9_k10_s8_the_traces_of_the_field_hold() {
    let mut differences = String::new();
    for (name, text) in traces() {
        assert!(text.starts_with("# "), "{name} tells its story first");
        let outcome = expect::check(&text);
        assert!(outcome.expected >= 4, "{name} expects {} actions", outcome.expected);
        for difference in outcome.differences {
            differences += &format!("{name}, {difference}\n");
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn each_kind_of_report_has_a_trace() {
    let rules: Vec<_> = traces().iter().map(|(name, _)| rule(name).to_owned()).collect();
    let expected = "b5 c10 c12 c13 c1 c3 d11 d11 d11 d11 d12 d13 d13 d15 d15 d17 d18 h2 h6 k10 k3 k5 k6 k6 k9 s8";
    assert_eq!(rules.join(" "), expected);
}
