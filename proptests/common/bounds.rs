//! The gate, the lease and the waits as the rules alone describe them: the knowledge that the oracle keeps of a history.
#![allow(unreachable_pub, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use retry_machine::{Action, FailureKind, HintSource, Jitter, RefreshOutcome, WaitReason};

use super::history::{Ended, Entry, Input, Setup};
use super::response::{Health, Taken, health_of};
use super::settings::{Kind, Settings, nanos};

/// The gate of the upstream (S1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    closed_at: u64,
    /// The end of the time that the server asked for. The gate never opens sooner.
    pub opens_at: u64,
    /// The latest opening. A gate that is closed again and again stays closed for up to twice as long.
    latest: u64,
}

impl Gate {
    pub fn hear(&mut self, entry: &Entry, setup: &Setup) {
        if entry.input == Input::OpenGate {
            self.opens_at = self.opens_at.min(entry.at);
            self.latest = self.latest.min(entry.at);
        }
        let Some(response) = entry.heard().filter(|_| setup.settings.gate) else { return };
        let closed_for = response.closes_gate_for(&setup.settings, setup.requests[entry.request].idempotency);
        let until = entry.at.saturating_add(closed_for.unwrap_or(0));
        if until > entry.at && until > self.opens_at {
            if entry.at >= self.latest {
                self.closed_at = entry.at;
            }
            self.opens_at = until;
            self.latest = self.latest.max(until.saturating_add(until - self.closed_at));
        }
    }

    /// Returns the latest time at which a request leaves the gate.
    fn last_through(&self, settings: &Settings) -> u64 {
        match (settings.gate_spread, settings.jitter) {
            (Some(spread), _) => self.opens_at.saturating_add(spread),
            (None, Jitter::None) => self.opens_at,
            (None, _) => self.latest.saturating_add(settings.jitter_spread.max(self.latest - self.closed_at)),
        }
    }
}

/// The newest lease and the generation of the token (K3, K5, K6, F5).
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    pub generation: u32,
    pub throttled_until: u64,
    /// The request whose outcome still counts.
    holder: Option<usize>,
    /// The lease's end, unless it was freed.
    until: Option<u64>,
}

impl Lease {
    pub fn is_open(&self, at: u64) -> bool {
        self.until.is_some_and(|until| at < until)
    }

    pub fn is_held_by(&self, request: usize) -> bool {
        self.holder == Some(request)
    }

    pub fn give(&mut self, request: usize, until: u64) {
        (self.holder, self.until) = (Some(request), Some(until));
    }

    pub fn hear(&mut self, entry: &Entry) {
        match entry.input {
            Input::TokenReplaced(_) => {
                self.generation += 1;
                (self.holder, self.until) = (None, None);
            }
            // A request that has not started takes any event for its start.
            Input::Refreshed(outcome) if self.is_held_by(entry.request) && entry.before.last.is_some() => {
                (self.holder, self.until) = (None, None);
                match outcome {
                    RefreshOutcome::Refreshed { .. } => self.generation += 1,
                    RefreshOutcome::Unavailable { retry_after } => {
                        let wait = retry_after.map_or(0, nanos);
                        self.throttled_until = self.throttled_until.max(entry.at.saturating_add(wait));
                    }
                    RefreshOutcome::Rejected => {}
                }
            }
            _ => {}
        }
        let is_abandoned = match entry.action {
            Some(Action::Done { .. }) => true,
            Some(Action::Fail(failure)) => failure.kind() != FailureKind::Deadline,
            _ => false,
        };
        if is_abandoned && self.is_held_by(entry.request) {
            self.until = None;
        }
    }
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
        let Some(Action::Wait { until, reason, .. }) = entry.action else { return };
        let retry = self.retries.count(entry, setup);
        if matches!(entry.before.last, Some(Action::Wait { until: before, .. }) if before == until) {
            return;
        }
        let until = until.as_nanos();
        let backoff = retry.map(|kind| settings.back_off(kind, self.retries.of(kind, settings)));
        let counts = |(nanos, source): &(u64, HintSource)| *nanos > 0 || *source == HintSource::Pushback;
        let range = match reason {
            WaitReason::Backoff => {
                let (low, high) = backoff.unwrap_or_else(|| panic!("B1: a back-off without a failure: {entry:?}"));
                at.saturating_add(low)..=at.saturating_add(high)
            }
            WaitReason::Hint(source) => {
                let own = hint.filter(|hint| retry.is_some() && hint.1 == source && counts(hint));
                let earliest = own.map_or(self.not_before, |(nanos, _)| at.saturating_add(nanos));
                assert!(self.not_before.saturating_sub(at) <= settings.max_server_wait, "L3: {entry:?}");
                // H11: a pushback is exact.
                let spread = if source == HintSource::Pushback { 0 } else { settings.hint_spread() };
                earliest..=earliest.saturating_add(spread).max(self.not_before)
            }
            WaitReason::Gate => {
                assert!(gate.opens_at.saturating_sub(at) <= settings.max_server_wait, "S1: {entry:?}");
                gate.opens_at..=gate.last_through(settings)
            }
        };
        assert!(range.contains(&until), "I8: {until} is not within {range:?}: {entry:?}");
        if let Some((kind, (low, _))) = retry.zip(backoff) {
            let decides = hint.is_some_and(|hint| counts(&hint) && (kind == Kind::Throttle || is_pushback(hint)));
            if decides {
                // L2, H11: after a throttle and a pushback the back-off plays no part.
                assert!(reason != WaitReason::Backoff, "L2: {entry:?}");
            } else {
                // L2: the longer of the two.
                assert!(until >= at.saturating_add(low), "L2: shorter than its back-off: {entry:?}");
            }
        }
    }
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
        BreakerState::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Hears what the result of an attempt says.
    pub fn hear(&mut self, at: u64, attempt: (usize, u32), health: Health, settings: &Settings) {
        let Some(policy) = settings.breaker else { return };
        if self.sent_after.get(&attempt) != Some(&self.openings) {
            return;
        }
        match (health, self.state) {
            (Health::Good, _) => self.state = BreakerState::Closed { failures: 0 },
            (Health::Bad, BreakerState::Closed { failures }) if failures + 1 < policy.failure_threshold => {
                self.state = BreakerState::Closed { failures: failures + 1 };
            }
            (Health::Bad, _) => {
                self.openings += 1;
                let open = nanos(policy.open_for);
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

    /// Returns the earliest and the latest instant of the next probe.
    fn closed_until(&self) -> (u64, u64) {
        match self.state {
            BreakerState::Closed { .. } => (0, 0),
            BreakerState::Open(earliest, latest) => (earliest, latest),
            BreakerState::Probing { until, .. } => (until, until),
        }
    }
}
