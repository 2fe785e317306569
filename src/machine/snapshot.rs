//! A request as it is stored (T7).

use serde::{Deserialize, Serialize};

use super::flags::Flags;
use super::{Phase, RetryMachine};
use crate::event::Repeat;
use crate::failure::Cause;
use crate::time::Time;
use crate::time::shift::{Shift, TooEarly};
use crate::upstream::breaker::Ticket;
use crate::upstream::token::Stamp;

/// The fields of a [`RetryMachine`]: only a snapshot, whose times are its own, is ever serialised.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RetryMachine", deny_unknown_fields)]
pub(crate) struct Fields {
    seed: u64,
    started: Time,
    not_before: Time,
    until: Time,
    gate_time: u64,
    attempts: u32,
    stamp: Stamp,
    ticket: Ticket,
    first_heard: u32,
    status: u16,
    gate_waits: u8,
    recoveries: u8,
    phase: Phase,
    cause: Option<Cause>,
    flags: Flags,
}

impl RetryMachine {
    pub(crate) fn rebase(&mut self, shift: Shift) -> Result<(), TooEarly> {
        match self.phase {
            Phase::Ready => {}
            // What a failure says of times it says for ever.
            Phase::Done | Phase::Failed(_) => {
                shift.exact(&mut self.started)?;
                shift.exact(&mut self.until)?;
                if self.not_before != Time::ZERO {
                    shift.exact(&mut self.not_before)?;
                }
            }
            Phase::InFlight | Phase::Waiting(_) | Phase::Leading | Phase::Following(_) => {
                shift.past(&mut self.started)?;
                shift.exact(&mut self.until)?;
                shift.ahead(&mut self.not_before);
            }
        }
        Ok(())
    }

    /// Whether a request can come to be like this. What only makes it give up sooner may be anything.
    pub(crate) fn is_possible(&self) -> bool {
        let ended = self.is_ended();
        let unsent_again = self.flags.has(Flags::UNSAFE)
            && !ended
            && matches!(self.cause, Some(Cause::TimedOut | Cause::Broken | Cause::Other));
        // I2: each recovery followed an attempt, and led to another.
        let counted = u32::from(self.recoveries) <= self.attempts && self.first_heard <= self.attempts;
        let phase = match self.phase {
            Phase::Ready => {
                let repeat = if self.flags.has(Flags::UNSAFE) { Repeat::Unsafe } else { Repeat::Safe };
                *self == RetryMachine::new(repeat, self.seed)
            }
            Phase::InFlight => u32::from(self.recoveries) < self.attempts && self.flags.has(Flags::UNANSWERED),
            Phase::Waiting(_) | Phase::Leading | Phase::Following(_) => !self.flags.has(Flags::UNANSWERED),
            Phase::Done => self.attempts > 0,
            Phase::Failed(_) => true,
        };
        // I10: what may have been applied is not sent again.
        phase && counted && !unsent_again && self.started <= self.until
    }
}
