//! Exhaustive exploration: machine and upstream are small plain values, so a search can try all orders of events over an
//! alphabet and merge the states that it has visited. A model checker (stateright) does the search. It checks the
//! invariants I1 to I10 on every edge, and a panic or an overflow ends it (I11). The comment above each invariant names the
//! planted bugs with which the check was seen to fail. (I11: an unchecked subtraction of times.)
//!
//! The search explores one request until it finds no new state, and two requests on one upstream as deep as the time
//! allows. `cargo test --release --test exhaustive -- --nocapture` prints the figures, and with `--ignored` goes deeper.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use retry_machine::snapshot::{GateSnapshot, MachineSnapshot, ServiceSnapshot};
use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, DialectField, Event, FailureKind, FieldMeaning, GateReason, Idempotency,
    Jitter, LoginState, Policy, RefreshOutcome, Reply, RetryMachine, StatusMeaning, TimeUnit, Timestamp,
    TransportErrorKind, Upstream, Verdict, WaitReason,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

const RETRIES: u32 = 2;
const RECOVERIES: u32 = 1;
const RETRY_COST: u32 = 5;
const REFUND: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(8);

const DIALECT: &[DialectField] =
    &[DialectField::new("grpc-retry-pushback-ms", FieldMeaning::Pushback(TimeUnit::Milliseconds))];

fn policy(capacity: u32) -> Policy {
    Policy::flextell()
        .into_builder()
        .jitter(Jitter::None)
        .max_retries(u16::try_from(RETRIES).unwrap())
        .max_server_wait(LONGEST_WAIT)
        .deadline(Some(Duration::from_secs(12)))
        .attempt_timeout(Some(Duration::from_secs(4)))
        .refresh_timeout(Duration::from_secs(4))
        .budget(Some(BudgetPolicy {
            capacity,
            retry_cost: RETRY_COST,
            throttle_cost: RETRY_COST,
            success_refund: REFUND,
            // A clock for the budget would multiply the states.
            refill_every: Duration::ZERO,
            ..BudgetPolicy::DEFAULT
        }))
        .on(502..=502, StatusMeaning::RetryIfSafe)
        // A throttle only where hinted.
        .on(429..=429, StatusMeaning::Surface)
        .on_hinted(429..=429, StatusMeaning::Throttle)
        .dialect(DIALECT)
        .breaker(Some(BreakerPolicy { failure_threshold: 2, open_for: Duration::from_secs(2) }))
        .build()
        .unwrap()
}

/// An event of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Input {
    Start,
    /// Before that instant, or without one.
    Early,
    /// At the instant of the next tick.
    Due,
    /// Three seconds after that.
    Late,
    /// By a clock that goes backwards.
    Backwards,
    Status(u16),
    /// A status and its `Retry-After` in seconds.
    Hint(u16, u32),
    /// A status with nothing left for so many seconds.
    Exhausted(u16, u32),
    Verdict(u16, Verdict),
    /// A status and a pushback in seconds.
    Pushback(u16, u32),
    /// For the attempt before the newest.
    LateStatus(u16),
    LateHint(u16, u32),
    Failed(TransportErrorKind),
    /// The outcome of the newest lease, and then a tick, for a request that leads or follows (F5).
    Refreshed(RefreshOutcome),
    Cancel,
    /// For the login: the outcome of a lease.
    Report(Which, RefreshOutcome),
    TokenReplaced,
    TokenRemoved,
    /// For the gate, in seconds from now.
    CloseGate(u32),
    OpenGate,
}

/// The lease of an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Which {
    Newest,
    /// The one before the newest.
    Older,
    /// One that has not been given.
    Never,
}

const REFRESHED: RefreshOutcome = RefreshOutcome::Refreshed { expires_in: None };
const UNAVAILABLE: RefreshOutcome = RefreshOutcome::Unavailable { retry_after: None };

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
    Input::Hint(429, 10),
    Input::Hint(404, 3),
    Input::Exhausted(403, 5),
    Input::Exhausted(200, 5),
    Input::LateStatus(200),
    Input::LateHint(429, 5),
    Input::LateHint(429, 10),
    Input::Failed(TransportErrorKind::NotSent),
    Input::Failed(TransportErrorKind::TimedOut),
    Input::Failed(TransportErrorKind::Broken),
    Input::Failed(TransportErrorKind::Other),
    Input::Refreshed(RefreshOutcome::Refreshed { expires_in: Some(Duration::from_secs(1)) }),
    Input::Refreshed(RefreshOutcome::Rejected),
    Input::Refreshed(UNAVAILABLE),
    Input::Cancel,
];

/// All that can happen to the login, with enough of the others to lead anywhere around it.
const AT_THE_LOGIN: [Input; 19] = [
    Input::Early,
    Input::Due,
    Input::Status(200),
    Input::Status(401),
    Input::Status(503),
    Input::Hint(429, 3),
    Input::LateStatus(200),
    Input::Cancel,
    Input::Report(Which::Newest, REFRESHED),
    Input::Report(Which::Newest, RefreshOutcome::Refreshed { expires_in: Some(Duration::from_secs(2)) }),
    Input::Report(Which::Newest, RefreshOutcome::Rejected),
    Input::Report(Which::Newest, UNAVAILABLE),
    Input::Report(Which::Newest, RefreshOutcome::Unavailable { retry_after: Some(Duration::from_secs(3)) }),
    Input::Report(Which::Newest, RefreshOutcome::Abandoned),
    Input::Report(Which::Older, REFRESHED),
    Input::Report(Which::Older, RefreshOutcome::Abandoned),
    Input::Report(Which::Never, REFRESHED),
    Input::TokenReplaced,
    Input::TokenRemoved,
];

