//! The state machine of one request: one `match` owns all its transitions.

use crate::action::{Action, Because, News, WaitReason};
use crate::backoff::{Backoff, Jitter};
use crate::event::{Event, Repeat, TokenOutcome, TransportError};
use crate::failure::{Cause, Failure, FailureKind};
use crate::reply::{Hint, HintSource, Rejected, Reply};
use crate::seed::{Purpose, draw};
use crate::time::{Time, nanos};
use crate::upstream::Upstream;
use crate::upstream::breaker::{Health, Ticket};
use crate::upstream::token::{Finding, Stamp, Turn};

/// Decides for one request whether, when and with which token to try again.
///
/// Pure: it reads no clock, draws no randomness from outside and does no IO (rule T1). 64 bytes, no heap. Not `Copy`,
/// since a silent copy would hold the same lead twice (rule T6).
///
/// ```
/// use retry_machine::{Action, Event, Policy, Repeat, Reply, RetryMachine, Time, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let mut machine = RetryMachine::new(Repeat::Safe, 7);
///
/// let action = machine.handle(Time::ZERO, Event::Start, &mut upstream);
/// assert!(matches!(action, Action::Send { attempt: 1, .. }));
///
/// let action = machine.handle(Time::from_millis(80), Event::Reply(1, Reply::new(503)), &mut upstream);
/// assert!(matches!(action, Action::Wait { .. }), "{action}");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RetryMachine {
    seed: u64,
    started: Time,
    /// The server asked this request not to call before. Of a failed request: what its failure says of it.
    not_before: Time,
    /// The end of the wait, of the attempt if there is a limit, or of the lease. Of an ended request: when it ended.
    until: Time,
    /// Nanoseconds spent at the gate. Of an ended request: what its last reply had rejected.
    gate_time: u64,
    /// How many were sent.
    attempts: u32,
    /// The lease that is led or followed, else when the newest attempt took its token.
    stamp: Stamp,
    /// When the newest attempt was sent, in the breaker's order, and the first attempt for which that holds.
    ticket: Ticket,
    ticket_from: u32,
    /// The last status; see [`Flags::HAS_STATUS`].
    status: u16,
    /// How often it waited at the gate before a send. Wraps: it only tells draws apart.
    gate_waits: u8,
    recoveries: u8,
    phase: Phase,
    /// What the last attempt failed of.
    cause: Option<Cause>,
    flags: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Not begun.
    Ready,
    /// An attempt is under way.
    InFlight,
    Waiting(WaitReason),
    /// It refreshes the token.
    Leading,
    /// Another request refreshes the token; this is the how-manieth wait for one.
    Following(u8),
    Done,
    Failed(FailureKind),
}

/// K8: a follower waits for three leases, then it gives up.
const MAX_FOLLOWS: u8 = 3;

impl RetryMachine {
    /// A request that has not begun. `seed` must differ from request to request (rule T5):
    /// [`derive_seed`](crate::derive_seed) makes many of one.
    #[must_use]
    pub const fn new(repeat: Repeat, seed: u64) -> RetryMachine {
        RetryMachine {
            seed,
            started: Time::ZERO,
            not_before: Time::ZERO,
            until: Time::ZERO,
            gate_time: 0,
            attempts: 0,
            stamp: Stamp::NONE,
            ticket: Ticket::NONE,
            ticket_from: 0,
            status: 0,
            gate_waits: 0,
            recoveries: 0,
            phase: Phase::Ready,
            cause: None,
            flags: Flags::new(repeat),
        }
    }

    /// Takes an event that happened at `now` and says what to do next.
    ///
    /// Total: any event at any time in any order has a defined answer (rule T3). A `now` before the latest that
    /// `upstream` has seen counts as that latest (rule T2). `upstream` must be the same for the request's whole life.
    pub fn handle(&mut self, now: Time, event: Event, upstream: &mut Upstream) -> Action {
        let now = upstream.advance(now);
        let because = Because::default();
        Step { machine: self, upstream, now, because }.take(event)
    }

    /// When the next [`Tick`](Event::Tick) would matter, if ever. Ticks at other times are harmless.
    #[must_use]
    pub fn next_tick(&self, upstream: &Upstream) -> Option<Time> {
        match self.phase {
            Phase::InFlight => self.limit(upstream),
            Phase::Waiting(_) => Some(self.until),
            Phase::Leading | Phase::Following(_) => {
                Some(self.deadline(upstream).map_or(self.until, |deadline| deadline.min(self.until)))
            }
            Phase::Ready | Phase::Done | Phase::Failed(_) => None,
        }
    }

