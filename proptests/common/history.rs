//! A history: the events that the requests to one service were told, and their answers. The oracle sees only this.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use retry_machine::snapshot::{GateSnapshot, LoginSnapshot, MachineSnapshot, ServiceSnapshot};
use retry_machine::{
    Action, Event, FailureKind, Gate, GateState, Idempotency, Login, LoginState, RefreshOutcome, RequestLimits,
    RetryMachine, Scope, Service, Timestamp, TransportErrorKind, Verdict, YoungToken, derive_seed,
};

use super::response::{Numbers, Response, Taken};
use super::settings::{Settings, nanos};

/// An instant this far from the present is out of a snapshot's reach.
const CENTURIES: u64 = 1 << 62;

/// The start of a history.
#[derive(Clone, Debug)]
pub struct Setup {
    pub settings: Settings,
    pub seed: u64,
    pub first_token: FirstToken,
    pub requests: Vec<Request>,
}

/// The first token of every login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstToken {
    /// K9.
    None,
    OfUnknownExpiry,
    /// Its lifetime in nanoseconds.
    For(u64),
}

/// One request, as its caller makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub idempotency: Idempotency,
    /// Its own limits (D17).
    pub limits: RequestLimits,
    /// The numbers of its login and its gate (S8).
    pub login: usize,
    pub gate: usize,
}

/// Everything that happened.
pub struct History {
    pub setup: Setup,
    pub entries: Vec<Entry>,
    /// The promises that a step broke and that its entry does not show.
    pub broken: Vec<String>,
    /// The machines and the parts in the end.
    pub end: (Vec<RetryMachine>, Parts),
}

/// One service, its logins and its gates.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Parts {
    pub service: Service,
    pub logins: Vec<Login>,
    pub gates: Vec<Gate>,
}

impl Parts {
    fn scope(&mut self, request: &Request) -> Scope<'_> {
        let Parts { service, logins, gates } = self;
        Scope { service, login: &mut logins[request.login], gate: &mut gates[request.gate] }
    }
}

/// One event and its answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The time that was told, in nanoseconds.
    pub told_at: u64,
    /// The latest time that the service has seen (T2).
    pub at: u64,
    pub request: usize,
    pub input: Input,
    /// The answer, or `None` if the event was for the login or the gate of the request.
    pub action: Option<Action>,
    /// Whether the outcome of a refresh counted.
    pub counted: Option<bool>,
    /// The facts that the request had shown before the event.
    pub before: Seen,
    /// The state of the gate at the time of the event, before it.
    pub gate: GateState,
    /// The state after the event.
    pub after: State,
}

/// An event for a request, or for its login or its gate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Input {
    Start,
    Tick,
    Reply(u32, Response),
    Error(u32, TransportErrorKind),
    Cancel,
    /// The outcome of a refresh, with the number of its lease.
    Report(u32, RefreshOutcome),
    /// The new token's lifetime in nanoseconds.
    TokenReplaced(Option<u64>),
    TokenRemoved,
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
    pub generation: Option<u32>,
    pub limit: Option<u64>,
}

/// The facts that the accessors of the machine and its parts return.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct State {
    pub attempts: u32,
    pub next_tick: Option<u64>,
    /// The lease that the request leads or follows.
    pub lease: Option<u32>,
    pub login: LoginState,
    pub wakeups: u32,
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
            Input::Tick if flight.limit.is_some_and(|limit| self.at >= limit) => Ended::GivenUp,
            _ => return None,
        };
        Some((flight, ended))
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
                Some(Verdict::TokenExpired) => !response.is_retried_401,
                Some(Verdict::Final) => false,
                // K10: retried with the same token.
                _ => response.status == 401 && !response.is_retried_401,
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

/// The requests, their parts, and the history so far.
#[derive(Clone)]
pub struct Player {
    setup: Setup,
    parts: Parts,
    machines: Vec<RetryMachine>,
    seen: Vec<Seen>,
    /// When the current token of each login came, if that is known, and its lifetime, as the player told them (K10).
    tokens: Vec<(Option<u64>, Option<u64>)>,
    /// The newest lease of each login.
    leases: Vec<u32>,
    now: u64,
    entries: Vec<Entry>,
    broken: Vec<String>,
    is_checked: bool,
}