/// A login can have a new token forever, so that a path takes only so many of these.
const MOST_LOGINS: u32 = 2;

/// Words of servers and peers beyond a status and a hint, and the statuses that they need.
const WORDS: [Input; 8] = [
    Input::Status(429),
    Input::Status(502),
    Input::Verdict(200, Verdict::TokenExpired),
    Input::Verdict(200, Verdict::Transient),
    Input::Verdict(503, Verdict::Final),
    Input::Pushback(503, 0),
    Input::Failed(TransportErrorKind::Unprocessed),
    Input::Failed(TransportErrorKind::Permanent),
];

/// Enough of [`ALPHABET`] beside the words to lead anywhere. With all of it there would be too many states.
const BESIDE_WORDS: [Input; 11] = [
    Input::Due,
    Input::Late,
    Input::Status(200),
    Input::Hint(503, 3),
    Input::Hint(429, 3),
    Input::LateStatus(200),
    Input::LateHint(429, 5),
    Input::Failed(TransportErrorKind::NotSent),
    Input::Refreshed(REFRESHED),
    Input::Refreshed(UNAVAILABLE),
    Input::Cancel,
];

/// Enough of the others to lead anywhere at the gate, with what is about it alone: a limit with nothing left that closes it
/// beside an answer, a throttle without a hint, and the operator.
const AT_THE_GATE: [Input; 14] = [
    Input::Due,
    Input::Late,
    Input::Status(200),
    Input::Status(503),
    Input::Verdict(503, Verdict::Throttled),
    Input::Hint(429, 1),
    Input::Hint(429, 3),
    Input::Hint(429, 10),
    Input::Exhausted(200, 2),
    Input::LateHint(429, 5),
    Input::Failed(TransportErrorKind::NotSent),
    Input::Cancel,
    Input::CloseGate(2),
    Input::OpenGate,
];

/// Answers that keep a request going: failures, hints, and silence.
const ANSWERS: [Input; 3] = [Input::Status(503), Input::Hint(429, 3), Input::Due];

impl Input {
    /// Returns whether the event is for the login or the gate, and not for a request.
    fn is_for_all(self) -> bool {
        matches!(
            self,
            Input::Report(..) | Input::TokenReplaced | Input::TokenRemoved | Input::CloseGate(_) | Input::OpenGate
        )
    }

    fn event(self, newest: u32) -> Event {
        let late = newest.wrapping_sub(1);
        match self {
            Input::Start => Event::Start,
            Input::Early | Input::Due | Input::Late | Input::Backwards | Input::Refreshed(_) => Event::Tick,
            Input::Status(status) => Event::Reply { attempt: newest, reply: Reply::new(status) },
            Input::Hint(status, wait) => Event::Reply { attempt: newest, reply: hinted(status, wait) },
            Input::Exhausted(status, wait) => Event::Reply { attempt: newest, reply: exhausted(status, wait) },
            Input::Verdict(status, verdict) => {
                Event::Reply { attempt: newest, reply: Reply::new(status).with_verdict(verdict) }
            }
            Input::Pushback(status, wait) => Event::Reply { attempt: newest, reply: pushed_back(status, wait) },
            Input::LateStatus(status) => Event::Reply { attempt: late, reply: Reply::new(status) },
            Input::LateHint(status, wait) => Event::Reply { attempt: late, reply: hinted(status, wait) },
            Input::Failed(error) => Event::TransportError { attempt: newest, kind: error },
            Input::Cancel => Event::Cancel,
            Input::Report(..) | Input::TokenReplaced | Input::TokenRemoved | Input::CloseGate(_) | Input::OpenGate => {
                unreachable!("they are for the login or the gate")
            }
        }
    }
}

/// The facts of a reply, as the input says them.
#[derive(Clone, Copy)]
struct Facts {
    status: u16,
    verdict: Option<Verdict>,
    /// In seconds.
    hint: Option<u32>,
    is_pushback: bool,
    is_exhausted: bool,
}

/// The place of a reply in the table of statuses and verdicts (D11, D15).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Answer,
    Token,
    Surfaced,
    Ambiguous,
    Retried,
    Throttled,
}

impl Facts {
    fn of(input: Input) -> Option<Facts> {
        let plain = |status| Facts { status, verdict: None, hint: None, is_pushback: false, is_exhausted: false };
        let hinted = |status, wait| Facts { hint: Some(wait), ..plain(status) };
        match input {
            Input::Status(status) | Input::LateStatus(status) => Some(plain(status)),
            Input::Hint(status, wait) | Input::LateHint(status, wait) => Some(hinted(status, wait)),
            Input::Exhausted(status, wait) => Some(Facts { is_exhausted: true, ..hinted(status, wait) }),
            Input::Verdict(status, verdict) => Some(Facts { verdict: Some(verdict), ..plain(status) }),
            Input::Pushback(status, wait) => Some(Facts { is_pushback: true, ..hinted(status, wait) }),
            _ => None,
        }
    }

