//! An upstream, its requests, and what an onlooker knows of them.

use std::fmt::Write;
use std::time::Duration;

use retry_machine::snapshot::{MachineSnapshot, UpstreamSnapshot};
use retry_machine::{
    Action, BearerErrorCode, CodeClass, Event, FailureKind, Idempotency, Policy, RefreshOutcome, Reply, RetryMachine,
    Timestamp, TransportErrorKind, Upstream, WaitReason, derive_seed,
};

use super::policy::{Known, nanos};

pub struct World {
    upstream: Upstream,
    known: Known,
    /// T2: the latest instant that was told.
    now: Timestamp,
    /// S1: nothing is sent before.
    gate: Timestamp,
    /// K3: who refreshes the token, and until when nobody else does.
    lease: Option<(usize, Timestamp)>,
    /// S2: at least and at most so much is left. Which late successes count, an onlooker cannot tell.
    budget: (u64, u64),
    requests: Vec<Request>,
}

struct Request {
    machine: RetryMachine,
    idempotency: Idempotency,
    started: Option<Timestamp>,
    /// L1: the latest hint that counts.
    hint: Timestamp,
    last: Option<Action>,
    recoveries: u32,
    /// The generation that the newest attempt was sent with, and when it is given up.
    generation: u32,
    limit: Option<Timestamp>,
    /// I5: the generation that was refused.
    refused: Option<u32>,
}

/// How the attempt in flight failed, or was answered.
#[derive(Clone, Copy, Debug)]
enum Result {
    Reply(Reply),
    Error(TransportErrorKind),
}

impl World {
    pub fn new(policy: Policy, known: Known, seed: u64, requests: &[Idempotency], lifetime: Option<Duration>) -> World {
        let request = |(n, idempotency): (u64, &Idempotency)| Request {
            machine: RetryMachine::new(*idempotency, derive_seed(seed, n)),
            idempotency: *idempotency,
            started: None,
            hint: Timestamp::ZERO,
            last: None,
            recoveries: 0,
            generation: 0,
            limit: None,
            refused: None,
        };
        let mut upstream = Upstream::new(policy);
        if let Some(lifetime) = lifetime {
            upstream.token_expires_in(Timestamp::ZERO, lifetime);
        }
        let capacity = known.budget.map_or(0, |budget| budget.capacity.into());
        World {
            upstream,
            now: Timestamp::ZERO,
            gate: Timestamp::ZERO,
            lease: None,
            budget: (capacity, capacity),
            requests: (0..).zip(requests).map(request).collect(),
            known,
        }
    }

    // ---- For drivers ----

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    pub fn last(&self, request: usize) -> Option<Action> {
        self.requests[request].last
    }

    pub fn attempts(&self, request: usize) -> u32 {
        self.requests[request].machine.attempts()
    }

    pub fn is_in_flight(&self, request: usize) -> bool {
        self.requests[request].machine.in_flight().is_some()
    }

    pub fn is_over(&self, request: usize) -> bool {
        self.last(request).is_some_and(|action| action.is_terminal())
    }

    pub fn next_tick(&self, request: usize) -> Option<Timestamp> {
        self.requests[request].machine.next_tick(&self.upstream)
    }

    pub fn has_few_retries(&self) -> bool {
        self.known.max_retries <= 8
    }

    /// How many events on time a request takes at most: for each attempt one at the gate, three leases followed, one
    /// led, and the attempt itself.
    pub fn longest(&self) -> u32 {
        8 * (2 + self.known.max_retries.min(8) + u32::from(self.known.max_token_recoveries))
    }

    pub fn token_replaced(&mut self, now: Timestamp, lifetime: Option<Duration>) {
        self.now = self.now.max(now);
        let generation = self.upstream.generation();
        self.upstream.token_replaced(now, lifetime);
        assert_eq!(self.upstream.generation(), generation + 1, "K4");
        self.lease = None;
    }

    pub fn open_gate(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.upstream.open_gate(now);
        self.gate = self.gate.min(self.now);
    }

