//! Exhaustive exploration: machine and upstream are small plain values, so all orders of events over an alphabet can be
//! tried, with visited states merged. A model checker (stateright) does the search; every invariant is checked on every
//! edge.
//!
//! One request alone is explored until the set of reachable states closes; two on one upstream as deep as the time
//! allows. `cargo test --release --test exhaustive -- --nocapture` prints the figures, and with `--ignored` goes deeper.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use retry_machine::snapshot::{MachineSnapshot, UpstreamSnapshot};
use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Event, HintSource, Jitter, Policy, Repeat, Reply, ResetFormat, RetryMachine,
    Time, TokenOutcome, TransportError, Upstream,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

const RETRIES: u32 = 2;
const RECOVERIES: u32 = 1;
const BUDGET: u32 = 10;
const RETRY_COST: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(8);

fn policy() -> Policy {
    Policy::flextell()
        .to_builder()
        .jitter(Jitter::None)
        .max_retries(RETRIES)
        .max_server_wait(LONGEST_WAIT)
        .deadline(Some(Duration::from_secs(12)))
        .attempt_timeout(Some(Duration::from_secs(4)))
        .refresh_timeout(Duration::from_secs(4))
        .budget(Some(BudgetPolicy { capacity: BUDGET, retry_cost: RETRY_COST, throttle_cost: 0, success_refund: 1 }))
        .breaker(Some(BreakerPolicy { failures: 2, open: Duration::from_secs(2) }))
        .build()
        .unwrap()
}

/// What can happen to a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Input {
    Start,
    /// Before anything is due.
    Early,
    /// When it is due.
    Due,
    /// Three seconds after.
    Late,
    /// By a clock that goes backwards.
    Backwards,
    Status(u16),
    /// A status and its `Retry-After` in seconds.
    Hint(u16, u32),
    /// A status with nothing left for so many seconds.
    Exhausted(u16, u32),
    /// For the attempt before.
    LateStatus(u16),
    LateHint(u16, u32),
    Failed(TransportError),
    Refreshed(Option<u32>),
    Rejected,
    Unavailable(Option<u32>),
    Cancel,
}

const ALPHABET: [Input; 25] = [
    Input::Early,
    Input::Due,
    Input::Late,
    Input::Backwards,
    Input::Status(200),
    Input::Status(401),
    Input::Status(404),
    Input::Status(503),
    Input::Hint(503, 3),
    Input::Hint(429, 3),
    Input::Hint(429, 60),
    Input::Hint(404, 3),
    Input::Exhausted(403, 5),
    Input::Exhausted(200, 5),
    Input::LateStatus(200),
    Input::LateHint(429, 5),
    Input::Failed(TransportError::NotSent),
    Input::Failed(TransportError::TimedOut),
    Input::Failed(TransportError::Other),
    Input::Refreshed(None),
    Input::Refreshed(Some(1)),
    Input::Rejected,
    Input::Unavailable(None),
    Input::Unavailable(Some(3)),
    Input::Cancel,
];

/// What an observer remembers of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Seen {
    /// L1: the latest hint that counts, as milliseconds ahead.
    not_before: Time,
    sends: u32,
    /// The generation of the last attempt, and whether a 401 came for it.
    generation: u32,
    unauthorized: bool,
    end: Option<Action>,
}

#[derive(Clone, PartialEq, Debug)]
struct World {
    now: Time,
    upstream: Upstream,
    machines: Vec<(RetryMachine, Seen)>,
    repeat: Repeat,
    /// How many worlds lead here, with this one.
    depth: usize,
    /// Who holds the lease, and until when.
    lease: Option<(usize, Time)>,
    /// What retries have cost, and what successes have given back.
    spent: u32,
    refunded: u32,
    broken: Option<&'static str>,
}

/// Two worlds are the same if they go on in the same way: instants count from now.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ahead = |time: Time| time.saturating_duration_since(self.now);
        UpstreamSnapshot::new(&self.upstream, self.now).hash(state);
        for (machine, seen) in &self.machines {
            MachineSnapshot::new(machine, self.now).hash(state);
            (ahead(seen.not_before), seen.sends, seen.generation, seen.unauthorized).hash(state);
        }
        self.lease.map(|(holder, until)| (holder, ahead(until))).hash(state);
        (self.spent.saturating_sub(self.refunded), self.broken).hash(state);
    }
}

