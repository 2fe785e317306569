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
//! 11. H2: a decimal is rounded up to whole milliseconds, after the sum in a duration. Its whole part decides
//!     how `auto` reads it.
//! 12. H5: `X-Rate-Limit-*` and `X-RateLimit-*` are one field, reported under the latter name.
//!     `X-RateLimit-Reset-After` is a field of its own in that family: the later of the two counts.
//! 13. H5: after a count and a semicolon anything may follow.
//! 14. H5: a `RateLimit` line that is a list is one. Else it is a dictionary of the three keys of draft 7, or the field
//!     is void. Its dictionary lines are one dictionary, which is one member. A bad value is dropped. Its limit counts where `RateLimit-Policy` has none.
//! 15. H11: a dialect's wait is one more value of `Retry-After` or `retry-after-ms`, its resets and counts are
//!     values of the `X-RateLimit-*` fields. A date is malformed there.
//! 16. H11: two lines of pushbacks are repeated, also under two names and with equal values. Any of their faults is
//!     reported, or that they are repeated.
//! 17. D15: a verdict that loses against `false` is reported as a duplicate.
//! 20. H11: of two limits one of which is part of a used-of-limit, either field is reported.
//! 18. H6: a reply says that nothing remains if any family says so, with or without a reset.
//! 19. D16, H11: the facts are those of the other headers: neither a pushback nor a word of the driver shows.

mod body;
mod challenge;
mod date;
mod number;
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

/// The unit of a field of a dialect (H11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Millis,
    Unix,
    UnixMillis,
    Duration,
    Rfc3339,
}

/// The meaning of a field of a dialect (H11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Wait(Unit),
    Pushback(Unit),
    Reset(Unit),
    Remaining,
    Limit,
    UsedOfLimit,
    Verdict,
}

/// The way in which a service writes its headers (H5, H11). The names are in lower case.
#[derive(Clone, Debug)]
pub struct Dialect {
    pub reset: Reset,
    pub fields: Vec<(String, Meaning)>,
}

/// H11: an order to come back exactly then, in milliseconds, or to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    After(u64),
    Stop,
}

