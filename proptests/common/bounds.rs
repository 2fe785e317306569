//! The gate, the login and the waits as the rules alone describe them: the knowledge that the oracle keeps of a history.
#![allow(unreachable_pub, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use retry_machine::{
    Action, BudgetPolicy, Charge, FailureKind, GateReason, HintSource, Jitter, RefreshOutcome, Refund,
    TransportErrorKind, WaitReason,
};

use super::history::{Ended, Entry, FirstToken, Input, Setup};
use super::response::{Health, Taken, health_of};
use super::settings::{Kind, Settings, nanos};

/// A gate (S1), as the replies and the operator close it. The queue behind it only the state
/// that the upstream shows can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// The opening. It never comes sooner than anybody asked, within the limit of C12.
    pub opens_at: u64,
    /// The end of the time that was asked for, without that limit. It counts while the gate is closed.
    pub asked_until: u64,
    closed_by: Option<GateReason>,
    /// Whether the policy has no gate: then an operator closes one that nobody looks at (S8).
    is_ignored: bool,
}

impl Gate {
    pub fn new(settings: &Settings) -> Gate {
        Gate { is_ignored: !settings.gate, ..Gate::default() }
    }

    pub fn is_closed(&self, at: u64) -> bool {
        !self.is_ignored && at < self.opens_at
    }

    /// Takes what the entry says about the gate. `retries` are those that its request had before.
    pub fn hear(&mut self, entry: &Entry, setup: &Setup, retries: Retries) {
        let settings = &setup.settings;
        if entry.input == Input::OpenGate {
            self.opens_at = self.opens_at.min(entry.at);
        }
        if let Input::CloseGate(until) = entry.input {
            self.close(entry.at, until, until, GateReason::Operator);
        }
        if self.is_ignored {
            return;
        }
        let Some(response) = entry.heard() else { return self.brake(entry, setup, retries) };
        let idempotency = setup.requests[entry.request].idempotency;
        let Some(wait) = response.closes_gate_for(settings, idempotency) else {
            return self.brake(entry, setup, retries);
        };
        let is_throttle = response.taken(settings, idempotency) == Taken::Retried(Kind::Throttle);
        let reason = if is_throttle { GateReason::Throttle } else { GateReason::NothingRemains };
        // C12: for others at most so long.
        let until = entry.at.saturating_add(wait.min(settings.max_server_wait));
        self.close(entry.at, until, entry.at.saturating_add(wait), reason);
    }

    /// C6: closes the gate, or keeps it closed for longer.
    fn close(&mut self, at: u64, until: u64, asked: u64, reason: GateReason) {
        if until <= at {
            return;
        }
        if at >= self.opens_at {
            (self.opens_at, self.asked_until, self.closed_by) = (until, asked, Some(reason));
            return;
        }
        if until > self.opens_at {
            (self.opens_at, self.closed_by) = (until, Some(reason));
        }
        self.asked_until = self.asked_until.max(asked);
    }

    /// C11: asserts that an attempt that failed, or that was throttled without a hint, closes the gate for the back-off of
    /// the next retry where somebody queues, and takes that back-off from the upstream: it is drawn.
    fn brake(&mut self, entry: &Entry, setup: &Setup, retries: Retries) {
        let settings = &setup.settings;
        let kind = match entry.ended() {
            Some((_, Ended::Answered(response))) => match setup.taken(entry.request, &response) {
                Taken::Retried(Kind::Throttle) => Kind::Throttle,
                _ => return,
            },
            Some((_, Ended::Failed(TransportErrorKind::Unprocessed | TransportErrorKind::Permanent))) | None => return,
            Some((_, Ended::Failed(_) | Ended::GivenUp)) => Kind::Other,
        };
        // All that one can see: nobody queues without a pace, and somebody does where the next free slot lies ahead.
        if entry.gate.pace.is_none() {
            return;
        }
        let (shortest, longest) = settings.back_off(kind, retries.of(kind, settings).saturating_add(1));
        let shortest = shortest.min(settings.max_server_wait);
        let until = entry.after.gate.closed.map_or(0, |(until, _)| until.as_nanos());
        if entry.gate.next_free.as_nanos() > entry.at {
            let earliest = entry.at.saturating_add(shortest);
            assert!(earliest <= entry.at || until >= earliest, "C11: not closed until {earliest}: {entry:?}");
        }
        let is_later = !self.is_closed(entry.at) || until > self.opens_at;
        let by_brake = matches!(entry.after.gate.closed, Some((_, GateReason::Brake)));
        if is_later && by_brake {
            let latest = entry.at.saturating_add(longest.min(settings.max_server_wait));
            assert!((entry.at.saturating_add(shortest)..=latest).contains(&until), "C11: {entry:?}");
            self.close(entry.at, until, until, GateReason::Brake);
        }
    }