    fn taken(self, idempotency: Idempotency) -> Taken {
        match (self.verdict, self.status, self.hint) {
            (Some(Verdict::Final), ..) => Taken::Surfaced,
            (Some(Verdict::TokenExpired), ..) | (None, 401, _) => Taken::Token,
            (Some(Verdict::Transient), ..) | (None, 503, _) => Taken::Retried,
            (Some(Verdict::Throttled), ..) | (None, 429, Some(_)) => Taken::Throttled,
            (None, 200, _) => Taken::Answer,
            (None, 502, _) if idempotency == Idempotency::Idempotent => Taken::Retried,
            (None, 502, _) => Taken::Ambiguous,
            (None, ..) => Taken::Surfaced,
        }
    }

    /// D18: returns whether the answer shows that the service is well.
    fn is_good(self) -> bool {
        let is_surfaced_429 = self.status == 429 && self.hint.is_none();
        matches!(self.verdict, None | Some(Verdict::Final))
            && (matches!(self.status, 200 | 403 | 404) || is_surfaced_429)
    }
}

/// The facts of a request that an observer remembers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Seen {
    /// L1: the latest hint that counts.
    not_before: Timestamp,
    sends: u32,
    retries: u32,
    /// The generation of the last attempt, and whether the answer was a 401.
    generation: Option<u32>,
    unauthorized: bool,
    /// F5: whether the request has led or followed since its last attempt.
    settled: bool,
    /// F6: the attempts that have succeeded. Each succeeds at most once.
    succeeded: u8,
    /// F6: the attempt that was in flight when the request ended, until its result comes.
    unanswered: Option<u32>,
    /// D13: whether an attempt was unprocessed.
    repeated: bool,
    /// C3: the price of the retries that no answer has given back.
    paid: u32,
    /// C13: the time spent in waits for hints and at the gate, as far as they are over.
    server_time: Duration,
    /// The wait under way: its begin or the last event in it, its end, and its reason.
    wait: Option<(Timestamp, Timestamp, WaitReason)>,
    end: Option<Action>,
}

/// One upstream, its requests, and the observer.
#[derive(Clone, PartialEq, Debug)]
struct SystemState {
    now: Timestamp,
    upstream: Upstream,
    machines: Vec<(RetryMachine, Seen)>,
    idempotency: Idempotency,
    /// Number of states on the path to this one, this one included.
    depth: usize,
    /// S1: the instant before which no request may call the upstream.
    closed_until: Timestamp,
    token: Token,
    /// The capacity of the budget, and its balance.
    capacity: u32,
    balance: u32,
    /// The case on the edge to this state.
    reached: Option<Case>,
    broken: Option<&'static str>,
}

/// The token and its refresh, as the observer knows them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Token {
    /// K4, K9.
    generation: Option<u32>,
    tokens: u32,
    /// K3: whether a 401 has come for it.
    is_refused: bool,
    is_rejected: bool,
    expires: Option<Timestamp>,
    /// K5: the number of leases, and of those before this token.
    leases: u32,
    settled: u32,
    /// The end of the newest lease, until an outcome counts.
    lease: Option<Timestamp>,
    /// K6: the newest outcome that brought no token, and the number of its lease.
    outcome: (Option<RefreshOutcome>, u32),
    /// K6, K7: before these no lease is given, and none ahead of expiry.
    throttled_until: Timestamp,
    no_early_lease_before: Timestamp,
    /// The number of tokens from outside and of removals.
    logins: u32,
}

impl Token {
    const FIRST: Token = Token {
        generation: Some(0),
        tokens: 1,
        is_refused: false,
        is_rejected: false,
        expires: None,
        leases: 0,
        settled: 0,
        lease: None,
        outcome: (None, 0),
        throttled_until: Timestamp::ZERO,
        no_early_lease_before: Timestamp::ZERO,
        logins: 0,
    };

    fn is_open(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|until| now < until)
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    fn replace(&mut self, expires: Option<Timestamp>) {
        *self = Token {
            generation: Some(self.tokens),
            tokens: self.tokens + 1,
            expires,
            leases: self.leases,
            settled: self.leases,
            logins: self.logins,
            ..Token::FIRST
        };
    }

    fn remove(&mut self) {
        self.tokens -= 1;
        self.replace(None);
        self.generation = None;
    }

