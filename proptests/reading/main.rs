//! The readers that stand alone, each against oracles, against a renderer of its own, and against other projects' test
//! vectors (H3, H5, H7, F9).

#[allow(dead_code, reason = "the tests of one reader use a part of it")]
mod read;

mod challenge;
mod http_date;
mod structured_field;
mod vectors;
