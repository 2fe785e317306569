//! Measures retry-machine and other crates side by side, and writes the tables of `docs/comparison.md`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use cargo_metadata::{CargoOpt, MetadataCommand};
use clap::Parser;
use retry_machine::{RetryMachine, Upstream};
use workloads::RETRY_AFTER;

use crate::measure::{Contender, Figure, measure};

mod decide;
mod measure;
mod read;
mod rivals;
mod shared;

/// Measures retry-machine and other crates side by side.
#[derive(Parser)]
struct Options {
    /// The number of rounds, in each of which every contender runs for a millisecond.
    #[arg(long, default_value_t = 101)]
    rounds: usize,
    /// Writes the tables into this page, between its markers.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Builds each crate alone, too, for the page's table of builds. Takes some minutes.
    #[arg(long)]
    builds: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let peers = peers()?;
    publish(options.page.as_deref(), "measured", &tables(options.rounds, &peers)?)?;
    if options.builds {
        publish(options.page.as_deref(), "built", &builds(&peers)?)?;
    }
    Ok(())
}

/// Prints a text, and puts it between the markers of this name if there is a page.
fn publish(page: Option<&Path>, name: &str, text: &str) -> Result<(), Box<dyn Error>> {
    println!("{text}");
    let Some(page) = page else { return Ok(()) };
    let old = fs::read_to_string(page)?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = old.split_once(&begin).ok_or_else(|| format!("{}: no {begin}", page.display()))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| format!("{}: no {end}", page.display()))?;
    Ok(fs::write(page, format!("{before}{begin}\n{text}\n{end}{after}"))?)
}

/// A crate that is compared, at the version of the lock file.
struct Peer {
    name: String,
    version: String,
}

/// The dependencies that are not compared: those of this program, and those of the peers' interfaces.
const NOT_PEERS: [&str; 11] = [
    "aws-smithy-async",
    "aws-smithy-runtime-api",
    "aws-smithy-types",
    "cargo_metadata",
    "clap",
    "fastrand",
    "http",
    "reqwest-middleware",
    "rustc_version",
    "sysinfo",
    "tokio",
];

/// Returns retry-machine and its peers, by name.
fn peers() -> Result<Vec<Peer>, Box<dyn Error>> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options(["--locked".into()])
        .exec()?;
    let own = metadata.packages.iter().find(|package| package.name == env!("CARGO_PKG_NAME")).ok_or("no package")?;
    let graph = metadata.resolve.as_ref().ok_or("no graph")?;
    let node = graph.nodes.iter().find(|node| node.id == own.id).ok_or("no node")?;
    let packages = node.dependencies.iter().map(|id| &metadata[id]);
    let mut peers: Vec<Peer> = packages
        .filter(|package| package.name != "workloads" && !NOT_PEERS.contains(&package.name.as_str()))
        .map(|package| Peer { name: package.name.to_string(), version: package.version.to_string() })
        .collect();
    peers.sort_by_key(|peer| (peer.name != "retry-machine", peer.name.clone()));
    Ok(peers)
}

/// Measures everything, and returns it as Markdown.
fn tables(rounds: usize, peers: &[Peer]) -> Result<String, Box<dyn Error>> {
    // tower's back-off makes a sleep, which needs a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _guard = runtime.enter();

    let mut text = String::new();
    let mut table = |title: &str, note: &str, contenders: Vec<Contender>| -> Result<Vec<Figure>, std::fmt::Error> {
        compare(&mut text, rounds, title, note, contenders)
    };
    let unavailable = table(
        "A 503 with ten headers",
        "`Retry-After` says 7 s, and nine other headers say nothing. The first attempt is under way.",
        decide::unavailable(),
    )?;
    let ok = table(
        "A request that succeeds",
        "From its beginning to its end: a 200 with ten ordinary headers.",
        decide::ok(),
    )?;
    table("A status alone", "A 503 without headers. The first attempt is under way.", decide::status())?;
    table(
        "A request with one retry",
        "A 503, the wait, a 200: a status alone each time. Where there is a retry budget, the retry takes from it and the \
         success gives to it.",
        decide::one_retry(),
    )?;
    table("Five back-offs", "A 503 five times, with the waits between: virtual time.", decide::five_back_offs())?;
    for (form, (name, value)) in RETRY_AFTER.iter().enumerate() {
        table(&format!("`Retry-After`: {name}"), &format!("`{value}`"), read::retry_after(form))?;
    }
    table(
        "`RateLimit`",
        &format!("`{}`: the calls that remain, and the time to the reset.", workloads::RATE_LIMIT),
        read::rate_limit(),
    )?;
    alone(&mut text, rounds)?;
    fleets(&mut text, rounds)?;
    Ok(format!("{}\n## The tables\n\n{}{text}", summary(&unavailable, &ok), circumstances(rounds, peers)?))
}

