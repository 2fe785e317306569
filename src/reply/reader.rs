//! Reading a response header by header, in one pass.

use core::time::Duration;

use super::challenge::{self, BearerErrorCode};
use super::dialect::{self, DialectField, FieldMeaning, TimeUnit};
use super::header_time::{self, Clock, HeaderTime, LatestTime};
use super::number::{count, trim, used_of_limit};
use super::rate_limit::{Limits, StructuredLimits};
use super::rejected::{HeaderField, RejectReason, RejectedFields};
use super::retry_after;
use super::{Hint, HintSource, Pushback, Reply, ResetFormat, Verdict};

/// A reader of a response, header by header: [`feed`](Reader::feed) it each header, then [`finish`](Reader::finish).
///
/// It takes one pass, does not allocate, and uses only the names that it knows (rule H1). So it can follow an HTTP parser
/// on a microcontroller. The order of the headers does not matter (rule H4). [`Policy::read`](crate::Policy::read) reads a whole response at
/// once.
///
/// ```
/// use retry_machine::Policy;
///
/// let mut reader = Policy::flextell().reader(None, 503);
/// reader.feed(b"retry-after", b"Wed, 21 Oct 2015 07:28:30 GMT");
/// reader.feed(b"date", b"Wed, 21 Oct 2015 07:28:00 GMT");
/// assert_eq!(reader.finish().hint().unwrap().wait().as_secs(), 30);
/// ```
#[derive(Clone, Debug)]
#[must_use = "`finish` returns the reply"]
pub struct Reader {
    status: u16,
    wall_clock: Option<Duration>,
    rate_limit_reset: ResetFormat,
    dialect: &'static [DialectField],
    /// Unix seconds.
    date: Option<i64>,
    millis: LatestTime,
    x_millis: LatestTime,
    retry_after: LatestTime,
    x_limits: Limits,
    limits: Limits,
    structured: StructuredLimits,
    /// `X-RateLimit-Reset-After`, of the same family.
    x_reset_after: LatestTime,
    challenge: Option<BearerErrorCode>,
    verdict: Option<Verdict>,
    pushback: Option<HeaderTime>,
    /// Whether a pushback was malformed or repeated.
    pushback_stops: bool,
    rejected: RejectedFields,
}

impl Reader {
    pub(crate) fn new(
        status: u16,
        wall_clock: Option<Duration>,
        rate_limit_reset: ResetFormat,
        dialect: &'static [DialectField],
    ) -> Reader {
        Reader {
            status,
            wall_clock,
            rate_limit_reset,
            dialect,
            date: None,
            millis: LatestTime::default(),
            x_millis: LatestTime::default(),
            retry_after: LatestTime::default(),
            x_limits: Limits::default(),
            limits: Limits::default(),
            structured: StructuredLimits::default(),
            x_reset_after: LatestTime::default(),
            challenge: None,
            verdict: None,
            pushback: None,
            pushback_stops: false,
            rejected: RejectedFields::NONE,
        }
    }

