//! Twenty workers that call a server one request after the other, through machines of one upstream value.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use retry_machine::{
    Action, Event, Idempotency, Policy, RequestLimits, RetryMachine, Timestamp, TransportErrorKind, Upstream,
    derive_seed,
};

const WORKERS: u64 = 20;
/// For this time the workers begin requests.
pub const RUN: Duration = Duration::from_secs(10);
/// The time limit of a request, so that the test ends by itself.
const DEADLINE: Duration = Duration::from_secs(20);
#[derive(Clone, Copy)]
pub struct Limit {
    pub per_second: u64,
    pub burst: u64,
}

impl Limit {
    /// Returns the number of calls that a token bucket allows in this time.
    pub fn allowed(self, time: Duration) -> u64 {
        self.burst + self.per_second * time.as_millis() as u64 / 1_000
    }
}

/// The experience of all workers.
#[derive(Default, Debug)]
pub struct Report {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    pub done: u64,
    /// The successes while the workers begin requests.
    pub done_in_time: u64,
    /// The attempts that got 429.
    pub refused: u64,
    /// The attempts sent before the instant that the server had told their request.
    pub sooner: u64,
    /// The failures of the requests that were lost.
    pub lost: Vec<String>,
    /// The longest latency.
    pub longest: Duration,
}

pub fn run(server: SocketAddr) -> Report {
    let policy = Policy::flextell().into_builder().attempt_timeout(Some(Duration::from_secs(5))).build().unwrap();
    let upstream = Mutex::new(Upstream::new(policy));
    let report = Mutex::new(Report::default());
    let epoch = Instant::now();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (upstream, report) = (&upstream, &report);
            scope.spawn(move || {
                for n in 0.. {
                    if epoch.elapsed() > RUN {
                        break;
                    }
                    request(server, epoch, derive_seed(worker, n), upstream, report);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap();
    report.elapsed = epoch.elapsed();
    report
}

/// Drives one request to its end.
fn request(server: SocketAddr, epoch: Instant, seed: u64, upstream: &Mutex<Upstream>, report: &Mutex<Report>) {
    let now = || Timestamp::from_elapsed(epoch.elapsed());
    let limits = RequestLimits { deadline: Some(DEADLINE), ..RequestLimits::default() };
    let mut machine = RetryMachine::new(Idempotency::Idempotent, seed).with_limits(limits);
    let begun = Instant::now();
    let mut told = begun;
    let mut event = Event::Start;
    loop {
        // The guard ends here: no worker sleeps or sends while it holds the upstream.
        let action = machine.handle(now(), event, &mut *upstream.lock().unwrap());
        event = match action {
            Action::Send { attempt, .. } => {
                report.lock().unwrap().sooner += u64::from(Instant::now() < told);
                // A busy computer can cut a connection off. That says nothing about the limiter.
                match call(server).or_else(|_| call(server)) {
                    Ok((status, headers)) => {
                        let reply = upstream.lock().unwrap().policy().read(status, headers);
                        told = Instant::now() + reply.hint().map_or(Duration::ZERO, |hint| hint.wait());
                        report.lock().unwrap().refused += u64::from(reply.status() == 429);
                        Event::Reply { attempt, reply }
                    }
                    Err(_) => Event::TransportError { attempt, kind: TransportErrorKind::Broken },
                }
            }
            Action::Wait { until, .. } => {
                thread::sleep(until.saturating_duration_since(now()));
                Event::Tick
            }
            Action::Done { .. } => {
                let mut report = report.lock().unwrap();
                report.done += 1;
                report.done_in_time += u64::from(epoch.elapsed() <= RUN);
                report.longest = report.longest.max(begun.elapsed());
                return;
            }
            Action::Fail(failure) => return report.lock().unwrap().lost.push(failure.to_string()),
            action => unreachable!("there are no tokens: {action}"),
        };
    }
}

type Headers = Vec<(String, String)>;

/// Sends one request on a connection of its own.
fn call(server: SocketAddr) -> io::Result<(u16, Headers)> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /ok HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let head = response.split("\r\n\r\n").next().unwrap_or_default();
    let (first, rest) = head.split_once("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Ok((status, rest.split("\r\n").filter_map(pair).collect()))
}
