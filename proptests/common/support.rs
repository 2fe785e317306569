//! Scenes for tests: one upstream, its requests, and the events that each gets.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::Duration;

use retry_machine::{
    Action, Event, Failure, FailureKind, Gate, HintSource, Idempotency, Jitter, Login, Policy, PolicyBuilder,
    RefreshOutcome, RequestLimits, RetryMachine, Scope, Timestamp, TransportErrorKind, Upstream, WaitReason,
    derive_seed,
};

pub const REFRESHED: RefreshOutcome = RefreshOutcome::Refreshed { expires_in: None };
pub const REJECTED: RefreshOutcome = RefreshOutcome::Rejected;
pub const UNAVAILABLE: RefreshOutcome = RefreshOutcome::Unavailable { retry_after: None };
pub const ABANDONED: RefreshOutcome = RefreshOutcome::Abandoned;

/// Every outcome that brings no token.
pub const IN_VAIN: [RefreshOutcome; 3] = [REJECTED, UNAVAILABLE, ABANDONED];

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns the guide's policy without jitter, so that a test can name every instant.
pub fn exact() -> PolicyBuilder {
    Policy::flextell().into_builder().jitter(Jitter::None)
}

/// One upstream and its requests, numbered from 0. The first event of a request makes it.
pub struct Scene {
    /// The service, its login 0 and its gate 0.
    pub upstream: Upstream,
    /// Its other logins and gates (S8). Naming one makes it.
    pub logins: BTreeMap<u64, Login>,
    pub gates: BTreeMap<u64, Gate>,
    pub seed: u64,
    requests: BTreeMap<u64, RetryMachine>,
    /// The login and the gate of each request.
    parts: BTreeMap<u64, (u64, u64)>,
    /// The newest lease that each request has led.
    leases: BTreeMap<u64, u32>,
}

impl Scene {
    pub fn new(policy: Policy) -> Scene {
        Scene {
            upstream: Upstream::new(policy),
            logins: BTreeMap::new(),
            gates: BTreeMap::new(),
            seed: 7,
            requests: BTreeMap::new(),
            parts: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }

    #[track_caller]
    pub fn with(policy: PolicyBuilder) -> Scene {
        Scene::new(policy.build().unwrap())
    }

    /// Returns a scene with the guide's policy, without jitter.
    pub fn exact() -> Scene {
        Scene::with(exact())
    }

    /// Begins an event `millis` after the origin, for request 0 unless the test names another.
    pub fn at(&mut self, millis: u64) -> Moment<'_> {
        self.at_time(Timestamp::from_millis(millis))
    }

    pub fn at_time(&mut self, now: Timestamp) -> Moment<'_> {
        Moment { scene: self, now, request: 0, login: 0, gate: 0 }
    }

    /// Sends request 0 and returns the instant of its start.
    pub fn after_the_start(&mut self) -> Moment<'_> {
        let _ = self.at(0).start();
        self.at(0)
    }

    /// Returns the machine of a request that has begun.
    pub fn machine(&self, request: u64) -> &RetryMachine {
        &self.requests[&request]
    }

    /// Returns the machines of the requests that have begun.
    pub fn requests(&self) -> &BTreeMap<u64, RetryMachine> {
        &self.requests
    }

    /// Returns when request 0 needs its next tick.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.machine(0).next_tick(self.upstream.policy())
    }

    /// Returns the number of the newest lease that a request has led.
    pub fn lease(&self, request: u64) -> u32 {
        self.leases[&request]
    }

    /// Returns a login.
    pub fn login(&mut self, login: u64) -> &mut Login {
        if login == 0 { &mut self.upstream.login } else { self.logins.entry(login).or_default() }
    }

    /// Returns a gate.
    pub fn gate(&mut self, gate: u64) -> &mut Gate {
        if gate == 0 { &mut self.upstream.gate } else { self.gates.entry(gate).or_default() }
    }

    /// Answers each attempt of request 0 with this status, and obeys each wait, until the request ends. Returns the waits
    /// and the last action.
    pub fn fail_until_the_end(&mut self, status: u16) -> (Vec<Duration>, Action) {
        let mut now = Timestamp::ZERO;
        let mut waits = Vec::new();
        let mut action = self.at_time(now).start();
        loop {
            action = match action {
                Action::Send { .. } => self.at_time(now).reply(status),
                Action::Wait { until, .. } => {
                    waits.push(until.saturating_duration_since(now));
                    now = until;
                    self.at_time(now).tick()
                }
                action => return (waits, action),
            };
        }
    }
}

