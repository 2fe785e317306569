//! Policies, and what is known of each.

use std::ops::RangeInclusive;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::{BreakerPolicy, BudgetPolicy, Jitter, Policy};

/// A policy's numbers; all times in nanoseconds.
#[derive(Clone, Debug)]
pub struct Known {
    pub base: u64,
    pub factor: u32,
    pub cap: u64,
    pub jitter: Jitter,
    pub spread: u64,
    pub max_retries: u32,
    pub max_token_recoveries: u8,
    pub max_server_wait: u64,
    pub deadline: Option<u64>,
    pub attempt_timeout: Option<u64>,
    pub ambiguous_5xx: bool,
    pub gate: bool,
    pub gate_spread: Option<u64>,
    pub budget: Option<BudgetPolicy>,
    pub breaker: Option<BreakerPolicy>,
    pub refresh_timeout: u64,
}

impl Known {
    /// B1, B2, F2: what the back-off before retry `n` is drawn from, or what it cannot leave where it depends on the
    /// draw before.
    pub fn backoff(&self, n: u32) -> RangeInclusive<u64> {
        let growth = (1..n.min(70)).fold(1_u128, |growth, _| (growth * u128::from(self.factor)).min(1 << 64));
        let wait = u64::try_from(u128::from(self.base) * growth).unwrap_or(u64::MAX).min(self.cap);
        let around = |spread: u64| wait.saturating_sub(spread)..=wait.saturating_add(spread).min(self.cap);
        match self.jitter {
            Jitter::None => wait..=wait,
            Jitter::Spread => around(self.spread),
            Jitter::Full => 0..=wait,
            Jitter::Equal => wait / 2..=wait,
            Jitter::Proportional => around(wait / 4),
            Jitter::Decorrelated => self.base.min(self.cap)..=self.cap,
        }
    }
}

pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Now and then an odd policy; else one of the presets with some settings changed.
pub fn policy(u: &mut Unstructured<'_>) -> Result<(Policy, Known)> {
    let flextell = u.arbitrary()?;
    let (preset, statuses): (_, &[u16]) = match flextell {
        true => (Policy::flextell(), &[429, 500, 503]),
        false => (Policy::common(), &[408, 425, 429, 500, 502, 503, 504]),
    };
    let ms = Duration::from_millis;
    let mut known = Known {
        base: nanos(ms(1_000)),
        factor: 2,
        cap: nanos(ms(60_000)),
        jitter: Jitter::Spread,
        spread: nanos(ms(500)),
        max_retries: 5,
        max_token_recoveries: 1,
        max_server_wait: nanos(ms(300_000)),
        deadline: None,
        attempt_timeout: None,
        ambiguous_5xx: !flextell,
        gate: true,
        gate_spread: None,
        budget: Some(BudgetPolicy::DEFAULT),
        breaker: None,
        refresh_timeout: nanos(ms(30_000)),
    };
    let mut builder = preset.into_builder();
    for _ in 0..u.int_in_range(0..=6)? {
        match u.int_in_range(0..=15)? {
            0 => known.base = nanos(duration(u)?),
            1 => known.factor = *u.choose(&[1, 2, 3, 10, u32::MAX])?,
            2 => known.cap = nanos(duration(u)?),
            3 => known.jitter = jitter(u)?,
            4 => known.spread = nanos(duration(u)?),
            5 => known.max_retries = *u.choose(&[0, 1, 2, 8, 100, u32::MAX])?,
            6 => known.max_token_recoveries = u.int_in_range(0..=3)?,
            7 => known.max_server_wait = nanos(duration(u)?),
            8 => known.deadline = Some(nanos(duration(u)?)),
            9 => known.attempt_timeout = Some(nanos(duration(u)?)),
            10 => known.ambiguous_5xx = u.arbitrary()?,
            11 => known.gate = u.arbitrary()?,
            12 => known.gate_spread = Some(nanos(duration(u)?)),
            13 => known.budget = budget(u)?,
            14 => {
                let failures = u.int_in_range(1..=3)?;
                known.breaker = Some(BreakerPolicy { failure_threshold: failures, open_for: duration(u)? });
            }
            _ => {
                known.refresh_timeout = nanos(duration(u)?);
                builder = builder.refresh_margin(duration(u)?);
            }
        }
    }
    let time = Duration::from_nanos;
    let policy = builder
        .initial_backoff(time(known.base))
        .backoff_factor(known.factor)
        .max_backoff(time(known.cap))
        .jitter(known.jitter)
        .jitter_spread(time(known.spread))
        .max_retries(known.max_retries)
        .max_token_recoveries(known.max_token_recoveries)
        .max_server_wait(time(known.max_server_wait))
        .deadline(known.deadline.map(time))
        .attempt_timeout(known.attempt_timeout.map(time))
        .retry_statuses(statuses)
        .ambiguous_5xx(known.ambiguous_5xx)
        .gate(known.gate)
        .gate_spread(known.gate_spread.map(time))
        .budget(known.budget)
        .breaker(known.breaker)
        .refresh_timeout(time(known.refresh_timeout))
        .build()
        .expect("a policy");
    Ok((policy, known))
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
        // Up to 73 years, so that sums of some stay within a snapshot's reach.
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
