//! Each rule by examples: a module for each group of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::too_many_lines)]

mod backing_off;
mod breaker;
mod deciding;
mod late;
mod reading;
mod reading_bodies;
mod reading_limits;
mod shared;
#[path = "../common/support.rs"]
mod support;
mod surfacing;
mod time;
mod token;
mod token_expiry;