    /// Asserts that the upstream shows this gate, with an opening that is the latest that was asked for (S1, C12).
    pub fn check(&self, entry: &Entry, settings: &Settings) {
        let shown = entry.after.gate;
        let closed = shown.closed.map(|(until, reason)| (until.as_nanos(), Some(reason)));
        let expected = (entry.at < self.opens_at).then_some((self.opens_at, self.closed_by));
        assert_eq!(closed, expected, "S1, C12: {entry:?}");
        let next_free = shown.next_free.as_nanos();
        let earliest = entry.at.max(self.opens_at);
        assert!(next_free >= earliest, "C9: {entry:?}");
        assert!(shown.pace.is_some() || next_free == earliest, "C9: {entry:?}");
        assert!(settings.gate || shown.pace.is_none(), "S1: {entry:?}");
        // S1: a closing by hand sets no pace, and an opening ends the queue.
        match entry.input {
            Input::OpenGate => assert_eq!((shown.pace, next_free), (None, entry.at), "S1: {entry:?}"),
            Input::CloseGate(_) => assert_eq!(shown.pace, entry.gate.pace, "S1: {entry:?}"),
            _ => {}
        }
        // C8: only a throttle and a limit with nothing left set a pace.
        let is_reply = entry.heard().is_some();
        assert!(is_reply || entry.gate.pace.is_some() || shown.pace.is_none(), "C8: {entry:?}");
    }
}

/// A login: its token, its newest lease, and what their outcomes told (K3 to K9, F5).
#[derive(Clone, Debug)]
pub struct Login {
    /// The number of tokens so far.
    tokens: u32,
    has_token: bool,
    /// K3: a 401 has come for the current token.
    is_refused: bool,
    /// K6.
    is_rejected: bool,
    /// The expiry of the current token, and its lifetime.
    expiry: Option<(u64, u64)>,
    /// The number of leases so far, and of those before the current token.
    leases: u32,
    settled: u32,
    /// The request that holds the newest lease, and its end, until an outcome counts.
    lease: Option<(usize, u64)>,
    /// K6: before that no lease is given.
    pub throttled_until: u64,
    /// K7: before that no lease ahead of expiry is given.
    no_early_lease_before: u64,
    wakeups: u32,
    /// The requests that have led or followed since their last attempt, with the number of tokens at that time. To their next
    /// one the margin does not matter, and with a new token the expiry does not (K7, F5).
    waited: BTreeMap<usize, u32>,
}

impl Login {
    pub fn new(first: FirstToken) -> Login {
        let expiry = if let FirstToken::For(lifetime) = first { expiry(0, lifetime) } else { None };
        let has_token = first != FirstToken::None;
        Login {
            tokens: u32::from(has_token),
            has_token,
            is_refused: false,
            is_rejected: false,
            expiry,
            leases: 0,
            settled: 0,
            lease: None,
            throttled_until: 0,
            no_early_lease_before: 0,
            wakeups: 0,
            waited: BTreeMap::new(),
        }
    }

    fn is_open(&self, at: u64) -> bool {
        self.lease.is_some_and(|(_, until)| at < until)
    }

    fn generation(&self) -> Option<u32> {
        self.has_token.then(|| self.tokens - 1)
    }

    fn has_expired(&self, at: u64) -> bool {
        self.expiry.is_some_and(|(expires, _)| at >= expires)
    }

    /// K7: returns whether the token must be refreshed before it is sent.
    fn is_due(&self, at: u64, settings: &Settings) -> bool {
        let due = |(expires, lifetime): (u64, u64)| {
            at > expires.saturating_sub(settings.refresh_margin.min(lifetime / 2)) && at >= self.no_early_lease_before
        };
        self.has_expired(at) || self.expiry.is_some_and(due)
    }

    fn forget_leases(&mut self) {
        (self.is_refused, self.is_rejected) = (false, false);
        (self.lease, self.settled) = (None, self.leases);
        (self.throttled_until, self.no_early_lease_before) = (0, 0);
        self.wakeups += 1;
    }

