//! The work that is measured, the same for instruction counts and for the comparison with other crates.

use http::{HeaderMap, HeaderName, HeaderValue};
use retry_machine::{Action, Event, Idempotency, Policy, RetryMachine, Timestamp, Upstream};

/// A header as a parser yields it.
pub type Header = (&'static str, &'static str);

/// A 200 with ten ordinary headers.
pub const OK: [Header; 10] = [
    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "1342"),
    ("connection", "keep-alive"),
    ("server", "nginx"),
    ("cache-control", "max-age=0, private, must-revalidate"),
    ("etag", "W/\"5e3a1c2b9d\""),
    ("vary", "Accept-Encoding"),
    ("x-request-id", "0f7f4b1e-8a4c-4f6e-9d0c-5a6b7c8d9e0f"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
];

/// A 503 with ten ordinary headers, of which one says when to come back.
pub const UNAVAILABLE: [Header; 10] = [
    ("date", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "97"),
    ("connection", "keep-alive"),
    ("server", "nginx"),
    ("cache-control", "no-store"),
    ("retry-after", "7"),
    ("vary", "Accept-Encoding"),
    ("x-request-id", "0f7f4b1e-8a4c-4f6e-9d0c-5a6b7c8d9e0f"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
];

/// `Retry-After` in its four forms. The dates are 30 s after the `Date` of [`OK`].
pub const RETRY_AFTER: [(&str, &str); 4] = [
    ("seconds", "30"),
    ("IMF-fixdate", "Wed, 21 Oct 2015 07:28:30 GMT"),
    ("RFC 850", "Wednesday, 21-Oct-15 07:28:30 GMT"),
    ("asctime", "Wed Oct 21 07:28:30 2015"),
];

/// The `RateLimit` field of draft-ietf-httpapi-ratelimit-headers.
pub const RATE_LIMIT: &str = "\"default\";r=50;t=30";

/// Returns the same headers as HTTP clients hold them.
#[must_use]
pub fn header_map(headers: &[Header]) -> HeaderMap {
    headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Returns an upstream of common practice.
#[must_use]
pub const fn upstream() -> Upstream {
    Upstream::new(Policy::common())
}

/// The state of a client while a request runs, and the time.
#[derive(Clone)]
pub struct World {
    pub upstream: Upstream,
    pub machine: RetryMachine,
    pub now: Timestamp,
}

impl World {
    /// Tells the machine what happened.
    pub fn handle(&mut self, event: Event) -> Action {
        self.machine.handle(self.now, event, &mut self.upstream)
    }
}

/// Returns an upstream of common practice, and a request that has not begun.
#[must_use]
pub fn idle() -> Box<World> {
    let machine = RetryMachine::new(Idempotency::Idempotent, 7);
    Box::new(World { upstream: upstream(), machine, now: Timestamp::from_millis(80) })
}

/// Returns a request whose first attempt is under way.
///
/// # Panics
///
/// Panics if the machine does not send.
#[must_use]
pub fn sent() -> Box<World> {
    let mut world = idle();
    let action = world.handle(Event::Start);
    assert!(matches!(action, Action::Send { .. }), "{action}");
    world.now = Timestamp::from_millis(160);
    world
}

/// Returns an upstream whose gate a throttle has closed.
///
/// # Panics
///
/// Panics if the gate is open.
#[must_use]
pub fn closed() -> Box<World> {
    let mut world = sent();
    let reply = world.upstream.policy().read(429, [("retry-after", "30")]);
    let action = world.handle(Event::Reply { attempt: 1, reply });
    assert!(matches!(action, Action::Wait { .. }), "{action}");
    world
}
