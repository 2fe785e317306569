//! Whole responses: the reader finds the facts that the reference model finds, in any order, and a machine accepts them.

use std::time::Duration;

use retry_machine::replay::{Facts, Settings};
use retry_machine::{
    Action, DialectField, ErrorBody, Event, HintSource, Idempotency, Policy, Reply, ResetFormat, RetryMachine,
    StatusMeaning, Timestamp, Upstream, Verdict, WaitReason,
};

use super::common::settings::DIALECTS;
use super::model::reference::{model, reading};
use super::second_reader::{Date, digits, trim};

/// A response as text, so that a fuzzer's mutations stay close to real ones: `STATUS [UNIX_MS [auto|unix|delta [DIALECT]]]`,
/// header lines, an empty line, the body. Any bytes are accepted.
struct Response<'a> {
    status: u16,
    wall: Option<Duration>,
    reset: ResetFormat,
    dialect: &'static [DialectField],
    headers: Vec<(&'a [u8], &'a [u8])>,
    body: &'a [u8],
}

const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);

/// The names that a name of one letter abbreviates.
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
        let number = words.next().and_then(digits).and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
        let dialect = DIALECTS[number % DIALECTS.len()];
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
        Response { status, wall, reset, dialect, headers, body: data.get(read + 1..).unwrap_or_default() }
    }

    fn policy(&self, policy: Policy) -> Policy {
        policy.into_builder().rate_limit_reset(self.reset).dialect(self.dialect).build().expect("a policy")
    }

    fn read(&self) -> Reply {
        self.policy(Policy::flextell()).read_at(self.wall, self.status, self.headers.iter().copied())
    }

    /// Returns whether the reader may find less than the model: the model does not saturate at the end of time, and the
    /// order of two short years depends on a century that the reader may not know in time.
    fn is_exotic(&self) -> bool {
        let short_dates = |name| self.values(name).filter_map(Date::parse).filter(|date| date.is_short).count();
        self.wall.is_some_and(|wall| wall > YEAR_9999)
            || ["retry-after", "x-ratelimit-reset", "ratelimit-reset"].into_iter().any(|name| short_dates(name) > 1)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |(key, _): &&(&[u8], &[u8])| key.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(named).map(|(_, value)| trim(value))
    }
}

/// Checks `data` as a response.
pub fn check(data: &[u8]) {
    let response = Response::parse(data);
    let reply = response.read();
    assert_eq!(response.read(), reply, "I12");
    assert_eq!(reply.status(), response.status);

    let mut reader = response.policy(Policy::flextell()).reader(response.wall, response.status);
    response.headers.iter().for_each(|(name, value)| reader.feed(name, value));
    assert_eq!(reader.finish(), reply, "H1: fed one by one");

    let mut sorted = response.headers.clone();
    sorted.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    let sorted = Response { headers: sorted, ..response };
    assert_eq!(sorted.read(), reply, "H4: in any order");

    if !response.is_exotic() {
        compare(&response, &reply);
    }
    explain(&response, reply);
}

/// Compares every fact with those of the reference model (H1–H8, H11, F9).
fn compare(response: &Response<'_>, reply: &Reply) {
    let line = Settings::new(response.policy(Policy::flextell())).to_json().expect("a policy");
    let dialect = model::settings::Settings::read(&line).expect("settings").dialect;
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let headers: Vec<_> = response.headers.iter().map(|(name, value)| (text(name), value.to_vec())).collect();
    let wall = response.wall.map(|wall| i128::try_from(wall.as_millis()).expect("a u64"));
    let is_error = !(200..300).contains(&response.status);
    let body = Some(response.body).filter(|_| is_error);
    let expected = reading::read(response.status.into(), &headers, body, wall, &dialect);
    let body = body.and_then(|body| ErrorBody::parse(body).ok());
    assert_eq!(body.as_ref().and_then(ErrorBody::message), expected.message.as_deref(), "E3");
    let seen = Facts::new(*reply, body.as_ref()).to_json();
    if let Err(what) = expected.compare(&seen) {
        panic!("{what}:\n  read {seen}\n  expected {}", expected.line());
    }
}

/// Checks that a machine accepts the reply and waits for its hint, and that everything has a sentence (E2, L1).
fn explain(response: &Response<'_>, reply: Reply) {
    let code = match ErrorBody::parse(response.body) {
        Ok(body) => body.class(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Default::default()
        }
    };
    let reply = reply.with_code(code);
    for policy in [Policy::flextell(), Policy::common()] {
        let is_retried = [false, true].map(|hinted| policy.meaning(reply.status(), hinted) != StatusMeaning::Surface);
        let counts = is_retried[0] || is_retried[1] || matches!(reply.verdict(), Some(Verdict::Transient));
        let mut upstream = Upstream::new(response.policy(policy));
        let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
        let start = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
        assert!(!start.to_string().is_empty());
        let now = Timestamp::from_millis(1);
        let action = machine.handle(now, Event::Reply { attempt: 1, reply }, &mut upstream);
        assert!(!action.to_string().is_empty());
        match (action, reply.hint()) {
            // H11: a pushback goes before the hint.
            (Action::Wait { reason: WaitReason::Hint(HintSource::Pushback), .. }, _) => {}
            (Action::Wait { until, .. }, Some(hint)) => assert!(until >= now.saturating_add(hint.wait()), "L1"),
            (action, _) => assert!(counts || action.is_terminal() || reply.status() == 401, "D10"),
        }
    }
    assert!(reply.rejected().is_empty() == reply.rejected().to_string().is_empty());
    assert!(!format!("{reply:?}").is_empty());
}
