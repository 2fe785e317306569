//! The readers that stand alone, each against oracles, against a renderer of its own, and against other projects' test
//! vectors (H3, H5, H7, F9).

#[path = "reading/read.rs"]
#[allow(dead_code, reason = "the tests of one reader use a part of it")]
mod read;

#[path = "reading/challenge.rs"]
mod challenge;
#[path = "reading/http_date.rs"]
mod http_date;
#[path = "reading/structured_field.rs"]
mod structured_field;
#[path = "reading/vectors.rs"]
mod vectors;
