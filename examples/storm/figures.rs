//! The counts of a run, and the figures that follow from them.

use hdrhistogram::Histogram;

use crate::{DISTURBED, SECOND, SECONDS};

pub struct Figures {
    /// Requests per second.
    pub capacity: u64,
    /// For each second: the requests that began, the attempts sent, and the attempts that got a 200 in time.
    begun: Vec<u64>,
    sent: Vec<u64>,
    good: Vec<u64>,
    /// Requests that failed.
    pub lost: u64,
    /// Milliseconds.
    latency: Histogram<u64>,
}

/// The last seconds have no answers yet when a run ends.
const UNANSWERED: usize = 3;
/// The number of seconds for which the service must be healthy to count as recovered.
const AT_LEAST: usize = 10;
const DISTURBED_TO: usize = (DISTURBED.end / SECOND) as usize;

impl Figures {
    pub fn new(capacity: u64) -> Figures {
        let latency = Histogram::new_with_max(SECONDS * 1_000, 3).expect("valid bounds");
        let seconds = vec![0; SECONDS as usize];
        Figures { capacity, begun: seconds.clone(), sent: seconds.clone(), good: seconds, lost: 0, latency }
    }

    /// Counts a request that begins at millisecond `now`, which is at least 1.
    pub fn begun(&mut self, now: u64) {
        self.begun[((now - 1) / 1_000) as usize] += 1;
    }

    /// Counts an attempt.
    pub fn sent(&mut self, now: u64, good: bool) {
        let second = ((now - 1) / 1_000) as usize;
        self.sent[second] += 1;
        self.good[second] += u64::from(good);
    }

    /// Counts a request that succeeded after this number of milliseconds.
    pub fn done(&mut self, latency: u64) {
        self.latency.record(latency).expect("no longer than the run");
    }

    /// Returns the load of each second: attempts over capacity, in percent.
    pub fn load(&self) -> impl Iterator<Item = u64> {
        self.sent.iter().map(|sent| sent * 100 / self.capacity)
    }

    /// Returns the load of the busiest second after the disturbance, in percent.
    pub fn peak_load(&self) -> u64 {
        self.load().skip(DISTURBED_TO).max().unwrap_or(0)
    }

    /// Returns the number of requests that succeeded, per second.
    pub fn goodput(&self) -> u64 {
        self.latency.len() / SECONDS
    }

    /// Returns the attempts for each request, in hundredths.
    pub fn attempts_per_request(&self) -> u64 {
        self.sent.iter().sum::<u64>() * 100 / self.begun.iter().sum::<u64>().max(1)
    }

    /// Returns the seconds from the end of the disturbance until the service has recovered for good. `None` if it does
    /// not recover, although the cause is gone: a metastable failure.
    pub fn recovery(&self) -> Option<usize> {
        let judged = SECONDS as usize - UNANSWERED;
        let recovered =
            (DISTURBED_TO..judged).rev().find(|second| !self.is_healthy(*second)).map_or(DISTURBED_TO, |last| last + 1);
        (recovered + AT_LEAST < judged).then(|| recovered - DISTURBED_TO)
    }

    /// Returns whether most attempts succeed, and almost as many requests succeed as begin.
    fn is_healthy(&self, second: usize) -> bool {
        self.good[second] * 100 >= self.sent[second] * 95 && self.good[second] * 100 >= self.begun[second] * 90
    }

    /// Returns a percentile of the latency of requests that succeeded, in milliseconds.
    pub fn latency(&self, percentile: u8) -> u64 {
        self.latency.value_at_percentile(percentile.into())
    }

    /// Returns the share of ended requests that failed, in tenths of a percent.
    pub fn lost(&self) -> u64 {
        self.lost * 1_000 / (self.lost + self.latency.len()).max(1)
    }
}
