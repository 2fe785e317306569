//! The settings line of a trace.

use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;

use super::ReplayError;
use super::fields::Fields;
use crate::policy::{BreakerPolicy, BudgetPolicy, Policy, PolicyBuilder};

/// The settings of a trace: a policy, a seed, a wall clock and the lifetime of the first token.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed from which the seed of each request is derived (rule T5). Default: 7.
    pub seed: u64,
    /// The wall clock at the origin of the trace, in Unix milliseconds, if there is one (rule H4). Default: `None`.
    pub unix_ms: Option<u64>,
    /// The lifetime of the first token in milliseconds from the origin of the trace, if it is known (rule K7). Default:
    /// `None`.
    pub token_expires_in_ms: Option<u64>,
    policy: PolicyBuilder,
}

impl Settings {
    /// Returns settings with this policy, with the defaults for all other fields.
    #[must_use]
    pub fn new(policy: Policy) -> Settings {
        Settings { seed: 7, unix_ms: None, token_expires_in_ms: None, policy: policy.into_builder() }
    }

    /// Parses a settings line. Every key is optional.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Json`] if the line is not a JSON object, and [`ReplayError::Field`] for an unknown key or an
    /// invalid value.
    pub fn parse(line: &str) -> Result<Settings, ReplayError> {
        let mut fields = Fields::parse(line)?;
        let mut settings = Settings::new(match fields.take("preset")? {
            None | Some(Preset::Flextell) => Policy::flextell(),
            Some(Preset::Common) => Policy::common(),
        });
        if let Some(seed) = fields.take("seed")? {
            settings.seed = seed;
        }
        settings.unix_ms = fields.take("unix_ms")?.flatten();
        settings.token_expires_in_ms = fields.take("token_expires_in_ms")?.flatten();
        settings.policy = override_policy(settings.policy, &mut fields)?;
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
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    Flextell,
    Common,
}

/// The format's keys of the breaker.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Breaker {
    failures: u32,
    open_ms: u64,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { failures: BreakerPolicy::RECOMMENDED.failure_threshold, open_ms: 10_000 }
    }
}

/// Overrides the settings of the preset with those of the line.
fn override_policy(mut policy: PolicyBuilder, fields: &mut Fields) -> Result<PolicyBuilder, ReplayError> {
    let ms = Duration::from_millis;
    macro_rules! override_with {
        ($($field:literal => $setter:ident($convert:expr)),* $(,)?) => {
            $(if let Some(value) = fields.take($field)? {
                policy = policy.$setter($convert(value));
            })*
        };
    }
    override_with! {
        "base_ms" => initial_backoff(ms),
        "factor" => backoff_factor(|factor: u32| factor),
        "cap_ms" => max_backoff(ms),
        "jitter" => jitter(|jitter| jitter),
        "spread_ms" => jitter_spread(ms),
        "max_retries" => max_retries(|retries| retries),
        "max_recoveries" => max_token_recoveries(|recoveries| recoveries),
        "max_server_wait_ms" => max_server_wait(ms),
        "deadline_ms" => deadline(|limit: Option<u64>| limit.map(ms)),
        "attempt_timeout_ms" => attempt_timeout(|limit: Option<u64>| limit.map(ms)),
        "ambiguous_5xx" => ambiguous_5xx(|ambiguous| ambiguous),
        "reset" => rate_limit_reset(|format| format),
        "gate_spread" => gate_spread(|spread: Option<u64>| spread.map(ms)),
        "budget" => budget(|budget: Option<BudgetPolicy>| budget),
        "breaker" => breaker(|breaker: Option<Breaker>| {
            breaker.map(|Breaker { failures, open_ms }| BreakerPolicy { failure_threshold: failures, open_for: ms(open_ms) })
        }),
        "refresh_timeout_ms" => refresh_timeout(ms),
        "refresh_margin_ms" => refresh_margin(ms),
    }
    if let Some(statuses) = fields.take::<Vec<u16>>("retry_statuses")? {
        policy = policy.retry_statuses(&statuses);
    }
    Ok(policy)
}
