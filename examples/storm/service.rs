//! The services: what each answers, and when.

use fastrand::Rng;

use crate::SECOND;
use crate::disturbed::{Disturbance, Disturbed};
use crate::limits::{Limited, Limits};

/// An answer of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    /// `Retry-After`: milliseconds until the next call is allowed, or 0.
    pub retry_after: u64,
    /// `RateLimit-Remaining` and `RateLimit-Reset`: the calls that are left, and whole seconds.
    pub rate_limit: Option<(u64, u64)>,
}

impl Answer {
    pub fn plain(status: u16) -> Answer {
        Answer { status, retry_after: 0, rate_limit: None }
    }

    pub fn hinted(status: u16, retry_after: u64) -> Answer {
        Answer { retry_after, ..Answer::plain(status) }
    }

    /// Returns whether the service did what the request asked for, or said that this is impossible.
    pub fn is_good(self) -> bool {
        self.status < 429
    }
}

/// The time between caller and service, there and back, in nanoseconds.
pub const ROUND_TRIP: u64 = SECOND / 20;

/// The service of a scenario.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One queue of limited capacity that is disturbed.
    Disturbed(Disturbance),
    /// It takes all requests within its limits.
    Limited(Limits),
    /// It fails this percentage of all attempts at random with 503, and answers the others with this status.
    Failing(u64, u16),
    /// It fails this number of attempts of each request with this answer.
    FirstFail(u32, Answer),
}

pub enum Service {
    Disturbed(Disturbed),
    Limited(Limited),
    Failing(u64, u16, Rng),
    FirstFail(u32, Answer),
}

impl Service {
    /// Creates a service. If its capacity is limited, it can do a request every `cost` nanoseconds.
    pub fn new(kind: &Kind, cost: u64, seed: u64) -> Service {
        match kind {
            Kind::Disturbed(disturbance) => Service::Disturbed(Disturbed::new(*disturbance, cost)),
            Kind::Limited(limits) => Service::Limited(Limited::new(limits)),
            Kind::Failing(percent, answer) => Service::Failing(*percent, *answer, Rng::with_seed(seed ^ 0xfa11)),
            Kind::FirstFail(times, answer) => Service::FirstFail(*times, *answer),
        }
    }

    /// Takes an attempt (the first is number 1) that arrives `now`, in nanoseconds. Returns the answer and the instant at
    /// which the caller has it, if there is an answer.
    pub fn take(&mut self, now: u64, client: u32, attempt: u32) -> Option<(u64, Answer)> {
        let answer = match self {
            Service::Disturbed(disturbed) => return disturbed.take(now),
            Service::Limited(limited) => limited.take(now, client),
            Service::Failing(percent, answer, rng) => {
                Answer::plain(if rng.u64(0..100) < *percent { 503 } else { *answer })
            }
            Service::FirstFail(times, answer) if attempt <= *times => *answer,
            Service::FirstFail(..) => Answer::plain(200),
        };
        Some((now + ROUND_TRIP, answer))
    }
}
