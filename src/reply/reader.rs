//! Reading a response header by header, in one pass.

use core::time::Duration;

use super::challenge::{self, BearerErrorCode};
use super::header_time::{self, Clock, HeaderTime, LatestTime};
use super::rate_limit::{Limits, StructuredLimits};
use super::rejected::{HeaderField, RejectReason, RejectedFields};
use super::retry_after::{self, count, trim};
use super::{Hint, HintSource, Reply, ResetFormat};

/// A reader of a response, header by header: [`feed`](Reader::feed) it each header, then [`finish`](Reader::finish).
///
/// It takes one pass, does not allocate, and uses only the names that it knows (rule H1). So it can follow an HTTP parser
/// on a microcontroller. The order of the headers does not matter (rule H4). [`Reply::read`] reads a whole response at
/// once.
///
/// ```
/// use retry_machine::{Reader, ResetFormat};
///
/// let mut reader = Reader::new(503, None, ResetFormat::Auto);
/// reader.feed(b"retry-after", b"Wed, 21 Oct 2015 07:28:30 GMT");
/// reader.feed(b"date", b"Wed, 21 Oct 2015 07:28:00 GMT");
/// assert_eq!(reader.finish().hint().unwrap().wait().as_secs(), 30);
/// ```
#[derive(Clone, Debug)]
#[must_use = "`finish` returns the reply"]
pub struct Reader {
    status: u16,
    wall_clock: Option<Duration>,
    reset: ResetFormat,
    /// Unix seconds.
    date: Option<i64>,
    millis: LatestTime,
    x_millis: LatestTime,
    retry_after: LatestTime,
    x_limits: Limits,
    limits: Limits,
    structured: StructuredLimits,
    challenge: Option<BearerErrorCode>,
    rejected: RejectedFields,
}

impl Reader {
    /// Starts to read a response. The arguments are those of [`Reply::read`].
    pub fn new(status: u16, wall_clock: Option<Duration>, reset: ResetFormat) -> Reader {
        Reader {
            status,
            wall_clock,
            reset,
            date: None,
            millis: LatestTime::default(),
            x_millis: LatestTime::default(),
            retry_after: LatestTime::default(),
            x_limits: Limits::default(),
            limits: Limits::default(),
            structured: StructuredLimits::default(),
            challenge: None,
            rejected: RejectedFields::NONE,
        }
    }

    /// Reads one header. The name matches in any case, and the value may be any bytes (rule H1).
    ///
    /// A value that cannot be used has no effect, and [`Reply::rejected`] lists it.
    pub fn feed(&mut self, name: &[u8], value: &[u8]) {
        let Some(field) = HeaderField::named(name) else { return };
        let value = trim(value);
        let reset = self.reset;
        let verdict = match field {
            HeaderField::RetryAfterMs => time(&mut self.millis, retry_after::millis(value)),
            HeaderField::XMsRetryAfterMs => time(&mut self.x_millis, retry_after::millis(value)),
            HeaderField::RetryAfter => time(&mut self.retry_after, retry_after::retry_after(value)),
            HeaderField::XRateLimitLimit => smaller(&mut self.x_limits.limit, count(value)),
            HeaderField::XRateLimitRemaining => smaller(&mut self.x_limits.remaining, count(value)),
            HeaderField::XRateLimitReset => time(&mut self.x_limits.reset, retry_after::reset(value, reset)),
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
        };
        if let Err(why) = verdict {
            self.rejected.add(field, why);
        }
    }

    /// Ends the response and returns its facts (rules H4, H6).
    #[must_use]
    pub fn finish(mut self) -> Reply {
        let clock = Clock::of(self.date, self.wall_clock);
        self.reject_times(clock);

        let families = [self.x_limits.family(clock), self.limits.family(clock), self.structured.family()];
        // H5, S1: the latest reset of the limits with nothing left, so that none is called too soon.
        let closed_for = families.iter().filter(|family| family.remaining == Some(0)).filter_map(|f| f.reset).max();
        // H6: milliseconds, else `Retry-After`, else a reset.
        let millis = self.millis.resolve(clock).max(self.x_millis.resolve(clock));
        let hint = [
            (millis, HintSource::RetryAfterMs),
            (self.retry_after.resolve(clock), HintSource::RetryAfter),
            (closed_for, HintSource::RateLimitReset),
        ];
        let hint = hint.into_iter().find_map(|(wait, source)| Some(Hint { wait: wait?, source }));
        Reply {
            hint,
            closed_for,
            limit: families.iter().find_map(|family| family.limit),
            remaining: families.iter().find_map(|family| family.remaining),
            reset: families.iter().find_map(|family| family.reset),
            challenge: self.challenge,
            rejected: self.rejected,
            ..Reply::new(self.status)
        }
    }

    /// Records the times that lost against others, and the dates that no clock could place.
    fn reject_times(&mut self, clock: Clock) {
        let times = [
            (HeaderField::RetryAfterMs, &self.millis),
            (HeaderField::XMsRetryAfterMs, &self.x_millis),
            (HeaderField::RetryAfter, &self.retry_after),
            (HeaderField::XRateLimitReset, &self.x_limits.reset),
            (HeaderField::RateLimitReset, &self.limits.reset),
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

/// Keeps the smaller of two numbers (rule F9).
fn smaller(slot: &mut Option<u64>, value: Option<u64>) -> Result<(), RejectReason> {
    let value = value.ok_or(RejectReason::Malformed)?;
    let first = slot.get_or_insert(value);
    let differs = *first != value;
    *first = value.min(*first);
    if differs { Err(RejectReason::Duplicate) } else { Ok(()) }
}