    /// Reads one header. The name matches in any case, and the value may be any bytes (rule H1).
    ///
    /// A value that cannot be used has no effect, and [`Reply::rejected`] lists it.
    pub fn feed(&mut self, name: &[u8], value: &[u8]) {
        if !self.dialect.is_empty() {
            if let Some(meaning) = dialect::lookup(self.dialect, name) {
                return self.feed_own(meaning, trim(value));
            }
        }
        let Some(field) = HeaderField::named(name) else { return };
        let value = trim(value);
        let reset = self.rate_limit_reset;
        let result = match field {
            HeaderField::RetryAfterMs => time(&mut self.millis, retry_after::millis(value)),
            HeaderField::XMsRetryAfterMs => time(&mut self.x_millis, retry_after::millis(value)),
            HeaderField::RetryAfter => time(&mut self.retry_after, retry_after::retry_after(value)),
            HeaderField::XRateLimitLimit => smaller(&mut self.x_limits.limit, count(value)),
            HeaderField::XRateLimitRemaining => smaller(&mut self.x_limits.remaining, count(value)),
            HeaderField::XRateLimitReset => time(&mut self.x_limits.reset, retry_after::reset(value, reset)),
            HeaderField::XRateLimitResetAfter => time(&mut self.x_reset_after, retry_after::seconds(value)),
            HeaderField::RateLimitLimit => smaller(&mut self.limits.limit, count(value)),
            HeaderField::RateLimitRemaining => smaller(&mut self.limits.remaining, count(value)),
            HeaderField::RateLimitReset => time(&mut self.limits.reset, retry_after::reset(value, reset)),
            HeaderField::RateLimit => self.structured.add_limits(value),
            HeaderField::RateLimitPolicy => self.structured.add_policies(value),
            HeaderField::WwwAuthenticate => match challenge::bearer_error(value) {
                // H7: the code that makes the machine most careful counts.
                Ok(error) => {
                    self.challenge = BearerErrorCode::most_careful(self.challenge, error);
                    Ok(())
                }
                // F9: a malformed challenge voids only its line.
                Err(_) => Err(RejectReason::Malformed),
            },
            // F9: the first valid `Date` counts.
            HeaderField::Date => match header_time::own_date(value, self.wall_clock) {
                Some(date) if self.date.is_none_or(|first| first == date) => {
                    self.date = Some(date);
                    Ok(())
                }
                Some(_) => Err(RejectReason::Duplicate),
                None => Err(RejectReason::Malformed),
            },
            // Only a dialect has these, under names of its own.
            HeaderField::Verdict | HeaderField::Pushback => Ok(()),
        };
        if let Err(why) = result {
            self.rejected.add(field, why);
        }
    }

    /// Reads a field of the dialect, which is reported as the field that it stands for (H11).
    fn feed_own(&mut self, meaning: FieldMeaning, value: &[u8]) {
        let (field, result) = match meaning {
            FieldMeaning::Wait(TimeUnit::Milliseconds) => {
                (HeaderField::RetryAfterMs, time(&mut self.millis, retry_after::millis(value)))
            }
            FieldMeaning::Wait(unit) => {
                (HeaderField::RetryAfter, time(&mut self.retry_after, retry_after::in_unit(value, unit)))
            }
            FieldMeaning::Reset(unit) => {
                (HeaderField::XRateLimitReset, time(&mut self.x_limits.reset, retry_after::in_unit(value, unit)))
            }
            FieldMeaning::Remaining => {
                (HeaderField::XRateLimitRemaining, smaller(&mut self.x_limits.remaining, count(value)))
            }
            FieldMeaning::Limit => (HeaderField::XRateLimitLimit, smaller(&mut self.x_limits.limit, count(value))),
            FieldMeaning::UsedOfLimit => (HeaderField::XRateLimitRemaining, self.add_usage(value)),
            FieldMeaning::Verdict => (HeaderField::Verdict, self.add_verdict(value)),
            FieldMeaning::Pushback(unit) => {
                (HeaderField::Pushback, self.add_pushback(retry_after::in_unit(value, unit)))
            }
        };
        if let Err(why) = result {
            self.rejected.add(field, why);
        }
    }

    fn add_usage(&mut self, value: &[u8]) -> Result<(), RejectReason> {
        let (used, limit) = used_of_limit(value).ok_or(RejectReason::Malformed)?;
        let limits = [
            smaller(&mut self.x_limits.limit, Some(limit)),
            smaller(&mut self.x_limits.remaining, Some(limit.saturating_sub(used))),
        ];
        limits.into_iter().collect()
    }

    /// Keeps the verdict. Of verdicts that disagree, *final* wins (D15).
    fn add_verdict(&mut self, value: &[u8]) -> Result<(), RejectReason> {
        let verdict = if value.eq_ignore_ascii_case(b"true") {
            Verdict::Transient
        } else if value.eq_ignore_ascii_case(b"false") {
            Verdict::Final
        } else {
            return Err(RejectReason::Malformed);
        };
        let first = *self.verdict.get_or_insert(verdict);
        if first == verdict {
            return Ok(());
        }
        self.verdict = Some(Verdict::Final);
        Err(RejectReason::Duplicate)
    }