/// The facts of one response. Durations are milliseconds from its receipt, saturating.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// H6: the effective hint, without a pushback.
    pub hint: Option<(u64, Source)>,
    /// H11.
    pub pushback: Option<Pushback>,
    /// D15: a field's verdict, `true` or `false`.
    pub should_retry: Option<bool>,
    pub remaining: Option<u64>,
    pub limit: Option<u64>,
    pub reset_ms: Option<u64>,
    /// H6: a family says that nothing remains.
    pub nothing_remains: bool,
    pub challenge: Option<&'static str>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// D12: the challenge or the code says that the token was revoked.
    pub revoked: bool,
    /// D12: the challenge or the code names a scope or claims, the challenge before the code.
    pub insufficient: Option<&'static str>,
    /// Field and reason.
    pub rejected: BTreeSet<(&'static str, &'static str)>,
    /// Of each list at least one is reported too.
    pub either: Vec<Vec<(&'static str, &'static str)>>,
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
    dialect: &Dialect,
) -> Facts {
    let mut facts = Facts::default();
    // H11: a name of the dialect has that meaning alone.
    let (own, known): (Vec<_>, Vec<_>) = headers.iter().cloned().partition(|(name, _)| dialect.meaning(name).is_some());
    let fields = Fields(&known);

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
    let from_clock = |unix_ms: i128| clock.map(|now| unix_ms.min(i64::MAX.into()) - now).ok_or("no_clock");
    let reference = clock.map(|ms| date::year_of(ms.div_euclid(1000)));
    let from_date = |v: &[u8]| {
        // H3: without a reference year only the form counts.
        let unix = date::parse(v, reference.or(Some(2026))).ok_or("malformed")?;
        from_clock(unix * 1000)
    };

    // H11: the fields of the dialect.
    let mut own_values = Own::default();
    for (name, value) in &own {
        let value = trim(value);
        let time = |unit: Unit| match unit {
            Unit::Seconds => number::seconds(value).map(ended).ok_or("malformed"),
            Unit::Millis => number::millis(value).map(ended).ok_or("malformed"),
            Unit::Duration => number::duration(value).map(ended).ok_or("malformed"),
            Unit::Unix => from_clock(number::seconds(value).ok_or("malformed")?),
            Unit::UnixMillis => from_clock(number::millis(value).ok_or("malformed")?),
            Unit::Rfc3339 => from_clock(date::rfc3339(value).ok_or("malformed")?),
        };
        match dialect.meaning(name).expect("one of its own") {
            Meaning::Wait(Unit::Millis) => own_values.waits_ms.push(time(Unit::Millis)),
            Meaning::Wait(unit) => own_values.waits.push(time(unit)),
            Meaning::Pushback(unit) => own_values.pushbacks.push(time(unit)),
            Meaning::Reset(unit) => own_values.resets.push(time(unit)),
            Meaning::Remaining => own_values.remaining.push(number::count(value)),
            Meaning::Limit => own_values.limits.push(number::count(value)),
            Meaning::UsedOfLimit => match used_of_limit(value) {
                Some((used, limit)) => {
                    own_values.remaining.push(Some(limit.saturating_sub(used)));
                    own_values.used_limits.push(limit);
                }
                None => own_values.remaining.push(None),
            },
            Meaning::Verdict => match value.to_ascii_lowercase().as_slice() {
                b"true" => own_values.verdicts.push(true),
                b"false" => own_values.verdicts.push(false),
                _ => facts.reject("verdict", "malformed"),
            },
        }
    }
    // D15: of values that disagree `false` wins.
    facts.should_retry = own_values.verdicts.iter().copied().reduce(|a, b| a && b);
    if own_values.verdicts.contains(&true) && own_values.verdicts.contains(&false) {
        facts.reject("verdict", "duplicate");
    }
    facts.pushback = match own_values.pushbacks.as_slice() {
        [] => None,
        [Ok(ms)] => Some(Pushback::After(saturated((*ms).max(0)))),
        [Err(why)] => {
            facts.reject("pushback", why);
            Some(Pushback::Stop)
        }
        several => {
            let faults = ["duplicate"].into_iter().chain(several.iter().filter_map(|value| value.err()));
            facts.either.push(faults.map(|why| ("pushback", why)).collect());
            Some(Pushback::Stop)
        }
    };

    // H5, H6: the three kinds of hint.
    let as_millis = |v: &[u8]| number::millis(v).map(ended).ok_or("malformed");
    let millis = [("retry-after-ms", own_values.waits_ms), ("x-ms-retry-after-ms", Vec::new())]
        .into_iter()
        .filter_map(|(name, own)| facts.latest(name, fields.all(name).map(as_millis).chain(own)))
        .max(); // F9: the later counts.
    let seconds = facts.latest(
        "retry-after",
        fields
            .all("retry-after")
            .map(|v| number::seconds(v).map_or_else(|| from_date(v), |ms| Ok(ended(ms)))) // H2
            .chain(own_values.waits),
    );

    // H5: three families of rate limits.
    let reset_of = |v: &[u8]| {
        let (Some(whole), Some(ms), Some(seconds)) = (number::whole(v), number::millis(v), number::seconds(v)) else {
            return from_date(v);
        };
        match dialect.reset {
            Reset::Delta => Ok(ended(seconds)),
            Reset::Auto if whole < 1_000_000_000 => Ok(ended(seconds)),
            Reset::Auto if whole >= 1_000_000_000_000 => from_clock(ms),
            Reset::Auto | Reset::Unix => from_clock(seconds),
        }
    };
    let both = |first, second| fields.all(first).chain(fields.all(second));
    let limits = both("x-ratelimit-limit", "x-rate-limit-limit").map(number::count).chain(own_values.limits);
    let remaining =
        both("x-ratelimit-remaining", "x-rate-limit-remaining").map(number::count).chain(own_values.remaining);
    let resets = both("x-ratelimit-reset", "x-rate-limit-reset").map(reset_of).chain(own_values.resets);
    let reset_after = both("x-ratelimit-reset-after", "x-rate-limit-reset-after")
        .map(|v| number::seconds(v).map(ended).ok_or("malformed"));
    let mut families = vec![(
        facts.smallest("x-ratelimit-remaining", remaining),
        facts.limit_of(limits, &own_values.used_limits),
        facts.latest("x-ratelimit-reset", resets).max(facts.latest("x-ratelimit-reset-after", reset_after)),
    )];
    families.push((
        facts.smallest("ratelimit-remaining", fields.all("ratelimit-remaining").map(number::count)),
        facts.smallest("ratelimit-limit", fields.all("ratelimit-limit").map(number::count)),
        facts.latest("ratelimit-reset", fields.all("ratelimit-reset").map(reset_of)),
    ));
    families.push(structured_family(&mut facts, &fields));
    facts.remaining = families.iter().find_map(|f| f.0);
    facts.limit = families.iter().find_map(|f| f.1);
    facts.reset_ms = families.iter().find_map(|f| f.2);
    facts.nothing_remains = families.iter().any(|f| f.0 == Some(0));
    let closed_for = families.iter().filter(|f| f.0 == Some(0)).filter_map(|f| f.2).max();
    // H6
    facts.hint = None
        .or(millis.map(|ms| (ms, Source::RetryAfterMs)))
        .or(seconds.map(|ms| (ms, Source::RetryAfter)))
        .or(closed_for.map(|ms| (ms, Source::RateLimitReset)));

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
    let said: Vec<&str> = [facts.challenge, facts.code.as_deref()].into_iter().flatten().collect();
    let insufficient = ["insufficient_scope", "insufficient_claims"];
    let first = said.iter().find_map(|said| insufficient.into_iter().find(|word| word == said));
    let revoked = said.contains(&"token_revoked");
    (facts.insufficient, facts.revoked) = (first, revoked);
    facts
}

