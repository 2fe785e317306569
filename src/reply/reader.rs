//! Reading a response header by header, in one pass.

use core::time::Duration;

use super::challenge::{self, BearerErrorCode};
use super::common_fields::{self, Meaning};
use super::dialect::{self, DialectField, TimeUnit};
use super::facts::{Fact, FactSet, Facts};
use super::header_time::{self, Clock, HeaderTime, TimeFacts};
use super::number::{count, trim, used_of_limit};
use super::rate_limit::{self, Family};
use super::rejected::{HeaderField, RejectReason, RejectedFields};
use super::retry_after;
use super::{EXHAUSTED, Hint, HintSource, LIMIT, Pushback, REMAINING, RESET, Reply, ResetFormat, Verdict};

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
    rate_limit_reset: ResetFormat,
    challenge: Option<BearerErrorCode>,
    verdict: Option<Verdict>,
    dialect: &'static [DialectField],
    pushback: Option<HeaderTime>,
    facts: Facts,
    rejected: RejectedFields,
}

impl Reader {
    pub(crate) fn new(
        status: u16,
        wall_clock: Option<Duration>,
        rate_limit_reset: ResetFormat,
        dialect: &'static [DialectField],
    ) -> Reader {
        let mut facts = Facts::NONE;
        if let Some(since_epoch) = wall_clock {
            header_time::add_wall_clock(since_epoch, &mut facts);
        }
        Reader {
            status,
            rate_limit_reset,
            challenge: None,
            verdict: None,
            dialect,
            pushback: None,
            facts,
            rejected: RejectedFields::NONE,
        }
    }

    /// Reads one header. The name matches in any case, and the value may be any bytes (rule H1).
    ///
    /// A value that cannot be used has no effect, and [`Reply::rejected`] lists it.
    #[inline]
    pub fn feed(&mut self, name: &[u8], value: &[u8]) {
        if !self.dialect.is_empty() {
            self.feed_in_dialect(name, value);
        } else if common_fields::may_have(name) {
            // Few headers of a response come here.
            self.feed_in_common(name, value);
        }
    }

    fn feed_in_dialect(&mut self, name: &[u8], value: &[u8]) {
        match dialect::lookup(self.dialect, name) {
            Some(meaning) => self.feed_as(common_fields::of_dialect(meaning), value),
            None => self.feed_in_common(name, value),
        }
    }

    fn feed_in_common(&mut self, name: &[u8], value: &[u8]) {
        if let Some(field) = common_fields::lookup(name) {
            self.feed_as(field, value);
        }
    }

