//! Reads the facts of a reply from its headers and body: slow and obvious, one field at a time.
//!
//! # Readings
//!
//! 1. H3: a wrong weekday is accepted, an unknown day name is malformed.
//! 2. H3: the reference of two-digit years in `Date` itself is the wall clock; without one it is the
//!    year 2026.
//! 3. H4: the wall clock is `unix_ms` plus the event's own `at_ms`. A Unix time in a reset is turned
//!    into a wait like a date, and a date or Unix time in the past is a wait of 0. So is a date in a
//!    reset, which some services send.
//! 4. H6, H5: rate-limit families (`X-RateLimit-*`, `RateLimit-*`, `RateLimit`) are read each by
//!    itself; of those with remaining 0 and a reset the latest counts. The facts take each of
//!    remaining, limit and reset from the first family that has it.
//! 5. H5: of a `RateLimit` field with no `r=0` the facts show the smallest `r`, and the largest `t`
//!    beside it. `RateLimit-Policy` gives the smallest `q` as the limit. Each line is a list of its own:
//!    an empty one has no effect.
//! 6. H6, F9: a loser of two different values of one field is reported as `duplicate`, under the
//!    field's name in lower case. Equal values have no loser. The two millisecond fields are two
//!    fields: two valid ones are not duplicates. Of two limits the smaller counts.
//! 7. H6: every malformed known field is reported, used or not; `Date` too.
//! 8. H7: of several Bearer errors `insufficient_scope` wins, then `insufficient_claims`, then
//!    `token_revoked`, then the first. A malformed line is reported as `malformed`; so is one without
//!    a challenge, and one with a Bearer challenge of two errors. A tab after a scheme is a space.
//! 9. H8: duplicates matter for `error` and `message` only. A body with neither has no effect.
//!    The body of a 2xx is not parsed.
//! 10. Bodies that cannot be used are not reported among the rejected fields.

mod body;
mod challenge;
mod date;
mod structured;

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The format of a rate-limit reset (H5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Auto,
    Unix,
    Delta,
}

/// The field that gave the effective hint (H6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    RetryAfterMs,
    RetryAfter,
    RateLimitReset,
}

/// The facts of one response. Durations are milliseconds from its receipt, saturating.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// H6: the effective hint.
    pub hint: Option<(u64, Source)>,
    pub remaining: Option<u64>,
    pub limit: Option<u64>,
    pub reset_ms: Option<u64>,
    /// S1: the latest reset of a family whose remaining is 0.
    pub closed_for: Option<u64>,
    pub challenge: Option<&'static str>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// D12: the challenge or the code says that a refresh does not help.
    pub refresh_is_useless: bool,
    /// Field and reason.
    pub rejected: BTreeSet<(&'static str, &'static str)>,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Source::RetryAfterMs => "retry_after_ms",
            Source::RetryAfter => "retry_after",
            Source::RateLimitReset => "rate_limit_reset",
        }
    }
}