    fn install(&mut self, at: u64, lifetime: Option<u64>) {
        self.tokens += 1;
        self.has_token = true;
        self.expiry = lifetime.and_then(|lifetime| expiry(at, lifetime));
        self.forget_leases();
    }

    /// K5, K6: takes the outcome of a refresh, and returns whether it counts.
    fn report(&mut self, at: u64, lease: u32, outcome: RefreshOutcome, settings: &Settings) -> bool {
        let is_current = self.settled < lease && lease <= self.leases;
        match outcome {
            RefreshOutcome::Refreshed { expires_in } if is_current => {
                self.install(at, expires_in.map(nanos));
                return true;
            }
            _ if !is_current || lease != self.leases || self.lease.is_none() => return false,
            RefreshOutcome::Rejected => self.is_rejected = true,
            RefreshOutcome::Unavailable { retry_after } => {
                let wait = retry_after.map_or(0, nanos).min(settings.max_server_wait);
                self.throttled_until = at.saturating_add(wait);
                let left = self.expiry.map_or(0, |(expires, _)| expires.saturating_sub(at));
                self.no_early_lease_before = at.saturating_add(left / 2);
            }
            RefreshOutcome::Abandoned | RefreshOutcome::Refreshed { .. } => {}
        }
        self.lease = None;
        self.wakeups += 1;
        true
    }

    /// Takes what the entry says about the login, and asserts that it keeps the rules.
    pub fn check(&mut self, entry: &Entry, setup: &Setup) {
        let (at, settings) = (entry.at, &setup.settings);
        match entry.input {
            Input::TokenReplaced(lifetime) => self.install(at, lifetime),
            Input::TokenRemoved => {
                self.has_token = false;
                self.expiry = None;
                self.forget_leases();
            }
            Input::Report(lease, outcome) => {
                let counted = self.report(at, lease, outcome, settings);
                assert_eq!(entry.counted, Some(counted), "K5: {self:?}: {entry:?}");
            }
            _ => {}
        }
        if let Some((flight, Ended::Answered(response))) = entry.ended() {
            let is_for_it = self.has_token && flight.generation == self.generation();
            let is_answered_otherwise = response.refresh_is_useless(settings) || response.is_surfaced_401;
            let is_token = setup.taken(entry.request, &response) == Taken::Token && !response.is_retried_401;
            self.is_refused |= is_token && is_for_it && !is_answered_otherwise;
        }
        // Whether the request has got a 401 just now, and whether it comes to the checks of P1 without one.
        let has_401 = matches!(entry.ended(), Some((_, Ended::Answered(response))) if response.is_about_token());
        let asks = match entry.before.last {
            None => true,
            Some(Action::Wait { .. }) => entry.input == Input::Tick,
            _ => entry.is_repetition(),
        };
        match entry.action.filter(|_| !entry.was_over()) {
            Some(Action::RefreshToken { lease, generation, until, .. }) => {
                assert!(!self.is_open(at), "I6: a second lease beside {self:?}: {entry:?}");
                assert!(self.has_token && !self.is_rejected, "K6, K9: {self:?}: {entry:?}");
                assert!(at >= self.throttled_until, "K6: {self:?}: {entry:?}");
                assert!(!asks || self.is_due(at, settings), "K7: {self:?}: {entry:?}");
                assert_eq!((lease, Some(generation)), (self.leases + 1, self.generation()), "K5: {entry:?}");
                let end = at.saturating_add(settings.refresh_timeout);
                assert_eq!(until.as_nanos(), end, "K5: {entry:?}");
                self.leases += 1;
                self.lease = Some((entry.request, end));
                self.waited.insert(entry.request, self.tokens);
            }
            Some(Action::AwaitRefresh { .. }) => {
                let is_held_by_it = self.lease.is_some_and(|(holder, _)| holder == entry.request);
                let is_under_way = self.is_open(at) && entry.after.lease == Some(self.leases);
                assert!(entry.input != Input::Tick || is_under_way && !is_held_by_it, "K8: {self:?}: {entry:?}");
                assert!(!asks || self.is_refused || self.has_expired(at), "K3: {self:?}: {entry:?}");
                // Any other event repeats the action, also after the outcome.
                if asks || has_401 || entry.input == Input::Tick {
                    self.waited.insert(entry.request, self.tokens);
                }
            }
            Some(Action::Send { generation, .. }) => {
                assert_eq!(generation, self.generation(), "K4: {self:?}: {entry:?}");
                assert!(!self.has_token || !self.is_rejected, "K6: {self:?}: {entry:?}");
                let waited = self.waited.remove(&entry.request);
                let has_expired = self.has_expired(at) && waited.is_none_or(|tokens| tokens == self.tokens);
                let is_dead = self.is_refused || has_expired;
                assert!(!self.has_token || !self.is_open(at) || !is_dead, "K3: {self:?}: {entry:?}");
                let is_due = has_expired || waited.is_none() && self.is_due(at, settings);
                let is_due = is_due && !self.is_open(at);
                let can_refresh = at >= self.throttled_until || self.has_expired(at);
                assert!(!self.has_token || !is_due || !can_refresh, "K7: {self:?}: {entry:?}");
            }
            Some(Action::Fail(failure)) => {
                let told = failure.not_before().map_or(0, |instant| instant.as_nanos());
                assert!(at >= self.throttled_until || told >= self.throttled_until, "F8: {self:?}: {entry:?}");
                let is_refused_lease = failure.kind() == FailureKind::TokenUnavailable && (asks || has_401);
                assert!(!is_refused_lease || at < self.throttled_until, "K6: {self:?}: {entry:?}");
                let is_lost = self.is_rejected || !self.has_token;
                assert!(failure.kind() != FailureKind::TokenRejected || is_lost, "K6, K9: {self:?}: {entry:?}");
            }
            _ => {}
        }
        let shown = entry.after.login;
        let lease = shown.lease.map(|(lease, end)| (lease, end.as_nanos()));
        let open = self.lease.filter(|(_, until)| at < *until).map(|(_, until)| (self.leases, until));
        assert_eq!((shown.generation, lease), (self.generation(), open), "K4, K5: {self:?}: {entry:?}");
        let expires = shown.expires.map(|instant| instant.as_nanos());
        let expected = (self.expiry.map(|(expires, _)| expires), self.is_rejected, self.wakeups);
        assert_eq!((expires, shown.is_rejected, entry.after.wakeups), expected, "K6, K7, K8: {self:?}: {entry:?}");
    }
}