    /// Reads the value of a field with this meaning. A value that cannot be used is reported as this field.
    fn feed_as(&mut self, (field, meaning): (HeaderField, Meaning), value: &[u8]) {
        let value = trim(value);
        let facts = &mut self.facts;
        let result = match meaning {
            Meaning::Wait(fact, unit) => {
                good(retry_after::wait(value, unit)).and_then(|wait| facts.keep_larger(fact, wait))
            }
            Meaning::Time(times, unit) => {
                good(retry_after::in_unit(value, unit)).and_then(|time| times.add(time, facts))
            }
            Meaning::RetryAfter => {
                time_or_date(TimeFacts::RETRY_AFTER, retry_after::in_unit(value, TimeUnit::Seconds), value, facts)
            }
            Meaning::Reset(times) => {
                time_or_date(times, retry_after::reset(value, self.rate_limit_reset), value, facts)
            }
            // F9: of two counts the smaller counts.
            Meaning::Count(fact) => good(count(value)).and_then(|count| facts.keep_smaller(fact, count)),
            Meaning::UsedOfLimit => usage(value, facts),
            Meaning::RateLimit => rate_limit::add_limits(value, facts),
            Meaning::RateLimitPolicy => rate_limit::add_policies(value, facts),
            Meaning::WwwAuthenticate => match challenge::bearer_error(value) {
                // H7: the code that makes the machine most careful counts.
                Ok(error) => {
                    self.challenge = BearerErrorCode::most_careful(self.challenge, error);
                    Ok(())
                }
                // F9: a malformed challenge voids only its line.
                Err(_) => Err(RejectReason::Malformed),
            },
            Meaning::Date => header_time::add_own_date(value, facts),
            Meaning::Verdict => self.add_verdict(value),
            Meaning::Pushback(unit) => self.add_pushback(retry_after::in_unit(value, unit)),
        };
        if let Err(why) = result {
            self.rejected.add(field, why);
        }
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

    /// Keeps the pushback.
    fn add_pushback(&mut self, time: Option<HeaderTime>) -> Result<(), RejectReason> {
        match (time, self.pushback) {
            (None, _) => Err(RejectReason::Malformed),
            (Some(_), Some(_)) => Err(RejectReason::Duplicate),
            (Some(_), None) => {
                self.pushback = time;
                Ok(())
            }
        }
    }

    /// Ends the response and returns its facts (rules H4, H6).
    #[must_use]
    #[inline]
    pub fn finish(self) -> Reply {
        self.reply()
    }

    pub(crate) fn reply(&self) -> Reply {
        let mut reply = Reply::new(self.status);
        reply.challenge = self.challenge;
        reply.verdict = self.verdict;
        reply.rejected = self.rejected;
        if self.facts.have_any(FactSet::ABOUT_RETRIES) {
            self.add_hint_and_limits(&mut reply);
        }
        if !self.dialect.is_empty() {
            self.add_pushback_to(&mut reply);
        }
        reply
    }

    // Most responses do not come here.
    #[inline(never)]
    fn add_hint_and_limits(&self, reply: &mut Reply) {
        let facts = &self.facts;
        let mut clock = Clock::NONE;
        if facts.have_any(FactSet::DATES) {
            clock = Clock::of(facts);
            for (field, times) in TIMES {
                if times.have_date(facts) {
                    times.reject_dates(field, facts, clock, &mut reply.rejected);
                }
            }
        }
        // H6: milliseconds, else `Retry-After`, else the latest reset of a limit that has nothing left.
        let millis = facts.get(Fact::RetryAfterMs).max(facts.get(Fact::XMsRetryAfterMs));
        if let Some(wait) = millis {
            reply.set_hint(Hint { wait, source: HintSource::RetryAfterMs });
        } else if let Some(wait) = TimeFacts::RETRY_AFTER.resolve(facts, clock) {
            reply.set_hint(Hint { wait, source: HintSource::RetryAfter });
        }
        // F9: the first family that states a fact counts.
        if facts.have_any(FactSet::WITH_X) {
            reply.add_family(Family::with_x(facts, clock));
        }
        if facts.have_any(FactSet::WITHOUT_X) {
            reply.add_family(Family::without_x(facts, clock));
        }
        if facts.have_any(FactSet::STRUCTURED) {
            reply.add_family(Family::structured(facts, self.rejected));
        }
    }

    /// Adds the pushback. One that is malformed or repeated means stop, and so does one that no clock can judge, since it
    /// cannot be obeyed (H11).
    #[inline(never)]
    fn add_pushback_to(&self, reply: &mut Reply) {
        let is_rejected = |why| self.rejected.contains(HeaderField::Pushback, why);
        if is_rejected(RejectReason::Malformed) || is_rejected(RejectReason::Duplicate) {
            reply.set_pushback(Pushback::Stop);
        } else if let Some(time) = self.pushback {
            let wait = Clock::of(&self.facts).wait(time);
            if wait.is_none() {
                reply.rejected.add(HeaderField::Pushback, RejectReason::NoClock);
            }
            reply.set_pushback(wait.map_or(Pushback::Stop, Pushback::After));
        }
    }
}

impl Reply {
    /// Adds the facts of a family of rate-limit fields that the families before it have not stated.
    fn add_family(&mut self, family: Family) {
        self.state(LIMIT, family.limit, |reply| &mut reply.limit);
        self.state(REMAINING, family.remaining, |reply| &mut reply.remaining);
        self.state(RESET, family.reset, |reply| &mut reply.reset);
        if family.remaining == Some(0) {
            self.known |= EXHAUSTED;
            // H6: of several such resets the latest is the hint, unless a field says how long to wait.
            if let (None | Some(HintSource::RateLimitReset), Some(reset)) = (self.hint_source, family.reset) {
                self.set_hint(Hint { wait: self.hint.max(reset), source: HintSource::RateLimitReset });
            }
        }
    }

    fn state(&mut self, which: u8, number: Option<u64>, slot: impl Fn(&mut Reply) -> &mut u64) {
        if let (0, Some(number)) = (self.known & which, number) {
            *slot(self) = number;
            self.known |= which;
        }
    }
}

/// The fields with times, in the order of their precedence.
const TIMES: [(HeaderField, TimeFacts); 3] = [
    (HeaderField::RetryAfter, TimeFacts::RETRY_AFTER),
    (HeaderField::XRateLimitReset, TimeFacts::X_RESET),
    (HeaderField::RateLimitReset, TimeFacts::RESET),
];

/// Returns a value that could be read.
fn good<T>(value: Option<T>) -> Result<T, RejectReason> {
    value.ok_or(RejectReason::Malformed)
}

/// Adds a time that a number states, or else the HTTP-date that the value is.
fn time_or_date(
    times: TimeFacts,
    time: Option<HeaderTime>,
    value: &[u8],
    facts: &mut Facts,
) -> Result<(), RejectReason> {
    match time {
        Some(time) => times.add(time, facts),
        None => times.add_date(value, facts),
    }
}

fn usage(value: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
    let (used, limit) = good(used_of_limit(value))?;
    let limit_result = facts.keep_smaller(Fact::XLimit, limit);
    facts.keep_smaller(Fact::XRemaining, limit.saturating_sub(used)).and(limit_result)
}