impl Player {
    pub fn new(setup: Setup) -> Player {
        let mut login = if setup.first_token == FirstToken::None { Login::without_token() } else { Login::new() };
        let mut lifetime = None;
        if let FirstToken::For(nanos) = setup.first_token {
            login.token_expires_in(Timestamp::ZERO, Duration::from_nanos(nanos));
            lifetime = Some(nanos);
        }
        let logins = 1 + setup.requests.iter().map(|request| request.login).max().unwrap_or(0);
        let gates = 1 + setup.requests.iter().map(|request| request.gate).max().unwrap_or(0);
        let machine = |(n, request): (u64, &Request)| {
            RetryMachine::new(request.idempotency, derive_seed(setup.seed, n)).with_limits(request.limits)
        };
        let parts = Parts {
            service: Service::new(setup.settings.policy()),
            logins: vec![login; logins],
            gates: vec![Gate::new(); gates],
        };
        Player {
            parts,
            machines: (0..).zip(&setup.requests).map(machine).collect(),
            seen: vec![Seen::default(); setup.requests.len()],
            tokens: vec![(None, lifetime); logins],
            leases: vec![0; logins],
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
        numbers.facts(&self.setup.settings, self.parts.service.policy())
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
        self.machines[request].next_tick(self.parts.service.policy()).map(Timestamp::as_nanos)
    }

    /// Returns the number of the newest lease of a request's login, 0 before the first.
    pub fn newest_lease(&self, request: usize) -> u32 {
        self.leases[self.setup.requests[request].login]
    }

    /// Returns the number of the lease that a request leads or follows, or else of the newest one.
    pub fn lease(&self, request: usize) -> u32 {
        self.machines[request].lease().unwrap_or_else(|| self.newest_lease(request))
    }

    /// Tells a request, or its login or its gate, an event at this time.
    pub fn tell(&mut self, request: usize, told_at: u64, input: Input) -> Option<Action> {
        self.now = self.now.max(told_at);
        let before = self.seen[request];
        let Request { login, gate, .. } = self.setup.requests[request];
        let input = match input {
            Input::Reply(attempt, response) => Input::Reply(attempt, self.with_age(request, attempt, response)),
            input => input,
        };
        let event = match input {
            Input::Start => Some(Event::Start),
            Input::Tick => Some(Event::Tick),
            Input::Reply(attempt, response) => Some(Event::Reply { attempt, reply: response.reply }),
            Input::Error(attempt, kind) => Some(Event::TransportError { attempt, kind }),
            Input::Cancel => Some(Event::Cancel),
            _ => None,
        };
        // T2: what parts are told directly, the service has seen as well.
        let now = Timestamp::from_nanos(if event.is_some() { told_at } else { self.now });
        let latest = Timestamp::from_nanos(self.now);
        let scope = self.parts.scope(&self.setup.requests[request]);
        let _ = RetryMachine::new(Idempotency::Idempotent, 0).handle(latest, Event::Cancel, scope);
        let gate_before = self.parts.gates[gate].state(latest);
        let mut counted = None;
        match input {
            Input::Report(lease, outcome) => {
                counted = Some(self.parts.logins[login].report_refresh(now, lease, outcome));
                if let (Some(true), RefreshOutcome::Refreshed { expires_in }) = (counted, outcome) {
                    self.tokens[login] = (Some(self.now), expires_in.map(nanos));
                }
            }
            Input::TokenReplaced(lifetime) => {
                self.parts.logins[login].token_replaced(now, lifetime.map(Duration::from_nanos));
                self.tokens[login] = (Some(self.now), lifetime);
            }
            Input::TokenRemoved => self.parts.logins[login].token_removed(),
            Input::OpenGate => self.parts.gates[gate].open(now),
            Input::CloseGate(until) => self.parts.gates[gate].close(now, Timestamp::from_nanos(until)),
            _ => {}
        }
        let action = event.map(|event| self.handle(request, now, event));
        if let Some(Action::RefreshToken { lease, .. }) = action {
            self.leases[login] = lease;
        }
        if let Some(action) = action {
            self.seen[request] = before.after(input, action, self.now);
        }
        let after = State {
            attempts: self.machines[request].attempts(),
            next_tick: self.next_tick(request),
            lease: self.machines[request].lease(),
            login: self.parts.logins[login].state(latest),
            wakeups: self.parts.logins[login].wakeups(),
            gate: self.parts.gates[gate].state(latest),
            balance: self.parts.service.budget_balance(latest),
            next_probe: self.parts.service.next_probe(latest).map(Timestamp::as_nanos),
        };
        let gate = gate_before;
        self.entries.push(Entry { told_at, at: self.now, request, input, action, counted, before, gate, after });
        action
    }

    /// K10: adds whether the answer is a 401 that the policy retries, since the token is young.
    fn with_age(&self, request: usize, attempt: u32, response: Response) -> Response {
        let settings = &self.setup.settings;
        let login = self.setup.requests[request].login;
        let is_current = self.seen[request].in_flight.is_some_and(|flight| {
            let current = self.parts.logins[login].generation();
            flight.attempt == attempt && current.is_some() && flight.generation == current
        });
        let (installed, lifetime) = self.tokens[login];
        let half = lifetime.filter(|lifetime| *lifetime > 0).map_or(u64::MAX, |lifetime| lifetime / 2);
        let margin = settings.refresh_margin.min(half);
        let is_young = is_current && installed.is_some_and(|installed| self.now - installed < margin);
        let is_about_token = response.is_about_token() && !response.names_scope_or_revocation();
        let young = settings.young_token;
        Response {
            is_retried_401: is_young && is_about_token && young == YoungToken::Retry,
            is_surfaced_401: is_young && is_about_token && young == YoungToken::Surface,
            ..response
        }
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
        if let (Some(Action::RefreshToken { .. } | Action::InFlight { .. }), None) = (seen.last, seen.in_flight) {
            let lease = self.lease(request);
            let _ = self.tell(request, now, Input::Report(lease, outcome));
        }
        let input = match (seen.last, seen.in_flight, result) {
            (None, ..) => Input::Start,
            (Some(_), Some(flight), Ok(response)) => Input::Reply(flight.attempt, response),
            (Some(_), Some(flight), Err(error)) => Input::Error(flight.attempt, error),
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
        let end = (self.machines, self.parts);
        History { setup: self.setup, entries: self.entries, broken: self.broken, end }
    }

    /// Handles the event, and does so once more with copies of the state and with a restored state.
    fn handle(&mut self, request: usize, now: Timestamp, event: Event) -> Action {
        let copies = self.is_checked.then(|| (self.machines[request].clone(), self.parts.clone()));
        let restored = if self.is_checked { self.restored(request) } else { None };
        let own = self.setup.requests[request];
        let machine = &mut self.machines[request];
        let action = machine.handle(now, event, self.parts.scope(&own));
        if let Some((mut same_machine, mut same_parts)) = copies {
            let again = same_machine.handle(now, event, same_parts.scope(&own));
            if again != action || same_machine != *machine || same_parts != self.parts {
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
        if let Some((mut machine, mut parts)) = restored.filter(|_| is_near) {
            let again = machine.handle(now, event, parts.scope(&own));
            if again != action {
                self.broken.push(format!("I13: {again:?} is not {action:?}"));
            }
        }
        action
    }

    /// Returns the same state, stored and restored, unless an instant is too far for a snapshot.
    fn restored(&mut self, request: usize) -> Option<(RetryMachine, Parts)> {
        let next = self.next_tick(request).unwrap_or_default();
        if self.now.max(next) >= CENTURIES {
            return None;
        }
        let now = Timestamp::from_nanos(self.now);
        let Parts { service, logins, gates } = &self.parts;
        let policy = service.policy();
        let machine = MachineSnapshot::new(&self.machines[request], now).restore(now);
        let service = ServiceSnapshot::new(service, now).restore(policy.clone(), now);
        let logins: Result<_, _> =
            logins.iter().map(|login| LoginSnapshot::new(login, now).restore(policy, now)).collect();
        let gates: Result<_, _> = gates.iter().map(|gate| GateSnapshot::new(gate, now).restore(policy, now)).collect();
        match (machine, service, logins, gates) {
            (Ok(machine), Ok(service), Ok(logins), Ok(gates)) => Some((machine, Parts { service, logins, gates })),
            refused => {
                self.broken.push(format!("T7: {refused:?}"));
                None
            }
        }
    }

    /// Tells a tick that is too early to matter.
    fn tick_early(&mut self, request: usize, now: u64) {
        let own = self.setup.requests[request];
        let latest = Timestamp::from_nanos(self.now);
        let open = self.parts.logins[own.login].state(latest).lease.map(|(lease, _)| lease);
        // K8: whoever leads or follows looks at the login with any tick.
        let has_news = self.machines[request].lease().is_some_and(|lease| open != Some(lease));
        let due = self.next_tick(request).is_some_and(|tick| tick <= self.now);
        if self.seen[request].last.is_some() && !has_news && !due {
            let now = Timestamp::from_nanos(now);
            let action = self.machines[request].handle(now, Event::Tick, self.parts.scope(&own));
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
