//! Settings from a fuzzer's bytes.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::{BreakerPolicy, BudgetPolicy, Jitter};

use super::super::common::settings::{Settings, nanos};

/// Chooses a preset with up to six settings changed.
pub fn settings(u: &mut Unstructured<'_>) -> Result<Settings> {
    let mut settings = if u.arbitrary()? { Settings::flextell() } else { Settings::common() };
    for _ in 0..u.int_in_range(0..=6)? {
        match u.int_in_range(0..=15)? {
            0 => settings.initial_backoff = nanos(duration(u)?),
            1 => settings.backoff_factor = *u.choose(&[1, 2, 3, 10, u32::MAX])?,
            2 => settings.max_backoff = nanos(duration(u)?),
            3 => settings.jitter = jitter(u)?,
            4 => settings.jitter_spread = nanos(duration(u)?),
            5 => settings.max_retries = *u.choose(&[0, 1, 2, 8, 100, u32::MAX])?,
            6 => settings.max_token_recoveries = u.int_in_range(0..=3)?,
            7 => settings.max_server_wait = nanos(duration(u)?),
            8 => settings.deadline = Some(nanos(duration(u)?)),
            9 => settings.attempt_timeout = Some(nanos(duration(u)?)),
            10 => settings.ambiguous_5xx = u.arbitrary()?,
            11 => settings.gate = u.arbitrary()?,
            12 => settings.gate_spread = Some(nanos(duration(u)?)),
            13 => settings.budget = budget(u)?,
            14 => {
                let failures = u.int_in_range(1..=3)?;
                settings.breaker = Some(BreakerPolicy { failure_threshold: failures, open_for: duration(u)? });
            }
            _ => {
                settings.refresh_timeout = nanos(duration(u)?);
                settings.refresh_margin = nanos(duration(u)?);
            }
        }
    }
    Ok(settings)
}

pub fn duration(u: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(match u.int_in_range(0..=8)? {
        0 => Duration::ZERO,
        1 => Duration::from_nanos(1),
        2 => Duration::from_millis(500),
        3 => Duration::from_secs(1),
        4 => Duration::from_secs(30),
        5 => Duration::from_secs(300),
        6 => Duration::from_millis(u.arbitrary::<u16>()?.into()),
        // Up to 73 years, so that a sum of some is within a snapshot's reach.
        7 => Duration::from_nanos(u.arbitrary::<u64>()? >> 3),
        _ => Duration::MAX,
    })
}

fn jitter(u: &mut Unstructured<'_>) -> Result<Jitter> {
    use Jitter::{Decorrelated, Equal, Full, None, Proportional, Spread};
    u.choose(&[None, Spread, Full, Equal, Decorrelated, Proportional]).copied()
}

fn budget(u: &mut Unstructured<'_>) -> Result<Option<BudgetPolicy>> {
    if u.arbitrary()? {
        return Ok(None);
    }
    let mut number = || u.choose(&[0, 1, 5, 7, u32::MAX]).copied();
    let (capacity, retry_cost) = (number()?, number()?);
    Ok(Some(BudgetPolicy { capacity, retry_cost, throttle_cost: number()?, success_refund: number()? }))
}
