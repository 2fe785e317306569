//! One run: clients call a service in virtual time. Each request has a machine of its own.

use std::time::Duration;

use fastrand::Rng;
use retry_machine::{
    Action, Event, FailureKind, Idempotency, Policy, Reply, RequestLimits, RetryMachine, Timestamp, Upstream,
    WaitReason, derive_seed,
};
use slab::Slab;

use crate::SECOND;
use crate::clients::{Arrivals, Clients};
use crate::figures::{End, Figures};
use crate::queue::{self, Due, Happening, Queue};
use crate::scenario::Scenario;
use crate::service::{Answer, Service};

/// The events that come between a request and its answer, beside the service.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Trouble {
    /// The time limit of each request, in milliseconds.
    pub deadline: Option<u64>,
    /// Every second request is cancelled within this number of milliseconds from its start.
    pub cancelled: Option<u64>,
    /// Each tick is late by up to so many milliseconds.
    pub late: u64,
    /// Halfway the clock of all clients jumps ahead by so many milliseconds.
    pub jump: u64,
    /// So many of the clients that never pause begin a request every half minute only.
    pub quiet: u32,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    policy: &'a Policy,
    seed: u64,
    /// Draws the trouble.
    rng: Rng,
    upstreams: Vec<Upstream>,
    /// The requests under way.
    requests: Slab<Request>,
    /// Number of requests begun.
    number: u32,
    queue: Queue,
    arrivals: Arrivals,
    service: Service,
    figures: Figures,
}

/// A request waits for one event at a time, beside a cancel: its answer, or a tick.
struct Request {
    machine: RetryMachine,
    number: u32,
    client: u32,
    /// Milliseconds, as all that follow.
    begun: u64,
    /// The end of the time that the last hint for this request named.
    told: u64,
    /// The beginning of a wait for the server: for a hint, or at the gate.
    waits_since: Option<u64>,
    /// The sum of these waits.
    waited: u64,
}

const MILLISECOND: u64 = SECOND / 1_000;
/// A worker whose request failed pauses, in milliseconds, since some requests fail at once.
const AFTER_FAILURE: u64 = 1_000;

/// Runs to the end.
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Figures {
    let interval = scenario.clients.interval();
    // The service can do a third more than the clients ask for.
    let cost = interval * 3 / 4;
    let mut simulation = Simulation {
        scenario,
        policy,
        seed,
        rng: Rng::with_seed(seed ^ 0x7a0b1e),
        upstreams: vec![Upstream::new(policy.clone()); scenario.upstreams() as usize],
        requests: Slab::new(),
        number: 0,
        queue: Queue::new(),
        arrivals: Arrivals::new(interval, scenario.begins, &scenario.service, seed),
        service: Service::new(&scenario.service, cost, seed),
        figures: Figures::new(scenario.seconds, SECOND / cost),
    };
    simulation.run();
    simulation.figures
}