impl World {
    fn new(machines: usize, repeat: Repeat) -> World {
        // Not at time's begin, so that the clock can go backwards.
        let now = Time::from_millis(1_000_000);
        let machines = (0..machines).map(|seed| (RetryMachine::new(repeat, seed as u64), Seen::default())).collect();
        let upstream = Upstream::new(policy());
        World { now, upstream, machines, repeat, depth: 1, lease: None, spent: 0, refunded: 0, broken: None }
    }

    fn step(&mut self, who: usize, input: Input) {
        let (machine, seen) = &mut self.machines[who];
        let newest = machine.attempts();
        let in_flight = machine.in_flight();
        let due = machine.next_tick(&self.upstream).unwrap_or(self.now).max(self.now);
        let mut now = self.now;
        let event = match input {
            Input::Start => Event::Start,
            Input::Early => Event::Tick,
            Input::Due => {
                now = due;
                Event::Tick
            }
            Input::Late => {
                now = due.saturating_add(Duration::from_secs(3));
                Event::Tick
            }
            Input::Backwards => {
                now = Time::from_millis(1);
                Event::Tick
            }
            Input::Status(status) => Event::Reply(newest, Reply::new(status)),
            Input::Hint(status, seconds) => Event::Reply(newest, hinted(status, seconds)),
            Input::Exhausted(status, seconds) => Event::Reply(newest, exhausted(status, seconds)),
            Input::LateStatus(status) => Event::Reply(newest.wrapping_sub(1), Reply::new(status)),
            Input::LateHint(status, seconds) => Event::Reply(newest.wrapping_sub(1), hinted(status, seconds)),
            Input::Failed(error) => Event::TransportError(newest, error),
            Input::Refreshed(lifetime) => {
                let expires_in = lifetime.map(|seconds| Duration::from_secs(seconds.into()));
                Event::Token(TokenOutcome::Refreshed { expires_in })
            }
            Input::Rejected => Event::Token(TokenOutcome::Rejected),
            Input::Unavailable(seconds) => {
                let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
                Event::Token(TokenOutcome::Unavailable { retry_after })
            }
            Input::Cancel => Event::Cancel,
        };
        let action = machine.handle(now, event, &mut self.upstream);
        self.now = self.now.max(now);
        let now = self.now;

        let mut check = |holds: bool, invariant| {
            if !holds {
                self.broken = Some(invariant);
            }
        };
        // L1: which hints count.
        if let Event::Reply(_, reply) = event {
            let counts = matches!(reply.status(), 429 | 500 | 503) && newest > 0 && seen.end.is_none();
            if let Some(hint) = reply.hint().filter(|_| counts) {
                seen.not_before = seen.not_before.max(now.saturating_add(hint.wait()));
            }
            if (200..=299).contains(&reply.status()) && newest > 0 {
                self.refunded += 1;
            }
        }
        if let Some(end) = seen.end {
            check(action == end, I3);
        }
        let answered = matches!(event, Event::Reply(attempt, _) if Some(attempt) == in_flight);
        match input {
            Input::Status(404) | Input::Hint(404, _) | Input::Exhausted(403, _) if answered => {
                check(matches!(action, Action::Surface(_)), I4);
            }
            Input::Failed(TransportError::TimedOut) if in_flight.is_some() && self.repeat == Repeat::Unsafe => {
                check(matches!(action, Action::Surface(_)), I10);
            }
            Input::Status(401) if answered => seen.unauthorized = true,
            _ => {}
        }
        // Who had the lease and is heard of gives it up.
        let outcome = matches!(event, Event::Token(_));
        let gone = matches!(action, Action::Surface(failure) if failure.kind() != retry_machine::FailureKind::Deadline)
            || matches!(action, Action::Done { .. });
        if self.lease.is_some_and(|(holder, until)| holder == who && (outcome || gone) || until <= now) {
            self.lease = None;
        }
        match action {
            Action::Send { attempt, generation, .. } => {
                check(now >= seen.not_before, I1);
                check(attempt <= 1 + RETRIES + RECOVERIES && attempt == seen.sends + 1, I2);
                check(!seen.unauthorized || generation != seen.generation, I5);
                (seen.sends, seen.generation, seen.unauthorized) = (attempt, generation, false);
            }
            Action::RefreshToken { until, .. } => {
                check(self.lease.is_none(), I6);
                self.lease = Some((who, until));
            }
            Action::Wait { until, .. } => {
                check(until.saturating_duration_since(now) <= LONGEST_WAIT, I8);
                let throttled = matches!(event, Event::Reply(_, reply) if reply.status() == 429);
                if in_flight.is_some() && machine.in_flight().is_none() && !throttled {
                    self.spent += RETRY_COST;
                    check(self.spent <= BUDGET + self.refunded, I9);
                }
            }
            Action::Done { .. } | Action::Surface(_) => seen.end = Some(action),
            Action::AwaitToken { .. } | Action::InFlight { .. } => {}
        }
    }