/// K7: returns the expiry of a token and its lifetime. Zero is not a lifetime, and less than a millisecond has passed.
fn expiry(at: u64, lifetime: u64) -> Option<(u64, u64)> {
    let left = if lifetime < 1_000_000 { 0 } else { lifetime };
    (lifetime > 0).then(|| (at.saturating_add(left), lifetime))
}

/// The retries of one request, as B5 counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retries {
    pub all: u32,
    throttled: u32,
}

impl Retries {
    /// Returns the number of retries that count with this kind.
    pub fn of(&self, kind: Kind, settings: &Settings) -> u32 {
        match (settings.throttle_retries, kind) {
            (None, _) => self.all,
            (Some(_), Kind::Throttle) => self.throttled,
            (Some(_), Kind::Other) => self.all - self.throttled,
        }
    }

    /// Counts the retry that the entry grants, and returns its kind (B3).
    pub fn count(&mut self, entry: &Entry, setup: &Setup) -> Option<Kind> {
        let failure = entry.failure()?;
        let Some(Action::Wait { .. }) = entry.action else { return None };
        let is_throttle = match failure {
            Ended::Answered(response) => setup.taken(entry.request, &response) == Taken::Retried(Kind::Throttle),
            Ended::Failed(_) | Ended::GivenUp => false,
        };
        self.all += 1;
        self.throttled += u32::from(is_throttle);
        Some(if is_throttle { Kind::Throttle } else { Kind::Other })
    }
}

/// The waits of one request (I8).
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    retries: Retries,
    /// The latest end of a hint for this request.
    not_before: u64,
    /// The time of the last event of this request or of a wait that it told.
    seen_at: u64,
    /// The time really spent in waits for hints and at the gate (C13).
    server_time: u64,
}

