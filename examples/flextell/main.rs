//! Two real HTTP clients, a blocking one and an async one, live through every line of the error-handling guide, and
//! more, against a server on a loopback port.
//!
//! `cargo run --example flextell` plays all stories, prints a timeline of each, and ends with a table of expected and
//! actual results. Its time runs faster than real time; with `-- --real-time` it takes half a minute.
//! `-- --record STORY FILE` records one story as a trace for the example `replay`.
//!
//! The code to copy is `client/blocking.rs` or `client/future.rs`, with `client.rs` and `client/tokens.rs`.

#![allow(clippy::expect_used, reason = "an example may end if the system grants no port, thread or runtime")]
#![allow(unreachable_pub, reason = "code to copy is written as in a library")]

mod client;
mod record;
mod server;
mod stories;
mod timeline;
mod verdict;

use std::process::ExitCode;
use std::time::Instant;
use std::{fs, iter};

use clap::Parser;
use tokio::runtime;
use tokio::task::{JoinHandle, spawn_blocking};

use self::client::{blocking, future};
use self::server::{Clock, Grant, Server};
use self::stories::{STORIES, Story};
use self::verdict::{Ended, Verdict};

/// Runs real HTTP clients against a server that fails as the Flextell error-handling guide says.
#[derive(Parser)]
struct Arguments {
    /// Do not speed up time.
    #[arg(long)]
    real_time: bool,
    /// Record one story, played by the blocking client, as a trace.
    #[arg(long, num_args = 2, value_names = ["STORY", "FILE"])]
    record: Option<Vec<String>>,
}

/// The factor by which time runs faster. With a larger one, the delays of a busy computer would look like those of a
/// slow server.
const FACTOR: u32 = 10;

/// 22 November 2027, 10:00:00.700: between two whole seconds, as most instants are.
const UNIX_ORIGIN_MS: u64 = 1_826_877_600_700;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let factor = if arguments.real_time { 1 } else { FACTOR };
    let clock = Clock { origin: Instant::now(), unix_origin_ms: UNIX_ORIGIN_MS, factor };
    let world = World { server: Server::start(clock), clock };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let good = runtime.block_on(async {
        match arguments.record.as_deref() {
            Some([story, file]) => world.record(story, file).await.unwrap_or_else(|sentence| {
                eprintln!("{sentence}");
                false
            }),
            _ => world.play_all().await,
        }
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The server, and the time that it shares with its clients.
struct World {
    server: Server,
    clock: Clock,
}

/// A call under way, with the facts that identify it on the server.
struct Playing {
    story: &'static Story,
    client: &'static str,
    grant: Grant,
    call: JoinHandle<Ended>,
}

impl World {
    /// Plays all stories with both clients at once, and prints them one after the other. Returns whether each ended as
    /// expected.
    async fn play_all(&self) -> bool {
        println!("Times are virtual: one real second is {} virtual seconds.\n", self.clock.factor);
        let entropies = (0..).step_by(2);
        let playing: Vec<_> = iter::zip(&STORIES, entropies)
            .map(|(story, entropy)| (self.play_blocking(story, entropy), self.play_async(story, entropy + 1)))
            .collect();
        let mut rows = Vec::new();
        for (blocking, future) in playing {
            let row = (blocking.story, self.end(blocking).await, self.end(future).await);
            rows.push(row);
        }
        println!("{} stories took {:.1} s.", rows.len(), self.clock.origin.elapsed().as_secs_f32());
        println!("The numbers: attempts, token refreshes, and the times that the request took effect on the server.\n");
        println!("{:<36} {:<29} {:<29} {:<29}", "story", "expected", "blocking", "async");
        for (story, blocking, future) in &rows {
            let complaints = [&blocking.complaints[..], &future.complaints[..]].concat().join("; ");
            let mark = if complaints.is_empty() { "✓".to_owned() } else { format!("✗ {complaints}") };
            println!("{:<36} {}  {}  {}  {mark}", story.title, story.ending, blocking.got, future.got);
        }
        rows.iter().all(|(_, blocking, future)| blocking.is_good() && future.is_good())
    }

    /// Plays one story with the blocking client, and records it. Returns whether it ended as expected.
    async fn record(&self, name: &str, file: &str) -> Result<bool, String> {
        let story = STORIES.iter().find(|story| story.name == name).ok_or_else(|| {
            let names: Vec<_> = STORIES.iter().map(|story| story.name).collect();
            format!("There is no story {name:?}. The stories are {}.", names.join(", "))
        })?;
        let seed = 7;
        let verdict = self.end(self.play_blocking(story, seed)).await;
        let entries = &verdict.ended.entries;
        let trace = record::trace(seed, UNIX_ORIGIN_MS, story.idempotency(), entries);
        let comment = format!("# Recorded by: cargo run --example flextell -- --record {name} FILE ({})", story.title);
        fs::write(file, format!("{comment}\n{}\n", trace.join("\n"))).map_err(|error| format!("{file}: {error}."))?;
        let replayed = record::replay(&trace).map_err(|error| format!("The trace cannot be replayed: {error}."))?;
        if !entries.iter().map(|entry| &entry.step.action).eq(&replayed) {
            return Err("The replayed trace gives other actions than the recorded call.".to_owned());
        }
        println!("{file}: {} events. The replay gives the same actions.", entries.len());
        Ok(verdict.is_good())
    }

    fn play_blocking(&self, story: &'static Story, entropy: u64) -> Playing {
        let client = "blocking";
        let (account, call, grant) = story.begin(&self.server, self.clock, client, entropy);
        let call = spawn_blocking(move || {
            let result = blocking::Client::new(account).call(&call);
            Ended::new(result, call.log)
        });
        Playing { story, client, grant, call }
    }

    fn play_async(&self, story: &'static Story, entropy: u64) -> Playing {
        let client = "async";
        let (account, call, grant) = story.begin(&self.server, self.clock, client, entropy);
        let call = tokio::spawn(async move {
            let result = future::Client::new(account).call(&call).await;
            Ended::new(result, call.log)
        });
        Playing { story, client, grant, call }
    }

    /// Waits for the end of the call, compares it with the expected one, and prints it.
    async fn end(&self, playing: Playing) -> Verdict {
        let Playing { story, client, grant, call } = playing;
        let ended = call.await.expect("clients do not panic");
        let arrivals = self.server.arrivals(story.name, client);
        let verdict = Verdict::new(story, ended, &arrivals, self.server.refreshes(&grant));
        println!("== {}: {} by the {client} client ==\n{verdict}", story.title, story.method);
        verdict
    }
}
