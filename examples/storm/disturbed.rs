//! A service of limited capacity: one first-in-first-out queue, and the ways to disturb it.

use std::ops::Range;

use crate::SECOND;
use crate::limits::Bucket;
use crate::service::{Answer, ROUND_TRIP};

/// The disturbance, in nanoseconds. Before it, the clients collect a history.
pub const DISTURBED: Range<u64> = 300 * SECOND..360 * SECOND;
/// The length of a run in virtual seconds.
pub const SECONDS: u64 = 840;

/// The state of the service during the disturbance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disturbance {
    /// It works at 30 % of its speed, and says nothing when its queue is full.
    Brownout,
    /// It answers everything with 503, at a fifth of the cost; with this hint in seconds, or none if 0.
    Outage(u64),
    /// It answers everything with 429 at no cost, and names the instant at which that ends.
    Closed,
    /// There are three times as many requests; it answers those beyond its rate limit with 429 and a hint of 30 s.
    Spike,
    /// It works at 30 % of its speed, and sheds the requests that would wait for too long.
    Shed(Shedding),
    /// It works at 60 % of its speed, and that does not end.
    Drop,
}

/// The answer to a request that the service sheds. It sheds after the disturbance, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shedding {
    pub status: u16,
    /// Seconds, or 0 for none.
    pub hint: u64,
    /// Whether a rejection costs nothing. Otherwise it costs a fifth of a request.
    pub free: bool,
}

/// The service does the work even if the caller has given up.
pub struct Disturbed {
    disturbance: Disturbance,
    /// The cost of a request: nanoseconds of work at full speed.
    cost: u64,
    /// The instant, in nanoseconds, at which the whole queue is done.
    done_at: u64,
    limit: Bucket,
}

/// The queue holds 10 s of work at full speed.
const QUEUE: u64 = 10 * SECOND;
/// A service that sheds lets a second of work at full speed wait. At 30 % of the speed that takes too long for every caller.
const SHED_QUEUE: u64 = SECOND;
/// A rejection costs a fifth of a request.
const REJECTION: u64 = 5;

impl Disturbed {
    pub fn new(disturbance: Disturbance, cost: u64) -> Disturbed {
        Disturbed { disturbance, cost, done_at: 0, limit: Bucket::new(SECOND / cost, SECOND, SECOND / cost) }
    }

    pub fn take(&mut self, now: u64) -> Option<(u64, Answer)> {
        let is_disturbed = DISTURBED.contains(&now);
        match self.disturbance {
            Disturbance::Outage(hint) if is_disturbed => {
                self.work(now, self.cost / REJECTION).map(|at| (at, Answer::hinted(503, hint * 1_000)))
            }
            Disturbance::Closed if is_disturbed => {
                let wait = (DISTURBED.end - now).div_ceil(SECOND / 1_000);
                Some((now + ROUND_TRIP, Answer::hinted(429, wait)))
            }
            // The limit is always there.
            Disturbance::Spike if self.limit.wait(now) > 0 => Some((now + ROUND_TRIP, Answer::hinted(429, 30_000))),
            Disturbance::Shed(shedding) if self.backlog(now) >= SHED_QUEUE => {
                let answer = Answer::hinted(shedding.status, shedding.hint * 1_000);
                // A rejection that costs something waits in the queue, too.
                let at = if shedding.free { Some(now + ROUND_TRIP) } else { self.work(now, self.cost / REJECTION) };
                at.map(|at| (at, answer))
            }
            _ => {
                self.limit.take(now);
                self.work(now, self.cost).map(|at| (at, Answer::plain(200)))
            }
        }
    }

    /// Appends work to the queue, if it is not full. Returns the instant at which the caller has the answer.
    fn work(&mut self, now: u64, cost: u64) -> Option<u64> {
        if self.backlog(now) >= QUEUE {
            return None;
        }
        let begin = self.done_at.max(now);
        self.done_at = begin + cost * 100 / self.speed(begin);
        Some(self.done_at + ROUND_TRIP)
    }

    /// Returns the speed at an instant, in percent.
    fn speed(&self, at: u64) -> u64 {
        match self.slow() {
            Some((slow, range)) if range.contains(&at) => slow,
            _ => 100,
        }
    }

    /// Returns the speed while the service is slow, in percent, and the time for which it is.
    fn slow(&self) -> Option<(u64, Range<u64>)> {
        match self.disturbance {
            Disturbance::Brownout | Disturbance::Shed(_) => Some((30, DISTURBED)),
            Disturbance::Drop => Some((60, DISTURBED.start..u64::MAX)),
            _ => None,
        }
    }

    /// Returns the work that waits, in nanoseconds at full speed.
    fn backlog(&self, now: u64) -> u64 {
        let until = self.done_at.max(now);
        let slow = self.slow().map_or(0, |(speed, range)| {
            until.min(range.end).saturating_sub(now.max(range.start)) * (100 - speed) / 100
        });
        until - now - slow
    }
}
