//! The settings line of a trace (`docs/trace_format.md`).

use super::super::reading::Reset;
use super::json::{keys, text, whole, whole_or_null};
use super::span::{Ns, Span, from_ms};
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    None,
    Spread,
    Full,
    Equal,
    Decorrelated,
    Proportional,
}

/// S2, in tokens.
#[derive(Clone, Debug)]
pub struct Budget {
    pub capacity: u64,
    pub retry_cost: u64,
    pub throttle_cost: u64,
    pub success_refund: u64,
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
    pub unix_ms: Option<u64>,
    pub base: Ns,
    pub factor: u64,
    pub cap: Ns,
    pub jitter: Jitter,
    pub spread: Ns,
    pub max_retries: u64,
    pub max_token_recoveries: u64,
    pub max_server_wait: Ns,
    pub deadline: Option<Ns>,
    pub attempt_timeout: Option<Ns>,
    pub retry_statuses: Vec<u64>,
    pub ambiguous_5xx: bool,
    pub reset: Reset,
    pub gate_spread: Option<Ns>,
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
        match line.get("preset").map(|v| text(v, "preset")).transpose()? {
            None | Some("flextell") => {}
            Some("common") => {
                // D11, D14
                settings.retry_statuses = vec![408, 425, 429, 500, 502, 503, 504];
                settings.ambiguous_5xx = true;
            }
            Some(other) => return Err(format!("preset: {other} is unknown")),
        }
        for (key, value) in line {
            settings.set(key, value)?;
        }
        Ok(settings)
    }

    fn flextell() -> Settings {
        Settings {
            unix_ms: None,
            base: from_ms(1_000),
            factor: 2,
            cap: from_ms(60_000),
            jitter: Jitter::Spread,
            spread: from_ms(500),
            max_retries: 5,
            max_token_recoveries: 1,
            max_server_wait: from_ms(300_000),
            deadline: None,
            attempt_timeout: None,
            retry_statuses: vec![429, 500, 503],
            ambiguous_5xx: false,
            reset: Reset::Auto,
            gate_spread: None,
            budget: Some(Budget { capacity: 50, retry_cost: 5, throttle_cost: 0, success_refund: 1 }),
            breaker: None,
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
            "seed" => _ = whole(value, key)?,
            "unix_ms" => self.unix_ms = whole_or_null(value, key)?,
            "base_ms" => self.base = ms()?,
            "factor" => self.factor = whole(value, key)?,
            "cap_ms" => self.cap = ms()?,
            "jitter" => {
                self.jitter = match text(value, key)? {
                    "none" => Jitter::None,
                    "spread" => Jitter::Spread,
                    "full" => Jitter::Full,
                    "equal" => Jitter::Equal,
                    "decorrelated" => Jitter::Decorrelated,
                    "proportional" => Jitter::Proportional,
                    other => return Err(format!("jitter: {other} is unknown")),
                }
            }
            "spread_ms" => self.spread = ms()?,
            "max_retries" => self.max_retries = whole(value, key)?,
            "max_recoveries" => self.max_token_recoveries = whole(value, key)?,
            "max_server_wait_ms" => self.max_server_wait = ms()?,
            "deadline_ms" => self.deadline = ms_or_null()?,
            "attempt_timeout_ms" => self.attempt_timeout = ms_or_null()?,
            "retry_statuses" => {
                let list = value.as_array().ok_or("retry_statuses: not a list")?;
                self.retry_statuses = list.iter().map(|v| whole(v, key)).collect::<Result<_, _>>()?;
            }
            "ambiguous_5xx" => self.ambiguous_5xx = value.as_bool().ok_or("ambiguous_5xx: not a boolean")?,
            "reset" => {
                self.reset = match text(value, key)? {
                    "auto" => Reset::Auto,
                    "unix" => Reset::Unix,
                    "delta" => Reset::Delta,
                    other => return Err(format!("reset: {other} is unknown")),
                }
            }
            "gate_spread" => self.gate_spread = ms_or_null()?,
            "budget" => self.budget = part(value, key)?.map(Budget::read).transpose()?,
            "breaker" => self.breaker = part(value, key)?.map(BreakerSettings::read).transpose()?,
            "refresh_timeout_ms" => self.refresh_timeout = ms()?,
            "refresh_margin_ms" => self.refresh_margin = ms()?,
            "token_expires_in_ms" => self.token_expires_in = ms_or_null()?,
            other => return Err(format!("{other}: unknown key")),
        }
        self.validate()
    }

    fn validate(&self) -> Result<(), String> {
        // D11
        if self.retry_statuses.iter().any(|s| !(400..=599).contains(s) || *s == 401) {
            return Err("retry_statuses: only 400 to 599 without 401".into());
        }
        // F2
        if self.factor == 0 {
            return Err("factor: at least 1".into());
        }
        Ok(())
    }

    pub fn retries(&self, status: u64) -> bool {
        self.retry_statuses.contains(&status)
    }

    /// B1: returns `min(cap, base * factor^(n-1))` for retry `n`, counted from 1.
    pub fn base_wait(&self, n: u64) -> Ns {
        let mut wait = self.base;
        for _ in 1..n {
            if wait == 0 || wait >= self.cap || self.factor == 1 {
                break;
            }
            wait *= Ns::from(self.factor);
        }
        wait.min(self.cap)
    }

    /// B2, F2: returns the bounds of the back-off of retry `n`. For decorrelated jitter `previous` is the
    /// longest that this request's previous wait can have been.
    pub fn backoff(&self, n: u64, previous: Option<Ns>) -> Span {
        let wait = self.base_wait(n);
        let around = |s: Ns| Span::new((wait - s).max(0), (wait + s).min(self.cap));
        match self.jitter {
            Jitter::None => Span::exactly(wait),
            Jitter::Spread => around(self.spread),
            Jitter::Full => Span::new(0, wait),
            Jitter::Equal => Span::new(wait / 2, wait),
            Jitter::Proportional => around(wait / 4),
            Jitter::Decorrelated => {
                let hi = (3 * previous.unwrap_or(self.base)).min(self.cap);
                Span::new(self.base.min(hi), hi)
            }
        }
    }

    /// L2: returns the widest jitter after a hint.
    pub fn hint_jitter(&self) -> Ns {
        if self.jitter == Jitter::None { 0 } else { self.spread }
    }
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
        keys(map, &["capacity", "retry_cost", "throttle_cost", "success_refund"])?;
        let get = |key: &str, default| map.get(key).map_or(Ok(default), |v| whole(v, key));
        Ok(Budget {
            capacity: get("capacity", 50)?,
            retry_cost: get("retry_cost", 5)?,
            throttle_cost: get("throttle_cost", 0)?,
            success_refund: get("success_refund", 1)?,
        })
    }
}

impl BreakerSettings {
    fn read(map: &Map<String, Value>) -> Result<BreakerSettings, String> {
        keys(map, &["failures", "open_ms"])?;
        let get = |key: &str, default| map.get(key).map_or(Ok(default), |v| whole(v, key));
        Ok(BreakerSettings { failures: get("failures", 10)?, open: from_ms(get("open_ms", 10_000)?) })
    }
}