    pub fn tell(&mut self, n: usize, now: Timestamp, event: Event) {
        self.now = self.now.max(now);
        let in_flight = self.requests[n].machine.in_flight();
        let result = match event {
            Event::Reply { attempt, reply } if in_flight == Some(attempt) => Some(Result::Reply(reply)),
            Event::TransportError { attempt, kind: error } if in_flight == Some(attempt) => Some(Result::Error(error)),
            Event::Tick if in_flight.is_some() && self.requests[n].limit.is_some_and(|limit| self.now >= limit) => {
                Some(Result::Error(TransportErrorKind::TimedOut))
            }
            _ => None,
        };
        if let Event::Reply { attempt, reply } = event {
            self.hear(n, attempt, &reply);
        }
        let generation = self.upstream.generation();
        let action = self.handle(n, now, event);
        // F5: an outcome that does not count acts as a tick.
        let gave_up = matches!(event, Event::Refreshed(_)) && in_flight.is_some() && !self.is_in_flight(n);
        let result = result.or(gave_up.then_some(Result::Error(TransportErrorKind::TimedOut)));
        self.requests[n].started.get_or_insert(self.now);
        self.check(n, event, result, action);

        let refreshed = matches!(event, Event::Refreshed(RefreshOutcome::Refreshed { .. }));
        assert!(self.upstream.generation() <= generation + u32::from(refreshed), "K4");
        let kept = matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::Deadline);
        let over = matches!(event, Event::Refreshed(_)) || action.is_terminal() && !kept;
        if over && !matches!(action, Action::RefreshToken { .. }) && self.lease.is_some_and(|(holder, _)| holder == n) {
            self.lease = None;
        }
        self.requests[n].last = Some(action);
    }

    /// I12: the same state and event give the same action and state; I13: a restored state gives the same action.
    fn handle(&mut self, n: usize, now: Timestamp, event: Event) -> Action {
        let is_near = self.is_near(n);
        let machine = &mut self.requests[n].machine;
        let (mut same_machine, mut same_upstream) = (machine.clone(), self.upstream.clone());
        let restored = is_near.then(|| {
            let upstream = UpstreamSnapshot::new(&self.upstream, self.now);
            let upstream = upstream.restore(self.upstream.policy().clone(), self.now).expect("T7");
            (MachineSnapshot::new(machine, self.now).restore(self.now).expect("T7"), upstream)
        });
        let action = machine.handle(now, event, &mut self.upstream);
        let restored = restored.map(|(mut machine, mut upstream)| machine.handle(now, event, &mut upstream));
        assert_eq!(same_machine.handle(now, event, &mut same_upstream), action, "I12");
        assert!(same_machine == *machine && same_upstream == self.upstream, "I12");
        if let Some(restored) = restored.filter(|_| self.is_near(n)) {
            assert_eq!(restored, action, "I13");
        }
        let mut sentence = Sentence(0);
        write!(sentence, "{action}").expect("no formatter fails");
        assert!(sentence.0 > 0, "E2");
        action
    }

    /// Whether all instants that matter lie within a snapshot's reach: it cannot tell centuries apart.
    fn is_near(&self, n: usize) -> bool {
        let request = &self.requests[n];
        let instants = [self.now, self.gate, request.hint, self.next_tick(n).unwrap_or_default()];
        instants.iter().all(|instant| instant.as_nanos() < 1 << 62)
    }

    // ---- What an onlooker learns ----

    /// H10, S1, S2: what a reply says to the request and to the upstream, if any was sent before.
    fn hear(&mut self, n: usize, attempt: u32, reply: &Reply) {
        let (over, attempts) = (self.is_over(n), self.attempts(n));
        if attempts == 0 {
            return;
        }
        let in_flight = self.requests[n].machine.in_flight();
        let request = &mut self.requests[n];
        let status = reply.status();
        let counts = status == 429 || self.upstream.policy().retries(status);
        let success = (200..300).contains(&status);
        let hint = reply.hint().map(|hint| self.now.saturating_add(hint.wait()));
        if let Some(hint) = hint.filter(|_| counts && !over) {
            request.hint = request.hint.max(hint);
        }
        let reset = reply.reset().filter(|_| reply.remaining() == Some(0) && (counts || success || status == 403));
        let closed = [hint.filter(|_| status == 429), reset.map(|reset| self.now.saturating_add(reset))];
        for until in closed.into_iter().flatten().filter(|_| self.known.gate) {
            self.gate = self.gate.max(until);
        }
        if let Some(budget) = self.known.budget.filter(|_| success && (1..=attempts).contains(&attempt)) {
            let refund = |balance: u64| (balance + u64::from(budget.success_refund)).min(budget.capacity.into());
            let (least, most) = self.budget;
            self.budget = (if in_flight == Some(attempt) { refund(least) } else { least }, refund(most));
        }
    }

    // ---- What must hold ----

    fn check(&mut self, n: usize, event: Event, result: Option<Result>, action: Action) {
        if let Some(last) = self.last(n).filter(Action::is_terminal) {
            assert_eq!(action, last, "I3");
            return;
        }
        if let Some(result) = result {
            self.check_result(n, result, action);
        }
        let before = self.last(n);
        let now = self.now;
        let next_tick = self.next_tick(n);
        let deadline = self.deadline(n);
        let Self { known, gate, requests, .. } = self;
        let request = &mut requests[n];
        assert_eq!(action.attempt(), request.machine.attempts());
        match action {
            Action::Send { attempt, generation, until, .. } => {
                assert!(now >= request.hint, "I1: sooner than its own hint");
                assert!(now >= *gate, "S1: sent while the gate is closed");
                let most = u64::from(known.max_retries) + u64::from(known.max_token_recoveries) + 1;
                assert!(u64::from(attempt) <= most, "I2");
                assert!(request.refused.take().is_none_or(|refused| generation > refused), "I5");
                assert_eq!(generation, self.upstream.generation(), "K4");
                assert!(deadline.is_none_or(|deadline| now < deadline), "P1");
                let limit = known.attempt_timeout.map(|limit| after(now, limit));
                assert_eq!(until, limit.into_iter().chain(deadline).min(), "S4, F1");
                if let Some(Action::Wait { until, .. }) = before {
                    assert!(now >= until && matches!(event, Event::Tick | Event::Refreshed(_)), "F7");
                }
                (request.generation, request.limit) = (generation, until);
                assert_eq!(next_tick, until, "T4");
            }
            Action::Wait { until, .. } => {
                assert_eq!(next_tick, Some(until), "T4");
                assert!(until >= request.hint || now >= request.hint, "L1");
                assert!(deadline.is_none_or(|deadline| until < deadline), "L3");
                assert!(since(request.hint, now) <= known.max_server_wait, "L3");
                self.check_wait(n, event, result.is_some(), action);
            }
            Action::RefreshToken { until, .. } => {
                assert!(self.lease.is_none_or(|(_, end)| now >= end), "I6");
                self.lease = Some((n, until));
            }
            Action::AwaitRefresh { until, .. } => {
                assert_eq!(next_tick, Some(until), "T4");
                if event == Event::Tick {
                    assert!(self.lease.is_some_and(|(holder, end)| holder != n && now < end), "K8");
                }
            }
            Action::InFlight { until, .. } => assert_eq!(next_tick, until, "T4"),
            Action::Done { .. } | Action::Fail(_) => assert_eq!(next_tick, None, "T4"),
        }
    }

    /// I8: the bounds of a wait, and T4: it stays what it is.
    fn check_wait(&self, n: usize, event: Event, failed: bool, action: Action) {
        let Action::Wait { until, reason, .. } = action else { return };
        let Self { known, now, gate, .. } = self;
        let request = &self.requests[n];
        let before = if let Some(Action::Wait { until, .. }) = request.last { Some(until) } else { None };
        // An outcome of a refresh is a tick if it does not count.
        let over = before.is_some_and(|before| *now >= before);
        let fresh = match event {
            Event::Tick => before.is_none() || over,
            Event::Refreshed(_) => before.is_none() || over && before != Some(until),
            _ => before.is_none(),
        };
        if let Some(before) = before.filter(|_| !fresh) {
            assert!(until == before || matches!(event, Event::Reply { .. }) && until > before, "T4");
        }
        match reason {
            WaitReason::Backoff if fresh => {
                assert!(failed, "B1: only before a retry");
                let range = known.backoff(request.machine.attempts() - request.recoveries);
                assert!(until >= after(*now, *range.start()) && until <= after(*now, *range.end()), "I8: {range:?}");
            }
            WaitReason::Hint(_) => {
                let spread = if known.jitter == retry_machine::Jitter::None { 0 } else { known.spread };
                assert!(until <= after(request.hint.max(*now), spread), "L2");
            }
            WaitReason::Gate if fresh => {
                assert!(until >= *gate && since(*gate, *now) <= known.max_server_wait, "S1");
                // A gate that is throttled again stays closed for up to as long again.
                let longest = gate.as_nanos().saturating_mul(2);
                let widest = known.gate_spread.unwrap_or(longest.saturating_add(known.spread.max(longest)));
                assert!(until <= after(*gate, widest), "S1");
            }
            _ => {}
        }
    }

    /// The table of the guide, P2, I4, I9 and I10.
    fn check_result(&mut self, n: usize, result: Result, action: Action) {
        let kind = if let Action::Fail(failure) = action { Some(failure.kind()) } else { None };
        let retried = |status| self.upstream.policy().retries(status);
        let is_unsafe = self.requests[n].idempotency == Idempotency::NonIdempotent;
        match result {
            Result::Reply(reply) => match reply.status() {
                status @ 200..=399 => {
                    assert!(matches!(action, Action::Done { status: answer, .. } if answer == status), "D1");
                }
                401 => self.check_unauthorized(n, &reply, action, kind),
                status if !retried(status) => assert_eq!(kind, Some(surfaced(status)), "I4"),
                status if is_unsafe && self.known.ambiguous_5xx && status >= 500 && status != 503 => {
                    assert_eq!(kind, Some(FailureKind::Ambiguous), "D14");
                }
                status => self.check_retry(n, status == 429, action, kind),
            },
            Result::Error(TransportErrorKind::NotSent) => self.check_retry(n, false, action, kind),
            Result::Error(TransportErrorKind::Other) if is_unsafe => {
                assert!(matches!(kind, Some(FailureKind::Transport | FailureKind::Ambiguous)), "D14");
            }
            Result::Error(_) if is_unsafe => assert_eq!(kind, Some(FailureKind::Ambiguous), "I10"),
            Result::Error(_) => self.check_retry(n, false, action, kind),
        }
    }

    fn check_unauthorized(&mut self, n: usize, reply: &Reply, action: Action, kind: Option<FailureKind>) {
        use BearerErrorCode::{InsufficientClaims, InsufficientScope, TokenRevoked};
        let is_useless = matches!(reply.challenge(), Some(InsufficientScope | InsufficientClaims | TokenRevoked))
            || matches!(reply.code(), CodeClass::InsufficientScope | CodeClass::TokenRevoked);
        let request = &mut self.requests[n];
        if is_useless || request.recoveries >= self.known.max_token_recoveries.into() {
            assert_eq!(kind, Some(FailureKind::Unauthorized), "D3, D12");
            return;
        }
        assert_ne!(kind, Some(FailureKind::Unauthorized), "D3");
        assert!(!matches!(action, Action::Done { .. } | Action::InFlight { .. }), "D3");
        request.recoveries += 1;
        request.refused = Some(request.generation);
    }

    fn check_retry(&mut self, n: usize, throttled: bool, action: Action, kind: Option<FailureKind>) {
        use FailureKind::{BreakerOpen, Budget, Deadline, Exhausted, ServerWaitTooLong};
        let request = &self.requests[n];
        let retries = request.machine.attempts() - request.recoveries;
        let cost = self.known.budget.map_or(0, |budget| match throttled {
            true => u64::from(budget.throttle_cost),
            false => u64::from(budget.retry_cost),
        });
        match kind {
            None => {
                assert!(matches!(action, Action::Wait { .. }), "P2: {action:?}");
                assert!(retries <= self.known.max_retries, "B3");
                let (least, most) = self.budget;
                assert!(most >= cost, "I9");
                self.budget = (least.saturating_sub(cost), most - cost);
            }
            Some(Exhausted) => assert!(retries > self.known.max_retries, "B3"),
            Some(Budget) => assert!(self.budget.0 < cost, "S2"),
            Some(Deadline) => assert!(self.known.deadline.is_some(), "S4"),
            Some(kind) => assert!(matches!(kind, ServerWaitTooLong | BreakerOpen), "P2: {kind:?}"),
        }
    }

    fn deadline(&self, n: usize) -> Option<Timestamp> {
        Some(after(self.requests[n].started?, self.known.deadline?))
    }
}

/// D2–D7, D10.
fn surfaced(status: u16) -> FailureKind {
    match status {
        400 => FailureKind::BadRequest,
        403 => FailureKind::Forbidden,
        404 => FailureKind::NotFound,
        409 => FailureKind::Conflict,
        422 => FailureKind::Validation,
        _ => FailureKind::UnexpectedStatus,
    }
}

fn after(time: Timestamp, nanos: u64) -> Timestamp {
    time.saturating_add(Duration::from_nanos(nanos))
}

fn since(time: Timestamp, earlier: Timestamp) -> u64 {
    nanos(time.saturating_duration_since(earlier))
}

/// Counts what is written, and keeps nothing.
struct Sentence(usize);

impl Write for Sentence {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}
