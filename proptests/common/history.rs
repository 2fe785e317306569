//! A history: the events that requests to one upstream were told, and their answers. The oracle sees only this.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use retry_machine::snapshot::{MachineSnapshot, UpstreamSnapshot};
use retry_machine::{
    Action, Event, FailureKind, GateState, Idempotency, RefreshOutcome, RequestLimits, RetryMachine, Timestamp,
    TransportErrorKind, Upstream, Verdict, derive_seed,
};

use super::response::{Numbers, Response, Taken};
use super::settings::Settings;

/// An instant this far from the present is out of a snapshot's reach.
const CENTURIES: u64 = 1 << 62;

/// The start of a history.
#[derive(Clone, Debug)]
pub struct Setup {
    pub settings: Settings,
    pub seed: u64,
    pub token_expires_in: Option<u64>,
    pub requests: Vec<Request>,
}

/// One request, as its caller makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub idempotency: Idempotency,
    /// Its own limits (D17).
    pub limits: RequestLimits,
}

/// Everything that happened.
pub struct History {
    pub setup: Setup,
    pub entries: Vec<Entry>,
    /// The promises that a step broke and that its entry does not show.
    pub broken: Vec<String>,
    /// The state of the machines and the upstream in the end.
    pub end: (Vec<RetryMachine>, Upstream),
}

/// One event and its answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The time that was told, in nanoseconds.
    pub told_at: u64,
    /// The latest time that the upstream has seen (T2).
    pub at: u64,
    pub request: usize,
    pub input: Input,
    /// The answer, or `None` if the event was for the upstream.
    pub action: Option<Action>,
    /// The facts that the request had shown before the event.
    pub before: Seen,
    /// The state of the gate at the time of the event, before it.
    pub gate: GateState,
    /// The state after the event.
    pub after: State,
}

/// An event for a request or for the upstream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Input {
    Start,
    Tick,
    Reply(u32, Response),
    Error(u32, TransportErrorKind),
    Refreshed(RefreshOutcome),
    Cancel,
    /// The new token's lifetime in nanoseconds.
    TokenReplaced(Option<u64>),
    OpenGate,
    /// The end of the closing, in nanoseconds since the origin.
    CloseGate(u64),
}

/// The facts that a request has shown in its actions.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Seen {
    pub started: Option<u64>,
    pub sends: u32,
    pub in_flight: Option<Flight>,
    /// Whether an attempt was unprocessed and went out again at once (D13).
    pub repeated: bool,
    pub last: Option<Action>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Flight {
    pub attempt: u32,
    pub generation: u32,
    pub limit: Option<u64>,
}

/// The facts that the accessors of the machine and the upstream return.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct State {
    pub attempts: u32,
    pub next_tick: Option<u64>,
    pub generation: u32,
    pub gate: GateState,
    pub balance: Option<u32>,
    pub next_probe: Option<u64>,
}

/// The end of the attempt in flight.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ended {
    Answered(Response),
    Failed(TransportErrorKind),
    /// A tick found it past its limit.
    GivenUp,
}

impl Entry {
    /// Returns the attempt that this event ended, and its end.
    pub fn ended(&self) -> Option<(Flight, Ended)> {
        let flight = self.before.in_flight?;
        let ended = match self.input {
            Input::Reply(attempt, response) if attempt == flight.attempt => Ended::Answered(response),
            Input::Error(attempt, error) if attempt == flight.attempt => Ended::Failed(error),
            // F5: in flight only the outcome for an earlier lease counts, and then the attempt is not given up.
            Input::Tick | Input::Refreshed(_) if flight.limit.is_some_and(|limit| self.at >= limit) => Ended::GivenUp,
            _ => return None,
        };
        match (self.input, self.action) {
            (Input::Refreshed(_), Some(Action::InFlight { .. })) => None,
            _ => Some((flight, ended)),
        }
    }

    /// Returns whether this event is the first unprocessed attempt of its request, which is not a failure (D13).
    pub fn is_repetition(&self) -> bool {
        !self.before.repeated && matches!(self.ended(), Some((_, Ended::Failed(TransportErrorKind::Unprocessed))))
    }

    /// Returns the end of the attempt in flight, unless it is about the token or the attempt goes out again at once: the
    /// failure that a retry may follow (B3).
    pub fn failure(&self) -> Option<Ended> {
        let (_, ended) = self.ended().filter(|_| !self.is_repetition())?;
        let is_about_token = match ended {
            Ended::Answered(response) => match response.verdict {
                Some(Verdict::TokenExpired) => true,
                Some(Verdict::Final) => false,
                _ => response.status == 401,
            },
            Ended::Failed(_) | Ended::GivenUp => false,
        };
        (!is_about_token).then_some(ended)
    }

    /// Returns the response in this event, if the request has sent anything (T3).
    pub fn heard(&self) -> Option<Response> {
        match self.input {
            Input::Reply(_, response) if self.before.sends > 0 => Some(response),
            _ => None,
        }
    }

