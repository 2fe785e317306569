//! The first line of a trace: the settings.

use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;

use super::ReplayError;
use super::fields::Fields;
use crate::policy::{BreakerPolicy, BudgetPolicy, Policy, PolicyBuilder};

/// The settings of a trace: a policy, and what the replay needs beside it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed from which each request's is derived. Default 7.
    pub seed: u64,
    /// The wall clock at the trace's origin, in Unix milliseconds, if there is one.
    pub unix_ms: Option<u64>,
    /// The lifetime of the first token from the trace's origin, if it is known.
    pub token_expires_in_ms: Option<u64>,
    policy: PolicyBuilder,
}

impl Settings {
    /// The settings for this policy, with seed 7, without a wall clock and with a token of unknown lifetime.
    #[must_use]
    pub fn new(policy: Policy) -> Settings {
        Settings { seed: 7, unix_ms: None, token_expires_in_ms: None, policy: policy.into_builder() }
    }

    /// Reads a line of settings. Every key is optional.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Json`] or [`ReplayError::Field`].
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
        settings.policy = policy(settings.policy, &mut fields)?;
        fields.end()?;
        Ok(settings)
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Policy`] if the settings make none.
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

/// Overrides the preset with what is given.
fn policy(mut policy: PolicyBuilder, fields: &mut Fields) -> Result<PolicyBuilder, ReplayError> {
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