impl Waits {
    /// Asserts that the action's wait is within its bounds.
    pub fn check(&mut self, entry: &Entry, setup: &Setup, gate: &Gate) {
        let settings = &setup.settings;
        let response = entry.heard().filter(|_| !entry.was_over());
        let idempotency = setup.requests[entry.request].idempotency;
        let hint = response.and_then(|response| response.binding_hint(settings, idempotency));
        let at = entry.at;
        self.not_before = self.not_before.max(hint.map_or(0, |(nanos, _)| at.saturating_add(nanos)));
        let is_for_server = |reason| reason != WaitReason::Backoff;
        if matches!(entry.before.last, Some(Action::Wait { reason, .. }) if is_for_server(reason)) {
            self.server_time = self.server_time.saturating_add(at.saturating_sub(self.seen_at));
        }
        if entry.action.is_some() {
            self.seen_at = at;
        } else if matches!(entry.before.last, Some(Action::Wait { .. })) {
            // An event of the upstream: the wait goes on.
            self.seen_at = self.seen_at.max(at);
        }
        let left = settings.max_server_wait.saturating_sub(self.server_time);
        if entry.failed() == Some(FailureKind::ServerWaitTooLong) && !entry.was_over() {
            self.check_refusal(entry, gate, left);
        }
        if entry.failed() == Some(FailureKind::Deadline) && !entry.was_over() {
            self.check_deadline(entry, setup, hint);
        }
        let Some(Action::Wait { until, reason, .. }) = entry.action else { return };
        let retry = self.retries.count(entry, setup);
        if matches!(entry.before.last, Some(Action::Wait { until: before, .. }) if before == until) {
            return;
        }
        let until = until.as_nanos();
        let backoff = retry.map(|kind| settings.back_off(kind, self.retries.of(kind, settings)));
        let counts = |(nanos, source): &(u64, HintSource)| *nanos > 0 || *source == HintSource::Pushback;
        // C13, L3: never beyond what is left.
        assert!(reason == WaitReason::Backoff || until.saturating_sub(at) <= left, "C13: {left} left: {entry:?}");
        assert!(self.not_before.saturating_sub(at) <= left, "L3, C13: {left} left: {entry:?}");
        let range = match reason {
            WaitReason::Backoff => {
                let (low, high) = backoff.unwrap_or_else(|| panic!("B1: a back-off without a failure: {entry:?}"));
                at.saturating_add(low)..=at.saturating_add(high)
            }
            WaitReason::Hint(source) => {
                let own = hint.filter(|hint| retry.is_some() && hint.1 == source && counts(hint));
                let earliest = own.map_or(self.not_before, |(nanos, _)| at.saturating_add(nanos));
                // H11: a pushback is exact.
                let spread = if source == HintSource::Pushback { 0 } else { settings.hint_spread() };
                earliest..=earliest.saturating_add(spread).max(self.not_before)
            }
            WaitReason::Gate => self.at_the_gate(entry, gate, settings, retry.is_some()),
        };
        assert!(range.contains(&until), "I8: {until} is not within {range:?}: {entry:?}");
        if let Some((kind, (low, _))) = retry.zip(backoff) {
            let decides = hint.is_some_and(|hint| counts(&hint) && (kind == Kind::Throttle || is_pushback(hint)));
            if decides {
                // L2, H11: after a throttle and a pushback the back-off plays no part.
                assert!(reason != WaitReason::Backoff, "L2: {entry:?}");
            } else {
                // L2: the longer of the two. F3: a draw on top of a hint is cut to the rest.
                let is_cut = until == at.saturating_add(left) || is_before_deadline(entry, setup, until);
                let shortest = at.saturating_add(low);
                assert!(until >= shortest || reason != WaitReason::Backoff && is_cut, "L2: too short: {entry:?}");
            }
        }
    }

    /// Returns the bounds of a wait at the gate (C9, C10).
    fn at_the_gate(&self, entry: &Entry, gate: &Gate, settings: &Settings, is_retry: bool) -> RangeInclusive<u64> {
        let at = entry.at;
        let waited = matches!(entry.before.last, Some(Action::Wait { .. }));
        if !waited && !is_retry && !entry.is_repetition() {
            // C12: who begins to wait must have time for all that was asked for.
            if gate.is_closed(at) {
                let left = settings.max_server_wait.saturating_sub(self.server_time);
                assert!(gate.asked_until.saturating_sub(at) <= left, "C12: {left} left: {entry:?}");
            }
            // C9: it gets the next free slot, exactly.
            let free = entry.gate.next_free.as_nanos();
            return free..=free;
        }
        // The opening, with what is drawn for a head, or a slot, which is one that was given.
        let opening = gate.opens_at.saturating_add(settings.hint_spread());
        let slots = if entry.gate.pace.is_some() || entry.after.gate.pace.is_some() {
            entry.gate.next_free.max(entry.after.gate.next_free).as_nanos()
        } else {
            // C14, S1: those that wait when the queue ends keep their slots.
            u64::MAX
        };
        gate.opens_at.max(at)..=opening.max(slots)
    }