    /// Returns the attempt that the action sends.
    pub fn sent(&self) -> Option<Flight> {
        match self.action? {
            Action::Send { attempt, generation, until, .. } => {
                Some(Flight { attempt, generation, limit: until.map(Timestamp::as_nanos) })
            }
            _ => None,
        }
    }

    /// Returns the kind of the failure that the action tells.
    pub fn failed(&self) -> Option<FailureKind> {
        if let Some(Action::Fail(failure)) = self.action { Some(failure.kind()) } else { None }
    }

    pub fn was_over(&self) -> bool {
        self.before.last.is_some_and(|last| last.is_terminal())
    }
}

impl Setup {
    /// Returns the place of a response to a request in the table (D11, D15).
    pub fn taken(&self, request: usize, response: &Response) -> Taken {
        response.taken(&self.settings, self.requests[request].idempotency)
    }
}

impl History {
    /// Tells the same events again. If `nervous`, an early tick follows each event and is left out of the history (T4).
    pub fn replay(&self, nervous: bool) -> History {
        let mut player = Player { is_checked: false, ..Player::new(self.setup.clone()) };
        for entry in &self.entries {
            let _ = player.tell(entry.request, entry.told_at, entry.input);
            if nervous {
                player.tick_early(entry.request, entry.told_at);
            }
        }
        player.into_history()
    }
}

/// The requests, their upstream, and the history so far.
#[derive(Clone)]
pub struct Player {
    setup: Setup,
    upstream: Upstream,
    machines: Vec<RetryMachine>,
    seen: Vec<Seen>,
    now: u64,
    entries: Vec<Entry>,
    broken: Vec<String>,
    is_checked: bool,
}

