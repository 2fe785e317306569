//! The service: one queue of limited capacity, and four ways to disturb it.

use clap::ValueEnum;

use crate::queue::Answer;
use crate::{DISTURBED, SECOND};

/// The state of the service from second 60 to second 120.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Disturbance {
    /// It works at 30 % of its speed.
    Brownout,
    /// It answers everything with 503.
    Outage,
    /// It answers everything with 429, and names the instant at which that ends.
    Closed,
    /// There are three times as many requests; it answers those beyond its rate limit with 429, `Retry-After: 30`.
    Spike,
}

impl Disturbance {
    pub fn sentence(self) -> &'static str {
        match self {
            Disturbance::Brownout => "Brownout: for a minute the service works at 30 % of its speed.",
            Disturbance::Outage => {
                "Outage: for a minute the service answers everything with 503, at a fifth of the cost."
            }
            Disturbance::Closed => "Closed: for a minute the service answers everything with 429, until one instant.",
            Disturbance::Spike => {
                "Spike: for a minute there is three times the load; the excess gets 429, Retry-After: 30."
            }
        }
    }
}

/// All requests wait in one first-in-first-out queue. The service does the work even if the caller has given up. It drops
/// a request without an answer if the queue is full.
pub struct Service {
    disturbance: Disturbance,
    /// The cost of a request: nanoseconds of work at full speed.
    cost: u64,
    /// The instant, in nanoseconds, at which the whole queue is done.
    done_at: u64,
    limit: RateLimit,
}

/// The queue holds 10 s of work at full speed.
const QUEUE: u64 = 10 * SECOND;
/// A rejection costs a fifth of a request.
const REJECTION: u64 = 5;
/// The round trip between caller and service, in nanoseconds.
const ROUND_TRIP: u64 = SECOND / 20;
/// The speed in a brownout, in percent.
const SLOW: u64 = 30;

impl Service {
    /// Creates a service that can do a request every `cost` nanoseconds.
    pub fn new(disturbance: Disturbance, cost: u64) -> Service {
        Service { disturbance, cost, done_at: 0, limit: RateLimit::new(cost) }
    }

    /// Takes a request that arrives `now` (in nanoseconds). Returns the answer and the instant at which the caller has it,
    /// if there is an answer.
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

    /// Rejects requests at a gateway, at no cost to the service.
    fn closed(&mut self, now: u64) -> Option<(u64, Answer)> {
        if DISTURBED.contains(&now) { Some(throttle(now, DISTURBED.end - now)) } else { self.work(now, self.cost, 200) }
    }

    /// Applies the rate limit, before and after the disturbance, too. The simulation makes the load.
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
        Some((self.done_at + ROUND_TRIP, Answer { status, retry_after: 0 }))
    }

    /// Returns the speed at an instant, in percent.
    fn speed(&self, at: u64) -> u64 {
        if self.disturbance == Disturbance::Brownout && DISTURBED.contains(&at) { SLOW } else { 100 }
    }

    /// Returns the work done between two instants, in nanoseconds at full speed.
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
    (now + ROUND_TRIP, Answer { status: 429, retry_after })
}

/// A rate limit that equals the capacity, with a burst of one second.
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
