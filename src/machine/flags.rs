//! The yes-or-no facts of a request.

use crate::event::Idempotency;
use crate::failure::Cause;
use crate::reply::HintSource;

/// The yes-or-no facts of a request, the source of its hint, and why its last attempt failed, in two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Flags(u16);

impl Flags {
    /// D14: the request is not safe to repeat.
    pub(super) const NON_IDEMPOTENT: u16 = 1;
    /// The request has got a reply; else the status is meaningless.
    pub(super) const HAS_STATUS: u16 = 2;
    /// K7: a refresh ahead of expiry brought no token: the next send uses the old one while it is valid.
    pub(super) const TOKEN_KEPT: u16 = 4;
    /// K7: the request wants a token before it has got a 401.
    pub(super) const EARLY: u16 = 8;
    /// F5: a refresh ahead of expiry brought the token: the next send uses it, whatever its expiry.
    pub(super) const TOKEN_SETTLED: u16 = 16;
    /// The newest attempt has neither brought a result nor been given up.
    pub(super) const UNANSWERED: u16 = 32;
    /// D13: an attempt was not processed and has been repeated at once.
    pub(super) const REPEATED: u16 = 64;
    /// C10: the request has waited at the gate, in the queue or as its head.
    pub(super) const QUEUED: u16 = 128;
    /// C9: the wait under way is for the request's slot.
    pub(super) const IN_QUEUE: u16 = 256;
    /// C10: the wait under way is at the gate, before the queue.
    pub(super) const IS_HEAD: u16 = 512;
    /// The hint's source, in three bits.
    const SOURCE: u16 = 7 << SOURCE_SHIFT;
    /// Why the last attempt failed, in three bits.
    const CAUSE: u16 = 7 << CAUSE_SHIFT;

    pub(super) const fn new(idempotency: Idempotency) -> Flags {
        match idempotency {
            Idempotency::Idempotent => Flags(0),
            Idempotency::NonIdempotent => Flags(Flags::NON_IDEMPOTENT),
        }
    }

    pub(super) const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u16, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    pub(super) const fn source(self) -> HintSource {
        match (self.0 & Flags::SOURCE) >> SOURCE_SHIFT {
            0 => HintSource::RetryAfter,
            1 => HintSource::RetryAfterMs,
            2 => HintSource::RateLimitReset,
            3 => HintSource::Told,
            _ => HintSource::Pushback,
        }
    }

    pub(super) const fn set_source(&mut self, source: HintSource) {
        let bits = match source {
            HintSource::RetryAfter => 0,
            HintSource::RetryAfterMs => 1,
            HintSource::RateLimitReset => 2,
            HintSource::Told => 3,
            HintSource::Pushback => 4,
        };
        self.0 = self.0 & !Flags::SOURCE | bits << SOURCE_SHIFT;
    }

    /// Returns why the last attempt failed, if one did (F8).
    pub(super) const fn cause(self) -> Option<Cause> {
        match (self.0 & Flags::CAUSE) >> CAUSE_SHIFT {
            0 => None,
            1 => Some(Cause::Status),
            2 => Some(Cause::TimedOut),
            3 => Some(Cause::Broken),
            4 => Some(Cause::NotSent),
            5 => Some(Cause::Unprocessed),
            6 => Some(Cause::Permanent),
            _ => Some(Cause::Other),
        }
    }

    pub(super) const fn set_cause(&mut self, cause: Cause) {
        let bits = match cause {
            Cause::Status => 1,
            Cause::TimedOut => 2,
            Cause::Broken => 3,
            Cause::NotSent => 4,
            Cause::Unprocessed => 5,
            Cause::Permanent => 6,
            Cause::Other => 7,
        };
        self.0 = self.0 & !Flags::CAUSE | bits << CAUSE_SHIFT;
    }
}

const SOURCE_SHIFT: u32 = 10;
const CAUSE_SHIFT: u32 = 13;