/// Reads a response. `wall_ms` is the driver's wall clock at its receipt, Unix milliseconds.
pub fn read(
    status: u64,
    headers: &[(String, Vec<u8>)],
    body: Option<&[u8]>,
    wall_ms: Option<i128>,
    reset: Reset,
) -> Facts {
    let mut facts = Facts::default();
    let fields = Fields(headers);

    // H4: the response's own date, else the wall clock.
    let wall_year = wall_ms.map(|ms| date::year_of(ms.div_euclid(1000)));
    let dates: Vec<Option<i128>> = fields.all("date").map(|v| date::parse(v, wall_year.or(Some(2026)))).collect();
    if dates.contains(&None) {
        facts.reject("date", "malformed");
    }
    // F9: of several the first valid one counts; the others are reported.
    let mut valid = dates.iter().flatten();
    if let Some(first) = valid.next() {
        if valid.any(|other| other != first) {
            facts.reject("date", "duplicate");
        }
    }
    let clock = dates.into_iter().flatten().next().map(|seconds| seconds * 1000).or(wall_ms);
    // T2: Unix times end in 292 million years.
    let from_clock = |unix_ms: i128| clock.map(|now| unix_ms.min(i64::MAX.into()) - now);

    // H5, H6: the three kinds of hint.
    let millis = ["retry-after-ms", "x-ms-retry-after-ms"]
        .into_iter()
        .filter_map(|name| {
            facts.latest(name, fields.all(name).map(|v| digits(v).map(|ms| ended(ms.into())).ok_or("malformed")))
        })
        .max(); // F9: the later counts.
    let reference = clock.map(|ms| date::year_of(ms.div_euclid(1000)));
    let from_date = |v: &[u8]| {
        // H3: without a reference year only the form counts.
        let unix = date::parse(v, reference.or(Some(2026))).ok_or("malformed")?;
        from_clock(unix * 1000).ok_or("no_clock")
    };
    let seconds = facts.latest(
        "retry-after",
        fields.all("retry-after").map(|v| {
            digits(v).map_or_else(|| from_date(v), |seconds| Ok(waited(seconds))) // H2
        }),
    );

    // H5: three families of rate limits.
    let mut families = Vec::new();
    for [limit, remaining, at] in [
        ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
        ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
    ] {
        let resets = fields.all(at).map(|v| {
            let Some(value) = digits(v) else {
                return from_date(v);
            };
            let unix_ms = match reset {
                Reset::Delta => return Ok(waited(value)),
                Reset::Auto if value < 1_000_000_000 => return Ok(waited(value)),
                Reset::Auto if value >= 1_000_000_000_000 => i128::from(value),
                Reset::Auto | Reset::Unix => i128::from(value) * 1000,
            };
            from_clock(unix_ms).ok_or("no_clock")
        });
        let reset = facts.latest(at, resets);
        let remaining = facts.smallest(remaining, fields.all(remaining).map(count));
        let limit = facts.smallest(limit, fields.all(limit).map(count));
        families.push((remaining, limit, reset));
    }
    families.push(structured_family(&mut facts, &fields));
    facts.remaining = families.iter().find_map(|f| f.0);
    facts.limit = families.iter().find_map(|f| f.1);
    facts.reset_ms = families.iter().find_map(|f| f.2);
    facts.closed_for = families.iter().filter(|f| f.0 == Some(0)).filter_map(|f| f.2).max();
    // H6
    facts.hint = None
        .or(millis.map(|ms| (ms, Source::RetryAfterMs)))
        .or(seconds.map(|ms| (ms, Source::RetryAfter)))
        .or(facts.closed_for.map(|ms| (ms, Source::RateLimitReset)));

    // H7
    let mut errors = Vec::new();
    for line in fields.all("www-authenticate") {
        match challenge::bearer_errors(line) {
            Ok(list) => errors.extend(list),
            Err(()) => facts.reject("www-authenticate", "malformed"),
        }
    }
    facts.challenge = challenge::weightiest(&errors);

    // H8
    if !(200..300).contains(&status) {
        if let Some(body) = body.and_then(body::parse) {
            facts.code = body.error;
            facts.message = body.message;
        }
    }
    let refresh_is_useless = ["insufficient_scope", "insufficient_claims", "token_revoked"];
    facts.refresh_is_useless =
        [facts.challenge, facts.code.as_deref()].into_iter().flatten().any(|said| refresh_is_useless.contains(&said));
    facts
}

/// `RateLimit` and `RateLimit-Policy` (H5).
fn structured_family(facts: &mut Facts, fields: &Fields) -> (Option<u64>, Option<u64>, Option<u64>) {
    let mut members = |name: &'static str, numbers: [&str; 2]| -> Vec<(u64, Option<u64>)> {
        let lines: Vec<&[u8]> = fields.all(name).collect();
        let Some(list) = structured::list(&lines) else {
            facts.reject(name, "void");
            return Vec::new();
        };
        let mut good = Vec::new();
        for member in list {
            match (member.named(), member.number(numbers[0]), member.number(numbers[1])) {
                (true, Ok(Some(first)), Ok(second)) => good.push((first, second)),
                _ => facts.reject(name, "malformed"), // A bad value drops its member.
            }
        }
        good
    };
    let limits = members("ratelimit-policy", ["q", "w"]);
    let limit = limits.into_iter().map(|(q, _)| q).min();
    let quotas = members("ratelimit", ["r", "t"]);
    let remaining = quotas.iter().map(|(r, _)| *r).min();
    let reset = quotas.iter().filter(|(r, _)| Some(*r) == remaining).filter_map(|(_, t)| *t).max();
    (remaining, limit, reset.map(|seconds| seconds.saturating_mul(1000)))
}

