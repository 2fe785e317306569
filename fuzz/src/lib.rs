//! The checks of the fuzz targets: a plain function for each, which must hold for any input.
//!
//! A target calls its function with the fuzzer's input. An ordinary test includes this file and calls the functions with the
//! inputs in `corpus/`.

pub mod body;
pub mod challenge;
/// The oracle of the property tests.
#[path = "../../proptests/common"]
pub mod common {
    pub mod bounds;
    pub mod history;
    pub mod oracle;
    pub mod response;
    pub mod settings;
}
pub mod events;
pub mod http_date;
pub mod model;
pub mod rate_limit;
pub mod replay;
pub mod response;
pub mod retry_after;
pub mod second_reader;
pub mod snapshot;
pub mod structured_field;

/// A check, which panics if its input makes the crate break a rule.
pub type Check = fn(&[u8]);

/// The name of each target, which is also the name of its folder in `corpus/`, with its check.
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
