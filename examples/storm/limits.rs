//! Honest rate limits: windows and token buckets, and the ways to tell them.

use crate::SECOND;
use crate::service::Answer;

/// The limits of a service. A request must be within all of them.
#[derive(Clone, Debug)]
pub struct Limits {
    pub all: Vec<Limit>,
    pub told: Told,
    /// Until this second the service refuses everything, and says when that ends.
    pub closed_for: u64,
    /// Calls per second of strangers, which count, too.
    pub strangers: u64,
    /// Whether the first answer of all names an instant that lies far away.
    pub first_lies: bool,
    /// So many clients ask for something else, of which the service has nothing left: it says so, with a hint of 5 s.
    pub others: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub calls: u64,
    /// Seconds.
    pub per: u64,
    pub shape: Shape,
    /// From this second on it is this number of calls.
    pub changes: Option<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// So many calls in each window.
    Window,
    /// A token bucket that holds this number of tokens.
    Bucket(u64),
}

/// How the service tells its limit, in whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    RetryAfter,
    /// Remaining and reset.
    RateLimit,
    Both,
}

impl Limit {
    pub fn window(calls: u64, per: u64) -> Limit {
        Limit { calls, per, shape: Shape::Window, changes: None }
    }

    pub fn bucket(calls: u64, per: u64, burst: u64) -> Limit {
        Limit { shape: Shape::Bucket(burst), ..Limit::window(calls, per) }
    }

    /// Returns the number of calls that the limit allows in a run of so many seconds.
    pub fn allowed(&self, seconds: u64) -> u64 {
        let (changes, then) = self.changes.unwrap_or((seconds, 0));
        let burst = if let Shape::Bucket(burst) = self.shape { burst } else { 0 };
        burst + (self.calls * changes + then * (seconds - changes)) / self.per
    }
}

impl Limits {
    pub fn new(all: Vec<Limit>, told: Told) -> Limits {
        Limits { all, told, closed_for: 0, strangers: 0, first_lies: false, others: 0 }
    }
}

/// A service with limits.
pub struct Limited {
    limits: Limits,
    meters: Vec<Meter>,
    /// Number of calls of strangers so far.
    strangers: u64,
    has_answered: bool,
}

/// The use of one limit.
enum Meter {
    Window { number: u64, left: u64 },
    Bucket(Bucket),
}

impl Limited {
    pub fn new(limits: &Limits) -> Limited {
        let meter = |limit: &Limit| match limit.shape {
            Shape::Window => Meter::Window { number: 0, left: limit.calls },
            Shape::Bucket(burst) => Meter::Bucket(Bucket::new(limit.calls, limit.per * SECOND, burst)),
        };
        let meters = limits.all.iter().map(meter).collect();
        Limited { limits: limits.clone(), meters, strangers: 0, has_answered: false }
    }

    pub fn take(&mut self, now: u64, client: u32) -> Answer {
        if client < self.limits.others {
            return Answer::hinted(429, 5_000);
        }
        if self.limits.first_lies && !self.has_answered {
            self.has_answered = true;
            return Answer::hinted(429, 1_700_000_000);
        }
        if now < self.limits.closed_for * SECOND {
            return Answer::hinted(429, whole_seconds(self.limits.closed_for * SECOND - now) * 1_000);
        }
        while self.strangers < now / SECOND * self.limits.strangers {
            self.strangers += 1;
            self.consume(now);
        }
        let wait = self.consume(now);
        let rate_limit = (self.limits.told != Told::RetryAfter).then(|| self.rate_limit(now));
        let status = if wait > 0 { 429 } else { 200 };
        let retry_after = if self.limits.told == Told::RateLimit { 0 } else { whole_seconds(wait) * 1_000 };
        Answer { status, retry_after, rate_limit }
    }

    /// Takes a call of each limit, if all have one. Otherwise, returns the time until they have.
    fn consume(&mut self, now: u64) -> u64 {
        let mut longest = 0;
        for (meter, limit) in self.meters.iter_mut().zip(&self.limits.all) {
            longest = longest.max(meter.wait(now, limit));
        }
        if longest == 0 {
            for meter in &mut self.meters {
                meter.take(now);
            }
        }
        longest
    }

    /// Returns the calls that are left in the tightest limit, and the whole seconds until it is reset.
    fn rate_limit(&self, now: u64) -> (u64, u64) {
        let each = self.meters.iter().zip(&self.limits.all).map(|(meter, limit)| meter.left(now, limit));
        let (left, reset) = each.min_by_key(|(left, reset)| (*left, u64::MAX - reset)).expect("a limit");
        (left, whole_seconds(reset))
    }
}

impl Meter {
    fn wait(&mut self, now: u64, limit: &Limit) -> u64 {
        let calls = match limit.changes {
            Some((second, calls)) if now >= second * SECOND => calls,
            _ => limit.calls,
        };
        let window = limit.per * SECOND;
        match self {
            Meter::Window { number, left } => {
                if *number < now / window {
                    (*number, *left) = (now / window, calls);
                }
                if *left > 0 { 0 } else { window - now % window }
            }
            Meter::Bucket(bucket) => {
                bucket.cost = window / calls;
                bucket.wait(now)
            }
        }
    }

    fn take(&mut self, now: u64) {
        match self {
            Meter::Window { left, .. } => *left -= 1,
            Meter::Bucket(bucket) => bucket.take(now),
        }
    }

    fn left(&self, now: u64, limit: &Limit) -> (u64, u64) {
        let window = limit.per * SECOND;
        match self {
            Meter::Window { left, .. } => (*left, window - now % window),
            Meter::Bucket(bucket) => bucket.left(now),
        }
    }
}

/// A token bucket.
pub struct Bucket {
    /// Nanoseconds for each token.
    cost: u64,
    burst: u64,
    /// The instant at which the bucket is full again.
    full_at: u64,
}

impl Bucket {
    pub fn new(calls: u64, per: u64, burst: u64) -> Bucket {
        Bucket { cost: per / calls, burst: burst.max(1), full_at: 0 }
    }

    /// Returns the time until there is a token.
    pub fn wait(&self, now: u64) -> u64 {
        (self.full_at.max(now) + self.cost).saturating_sub(now + self.cost * self.burst)
    }

    pub fn take(&mut self, now: u64) {
        self.full_at = self.full_at.max(now) + self.cost;
    }

    /// Returns the number of tokens, and the time until there is one more.
    fn left(&self, now: u64) -> (u64, u64) {
        let debt = self.full_at.saturating_sub(now);
        (
            (self.cost * self.burst).saturating_sub(debt) / self.cost,
            self.cost - self.cost.saturating_sub(debt % self.cost) % self.cost,
        )
    }
}

fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(SECOND)
}
