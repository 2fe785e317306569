//! What is counted in a run, and what follows from it.

use hdrhistogram::Histogram;

use crate::{DISTURBED, SECOND, SECONDS};

pub struct Figures {
    /// Requests per second.
    pub capacity: u64,
    /// Attempts sent in each second, and those of them that were answered well and in time.
    sent: Vec<u64>,
    good: Vec<u64>,
    /// Requests that began; those that ended well are in the histogram.
    pub begun: u64,
    /// Requests that ended badly.
    pub lost: u64,
    /// Milliseconds.
    latency: Histogram<u64>,
}

/// The last seconds have no answers yet when a run ends.
const UNANSWERED: usize = 3;
const DISTURBED_TO: usize = (DISTURBED.end / SECOND) as usize;

impl Figures {
    pub fn new(capacity: u64) -> Figures {
        let latency = Histogram::new_with_max(SECONDS * 1_000, 3).expect("good bounds");
        let seconds = vec![0; SECONDS as usize];
        Figures { capacity, sent: seconds.clone(), good: seconds, begun: 0, lost: 0, latency }
    }

    /// An attempt is sent at millisecond `now`.
    pub fn sent(&mut self, now: u64, good: bool) {
        let second = (now.saturating_sub(1) / 1_000) as usize;
        self.sent[second] += 1;
        self.good[second] += u64::from(good);
    }

    /// A request ended well after so many milliseconds.
    pub fn done(&mut self, latency: u64) {
        self.latency.record(latency).expect("no longer than the run");
    }

    /// Per second: attempts over capacity, in per cent.
    pub fn load(&self) -> impl Iterator<Item = u64> {
        self.sent.iter().map(|sent| sent * 100 / self.capacity)
    }

    /// After the disturbance.
    pub fn peak_load(&self) -> u64 {
        self.load().skip(DISTURBED_TO).max().unwrap_or(0)
    }

    /// Requests that ended well, per second.
    pub fn goodput(&self) -> u64 {
        self.latency.len() / SECONDS
    }

    /// Hundredths.
    pub fn attempts_per_request(&self) -> u64 {
        self.sent.iter().sum::<u64>() * 100 / self.begun.max(1)
    }

    /// How many seconds after the disturbance 95 % of all attempts succeed, for good. None if that never comes.
    pub fn recovery(&self) -> Option<usize> {
        let judged = SECONDS as usize - UNANSWERED;
        let bad = |second: &usize| self.good[*second] * 100 < self.sent[*second] * 95;
        let recovered = (DISTURBED_TO..judged).rev().find(bad).map_or(DISTURBED_TO, |last| last + 1);
        (recovered < judged).then(|| recovered - DISTURBED_TO)
    }

    /// Whether the load stays above capacity to the end, although the cause has gone.
    pub fn is_metastable(&self) -> bool {
        self.recovery().is_none()
    }

    /// Milliseconds: what so many per cent of the requests that ended well did not exceed.
    pub fn latency(&self, percentile: u8) -> u64 {
        self.latency.value_at_percentile(percentile.into())
    }

    /// Tenths of a per cent of the requests that ended.
    pub fn lost(&self) -> u64 {
        self.lost * 1_000 / (self.lost + self.latency.len()).max(1)
    }

    pub fn attempts(&self) -> u64 {
        self.sent.iter().sum()
    }
}