/// One instant of a scene, for one request, login or gate.
pub struct Moment<'a> {
    scene: &'a mut Scene,
    now: Timestamp,
    request: u64,
    login: u64,
    gate: u64,
}

impl Moment<'_> {
    pub fn request(mut self, request: u64) -> Self {
        self.request = request;
        self
    }

    /// Names the login of the request that starts, or that something happens to.
    pub fn login(mut self, login: u64) -> Self {
        self.login = login;
        self
    }

    /// Names the gate of the request that starts, or that something happens to.
    pub fn gate(mut self, gate: u64) -> Self {
        self.gate = gate;
        self
    }

    pub fn start(self) -> Action {
        self.tell(Event::Start)
    }

    /// Starts a request that is not idempotent.
    pub fn start_non_idempotent(self) -> Action {
        let machine = RetryMachine::new(Idempotency::NonIdempotent, derive_seed(self.scene.seed, self.request));
        assert!(self.scene.requests.insert(self.request, machine).is_none(), "the request was started before");
        self.start()
    }

    /// Starts a request with limits of its own.
    pub fn start_with(self, limits: RequestLimits) -> Action {
        let seed = derive_seed(self.scene.seed, self.request);
        let machine = RetryMachine::new(Idempotency::Idempotent, seed).with_limits(limits);
        assert!(self.scene.requests.insert(self.request, machine).is_none(), "the request was started before");
        self.start()
    }

    pub fn tick(self) -> Action {
        self.tell(Event::Tick)
    }

    /// Answers the newest attempt.
    pub fn reply(self, status: u16) -> Action {
        self.reply_with(status, &[])
    }

    /// Answers the newest attempt, with these headers.
    pub fn reply_with(self, status: u16, headers: &[(&str, &str)]) -> Action {
        let newest = self.newest();
        self.reply_to(newest, status, headers)
    }

    /// Answers any attempt, perhaps late.
    pub fn reply_to(self, attempt: u32, status: u16, headers: &[(&str, &str)]) -> Action {
        let reply = self.scene.upstream.policy().read(status, headers.iter().copied());
        self.tell(Event::Reply { attempt, reply })
    }

    /// Ends the newest attempt without a response.
    pub fn error(self, error: TransportErrorKind) -> Action {
        let newest = self.newest();
        self.tell(Event::TransportError { attempt: newest, kind: error })
    }

    /// Reports the outcome of the refresh that this request led last, or else of the one that it follows or that is under way,
    /// and then ticks the request if it leads or follows (F5).
    pub fn refreshed(self, outcome: RefreshOutcome) -> Action {
        let own = self.scene.leases.get(&self.request).copied();
        let waiting_for = self.scene.requests.get(&self.request).and_then(RetryMachine::lease);
        let login = self.scene.parts.get(&self.request).map_or(self.login, |(login, _)| *login);
        let login = self.scene.login(login);
        let under_way = login.state(self.now).lease.map(|(lease, _)| lease);
        let lease = own.or(waiting_for).or(under_way).unwrap_or_default();
        let _ = login.report_refresh(self.now, lease, outcome);
        self.tell(if waiting_for.is_some() { Event::Tick } else { Event::Start })
    }

    /// Reports the outcome of a lease straight to the login. Returns whether it counted.
    pub fn report(self, lease: u32, outcome: RefreshOutcome) -> bool {
        self.scene.login(self.login).report_refresh(self.now, lease, outcome)
    }

    pub fn cancel(self) -> Action {
        self.tell(Event::Cancel)
    }

    pub fn token_replaced(self) {
        self.scene.login(self.login).token_replaced(self.now, None);
    }

    pub fn token_removed(self) {
        self.scene.login(self.login).token_removed();
    }

    pub fn open_gate(self) {
        self.scene.gate(self.gate).open(self.now);
    }

    /// Closes the gate by hand until `millis` after the origin.
    pub fn close_gate(self, millis: u64) {
        self.scene.gate(self.gate).close(self.now, Timestamp::from_millis(millis));
    }

    pub fn tell(self, event: Event) -> Action {
        let Scene { upstream, logins, gates, requests, seed, parts, leases } = self.scene;
        let new = || RetryMachine::new(Idempotency::Idempotent, derive_seed(*seed, self.request));
        let (login, gate) = *parts.entry(self.request).or_insert((self.login, self.gate));
        let scope = Scope {
            service: &mut upstream.service,
            login: if login == 0 { &mut upstream.login } else { logins.entry(login).or_default() },
            gate: if gate == 0 { &mut upstream.gate } else { gates.entry(gate).or_default() },
        };
        let action = requests.entry(self.request).or_insert_with(new).handle(self.now, event, scope);
        if let Action::RefreshToken { lease, .. } = action {
            leases.insert(self.request, lease);
        }
        action
    }

    fn newest(&self) -> u32 {
        self.scene.requests.get(&self.request).map_or(0, RetryMachine::attempts)
    }
}

