//! The drivers: how they carry out each action, what they return, and that nothing a client does loses a refresh.
//!
//! Time is virtual wherever it can be: a test moves the clock, and nothing sleeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../common/support.rs"]
mod support;

mod callbacks;
mod parts;
mod races;
mod refresh;
mod resumed;
mod script;
mod story;
mod stress;
mod threads;
mod world;
