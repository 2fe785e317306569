//! K3, K5, K8, K9, K11: a thousand requests at once on one login, against the loopback server of the example `flextell`,
//! whose refresh tokens rotate and whose grants are revoked when one is replayed. Real threads and tokio tasks, real HTTP.
//!
//! In the storms requests are dropped and cancelled before, during and after their refresh, refreshes panic, hang and exceed
//! their lease, requests meet their deadlines, and users log in and out. Still each refresh token is used once, no request
//! sends the token of another login, and none is stuck.
//!
//! `STAMPEDES=100 cargo test --release --test stampede -- --nocapture` runs a hundred rounds of each, and prints their seeds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[allow(dead_code, unused_imports, reason = "the example uses more of it")]
#[path = "../../examples/flextell"]
mod flextell {
    pub mod server;
}

mod account;
mod tasks;
mod threads;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use account::Chaos;
use flextell::server::{Clock, Server};

const REQUESTS: u64 = 1_000;

/// Runs rounds, each with a seed of its own, and fails if one does not end.
fn rounds(name: &str, chaos: Chaos, round: fn(&Server, u64, Chaos)) {
    let first = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let count: u64 = std::env::var("STAMPEDES").map_or(1, |rounds| rounds.parse().unwrap());
    for n in 0..count {
        let seed = first.wrapping_add(n);
        println!("{name}: SEED={seed}");
        let (done, is_done) = mpsc::channel();
        let running = thread::spawn(move || {
            let server = Server::start(Clock { origin: Instant::now(), unix_origin_ms: 1_700_000_000_000, factor: 1 });
            round(&server, seed, chaos);
            let _ = done.send(());
        });
        match is_done.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name}: stuck, SEED={seed}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{name}: failed, SEED={seed}"),
        }
        running.join().unwrap();
    }
}

#[test]
fn k3_a_thousand_threads_refresh_once() {
    rounds("calm threads", Chaos::None, threads::round);
}

#[test]
fn k3_a_thousand_tasks_refresh_once() {
    rounds("calm tasks", Chaos::None, tasks::round);
}

#[test]
fn k11_a_storm_of_tasks_never_replays_a_refresh_token() {
    rounds("storm of tasks", Chaos::All, tasks::round);
}

#[test]
fn k11_a_storm_of_threads_never_replays_a_refresh_token() {
    rounds("storm of threads", Chaos::All, threads::round);
}
