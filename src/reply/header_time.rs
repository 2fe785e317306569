//! Times as a response states them, and the clock that they are judged by.

use core::cmp::Ordering;
use core::time::Duration;

use super::http_date::{self, HttpDate};
use super::rejected::RejectReason;
use crate::time::{self, NANOS_PER_MILLI};

/// One statement of a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeaderTime {
    /// Nanoseconds after the receipt of the response.
    After(u64),
    /// A Unix time in milliseconds.
    At(i64),
    /// A date with a year of two digits, whose century is not known before the whole response is (rule H3).
    AtShort(HttpDate),
}

/// The latest of each kind that a field said: which of them is the latest of all is known only when the clock is.
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
    /// Takes one more statement (rule H6: the same field twice, the later time wins).
    pub(super) fn add(&mut self, when: HeaderTime) {
        match when {
            HeaderTime::After(wait) => self.wait_lost |= keep(&mut self.after, wait, Ord::cmp),
            HeaderTime::At(at) => self.date_lost |= keep(&mut self.at, at, Ord::cmp),
            // Which of two short years is later depends on the century; within one century is the best guess.
            HeaderTime::AtShort(date) => {
                let seconds = |date: &HttpDate| date.unix_seconds(FALLBACK_YEAR);
                self.date_lost |= keep(&mut self.short, date, |a, b| seconds(a).cmp(&seconds(b)));
            }
        }
    }

    /// Why what was said could not be used, in part or at all.
    pub(super) fn objections(&self, clock: Clock) -> impl Iterator<Item = RejectReason> {
        let has_date = self.at.is_some() || self.short.is_some();
        let undated = has_date && clock.unix_millis.is_none();
        // 29 February in a short year that turned out to have none.
        let impossible = self.short.is_some() && self.dates(clock)[1].is_none();
        let objections = [
            undated.then_some(RejectReason::NoClock),
            impossible.then_some(RejectReason::Malformed),
            self.is_contradictory(clock).then_some(RejectReason::Duplicate),
        ];
        objections.into_iter().flatten()
    }

    /// Nanoseconds from the receipt of the response to the latest of all. What has passed is zero. Without a clock only
    /// waits count (rule H4).
    pub(super) fn resolve(&self, clock: Clock) -> Option<u64> {
        let until = |at: i64| {
            let millis = u64::try_from(at.saturating_sub(clock.unix_millis?)).unwrap_or(0);
            Some(time::millis(millis))
        };
        let [at, short] = self.dates(clock);
        [self.after, at.and_then(until), short.and_then(until)].into_iter().flatten().max()
    }

    /// Whether it was said more than once, and not each time the same instant: then one of them lost. Without a clock
    /// no date wins or loses.
    fn is_contradictory(&self, clock: Clock) -> bool {
        let [at, short] = self.dates(clock);
        let (Some(now), true) = (clock.unix_millis, at.is_some() || short.is_some()) else { return self.wait_lost };
        // A division of 64 bits, but only where a wait and a date stand side by side.
        let at_once = |wait: u64| now.checked_add(i64::try_from(wait / NANOS_PER_MILLI).ok()?);
        let mut ways = [self.after.and_then(at_once), at, short].into_iter().flatten();
        let first = ways.next();
        self.wait_lost || self.date_lost || ways.any(|other| Some(other) != first)
    }

    /// The dates, in Unix milliseconds.
    fn dates(&self, clock: Clock) -> [Option<i64>; 2] {
        let short = self.short.and_then(|date| date.unix_seconds(clock.year()));
        [self.at, short.map(|seconds| seconds.saturating_mul(1_000))]
    }
}

/// Keeps the later of two statements; returns whether they differ.
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

/// What the times of a response are judged by (rule H4): its own `Date`, else the driver's wall clock.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    unix_millis: Option<i64>,
    unix_seconds: Option<i64>,
}

impl Clock {
    /// `date` is in Unix seconds.
    pub(super) fn of(date: Option<i64>, wall_clock: Option<Duration>) -> Clock {
        let wall_seconds = wall_clock.map(|since_epoch| i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX));
        let millis = |seconds: i64| seconds.saturating_mul(1_000);
        let wall_millis = || Some(millis(wall_seconds?).saturating_add(wall_clock?.subsec_millis().into()));
        Clock { unix_millis: date.map(millis).or_else(wall_millis), unix_seconds: date.or(wall_seconds) }
    }

    /// Nanoseconds from the receipt of the response to this time; `None` for a date that no clock can judge.
    pub(super) fn wait(self, time: HeaderTime) -> Option<u64> {
        let mut latest = LatestTime::default();
        latest.add(time);
        latest.resolve(self)
    }

    /// Worked out only where a short year needs it: it takes a division.
    fn year(self) -> i32 {
        self.unix_seconds.map_or(FALLBACK_YEAR, http_date::year_of)
    }
}

/// A response's own `Date` in Unix seconds, if it is one. A short year in it can only be judged by the wall clock.
pub(super) fn own_date(value: &[u8], wall_clock: Option<Duration>) -> Option<i64> {
    let date = HttpDate::parse(value)?;
    let reference = if date.has_two_digit_year() { Clock::of(None, wall_clock).year() } else { FALLBACK_YEAR };
    date.unix_seconds(reference)
}

/// The year near which a short year is taken to lie where neither `Date` nor a wall clock tells: that of this code.
const FALLBACK_YEAR: i32 = 2026;