    /// How many attempts were sent.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The attempt that is under way, if one is.
    #[must_use]
    pub const fn in_flight(&self) -> Option<u32> {
        match self.phase {
            Phase::InFlight => Some(self.attempts),
            _ => None,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Failed(_))
    }

    /// The end of the attempt in flight, if there is a limit (S4).
    fn limit(&self, upstream: &Upstream) -> Option<Time> {
        let policy = &upstream.policy;
        (policy.deadline.is_some() || policy.attempt_timeout.is_some()).then_some(self.until)
    }

    fn deadline(&self, upstream: &Upstream) -> Option<Time> {
        upstream.policy.deadline.map(|limit| self.started.after(limit))
    }

    fn failure(&self, kind: FailureKind) -> Failure {
        use FailureKind::{BreakerOpen, Budget, Deadline, Exhausted, ServerWaitTooLong};
        let by_limit = matches!(kind, Exhausted | ServerWaitTooLong | Deadline | Budget | BreakerOpen);
        Failure {
            kind,
            status: self.flags.has(Flags::HAS_STATUS).then_some(self.status),
            attempts: self.attempts,
            elapsed: self.until.since(self.started),
            not_before: (self.not_before != Time::ZERO).then_some(self.not_before),
            cause: self.cause.filter(|_| by_limit),
            rejected: Rejected::from_bits(self.gate_time),
        }
    }
}

/// One call of [`RetryMachine::handle`].
struct Step<'a> {
    machine: &'a mut RetryMachine,
    upstream: &'a mut Upstream,
    now: Time,
    because: Because,
}

