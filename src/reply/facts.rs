//! The numbers that a response states, while it is read: packed, so that a reader is small and quickly made.

use core::cmp::Ordering;

use super::rejected::RejectReason;

/// A number of a response. A field with times has one for each kind of time, since only the response's clock tells which of
/// them is the latest.
#[derive(Clone, Copy)]
pub(super) enum Fact {
    // Nanoseconds after the receipt of the response, the longest wait.
    RetryAfterMs,
    XMsRetryAfterMs,
    RetryAfterWait,
    XResetWait,
    ResetWait,
    XResetAfter,
    // The latest instant: Unix milliseconds, as the distance from the least `i64`.
    RetryAfterDate,
    XResetDate,
    ResetDate,
    // The latest date with a year of two digits, as `HttpDate::to_bits` packs it.
    RetryAfterShort,
    XResetShort,
    ResetShort,
    // Calls, the least number.
    XLimit,
    XRemaining,
    Limit,
    Remaining,
    /// Of `RateLimit-Policy`.
    Quota,
    // Of `RateLimit`: calls, and seconds.
    ListRemaining,
    ListReset,
    // The same of draft 7, the last good values.
    Draft7Limit,
    Draft7Remaining,
    Draft7Reset,
    /// The response's own time, packed in the same way.
    Date,
    /// The driver's time, in Unix milliseconds.
    WallClock,
}

const COUNT: usize = Fact::WallClock as usize + 1;

/// The facts that are known.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    numbers: [u64; COUNT],
    /// One bit for each fact.
    known: u32,
    /// Whether there were different numbers.
    contradicted: u32,
}

impl Facts {
    pub(super) const NONE: Facts = Facts { numbers: [0; COUNT], known: 0, contradicted: 0 };

    pub(super) const fn has(&self, fact: Fact) -> bool {
        self.known & bit(fact) != 0
    }

    #[allow(clippy::indexing_slicing, reason = "there is a number for each fact")]
    pub(super) const fn get(&self, fact: Fact) -> Option<u64> {
        if self.has(fact) { Some(self.numbers[fact as usize]) } else { None }
    }

    #[allow(clippy::indexing_slicing, reason = "there is a number for each fact")]
    pub(super) const fn set(&mut self, fact: Fact, number: u64) {
        self.numbers[fact as usize] = number;
        self.known |= bit(fact);
    }

    /// Forgets a fact, or sets it.
    pub(super) fn replace(&mut self, fact: Fact, number: Option<u64>) {
        match number {
            Some(number) => self.set(fact, number),
            None => self.known &= !bit(fact),
        }
    }

    /// Keeps the larger of two numbers.
    ///
    /// # Errors
    ///
    /// [`RejectReason::Duplicate`] if they differ.
    pub(super) fn keep_larger(&mut self, fact: Fact, new: u64) -> Result<(), RejectReason> {
        self.keep(fact, new, Ordering::Greater, new.cmp(&self.get(fact).unwrap_or(new)))
    }

    /// Keeps the smaller of two numbers. Its error is that of [`keep_larger`](Facts::keep_larger).
    pub(super) fn keep_smaller(&mut self, fact: Fact, new: u64) -> Result<(), RejectReason> {
        self.keep(fact, new, Ordering::Less, new.cmp(&self.get(fact).unwrap_or(new)))
    }

    /// Keeps the first number, or a new one whose order to that number is the wanted one. Its error is that of
    /// [`keep_larger`](Facts::keep_larger).
    pub(super) fn keep(&mut self, fact: Fact, new: u64, wanted: Ordering, order: Ordering) -> Result<(), RejectReason> {
        if !self.has(fact) || order == wanted {
            self.set(fact, new);
        }
        if order == Ordering::Equal {
            return Ok(());
        }
        self.contradicted |= bit(fact);
        Err(RejectReason::Duplicate)
    }

    /// Returns whether there were different numbers.
    pub(super) const fn is_contradicted(&self, fact: Fact) -> bool {
        self.contradicted & bit(fact) != 0
    }

    /// Returns whether one of these facts is known.
    pub(super) const fn have_any(&self, set: FactSet) -> bool {
        self.known & set.0 != 0
    }
}

/// Some facts.
#[derive(Clone, Copy)]
pub(super) struct FactSet(u32);

impl FactSet {
    /// All but the response's clock.
    pub(super) const ABOUT_RETRIES: FactSet = FactSet(!(bit(Fact::Date) | bit(Fact::WallClock)));
    /// Dates that only a clock can place.
    pub(super) const DATES: FactSet = FactSet(
        bit(Fact::RetryAfterDate)
            | bit(Fact::RetryAfterShort)
            | bit(Fact::XResetDate)
            | bit(Fact::XResetShort)
            | bit(Fact::ResetDate)
            | bit(Fact::ResetShort),
    );
    /// The families of rate limits.
    pub(super) const WITH_X: FactSet = FactSet(
        bit(Fact::XLimit)
            | bit(Fact::XRemaining)
            | bit(Fact::XResetWait)
            | bit(Fact::XResetDate)
            | bit(Fact::XResetShort)
            | bit(Fact::XResetAfter),
    );
    pub(super) const WITHOUT_X: FactSet = FactSet(
        bit(Fact::Limit) | bit(Fact::Remaining) | bit(Fact::ResetWait) | bit(Fact::ResetDate) | bit(Fact::ResetShort),
    );
    pub(super) const STRUCTURED: FactSet = FactSet(
        bit(Fact::Quota)
            | bit(Fact::ListRemaining)
            | bit(Fact::ListReset)
            | bit(Fact::Draft7Limit)
            | bit(Fact::Draft7Remaining)
            | bit(Fact::Draft7Reset),
    );
}

const fn bit(fact: Fact) -> u32 {
    1 << fact as u32
}