/// Measures one workload, and appends its table.
fn compare(
    text: &mut String,
    rounds: usize,
    title: &str,
    note: &str,
    mut contenders: Vec<Contender>,
) -> Result<Vec<Figure>, std::fmt::Error> {
    eprintln!("{title}");
    let figures = measure(&mut contenders, rounds);
    writeln!(text, "\n### {title}\n\n{note}\n")?;
    writeln!(text, "| contender | ns | quartiles | ratio | what the number covers |\n|---|--:|--:|--:|---|")?;
    for (Contender { name, remark, .. }, figure) in contenders.iter().zip(&figures) {
        writeln!(text, "| {name} | {} | {:.2} | {remark} |", cells(figure, 1), figure.ratio)?;
    }
    Ok(figures)
}

/// Measures what only retry-machine does, and appends its table.
fn alone(text: &mut String, rounds: usize) -> std::fmt::Result {
    eprintln!("recovery");
    let mut contenders = shared::recovery();
    let figures = measure(&mut contenders, rounds);
    writeln!(text, "\n### What no peer does\n\nretry-machine alone: no peer refreshes tokens or has a gate.\n")?;
    writeln!(text, "| work | ns | quartiles | what the number covers |\n|---|--:|--:|---|")?;
    for (Contender { name, remark, .. }, figure) in contenders.iter().zip(figures) {
        writeln!(text, "| {name} | {} | {remark} |", cells(&figure, 1))?;
    }
    Ok(())
}

/// Measures the fleets, and appends their table.
fn fleets(text: &mut String, rounds: usize) -> std::fmt::Result {
    eprintln!("fleets");
    let mut fleets = shared::fleets();
    let figures = measure(&mut fleets, rounds.div_ceil(5));
    let (machine, upstream) = (size_of::<RetryMachine>(), size_of::<Upstream>());
    writeln!(text, "\n### Many requests to one service\n")?;
    writeln!(
        text,
        "All machines share one upstream, on one thread. All of them start, then all of them get a 200 without headers, both in \
         a random order. The largest fleets do not fit into the processor's caches. A machine takes {machine} bytes, the upstream \
         {upstream} bytes, and neither has anything on the heap. No peer keeps such a state.\n"
    )?;
    writeln!(
        text,
        "| machines | million events per second | ns per event | quartiles | memory |\n|--:|--:|--:|--:|--:|"
    )?;
    for ((size, name), figure) in shared::FLEETS.iter().zip(figures) {
        let events = size * shared::EVENTS;
        let memory = number((size * machine + upstream) as f64 / 1e6);
        let rate = 1e3 * events as f64 / figure.median;
        writeln!(text, "| {name} | {rate:.1} | {} | {memory} MB |", cells(&figure, events))?;
    }
    Ok(())
}

/// Returns the sentences that the page begins with.
fn summary(unavailable: &[Figure], ok: &[Figure]) -> String {
    let median = |figures: &[Figure], row: usize| number(figures[row].median);
    let blind = unavailable[decide::READ_NO_HEADER].iter().map(|figure| figure.median);
    let (least, most) = (blind.clone().fold(f64::MAX, f64::min), blind.fold(0.0, f64::max));
    format!(
        "retry-machine reads a 503 with ten headers and decides what follows in {} ns from an `http::HeaderMap`, or in {} ns \
         from a slice. Code by hand that looks for six header names, and keeps no state between requests, takes {} ns and \
         {} ns. throttle-net, which reads fewer fields and shares a budget, takes {} ns from a slice. The other peers that \
         decide about HTTP responses take {} to {} ns, and read no header. A request that succeeds costs {} ns from its \
         beginning to its end, its headers in a `HeaderMap`. A request takes {} bytes.\n",
        median(unavailable, 1),
        median(unavailable, 0),
        median(unavailable, 3),
        median(unavailable, 2),
        median(unavailable, 5),
        number(least),
        number(most),
        median(ok, 1),
        size_of::<RetryMachine>(),
    )
}

/// Returns what was measured, with what, and where.
fn circumstances(rounds: usize, peers: &[Peer]) -> Result<String, Box<dyn Error>> {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_all();
    let cpu = system.cpus().first().map_or("an unknown processor", |cpu| cpu.brand()).trim();
    let rustc = rustc_version::version()?;
    let peers: Vec<String> = peers.iter().map(|Peer { name, version }| format!("{name} {version}")).collect();
    let peers = peers.join(", ");
    Ok(format!(
        "Times are medians of {rounds} rounds on one core ({cpu}), built by rustc {rustc} with the default release \
         profile. The ratio is that to the first row, the median of the ratios within each round. Versions: {peers}.\n"
    ))
}

/// Builds each crate alone, with the script beside this program, and returns the table.
fn builds(peers: &[Peer]) -> Result<String, Box<dyn Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/builds");
    let crates = peers.iter().filter(|peer| peer.name != "retry-machine");
    let output = Command::new(script).args(crates.map(|peer| format!("{}@{}", peer.name, peer.version))).output()?;
    if !output.status.success() {
        return Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns two cells of a table: the median and the quartiles of each of so many parts of an operation.
fn cells(figure: &Figure, parts: usize) -> String {
    let Figure { median, quartiles: (low, high), .. } = *figure;
    let [median, low, high] = [median, low, high].map(|time| number(time / parts as f64));
    format!("{median} | {low}–{high}")
}

/// Writes a number with one decimal below ten, and with separators above a thousand.
fn number(value: f64) -> String {
    if value < 9.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