impl Player {
    pub fn new(setup: Setup) -> Player {
        let mut upstream = Upstream::new(setup.settings.policy());
        if let Some(lifetime) = setup.token_expires_in {
            upstream.token_expires_in(Timestamp::ZERO, Duration::from_nanos(lifetime));
        }
        let machine = |(n, request): (u64, &Request)| {
            RetryMachine::new(request.idempotency, derive_seed(setup.seed, n)).with_limits(request.limits)
        };
        Player {
            upstream,
            machines: (0..).zip(&setup.requests).map(machine).collect(),
            seen: vec![Seen::default(); setup.requests.len()],
            now: 0,
            entries: Vec::new(),
            broken: Vec::new(),
            is_checked: true,
            setup,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.setup.settings
    }

    /// Returns the response that these numbers make under the policy.
    pub fn response(&self, numbers: Numbers) -> Response {
        numbers.facts(&self.setup.settings, self.upstream.policy())
    }

    /// Returns the latest time that was told (T2).
    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn requests(&self) -> usize {
        self.machines.len()
    }

    pub fn seen(&self, request: usize) -> Seen {
        self.seen[request]
    }

    pub fn is_over(&self, request: usize) -> bool {
        self.seen[request].last.is_some_and(|last| last.is_terminal())
    }

    pub fn next_tick(&self, request: usize) -> Option<u64> {
        self.machines[request].next_tick(&self.upstream).map(Timestamp::as_nanos)
    }

    /// Tells a request, or the upstream, an event at this time.
    pub fn tell(&mut self, request: usize, told_at: u64, input: Input) -> Option<Action> {
        self.now = self.now.max(told_at);
        let before = self.seen[request];
        let now = Timestamp::from_nanos(told_at);
        let gate = self.upstream.gate_state(now);
        let event = match input {
            Input::Start => Some(Event::Start),
            Input::Tick => Some(Event::Tick),
            Input::Reply(attempt, response) => Some(Event::Reply { attempt, reply: response.reply }),
            Input::Error(attempt, kind) => Some(Event::TransportError { attempt, kind }),
            Input::Refreshed(outcome) => Some(Event::Refreshed(outcome)),
            Input::Cancel => Some(Event::Cancel),
            Input::TokenReplaced(lifetime) => {
                self.upstream.token_replaced(now, lifetime.map(Duration::from_nanos));
                None
            }
            Input::OpenGate => {
                self.upstream.open_gate(now);
                None
            }
            Input::CloseGate(until) => {
                self.upstream.close_gate(now, Timestamp::from_nanos(until));
                None
            }
        };
        let action = event.map(|event| self.handle(request, now, event));
        if let Some(action) = action {
            self.seen[request] = before.after(input, action, self.now);
        }
        let after = State {
            attempts: self.machines[request].attempts(),
            next_tick: self.next_tick(request),
            generation: self.upstream.generation(),
            gate: self.upstream.gate_state(now),
            balance: self.upstream.budget_balance(now),
            next_probe: self.upstream.next_probe(now).map(Timestamp::as_nanos),
        };
        self.entries.push(Entry { told_at, at: self.now, request, input, action, before, gate, after });
        action
    }

    /// Does what the last action asks for, on time. A send ends with `result`, a refresh with `outcome`.
    pub fn obey(
        &mut self,
        request: usize,
        now: u64,
        result: Result<Response, TransportErrorKind>,
        outcome: RefreshOutcome,
    ) {
        let seen = self.seen[request];
        let input = match (seen.last, seen.in_flight, result) {
            (None, ..) => Input::Start,
            (Some(_), Some(flight), Ok(response)) => Input::Reply(flight.attempt, response),
            (Some(_), Some(flight), Err(error)) => Input::Error(flight.attempt, error),
            (Some(Action::RefreshToken { .. } | Action::InFlight { .. }), None, _) => Input::Refreshed(outcome),
            (Some(_), None, _) => Input::Tick,
        };
        let _ = self.tell(request, now, input);
    }

    /// Returns the time at which the last action asks for an event.
    pub fn due(&self, request: usize) -> u64 {
        match self.seen[request].last {
            Some(Action::Wait { until, .. } | Action::AwaitRefresh { until, .. }) => self.now.max(until.as_nanos()),
            _ => self.now,
        }
    }

    pub fn into_history(self) -> History {
        let end = (self.machines, self.upstream);
        History { setup: self.setup, entries: self.entries, broken: self.broken, end }
    }

    /// Handles the event, and does so once more with copies of the state and with a restored state.
    fn handle(&mut self, request: usize, now: Timestamp, event: Event) -> Action {
        let copies = self.is_checked.then(|| (self.machines[request].clone(), self.upstream.clone()));
        let restored = if self.is_checked { self.restored(request) } else { None };
        let machine = &mut self.machines[request];
        let action = machine.handle(now, event, &mut self.upstream);
        if let Some((mut same_machine, mut same_upstream)) = copies {
            let again = same_machine.handle(now, event, &mut same_upstream);
            if again != action || same_machine != *machine || same_upstream != self.upstream {
                self.broken.push(format!("I12: {again:?} is not {action:?}"));
            }
            if action.to_string().is_empty() {
                self.broken.push(format!("E2: {action:?}"));
            }
        }
        // The deadline can hide the end of a lease that is out of reach.
        let can_hide = matches!(action, Action::InFlight { .. } | Action::AwaitRefresh { .. });
        let lease_end = self.now.saturating_add(self.setup.settings.refresh_timeout);
        let is_near = instant_of(&action).as_nanos() < CENTURIES && !(can_hide && lease_end >= CENTURIES);
        if let Some((mut machine, mut upstream)) = restored.filter(|_| is_near) {
            let again = machine.handle(now, event, &mut upstream);
            if again != action {
                self.broken.push(format!("I13: {again:?} is not {action:?}"));
            }
        }
        action
    }

    /// Returns the same state, stored and restored, unless an instant is too far for a snapshot.
    fn restored(&mut self, request: usize) -> Option<(RetryMachine, Upstream)> {
        let next = self.next_tick(request).unwrap_or_default();
        if self.now.max(next) >= CENTURIES {
            return None;
        }
        let now = Timestamp::from_nanos(self.now);
        let machine = MachineSnapshot::new(&self.machines[request], now).restore(now);
        let upstream = UpstreamSnapshot::new(&self.upstream, now).restore(self.upstream.policy().clone(), now);
        match (machine, upstream) {
            (Ok(machine), Ok(upstream)) => Some((machine, upstream)),
            refused => {
                self.broken.push(format!("T7: {refused:?}"));
                None
            }
        }
    }

    /// Tells a tick that is too early to matter.
    fn tick_early(&mut self, request: usize, now: u64) {
        let follows = matches!(self.seen[request].last, None | Some(Action::AwaitRefresh { .. }));
        let due = self.next_tick(request).is_some_and(|tick| tick <= self.now);
        if !follows && !due {
            let now = Timestamp::from_nanos(now);
            let action = self.machines[request].handle(now, Event::Tick, &mut self.upstream);
            assert!(!matches!(action, Action::Send { .. } | Action::RefreshToken { .. }), "an early tick: {action:?}");
        }
    }
}

impl Seen {
    fn after(self, input: Input, action: Action, at: u64) -> Seen {
        let (sends, in_flight) = match action {
            Action::Send { attempt, generation, until, .. } => {
                let limit = until.map(Timestamp::as_nanos);
                (self.sends.saturating_add(1), Some(Flight { attempt, generation, limit }))
            }
            Action::InFlight { .. } => (self.sends, self.in_flight),
            _ => (self.sends, None),
        };
        let newest = self.in_flight.map(|flight| flight.attempt);
        let is_unprocessed =
            matches!(input, Input::Error(attempt, TransportErrorKind::Unprocessed) if Some(attempt) == newest);
        let repeated = self.repeated || is_unprocessed;
        Seen { started: self.started.or(Some(at)), sends, in_flight, repeated, last: Some(action) }
    }
}

/// Returns the instant that an action names, or the clock's origin.
pub fn instant_of(action: &Action) -> Timestamp {
    let instant = match action {
        Action::Send { until, .. } | Action::InFlight { until, .. } => *until,
        Action::Wait { until, .. } | Action::RefreshToken { until, .. } | Action::AwaitRefresh { until, .. } => {
            Some(*until)
        }
        Action::Fail(failure) => failure.not_before(),
        Action::Done { .. } => None,
    };
    instant.unwrap_or_default()
}