struct Fields<'a>(&'a [(String, Vec<u8>)]);

impl<'a> Fields<'a> {
    /// H1: returns the values of a field, without the white space around them.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| trim(value))
    }
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// H2: reads `1*DIGIT`, saturating.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum: u64, c| sum.saturating_mul(10).saturating_add(u64::from(c - b'0'))))
}

/// H5: reads a count. Some services send fractions, which count as their whole part.
fn count(value: &[u8]) -> Option<u64> {
    let Some(point) = value.iter().position(|c| *c == b'.') else {
        return digits(value);
    };
    digits(&value[point + 1..]).and(digits(&value[..point]))
}

/// T2: converts seconds to milliseconds; time ends after 584 years.
fn waited(seconds: u64) -> i128 {
    ended(i128::from(seconds) * 1000)
}

fn ended(ms: i128) -> i128 {
    ms.min(i128::from(u64::MAX / 1_000_000 + 1))
}

fn saturated(ms: i128) -> u64 {
    u64::try_from(ms).unwrap_or(u64::MAX)
}

impl Facts {
    fn reject(&mut self, field: &'static str, why: &'static str) {
        self.rejected.insert((field, why));
    }

    /// H6: returns the latest of several instants and reports the others. The past is a wait of 0.
    fn latest(&mut self, name: &'static str, values: impl Iterator<Item = Result<i128, &'static str>>) -> Option<u64> {
        self.one(name, values, i128::max).map(|ms| saturated(ms.max(0)))
    }

    /// F9: returns the smallest of several values, and reports the others.
    fn smallest(&mut self, name: &'static str, values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
        self.one(name, values.map(|v| v.ok_or("malformed")), u64::min)
    }

    fn one<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        values: impl Iterator<Item = Result<T, &'static str>>,
        winner: fn(T, T) -> T,
    ) -> Option<T> {
        let mut best: Option<T> = None;
        for value in values {
            match (value, best) {
                (Err(why), _) => self.reject(name, why),
                (Ok(value), None) => best = Some(value),
                (Ok(value), Some(old)) => {
                    if value != old {
                        self.reject(name, "duplicate");
                    }
                    best = Some(winner(value, old));
                }
            }
        }
        best
    }

    /// Returns the facts as `replay --facts` prints them.
    pub fn line(&self) -> Value {
        let rejected: Vec<Value> =
            self.rejected.iter().map(|(field, why)| json!({"field": field, "why": why})).collect();
        json!({
            "hint_ms": self.hint.map(|(ms, _)| ms), "hint_source": self.hint.map(|(_, source)| source.name()),
            "remaining": self.remaining, "limit": self.limit, "reset_ms": self.reset_ms,
            "challenge": self.challenge, "code": self.code, "rejected": rejected,
        })
    }

    /// Compares the facts with those of an implementation. Values beyond the range of its numbers are
    /// equal, and the order of `rejected` is free.
    pub fn compare(&self, seen: &Value) -> Result<(), String> {
        const NANOS: u64 = u64::MAX / 1_000_000; // T2: milliseconds that fit a `u64` of nanoseconds.
        let same = |key: &str, mine: Option<u64>, most: u64| match (mine, &seen[key]) {
            (None, Value::Null) => Ok(()),
            (Some(mine), seen) if seen.as_u64().is_some_and(|s| s == mine || (s >= most && mine >= most)) => Ok(()),
            _ => Err(key.to_string()),
        };
        same("hint_ms", self.hint.map(|(ms, _)| ms), NANOS)?;
        same("reset_ms", self.reset_ms, NANOS)?;
        same("remaining", self.remaining, u64::from(u32::MAX))?;
        same("limit", self.limit, u64::from(u32::MAX))?;
        let line = self.line();
        for key in ["hint_source", "challenge", "code"] {
            if seen[key] != line[key] {
                return Err(key.to_string());
            }
        }
        let pairs = |list: &Value| -> BTreeSet<(String, String)> {
            let text = |v: &Value| v.as_str().unwrap_or("?").to_string();
            list.as_array().into_iter().flatten().map(|r| (text(&r["field"]), text(&r["why"]))).collect()
        };
        if pairs(&seen["rejected"]) == pairs(&line["rejected"]) { Ok(()) } else { Err("rejected".into()) }
    }
}
