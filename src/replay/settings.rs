//! The settings line of a trace.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ReplayError;
use super::fields::Fields;
use super::names::{FieldName, JitterName, Ratio, Statuses};
use crate::policy::{
    BreakerPolicy, BudgetPolicy, Charge, Growth, Policy, PolicyBuilder, Refund, StatusMeaning, StatusTable,
    ThrottleBackoff,
};
use crate::presets;
use crate::time::Timestamp;

/// The settings of a trace: a policy, a seed, a wall clock, and the first token of each login.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed from which the seed of each request is derived (rule T5). Default: 7.
    pub seed: u64,
    /// The wall clock at the origin of the trace, in Unix milliseconds, if there is one (rule H4). Default: `None`.
    pub unix_ms: Option<u64>,
    /// The lifetime of the first token in milliseconds from the origin of the trace, if it is known (rule K7). Default:
    /// `None`.
    pub token_expires_in_ms: Option<u64>,
    /// Whether the logins have a first token (rule K9). Default: yes.
    pub token: bool,
    policy: PolicyBuilder,
}

impl Settings {
    /// Returns settings with this policy, with the defaults for all other fields.
    #[must_use]
    pub fn new(policy: Policy) -> Settings {
        Settings { seed: 7, unix_ms: None, token_expires_in_ms: None, token: true, policy: policy.into_builder() }
    }

