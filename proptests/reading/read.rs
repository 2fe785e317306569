//! The readers' own files: they are no part of the crate's interface, and stand alone.

#[path = "../../src/reply/challenge.rs"]
pub mod challenge;
#[path = "../../src/reply/http_date.rs"]
pub mod http_date;
#[path = "../../src/reply/structured_field.rs"]
pub mod structured_field;
