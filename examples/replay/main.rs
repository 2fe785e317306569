//! Replays a trace: reads JSON Lines of events and prints JSON Lines of actions.
//!
//! `cargo run --example replay -- [--timeline] [--facts] FILE`, with `-` for standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;

use clap::Parser;
use retry_machine::replay::{ActionRecord, EventRecord, Replay, ReplayError, Settings};

/// Replays a trace of a retry machine.
#[derive(Parser)]
struct Arguments {
    /// Print text for people: one line for each step, with its explanation.
    #[arg(long)]
    timeline: bool,
    /// Add the facts of the response to each action that follows a reply.
    #[arg(long)]
    facts: bool,
    /// The trace, `-` for standard input.
    file: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let lines: Box<dyn BufRead> = match arguments.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        file => Box::new(BufReader::new(File::open(file).map_err(|error| format!("{file} cannot be read: {error}."))?)),
    };
    let mut out = io::stdout().lock();
    let mut replay = None;
    for (number, line) in (1..).zip(lines.lines()) {
        let unreadable = |error: &dyn std::fmt::Display| format!("Line {number} cannot be read: {error}.");
        let line = line.map_err(|error| unreadable(&error))?;
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let action = step(&mut replay, text).map_err(|error| unreadable(&error))?;
        let Some(action) = action else { continue };
        let written = match arguments {
            Arguments { timeline: true, .. } => writeln!(out, "{}", timeline(&action)),
            Arguments { facts: true, .. } => writeln!(out, "{}", action.to_json_with_facts()),
            _ => writeln!(out, "{}", action.to_json()),
        };
        if let Err(error) = written {
            // The reader of the pipe has enough.
            return if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error.to_string()) };
        }
    }
    Ok(())
}

/// Takes one line: the first may be the settings, all others are events.
fn step(replay: &mut Option<Replay>, line: &str) -> Result<Option<ActionRecord>, ReplayError> {
    if replay.is_none() {
        if !EventRecord::is_event(line) {
            *replay = Some(Replay::new(&Settings::parse(line)?)?);
            return Ok(None);
        }
        *replay = Some(Replay::new(&Settings::parse("{}")?)?);
    }
    match replay {
        Some(replay) => replay.step(&EventRecord::parse(line)?),
        None => Ok(None),
    }
}

fn timeline(action: &ActionRecord) -> String {
    let ActionRecord { at_ms, request, action, message, .. } = action;
    let at = format!("{}.{:03} s", at_ms / 1_000, at_ms % 1_000);
    let message = message.as_ref().map(|message| format!(" (\"{message}\")")).unwrap_or_default();
    format!("{at:>14}  request {request}  attempt {}  {action}{message}", action.attempt())
}
