//! The numbers that a response states, while it is read: packed, so that a reader is small and quickly made.

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
    // The latest date: `from_signed` of Unix milliseconds.
    RetryAfterDate,
    XResetDate,
    ResetDate,
    // The latest date with a year of two digits: `HttpDate::to_bits`.
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
    /// The response's own time: `HttpDate::to_bits`.
    Date,
    /// The driver's time: Unix milliseconds.
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

    pub(super) fn get(&self, fact: Fact) -> Option<u64> {
        if self.has(fact) { self.numbers.get(fact as usize).copied() } else { None }
    }

    pub(super) fn set(&mut self, fact: Fact, number: u64) {
        if let Some(slot) = self.numbers.get_mut(fact as usize) {
            *slot = number;
            self.known |= bit(fact);
        }
    }

    pub(super) fn set_or_clear(&mut self, fact: Fact, number: Option<u64>) {
        match number {
            Some(number) => self.set(fact, number),
            None => self.known &= !bit(fact),
        }
    }

    /// Keeps one of two numbers: the new one where `is_better` than the old one says so. Returns whether they differ.
    pub(super) fn keep(&mut self, fact: Fact, new: u64, is_better: impl Fn(u64, u64) -> bool) -> bool {
        let Some(old) = self.get(fact) else {
            self.set(fact, new);
            return false;
        };
        let (is_better, is_worse) = (is_better(new, old), is_better(old, new));
        if is_better {
            self.set(fact, new);
        }
        let differs = is_better || is_worse;
        if differs {
            self.contradicted |= bit(fact);
        }
        differs
    }

    /// Returns whether there were different numbers.
    pub(super) const fn is_contradicted(&self, fact: Fact) -> bool {
        self.contradicted & bit(fact) != 0
    }

    /// Returns whether nothing is known but the time.
    pub(super) const fn are_empty(&self) -> bool {
        self.known & !(bit(Fact::Date) | bit(Fact::WallClock)) == 0
    }

    /// Returns whether a date other than the response's own is known.
    pub(super) const fn have_dates(&self) -> bool {
        const DATES: u32 = bit(Fact::RetryAfterDate)
            | bit(Fact::RetryAfterShort)
            | bit(Fact::XResetDate)
            | bit(Fact::XResetShort)
            | bit(Fact::ResetDate)
            | bit(Fact::ResetShort);
        self.known & DATES != 0
    }

    /// Returns whether a fact about a rate limit is known.
    pub(super) const fn have_limits(&self) -> bool {
        const NO_LIMIT: u32 = bit(Fact::RetryAfterMs)
            | bit(Fact::XMsRetryAfterMs)
            | bit(Fact::RetryAfterWait)
            | bit(Fact::RetryAfterDate)
            | bit(Fact::RetryAfterShort)
            | bit(Fact::Date)
            | bit(Fact::WallClock);
        self.known & !NO_LIMIT != 0
    }
}

const fn bit(fact: Fact) -> u32 {
    1 << fact as u32
}