/// Assertions about an action.
pub trait Answer {
    /// Returns the action in few words: `send 2`, `wait 30100 retry_after` (its end in milliseconds).
    fn short(&self) -> String;

    /// Asserts the short form.
    fn is(self, short: &str);

    /// Asserts that the request failed with this kind, and returns the failure.
    fn fails(&self, kind: FailureKind) -> Failure;

    /// Asserts that the action is a wait, and returns its end.
    fn end_of_wait(&self) -> Timestamp;
}

impl Answer for Action {
    fn short(&self) -> String {
        let limit =
            |until: Option<Timestamp>| until.map(|until| format!(" until {}", millis(until))).unwrap_or_default();
        match *self {
            Action::Send { attempt, generation: None, until, .. } => {
                format!("send {attempt} no token{}", limit(until))
            }
            Action::Send { attempt, generation: Some(0), until, .. } => format!("send {attempt}{}", limit(until)),
            Action::Send { attempt, generation: Some(generation), until, .. } => {
                format!("send {attempt} token {generation}{}", limit(until))
            }
            Action::Wait { until, reason, .. } => format!("wait {} {}", millis(until), name(reason)),
            Action::RefreshToken { until, .. } => format!("refresh until {}", millis(until)),
            Action::AwaitRefresh { until, .. } => format!("await until {}", millis(until)),
            Action::InFlight { until, .. } => format!("in flight{}", limit(until)),
            Action::Done { status, .. } => format!("done {status}"),
            Action::Fail(failure) => format!("fail {:?}", failure.kind()),
        }
    }

    #[track_caller]
    fn is(self, short: &str) {
        assert_eq!(self.short(), short, "{self}");
    }

    #[track_caller]
    fn fails(&self, kind: FailureKind) -> Failure {
        match self {
            Action::Fail(failure) if failure.kind() == kind => *failure,
            other => panic!("expected {kind:?}, not {other:?}"),
        }
    }

    #[track_caller]
    fn end_of_wait(&self) -> Timestamp {
        match self {
            Action::Wait { until, .. } => *until,
            other => panic!("expected a wait, not {other:?}"),
        }
    }
}

fn name(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Backoff => "backoff",
        WaitReason::Hint(HintSource::RetryAfter) => "retry_after",
        WaitReason::Hint(HintSource::RetryAfterMs) => "retry_after_ms",
        WaitReason::Hint(HintSource::RateLimitReset) => "rate_limit_reset",
        WaitReason::Hint(HintSource::Told) => "told",
        WaitReason::Hint(HintSource::Pushback) => "pushback",
        WaitReason::Gate => "gate",
    }
}

/// Returns the time in milliseconds, with as many decimals as it needs.
fn millis(time: Timestamp) -> String {
    let (whole, rest) = (time.as_nanos() / 1_000_000, time.as_nanos() % 1_000_000);
    format!("{whole}.{rest:06}").trim_end_matches('0').trim_end_matches('.').into()
}
