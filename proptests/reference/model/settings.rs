//! The settings line of a trace (`docs/trace_format.md`).

use super::super::reading::{Dialect, Meaning as FieldMeaning, Reset, Unit};
use super::json::{keys, text, whole, whole_or_null};
use super::span::{Ns, Span, from_ms};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// B2, F2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    None,
    Spread,
    Above,
    Decorrelated,
    /// In thousandths of the wait.
    Band {
        down: u64,
        up: u64,
    },
}

/// D11: the meaning of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Surface,
    Retry,
    RetryIfSafe,
    Throttle,
}

/// D11: the meaning of a status for a reply without a hint, and for one with a hint.
#[derive(Clone, Copy, Debug)]
pub struct On {
    pub plain: Meaning,
    pub hinted: Meaning,
}

/// B1: a wait that grows.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    pub base: Ns,
    /// A ratio, at least 1.
    pub factor: (u64, u64),
    pub cap: Ns,
}

/// K10: the answer to a 401 for a young token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YoungToken {
    Refresh,
    Surface,
    Retry,
}

/// S2: when a retry is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// When it is granted.
    Retry,
    /// When an attempt fails that may be retried.
    Failure,
}

/// S2: the amount that a good answer gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refund {
    Fixed,
    LastCost,
    Paid,
}

/// S2, in tokens.
#[derive(Clone, Debug)]
pub struct Budget {
    pub capacity: u64,
    pub floor: u64,
    pub retry_cost: u64,
    pub throttle_cost: u64,
    pub charge: Charge,
    pub success_refund: u64,
    pub refund: Refund,
    /// C4: the time that brings one token; 0: time brings none.
    pub refill_every: Ns,
}

/// S3.
#[derive(Clone, Debug)]
pub struct BreakerSettings {
    pub failures: u64,
    pub open: Ns,
}

/// The policy of a trace, all durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// T5.
    pub seed: u64,
    pub unix_ms: Option<u64>,
    pub growth: Growth,
    /// B1: the back-off of throttles, if they have one of their own.
    pub throttled: Option<Growth>,
    pub jitter: Jitter,
    pub spread: Ns,
    pub max_retries: u64,
    /// B5: the limit of throttled retries, if they are counted apart.
    pub throttle_retries: Option<u64>,
    pub max_token_recoveries: u64,
    pub max_server_wait: Ns,
    pub deadline: Option<Ns>,
    pub attempt_timeout: Option<Ns>,
    /// D11: the statuses that are not surfaced.
    pub on: BTreeMap<u64, On>,
    pub dialect: Dialect,
    pub refresh_on_insufficient: bool,
    /// K9: whether a login begins with a token.
    pub token: bool,
    pub young_token: YoungToken,
    /// S1: whether there is a gate.
    pub gate: bool,
    pub budget: Option<Budget>,
    pub breaker: Option<BreakerSettings>,
    pub refresh_timeout: Ns,
    pub refresh_margin: Ns,
    pub token_expires_in: Option<Ns>,
}

impl Settings {
    pub fn read(line: &Value) -> Result<Settings, String> {
        let line = line.as_object().ok_or("the settings are not an object")?;
        let mut settings = Settings::flextell();
        // D11, D14: the short forms of the first version, with the preset's value for the one that is not given.
        let (mut retried, mut ambiguous) = (vec![429, 500, 503], false);
        match line.get("preset").map(|v| text(v, "preset")).transpose()? {
            None | Some("flextell") => {}
            Some("common") => {
                settings.on = common();
                settings.young_token = YoungToken::Surface; // K10
                (retried, ambiguous) = (vec![408, 425, 429, 500, 502, 503, 504], true);
            }
            Some(other) => return Err(format!("preset: {other} is unknown")),
        }
        if line.contains_key("retry_statuses") || line.contains_key("ambiguous_5xx") {
            if let Some(value) = line.get("retry_statuses") {
                let list = value.as_array().ok_or("retry_statuses: not a list")?;
                retried = list.iter().map(|v| whole(v, "retry_statuses")).collect::<Result<_, _>>()?;
            }
            if let Some(value) = line.get("ambiguous_5xx") {
                ambiguous = value.as_bool().ok_or("ambiguous_5xx: not a boolean")?;
            }
            settings.on.clear();
            for status in retried {
                let meaning = match status {
                    429 => Meaning::Throttle,
                    500..=599 if ambiguous && status != 503 => Meaning::RetryIfSafe,
                    _ => Meaning::Retry,
                };
                settings.set_meaning("retry_statuses", status..=status, On { plain: meaning, hinted: meaning })?;
            }
        }
        for (key, value) in line {
            settings.set(key, value)?;
        }
        Ok(settings)
    }

