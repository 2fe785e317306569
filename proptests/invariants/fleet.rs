//! A fleet: many requests to one upstream in virtual time. Their drivers do on time what the actions ask for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use retry_machine::{
    Action, Event, GateState, Idempotency, Policy, Reply, RequestLimits, RetryMachine, Timestamp, TransportErrorKind,
    Upstream, WaitReason, derive_seed,
};

pub const MILLIS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MILLIS;

/// The end of an attempt. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Good,
    /// A good answer that says that nothing is left until then.
    LastOne(u64),
    Throttled(Option<u64>),
    Unavailable(Option<u64>),
    Fails(TransportErrorKind),
}

/// The service behind the upstream.
#[derive(Clone, Debug)]
pub enum Service {
    /// These answers in turn.
    Script(Vec<Answer>),
    /// So many good answers in each window of so many nanoseconds, and a throttle with the time until the next window
    /// behind them.
    Windows { answers: u64, window: u64 },
}

/// One step of a request, or of the operator.
#[derive(Clone, Debug)]
pub struct Step {
    pub at: u64,
    /// `None` for the operator.
    pub request: Option<usize>,
    pub gate: GateState,
    pub after: GateState,
    pub previous: Option<Action>,
    pub action: Option<Action>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Start(usize),
    /// The wait of a request is over.
    Tick(usize),
    /// The attempt of a request ends.
    End(usize),
    CloseGate(u64),
    OpenGate,
}

/// The requests, their upstream, and all steps so far.
pub struct Fleet {
    pub upstream: Upstream,
    pub steps: Vec<Step>,
    pub now: u64,
    machines: Vec<(RetryMachine, Option<Action>)>,
    queue: BinaryHeap<Reverse<(u64, u64, Due)>>,
    service: Service,
    sends: u64,
    window: (u64, u64),
    latency: u64,
    count: u64,
}

impl Fleet {
    pub fn new(policy: Policy, service: Service, latency: u64) -> Fleet {
        Fleet::on(Upstream::new(policy), service, latency)
    }

    pub fn on(upstream: Upstream, service: Service, latency: u64) -> Fleet {
        Fleet {
            upstream,
            steps: Vec::new(),
            now: 0,
            machines: Vec::new(),
            queue: BinaryHeap::new(),
            service,
            sends: 0,
            window: (0, 0),
            latency,
            count: 0,
        }
    }

    /// Adds a request that starts then.
    pub fn start(&mut self, at: u64, limits: RequestLimits) {
        let number = self.machines.len();
        // T5: no two fleets on one upstream share their seeds.
        let machine =
            RetryMachine::new(Idempotency::Idempotent, derive_seed(at ^ 7, number as u64)).with_limits(limits);
        self.machines.push((machine, None));
        self.plan(at, Due::Start(number));
    }

    pub fn close_gate(&mut self, at: u64, until: u64) {
        self.plan(at, Due::CloseGate(until));
    }

    pub fn open_gate(&mut self, at: u64) {
        self.plan(at, Due::OpenGate);
    }

    fn plan(&mut self, at: u64, due: Due) {
        self.count += 1;
        self.queue.push(Reverse((at, self.count, due)));
    }

    /// Lets all requests come to their ends. Panics after so many steps: then one is stuck (I7).
    pub fn run(&mut self, most: usize) {
        let begin = self.steps.len();
        while let Some(Reverse((at, _, due))) = self.queue.pop() {
            assert!(self.steps.len() - begin < most, "I7: {:?}", self.steps.last());
            self.now = self.now.max(at);
            self.step(due);
        }
        for (machine, last) in &self.machines {
            assert!(last.is_some_and(|last| last.is_terminal()), "I7: {machine:?}");
        }
    }