    /// L3, C12, C13: asserts that a hint, the gate or a place at it lies beyond what is left.
    fn check_refusal(&self, entry: &Entry, gate: &Gate, left: u64) {
        let asked = if gate.is_closed(entry.at) { gate.asked_until } else { 0 };
        let free = entry.gate.next_free.max(entry.after.gate.next_free).as_nanos();
        let latest = self.not_before.max(asked).max(free);
        // C14, S1: those that wait when the queue ends keep their slots, which nothing shows.
        let can_have_slot = matches!(entry.before.last, Some(Action::Wait { .. })) && entry.gate.pace.is_none();
        assert!(can_have_slot || latest.saturating_sub(entry.at) > left, "C13: {left} left: {entry:?}");
    }

    /// F3, L3: asserts that what ends a request for its deadline would do so without what is drawn on top of a hint or at
    /// the gate.
    fn check_deadline(&self, entry: &Entry, setup: &Setup, hint: Option<(u64, HintSource)>) {
        let settings = &setup.settings;
        let at = entry.at;
        let Some(deadline) = deadline_of(entry, setup) else { panic!("S4: {entry:?}") };
        if at >= deadline {
            return;
        }
        let free = entry.gate.next_free.max(entry.after.gate.next_free).as_nanos();
        let is_open = entry.after.gate.closed.is_none();
        // C14: a slot in front of an open gate leaves a quarter of the time.
        let slot = if free > at && is_open { free.saturating_add((deadline - at) / 4) } else { free };
        let backoff = entry.failure().map(|failure| {
            let throttled = match failure {
                Ended::Answered(response) => setup.taken(entry.request, &response) == Taken::Retried(Kind::Throttle),
                Ended::Failed(_) | Ended::GivenUp => false,
            };
            let kind = if throttled { Kind::Throttle } else { Kind::Other };
            let counts = |(nanos, source): (u64, HintSource)| {
                source == HintSource::Pushback || nanos > 0 && kind == Kind::Throttle
            };
            // L2, H11: the back-off plays no part then.
            let plays = !hint.is_some_and(counts);
            let number = self.retries.of(kind, settings).saturating_add(1);
            if plays { at.saturating_add(settings.back_off(kind, number).1) } else { 0 }
        });
        let latest = self.not_before.max(slot).max(backoff.unwrap_or(0));
        let can_have_slot = matches!(entry.before.last, Some(Action::Wait { .. })) && entry.gate.pace.is_none();
        assert!(can_have_slot || latest >= deadline, "F3: would end at {latest} before {deadline}: {entry:?}");
    }
}

/// Returns the deadline of the entry's request (S4, D17).
fn deadline_of(entry: &Entry, setup: &Setup) -> Option<u64> {
    let started = entry.before.started.unwrap_or(entry.at);
    let limit = setup.settings.deadline_of(setup.requests[entry.request].limits)?;
    Some(started.saturating_add(limit))
}

/// F3: returns whether this is the last nanosecond before the deadline.
fn is_before_deadline(entry: &Entry, setup: &Setup, until: u64) -> bool {
    deadline_of(entry, setup).is_some_and(|deadline| until.checked_add(1) == Some(deadline))
}

fn is_pushback((_, source): (u64, HintSource)) -> bool {
    source == HintSource::Pushback
}

/// The results of attempts that count (F6), and what they say about the service (D18).
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The attempts that have succeeded.
    succeeded: BTreeSet<(usize, u32)>,
    /// The attempts whose requests ended before them.
    unanswered: BTreeSet<(usize, u32)>,
}