    fn flextell() -> Settings {
        let on = |meaning| On { plain: meaning, hinted: meaning };
        Settings {
            seed: 7,
            unix_ms: None,
            growth: Growth { base: from_ms(1_000), factor: (2, 1), cap: from_ms(60_000) },
            throttled: None,
            jitter: Jitter::Spread,
            spread: from_ms(500),
            max_retries: 5,
            throttle_retries: None,
            max_token_recoveries: 1,
            max_server_wait: from_ms(300_000),
            deadline: None,
            attempt_timeout: None,
            on: BTreeMap::from([(429, on(Meaning::Throttle)), (500, on(Meaning::Retry)), (503, on(Meaning::Retry))]),
            dialect: Dialect { reset: Reset::Auto, fields: Vec::new() },
            refresh_on_insufficient: false,
            token: true,
            young_token: YoungToken::Refresh, // K10
            gate: true,
            budget: Some(Budget {
                capacity: 25, // C1
                floor: 0,
                retry_cost: 5,
                throttle_cost: 5,
                charge: Charge::Retry,
                success_refund: 1,
                refund: Refund::Paid,          // C3
                refill_every: from_ms(60_000), // C4
            }),
            breaker: Some(BreakerSettings { failures: 7, open: from_ms(10_000) }), // C5
            refresh_timeout: from_ms(30_000),
            refresh_margin: from_ms(30_000),
            token_expires_in: None,
        }
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let ms = || whole(value, key).map(from_ms);
        let ms_or_null = || Ok::<_, String>(whole_or_null(value, key)?.map(from_ms));
        match key {
            "preset" => {}
            // `read` has read these.
            "retry_statuses" => {}
            "ambiguous_5xx" => {}
            "seed" => self.seed = whole(value, key)?,
            "unix_ms" => self.unix_ms = whole_or_null(value, key)?,
            "base_ms" => self.growth.base = ms()?,
            "factor" => self.growth.factor = ratio(value)?,
            // A key that is left out has the preset's value.
            "throttled" => {
                let preset = Settings::flextell().growth;
                self.throttled = part(value, key)?.map(|map| Growth::read(map, preset)).transpose()?;
            }
            "cap_ms" => self.growth.cap = ms()?,
            "jitter" => self.jitter = Jitter::read(value)?,
            "spread_ms" => self.spread = ms()?,
            "max_retries" => self.max_retries = short(whole(value, key)?, key)?,
            "throttle_retries" => {
                self.throttle_retries = whole_or_null(value, key)?.map(|limit| short(limit, key)).transpose()?;
            }
            "max_recoveries" => self.max_token_recoveries = whole(value, key)?,
            "max_server_wait_ms" => self.max_server_wait = ms()?,
            "deadline_ms" => self.deadline = ms_or_null()?,
            "attempt_timeout_ms" => self.attempt_timeout = ms_or_null()?,
            "on" => {
                for entry in value.as_array().ok_or("on: not a list")? {
                    self.set_on(entry)?;
                }
            }
            "reset" => {
                self.dialect.reset = match text(value, key)? {
                    "auto" => Reset::Auto,
                    "unix" => Reset::Unix,
                    "delta" => Reset::Delta,
                    other => return Err(format!("reset: {other} is unknown")),
                }
            }
            "fields" => {
                let list = value.as_array().ok_or("fields: not a list")?;
                self.dialect.fields = list.iter().map(field).collect::<Result<Vec<_>, _>>()?;
                let names: BTreeSet<_> = self.dialect.fields.iter().map(|(name, _)| name).collect();
                if names.len() < self.dialect.fields.len() || names.iter().any(|name| name.is_empty()) {
                    return Err("fields: each name once, and none empty".into());
                }
            }
            "refresh_on_insufficient" => {
                self.refresh_on_insufficient = value.as_bool().ok_or("refresh_on_insufficient: not a boolean")?;
            }
            "token" => self.token = value.as_bool().ok_or("token: not a boolean")?,
            "young_token" => {
                self.young_token = match text(value, key)? {
                    "refresh" => YoungToken::Refresh,
                    "surface" => YoungToken::Surface,
                    "retry" => YoungToken::Retry,
                    other => return Err(format!("young_token: {other} is unknown")),
                }
            }
            "gate" => self.gate = value.as_bool().ok_or("gate: not a boolean")?,
            "budget" => self.budget = part(value, key)?.map(Budget::read).transpose()?,
            "breaker" => self.breaker = part(value, key)?.map(BreakerSettings::read).transpose()?,
            "refresh_timeout_ms" => self.refresh_timeout = ms()?,
            "refresh_margin_ms" => self.refresh_margin = ms()?,
            "token_expires_in_ms" => self.token_expires_in = ms_or_null()?,
            other => return Err(format!("{other}: unknown key")),
        }
        Ok(())
    }

