//! The gate, the lease and the waits as the rules alone describe them: the knowledge that the oracle keeps of a history.
#![allow(unreachable_pub)]

use retry_machine::{Action, FailureKind, Jitter, RefreshOutcome, WaitReason};

use super::history::{Ended, Entry, Input};
use super::settings::{Settings, nanos};

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
    pub fn hear(&mut self, entry: &Entry, settings: &Settings) {
        if entry.input == Input::OpenGate {
            self.opens_at = self.opens_at.min(entry.at);
            self.latest = self.latest.min(entry.at);
        }
        let Some(response) = entry.heard().filter(|_| settings.gate) else { return };
        let status = response.status;
        let throttled = response.hint.filter(|_| status == 429).map(|(nanos, _)| nanos);
        let listens = settings.hint_counts(status) || response.is_success() || status == 403;
        let exhausted = response.exhausted_for.filter(|_| listens);
        for nanos in [throttled, exhausted].into_iter().flatten() {
            let until = entry.at.saturating_add(nanos);
            if until > entry.at && until > self.opens_at {
                if entry.at >= self.latest {
                    self.closed_at = entry.at;
                }
                self.opens_at = until;
                self.latest = self.latest.max(until.saturating_add(until - self.closed_at));
            }
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

/// The waits of one request (I8).
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    retries: u32,
    /// The latest end of a hint for this request.
    not_before: u64,
}

impl Waits {
    /// Asserts that the action's wait is within its bounds.
    pub fn check(&mut self, entry: &Entry, settings: &Settings, gate: &Gate) {
        let response = entry.heard().filter(|response| settings.hint_counts(response.status) && !entry.was_over());
        let hint = response.and_then(|response| response.hint);
        let at = entry.at;
        self.not_before = self.not_before.max(hint.map_or(0, |(nanos, _)| at.saturating_add(nanos)));
        let Some(Action::Wait { until, reason, .. }) = entry.action else { return };
        let is_retry = entry.failure().is_some();
        self.retries += u32::from(is_retry);
        if matches!(entry.before.last, Some(Action::Wait { until: before, .. }) if before == until) {
            return;
        }
        let until = until.as_nanos();
        let range = match reason {
            WaitReason::Backoff => {
                assert!(is_retry, "B1: a back-off without a failure: {entry:?}");
                let (low, high) = settings.back_off(self.retries);
                at.saturating_add(low)..=at.saturating_add(high)
            }
            WaitReason::Hint(source) => {
                let own = hint.filter(|(nanos, of)| is_retry && *of == source && *nanos > 0);
                let earliest = own.map_or(self.not_before, |(nanos, _)| at.saturating_add(nanos));
                assert!(self.not_before.saturating_sub(at) <= settings.max_server_wait, "L3: {entry:?}");
                earliest..=earliest.saturating_add(settings.hint_spread()).max(self.not_before)
            }
            WaitReason::Gate => {
                assert!(gate.opens_at.saturating_sub(at) <= settings.max_server_wait, "S1: {entry:?}");
                gate.opens_at..=gate.last_through(settings)
            }
        };
        assert!(range.contains(&until), "I8: {until} is not within {range:?}: {entry:?}");
        if let Some(Ended::Answered(response)) = entry.failure() {
            // L2: the longer of the two, except after a 429.
            if response.status == 429 && hint.is_some_and(|(nanos, _)| nanos > 0) {
                assert!(reason != WaitReason::Backoff, "L2: {entry:?}");
            } else {
                let (low, _) = settings.back_off(self.retries);
                assert!(until >= at.saturating_add(low), "L2: shorter than its back-off: {entry:?}");
            }
        }
    }
}
