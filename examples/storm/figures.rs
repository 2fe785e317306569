//! The counts of a run, and the figures that follow from them.

use hdrhistogram::Histogram;

use crate::SECOND;
use crate::disturbed::DISTURBED;
use crate::service::Answer;

pub struct Figures {
    /// Virtual seconds.
    seconds: u64,
    /// Requests per second.
    capacity: u64,
    /// For each second: the requests that began, the attempts sent, and the attempts that got a good answer in time.
    begun: Vec<u32>,
    sent: Vec<u32>,
    good: Vec<u32>,
    /// The attempts that got 429.
    throttled: u64,
    /// The attempts that were sent before the instant that the service had told their request. There must be none.
    pub early: u64,
    /// The requests that failed, that their caller gave up, and that met their deadline.
    pub lost: u64,
    pub cancelled: u64,
    pub expired: u64,
    /// The requests under way at the end.
    pub waiting: u64,
    /// The longest time, in milliseconds, for which one request waited for hints and at the gate.
    pub longest_wait: u64,
    /// The instant of the last success, in milliseconds.
    pub last_done: u64,
    /// Milliseconds.
    latency: Histogram<u64>,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Done,
    Lost,
    Cancelled,
    Deadline,
}

/// The last seconds have no answers yet when a run ends.
const UNANSWERED: usize = 3;
/// The number of seconds for which the service must be healthy to count as recovered.
const AT_LEAST: usize = 10;
const DISTURBED_TO: usize = (DISTURBED.end / SECOND) as usize;

impl Figures {
    pub fn new(seconds: u64, capacity: u64) -> Figures {
        let latency = Histogram::new_with_max(seconds * 1_000, 3).expect("valid bounds");
        let each = vec![0; seconds as usize + 1];
        Figures {
            seconds,
            capacity,
            begun: each.clone(),
            sent: each.clone(),
            good: each,
            throttled: 0,
            early: 0,
            lost: 0,
            cancelled: 0,
            expired: 0,
            waiting: 0,
            longest_wait: 0,
            last_done: 0,
            latency,
        }
    }

    /// Counts a request that begins at millisecond `now`, which is at least 1.
    pub fn begun(&mut self, now: u64) {
        self.begun[((now - 1) / 1_000) as usize] += 1;
    }

    /// Counts an attempt with its answer, if that comes in time.
    pub fn sent(&mut self, now: u64, answer: Option<Answer>, is_early: bool) {
        let second = ((now - 1) / 1_000) as usize;
        self.sent[second] += 1;
        self.good[second] += u32::from(answer.is_some_and(Answer::is_good));
        self.throttled += u64::from(answer.is_some_and(|answer| answer.status == 429));
        self.early += u64::from(is_early);
    }

    /// Counts a request that ends `now`.
    pub fn ended(&mut self, now: u64, begun: u64, waited: u64, end: End) {
        self.longest_wait = self.longest_wait.max(waited);
        match end {
            End::Done => {
                self.latency.record(now - begun).expect("no longer than the run");
                self.last_done = now;
            }
            End::Lost => self.lost += 1,
            End::Cancelled => self.cancelled += 1,
            End::Deadline => self.expired += 1,
        }
    }

    /// Returns the load of each second: attempts over capacity, in percent.
    pub fn load(&self) -> impl Iterator<Item = u64> {
        self.sent.iter().take(self.seconds as usize).map(|sent| u64::from(*sent) * 100 / self.capacity)
    }

    pub fn requests(&self) -> u64 {
        sum(&self.begun)
    }

    /// Returns the number of requests that got their answer.
    pub fn done(&self) -> u64 {
        self.latency.len()
    }

    pub fn attempts_per_request(&self) -> f64 {
        sum(&self.sent) as f64 / sum(&self.begun).max(1) as f64
    }

    /// Returns the share of attempts that got 429, in percent.
    pub fn throttled(&self) -> f64 {
        percent(self.throttled, sum(&self.sent))
    }

    /// Returns the seconds from the end of the disturbance until the service has recovered for good. `None` if it does
    /// not recover, although the cause is gone: a metastable failure.
    pub fn recovery(&self) -> Option<u64> {
        let judged = self.seconds as usize - UNANSWERED;
        let recovered =
            (DISTURBED_TO..judged).rev().find(|second| !self.is_healthy(*second)).map_or(DISTURBED_TO, |last| last + 1);
        (recovered + AT_LEAST < judged).then(|| (recovered - DISTURBED_TO) as u64)
    }

    /// Returns whether most attempts succeed, and almost as many requests succeed as begin.
    fn is_healthy(&self, second: usize) -> bool {
        self.good[second] * 100 >= self.sent[second] * 95 && self.good[second] * 100 >= self.begun[second] * 90
    }

    /// Returns a percentile of the latency of requests that succeeded, in seconds.
    pub fn latency(&self, percentile: u8) -> f64 {
        self.latency.value_at_percentile(percentile.into()) as f64 / 1_000.0
    }

    /// Returns the share of requests that failed, in percent.
    pub fn lost(&self) -> f64 {
        percent(self.lost, self.requests())
    }

    /// Returns the share of requests that are under way at the end, in percent.
    pub fn waiting(&self) -> f64 {
        percent(self.waiting, self.requests())
    }

    /// Returns the share of ended requests that got their answer, in percent.
    pub fn succeeded(&self) -> f64 {
        percent(self.done(), self.done() + self.lost + self.expired)
    }
}

fn sum(each: &[u32]) -> u64 {
    each.iter().map(|n| u64::from(*n)).sum()
}

fn percent(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of.max(1) as f64
}
