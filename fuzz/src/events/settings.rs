//! Settings from a fuzzer's bytes.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::{BreakerPolicy, BudgetPolicy, Charge, Jitter, Refund, StatusMeaning, ThrottleBackoff, YoungToken};

use super::super::common::settings::{DIALECTS, Meaning, Settings, nanos};

/// Chooses a preset with up to six settings changed.
pub fn settings(u: &mut Unstructured<'_>) -> Result<Settings> {
    let mut settings = if u.arbitrary()? { Settings::flextell() } else { Settings::common() };
    for _ in 0..u.int_in_range(0..=6)? {
        match u.int_in_range(0..=20)? {
            0 => settings.initial_backoff = nanos(duration(u)?),
            1 => settings.backoff_factor = factor(u)?,
            2 => settings.max_backoff = nanos(duration(u)?),
            3 => settings.jitter = jitter(u)?,
            4 => settings.jitter_spread = nanos(duration(u)?),
            5 => settings.max_retries = *u.choose(&[0, 1, 2, 8, 100, u16::MAX])?,
            6 => settings.max_token_recoveries = u.int_in_range(0..=3)?,
            7 => settings.max_server_wait = nanos(duration(u)?),
            8 => settings.deadline = Some(nanos(duration(u)?)),
            9 => settings.attempt_timeout = Some(nanos(duration(u)?)),
            10 => settings.meanings.push(meaning(u)?),
            11 => settings.gate = u.arbitrary()?,
            12 => settings.breaker = None,
            13 => settings.budget = budget(u)?,
            14 => {
                let failures = u.int_in_range(1..=3)?;
                settings.breaker = Some(BreakerPolicy { failure_threshold: failures, open_for: duration(u)? });
            }
            15 => settings.dialect = *u.choose(&DIALECTS)?,
            16 => settings.throttle_retries = Some(*u.choose(&[0, 1, 2, 8, u16::MAX])?),
            17 => {
                let (initial_backoff, max_backoff) = (duration(u)?, duration(u)?);
                let backoff_factor = factor(u)?;
                settings.throttle_backoff = Some(ThrottleBackoff { initial_backoff, backoff_factor, max_backoff });
            }
            18 => settings.refresh_on_insufficient = u.arbitrary()?,
            19 => settings.young_token = *u.choose(&[YoungToken::Refresh, YoungToken::Surface, YoungToken::Retry])?,
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
    use Jitter::{Above, Band, Decorrelated, None, Spread};
    Ok(match u.int_in_range(0..=5)? {
        0 => None,
        1 => Spread,
        2 => Above,
        3 => Decorrelated,
        4 => *u.choose(&[Jitter::FULL, Jitter::EQUAL, Jitter::PROPORTIONAL])?,
        _ => Band { down: u.int_in_range(0..=1_000)?, up: u.arbitrary()? },
    })
}

fn factor(u: &mut Unstructured<'_>) -> Result<(u32, u32)> {
    u.choose(&[(1, 1), (2, 1), (3, 1), (10, 1), (16, 10), (13, 10), (u32::MAX, 1), (u32::MAX, u32::MAX)]).copied()
}

/// Chooses a meaning of a status or a range.
fn meaning(u: &mut Unstructured<'_>) -> Result<Meaning> {
    use StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
    let ranges = [(400, 400), (403, 403), (404, 404), (402, 499), (429, 429), (500, 599), (503, 503), (504, 504)];
    let statuses = *u.choose(&ranges)?;
    let meaning = *u.choose(&[Surface, Retry, RetryIfSafe, Throttle])?;
    Ok(Meaning { statuses, meaning, is_for_hints: u.arbitrary()? })
}

fn budget(u: &mut Unstructured<'_>) -> Result<Option<BudgetPolicy>> {
    if u.arbitrary()? {
        return Ok(None);
    }
    let mut number = || u.choose(&[0, 1, 5, 7, u32::MAX]).copied();
    let (capacity, floor, retry_cost, throttle_cost) = (number()?, number()?, number()?, number()?);
    let success_refund = number()?;
    let charge = *u.choose(&[Charge::Retry, Charge::Failure])?;
    let refund = *u.choose(&[Refund::Fixed, Refund::LastCost, Refund::Paid])?;
    let refill_every = duration(u)?;
    Ok(Some(BudgetPolicy { capacity, floor, retry_cost, throttle_cost, charge, success_refund, refund, refill_every }))
}
