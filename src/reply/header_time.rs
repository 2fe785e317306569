//! Times as a response states them, and the clock that places them.

use core::cmp::Ordering;
use core::time::Duration;

use super::facts::{Fact, Facts};
use super::http_date::{self, HttpDate};
use super::rejected::{HeaderField, RejectReason, RejectedFields};
use crate::time::{self, NANOS_PER_MILLI};

/// One time in a header value.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeaderTime {
    /// Nanoseconds after the receipt of the response.
    After(u64),
    /// A Unix time in milliseconds.
    At(i64),
}

/// The facts of a field with times, one for each kind of time.
#[derive(Clone, Copy)]
pub(super) struct TimeFacts {
    wait: Fact,
    date: Fact,
    short: Fact,
}

impl TimeFacts {
    pub(super) const RETRY_AFTER: TimeFacts =
        TimeFacts { wait: Fact::RetryAfterWait, date: Fact::RetryAfterDate, short: Fact::RetryAfterShort };
    pub(super) const X_RESET: TimeFacts =
        TimeFacts { wait: Fact::XResetWait, date: Fact::XResetDate, short: Fact::XResetShort };
    pub(super) const RESET: TimeFacts =
        TimeFacts { wait: Fact::ResetWait, date: Fact::ResetDate, short: Fact::ResetShort };

    /// Adds one time (rule H6: if a field comes twice, the later time wins).
    pub(super) fn add(self, when: HeaderTime, facts: &mut Facts) -> Result<(), RejectReason> {
        match when {
            HeaderTime::After(wait) => facts.keep_larger(self.wait, wait),
            HeaderTime::At(at) => {
                // Without a clock no date wins or loses: `reject_dates` reports it.
                let _ = facts.keep_larger(self.date, at.abs_diff(i64::MIN));
                Ok(())
            }
        }
    }

    /// Adds an HTTP-date (rule H3). The century of a two-digit year is unknown until the whole response is read.
    pub(super) fn add_date(self, value: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
        let date = HttpDate::parse(value).ok_or(RejectReason::Malformed)?;
        if !date.has_two_digit_year() {
            let at = Clock::NONE.place(date).ok_or(RejectReason::Malformed)?;
            return self.add(HeaderTime::At(at), facts);
        }
        // The order of two short years depends on the century. The best guess is that they are in the same one.
        let seconds = |date: HttpDate| date.unix_seconds(FALLBACK_YEAR);
        let order = match facts.get(self.short) {
            Some(old) => seconds(date).cmp(&seconds(HttpDate::from_bits(old))),
            None => Ordering::Equal,
        };
        let _ = facts.keep(self.short, date.to_bits(), Ordering::Greater, order);
        Ok(())
    }

    /// Returns the nanoseconds from the receipt of the response to the latest time: 0 if it has passed. Without a clock
    /// only waits count (rule H4).
    pub(super) fn resolve(self, facts: &Facts, clock: Clock) -> Option<u64> {
        let wait = facts.get(self.wait);
        if !self.have_date(facts) {
            return wait;
        }
        let [at, short] = self.dates(facts, clock);
        wait.max(at.max(short).and_then(|at| clock.until(at)))
    }

    /// Records the dates that could not be used. There are some.
    pub(super) fn reject_dates(self, field: HeaderField, facts: &Facts, clock: Clock, rejected: &mut RejectedFields) {
        let [at, short] = self.dates(facts, clock);
        // 29 February in a short year that turned out not to be a leap year.
        if facts.has(self.short) && short.is_none() {
            rejected.add(field, RejectReason::Malformed);
        }
        // Without a clock no date wins or loses.
        let Some(now) = clock.unix_millis else { return rejected.add(field, RejectReason::NoClock) };
        let wait = facts.get(self.wait).and_then(|wait| now.checked_add(i64::try_from(wait / NANOS_PER_MILLI).ok()?));
        let differ = |one: Option<i64>, other| one.zip(other).is_some_and(|(one, other)| one != other);
        if facts.is_contradicted(self.date)
            || facts.is_contradicted(self.short)
            || differ(at, short)
            || differ(wait, at.or(short))
        {
            rejected.add(field, RejectReason::Duplicate);
        }
    }