    /// K5: returns whether the outcome counts.
    fn report(&mut self, now: Timestamp, lease: u32, outcome: RefreshOutcome) -> bool {
        let is_current = self.settled < lease && lease <= self.leases;
        let counts = match outcome {
            RefreshOutcome::Refreshed { .. } => is_current,
            _ => is_current && lease == self.leases && self.lease.is_some(),
        };
        if counts {
            match outcome {
                RefreshOutcome::Refreshed { expires_in } => {
                    self.replace(expires_in.map(|wait| now.saturating_add(wait)))
                }
                RefreshOutcome::Rejected => self.is_rejected = true,
                RefreshOutcome::Unavailable { retry_after } => {
                    let wait = retry_after.unwrap_or_default().min(LONGEST_WAIT);
                    self.throttled_until = now.saturating_add(wait);
                    let left = self.expires.map_or(Duration::ZERO, |expires| expires.saturating_duration_since(now));
                    self.no_early_lease_before = now.saturating_add(left / 2);
                }
                RefreshOutcome::Abandoned => {}
            }
            if matches!(outcome, RefreshOutcome::Unavailable { .. } | RefreshOutcome::Abandoned) {
                self.outcome = (Some(outcome), lease);
            }
            self.lease = None;
        }
        counts
    }
}

/// The cases at the gate and at the login that the search must reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    InQueue,
    Head,
    MovedBack,
    GivenBack,
    TooLongForNewcomer,
    TooLongInAll,
    Brake,
    FreeThrottle,
    FollowsBeforeItSends,
    LeadsAfterAnAbandonedLease,
    AnOlderLeaseCounts,
    FailsWithoutItsToken,
}

/// Two states are the same if they continue in the same way: instants count from now, and the path to a state does not
/// count. The checker merges states by their hash alone, so that `PartialEq` compares clocks does not matter.
///
/// Some states that continue in the same way have different hashes, because the gate keeps past instants. The search tries
/// these twice.
impl Hash for SystemState {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let ahead = |time: Timestamp| time.saturating_duration_since(self.now);
        ServiceSnapshot::new(&self.upstream.service, self.now).hash(hasher);
        GateSnapshot::new(&self.upstream.gate, self.now).hash(hasher);
        for (machine, seen) in &self.machines {
            MachineSnapshot::new(machine, self.now).hash(hasher);
            let Seen { not_before, sends, retries, generation, unauthorized, settled, .. } = seen;
            (ahead(*not_before), sends, retries, generation, unauthorized, settled).hash(hasher);
            let Seen { succeeded, unanswered, repeated, paid, end, .. } = seen;
            (succeeded, unanswered, repeated, paid, end.is_some()).hash(hasher);
        }
        // The same state comes of the newest lease.
        (self.reached == Some(Case::AnOlderLeaseCounts)).hash(hasher);
        // The login keeps the age of its token, which matters to no state here. The observer knows all the rest of it.
        let Token { generation, tokens, is_refused, is_rejected, leases, settled, outcome, logins, .. } = self.token;
        (generation, tokens, is_refused, is_rejected, leases, settled, outcome, logins).hash(hasher);
        let Token { expires, lease, throttled_until, no_early_lease_before, .. } = self.token;
        (expires.map(ahead), lease.map(ahead), ahead(throttled_until), ahead(no_early_lease_before)).hash(hasher);
        (ahead(self.closed_until), self.balance, self.broken).hash(hasher);
    }
}

impl SystemState {
    fn new(requests: u32, idempotency: Idempotency) -> SystemState {
        // One request can pay for all its retries, two requests share the budget.
        let capacity = RETRY_COST * RETRIES / requests;
        SystemState {
            // After the origin, so that the clock can go backwards.
            now: Timestamp::from_millis(1_000_000),
            upstream: Upstream::new(policy(capacity)),
            machines: (0..requests)
                .map(|seed| (RetryMachine::new(idempotency, seed.into()), Seen::default()))
                .collect(),
            idempotency,
            depth: 1,
            closed_until: Timestamp::ZERO,
            token: Token::FIRST,
            capacity,
            balance: capacity,
            reached: None,
            broken: None,
        }
    }