impl Simulation<'_> {
    fn run(&mut self) {
        self.populate();
        let end = self.scenario.seconds * 1_000;
        while self.queue.now() < end {
            for due in self.queue.advance(end) {
                match due {
                    Due::Begin(client) => self.due_to_begin(client),
                    Due::Request(request, happening) => self.dispatch(request, happening),
                }
            }
        }
        self.figures.waiting = self.requests.len() as u64;
    }

    fn populate(&mut self) {
        match self.scenario.clients {
            Clients::Fleet { .. } | Clients::Batches { .. } => self.queue.put(1, Due::Begin(0)),
            Clients::Loops { clients, every } => {
                for client in 0..clients {
                    let first = self.rng.u64(0..=every);
                    self.queue.put(first, Due::Begin(client));
                }
            }
        }
    }

    fn due_to_begin(&mut self, client: u32) {
        match self.scenario.clients {
            Clients::Fleet { clients, .. } => {
                while self.arrivals.next() <= self.queue.now() * MILLISECOND {
                    let client = self.arrivals.advance(clients);
                    self.begin(client);
                }
                self.queue.put(self.arrivals.next().div_ceil(MILLISECOND), Due::Begin(0));
            }
            Clients::Loops { .. } => self.begin(client),
            Clients::Batches { requests, every } => {
                self.queue.put(self.queue.now() + every * 1_000, Due::Begin(0));
                for client in 0..requests {
                    self.begin(client);
                }
            }
        }
    }

    fn begin(&mut self, client: u32) {
        let begun = self.queue.now();
        let limits = RequestLimits {
            deadline: self.scenario.trouble.deadline.map(Duration::from_millis),
            ..RequestLimits::default()
        };
        let machine =
            RetryMachine::new(Idempotency::Idempotent, derive_seed(self.seed, self.number.into())).with_limits(limits);
        let number = self.number;
        self.number += 1;
        let request = Request { machine, number, client, begun, told: 0, waits_since: None, waited: 0 };
        let key = self.requests.insert(request) as u32;
        self.figures.begun(begun);
        if let Some(within) = self.scenario.trouble.cancelled {
            if number % 2 == 1 {
                let at = begun + self.rng.u64(1..=within);
                self.queue.put(at, Due::Request(queue::Request { key, number }, Happening::Cancel));
            }
        }
        self.drive(key, Event::Start);
    }

    fn dispatch(&mut self, due: queue::Request, happening: Happening) {
        // The request may have ended, and another may have its key.
        let Some(request) = self.requests.get_mut(due.key as usize).filter(|request| request.number == due.number)
        else {
            return;
        };
        let event = match happening {
            Happening::Tick => Event::Tick,
            Happening::Cancel => Event::Cancel,
            Happening::Reply(answer) => {
                let reply = read(self.policy, answer);
                if let (false, Some(hint)) = (answer.is_good(), reply.hint()) {
                    request.told = self.queue.now() + hint.wait().as_millis() as u64;
                }
                Event::Reply { attempt: request.machine.attempts(), reply }
            }
        };
        self.drive(due.key, event);
    }

    /// Reports an event to a machine, and carries out the action.
    fn drive(&mut self, key: u32, mut event: Event) {
        let now = self.queue.now();
        // The clients' clock.
        let ahead = if now * 2 > self.scenario.seconds * 1_000 { self.scenario.trouble.jump } else { 0 };
        let in_time_of_queue = |until: Timestamp| until.as_millis_ceil().saturating_sub(ahead);
        let upstreams = self.upstreams.len();
        let request = &mut self.requests[key as usize];
        let name = queue::Request { key, number: request.number };
        let upstream = &mut self.upstreams[request.client as usize % upstreams];
        request.waited += request.waits_since.take().map_or(0, |since| now - since);
        let end = loop {
            match request.machine.handle(Timestamp::from_millis(now + ahead), event, &mut *upstream) {
                Action::Send { attempt, until, .. } => {
                    let give_up = in_time_of_queue(until.expect("every attempt has a limit"));
                    let answer = self.service.take(now * MILLISECOND, request.client, attempt);
                    // The caller has given up on an answer that comes too late.
                    let in_time =
                        answer.map(|(at, answer)| (at.div_ceil(MILLISECOND), answer)).filter(|(at, _)| *at < give_up);
                    self.figures.sent(now, in_time.map(|(_, answer)| answer), now < request.told);
                    return match in_time {
                        Some((at, answer)) => self.queue.put(at, Due::Request(name, Happening::Reply(answer))),
                        None => self.queue.put(give_up, Due::Request(name, Happening::Tick)),
                    };
                }
                Action::Wait { until, reason, .. } if in_time_of_queue(until) > now => {
                    request.waits_since = (reason != WaitReason::Backoff).then_some(now);
                    let late =
                        if self.scenario.trouble.late > 0 { self.rng.u64(0..=self.scenario.trouble.late) } else { 0 };
                    return self.queue.put(in_time_of_queue(until) + late, Due::Request(name, Happening::Tick));
                }
                // The attempt is cancelled or the tick early.
                Action::InFlight { until, .. } => {
                    let until = in_time_of_queue(until.expect("every attempt has a limit"));
                    return self.queue.put(until, Due::Request(name, Happening::Tick));
                }
                Action::Wait { .. } => event = Event::Tick,
                Action::Done { .. } => break End::Done,
                Action::Fail(failure) => {
                    break match failure.kind() {
                        FailureKind::NotFound => End::Done,
                        FailureKind::Cancelled => End::Cancelled,
                        FailureKind::Deadline => End::Deadline,
                        _ => End::Lost,
                    };
                }
                action => unreachable!("there are no tokens: {action}"),
            }
        };
        let request = self.requests.remove(key as usize);
        self.figures.ended(now, request.begun, request.waited, end);
        self.next_of(&request, end);
    }

    /// Schedules the next request of a client that begins one after the other.
    fn next_of(&mut self, request: &Request, end: End) {
        if let Clients::Loops { every, .. } = self.scenario.clients {
            let pause = if end == End::Lost { AFTER_FAILURE } else { 1 };
            let every = if request.client < self.scenario.trouble.quiet { 30_000 } else { every };
            let next = (request.begun + every).max(self.queue.now() + pause);
            self.queue.put(next, Due::Begin(request.client));
        }
    }
}

/// Reads an answer as a client reads the headers of a response.
fn read(policy: &Policy, answer: Answer) -> Reply {
    if answer.retry_after == 0 && answer.rate_limit.is_none() {
        return Reply::new(answer.status);
    }
    let mut headers = Vec::new();
    match answer.retry_after {
        0 => {}
        wait if wait % 1_000 == 0 => headers.push(("retry-after", (wait / 1_000).to_string())),
        wait => headers.push(("retry-after-ms", wait.to_string())),
    }
    if let Some((left, reset)) = answer.rate_limit {
        headers.push(("ratelimit-remaining", left.to_string()));
        headers.push(("ratelimit-reset", reset.to_string()));
    }
    policy.read(answer.status, headers)
}