    /// D11: `[statuses, meaning]` or `[statuses, plain, hinted]`.
    fn set_on(&mut self, entry: &Value) -> Result<(), String> {
        let wrong = "on: an entry has statuses and one or two meanings";
        let (statuses, on) = match entry.as_array().ok_or(wrong)?.as_slice() {
            [statuses, both] => (statuses, On { plain: Meaning::read(both)?, hinted: Meaning::read(both)? }),
            [statuses, plain, hinted] => {
                (statuses, On { plain: Meaning::read(plain)?, hinted: Meaning::read(hinted)? })
            }
            _ => return Err(wrong.into()),
        };
        let range = match statuses {
            Value::String(text) => {
                let (first, last) = text.split_once('-').ok_or("on: not a range")?;
                let number = |text: &str| text.parse::<u64>().map_err(|_| "on: not a range");
                number(first)?..=number(last)?
            }
            number => {
                let status = whole(number, "on")?;
                status..=status
            }
        };
        self.set_meaning("on", range, on)
    }

    fn set_meaning(&mut self, key: &str, statuses: std::ops::RangeInclusive<u64>, on: On) -> Result<(), String> {
        let allowed = 400..=599;
        let ends_are_allowed = allowed.contains(statuses.start()) && allowed.contains(statuses.end());
        if !ends_are_allowed || statuses.is_empty() || statuses.contains(&401) {
            return Err(format!("{key}: only 400 to 599 without 401"));
        }
        for status in statuses {
            self.on.insert(status, on); // Later entries win.
        }
        Ok(())
    }

    /// D11.
    pub fn meaning(&self, status: u64, hinted: bool) -> Meaning {
        match self.on.get(&status) {
            None => Meaning::Surface,
            Some(on) => {
                if hinted {
                    on.hinted
                } else {
                    on.plain
                }
            }
        }
    }

    /// B1: returns the growth of the wait before a retry.
    pub fn growth(&self, throttled: bool) -> Growth {
        self.throttled.filter(|_| throttled).unwrap_or(self.growth)
    }

    /// B2, F2: returns the bounds of the back-off of retry `n`. For decorrelated jitter `previous` is the
    /// longest that the previous back-off of this growth can have been.
    pub fn backoff(&self, growth: Growth, n: u64, previous: Option<Ns>) -> Span {
        let (wait, cap) = (growth.wait(n), growth.cap);
        // B2: at the cap the jitter survives below it.
        let around = |down: Ns, up: Ns| {
            if wait >= cap {
                Span::new((cap - down.max(up)).max(0), cap)
            } else {
                Span::new((wait - down).max(0), (wait + up).min(cap))
            }
        };
        let share = |thousandths: u64| wait * Ns::from(thousandths) / 1000;
        match self.jitter {
            Jitter::None => Span::exactly(wait),
            Jitter::Spread => around(self.spread, self.spread),
            Jitter::Above => around(0, self.spread),
            Jitter::Band { down, up } => around(share(down), share(up)),
            Jitter::Decorrelated => {
                let hi = (3 * previous.unwrap_or(growth.base)).min(cap);
                Span::new(growth.base.min(hi), hi)
            }
        }
    }