impl Step<'_> {
    /// The transitions. What does not stand here changes nothing, and is answered with the action that is due still.
    fn take(&mut self, event: Event) -> Action {
        use Event::{Cancel, Reply, Start, Tick, Token, TransportError};
        use Phase::{Done, Failed, Following, InFlight, Leading, Ready, Waiting};

        let over = self.now >= self.machine.until;
        let newest = self.machine.attempts;
        match (self.machine.phase, event) {
            (Ready, event) => self.begin(event),

            (InFlight, Reply(attempt, reply)) if attempt == newest => self.answered(&reply),
            (InFlight, TransportError(attempt, error)) if attempt == newest => self.broke(error),
            (InFlight, Tick) if over && self.machine.limit(self.upstream).is_some() => {
                self.broke(crate::event::TransportError::TimedOut)
            }

            // F7: only ticks end waits. T4: never sooner.
            (Waiting(reason), Tick) if over => self.wait_over(reason),

            (Leading, Token(outcome)) => self.refreshed(outcome),
            (Leading, Tick) => self.lead_on(),
            (Following(waits), Tick) => self.follow_on(waits),

            // What comes late or unasked, T3.
            (_, Reply(attempt, reply)) => self.late_reply(attempt, &reply),
            (_, TransportError(attempt, _)) => self.late_error(attempt),
            (_, Token(outcome)) if self.settle(outcome) => self.again(),
            (_, Token(_)) => self.take(Tick),

            (Done | Failed(_), Cancel) | (_, Start | Tick) => self.again(),
            (_, Cancel) => self.fail(FailureKind::Cancelled),
        }
    }

    // ---- Beginning and sending ----

    fn begin(&mut self, event: Event) -> Action {
        self.machine.started = self.now;
        match event {
            Event::Cancel => self.fail(FailureKind::Cancelled),
            _ => self.proceed(),
        }
    }

    /// P1, before each send: deadline, breaker, gate, token, send.
    fn proceed(&mut self) -> Action {
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        if self.upstream.breaker.next_probe(self.now).is_some() {
            return self.fail(FailureKind::BreakerOpen);
        }
        // L1: a hint that came late may bind this request beyond its last wait.
        if self.upstream.gate.opening(self.now).is_some() || self.now < self.machine.not_before {
            self.machine.gate_waits = self.machine.gate_waits.wrapping_add(1);
            let number = (Purpose::Gate, u32::from(self.machine.gate_waits));
            let own = (self.now.max(self.machine.not_before), WaitReason::Hint(self.machine.flags.source()));
            return self.wait(own, number, None);
        }
        if self.upstream.token.is_rejected() {
            return self.fail(FailureKind::TokenRejected);
        }
        // K7; F5: not again after a refresh for this very send.
        if self.upstream.token.is_due(self.now) && !self.machine.flags.has(Flags::TOKEN_SETTLED) {
            self.machine.flags.set(Flags::EARLY, true);
            return self.take_turn(0);
        }
        self.send()
    }

    fn send(&mut self) -> Action {
        let policy = &self.upstream.policy;
        let machine = &mut *self.machine;
        let limits = [policy.attempt_timeout.map(|limit| self.now.after(limit)), machine.deadline(self.upstream)];
        machine.until = limits.into_iter().flatten().min().unwrap_or(Time::MAX);
        machine.attempts = machine.attempts.saturating_add(1);
        let ticket = self.upstream.breaker.send(self.now, policy.breaker);
        if ticket != machine.ticket || machine.attempts == 1 {
            machine.ticket = ticket;
            machine.ticket_from = machine.attempts;
        }
        // A lease that ran out while it was led may still bring an outcome that counts (K5).
        if !self.upstream.token.is_current(machine.stamp) {
            machine.flags.set(Flags::HOLDS_LEASE, false);
        }
        if !machine.flags.has(Flags::HOLDS_LEASE) {
            machine.stamp = self.upstream.token.stamp();
        }
        machine.flags.set(Flags::UNANSWERED, true);
        machine.flags.set(Flags::TOKEN_SETTLED, false);
        machine.phase = Phase::InFlight;
        Action::Send {
            attempt: self.machine.attempts,
            generation: self.upstream.token.generation(),
            until: self.machine.limit(self.upstream),
            because: self.because(),
        }
    }

    // ---- The attempt in flight ends ----

    fn answered(&mut self, reply: &Reply) -> Action {
        let status = reply.status();
        self.because.news = News::Status(status);
        self.because.rejected = reply.rejected();
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.flags.set(Flags::HAS_STATUS, true);
        self.machine.status = status;
        self.machine.cause = Some(Cause::Status);
        self.hear(reply);
        self.record(self.health(status), self.machine.attempts);
        self.refund(reply);
        match status {
            200..=399 => self.done(status),
            401 => self.unauthorized(reply),
            _ => self.retry(self.verdict_on_status(status), reply.hint()),
        }
    }

    fn broke(&mut self, error: TransportError) -> Action {
        self.because.news = News::Transport(error);
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.cause = Some(match error {
            TransportError::NotSent => Cause::NotSent,
            TransportError::TimedOut => Cause::TimedOut,
            TransportError::Broken => Cause::Broken,
            TransportError::Other => Cause::Other,
        });
        self.record(Health::Bad, self.machine.attempts);
        // D13, D14; P2: in flight at its limit it is ambiguous, whatever then came of it.
        let over = self.machine.limit(self.upstream).is_some_and(|limit| self.now >= limit);
        let verdict = match (error, self.machine.flags.has(Flags::UNSAFE)) {
            (TransportError::NotSent, _) | (_, false) => None,
            (TransportError::Other, true) if !over => Some(FailureKind::Transport),
            (_, true) => Some(FailureKind::Ambiguous),
        };
        self.retry(verdict, None)
    }

    /// The guide's table: why a status is not retried, if it is not (D2–D11, D14).
    fn verdict_on_status(&self, status: u16) -> Option<FailureKind> {
        let policy = &self.upstream.policy;
        if policy.retries(status) {
            let server_error = (500..=599).contains(&status) && status != 503;
            let ambiguous = policy.ambiguous_5xx && server_error && self.machine.flags.has(Flags::UNSAFE);
            return ambiguous.then_some(FailureKind::Ambiguous);
        }
        Some(match status {
            400 => FailureKind::BadRequest,
            403 => FailureKind::Forbidden,
            404 => FailureKind::NotFound,
            409 => FailureKind::Conflict,
            422 => FailureKind::Validation,
            _ => FailureKind::UnexpectedStatus,
        })
    }

    /// P2, after a failed attempt.
    fn retry(&mut self, verdict: Option<FailureKind>, hint: Option<Hint>) -> Action {
        // F1: the deadline changes the kind only of what would have been retried.
        if let Some(kind) = verdict {
            return self.fail(kind);
        }
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        // Attempts are 1 + retries + recoveries (K2), so this is the number of the next retry.
        let retry = self.machine.attempts.saturating_sub(u32::from(self.machine.recoveries));
        if retry > self.upstream.policy.max_retries || self.machine.attempts == u32::MAX {
            return self.fail(FailureKind::Exhausted);
        }
        let backoff = Backoff::before_retry(retry, &self.upstream.policy, self.machine.seed);
        self.because.backoff = Some(backoff);
        let throttled = self.because.news == News::Status(429);
        let mut own = (self.now.after(backoff.wait), WaitReason::Backoff);
        // L2: a hint of zero says nothing about how long.
        if let Some(hint) = hint.filter(|hint| hint.nanos() > 0) {
            let end = self.now.after(hint.nanos()).after(self.draw((Purpose::Retry, retry), self.hint_spread()));
            if throttled || end > own.0 {
                own = (end, WaitReason::Hint(hint.source()));
            }
        }
        self.wait(own, (Purpose::Retry, retry), Some(throttled))
    }

    /// The end of P2, and the gate of P1: grants a wait until `own`, or until the gate is open if that is later, unless
    /// a limit forbids it. `price` is for a retry: whether it is one after a 429.
    fn wait(&mut self, own: (Time, WaitReason), number: (Purpose, u32), price: Option<bool>) -> Action {
        let policy = &self.upstream.policy;
        let longest = policy.max_server_wait;
        let (mut until, mut reason) = own;
        // L1: a hint that came late counts as well.
        if self.machine.not_before > until {
            (until, reason) = (self.machine.not_before, WaitReason::Hint(self.machine.flags.source()));
        }
        // L3: neither clamped nor slept.
        if self.machine.not_before.since(self.now) > longest {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        if let Some(opening) = self.upstream.gate.opening(self.now) {
            let spread = self.upstream.gate.hold(&self.upstream.policy);
            let end = opening.after(self.draw(number, spread));
            if end > until {
                // F3: the time actually waited, and the time to the opening.
                if self.machine.gate_time.saturating_add(opening.since(self.now)) > longest {
                    return self.fail(FailureKind::ServerWaitTooLong);
                }
                (until, reason) = (end, WaitReason::Gate);
            }
        }
        if self.machine.deadline(self.upstream).is_some_and(|deadline| until >= deadline) {
            return self.fail(FailureKind::Deadline);
        }
        if self.upstream.breaker.next_probe(self.now).is_some_and(|probe| until < probe) {
            return self.fail(FailureKind::BreakerOpen);
        }
        // P3: last, and never refunded.
        if let Some(throttled) = price {
            if !self.upstream.budget.pay(throttled, self.upstream.policy.budget) {
                return self.fail(FailureKind::Budget);
            }
        }
        if reason == WaitReason::Gate {
            let wait = until.since(self.now);
            self.machine.gate_time = self.machine.gate_time.saturating_add(wait);
        }
        self.machine.until = until;
        self.machine.phase = Phase::Waiting(reason);
        if self.because.news == News::Nothing {
            self.because.news = News::Begin;
        }
        self.again()
    }

    fn wait_over(&mut self, reason: WaitReason) -> Action {
        self.because.news = News::WaitOver;
        if reason == WaitReason::Gate {
            let late = self.now.since(self.machine.until);
            self.machine.gate_time = self.machine.gate_time.saturating_add(late);
        }
        self.proceed()
    }

    // ---- The token ----

    /// D3, D12, K1–K4: a 401 for the attempt in flight.
    fn unauthorized(&mut self, reply: &Reply) -> Action {
        if reply.refresh_is_useless() || self.machine.recoveries >= self.upstream.policy.max_recoveries {
            return self.fail(FailureKind::Unauthorized);
        }
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        self.machine.recoveries += 1;
        // K4: it was sent with an older token.
        if self.upstream.token.is_newer_than(self.machine.stamp) {
            return self.proceed();
        }
        if self.upstream.token.is_rejected() {
            return self.fail(FailureKind::TokenRejected);
        }
        self.machine.flags.set(Flags::EARLY, false);
        self.take_turn(0)
    }

    /// K3: leads the refresh, or follows the one that does, after having followed `waits` leases in vain.
    fn take_turn(&mut self, waits: u8) -> Action {
        let turn = self.upstream.token.take_turn(self.now, self.upstream.policy.refresh_timeout);
        match turn {
            Turn::Lead { lease, until } => {
                self.machine.flags.set(Flags::HOLDS_LEASE, true);
                self.machine.stamp = lease;
                self.machine.until = until;
                self.machine.phase = Phase::Leading;
                Action::RefreshToken { until, because: self.because() }
            }
            Turn::Follow { lease, until } if waits < MAX_FOLLOWS => {
                self.machine.flags.set(Flags::HOLDS_LEASE, false);
                self.machine.stamp = lease;
                self.machine.until = until;
                self.machine.phase = Phase::Following(waits + 1);
                self.again()
            }
            Turn::Follow { .. } | Turn::LeaveAlone => self.no_token(),
        }
    }

    /// The outcome of the refresh that this request leads.
    fn refreshed(&mut self, outcome: TokenOutcome) -> Action {
        let settled = self.settle(outcome);
        match outcome {
            // Refreshed; or F5: the user has replaced it meanwhile.
            _ if self.upstream.token.is_newer_than(self.machine.stamp) => self.new_token(),
            TokenOutcome::Rejected if settled => self.fail(FailureKind::TokenRejected),
            TokenOutcome::Unavailable { .. } if settled => self.no_token(),
            // F5: an outcome that does not count acts as a tick.
            _ => self.lead_on(),
        }
    }

    /// A tick while this request leads.
    fn lead_on(&mut self) -> Action {
        if self.is_past_deadline() {
            self.fail(FailureKind::Deadline)
        } else if self.now < self.machine.until {
            self.again()
        } else if self.upstream.token.is_newer_than(self.machine.stamp) {
            self.new_token()
        } else {
            self.no_token()
        }
    }

    /// A tick while this request follows: it looks at the upstream first (K8).
    fn follow_on(&mut self, waits: u8) -> Action {
        match self.upstream.token.look(self.machine.stamp, self.now) {
            Finding::NewToken => self.new_token(),
            Finding::Rejected => self.fail(FailureKind::TokenRejected),
            Finding::Unavailable => self.no_token(),
            Finding::UnderWay | Finding::Abandoned if self.is_past_deadline() => self.fail(FailureKind::Deadline),
            Finding::UnderWay => self.again(),
            Finding::Abandoned => self.take_turn(waits),
        }
    }

    /// F5: a refresh before its time is not followed by another for the same send.
    fn new_token(&mut self) -> Action {
        self.because.news = News::NewToken;
        self.machine.flags.set(Flags::TOKEN_SETTLED, self.machine.flags.has(Flags::EARLY));
        self.proceed()
    }

    /// K7: without a new token the old one is used, if it may still be valid and no 401 has said otherwise.
    fn no_token(&mut self) -> Action {
        if self.upstream.token.is_rejected() {
            // K6: another's refresh of the same generation was.
            self.fail(FailureKind::TokenRejected)
        } else if self.machine.flags.has(Flags::EARLY) && self.upstream.token.is_valid(self.now) {
            self.because.news = News::NoNewToken;
            self.machine.flags.set(Flags::TOKEN_SETTLED, true);
            self.proceed()
        } else {
            self.fail(FailureKind::TokenUnavailable)
        }
    }

    /// K5: tells the upstream the outcome, if this request holds the newest lease. Returns whether it counted.
    fn settle(&mut self, outcome: TokenOutcome) -> bool {
        let machine = &mut *self.machine;
        let token = &mut self.upstream.token;
        if !machine.flags.has(Flags::HOLDS_LEASE) || !token.is_current(machine.stamp) {
            return false;
        }
        machine.flags.set(Flags::HOLDS_LEASE, false);
        match outcome {
            TokenOutcome::Refreshed { expires_in } => {
                token.install(self.now, expires_in.map(nanos), self.upstream.policy.refresh_margin);
            }
            TokenOutcome::Rejected => token.reject(),
            TokenOutcome::Unavailable { retry_after } => {
                token.fail(self.now.after(retry_after.map_or(0, nanos)));
            }
        }
        true
    }

    // ---- What comes late ----

    /// T3: a late 2xx ends the request, a late hint counts, and the upstream hears both to the last.
    fn late_reply(&mut self, attempt: u32, reply: &Reply) -> Action {
        if self.machine.attempts == 0 {
            return self.again();
        }
        self.hear(reply);
        if self.is_unanswered(attempt) {
            self.machine.flags.set(Flags::UNANSWERED, false);
            self.record(self.health(reply.status()), attempt);
            self.refund(reply);
        } else if reply.is_success() && self.was_given_up(attempt) {
            // F6: a failure would be the second of its attempt.
            self.record(Health::Good, attempt);
            self.refund(reply);
        }
        if self.machine.is_ended() {
            return self.again();
        }
        if reply.is_success() {
            self.machine.status = reply.status();
            self.because.rejected = reply.rejected();
            return self.done(reply.status());
        }
        match self.machine.phase {
            Phase::Waiting(_) => self.prolong(reply),
            _ => self.again(),
        }
    }

    /// F4: a late hint moves the end of a wait at once, without jitter.
    fn prolong(&mut self, reply: &Reply) -> Action {
        let counts = |hint: &Hint| hint.nanos() > 0 && self.hint_counts(reply.status());
        let Some(hint) = reply.hint().filter(counts) else {
            return self.again();
        };
        self.because.rejected = reply.rejected();
        if hint.nanos() > self.upstream.policy.max_server_wait {
            return self.fail(FailureKind::ServerWaitTooLong);
        }
        let until = self.now.after(hint.nanos());
        if until > self.machine.until {
            if self.machine.deadline(self.upstream).is_some_and(|deadline| until >= deadline) {
                return self.fail(FailureKind::Deadline);
            }
            self.because.news = News::LateHint(reply.status());
            self.machine.until = until;
            self.machine.phase = Phase::Waiting(WaitReason::Hint(hint.source()));
        }
        self.again()
    }

    /// F6: only an attempt that the request ended without can still fail.
    fn late_error(&mut self, attempt: u32) -> Action {
        if self.is_unanswered(attempt) {
            self.machine.flags.set(Flags::UNANSWERED, false);
            self.record(Health::Bad, attempt);
        }
        self.again()
    }

    /// Whether this is the newest attempt, and the request ended while it was under way.
    fn is_unanswered(&self, attempt: u32) -> bool {
        self.machine.is_ended() && attempt == self.machine.attempts && self.machine.flags.has(Flags::UNANSWERED)
    }

    /// Whether this is an attempt that was sent and brought no answer in time.
    fn was_given_up(&self, attempt: u32) -> bool {
        let newest = self.machine.attempts;
        (1..=newest).contains(&attempt) && !(attempt == newest && self.machine.phase == Phase::Done)
    }

    // ---- The end ----

    fn done(&mut self, status: u16) -> Action {
        self.end(Phase::Done);
        self.machine.status = status;
        self.again()
    }

    fn fail(&mut self, kind: FailureKind) -> Action {
        self.end(Phase::Failed(kind));
        let known = [
            Some(self.machine.not_before).filter(|hint| *hint > self.now),
            self.upstream.gate.opening(self.now),
            self.upstream.breaker.next_probe(self.now),
        ];
        self.machine.not_before = known.into_iter().flatten().max().unwrap_or(Time::ZERO);
        self.again()
    }

    fn end(&mut self, phase: Phase) {
        // F5: the refresh may still be under way when a deadline ends the request; else it is abandoned.
        if self.machine.flags.has(Flags::HOLDS_LEASE) && phase != Phase::Failed(FailureKind::Deadline) {
            self.upstream.token.free(self.machine.stamp);
        }
        // S6: a probe that is under way gives its permit back; its result counts, if it comes.
        if self.machine.flags.has(Flags::UNANSWERED) {
            self.record(Health::Neutral, self.machine.attempts);
        }
        self.machine.until = self.now;
        self.machine.gate_time = self.because.rejected.to_bits();
        self.machine.phase = phase;
    }

    // ---- The upstream hears, and is asked ----

    /// What a reply says about time, to this request (L1) and to all of the upstream (S1).
    fn hear(&mut self, reply: &Reply) {
        let status = reply.status();
        let counts = self.hint_counts(status);
        if let Some(hint) = reply.hint().filter(|_| counts) {
            let at = self.now.after(hint.nanos());
            if at > self.machine.not_before && !self.machine.is_ended() {
                self.machine.not_before = at;
                self.machine.flags.set_source(hint.source());
            }
        }
        if self.upstream.policy.gate {
            let throttled = reply.hint().filter(|_| status == 429).map(|hint| hint.nanos());
            let exhausted = reply.closed_for().filter(|_| counts || reply.is_success() || status == 403);
            for wait in [throttled, exhausted].into_iter().flatten() {
                self.upstream.gate.close(self.now, self.now.after(wait));
            }
        }
    }

    /// S2: each success refills the budget.
    fn refund(&mut self, reply: &Reply) {
        if reply.is_success() {
            self.upstream.budget.refund(self.upstream.policy.budget);
        }
    }

    /// H10.
    fn hint_counts(&self, status: u16) -> bool {
        status == 429 || self.upstream.policy.retries(status)
    }

    /// S3: what a status says about the health of the upstream.
    fn health(&self, status: u16) -> Health {
        match status {
            429 | 401 => Health::Neutral,
            500..=599 if self.upstream.policy.retries(status) => Health::Bad,
            _ => Health::Good,
        }
    }

    /// Tells the breaker how an attempt ended.
    fn record(&mut self, health: Health, attempt: u32) {
        // S3: the breaker has opened since an attempt from before this ticket.
        if attempt < self.machine.ticket_from {
            return;
        }
        let ticket = self.machine.ticket;
        let seed = self.machine.seed;
        let exact = self.upstream.policy.jitter == Jitter::None;
        let open_time = |opening, open: u64| {
            let longest = if exact { open } else { open.saturating_add(open / 2) };
            draw(seed, Purpose::Breaker, opening, open..=longest)
        };
        self.upstream.breaker.record(health, ticket, self.now, self.upstream.policy.breaker, open_time);
    }

    fn is_past_deadline(&self) -> bool {
        self.machine.deadline(self.upstream).is_some_and(|deadline| self.now >= deadline)
    }

    /// L2: over how long clients that were all told the same are spread.
    fn hint_spread(&self) -> u64 {
        match self.upstream.policy.jitter {
            Jitter::None => 0,
            _ => self.upstream.policy.spread,
        }
    }

    fn draw(&self, (purpose, number): (Purpose, u32), spread: u64) -> u64 {
        draw(self.machine.seed, purpose, number, 0..=spread)
    }

    // ---- Answers ----

    /// The action that is due: after a transition into it, and again after an event that changed nothing.
    fn again(&self) -> Action {
        let because = self.because();
        match self.machine.phase {
            Phase::Waiting(reason) => Action::Wait { until: self.machine.until, reason, because },
            Phase::Following(_) => {
                let until = self.machine.next_tick(self.upstream).unwrap_or(self.machine.until);
                Action::AwaitToken { until, because }
            }
            Phase::Ready | Phase::InFlight | Phase::Leading => {
                Action::InFlight { until: self.machine.next_tick(self.upstream), because }
            }
            Phase::Done => {
                let rejected = Rejected::from_bits(self.machine.gate_time);
                let because = Because { attempt: because.attempt, of: because.of, rejected, ..Because::default() };
                Action::Done { status: self.machine.status, because }
            }
            Phase::Failed(kind) => Action::Surface(self.machine.failure(kind)),
        }
    }

    fn because(&self) -> Because {
        Because {
            attempt: self.machine.attempts,
            of: self.upstream.policy.max_retries.saturating_add(1),
            wait: self.machine.until.since(self.now),
            ..self.because
        }
    }
}

