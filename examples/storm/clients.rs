//! The clients: when each of them begins a request.

use fastrand::Rng;

use crate::SECOND;
use crate::disturbed::{DISTURBED, Disturbance};
use crate::service::Kind;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Clients {
    /// A fleet: each client begins a request every so many seconds on average, at random.
    Fleet { clients: u32, every: u64 },
    /// Each client begins a request every so many milliseconds, but one at a time. With 0 it is a worker that never
    /// pauses.
    Loops { clients: u32, every: u64 },
    /// All requests begin at once, every so many seconds again.
    Batches { requests: u32, every: u64 },
}

impl Clients {
    pub fn count(self) -> u32 {
        match self {
            Clients::Fleet { clients, .. } | Clients::Loops { clients, .. } => clients,
            Clients::Batches { requests, .. } => requests,
        }
    }

    /// Returns the nanoseconds between two requests of all clients of a fleet. The service of a fleet can do a third
    /// more.
    pub fn interval(self) -> u64 {
        match self {
            Clients::Fleet { clients, every } => every * SECOND / u64::from(clients),
            _ => SECOND / 10_000,
        }
    }
}

/// The requests of a fleet: a Poisson process.
pub struct Arrivals {
    rng: Rng,
    /// Mean, in nanoseconds.
    interval: u64,
    has_spike: bool,
    next: u64,
}

impl Arrivals {
    pub fn new(interval: u64, begins: u64, service: &Kind, seed: u64) -> Arrivals {
        let has_spike = matches!(service, Kind::Disturbed(Disturbance::Spike));
        Arrivals { rng: Rng::with_seed(seed), interval, has_spike, next: begins * SECOND }
    }

    /// Returns the instant of the next arrival, in nanoseconds.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Draws the client that arrives, and the next arrival.
    pub fn advance(&mut self, clients: u32) -> u32 {
        let client = self.rng.u32(0..clients);
        let is_spike = self.has_spike && DISTURBED.contains(&self.next);
        let mean = if is_spike { self.interval / 3 } else { self.interval };
        let gap = (u128::from(mean) * u128::from(exponential(&mut self.rng))) >> 32;
        self.next += u64::try_from(gap).expect("a gap of some seconds");
        client
    }
}

/// Draws an exponential variate of mean 1, as a fixed-point number with 32 bits of fraction. Von Neumann's method (1951)
/// needs only comparisons, so the result is the same on every computer.
fn exponential(rng: &mut Rng) -> u64 {
    let mut whole = 0;
    loop {
        let first = rng.u32(..);
        let mut last = first;
        let mut falling = 1;
        loop {
            let next = rng.u32(..);
            if next >= last {
                break;
            }
            last = next;
            falling += 1;
        }
        if falling % 2 == 1 {
            return whole << 32 | u64::from(first);
        }
        whole += 1;
    }
}