impl Results {
    /// Returns the attempt whose result the entry brings, and its health. The second is that of an attempt that was
    /// abandoned with its request.
    pub fn hear(&mut self, entry: &Entry, setup: &Setup) -> (Option<(u32, Health)>, Option<u32>) {
        let settings = &setup.settings;
        let request = entry.request;
        let mut result = match entry.ended() {
            Some((flight, Ended::Answered(response))) => Some((flight.attempt, response.health(settings))),
            Some((flight, Ended::Failed(error))) => Some((flight.attempt, health_of(error))),
            Some((flight, Ended::GivenUp)) => Some((flight.attempt, Health::Bad)),
            None => None,
        };
        match entry.input {
            Input::Reply(attempt, response) if entry.heard().is_some() => {
                if self.unanswered.remove(&(request, attempt)) {
                    result = Some((attempt, response.health(settings)));
                }
                let is_success = response.is_success() && setup.taken(request, &response) == Taken::Answer;
                // An ended request remembers its last eight attempts.
                let is_known = (1..=entry.before.sends).contains(&attempt)
                    && !(entry.was_over() && entry.before.sends - attempt >= 8);
                if is_success && is_known && self.succeeded.insert((request, attempt)) {
                    result = Some((attempt, Health::Good));
                }
            }
            Input::Error(attempt, error) if self.unanswered.remove(&(request, attempt)) => {
                result = Some((attempt, health_of(error)));
            }
            _ => {}
        }
        let flight = entry.before.in_flight.filter(|_| entry.ended().is_none());
        let is_end = entry.action.is_some_and(|action| action.is_terminal());
        let abandoned = flight.filter(|_| is_end).map(|flight| flight.attempt);
        self.unanswered.extend(abandoned.map(|attempt| (request, attempt)));
        (result, abandoned)
    }
}

/// The breaker (S3), as far as the rules fix it: its open time has a jitter.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: BreakerState,
    /// The number of openings.
    openings: u32,
    /// The number of openings before each attempt.
    sent_after: BTreeMap<(usize, u32), u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BreakerState {
    Closed {
        failures: u32,
        /// The time of the first of them.
        since: u64,
    },
    /// The earliest and the latest end.
    Open(u64, u64),
    Probing {
        probe: (usize, u32),
        until: u64,
    },
}

impl Default for BreakerState {
    fn default() -> BreakerState {
        BreakerState::Closed { failures: 0, since: 0 }
    }
}

impl Breaker {
    /// Hears what the result of an attempt says.
    pub fn hear(&mut self, at: u64, attempt: (usize, u32), health: Health, settings: &Settings) {
        let Some(policy) = settings.breaker else { return };
        if self.sent_after.get(&attempt) != Some(&self.openings) {
            return;
        }
        let open = nanos(policy.open_for);
        match (health, self.state) {
            (Health::Good, _) => self.state = BreakerState::default(),
            // C5: a run of so many, the first of which came so long ago.
            (Health::Bad, BreakerState::Closed { failures, since })
                if failures + 1 < policy.failure_threshold || failures == 0 && open > 0 || at - since < open =>
            {
                let since = if failures == 0 { at } else { since };
                self.state = BreakerState::Closed { failures: failures.saturating_add(1), since };
            }
            (Health::Bad, _) => {
                self.openings += 1;
                let widest = if settings.jitter == Jitter::None { open } else { open.saturating_add(open / 2) };
                self.state = BreakerState::Open(at.saturating_add(open), at.saturating_add(widest));
            }
            (Health::Neutral, BreakerState::Probing { probe, .. }) if probe == attempt => {
                self.state = BreakerState::Open(at, at);
            }
            (Health::Neutral, _) => {}
        }
    }

    /// Asserts that the attempt may pass, and takes the permit of the probe.
    pub fn send(&mut self, entry: &Entry, attempt: u32, settings: &Settings) {
        let Some(policy) = settings.breaker else { return };
        let (earliest, _) = self.closed_until();
        assert!(entry.at >= earliest, "S3, D18: sent through an open breaker {self:?}: {entry:?}");
        let attempt = (entry.request, attempt);
        if !matches!(self.state, BreakerState::Closed { .. }) {
            let until = entry.at.saturating_add(nanos(policy.open_for));
            self.state = BreakerState::Probing { probe: attempt, until };
        }
        self.sent_after.insert(attempt, self.openings);
    }

    /// Asserts that the breaker may refuse a request.
    pub fn refuse(&self, entry: &Entry) {
        let (_, latest) = self.closed_until();
        assert!(entry.at < latest, "S3, D18: refused by a breaker that is not open {self:?}: {entry:?}");
    }