/// The values of a dialect's fields, oldest first.
#[derive(Default)]
struct Own {
    waits: Vec<Result<i128, &'static str>>,
    waits_ms: Vec<Result<i128, &'static str>>,
    pushbacks: Vec<Result<i128, &'static str>>,
    resets: Vec<Result<i128, &'static str>>,
    remaining: Vec<Option<u64>>,
    limits: Vec<Option<u64>>,
    /// The limits of used-of-limit.
    used_limits: Vec<u64>,
    verdicts: Vec<bool>,
}

impl Dialect {
    fn meaning(&self, name: &str) -> Option<Meaning> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, meaning)| *meaning)
    }
}

/// H11: reads `32/40`, or `api-usage=18/5000`.
fn used_of_limit(value: &[u8]) -> Option<(u64, u64)> {
    // A name has no semicolon: `32;w=60/40` begins with its count.
    let name = value.split(|c| *c == b'=').next().filter(|name| name.len() < value.len() && !name.contains(&b';'));
    let counts = &value[name.map_or(0, |name| name.len() + 1)..];
    let slash = counts.iter().position(|c| *c == b'/')?;
    Some((number::count(trim(&counts[..slash]))?, number::count(trim(&counts[slash + 1..]))?))
}

/// `RateLimit` and `RateLimit-Policy` (H5).
fn structured_family(facts: &mut Facts, fields: &Fields) -> (Option<u64>, Option<u64>, Option<u64>) {
    let mut limits = Vec::new();
    let lines: Vec<&[u8]> = fields.all("ratelimit-policy").collect();
    match structured::list(&lines) {
        Some(list) => {
            for member in list {
                match (member.named(), member.number("q"), member.number("w")) {
                    (true, Ok(Some(limit)), Ok(_)) => limits.push(limit),
                    _ => facts.reject("ratelimit-policy", "malformed"), // A bad value drops its member.
                }
            }
        }
        None => facts.reject("ratelimit-policy", "void"),
    }

    let mut quotas: Vec<(Option<u64>, Option<u64>)> = Vec::new();
    let mut dictionary = structured::Dictionary::default();
    let lines: Vec<&[u8]> = fields.all("ratelimit").collect();
    match lines.iter().map(|line| structured::quotas(line)).collect::<Option<Vec<_>>>() {
        Some(lines) => {
            for line in lines {
                match line {
                    structured::Line::List(members) => {
                        for member in members {
                            match (member.named(), member.number("r"), member.number("t")) {
                                (true, Ok(Some(remaining)), Ok(reset)) => quotas.push((Some(remaining), reset)),
                                _ => facts.reject("ratelimit", "malformed"),
                            }
                        }
                    }
                    structured::Line::Dictionary(entries) => dictionary.extend(entries),
                }
            }
            if dictionary.has_a_bad_value() {
                facts.reject("ratelimit", "malformed");
            }
            quotas.push((dictionary.number("remaining"), dictionary.number("reset")));
        }
        None => facts.reject("ratelimit", "void"),
    }
    let limit = limits.into_iter().min().or(dictionary.number("limit"));
    let remaining = quotas.iter().filter_map(|(remaining, _)| *remaining).min();
    let reset = quotas.iter().filter(|(r, _)| *r == remaining).filter_map(|(_, t)| *t).max();
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

/// T2: time ends after 584 years.
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

    /// H11: returns the smallest limit, also of those that are part of a used-of-limit.
    fn limit_of(&mut self, limits: impl Iterator<Item = Option<u64>>, used: &[u64]) -> Option<u64> {
        let plain = self.smallest("x-ratelimit-limit", limits);
        let of_used = used.iter().copied().min();
        if used.iter().any(|limit| Some(*limit) != of_used) {
            self.reject("x-ratelimit-remaining", "duplicate");
        }
        if let (Some(plain), Some(of_used)) = (plain, of_used) {
            if plain != of_used {
                self.either.push(vec![("x-ratelimit-limit", "duplicate"), ("x-ratelimit-remaining", "duplicate")]);
            }
        }
        [plain, of_used].into_iter().flatten().min()
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
        let any = self.either.iter().filter_map(|list| list.first());
        let all: BTreeSet<_> = self.rejected.iter().chain(any).collect();
        let rejected: Vec<Value> = all.iter().map(|(field, why)| json!({"field": field, "why": why})).collect();
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
        let text = |pair: &(&str, &str)| (pair.0.to_string(), pair.1.to_string());
        let (seen, mine) = (pairs(&seen["rejected"]), self.rejected.iter().map(text).collect::<BTreeSet<_>>());
        let is_seen = |pair: &(&str, &str)| seen.contains(&text(pair));
        let is_allowed = |pair: &(String, String)| {
            mine.contains(pair) || self.either.iter().flatten().any(|(field, why)| pair.0 == *field && pair.1 == *why)
        };
        let is_complete = mine.is_subset(&seen) && self.either.iter().all(|list| list.iter().any(is_seen));
        if is_complete && seen.iter().all(is_allowed) { Ok(()) } else { Err("rejected".into()) }
    }
}
