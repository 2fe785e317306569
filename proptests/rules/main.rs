//! Examples of each rule: a module for each group of rules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::too_many_lines)]

mod backing_off;
mod brake;
mod breaker;
mod budget;
mod dead_token;
mod deciding;
mod dialect;
mod gate;
mod heads;
mod late;
mod lease;
mod long_waits;
mod meaning;
mod measurement;
mod no_token;
mod pace;
mod parts;
mod queue;
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
mod young_token;
