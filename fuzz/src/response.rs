//! Whole responses: what is read does not depend on how it is fed, and no hint is longer than what was said.

use std::time::Duration;

use retry_machine::{
    Action, ErrorBody, Event, Field, HintSource, Policy, Reader, Repeat, Reply, ResetFormat, RetryMachine, Time,
    Upstream, Why,
};

use super::oracle::{Clock, Date, count, digits, trim};

/// A response as text, so that a fuzzer's mutations stay near to real ones:
/// `STATUS [UNIX_MS [auto|unix|delta]]`, header lines, an empty line, the body. Anything is accepted.
struct Response<'a> {
    status: u16,
    wall: Option<Duration>,
    reset: ResetFormat,
    headers: Vec<(&'a [u8], &'a [u8])>,
    body: &'a [u8],
}

/// A name of one letter stands for one of these.
const NAMES: [&str; 13] = [
    "Retry-After-Ms",
    "x-ms-retry-after-ms",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit-Limit",
    "ratelimit-remaining",
    "RATELIMIT-RESET",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
    "Date",
];

impl<'a> Response<'a> {
    fn parse(data: &'a [u8]) -> Response<'a> {
        let mut lines = data.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(|byte| *byte == b' ');
        let status = words.next().and_then(digits).and_then(|status| u16::try_from(status).ok()).unwrap_or(429);
        let wall = words.next().and_then(digits).map(Duration::from_millis);
        let reset = match words.next() {
            Some(b"unix") => ResetFormat::Unix,
            Some(b"delta") => ResetFormat::Delta,
            _ => ResetFormat::Auto,
        };
        let mut headers = Vec::new();
        let mut read = first.len() + 1;
        for line in lines.take_while(|line| !line.is_empty()) {
            read += line.len() + 1;
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let named = match name {
                [letter @ b'a'..=b'm'] => NAMES[usize::from(letter - b'a')].as_bytes(),
                name => name,
            };
            headers.push((named, value.get(1..).unwrap_or_default()));
        }
        Response { status, wall, reset, headers, body: data.get(read + 1..).unwrap_or_default() }
    }

    fn read(&self) -> Reply {
        Reply::read(self.status, self.headers.iter().copied(), self.wall, self.reset)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |(key, _): &&(&[u8], &[u8])| key.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(named).map(|(_, value)| trim(value))
    }
}

/// `data` is a response.
pub fn check(data: &[u8]) {
    let response = Response::parse(data);
    let reply = response.read();
    assert_eq!(response.read(), reply, "I12");
    assert_eq!(reply.status(), response.status);

    let mut reader = Reader::new(response.status, response.wall, response.reset);
    response.headers.iter().for_each(|(name, value)| reader.feed(name, value));
    assert_eq!(reader.finish(), reply, "H1: fed one by one");

    let mut sorted = response.headers.clone();
    sorted.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    let sorted = Response { headers: sorted, ..response };
    assert_eq!(sorted.read(), reply, "H4: wherever they stand");

    compare(&sorted, &reply);
    explain(&reply, response.body);
}

/// H2–H6, each field by itself.
fn compare(response: &Response<'_>, reply: &Reply) {
    let clock = Clock::new(response.values("date").find_map(Date::parse), response.wall);
    let nanos = |millis: u64| millis.saturating_mul(1_000_000);
    let millis = ["retry-after-ms", "x-ms-retry-after-ms"];
    let millis = millis.iter().flat_map(|name| response.values(name)).filter_map(digits).map(nanos).max();
    let retry_after = response.values("retry-after").filter_map(|value| clock.retry_after(value)).max();
    let families = ["x-ratelimit", "ratelimit"].map(|family| {
        let remaining = response.values(&format!("{family}-remaining")).filter_map(count).min();
        let name = format!("{family}-reset");
        let reset = response.values(&name).filter_map(|value| clock.reset(value, response.reset)).max();
        (remaining, reset)
    });
    let reset = families.iter().filter(|(remaining, _)| *remaining == Some(0)).filter_map(|(_, reset)| *reset).max();
    let structured = response.values("ratelimit").next().is_some();

    let expected = [
        (millis, HintSource::RetryAfterMs),
        (retry_after, HintSource::RetryAfter),
        (reset, HintSource::RateLimitReset),
    ];
    let expected = expected.into_iter().find_map(|(wait, source)| Some((wait?, source)));
    let hint = reply.hint().map(|hint| (hint.wait(), hint.source()));
    let expected = expected.map(|(wait, source)| (Duration::from_nanos(wait), source));
    // Which of several short years is the latest depends on the century.
    let timed = ["retry-after", "x-ratelimit-reset", "ratelimit-reset"];
    let dates = timed.iter().flat_map(|name| response.values(name)).filter_map(Date::parse);
    if dates.filter(|date| date.is_short).count() > 1 {
        return;
    }
    if !structured || hint.is_none_or(|(_, source)| source != HintSource::RateLimitReset) {
        assert_eq!(hint, expected, "H6");
    }
    if !structured {
        assert_eq!(reply.remaining(), families.iter().find_map(|(remaining, _)| *remaining), "F9");
        assert_eq!(reply.reset(), families.iter().find_map(|(_, reset)| *reset).map(Duration::from_nanos), "F9");
    }
    let malformed = response.values("retry-after").any(|value| digits(value).is_none() && Date::parse(value).is_none());
    let reported = reply.rejected().iter().any(|rejected| rejected == (Field::RetryAfter, Why::Malformed));
    assert!(reported || !malformed, "H6: a malformed field is reported");
}

/// E2, L1: a machine takes it, waits as long as it was told to, and everything has a sentence.
fn explain(reply: &Reply, body: &[u8]) {
    let code = match ErrorBody::parse(body) {
        Ok(body) => body.class(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Default::default()
        }
    };
    let reply = reply.with_code(code);
    for policy in [Policy::flextell(), Policy::common()] {
        let counts = reply.status() == 429 || policy.retries(reply.status());
        let mut upstream = Upstream::new(policy);
        let mut machine = RetryMachine::new(Repeat::Safe, 7);
        let start = machine.handle(Time::ZERO, Event::Start, &mut upstream);
        assert!(!start.to_string().is_empty());
        let now = Time::from_millis(1);
        let action = machine.handle(now, Event::Reply(1, reply), &mut upstream);
        assert!(!action.to_string().is_empty());
        match (action, reply.hint()) {
            (Action::Wait { until, .. }, Some(hint)) => assert!(until >= now.saturating_add(hint.wait()), "L1"),
            (action, _) => assert!(counts || action.is_terminal() || reply.status() == 401, "D10"),
        }
    }
    assert!(reply.rejected().is_empty() == reply.rejected().to_string().is_empty());
    assert!(!format!("{reply:?}").is_empty());
}
