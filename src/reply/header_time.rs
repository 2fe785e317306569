//! Times as a response states them, and the clock that places them.

use core::time::Duration;

use super::facts::{Fact, Facts};
use super::http_date::{self, HttpDate};
use super::rejected::RejectReason;
use crate::time::{self, NANOS_PER_MILLI};

/// One time in a header value.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeaderTime {
    /// Nanoseconds after the receipt of the response.
    After(u64),
    /// A Unix time in milliseconds.
    At(i64),
    /// A date with a two-digit year. Its century is unknown until the whole response is read (rule H3).
    AtShort(HttpDate),
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
    pub(super) fn add(self, when: HeaderTime, facts: &mut Facts) {
        match when {
            HeaderTime::After(wait) => facts.keep(self.wait, wait, |new, old| new > old),
            HeaderTime::At(at) => facts.keep(self.date, at.abs_diff(i64::MIN), |new, old| new > old),
            // The order of two short years depends on the century. The best guess is that they are in the same one.
            HeaderTime::AtShort(date) => {
                let seconds = |bits| HttpDate::from_bits(bits).unix_seconds(FALLBACK_YEAR);
                facts.keep(self.short, date.to_bits(), |new, old| seconds(new) > seconds(old))
            }
        };
    }

    pub(super) fn latest(self, facts: &Facts) -> LatestTime {
        LatestTime {
            after: facts.get(self.wait),
            at: facts.get(self.date).map(|number| i64::MIN.saturating_add_unsigned(number)),
            short: facts.get(self.short).map(HttpDate::from_bits),
            wait_lost: facts.is_contradicted(self.wait),
            date_lost: facts.is_contradicted(self.date) || facts.is_contradicted(self.short),
        }
    }
}

/// The latest time of each kind in a field. Only the clock tells which of them is the latest of all.
#[derive(Clone, Copy)]
pub(super) struct LatestTime {
    after: Option<u64>,
    at: Option<i64>,
    short: Option<HttpDate>,
    /// Whether a wait lost against another, and a date against another.
    wait_lost: bool,
    date_lost: bool,
}

impl LatestTime {
    /// Returns the reasons why some or all of the times could not be used.
    pub(super) fn rejections(&self, clock: Clock) -> impl Iterator<Item = RejectReason> + use<> {
        let undated = self.has_date() && clock.unix_millis.is_none();
        // 29 February in a short year that turned out not to be a leap year.
        let impossible = self.short.is_some() && self.dates(clock)[1].is_none();
        let rejections = [
            undated.then_some(RejectReason::NoClock),
            impossible.then_some(RejectReason::Malformed),
            self.is_contradictory(clock).then_some(RejectReason::Duplicate),
        ];
        rejections.into_iter().flatten()
    }

    /// Returns the nanoseconds from the receipt of the response to the latest time: 0 if it has passed. Without a clock
    /// only waits count (rule H4).
    pub(super) fn resolve(&self, clock: Clock) -> Option<u64> {
        if !self.has_date() {
            return self.after;
        }
        let until = |at: i64| {
            let millis = u64::try_from(at.saturating_sub(clock.unix_millis?)).unwrap_or(0);
            Some(time::millis(millis))
        };
        let [at, short] = self.dates(clock);
        [self.after, at.and_then(until), short.and_then(until)].into_iter().flatten().max()
    }

    /// Returns whether the field came more than once with different instants, so that one of them lost. Without a clock
    /// no date wins or loses.
    fn is_contradictory(&self, clock: Clock) -> bool {
        let (Some(now), true) = (clock.unix_millis, self.has_date()) else { return self.wait_lost };
        // This 64-bit division happens only if there are both a wait and a date.
        let at_once = |wait: u64| now.checked_add(i64::try_from(wait / NANOS_PER_MILLI).ok()?);
        let [at, short] = self.dates(clock);
        let mut ways = [self.after.and_then(at_once), at, short].into_iter().flatten();
        let first = ways.next();
        self.wait_lost || self.date_lost || ways.any(|other| Some(other) != first)
    }

    const fn has_date(&self) -> bool {
        self.at.is_some() || self.short.is_some()
    }

    /// Returns the dates, in Unix milliseconds.
    fn dates(&self, clock: Clock) -> [Option<i64>; 2] {
        let short = self.short.and_then(|date| date.unix_seconds(clock.year()));
        [self.at, short.map(|seconds| seconds.saturating_mul(1_000))]
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
            Some(date) => {
                let seconds = HttpDate::from_bits(date).unix_seconds(wall.year());
                Clock { unix_millis: seconds.map(|seconds| seconds.saturating_mul(1_000)) }
            }
            None => wall,
        }
    }

    /// Returns the driver's wall clock, if there is one.
    fn wall(facts: &Facts) -> Clock {
        Clock { unix_millis: facts.get(Fact::WallClock).map(|millis| i64::try_from(millis).unwrap_or(i64::MAX)) }
    }

    /// Returns the nanoseconds from the receipt of the response to this time, or `None` for a date that no clock can place.
    pub(super) fn wait(self, time: HeaderTime) -> Option<u64> {
        let none = LatestTime { after: None, at: None, short: None, wait_lost: false, date_lost: false };
        let latest = match time {
            HeaderTime::After(wait) => LatestTime { after: Some(wait), ..none },
            HeaderTime::At(at) => LatestTime { at: Some(at), ..none },
            HeaderTime::AtShort(date) => LatestTime { short: Some(date), ..none },
        };
        latest.resolve(self)
    }

    /// Returns the year. Only a short year needs it, so it is not stored.
    fn year(self) -> i32 {
        self.unix_millis.map_or(FALLBACK_YEAR, |millis| http_date::year_of(millis.div_euclid(1_000)))
    }
}

/// Adds the driver's wall clock.
pub(super) fn add_wall_clock(since_epoch: Duration, facts: &mut Facts) {
    let seconds = since_epoch.as_secs().saturating_mul(1_000);
    facts.set(Fact::WallClock, seconds.saturating_add(since_epoch.subsec_millis().into()));
}

/// Adds the response's own `Date`. F9: the first valid one counts.
pub(super) fn add_date(value: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
    let date = HttpDate::parse(value).ok_or(RejectReason::Malformed)?;
    let first = facts.get(Fact::Date);
    if first.is_none() && !date.has_two_digit_year() {
        // The usual case works out no instant.
        facts.set(Fact::Date, date.to_bits());
        return Ok(());
    }
    // Only the wall clock can place a short year in it.
    let seconds = |date: HttpDate| date.unix_seconds(Clock::wall(facts).year());
    let instant = seconds(date).ok_or(RejectReason::Malformed)?;
    match first {
        Some(first) if seconds(HttpDate::from_bits(first)) != Some(instant) => Err(RejectReason::Duplicate),
        Some(_) => Ok(()),
        None => {
            facts.set(Fact::Date, date.to_bits());
            Ok(())
        }
    }
}

/// The reference for a short year if there is neither a `Date` nor a wall clock: the year in which this was written.
const FALLBACK_YEAR: i32 = 2026;