    fn step(&mut self, request: usize, input: Input) {
        self.reached = None;
        match input {
            Input::CloseGate(wait) => return self.close_gate(wait),
            Input::OpenGate => return self.open_gate(),
            Input::Report(..) | Input::TokenReplaced | Input::TokenRemoved => return self.tell_login(input),
            Input::Refreshed(outcome) => self.tell_login(Input::Report(Which::Newest, outcome)),
            _ => {}
        }
        let (machine, seen) = &mut self.machines[request];
        let newest = machine.attempts();
        let in_flight = machine.in_flight();
        let due = machine.next_tick(self.upstream.policy()).unwrap_or(self.now).max(self.now);
        let now = match input {
            Input::Due => due,
            Input::Late => due.saturating_add(seconds(3)),
            Input::Backwards => Timestamp::from_millis(1),
            _ => self.now,
        };
        let event = input.event(newest);
        // T2.
        self.now = self.now.max(now);
        let before = self.upstream.gate.state(self.now);
        let action = machine.handle(now, event, &mut self.upstream);
        let after = self.upstream.gate.state(self.now);
        let now = self.now;
        let was_closed = now < self.closed_until;
        if let Some((from, until, reason)) = seen.wait.take().filter(|_| seen.end.is_none()) {
            if reason != WaitReason::Backoff {
                seen.server_time += now.saturating_duration_since(from);
            }
            seen.wait = Some((now, until, reason));
        }
        let left = LONGEST_WAIT.saturating_sub(seen.server_time);

        let mut check = |holds: bool, invariant| {
            if !holds {
                self.broken.get_or_insert(invariant);
            }
        };
        if let Some(end) = seen.end {
            check(action == end, I3);
        }

        // The reply of the event.
        let attempt = match event {
            Event::Reply { attempt, .. } | Event::TransportError { attempt, .. } => Some(attempt),
            _ => None,
        };
        let reply = Facts::of(input).filter(|_| newest > 0);
        let taken = reply.map(|reply| reply.taken(self.idempotency));
        let is_retried = matches!(taken, Some(Taken::Retried | Taken::Throttled));
        let is_first_answer = seen.unanswered.is_some() && seen.unanswered == attempt;
        let is_in_flight = in_flight.is_some() && attempt == in_flight;
        if is_first_answer {
            seen.unanswered = None;
        }
        if let Some(reply) = reply {
            // L1: the hints that count.
            if let Some(wait) = reply.hint.filter(|_| is_retried && seen.end.is_none()) {
                seen.not_before = seen.not_before.max(now.saturating_add(seconds(wait)));
            }
            let closes = taken == Some(Taken::Throttled)
                || reply.is_exhausted && matches!(taken, Some(Taken::Answer | Taken::Surfaced | Taken::Retried));
            if let Some(wait) = reply.hint.filter(|_| closes) {
                // C12: one reply closes it for so long at most.
                self.closed_until = self.closed_until.max(now.saturating_add(seconds(wait).min(LONGEST_WAIT)));
            }
            // D18, F6: a good answer that is the first of its attempt, or a late success.
            let is_success = reply.status == 200 && taken == Some(Taken::Answer);
            let success = attempt.filter(|attempt| is_success && (1..=newest).contains(attempt));
            let success = success.map_or(0, |attempt| 1 << attempt);
            let is_new_success = seen.succeeded & success != success;
            seen.succeeded |= success;
            if is_new_success || reply.is_good() && success == 0 && (is_in_flight || is_first_answer) {
                self.balance = self.capacity.min(self.balance + REFUND + seen.paid);
                seen.paid = 0;
            }
        }
        // C11: the brake is for the back-off of the next retry, and only with a pace.
        if let Some((until, GateReason::Brake)) = after.closed.filter(|closed| before.closed != Some(*closed)) {
            let backoff = now.saturating_add(seconds(1 << seen.retries));
            check(before.pace.is_some() && in_flight.is_some() && until <= backoff, S1);
            self.closed_until = self.closed_until.max(until);
            self.reached = Some(Case::Brake);
        }
        let closed = (now < self.closed_until).then_some(self.closed_until);
        check(after.closed.map(|(until, _)| until) == closed, S1);

        // The result of the attempt that was under way.
        let answer = reply.filter(|_| is_in_flight);
        let over = in_flight.is_some() && machine.in_flight() != in_flight;
        let unprocessed = input == Input::Failed(TransportErrorKind::Unprocessed);
        match answer.and(taken) {
            Some(Taken::Answer) => check(matches!(action, Action::Done { .. }), I4),
            Some(Taken::Surfaced) => check(matches!(action, Action::Fail(_)), I4),
            Some(Taken::Ambiguous) => check(action.is_terminal(), I10),
            Some(Taken::Token) => seen.unauthorized = true,
            Some(Taken::Retried | Taken::Throttled) => {}
            None if over
                && self.idempotency == Idempotency::NonIdempotent
                && !unprocessed
                && input != Input::Failed(TransportErrorKind::NotSent) =>
            {
                check(action.is_terminal(), I10);
            }
            None => {}
        }
        if input == Input::Failed(TransportErrorKind::Permanent) && is_in_flight {
            check(matches!(action, Action::Fail(_)), I4);
        }
        let is_repetition = over && unprocessed && !seen.repeated;
        seen.repeated |= is_repetition;
        let failed = over && !is_repetition && answer.and(taken) != Some(Taken::Token);
        let throttled = answer.and(taken) == Some(Taken::Throttled);
        // C2: the queue bounds it.
        let cost = if throttled && was_closed { 0 } else { RETRY_COST };
        let has_ended = seen.end.is_none() && action.is_terminal();
        if has_ended && in_flight.is_some() && !is_in_flight && !matches!(input, Input::Due | Input::Late) {
            seen.unanswered = in_flight;
        }

        // K3: a 401 for the current token, whoever got it.
        if answer.and(taken) == Some(Taken::Token) {
            let has_token = self.token.generation.is_some();
            self.token.is_refused |= has_token && seen.generation == self.token.generation;
            check(has_token || action.is_terminal(), K9);
        }
        let token = self.token;

        match action {
            Action::Send { attempt, generation, .. } => {
                check(now >= seen.not_before && now >= self.closed_until, I1);
                seen.wait = None;
                let most = 1 + RETRIES + RECOVERIES + u32::from(seen.repeated);
                check(attempt <= most && attempt == seen.sends + 1, I2);
                check(!seen.unauthorized || generation != seen.generation, I5);
                let is_dead = token.is_refused || !seen.settled && token.has_expired(now);
                check(generation.is_none() || !token.is_open(now) || !is_dead, K3);
                check(generation == token.generation && (generation.is_none() || !token.is_rejected), K6);
                (seen.sends, seen.generation, seen.unauthorized) = (attempt, generation, false);
                seen.settled = false;
            }
            Action::RefreshToken { lease, generation, until, .. } => {
                check(!token.is_open(now), I6);
                check(now >= token.throttled_until, K6);
                check(lease == token.leases + 1 && Some(generation) == token.generation && !token.is_rejected, K5);
                if token.outcome == (Some(RefreshOutcome::Abandoned), token.leases) && matches!(event, Event::Tick) {
                    self.reached = Some(Case::LeadsAfterAnAbandonedLease);
                }
                (self.token.leases, self.token.lease) = (lease, Some(until));
            }
            Action::Wait { until, reason, .. } => {
                if failed {
                    seen.retries += 1;
                    check(cost <= self.balance, I9);
                    self.balance = self.balance.saturating_sub(cost);
                    seen.paid += cost;
                    if cost == 0 {
                        self.reached = Some(Case::FreeThrottle);
                    }
                }
                let backoff = now.saturating_add(seconds(1 << seen.retries >> 1));
                // L2: after a throttle the hint counts, however short. H11: so does a pushback, which is exact.
                let is_asked = answer.is_some_and(|reply| reply.is_pushback || throttled && reply.hint.is_some());
                let shortest = if failed && !is_asked { backoff } else { now }.max(seen.not_before);
                let longest = match reason {
                    WaitReason::Backoff => backoff,
                    WaitReason::Hint(_) => seen.not_before,
                    // A head waits for the opening, any other for a slot (C9, C10).
                    WaitReason::Gate => self.closed_until.max(before.next_free).max(after.next_free),
                };
                check(until.max(now) >= shortest, I8);
                let is_new = seen.wait.is_none_or(|(_, before, _)| before != until);
                // S1: those that wait when the operator ends the queue keep their slots.
                let is_known = after.pace.is_some() || reason != WaitReason::Gate;
                check(!is_new || !is_known || until <= longest.max(now), I8);
                // C13: no longer in all, the waits before included.
                let is_for_server = reason != WaitReason::Backoff;
                check(!is_for_server || until.max(now).saturating_duration_since(now) <= left, I8);
                if is_new && reason == WaitReason::Gate {
                    let is_newcomer = seen.sends == 0 && seen.wait.is_none();
                    check(!is_newcomer || until == before.next_free, S7);
                    self.reached = self.reached.or(Some(match seen.wait {
                        _ if is_newcomer => Case::InQueue,
                        Some((_, end, WaitReason::Gate)) if now >= end => Case::MovedBack,
                        _ => Case::Head,
                    }));
                }
                seen.wait = Some((now, until, reason));
            }
            Action::Done { .. } | Action::Fail(_) => {
                let refused = matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::Budget);
                check(!refused || seen.end.is_some() || cost > self.balance, I9);
                let too_long =
                    matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::ServerWaitTooLong);
                let is_rejected =
                    matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::TokenRejected);
                let failed_without_token = is_rejected && token.generation.is_none();
                if seen.end.is_none() {
                    let gives_back = input == Input::Cancel && after.next_free < before.next_free;
                    self.reached = match too_long {
                        true if seen.sends == 0 && seen.wait.is_none() => Some(Case::TooLongForNewcomer),
                        true if seen.server_time > Duration::ZERO => Some(Case::TooLongInAll),
                        _ if gives_back => Some(Case::GivenBack),
                        _ if failed_without_token => Some(Case::FailsWithoutItsToken),
                        _ => self.reached,
                    };
                }
                seen.end = Some(action);
            }
            Action::AwaitRefresh { .. } if seen.sends == 0 => self.reached = Some(Case::FollowsBeforeItSends),
            Action::AwaitRefresh { .. } | Action::InFlight { .. } => {}
        }
        if matches!(action, Action::RefreshToken { .. } | Action::AwaitRefresh { .. }) {
            seen.wait = None;
            seen.settled = true;
        }
        self.check_login();
    }

    fn tell_login(&mut self, input: Input) {
        match input {
            Input::Report(which, outcome) => {
                let newest = self.token.leases;
                let lease = match which {
                    Which::Newest => newest,
                    Which::Older => newest.saturating_sub(1),
                    Which::Never => newest + 1,
                };
                let counted = self.upstream.login.report_refresh(self.now, lease, outcome);
                if counted != self.token.report(self.now, lease, outcome) {
                    self.broken.get_or_insert(K5);
                }
                if counted && which == Which::Older {
                    self.reached = Some(Case::AnOlderLeaseCounts);
                }
            }
            Input::TokenReplaced => {
                self.upstream.login.token_replaced(self.now, None);
                self.token.replace(None);
                self.token.logins += 1;
            }
            _ => {
                self.upstream.login.token_removed();
                self.token.remove();
                self.token.logins += 1;
            }
        }
        self.check_login();
    }

    /// Asserts that the login shows what the observer knows.
    fn check_login(&mut self) {
        let LoginState { generation, expires, is_rejected, lease, .. } = self.upstream.login.state(self.now);
        let Token { leases, lease: end, .. } = self.token;
        let open = end.filter(|_| self.token.is_open(self.now)).map(|until| (leases, until));
        let shown = (generation, expires, is_rejected, lease);
        if shown != (self.token.generation, self.token.expires, self.token.is_rejected, open) {
            self.broken.get_or_insert(K5);
        }
    }

    /// C12: without a limit, and without a pace (S1).
    fn close_gate(&mut self, wait: u32) {
        let until = self.now.saturating_add(seconds(wait));
        let before = self.upstream.gate.state(self.now);
        self.upstream.gate.close(self.now, until);
        self.closed_until = self.closed_until.max(until);
        let after = self.upstream.gate.state(self.now);
        let holds = after.closed.map(|(until, _)| until) == Some(self.closed_until) && before.pace == after.pace;
        if !holds {
            self.broken.get_or_insert(S1);
        }
    }

    fn open_gate(&mut self) {
        self.upstream.gate.open(self.now);
        self.closed_until = self.closed_until.min(self.now);
        let after = self.upstream.gate.state(self.now);
        if after.closed.is_some() || after.pace.is_some() || after.next_free > self.now {
            self.broken.get_or_insert(S1);
        }
    }

    /// I7: returns whether every request ends if each attempt gets this answer and each wait a tick on time.
    fn ends(&self, answer: Input) -> bool {
        let mut state = self.clone();
        (0..state.machines.len()).all(|request| {
            (0..40).any(|_| {
                let in_flight = state.machines[request].0.in_flight().is_some();
                state.step(request, if in_flight { answer } else { Input::Due });
                state.machines[request].1.end.is_some()
            })
        })
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn hinted(status: u16, wait: u32) -> Reply {
    Reply::new(status).with_hint(seconds(wait))
}

fn pushed_back(status: u16, wait: u32) -> Reply {
    policy(0).read(status, [("grpc-retry-pushback-ms", (wait * 1_000).to_string())])
}

fn exhausted(status: u16, wait: u32) -> Reply {
    let headers = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", wait.to_string())];
    Policy::flextell().read(status, headers)
}

/// Planted: a send ignores `not_before`; a send ignores the gate; half of each hint is waited.
const I1: &str = "I1: never sooner than any hint that counts";
/// Planted: one retry too many.
const I2: &str = "I2: attempts are at most 1 + retries + recoveries, and 1 more where one was unprocessed";
/// Planted: a tick sends again after a failure; a cancel after the end fails with `cancelled`.
const I3: &str = "I3: no attempt after a terminal action, which repeats forever";
/// Planted: a 404 with a hint is retried; a 403 is retried after a back-off.
const I4: &str = "I4: no attempt follows a reply that is not retried";
/// Planted: after a 401 the request is sent again with the same token; it is retried after a back-off; without a new token
/// the old one is used.
const I5: &str = "I5: after a 401 only with a newer token";
/// Planted: a second lease is granted while one is open.
const I6: &str = "I6: at most one unexpired lease";
const K3: &str = "K3: nobody sends with a dead token while a lease is open";
const K5: &str = "K5: each lease has the next number, and an outcome counts once";
const K6: &str = "K6, K4: a send has the current token, and none that was rejected";
const K9: &str = "K9: without a token a 401 fails its request";
/// Planted: a follower waits forever; a leader waits forever; an attempt has no limit; a hint binds at the instant of its end.
const I7: &str = "I7: every request ends";
/// Planted: no bound on hints, on late hints, or at the gate; one doubling too many; the shorter of hint and back-off.
const I8: &str = "I8: waits within the policy's bounds";
/// Planted: a retry is not charged; a retry is granted for less; a deposit exceeds the capacity; a 401 refunds.
const I9: &str = "I9: retries within the budget";
/// Planted: C12's limit is missing; a failure brakes without a queue.
const S1: &str = "S1: the gate is closed just as long as it was asked for, within its limit";
/// Planted: a newcomer gets no slot.
const S7: &str = "S7: who comes to a queue gets the next free slot";
/// Planted: an attempt that timed out, broke or failed otherwise is repeated; an attempt at its limit counts as not sent.
const I10: &str = "I10: a non-idempotent request is never sent again after an ambiguous failure";

/// All orders of events for a number of requests.
struct Exploration {
    requests: u32,
    idempotency: Idempotency,
    alphabet: Vec<Input>,
    depth: usize,
    /// Whether each case at the gate, or at the login, must be reached.
    is_at_the_gate: bool,
    is_at_the_login: bool,
}

impl Model for Exploration {
    type State = SystemState;
    type Action = (usize, Input);

    fn init_states(&self) -> Vec<SystemState> {
        vec![SystemState::new(self.requests, self.idempotency)]
    }

    fn actions(&self, state: &SystemState, actions: &mut Vec<(usize, Input)>) {
        // A broken state is a finding; the search behind it might have no end.
        if state.broken.is_some() || state.depth == self.depth {
            return;
        }
        let is_login = |input: &Input| matches!(input, Input::TokenReplaced | Input::TokenRemoved);
        let inputs = self.alphabet.iter().filter(|input| input.is_for_all());
        let inputs = inputs.filter(|input| !is_login(input) || state.token.logins < MOST_LOGINS);
        actions.extend(inputs.map(|input| (0, *input)));
        for (request, (machine, seen)) in state.machines.iter().enumerate() {
            if machine.attempts() == 0 && machine.next_tick(state.upstream.policy()).is_none() && seen.end.is_none() {
                actions.extend([(request, Input::Start), (request, Input::Cancel)]);
            } else {
                let is_waiting = machine.lease().is_some();
                let inputs = self.alphabet.iter().filter(|input| !input.is_for_all());
                let inputs = inputs.filter(|input| is_waiting || !matches!(input, Input::Refreshed(_)));
                actions.extend(inputs.map(|input| (request, *input)));
            }
        }
    }

    fn next_state(&self, state: &SystemState, (request, input): (usize, Input)) -> Option<SystemState> {
        // The search tries each event once after each end; it leads to no new state of the request.
        let ended = state.machines[request].1.end.is_some() && !input.is_for_all();
        let mut state = state.clone();
        state.step(request, input);
        state.depth += 1;
        (!ended || state.broken.is_some() || state.machines.len() > 1).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::<Self>::always(I7, |_, state| {
            state.broken.is_some() || ANSWERS.into_iter().all(|answer| state.ends(answer))
        })];
        macro_rules! invariants {
            ($($invariant:ident),*) => {
                $(properties.push(Property::always($invariant, |_, state: &SystemState| state.broken != Some($invariant)));)*
            };
        }
        invariants!(I1, I2, I3, I4, I5, I6, I8, I9, I10, K3, K5, K6, K9, S1, S7);
        macro_rules! reached {
            ($($case:ident),*) => {
                $(properties.push(Property::sometimes(stringify!($case), |_, state: &SystemState| {
                    state.reached == Some(Case::$case)
                }));)*
            };
        }
        if self.is_at_the_gate {
            reached!(InQueue, Head, MovedBack, GivenBack, TooLongForNewcomer, TooLongInAll, Brake, FreeThrottle);
        }
        if self.is_at_the_login {
            reached!(FollowsBeforeItSends, LeadsAfterAnAbandonedLease, AnOlderLeaseCounts, FailsWithoutItsToken);
        }
        properties
    }
}