    pub(super) const fn have_date(self, facts: &Facts) -> bool {
        facts.has(self.date) || facts.has(self.short)
    }

    /// Returns the dates, in Unix milliseconds.
    fn dates(self, facts: &Facts, clock: Clock) -> [Option<i64>; 2] {
        let at = facts.get(self.date).map(|number| i64::MIN.saturating_add_unsigned(number));
        [at, facts.get(self.short).and_then(|bits| clock.place(HttpDate::from_bits(bits)))]
    }
}

/// The clock that places a response's dates (rule H4): its own `Date`, else the driver's wall clock.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    unix_millis: Option<i64>,
}

impl Clock {
    pub(super) const NONE: Clock = Clock { unix_millis: None };

    /// Returns the clock of a response.
    pub(super) fn of(facts: &Facts) -> Clock {
        let wall = Clock::wall(facts);
        match facts.get(Fact::Date) {
            // Only the wall clock can place a short year in it.
            Some(date) => Clock { unix_millis: wall.place(HttpDate::from_bits(date)) },
            None => wall,
        }
    }

    /// Returns the driver's wall clock, if there is one.
    fn wall(facts: &Facts) -> Clock {
        Clock { unix_millis: facts.get(Fact::WallClock).map(|millis| i64::try_from(millis).unwrap_or(i64::MAX)) }
    }

    /// Returns the nanoseconds from the receipt of the response to this time, or `None` for a date that no clock can place.
    pub(super) fn wait(self, time: HeaderTime) -> Option<u64> {
        match time {
            HeaderTime::After(wait) => Some(wait),
            HeaderTime::At(at) => self.until(at),
        }
    }

    /// Returns the nanoseconds from the receipt of the response to a Unix time in milliseconds: 0 if it has passed.
    fn until(self, at: i64) -> Option<u64> {
        let millis = u64::try_from(at.saturating_sub(self.unix_millis?)).unwrap_or(0);
        Some(time::millis(millis))
    }

    /// Returns a date in Unix milliseconds.
    fn place(self, date: HttpDate) -> Option<i64> {
        let year_of = |millis: i64| http_date::year_of(millis.div_euclid(1_000));
        // Only a short year needs that of the clock.
        let now = self.unix_millis.filter(|_| date.has_two_digit_year());
        let seconds = date.unix_seconds(now.map_or(FALLBACK_YEAR, year_of))?;
        Some(seconds.saturating_mul(1_000))
    }
}

/// Adds the driver's wall clock.
pub(super) fn add_wall_clock(since_epoch: Duration, facts: &mut Facts) {
    let seconds = since_epoch.as_secs().saturating_mul(1_000);
    facts.set(Fact::WallClock, seconds.saturating_add(since_epoch.subsec_millis().into()));
}

/// Adds the response's own `Date`. F9: the first valid one counts.
pub(super) fn add_own_date(value: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
    let date = HttpDate::parse(value).ok_or(RejectReason::Malformed)?;
    let first = facts.get(Fact::Date).map(HttpDate::from_bits);
    // The usual case works out no instant.
    if first.is_some() || date.has_two_digit_year() {
        let wall = Clock::wall(facts);
        let instant = wall.place(date).ok_or(RejectReason::Malformed)?;
        if let Some(first) = first {
            return if wall.place(first) == Some(instant) { Ok(()) } else { Err(RejectReason::Duplicate) };
        }
    }
    facts.set(Fact::Date, date.to_bits());
    Ok(())
}

/// The reference for a short year if there is neither a `Date` nor a wall clock: the year in which this was written.
const FALLBACK_YEAR: i32 = 2026;
