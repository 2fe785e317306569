//! S1, S7, L1: twenty workers call real limiters over loopback, through HTTP and in real time: a token bucket of the
//! governor crate behind hyper, nginx's `limit_req`, and a rate of HAProxy. Hardly anybody is lost, the limit is used, nobody waits
//! for long, and no request is sent sooner than its server told it.
//!
//! Each test takes some seconds. Without the program in the path, its test says so and does nothing. The bounds are wide, since
//! the computer may be busy: `docs/storm.md` has the exact figures, in virtual time.

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
fn s7_the_token_bucket_of_governor_is_used() {
    let server = governed::Server::start(LIMIT);
    hold(&workers::run(server.addr()), "governor");
}

#[test]
fn s7_limit_req_of_nginx_is_used() {
    hold_if_there("nginx", nginx::start(LIMIT));
}

#[test]
fn s7_the_rate_of_haproxy_is_used() {
    hold_if_there("haproxy", haproxy::start(LIMIT));
}

fn hold_if_there(program: &str, server: Result<Server, String>) {
    match server {
        Ok(server) => hold(&workers::run(server.addr()), program),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// The queue of twenty workers takes a second, a hint is a second, and a request may be refused again. More is left for a
/// busy computer.
const LONGEST: Duration = Duration::from_secs(10);

/// The least share of the limit that the workers use, in percent. The ten seconds are shorter than a measurement of the pace,
/// so all rests on guesses.
const LEAST_USE: u64 = 20;
/// The first requests can be refused one after the other, or cut off, until the budget is empty.
const MOST_LOST: usize = 20;

fn hold(report: &Report, server: &str) {
    println!("{server}: {report:?}");
    assert_eq!(report.sooner, 0, "L1: {server}: attempts sooner than told");
    assert!(report.lost.len() <= MOST_LOST, "{server}: requests lost: {:?}", report.lost);
    let most = LIMIT.allowed(report.elapsed) + 1;
    assert!(report.done <= most, "{server} is not a limit: {} served, at most {most} expected", report.done);
    let allowed = LIMIT.allowed(workers::RUN);
    assert!(report.done_in_time * 100 >= allowed * LEAST_USE, "{server}: {} of {allowed} served", report.done_in_time);
    assert!(report.longest <= LONGEST, "{server}: the longest latency is {:?}", report.longest);
    assert!(report.refused > 0, "{server}: the limit was never reached");
    assert!(report.refused * 2 <= report.done, "{server}: {} refused, {} served", report.refused, report.done);
}
