//! What a judge knows of the gate, the lease and the waits, worked out from the rules and a history alone.
#![allow(unreachable_pub)]

use retry_machine::{Action, FailureKind, Jitter, RefreshOutcome, WaitReason};

use crate::history::{Ended, RequestEvent, Step};
use crate::strategies::Settings;

/// S1: when the upstream is closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    closed_at: u64,
    /// Until when the server said; it never opens sooner.
    pub opens_at: u64,
    /// It may open later, where it is closed again and again: by as long again as it was closed.
    latest: u64,
}

impl Gate {
    /// Over how long after its opening those that it held come through, at most.
    fn last_through(&self, settings: &Settings) -> u64 {
        match (settings.gate_spread, settings.jitter) {
            (Some(spread), _) => self.opens_at.saturating_add(spread),
            (None, Jitter::None) => self.opens_at,
            (None, _) => self.latest.saturating_add(settings.spread.max(self.latest - self.closed_at)),
        }
    }

    pub fn hear(&mut self, step: &Step, settings: &Settings) {
        if step.told == RequestEvent::OpenGate {
            self.opens_at = self.opens_at.min(step.at);
            self.latest = self.latest.min(step.at);
        }
        let Some(response) = step.heard().filter(|_| settings.gate) else { return };
        let status = response.status;
        let throttled = response.hint().filter(|_| status == 429).map(|(nanos, _)| nanos);
        let listens = settings.hint_counts(status) || response.is_success() || status == 403;
        let exhausted = response.exhausted_for().filter(|_| listens);
        for nanos in [throttled, exhausted].into_iter().flatten() {
            let until = step.at.saturating_add(nanos);
            if until > step.at && until > self.opens_at {
                if step.at >= self.latest {
                    self.closed_at = step.at;
                }
                self.opens_at = until;
                self.latest = self.latest.max(until.saturating_add(until - self.closed_at));
            }
        }
    }
}

/// K3, K5, K6, F5: the newest lease, and the generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    pub generation: u32,
    pub throttled_until: u64,
    /// Who may still report an outcome that counts.
    holder: Option<usize>,
    /// Its end, unless it was freed.
    until: Option<u64>,
}

impl Lease {
    pub fn is_open(&self, at: u64) -> bool {
        self.until.is_some_and(|until| at < until)
    }

    pub fn give(&mut self, request: usize, until: u64) {
        (self.holder, self.until) = (Some(request), Some(until));
    }

    pub fn hear(&mut self, step: &Step) {
        match step.told {
            RequestEvent::TokenReplaced => {
                self.generation += 1;
                (self.holder, self.until) = (None, None);
            }
            // Before it has begun, a request takes any event for its start.
            RequestEvent::Token(outcome) if self.holder == Some(step.request) && step.before.last.is_some() => {
                (self.holder, self.until) = (None, None);
                match outcome {
                    RefreshOutcome::Refreshed { .. } => self.generation += 1,
                    RefreshOutcome::Unavailable { retry_after } => {
                        let nanos = retry_after.map_or(0, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
                        self.throttled_until = self.throttled_until.max(step.at.saturating_add(nanos));
                    }
                    RefreshOutcome::Rejected => {}
                }
            }
            _ => {}
        }
        let abandoned = match step.action {
            Some(Action::Done { .. }) => true,
            Some(Action::Fail(failure)) => failure.kind() != FailureKind::Deadline,
            _ => false,
        };
        if abandoned && self.holder == Some(step.request) {
            self.until = None;
        }
    }
}

/// I8: the waits of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    retries: u32,
    /// The latest hint for this request.
    not_before: u64,
}

impl Waits {
    pub fn hear(&mut self, step: &Step, settings: &Settings, gate: &Gate) {
        let response = step.heard().filter(|response| settings.hint_counts(response.status) && !step.was_over());
        let hint = response.and_then(|response| response.hint());
        let (at, spread) = (step.at, if settings.jitter == Jitter::None { 0 } else { settings.spread });
        self.not_before = self.not_before.max(hint.map_or(0, |(nanos, _)| at.saturating_add(nanos)));
        let Some(Action::Wait { until, reason, .. }) = step.action else { return };
        let is_retry = step.failure().is_some();
        self.retries += u32::from(is_retry);
        if matches!(step.before.last, Some(Action::Wait { until: before, .. }) if before == until) {
            return;
        }
        let until = until.as_nanos();
        let range = match reason {
            WaitReason::Backoff => {
                assert!(is_retry, "a back-off without a failure: {step:?}");
                let (low, high) = back_off(settings, self.retries);
                at.saturating_add(low)..=at.saturating_add(high)
            }
            WaitReason::Hint(source) => {
                let own = hint.filter(|(nanos, of)| is_retry && *of == source && *nanos > 0);
                let earliest = own.map_or(self.not_before, |(nanos, _)| at.saturating_add(nanos));
                assert!(self.not_before.saturating_sub(at) <= settings.max_server_wait, "L3: {step:?}");
                earliest..=earliest.saturating_add(spread).max(self.not_before)
            }
            WaitReason::Gate => {
                assert!(gate.opens_at.saturating_sub(at) <= settings.max_server_wait, "S1: {step:?}");
                gate.opens_at..=gate.last_through(settings)
            }
        };
        assert!(range.contains(&until), "{until} is not within {range:?}: {step:?}");
        if let Some(Ended::Answered(response)) = step.failure() {
            // L2: the longer of the two, but after a 429.
            if response.status == 429 && hint.is_some_and(|(nanos, _)| nanos > 0) {
                assert!(reason != WaitReason::Backoff, "{step:?}");
            } else {
                let (low, _) = back_off(settings, self.retries);
                assert!(until >= at.saturating_add(low), "shorter than its back-off: {step:?}");
            }
        }
    }
}

/// B1, B2, F2: the shortest and the longest back-off of a retry.
pub fn back_off(settings: &Settings, retry: u32) -> (u64, u64) {
    let Settings { base, factor, cap, spread, .. } = *settings;
    let grown = |factor: u32| (1..retry).fold(base, |wait, _| wait.saturating_mul(u64::from(factor)));
    let w = grown(factor).min(cap);
    let around = |spread: u64| (w.saturating_sub(spread), w.saturating_add(spread).min(cap));
    match settings.jitter {
        Jitter::None => (w, w),
        Jitter::Spread => around(spread),
        Jitter::FULL => (0, w),
        Jitter::EQUAL => (w / 2, w),
        Jitter::PROPORTIONAL => around(w / 4),
        Jitter::Decorrelated => (base.min(cap), grown(3).saturating_mul(3).clamp(base.min(cap), cap)),
    }
}