    fn step(&mut self, due: Due) {
        let now = Timestamp::from_nanos(self.now);
        let gate = self.upstream.gate.state(now);
        let (request, event) = match due {
            Due::Start(request) => (request, Event::Start),
            Due::Tick(request) => (request, Event::Tick),
            Due::End(request) => (request, self.answer(request)),
            Due::CloseGate(until) => {
                self.upstream.gate.close(now, Timestamp::from_nanos(until));
                return self.note(None, gate, None, None);
            }
            Due::OpenGate => {
                self.upstream.gate.open(now);
                return self.note(None, gate, None, None);
            }
        };
        let (machine, last) = &mut self.machines[request];
        let previous = *last;
        let action = machine.handle(now, event, &mut self.upstream);
        *last = Some(action);
        match action {
            Action::Send { until, .. } => {
                let end = self.now.saturating_add(self.latency);
                match until.map(Timestamp::as_nanos).filter(|limit| *limit <= end) {
                    Some(limit) => self.plan(limit, Due::Tick(request)),
                    None => self.plan(end, Due::End(request)),
                }
            }
            Action::Wait { until, .. } | Action::AwaitRefresh { until, .. } => {
                self.plan(until.as_nanos(), Due::Tick(request));
            }
            Action::RefreshToken { .. } => {
                panic!("no token of a fleet expires: {action}");
            }
            Action::InFlight { until, .. } => {
                self.plan(until.map_or(u64::MAX, Timestamp::as_nanos), Due::Tick(request))
            }
            Action::Done { .. } | Action::Fail(_) => {}
        }
        self.note(Some(request), gate, previous, Some(action));
    }

    fn note(&mut self, request: Option<usize>, gate: GateState, previous: Option<Action>, action: Option<Action>) {
        let after = self.upstream.gate.state(Timestamp::from_nanos(self.now));
        self.steps.push(Step { at: self.now, request, gate, after, previous, action });
    }

    fn answer(&mut self, request: usize) -> Event {
        let attempt = self.machines[request].0.attempts();
        let answer = match &self.service {
            Service::Script(answers) => {
                let turn = usize::try_from(self.sends).unwrap_or(0) % answers.len();
                answers[turn]
            }
            Service::Windows { answers, window } => {
                let number = self.now / window;
                if number > self.window.0 {
                    self.window = (number, 0);
                }
                self.window.1 += 1;
                let rest = (number + 1) * window - self.now;
                if self.window.1 <= *answers { Answer::Good } else { Answer::Throttled(Some(rest)) }
            }
        };
        self.sends += 1;
        let hinted = |status, hint: Option<u64>| {
            let reply = Reply::new(status);
            hint.map_or(reply, |nanos| reply.with_hint(Duration::from_nanos(nanos)))
        };
        let reply = match answer {
            Answer::Good => Reply::new(200),
            Answer::LastOne(nanos) => {
                let seconds = nanos.div_ceil(SECOND).to_string();
                let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &seconds)];
                self.upstream.policy().read(200, headers)
            }
            Answer::Throttled(hint) => hinted(429, hint),
            Answer::Unavailable(hint) => hinted(503, hint),
            Answer::Fails(kind) => return Event::TransportError { attempt, kind },
        };
        Event::Reply { attempt, reply }
    }

    /// Returns the steps of each request.
    pub fn by_request(&self) -> Vec<Vec<&Step>> {
        let mut all = vec![Vec::new(); self.machines.len()];
        for step in &self.steps {
            if let Some(request) = step.request {
                all[request].push(step);
            }
        }
        all
    }

    pub fn ends(&self) -> Vec<Action> {
        self.machines.iter().filter_map(|(_, last)| *last).collect()
    }
}

impl Step {
    pub fn is_send(&self) -> bool {
        matches!(self.action, Some(Action::Send { .. }))
    }

    /// Returns whether this step is the start of a request that has to queue.
    pub fn begins_to_queue(&self) -> bool {
        self.previous.is_none() && matches!(self.action, Some(Action::Wait { reason: WaitReason::Gate, .. }))
    }

    /// Returns whether this step ended the queue (C14), or the operator did.
    pub fn ends_queue(&self) -> bool {
        self.gate.pace.is_some() && self.after.pace.is_none()
    }

    pub fn closed_until(&self) -> Option<u64> {
        self.after.closed.map(|(until, _)| until.as_nanos())
    }
}

/// Returns a pace in nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
