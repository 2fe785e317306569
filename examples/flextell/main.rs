//! Two real HTTP clients, a blocking one and an async one, live through every line of the error-handling guide, and
//! then some, against a server on a loopback port.
//!
//! `cargo run --example flextell` tells all stories, each with a timeline, and ends with a table of what was expected
//! and what came of it. Time runs faster there; with `-- --real-time` it takes half a minute.
//! `-- --record STORY FILE` writes one story down as a trace for the example `replay`.
//!
//! The code to copy is `client/blocking.rs` or `client/future.rs`, with `client.rs` and `client/tokens.rs`.

#![allow(clippy::expect_used, reason = "an example may end where a system grants no port, thread or runtime")]
#![allow(unreachable_pub, reason = "what is to be copied is written as it would be in a library")]

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

/// Real HTTP clients against a server that keeps to the Flextell error-handling guide.
#[derive(Parser)]
struct Arguments {
    /// Let time run no faster than it does.
    #[arg(long)]
    real_time: bool,
    /// Record one story, told to the blocking client, as a trace.
    #[arg(long, num_args = 2, value_names = ["STORY", "FILE"])]
    record: Option<Vec<String>>,
}

/// How much faster time runs. With more, a busy machine's own delays would look like those of a slow server.
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
            _ => world.tell_all().await,
        }
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The server, and the time that it shares with its clients.
struct World {
    server: Server,
    clock: Clock,
}

/// A call under way, and what it takes to ask the server about it.
struct Playing {
    story: &'static Story,
    client: &'static str,
    grant: Grant,
    call: JoinHandle<Ended>,
}

impl World {
    /// Tells all stories to both clients at once, and prints them one after the other. Returns whether all went well.
    async fn tell_all(&self) -> bool {
        println!("Times are virtual: {} s of them pass in a second.\n", self.clock.factor);
        let seeds = (0..).step_by(2);
        let playing: Vec<_> = iter::zip(&STORIES, seeds)
            .map(|(story, seed)| (self.play_blocking(story, seed), self.play_async(story, seed + 1)))
            .collect();
        let mut rows = Vec::new();
        for (blocking, future) in playing {
            let row = (blocking.story, self.end(blocking).await, self.end(future).await);
            rows.push(row);
        }
        println!("{} stories took {:.1} s.", rows.len(), self.clock.origin.elapsed().as_secs_f32());
        println!("The numbers: attempts, refreshes, and how often the server did what it was asked for.\n");
        println!("{:<36} {:<29} {:<29} {:<29}", "story", "expected", "blocking got", "async got");
        for (story, blocking, future) in &rows {
            let complaints = [&blocking.complaints[..], &future.complaints[..]].concat().join("; ");
            let mark = if complaints.is_empty() { "✓".to_owned() } else { format!("✗ {complaints}") };
            println!("{:<36} {}  {}  {}  {mark}", story.title, story.ending, blocking.got, future.got);
        }
        rows.iter().all(|(_, blocking, future)| blocking.is_good() && future.is_good())
    }

    /// Tells one story to the blocking client, and writes it down. Returns whether all went well.
    async fn record(&self, name: &str, file: &str) -> Result<bool, String> {
        let story = STORIES.iter().find(|story| story.name == name).ok_or_else(|| {
            let names: Vec<_> = STORIES.iter().map(|story| story.name).collect();
            format!("There is no story {name:?}. There are {}.", names.join(", "))
        })?;
        let seed = 7;
        let verdict = self.end(self.play_blocking(story, seed)).await;
        let steps = &verdict.ended.steps;
        let trace = record::trace(seed, UNIX_ORIGIN_MS, story.repeat(), steps);
        let comment = format!("# Recorded by: cargo run --example flextell -- --record {name} FILE ({})", story.title);
        fs::write(file, format!("{comment}\n{}\n", trace.join("\n"))).map_err(|error| format!("{file}: {error}."))?;
        let replayed = record::replay(&trace).map_err(|error| format!("The trace cannot be replayed: {error}."))?;
        if !steps.iter().map(|step| &step.action).eq(&replayed) {
            return Err("Replayed, the trace gives other actions than the call took.".to_owned());
        }
        println!("{file}: {} events. Replayed, they give the same actions.", steps.len());
        Ok(verdict.is_good())
    }

    fn play_blocking(&self, story: &'static Story, seed: u64) -> Playing {
        let client = "blocking";
        let (account, call, grant) = story.begin(&self.server, self.clock, client, seed);
        let call = spawn_blocking(move || {
            let result = blocking::Client::new(account).call(&call);
            Ended::new(result, call.log)
        });
        Playing { story, client, grant, call }
    }

    fn play_async(&self, story: &'static Story, seed: u64) -> Playing {
        let client = "async";
        let (account, call, grant) = story.begin(&self.server, self.clock, client, seed);
        let call = tokio::spawn(async move {
            let result = future::Client::new(account).call(&call).await;
            Ended::new(result, call.log)
        });
        Playing { story, client, grant, call }
    }

    /// Waits for the call's end, and prints and judges it.
    async fn end(&self, playing: Playing) -> Verdict {
        let Playing { story, client, grant, call } = playing;
        let ended = call.await.expect("clients do not panic");
        let arrivals = self.server.arrivals(story.name, client);
        let verdict = Verdict::new(story, ended, &arrivals, self.server.refreshes(&grant));
        println!("== {}: {} by the {client} client ==\n{verdict}", story.title, story.method);
        verdict
    }
}
