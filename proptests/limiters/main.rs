//! S1, L1: twenty workers call real limiters over loopback, through HTTP and in real time: a token bucket of the governor
//! crate behind hyper, and nginx's `limit_req`. Nobody is lost, the limit is used as far as the gate
//! allows, and no request is sent sooner than its server told it.
//!
//! Each test takes some seconds. Without an `nginx` in the path, its test says so and does nothing.

mod governed;
mod nginx;
mod workers;

use workers::{Limit, Report};

/// Twenty workers find the bucket empty at once.
const LIMIT: Limit = Limit { per_second: 20, burst: 20 };

#[test]
fn s1_the_token_bucket_of_governor_is_used_and_loses_nobody() {
    let server = governed::Server::start(LIMIT);
    hold(&workers::run(server.addr()), "governor");
}

#[test]
fn s1_limit_req_of_nginx_is_used_and_loses_nobody() {
    match nginx::Server::start(LIMIT) {
        Ok(server) => hold(&workers::run(server.addr()), "nginx"),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// The least share of the limit that the workers use, in percent. The gate spreads those that it held over the time for which
/// it was closed, which leaves almost half of a short limit unused: `docs/storm.md` has the figures.
const LEAST_USE: u64 = 40;

fn hold(report: &Report, server: &str) {
    println!("{server}: {report:?}");
    assert_eq!(report.sooner, 0, "L1: {server}: attempts sooner than told");
    assert_eq!(report.lost, Vec::<String>::new(), "{server}: requests lost");
    let most = LIMIT.allowed(report.elapsed) + 1;
    assert!(report.done <= most, "{server} is not a limit: {} served, at most {most} expected", report.done);
    let allowed = LIMIT.allowed(workers::RUN);
    assert!(report.done_in_time * 100 >= allowed * LEAST_USE, "{server}: {} of {allowed} served", report.done_in_time);
    assert!(report.refused > 0, "{server}: the limit was never reached");
    assert!(report.refused * 2 <= report.done, "{server}: {} refused, {} served", report.refused, report.done);
}
