//! S1, S7, L1: twenty workers call real limiters over loopback, through HTTP and in real time: a token bucket of the
//! governor crate behind hyper, nginx's `limit_req`, and a rate of HAProxy. Hardly anybody is lost, the limit is used, nobody waits
//! for long, and no request is sent sooner than its server told it.
//!
//! Each test takes some seconds. Without the program in the path, its test says so and does nothing.

mod governed;
mod haproxy;
mod nginx;
mod process;
mod workers;

use std::time::Duration;

use process::Server;
use workers::{Limit, Report};

/// Twenty workers find the bucket empty at once.
const LIMIT: Limit = Limit { per_second: 20, burst: 20 };

#[test]
fn s7_the_token_bucket_of_governor_is_used_and_loses_nobody() {
    let server = governed::Server::start(LIMIT);
    hold(&workers::run(server.addr()), "governor", 60, 0);
}

#[test]
fn s7_limit_req_of_nginx_is_used_and_loses_nobody() {
    hold_if_there("nginx", nginx::start(LIMIT), 60, 0);
}

#[test]
fn s7_the_rate_of_haproxy_is_used_and_loses_hardly_anybody() {
    // It counts what it refuses, and its rate looks back further than the window. So the first requests after an opening can
    // be refused one after the other, until the budget is empty.
    hold_if_there("haproxy", haproxy::start(LIMIT), 35, 5);
}

fn hold_if_there(program: &str, server: Result<Server, String>, least_use: u64, most_lost: usize) {
    match server {
        Ok(server) => hold(&workers::run(server.addr()), program, least_use, most_lost),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// The queue of twenty workers takes a second, a hint is a second, and a request may be refused again. More is left for a
/// busy computer.
const LONGEST: Duration = Duration::from_secs(10);

/// `least_use`: the least share of the limit that the workers use, in percent. The ten seconds are shorter than a measurement
/// of the pace: all rests on guesses.
fn hold(report: &Report, server: &str, least_use: u64, most_lost: usize) {
    println!("{server}: {report:?}");
    assert_eq!(report.sooner, 0, "L1: {server}: attempts sooner than told");
    assert!(report.lost.len() <= most_lost, "{server}: requests lost: {:?}", report.lost);
    let most = LIMIT.allowed(report.elapsed) + 1;
    assert!(report.done <= most, "{server} is not a limit: {} served, at most {most} expected", report.done);
    let allowed = LIMIT.allowed(workers::RUN);
    assert!(report.done_in_time * 100 >= allowed * least_use, "{server}: {} of {allowed} served", report.done_in_time);
    assert!(report.longest <= LONGEST, "{server}: the longest latency is {:?}", report.longest);
    assert!(report.refused > 0, "{server}: the limit was never reached");
    assert!(report.refused * 2 <= report.done, "{server}: {} refused, {} served", report.refused, report.done);
}