    /// I7: answered on time, with whatever keeps it going longest, every request ends.
    fn ends(&self) -> bool {
        let mut world = self.clone();
        (0..world.machines.len()).all(|who| {
            (0..40).any(|_| {
                let input = match world.machines[who].0.in_flight() {
                    Some(_) => Input::Status(503),
                    None => Input::Due,
                };
                world.step(who, input);
                world.machines[who].1.end.is_some()
            })
        })
    }
}

fn hinted(status: u16, seconds: u32) -> Reply {
    Reply::new(status).with_hint(Duration::from_secs(seconds.into()), HintSource::RetryAfter)
}

fn exhausted(status: u16, seconds: u32) -> Reply {
    let headers = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", seconds.to_string())];
    Reply::read(status, headers, None, ResetFormat::Delta)
}

const I1: &str = "I1: never sooner than any hint that counts";
const I2: &str = "I2: attempts are at most 1 + retries + recoveries";
const I3: &str = "I3: no attempt after a terminal action, which comes back for ever";
const I4: &str = "I4: no attempt follows a status that is not retried";
const I5: &str = "I5: after a 401 only with a newer token";
const I6: &str = "I6: at most one unexpired lease";
const I8: &str = "I8: waits within the policy's bounds";
const I9: &str = "I9: retries within the budget";
const I10: &str = "I10: an unsafe request is never sent twice after an ambiguous failure";

/// All orders of events for so many requests.
struct Exploration {
    requests: usize,
    repeat: Repeat,
    depth: usize,
}

impl Model for Exploration {
    type State = World;
    type Action = (usize, Input);

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.requests, self.repeat)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<(usize, Input)>) {
        // What is broken is found; what it would lead to may have no end.
        if world.broken.is_some() || world.depth == self.depth {
            return;
        }
        for (who, (machine, seen)) in world.machines.iter().enumerate() {
            if machine.attempts() == 0 && machine.next_tick(&world.upstream).is_none() && seen.end.is_none() {
                actions.extend([(who, Input::Start), (who, Input::Cancel)]);
            } else {
                actions.extend(ALPHABET.map(|input| (who, input)));
            }
        }
    }

    fn next_state(&self, world: &World, (who, input): (usize, Input)) -> Option<World> {
        // What comes after the end is tried once for each end; it leads nowhere new for the request.
        let ended = world.machines[who].1.end.is_some();
        let mut world = world.clone();
        world.step(who, input);
        world.depth += 1;
        (!ended || world.broken.is_some() || world.machines.len() > 1).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties =
            vec![Property::<Self>::always("I7: every request ends", |_, world| world.broken.is_some() || world.ends())];
        macro_rules! invariants {
            ($($invariant:ident),*) => {
                $(properties.push(Property::always($invariant, |_, world: &World| world.broken != Some($invariant)));)*
            };
        }
        invariants!(I1, I2, I3, I4, I5, I6, I8, I9, I10);
        properties
    }
}

fn explore(requests: usize, repeat: Repeat, depth: usize) {
    let begun = Instant::now();
    let exploration = Exploration { requests, repeat, depth };
    let checker = exploration.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    checker.assert_properties();
    println!(
        "{requests} request(s), {repeat:?}: {} states, {} edges, depth {}, {} in {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        if checker.max_depth() < depth { "closed" } else { "not closed" },
        begun.elapsed(),
    );
}

#[test]
fn i1_to_i11_one_safe_request_explored() {
    explore(1, Repeat::Safe, 60);
}

#[test]
fn i1_to_i11_one_unsafe_request_explored() {
    explore(1, Repeat::Unsafe, 60);
}

#[test]
fn i1_to_i11_two_requests_on_one_upstream_explored() {
    explore(2, Repeat::Safe, 7);
}

#[test]
#[ignore = "goes deeper than two minutes allow"]
fn i1_to_i11_two_requests_on_one_upstream_explored_deeper() {
    explore(2, Repeat::Safe, 9);
}
