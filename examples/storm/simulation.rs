//! One run: a fleet of clients calls the service in virtual time. Each request has a machine of its own.

use std::hint::black_box;
use std::time::Duration;

use fastrand::Rng;
use retry_machine::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream, derive_seed};
use slab::Slab;

use crate::figures::Figures;
use crate::queue::{Answer, Due, Queue};
use crate::service::{Disturbance, Service};
use crate::{DISTURBED, SECOND, SECONDS};

/// The settings of a run.
#[derive(Clone)]
pub struct Setting {
    pub disturbance: Disturbance,
    pub policy: Policy,
    pub obeys_hints: bool,
    /// Number of upstream values for all clients.
    pub upstreams: u32,
    pub clients: u32,
    /// Average nanoseconds between two requests of all clients.
    pub interval: u64,
    pub seed: u64,
}

struct Simulation {
    setting: Setting,
    upstreams: Vec<Upstream>,
    /// The requests under way.
    requests: Slab<Request>,
    /// Number of requests begun.
    number: u64,
    queue: Queue,
    service: Service,
    figures: Figures,
}

/// A request waits for one event at a time: its answer, or a tick.
struct Request {
    machine: RetryMachine,
    upstream: u32,
    /// Milliseconds.
    begun: u32,
}

const MILLISECOND: u64 = SECOND / 1_000;

/// Runs to the end. Calls `progress` after each virtual second.
pub fn run(setting: Setting, progress: impl Fn()) -> Figures {
    // The service can do a third more than the clients ask for.
    let cost = setting.interval * 3 / 4;
    let mut simulation = Simulation {
        upstreams: vec![Upstream::new(setting.policy.clone()); setting.upstreams as usize],
        requests: Slab::new(),
        number: 0,
        queue: Queue::new(),
        service: Service::new(setting.disturbance, cost),
        figures: Figures::new(SECOND / cost),
        setting,
    };
    simulation.run(&progress);
    simulation.figures
}

impl Simulation {
    fn run(&mut self, progress: &impl Fn()) {
        let mut rng = Rng::with_seed(self.setting.seed);
        let mut arrival = 0;
        let mut arrivals = Vec::new();
        while self.queue.now() < SECONDS * 1_000 {
            let due = self.queue.advance();
            let now = self.queue.now() * MILLISECOND;
            arrivals.clear();
            while arrival <= now {
                arrivals.push(rng.u32(0..self.setting.clients) % self.setting.upstreams);
                arrival += self.gap(arrival, &mut rng);
            }
            self.touch(&due, &arrivals);
            for due in due {
                self.dispatch(due);
            }
            for upstream in &arrivals {
                self.begin(*upstream);
            }
            if now % SECOND == 0 {
                progress();
            }
        }
    }

    /// Draws the time from `now` to the next request: a Poisson process.
    fn gap(&self, now: u64, rng: &mut Rng) -> u64 {
        let spike = self.setting.disturbance == Disturbance::Spike && DISTURBED.contains(&now);
        let mean = if spike { self.setting.interval / 3 } else { self.setting.interval };
        u64::try_from((u128::from(mean) * u128::from(exponential(rng))) >> 32).expect("a gap of some seconds")
    }

    fn begin(&mut self, upstream: u32) {
        let machine = RetryMachine::new(Idempotency::Idempotent, derive_seed(self.setting.seed, self.number));
        let begun = u32::try_from(self.queue.now()).expect("minutes");
        self.number += 1;
        let request = Request { machine, upstream, begun };
        let key = u32::try_from(self.requests.insert(request)).expect("fewer than four billion at a time");
        self.figures.begun(self.queue.now());
        self.drive(key, Event::Start);
    }

    /// Reads the state behind all due events before any of them is handled. With a million clients none of it is in the
    /// cache, and memory delivers it faster if all of it is requested at once.
    fn touch(&self, due: &[Due], arrivals: &[u32]) {
        for due in due {
            let request = &self.requests[due.key()];
            black_box((request.begun, request.machine.attempts()));
        }
        let due = due.iter().map(|due| &self.requests[due.key()].upstream);
        for upstream in due.chain(arrivals) {
            black_box(self.upstreams[*upstream as usize].clone());
        }
    }

    fn dispatch(&mut self, due: Due) {
        match due {
            Due::Tick(key) => self.drive(key, Event::Tick),
            Due::Reply(key, answer) => {
                let attempt = self.requests[key as usize].machine.attempts();
                self.drive(key, Event::Reply { attempt, reply: self.read(answer) });
            }
        }
    }

    fn read(&self, answer: Answer) -> Reply {
        let reply = Reply::new(answer.status);
        if answer.retry_after == 0 || !self.setting.obeys_hints {
            return reply;
        }
        reply.with_hint(Duration::from_millis(answer.retry_after.into()))
    }

    /// Reports an event to a machine, and carries out the action.
    fn drive(&mut self, key: u32, mut event: Event) {
        let now = self.queue.now();
        let request = &mut self.requests[key as usize];
        let upstream = &mut self.upstreams[request.upstream as usize];
        loop {
            match request.machine.handle(Timestamp::from_millis(now), event, upstream) {
                Action::Send { until, .. } => {
                    let give_up = until.expect("every attempt has a limit").as_millis_ceil();
                    let answer = self.service.take(now * MILLISECOND);
                    // The caller has given up on an answer that comes too late.
                    let in_time =
                        answer.map(|(at, answer)| (at.div_ceil(MILLISECOND), answer)).filter(|(at, _)| *at < give_up);
                    self.figures.sent(now, in_time.is_some_and(|(_, answer)| answer.status == 200));
                    return match in_time {
                        Some((at, answer)) => self.queue.put(at, Due::Reply(key, answer)),
                        None => self.queue.put(give_up, Due::Tick(key)),
                    };
                }
                Action::Wait { until, .. } if until.as_millis_ceil() > now => {
                    return self.queue.put(until.as_millis_ceil(), Due::Tick(key));
                }
                Action::Wait { .. } => event = Event::Tick,
                Action::Done { .. } => {
                    self.figures.done(now - u64::from(request.begun));
                    break;
                }
                Action::Fail(_) => {
                    self.figures.lost += 1;
                    break;
                }
                action => unreachable!("there are no tokens and no other events: {action}"),
            }
        }
        self.requests.remove(key as usize);
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