/// Far more edges than any exploration here has. With a bug in the machine a search might have no end.
const MOST_EDGES: usize = 30_000_000;

/// Returns whether the search reached all states.
fn explore(requests: u32, idempotency: Idempotency, alphabet: &[&[Input]], depth: usize) -> bool {
    let alphabet = alphabet.concat();
    let inputs = alphabet.len();
    let started = Instant::now();
    let is_at_the_gate = alphabet == AT_THE_GATE;
    let is_at_the_login = alphabet == AT_THE_LOGIN && requests > 1;
    let checker = Exploration { requests, idempotency, alphabet, depth, is_at_the_gate, is_at_the_login }.checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).target_state_count(MOST_EDGES).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.state_count() < MOST_EDGES, "the search does not end");
    let closed = checker.max_depth() < depth;
    println!(
        "{requests} request(s), {idempotency:?}, {} inputs: {} states, {} edges, depth {}, {} in {:?}",
        inputs,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        if closed { "closed" } else { "not closed" },
        started.elapsed(),
    );
    closed
}

#[test]
fn i1_to_i11_hold_for_one_idempotent_request_in_every_order_of_events() {
    assert!(explore(1, Idempotency::Idempotent, &[&ALPHABET], 60));
}

#[test]
fn i1_to_i11_hold_for_one_non_idempotent_request_in_every_order_of_events() {
    assert!(explore(1, Idempotency::NonIdempotent, &[&ALPHABET], 60));
}