    /// Keeps the pushback. One that is malformed or repeated means stop (H11).
    fn add_pushback(&mut self, time: Option<HeaderTime>) -> Result<(), RejectReason> {
        let reason = match (time, self.pushback.is_some()) {
            (Some(_), false) => {
                self.pushback = time;
                return Ok(());
            }
            (Some(_), true) => RejectReason::Duplicate,
            (None, _) => RejectReason::Malformed,
        };
        self.pushback_stops = true;
        Err(reason)
    }

    /// Ends the response and returns its facts (rules H4, H6).
    #[must_use]
    pub fn finish(mut self) -> Reply {
        let clock = Clock::of(self.date, self.wall_clock);
        self.reject_times(clock);
        let pushback = self.pushback(clock);

        let mut x_family = self.x_limits.family(clock);
        x_family.reset = x_family.reset.max(self.x_reset_after.resolve(clock));
        let families = [x_family, self.limits.family(clock), self.structured.family()];
        let exhausted = || families.iter().filter(|family| family.remaining == Some(0));
        // H6: milliseconds, else `Retry-After`, else the latest reset of a limit that has nothing left.
        let millis = self.millis.resolve(clock).max(self.x_millis.resolve(clock));
        let hint = [
            (millis, HintSource::RetryAfterMs),
            (self.retry_after.resolve(clock), HintSource::RetryAfter),
            (exhausted().filter_map(|family| family.reset).max(), HintSource::RateLimitReset),
        ];
        let hint = hint.into_iter().find_map(|(wait, source)| Some(Hint { wait: wait?, source }));
        Reply {
            hint,
            pushback,
            verdict: self.verdict,
            is_exhausted: exhausted().next().is_some(),
            limit: families.iter().find_map(|family| family.limit),
            remaining: families.iter().find_map(|family| family.remaining),
            reset: families.iter().find_map(|family| family.reset),
            challenge: self.challenge,
            rejected: self.rejected,
            ..Reply::new(self.status)
        }
    }

    /// Returns the pushback. One that no clock can judge cannot be obeyed, so that it means stop, too (H11).
    fn pushback(&mut self, clock: Clock) -> Option<Pushback> {
        if self.pushback_stops {
            return Some(Pushback::Stop);
        }
        let time = self.pushback?;
        let wait = clock.wait(time);
        if wait.is_none() {
            self.rejected.add(HeaderField::Pushback, RejectReason::NoClock);
        }
        Some(wait.map_or(Pushback::Stop, Pushback::After))
    }

    /// Records the times that lost against others, and the dates that no clock could place.
    fn reject_times(&mut self, clock: Clock) {
        let times = [
            (HeaderField::RetryAfterMs, &self.millis),
            (HeaderField::XMsRetryAfterMs, &self.x_millis),
            (HeaderField::RetryAfter, &self.retry_after),
            (HeaderField::XRateLimitReset, &self.x_limits.reset),
            (HeaderField::RateLimitReset, &self.limits.reset),
            (HeaderField::XRateLimitResetAfter, &self.x_reset_after),
        ];
        for (field, time) in times {
            time.rejections(clock).for_each(|why| self.rejected.add(field, why));
        }
    }
}

fn time(slot: &mut LatestTime, value: Option<HeaderTime>) -> Result<(), RejectReason> {
    slot.add(value.ok_or(RejectReason::Malformed)?);
    Ok(())
}

/// Keeps the smaller of two numbers (F9).
fn smaller(slot: &mut Option<u64>, value: Option<u64>) -> Result<(), RejectReason> {
    let value = value.ok_or(RejectReason::Malformed)?;
    let first = slot.get_or_insert(value);
    let differs = *first != value;
    *first = value.min(*first);
    if differs { Err(RejectReason::Duplicate) } else { Ok(()) }
}
