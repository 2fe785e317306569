//! The service that is called: one queue of limited capacity, and four ways in which it can be disturbed.

use clap::ValueEnum;

use crate::queue::Answer;
use crate::{DISTURBED, SECOND};

/// What befalls the service from second 60 to second 120.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Disturbance {
    /// It works at 30 % of its speed.
    Brownout,
    /// It answers everything with 503.
    Outage,
    /// It answers everything with 429, and names the instant at which that ends.
    Closed,
    /// There are three times as many requests; what exceeds its rate limit is answered with 429, `Retry-After: 30`.
    Spike,
}

impl Disturbance {
    pub fn sentence(self) -> &'static str {
        match self {
            Disturbance::Brownout => "Brownout: for a minute the service works at 30 % of its speed.",
            Disturbance::Outage => "Outage: for a minute everything is answered with 503, at a fifth of the cost.",
            Disturbance::Closed => "Closed: for a minute everything is answered with 429, until one instant.",
            Disturbance::Spike => "Spike: for a minute three times the load; the excess gets 429, Retry-After: 30.",
        }
    }
}

/// All that is asked of the service waits in one first-in-first-out queue. Work whose caller has given up is done all
/// the same. What finds the queue full is dropped without an answer.
pub struct Service {
    disturbance: Disturbance,
    /// Nanoseconds of work at full speed that a request costs.
    cost: u64,
    /// The instant, in nanoseconds, at which all that is in the queue will be done.
    done_at: u64,
    limit: RateLimit,
}

/// The queue holds as much as is done in 10 s at full speed.
const QUEUE: u64 = 10 * SECOND;
/// To say no takes a fifth of the work of a request.
const REJECTION: u64 = 5;
/// From the service's work to the caller and back, in nanoseconds.
const WAY: u64 = SECOND / 20;
/// The speed of a brownout, in per cent.
const SLOW: u64 = 30;

impl Service {
    /// A service that can do a request every `cost` nanoseconds.
    pub fn new(disturbance: Disturbance, cost: u64) -> Service {
        Service { disturbance, cost, done_at: 0, limit: RateLimit::new(cost) }
    }

    /// A request arrives `now` (in nanoseconds). Says when the caller has the answer, and what it is, if there is one.
    pub fn take(&mut self, now: u64) -> Option<(u64, Answer)> {
        match self.disturbance {
            Disturbance::Brownout => self.brownout(now),
            Disturbance::Outage => self.outage(now),
            Disturbance::Closed => self.closed(now),
            Disturbance::Spike => self.spike(now),
        }
    }

    fn brownout(&mut self, now: u64) -> Option<(u64, Answer)> {
        self.work(now, self.cost, 200)
    }

    fn outage(&mut self, now: u64) -> Option<(u64, Answer)> {
        if DISTURBED.contains(&now) {
            self.work(now, self.cost / REJECTION, 503)
        } else {
            self.work(now, self.cost, 200)
        }
    }

    /// The rejection comes from a gateway and costs the service nothing.
    fn closed(&mut self, now: u64) -> Option<(u64, Answer)> {
        if DISTURBED.contains(&now) { Some(throttle(now, DISTURBED.end - now)) } else { self.work(now, self.cost, 200) }
    }

    /// The load is made elsewhere. The limit is there all the time; it is what the service can do.
    fn spike(&mut self, now: u64) -> Option<(u64, Answer)> {
        if self.limit.admits(now) { self.work(now, self.cost, 200) } else { Some(throttle(now, 30 * SECOND)) }
    }

    /// Appends work to the queue.
    fn work(&mut self, now: u64, cost: u64, status: u16) -> Option<(u64, Answer)> {
        let begin = self.done_at.max(now);
        if self.work_between(now, begin) >= QUEUE {
            return None;
        }
        self.done_at = begin + cost * 100 / self.speed(begin);
        Some((self.done_at + WAY, Answer { status, retry_after: 0 }))
    }

    /// Per cent.
    fn speed(&self, at: u64) -> u64 {
        if self.disturbance == Disturbance::Brownout && DISTURBED.contains(&at) { SLOW } else { 100 }
    }

    /// How much is done between two instants, in nanoseconds at full speed.
    fn work_between(&self, from: u64, to: u64) -> u64 {
        let slow = match self.disturbance {
            Disturbance::Brownout => to.min(DISTURBED.end).saturating_sub(from.max(DISTURBED.start)),
            _ => 0,
        };
        to - from - slow * (100 - SLOW) / 100
    }
}

fn throttle(now: u64, wait: u64) -> (u64, Answer) {
    let retry_after = u32::try_from(wait.div_ceil(SECOND / 1_000)).expect("a minute at most");
    (now + WAY, Answer { status: 429, retry_after })
}

/// As many requests as the service can do, and a second's worth at once.
struct RateLimit {
    cost: u64,
    /// The instant at which the allowance is full again.
    full_at: u64,
}

impl RateLimit {
    fn new(cost: u64) -> RateLimit {
        RateLimit { cost, full_at: 0 }
    }

    fn admits(&mut self, now: u64) -> bool {
        let full_at = self.full_at.max(now) + self.cost;
        let admits = full_at - now <= SECOND;
        if admits {
            self.full_at = full_at;
        }
        admits
    }
}