#[test]
fn i1_to_i11_hold_for_one_idempotent_request_that_gets_words() {
    assert!(explore(1, Idempotency::Idempotent, &[&BESIDE_WORDS, &WORDS], 60));
}

#[test]
fn i1_to_i11_hold_for_one_non_idempotent_request_that_gets_words() {
    assert!(explore(1, Idempotency::NonIdempotent, &[&BESIDE_WORDS, &WORDS], 60));
}

#[test]
fn i1_to_i11_hold_for_two_requests_on_one_upstream() {
    explore(2, Idempotency::Idempotent, &[&ALPHABET, &WORDS], 7);
}

#[test]
fn s7_i1_to_i11_hold_for_three_requests_at_the_gate() {
    explore(3, Idempotency::Idempotent, &[&AT_THE_GATE], 7);
}

#[test]
fn s7_i1_to_i11_hold_for_two_requests_at_the_gate() {
    explore(2, Idempotency::Idempotent, &[&AT_THE_GATE], 7);
}

#[test]
fn k3_k5_i1_to_i11_hold_for_one_request_at_the_login() {
    assert!(explore(1, Idempotency::Idempotent, &[&AT_THE_LOGIN], 60));
}

#[test]
fn k3_k5_i1_to_i11_hold_for_three_requests_at_the_login() {
    explore(3, Idempotency::Idempotent, &[&AT_THE_LOGIN], 7);
}

#[test]
#[ignore = "takes more than two minutes"]
fn i1_to_i11_hold_for_two_requests_on_one_upstream_at_greater_depth() {
    explore(2, Idempotency::Idempotent, &[&ALPHABET, &WORDS], 8);
}
