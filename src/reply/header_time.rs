//! Times as a response states them, and the clock that places them.

use core::cmp::Ordering;
use core::time::Duration;

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

/// The latest time of each kind in a field. Only the clock tells which of them is the latest of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatestTime {
    after: Option<u64>,
    at: Option<i64>,
    short: Option<HttpDate>,
    /// Whether a wait lost against another, and a date against another.
    wait_lost: bool,
    date_lost: bool,
}

impl LatestTime {
    /// Adds one time (rule H6: if a field comes twice, the later time wins).
    pub(super) fn add(&mut self, when: HeaderTime) {
        match when {
            HeaderTime::After(wait) => self.wait_lost |= keep(&mut self.after, wait, Ord::cmp),
            HeaderTime::At(at) => self.date_lost |= keep(&mut self.at, at, Ord::cmp),
            // The order of two short years depends on the century. The best guess is that they are in the same one.
            HeaderTime::AtShort(date) => {
                let seconds = |date: &HttpDate| date.unix_seconds(FALLBACK_YEAR);
                self.date_lost |= keep(&mut self.short, date, |a, b| seconds(a).cmp(&seconds(b)));
            }
        }
    }

    /// Returns the reasons why some or all of the times could not be used.
    pub(super) fn rejections(&self, clock: Clock) -> impl Iterator<Item = RejectReason> {
        let has_date = self.at.is_some() || self.short.is_some();
        let undated = has_date && clock.unix_millis.is_none();
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
        let [at, short] = self.dates(clock);
        let (Some(now), true) = (clock.unix_millis, at.is_some() || short.is_some()) else { return self.wait_lost };
        // This 64-bit division happens only if there are both a wait and a date.
        let at_once = |wait: u64| now.checked_add(i64::try_from(wait / NANOS_PER_MILLI).ok()?);
        let mut ways = [self.after.and_then(at_once), at, short].into_iter().flatten();
        let first = ways.next();
        self.wait_lost || self.date_lost || ways.any(|other| Some(other) != first)
    }

    /// Returns the dates, in Unix milliseconds.
    fn dates(&self, clock: Clock) -> [Option<i64>; 2] {
        let short = self.short.and_then(|date| date.unix_seconds(clock.year()));
        [self.at, short.map(|seconds| seconds.saturating_mul(1_000))]
    }
}

/// Keeps the later of two times, and returns whether they differ.
fn keep<T: Copy>(slot: &mut Option<T>, new: T, order: impl Fn(&T, &T) -> Ordering) -> bool {
    let Some(old) = *slot else {
        *slot = Some(new);
        return false;
    };
    let order = order(&new, &old);
    if order == Ordering::Greater {
        *slot = Some(new);
    }
    order != Ordering::Equal
}

/// The clock that places a response's dates (rule H4): its own `Date`, else the driver's wall clock.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    unix_millis: Option<i64>,
    unix_seconds: Option<i64>,
}

impl Clock {
    /// Makes the clock of a response. `date` is in Unix seconds.
    pub(super) fn of(date: Option<i64>, wall_clock: Option<Duration>) -> Clock {
        let wall_seconds = wall_clock.map(|since_epoch| i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX));
        let millis = |seconds: i64| seconds.saturating_mul(1_000);
        let wall_millis = || Some(millis(wall_seconds?).saturating_add(wall_clock?.subsec_millis().into()));
        Clock { unix_millis: date.map(millis).or_else(wall_millis), unix_seconds: date.or(wall_seconds) }
    }

    /// Returns the nanoseconds from the receipt of the response to this time, or `None` for a date that no clock can place.
    pub(super) fn wait(self, time: HeaderTime) -> Option<u64> {
        let mut latest = LatestTime::default();
        latest.add(time);
        latest.resolve(self)
    }

    /// Returns the year. Only a short year needs it, so it is not stored.
    fn year(self) -> i32 {
        self.unix_seconds.map_or(FALLBACK_YEAR, http_date::year_of)
    }
}

/// Reads a response's own `Date` in Unix seconds. Only the wall clock can place a short year in it.
pub(super) fn own_date(value: &[u8], wall_clock: Option<Duration>) -> Option<i64> {
    let date = HttpDate::parse(value)?;
    let reference = if date.has_two_digit_year() { Clock::of(None, wall_clock).year() } else { FALLBACK_YEAR };
    date.unix_seconds(reference)
}

/// The reference for a short year if there is neither a `Date` nor a wall clock: the year in which this was written.
const FALLBACK_YEAR: i32 = 2026;
