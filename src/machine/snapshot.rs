//! The stored form of a request (T7).

use serde::{Deserialize, Serialize};

use super::flags::Flags;
use super::limits::Limits;
use super::{Phase, RetryMachine};
use crate::event::Idempotency;
use crate::failure::Cause;
use crate::reply::BearerErrorCode;
use crate::time::Timestamp;
use crate::time::shift::Shift;
use crate::upstream::breaker::SendEpoch;
use crate::upstream::budget::Paid;
use crate::upstream::gate::Slot;
use crate::upstream::login::TokenOrLease;

/// The fields of a [`RetryMachine`], for serde. Only a snapshot serializes them, since it moves their instants first.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RetryMachine", deny_unknown_fields)]
pub(crate) struct Fields {
    seed: u64,
    started: Timestamp,
    not_before: Timestamp,
    until: Timestamp,
    server_time: u64,
    slot: Slot,
    last_hint: Timestamp,
    attempts: u32,
    token_or_lease: TokenOrLease,
    send_epoch: SendEpoch,
    first_since_opening: u32,
    paid: Paid,
    status: u16,
    throttled_retries: u16,
    limits: Limits,
    recoveries: u8,
    challenge: Option<BearerErrorCode>,
    phase: Phase,
    flags: Flags,
}

/// I2: the first attempt, as many retries as both counts of B5 can hold, the recoveries, and D13's repetition.
const MAX_ATTEMPTS: u32 = 1 + 2 * u16::MAX as u32 + u8::MAX as u32 + 1;

impl RetryMachine {
    /// Moves the instants to another clock.
    pub(crate) fn rebase(&mut self, shift: Shift) {
        match self.phase {
            Phase::Ready => {}
            // I3: a failure keeps its times forever.
            Phase::Done | Phase::Failed(_) => {
                shift.exact(&mut self.started);
                self.rebase_ended(shift);
            }
            Phase::InFlight | Phase::Waiting(_) | Phase::Leading | Phase::Following(_) => {
                shift.past(&mut self.started);
                shift.exact(&mut self.until);
                shift.ahead(&mut self.not_before);
                shift.ahead(&mut self.last_hint);
            }
        }
    }

    /// Returns whether a request can reach this state. Fields that can only make it give up sooner are not checked.
    pub(crate) fn is_possible(&self) -> bool {
        let ended = self.is_ended();
        // I10: after an ambiguous failure the request must have ended.
        let repeats_ambiguous = self.flags.has(Flags::NON_IDEMPOTENT)
            && !ended
            && matches!(self.flags.cause(), Some(Cause::TimedOut | Cause::Broken | Cause::Permanent | Cause::Other));
        // I2: each recovery and each repeat without a price follows an attempt. A retry is counted before it is sent.
        let recoveries = u32::from(self.recoveries) + u32::from(self.flags.has(Flags::REPEATED));
        let sends = self.attempts.saturating_add(u32::from(!matches!(self.phase, Phase::InFlight)));
        let retries = sends.saturating_sub(1 + recoveries);
        let counts_are_possible = recoveries <= self.attempts
            && self.first_since_opening <= self.attempts
            && u32::from(self.throttled_retries) <= retries
            && self.attempts <= MAX_ATTEMPTS;
        // C9, C10: a request has at most one place at the gate, while it waits.
        let places = u8::from(self.flags.has(Flags::IN_QUEUE)) + u8::from(self.flags.has(Flags::IS_HEAD));
        let place_is_possible = places <= u8::from(matches!(self.phase, Phase::Waiting(_)));
        let phase_is_possible = match self.phase {
            Phase::Ready => {
                let idempotency = if self.flags.has(Flags::NON_IDEMPOTENT) {
                    Idempotency::NonIdempotent
                } else {
                    Idempotency::Idempotent
                };
                *self == RetryMachine { limits: self.limits, ..RetryMachine::new(idempotency, self.seed) }
            }
            Phase::InFlight => recoveries < self.attempts && self.flags.has(Flags::UNANSWERED),
            Phase::Waiting(_) | Phase::Leading | Phase::Following(_) => !self.flags.has(Flags::UNANSWERED),
            Phase::Done => self.attempts > 0,
            Phase::Failed(_) => true,
        };
        phase_is_possible
            && place_is_possible
            && counts_are_possible
            && !repeats_ambiguous
            && self.started <= self.until
    }
}