    /// Asserts that the upstream shows the next probe while the breaker is open, and P1: a request that the breaker holds
    /// back begins neither a refresh nor a wait.
    pub fn check(&self, entry: &Entry) {
        let (earliest, latest) = self.closed_until();
        match entry.after.next_probe {
            Some(probe) => {
                assert!(entry.at < probe && (earliest..=latest).contains(&probe), "S3: {self:?}: {entry:?}");
            }
            None => assert!(entry.at >= earliest, "S3: {self:?}: {entry:?}"),
        }
        let asks = match entry.before.last {
            None => true,
            Some(Action::Wait { until, .. }) => entry.input == Input::Tick && entry.at >= until.as_nanos(),
            _ => false,
        };
        let asks = asks && entry.input != Input::Cancel;
        let goes_on = match entry.action {
            Some(Action::RefreshToken { .. } | Action::AwaitRefresh { .. }) => true,
            Some(Action::Wait { .. }) => entry.before.last.is_none(),
            Some(Action::Fail(failure)) => failure.kind() == FailureKind::TokenRejected,
            _ => false,
        };
        assert!(!asks || !goes_on || entry.at >= earliest, "P1: before the breaker {self:?}: {entry:?}");
    }

    /// Returns the earliest and the latest instant of the next probe.
    fn closed_until(&self) -> (u64, u64) {
        match self.state {
            BreakerState::Closed { .. } => (0, 0),
            BreakerState::Open(earliest, latest) => (earliest, latest),
            BreakerState::Probing { until, .. } => (until, until),
        }
    }
}

/// The retry budget (S2, C1 to C4).
#[derive(Clone, Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    pub balance: u32,
    /// The time of the last token that time brought, or of the last moment at which the budget was full.
    since: u64,
    /// The tokens that each request has paid and not got back.
    paid: Vec<u32>,
    /// The sum of what good answers and time gave back, and of what was charged.
    pub returned: u64,
    pub charged: u64,
    /// The retries that were not free.
    pub granted: u64,
}

impl Budget {
    pub fn new(policy: BudgetPolicy, requests: usize) -> Budget {
        let paid = vec![0; requests];
        Budget { policy, balance: policy.capacity, since: 0, paid, returned: 0, charged: 0, granted: 0 }
    }

    pub fn cost(&self, kind: Kind) -> u32 {
        if kind == Kind::Throttle { self.policy.throttle_cost } else { self.policy.retry_cost }
    }

    /// C4: takes what time has brought.
    pub fn pass_time(&mut self, at: u64) {
        let every = nanos(self.policy.refill_every);
        let Some(tokens) = (at - self.since).checked_div(every) else { return };
        self.since += tokens * every;
        let missing = self.policy.capacity - self.balance;
        self.give(u32::try_from(tokens).unwrap_or(u32::MAX).min(missing));
        if self.balance == self.policy.capacity {
            self.since = at;
        }
    }

    /// C3: takes a good answer to a request.
    pub fn refund(&mut self, request: usize) {
        let paid = std::mem::take(&mut self.paid[request]);
        let refund = match self.policy.refund {
            Refund::LastCost if paid > 0 => paid,
            Refund::Fixed | Refund::LastCost => self.policy.success_refund,
            Refund::Paid => self.policy.success_refund.saturating_add(paid),
        };
        self.give(refund.min(self.policy.capacity - self.balance));
    }

    fn give(&mut self, tokens: u32) {
        self.balance += tokens;
        self.returned += u64::from(tokens);
    }

    /// Charges a failure, where failures are charged. `None`: it is free (C2).
    pub fn fail(&mut self, request: usize, price: Option<u32>) {
        if self.policy.charge == Charge::Failure {
            self.pay(request, price.unwrap_or(0).min(self.balance));
        }
    }

    /// Returns whether a retry at this price can be paid.
    pub fn is_enough(&self, price: Option<u32>) -> bool {
        self.balance.checked_sub(self.price(price)).is_some_and(|rest| rest >= self.policy.floor)
    }

    /// Charges a retry that was granted.
    pub fn grant(&mut self, request: usize, price: Option<u32>) {
        self.granted += u64::from(price.is_some());
        if self.policy.charge == Charge::Retry {
            self.pay(request, self.price(price));
        }
    }

    fn price(&self, price: Option<u32>) -> u32 {
        price.filter(|_| self.policy.charge == Charge::Retry).unwrap_or(0)
    }

    fn pay(&mut self, request: usize, amount: u32) {
        self.balance -= amount;
        self.charged += u64::from(amount);
        self.paid[request] = match self.policy.refund {
            Refund::Fixed => 0,
            Refund::LastCost => amount,
            Refund::Paid => self.paid[request].saturating_add(amount),
        };
    }
}
