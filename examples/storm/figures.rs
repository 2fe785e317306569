//! What is counted in a run, and what follows from it.

use hdrhistogram::Histogram;

use crate::{DISTURBED, SECOND, SECONDS};

pub struct Figures {
    /// Requests per second.
    pub capacity: u64,
    /// In each second: the requests that began, the attempts that were sent, and those of them that were answered well
    /// and in time.
    begun: Vec<u64>,
    sent: Vec<u64>,
    good: Vec<u64>,
    /// Requests that ended badly.
    pub lost: u64,
    /// Milliseconds.
    latency: Histogram<u64>,
}

/// The last seconds have no answers yet when a run ends.
const UNANSWERED: usize = 3;
/// For so many seconds it must be well to count as recovered.
const AT_LEAST: usize = 10;
const DISTURBED_TO: usize = (DISTURBED.end / SECOND) as usize;

impl Figures {
    pub fn new(capacity: u64) -> Figures {
        let latency = Histogram::new_with_max(SECONDS * 1_000, 3).expect("good bounds");
        let seconds = vec![0; SECONDS as usize];
        Figures { capacity, begun: seconds.clone(), sent: seconds.clone(), good: seconds, lost: 0, latency }
    }

    /// A request begins at millisecond `now`, which is never 0.
    pub fn begun(&mut self, now: u64) {
        self.begun[((now - 1) / 1_000) as usize] += 1;
    }

    /// An attempt is sent.
    pub fn sent(&mut self, now: u64, good: bool) {
        let second = ((now - 1) / 1_000) as usize;
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
        self.sent.iter().sum::<u64>() * 100 / self.begun.iter().sum::<u64>().max(1)
    }

    /// After how many seconds the service has recovered for good. None if it never does, although the cause has gone: a
    /// metastable failure.
    pub fn recovery(&self) -> Option<usize> {
        let judged = SECONDS as usize - UNANSWERED;
        let recovered =
            (DISTURBED_TO..judged).rev().find(|second| !self.is_well(*second)).map_or(DISTURBED_TO, |last| last + 1);
        (recovered + AT_LEAST < judged).then(|| recovered - DISTURBED_TO)
    }

    /// Whether most attempts succeed, and about as many requests are answered as begin.
    fn is_well(&self, second: usize) -> bool {
        self.good[second] * 100 >= self.sent[second] * 95 && self.good[second] * 100 >= self.begun[second] * 90
    }

    /// Milliseconds: what so many per cent of the requests that ended well did not exceed.
    pub fn latency(&self, percentile: u8) -> u64 {
        self.latency.value_at_percentile(percentile.into())
    }

    /// Tenths of a per cent of the requests that ended.
    pub fn lost(&self) -> u64 {
        self.lost * 1_000 / (self.lost + self.latency.len()).max(1)
    }
}
