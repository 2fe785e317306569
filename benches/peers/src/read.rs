//! Single fields: `Retry-After` in its four forms, and `RateLimit`.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use headers::Header as _;
use http::HeaderValue;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use retry_machine::{Policy, Reply};
use sfv::visitor::{EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef, ListEntry, Parser};
use workloads::{RATE_LIMIT, RETRY_AFTER};

use crate::measure::Contender;

/// The time of the answer since the Unix epoch: 30 s before the dates of [`RETRY_AFTER`].
const NOW: Duration = Duration::from_secs(1_445_412_480);

/// The wait that all forms ask for.
const WAIT: Duration = Duration::from_secs(30);

/// Returns the contenders for `Retry-After` in the form with this index in [`RETRY_AFTER`].
pub fn retry_after(form: usize) -> Vec<Contender> {
    let (_, text) = RETRY_AFTER[form];
    let policy = Policy::common();
    let value = HeaderValue::from_static(text);
    let mut contenders = vec![
        Contender::new(
            "retry-machine",
            "a whole response with this header, read for all fields",
            move || policy.read_at(black_box(Some(NOW)), 503, [("retry-after", black_box(text))]),
            |reply| reply.hint().is_some_and(|hint| hint.wait() == WAIT),
        ),
        no_header(503),
    ];
    if form == 0 {
        contenders.push(Contender::new(
            "by hand",
            "`str::parse::<u64>`: no fraction",
            move || black_box(text).parse().map(Duration::from_secs),
            |wait| *wait == Ok(WAIT),
        ));
    } else {
        contenders.push(Contender::new(
            "httpdate",
            "`parse_http_date`, less the time of the answer; dates only",
            move || httpdate::parse_http_date(black_box(text)).ok()?.duration_since(SystemTime::UNIX_EPOCH + NOW).ok(),
            |wait| *wait == Some(WAIT),
        ));
        let (remark, parse): (_, fn(&str) -> Option<Timestamp>) = [
            ("`fmt::rfc2822`, less the time of the answer", rfc2822 as _),
            ("`strptime` with a format by hand, less the time of the answer", rfc850 as _),
            ("`strptime` with a format by hand, less the time of the answer", asctime as _),
        ][form - 1];
        contenders.push(Contender::new(
            "jiff",
            remark,
            move || {
                let now = Timestamp::UNIX_EPOCH + NOW;
                Duration::try_from(black_box(parse)(black_box(text))?.duration_since(now)).ok()
            },
            |wait| *wait == Some(WAIT),
        ));
    }
    contenders.push(Contender::new(
        "throttle-net",
        "`parse_retry_after_at`",
        move || throttle_net::parse_retry_after_at(black_box(text), black_box(NOW.as_secs() as i64)),
        |wait| *wait == Some(WAIT),
    ));
    contenders.push(Contender::new(
        "headers",
        "`RetryAfter::decode`: checks the value, and does not let it out",
        move || headers::RetryAfter::decode(&mut [black_box(&value)].into_iter()),
        Result::is_ok,
    ));
    contenders
}

fn no_header(status: u16) -> Contender {
    let policy = Policy::common();
    Contender::new(
        "retry-machine, without the header",
        "a whole response without headers: the difference is the field",
        move || policy.read_at(black_box(Some(NOW)), black_box(status), black_box([("", ""); 0])),
        move |reply| *reply == Reply::new(status),
    )
}

fn rfc2822(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

fn rfc850(text: &str) -> Option<Timestamp> {
    strptime("%A, %d-%b-%y %H:%M:%S GMT", text)
}

fn asctime(text: &str) -> Option<Timestamp> {
    strptime("%a %b %d %H:%M:%S %Y", text)
}

fn strptime(format: &str, text: &str) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(DateTime::strptime(format, text).ok()?).ok()
}

/// Returns the contenders for the field `RateLimit`.
pub fn rate_limit() -> Vec<Contender> {
    let policy = Policy::common();
    vec![
        Contender::new(
            "retry-machine",
            "a whole response with this header, read for all fields",
            move || policy.read(200, [("ratelimit", black_box(RATE_LIMIT))]),
            |reply| (reply.remaining(), reply.reset()) == (Some(50), Some(WAIT)),
        ),
        no_header(200),
        Contender::new(
            "sfv, into a `List`",
            "parses any list of RFC 9651, then looks for `r` and `t`",
            || list(black_box(RATE_LIMIT)),
            |limits| *limits == Some((50, 30)),
        ),
        Contender::new(
            "sfv, with a visitor by hand",
            "the same without an allocation",
            || {
                let mut limits = Limits::default();
                Parser::new(black_box(RATE_LIMIT)).parse_list_with_visitor(&mut limits).ok()?;
                Some((limits.remaining?, limits.reset?))
            },
            |limits| *limits == Some((50, 30)),
        ),
    ]
}

fn list(text: &str) -> Option<(i64, i64)> {
    let list = Parser::new(text).parse::<sfv::List>().ok()?;
    let Some(ListEntry::Item(item)) = list.first() else { return None };
    let number = |key: &str| item.params.get(key).and_then(|value| value.as_integer()).map(i64::from);
    Some((number("r")?, number("t")?))
}

/// The numbers of the last member.
#[derive(Default)]
struct Limits {
    remaining: Option<i64>,
    reset: Option<i64>,
}

impl<'de> ListVisitor<'de> for &mut Limits {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(&mut **self)
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<'de> EntryVisitor<'de> for &mut Limits {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for &mut Limits {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, _: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for &mut Limits {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Infallible> {
        let number = value.as_integer().map(i64::from);
        match key.as_str() {
            "r" => self.remaining = number,
            "t" => self.reset = number,
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}
