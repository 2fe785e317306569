//! What must hold for any input: a plain function for each fuzz target.
//!
//! A target calls its function with what the fuzzer makes up; an ordinary test includes this file and calls it with
//! the inputs in `corpus/`.

pub mod body;
pub mod challenge;
pub mod events;
pub mod http_date;
pub mod model;
pub mod oracle;
pub mod rate_limit;
pub mod replay;
pub mod response;
pub mod retry_after;
pub mod snapshot;
pub mod structured_field;

/// A check: panics if what it is given breaks a rule.
pub type Check = fn(&[u8]);

/// Each target's name, which is also the name of its folder in `corpus/`, and its check.
pub const CHECKS: [(&str, Check); 11] = [
    ("body", body::check),
    ("challenge", challenge::check),
    ("events", events::check),
    ("http_date", http_date::check),
    ("model", model::check),
    ("rate_limit", rate_limit::check),
    ("replay", replay::check),
    ("response", response::check),
    ("retry_after", retry_after::check),
    ("snapshot", snapshot::check),
    ("structured_field", structured_field::check),
];