    /// L2: returns the widest jitter after a hint.
    pub fn hint_jitter(&self) -> Ns {
        if self.jitter == Jitter::None { 0 } else { self.spread }
    }
}

/// D11: the preset for other services.
fn common() -> BTreeMap<u64, On> {
    use Meaning::{Retry, RetryIfSafe, Surface, Throttle};
    let mut on = BTreeMap::new();
    for status in [408, 500, 502, 503, 504].into_iter().chain(520..=524) {
        on.insert(status, On { plain: RetryIfSafe, hinted: Retry });
    }
    for status in [425, 529] {
        on.insert(status, On { plain: Retry, hinted: Retry });
    }
    on.insert(429, On { plain: Throttle, hinted: Throttle });
    on.insert(403, On { plain: Surface, hinted: Throttle });
    on
}

impl Meaning {
    fn read(value: &Value) -> Result<Meaning, String> {
        match text(value, "on")? {
            "surface" => Ok(Meaning::Surface),
            "retry" => Ok(Meaning::Retry),
            "retry_if_safe" => Ok(Meaning::RetryIfSafe),
            "throttle" => Ok(Meaning::Throttle),
            other => Err(format!("on: {other} is unknown")),
        }
    }
}

impl Jitter {
    fn read(value: &Value) -> Result<Jitter, String> {
        if let Some(map) = value.as_object() {
            keys(map, &["band"])?;
            let [down, up] = map.get("band").and_then(Value::as_array).map_or(&[][..], Vec::as_slice) else {
                return Err("jitter: a band has two numbers".into());
            };
            let (down, up) = (whole(down, "jitter")?, short(whole(up, "jitter")?, "jitter")?);
            if down > 1000 {
                return Err("jitter: a band has at most 1000 below".into()); // B2
            }
            return Ok(Jitter::Band { down, up });
        }
        Ok(match text(value, "jitter")? {
            "none" => Jitter::None,
            "spread" => Jitter::Spread,
            "above" => Jitter::Above,
            "full" => Jitter::Band { down: 1000, up: 0 },
            "equal" => Jitter::Band { down: 500, up: 0 },
            "proportional" => Jitter::Band { down: 250, up: 250 },
            "decorrelated" => Jitter::Decorrelated,
            other => return Err(format!("jitter: {other} is unknown")),
        })
    }
}

/// Refuses a number that does not fit 16 bits.
fn short(value: u64, key: &str) -> Result<u64, String> {
    u16::try_from(value).map(u64::from).map_err(|_| format!("{key}: too large"))
}

/// B1: reads a factor, a number or a ratio of two.
fn ratio(value: &Value) -> Result<(u64, u64), String> {
    let (over, under) = match value.as_array().map(Vec::as_slice) {
        Some([over, under]) => (whole(over, "factor")?, whole(under, "factor")?),
        Some(_) => return Err("factor: not two numbers".into()),
        None => (whole(value, "factor")?, 1),
    };
    if under == 0 || over < under {
        return Err("factor: at least 1".into()); // F2
    }
    Ok((over, under))
}

impl Growth {
    fn read(map: &Map<String, Value>, others: Growth) -> Result<Growth, String> {
        keys(map, &["base_ms", "factor", "cap_ms"])?;
        let ms = |key: &str, default| map.get(key).map_or(Ok(default), |v| whole(v, key).map(from_ms));
        Ok(Growth {
            base: ms("base_ms", others.base)?,
            factor: map.get("factor").map_or(Ok(others.factor), ratio)?,
            cap: ms("cap_ms", others.cap)?,
        })
    }

