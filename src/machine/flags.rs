//! The yes-or-no facts of a request.

use crate::event::Idempotency;
use crate::reply::HintSource;

/// The yes-or-no facts of a request in one byte, and the source of its hint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Flags(u8);

impl Flags {
    /// D14: the request is not idempotent.
    pub(super) const NON_IDEMPOTENT: u8 = 1;
    /// The request got a reply, so its status has a meaning.
    pub(super) const HAS_STATUS: u8 = 2;
    /// K5: the request holds the lease of its token epoch, expired or not.
    pub(super) const HOLDS_LEASE: u8 = 4;
    /// K7: the request needs a new token ahead of expiry, not after a 401.
    pub(super) const EARLY: u8 = 8;
    /// F5: the next send does not check the expiry of the token.
    pub(super) const TOKEN_SETTLED: u8 = 16;
    /// The newest attempt has neither brought a result nor been given up.
    pub(super) const UNANSWERED: u8 = 32;
    /// The source of the hint: two bits.
    pub(super) const SOURCE: u8 = 64 + 128;

    pub(super) const fn new(idempotency: Idempotency) -> Flags {
        match idempotency {
            Idempotency::Idempotent => Flags(0),
            Idempotency::NonIdempotent => Flags(Flags::NON_IDEMPOTENT),
        }
    }

    pub(super) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    pub(super) const fn source(self) -> HintSource {
        match self.0 >> 6 {
            0 => HintSource::RetryAfter,
            1 => HintSource::RetryAfterMs,
            _ => HintSource::RateLimitReset,
        }
    }

    pub(super) const fn set_source(&mut self, source: HintSource) {
        let bits = match source {
            HintSource::RetryAfter => 0,
            HintSource::RetryAfterMs => 1,
            HintSource::RateLimitReset => 2,
        };
        self.0 = self.0 & !Flags::SOURCE | bits << 6;
    }
}
