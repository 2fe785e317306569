//! HAProxy with a stick table. It refuses with 429 and `Retry-After: 1` what comes faster than its rate, and counts what it
//! refuses: who does not slow down stays refused.

use std::net::SocketAddr;

use crate::process::Server;
use crate::workers::Limit;

/// Starts HAProxy.
///
/// # Errors
///
/// The reason, if this computer has no HAProxy.
pub fn start(limit: Limit) -> Result<Server, String> {
    Server::start(
        "haproxy",
        |addr, _| configuration(limit, addr),
        |haproxy, file, _| {
            haproxy.arg("-db").arg("-f").arg(file);
        },
    )
}

fn configuration(limit: Limit, addr: SocketAddr) -> String {
    let Limit { per_second, .. } = limit;
    format!(
        "defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend limited
    bind {addr}
    stick-table type ip size 1k expire 10s store http_req_rate(1s)
    http-request track-sc0 src
    http-request return status 429 hdr Retry-After 1 if {{ sc_http_req_rate(0) gt {per_second} }}
    http-request return status 200
"
    )
}
