//! Requests that meet one failure after the other: the same on a device and on a host, to the last nanosecond (rule T1).

use core::fmt::{Error, Write};
use core::time::Duration;

use retry_machine::{
    Action, Event, Idempotency, Jitter, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind,
    Upstream, derive_seed,
};

/// The answers of a service to one attempt after the other. An empty answer is a connection that failed.
type Answers = [&'static str; 6];

const EVERY_FAILURE: Answers = [
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\n\r\n",
    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer error=\"invalid_token\"\r\n\r\n",
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: soon\r\n\r\n",
    "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
     Retry-After: Sunday, 06-Nov-94 08:50:37 GMT\r\n\r\n",
    "",
    "HTTP/1.1 200 OK\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 20\r\n\r\n",
];
const DOWN: Answers = ["HTTP/1.1 500 Internal Server Error\r\n\r\n"; 6];

/// Runs a request through each list of answers, and the second list with every kind of jitter.
pub fn run(out: &mut impl Write) -> Result<(), Error> {
    let mut upstream = Upstream::new(Policy::flextell());
    let now = request(Timestamp::ZERO, 0, &mut upstream, EVERY_FAILURE, out)?;
    request(now, 1, &mut upstream, DOWN, out)?;
    for jitter in [Jitter::None, Jitter::FULL, Jitter::EQUAL, Jitter::Decorrelated, Jitter::PROPORTIONAL] {
        writeln!(out, "{jitter:?}")?;
        let Ok(policy) = Policy::flextell().into_builder().jitter(jitter).build() else { continue };
        request(Timestamp::ZERO, 2, &mut Upstream::new(policy), DOWN, out)?;
    }
    Ok(())
}

/// Drives one request to its end, and returns the instant of the end.
fn request(
    mut now: Timestamp,
    number: u64,
    upstream: &mut Upstream,
    answers: Answers,
    out: &mut impl Write,
) -> Result<Timestamp, Error> {
    let mut machine = RetryMachine::new(Idempotency::Idempotent, derive_seed(7, number));
    let mut answers = answers.into_iter();
    let mut event = Event::Start;
    loop {
        let action = machine.handle(now, event, &mut *upstream);
        writeln!(out, "{:>15} ns  {action}", now.as_nanos())?;
        event = match action {
            Action::Send { attempt, .. } => {
                now = now.saturating_add(Duration::from_millis(80));
                answer(attempt, answers.next().unwrap_or_default(), upstream.policy())
            }
            Action::Wait { until, .. } | Action::AwaitRefresh { until, .. } => {
                now = until;
                Event::Tick
            }
            Action::RefreshToken { lease, .. } => {
                now = now.saturating_add(Duration::from_millis(200));
                let outcome = RefreshOutcome::Refreshed { expires_in: Some(Duration::from_secs(3600)) };
                // A real device stores the token in the same step, if the outcome counts.
                let _ = upstream.login.report_refresh(now, lease, outcome);
                Event::Tick
            }
            Action::InFlight { .. } => Event::Tick,
            Action::Done { .. } | Action::Fail(_) => return Ok(now),
        };
    }
}

/// Returns the event after an attempt.
fn answer(attempt: u32, response: &str, policy: &Policy) -> Event {
    match read(response, policy) {
        Some(reply) => Event::Reply { attempt, reply },
        None => Event::TransportError { attempt, kind: TransportErrorKind::NotSent },
    }
}

/// Reads a response header by header, as an HTTP parser on a device yields them.
fn read(response: &str, policy: &Policy) -> Option<Reply> {
    let mut lines = response.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut reader = policy.reader(None, status);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        reader.feed(name.as_bytes(), value.as_bytes());
    }
    Some(reader.finish())
}
