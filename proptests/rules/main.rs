//! Examples of each rule: a module for each group of rules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::too_many_lines)]

mod backing_off;
mod breaker;
mod deciding;
mod dialect;
mod late;
mod meaning;
mod reading;
mod reading_bodies;
mod reading_limits;
mod reporting;
mod shared;
#[path = "../common/support.rs"]
mod support;
mod time;
mod token;
mod token_expiry;
mod verdict;