    /// B1: returns `min(cap, base * factor^(n-1))` for retry `n`, counted from 1, each step rounded down.
    pub fn wait(&self, n: u64) -> Ns {
        let (over, under) = (Ns::from(self.factor.0), Ns::from(self.factor.1));
        let mut wait = self.base;
        for _ in 1..n {
            let next = wait * over / under;
            if wait >= self.cap || next == wait {
                break;
            }
            wait = next;
        }
        wait.min(self.cap)
    }
}

/// H11: reads a name and its meaning.
fn field(entry: &Value) -> Result<(String, FieldMeaning), String> {
    let wrong = || "fields: not a name and its meaning".to_string();
    let [name, meaning] = entry.as_array().ok_or_else(wrong)?.as_slice() else {
        return Err(wrong());
    };
    let name = text(name, "fields")?.to_ascii_lowercase();
    if let Some(map) = meaning.as_object() {
        let mut entries = map.iter();
        let (Some((kind, unit)), None) = (entries.next(), entries.next()) else {
            return Err(wrong());
        };
        let unit = match text(unit, "fields")? {
            "s" => Unit::Seconds,
            "ms" => Unit::Millis,
            "unix" => Unit::Unix,
            "unix_ms" => Unit::UnixMillis,
            "duration" => Unit::Duration,
            "rfc3339" => Unit::Rfc3339,
            other => return Err(format!("fields: {other} is unknown")),
        };
        let meaning = match kind.as_str() {
            "wait" => FieldMeaning::Wait(unit),
            "pushback" => FieldMeaning::Pushback(unit),
            "reset" => FieldMeaning::Reset(unit),
            other => return Err(format!("fields: {other} is unknown")),
        };
        return Ok((name, meaning));
    }
    let meaning = match text(meaning, "fields")? {
        "remaining" => FieldMeaning::Remaining,
        "limit" => FieldMeaning::Limit,
        "used_of_limit" => FieldMeaning::UsedOfLimit,
        "verdict" => FieldMeaning::Verdict,
        other => return Err(format!("fields: {other} is unknown")),
    };
    Ok((name, meaning))
}

fn part<'a>(value: &'a Value, key: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(map)),
        _ => Err(format!("{key}: neither an object nor null")),
    }
}

impl Budget {
    fn read(map: &Map<String, Value>) -> Result<Budget, String> {
        let money =
            ["capacity", "floor", "retry_cost", "throttle_cost", "charge", "success_refund", "refund", "refill_ms"];
        keys(map, &money)?;
        let get = |key: &str, default| map.get(key).map_or(Ok(default), |v| whole(v, key));
        Ok(Budget {
            capacity: get("capacity", 25)?,
            floor: get("floor", 0)?,
            retry_cost: get("retry_cost", 5)?,
            throttle_cost: get("throttle_cost", 5)?,
            charge: match map.get("charge").map(|v| text(v, "charge")).transpose()? {
                None | Some("retry") => Charge::Retry,
                Some("failure") => Charge::Failure,
                Some(other) => return Err(format!("charge: {other} is unknown")),
            },
            success_refund: get("success_refund", 1)?,
            refund: match map.get("refund").map(|v| text(v, "refund")).transpose()? {
                Some("fixed") => Refund::Fixed,
                Some("last_cost") => Refund::LastCost,
                None | Some("paid") => Refund::Paid,
                Some(other) => return Err(format!("refund: {other} is unknown")),
            },
            refill_every: from_ms(get("refill_ms", 60_000)?),
        })
    }
}

impl BreakerSettings {
    fn read(map: &Map<String, Value>) -> Result<BreakerSettings, String> {
        keys(map, &["failures", "open_ms"])?;
        let get = |key: &str, default| map.get(key).map_or(Ok(default), |v| whole(v, key));
        let failures = get("failures", 7)?;
        if failures == 0 {
            return Err("breaker: at least 1 failure".into());
        }
        Ok(BreakerSettings { failures, open: from_ms(get("open_ms", 10_000)?) })
    }
}