/// The yes-or-no facts of a request in one byte, and the source of its hint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Flags(u8);

impl Flags {
    /// D14: not safe to repeat.
    const UNSAFE: u8 = 1;
    /// There was a reply; without it the status means nothing.
    const HAS_STATUS: u8 = 2;
    /// K5: it holds the lease of its stamp, expired or not.
    const HOLDS_LEASE: u8 = 4;
    /// K7: it wants a token before it has seen a 401.
    const EARLY: u8 = 8;
    /// F5: for the next send the token is settled, whatever its expiry.
    const TOKEN_SETTLED: u8 = 16;
    /// The newest attempt has neither brought a result nor been given up.
    const UNANSWERED: u8 = 32;
    const SOURCE: u8 = 64 + 128;

    const fn new(repeat: Repeat) -> Flags {
        match repeat {
            Repeat::Safe => Flags(0),
            Repeat::Unsafe => Flags(Flags::UNSAFE),
        }
    }

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    const fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    const fn source(self) -> HintSource {
        match self.0 >> 6 {
            0 => HintSource::RetryAfter,
            1 => HintSource::RetryAfterMs,
            _ => HintSource::RateLimitReset,
        }
    }

    const fn set_source(&mut self, source: HintSource) {
        let bits = match source {
            HintSource::RetryAfter => 0,
            HintSource::RetryAfterMs => 1,
            HintSource::RateLimitReset => 2,
        };
        self.0 = self.0 & !Flags::SOURCE | bits << 6;
    }
}

const _: () = assert!(size_of::<RetryMachine>() <= 64);