    /// Parses a settings line. Every key is optional.
    ///
    /// A policy's dialect is `'static`: the names in `fields` are leaked, once for each line that is read.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Json`] if the line is not a JSON object, and [`ReplayError::Field`] for an unknown key or an
    /// invalid value.
    pub fn parse(line: &str) -> Result<Settings, ReplayError> {
        let mut fields = Fields::parse(line)?;
        let preset = match fields.take::<String>("preset")? {
            None => Policy::flextell(),
            Some(name) => presets::named(&name).ok_or_else(|| ReplayError::field("preset", &"unknown preset"))?,
        };
        let mut settings = Settings::new(preset.clone());
        if let Some(seed) = fields.take("seed")? {
            settings.seed = seed;
        }
        settings.unix_ms = fields.take("unix_ms")?.flatten();
        settings.token_expires_in_ms = fields.take("token_expires_in_ms")?.flatten();
        settings.token = fields.take("token")?.unwrap_or(true);
        settings.policy = read_policy(&preset, &mut fields)?;
        fields.finish()?;
        Ok(settings)
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Policy`] if a setting is invalid.
    pub fn policy(&self) -> Result<Policy, ReplayError> {
        Ok(self.policy.clone().build()?)
    }

    /// Returns the settings as a line: every key of the policy, so that a recorder needs no copy of its own. Times are
    /// rounded up to whole milliseconds.
    ///
    /// ```
    /// use retry_machine::Policy;
    /// use retry_machine::replay::Settings;
    ///
    /// let line = Settings::new(Policy::common()).to_json()?.to_string();
    /// assert_eq!(Settings::parse(&line)?.policy()?, Policy::common());
    /// # Ok::<(), retry_machine::replay::ReplayError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReplayError::Policy`] if a setting is invalid.
    pub fn to_json(&self) -> Result<Value, ReplayError> {
        let mut line = write_policy(&self.policy()?);
        line.insert("seed".into(), json!(self.seed));
        line.insert("unix_ms".into(), json!(self.unix_ms));
        line.insert("token_expires_in_ms".into(), json!(self.token_expires_in_ms));
        line.insert("token".into(), json!(self.token));
        Ok(Value::Object(line))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakerKeys {
    failures: Option<u32>,
    open_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetKeys {
    capacity: Option<u32>,
    floor: Option<u32>,
    retry_cost: Option<u32>,
    throttle_cost: Option<u32>,
    charge: Option<Charge>,
    success_refund: Option<u32>,
    refund: Option<Refund>,
    refill_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThrottledKeys {
    base_ms: Option<u64>,
    factor: Option<Ratio>,
    cap_ms: Option<u64>,
}

/// An entry of `on`.
#[derive(Deserialize)]
#[serde(untagged)]
enum On {
    Both(Statuses, StatusMeaning),
    Each(Statuses, StatusMeaning, StatusMeaning),
}

/// Overrides the preset with the keys that are given. Keys of an object that are left out take the preset's value.
fn read_policy(preset: &Policy, fields: &mut Fields) -> Result<PolicyBuilder, ReplayError> {
    let ms = Duration::from_millis;
    let mut policy = preset.clone().into_builder();
    macro_rules! override_with {
        ($($field:literal => $setter:ident($convert:expr)),* $(,)?) => {
            $(if let Some(value) = fields.take($field)? {
                policy = policy.$setter($convert(value));
            })*
        };
    }
    override_with! {
        "base_ms" => initial_backoff(ms),
        "cap_ms" => max_backoff(ms),
        "jitter" => jitter(|JitterName(jitter)| jitter),
        "spread_ms" => jitter_spread(ms),
        "max_retries" => max_retries(|retries| retries),
        "throttle_retries" => throttle_retries(|retries: Option<u16>| retries),
        "max_recoveries" => max_token_recoveries(|recoveries| recoveries),
        "max_server_wait_ms" => max_server_wait(ms),
        "deadline_ms" => deadline(|limit: Option<u64>| limit.map(ms)),
        "attempt_timeout_ms" => attempt_timeout(|limit: Option<u64>| limit.map(ms)),
        "reset" => rate_limit_reset(|format| format),
        "refresh_on_insufficient" => refresh_on_insufficient(|on| on),
        "young_token" => young_token(|answer| answer),
        "gate" => gate(|on| on),
        "throttled" => throttle_backoff(|keys: Option<ThrottledKeys>| keys.map(|keys| throttled(preset, &keys))),
        "budget" => budget(|keys: Option<BudgetKeys>| keys.map(|keys| budget(preset, &keys))),
        "breaker" => breaker(|keys: Option<BreakerKeys>| keys.map(|keys| breaker(preset, &keys))),
        "refresh_timeout_ms" => refresh_timeout(ms),
        "refresh_margin_ms" => refresh_margin(ms),
        "fields" => dialect(|names: Vec<FieldName>| -> &'static [_] {
            Box::leak(names.into_iter().map(|FieldName(field)| field).collect())
        }),
    }
    if let Some(Ratio(numerator, denominator)) = fields.take("factor")? {
        policy = policy.backoff_factor(numerator, denominator);
    }
    policy = short_forms(policy, preset, fields)?;
    for entry in fields.take::<Vec<On>>("on")?.unwrap_or_default() {
        policy = match entry {
            On::Both(Statuses(first, last), meaning) => policy.on(first..=last, meaning),
            On::Each(Statuses(first, last), plain, hinted) => {
                policy.on(first..=last, plain).on_hinted(first..=last, hinted)
            }
        };
    }
    Ok(policy)
}

/// `retry_statuses` and `ambiguous_5xx`: if either is given both hold, with the preset's value for the other.
fn short_forms(mut policy: PolicyBuilder, preset: &Policy, fields: &mut Fields) -> Result<PolicyBuilder, ReplayError> {
    let statuses = fields.take::<Vec<u16>>("retry_statuses")?;
    let ambiguous = fields.take::<bool>("ambiguous_5xx")?;
    if statuses.is_none() && ambiguous.is_none() {
        return Ok(policy);
    }
    let is_common = *preset == Policy::common();
    let plain = |status: &u16| preset.meaning(*status, false);
    let statuses = statuses.unwrap_or_else(|| {
        // The first version's list; D11 has retried more since.
        let common = [408, 425, 429, 500, 502, 503, 504];
        if is_common { common.into() } else { (400..=599).filter(|s| plain(s) != StatusMeaning::Surface).collect() }
    });
    let ambiguous = ambiguous.unwrap_or_else(|| (500..=599).any(|s| plain(&s) == StatusMeaning::RetryIfSafe));
    policy = policy.retry_statuses(&statuses);
    for status in statuses {
        if ambiguous && (500..=599).contains(&status) && status != 503 {
            policy = policy.on(status..=status, StatusMeaning::RetryIfSafe);
        }
    }
    Ok(policy)
}

fn throttled(preset: &Policy, keys: &ThrottledKeys) -> ThrottleBackoff {
    let Growth { initial, factor, max } = preset.throttle_backoff.unwrap_or(preset.backoff);
    let or = |ms: Option<u64>, nanos| ms.map_or(Duration::from_nanos(nanos), Duration::from_millis);
    ThrottleBackoff {
        initial_backoff: or(keys.base_ms, initial),
        backoff_factor: keys.factor.map_or(factor, |Ratio(numerator, denominator)| (numerator, denominator)),
        max_backoff: or(keys.cap_ms, max),
    }
}

fn budget(preset: &Policy, keys: &BudgetKeys) -> BudgetPolicy {
    let default = preset.budget.unwrap_or(BudgetPolicy::DEFAULT);
    BudgetPolicy {
        capacity: keys.capacity.unwrap_or(default.capacity),
        floor: keys.floor.unwrap_or(default.floor),
        retry_cost: keys.retry_cost.unwrap_or(default.retry_cost),
        throttle_cost: keys.throttle_cost.unwrap_or(default.throttle_cost),
        charge: keys.charge.unwrap_or(default.charge),
        success_refund: keys.success_refund.unwrap_or(default.success_refund),
        refund: keys.refund.unwrap_or(default.refund),
        refill_every: keys.refill_ms.map_or(default.refill_every, Duration::from_millis),
    }
}

fn breaker(preset: &Policy, keys: &BreakerKeys) -> BreakerPolicy {
    let default = preset.breaker.unwrap_or(BreakerPolicy::DEFAULT);
    BreakerPolicy {
        failure_threshold: keys.failures.unwrap_or(default.failure_threshold),
        open_for: keys.open_ms.map_or(default.open_for, Duration::from_millis),
    }
}

fn write_policy(policy: &Policy) -> Map<String, Value> {
    let ms = |nanos: u64| json!(Timestamp::from_nanos(nanos).as_millis_ceil());
    let growth = |growth: &Growth| {
        json!({
            "base_ms": ms(growth.initial), "factor": Ratio(growth.factor.0, growth.factor.1), "cap_ms": ms(growth.max),
        })
    };
    let Value::Object(mut line) = growth(&policy.backoff) else { return Map::new() };
    let rest = json!({
        "preset": "flextell",
        "jitter": JitterName(policy.jitter),
        "spread_ms": ms(policy.jitter_spread),
        "max_retries": policy.max_retries,
        "throttle_retries": policy.throttle_retries,
        "throttled": policy.throttle_backoff.as_ref().map(growth),
        "max_recoveries": policy.max_token_recoveries,
        "max_server_wait_ms": ms(policy.max_server_wait),
        "deadline_ms": policy.deadline.map(ms),
        "attempt_timeout_ms": policy.attempt_timeout.map(ms),
        "on": write_statuses(&policy.statuses),
        "fields": policy.dialect.iter().copied().map(FieldName).collect::<Vec<_>>(),
        "reset": policy.rate_limit_reset,
        "refresh_on_insufficient": policy.refresh_on_insufficient,
        "young_token": policy.young_token,
        "gate": policy.gate,
        "budget": policy.budget.map(|budget| json!({
            "capacity": budget.capacity, "floor": budget.floor, "retry_cost": budget.retry_cost,
            "throttle_cost": budget.throttle_cost, "charge": budget.charge, "success_refund": budget.success_refund,
            "refund": budget.refund,
            "refill_ms": Timestamp::from_elapsed(budget.refill_every).as_millis_ceil(),
        })),
        "breaker": policy.breaker.map(|breaker| json!({
            "failures": breaker.failure_threshold,
            "open_ms": Timestamp::from_elapsed(breaker.open_for).as_millis_ceil(),
        })),
        "refresh_timeout_ms": ms(policy.refresh_timeout),
        "refresh_margin_ms": ms(policy.refresh_margin),
    });
    if let Value::Object(rest) = rest {
        line.extend(rest);
    }
    line
}

/// Returns the table as entries of `on`: all of it, in runs of statuses with the same meanings.
fn write_statuses(statuses: &StatusTable) -> Vec<Value> {
    let meanings = |status| (statuses.meaning(status, false), statuses.meaning(status, true));
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for status in (400..=599).filter(|status| StatusTable::accepts(*status)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == status && meanings(*last) == meanings(status) => *last = status,
            _ => runs.push((status, status)),
        }
    }
    let entry = |(first, last)| match meanings(first) {
        (plain, hinted) if plain == hinted => json!([Statuses(first, last), plain]),
        (plain, hinted) => json!([Statuses(first, last), plain, hinted]),
    };
    runs.into_iter().map(entry).collect()
}
