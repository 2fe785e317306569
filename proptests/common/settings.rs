//! The settings of a policy as plain numbers, and the bounds that the rules derive from them. Property tests and fuzz targets
//! choose the numbers, each in its own way.
#![allow(unreachable_pub, clippy::expect_used)]

use std::time::Duration;

use retry_machine::{
    BreakerPolicy, BudgetPolicy, Charge, DialectField, FieldMeaning, Jitter, Policy, PolicyBuilder, Refund,
    RequestLimits, ResetFormat, StatusMeaning, ThrottleBackoff, TimeUnit, YoungToken,
};

const MILLIS: u64 = 1_000_000;

/// The dialects that settings choose from (H11).
pub const DIALECTS: [&[DialectField]; 4] = [
    &[],
    &[
        DialectField::new("x-should-retry", FieldMeaning::Verdict),
        DialectField::new("grpc-retry-pushback-ms", FieldMeaning::Pushback(TimeUnit::Milliseconds)),
    ],
    &[
        DialectField::new("X-Come-Back", FieldMeaning::Pushback(TimeUnit::Seconds)),
        DialectField::new("x-calls-left", FieldMeaning::Remaining),
        DialectField::new("x-calls-reset", FieldMeaning::Reset(TimeUnit::Seconds)),
    ],
    // The table decides about a name that every service uses, too.
    &[
        DialectField::new("retry-after", FieldMeaning::Wait(TimeUnit::Milliseconds)),
        DialectField::new("x-should-retry", FieldMeaning::Verdict),
        DialectField::new("api-usage", FieldMeaning::UsedOfLimit),
        DialectField::new("x-come-back", FieldMeaning::Pushback(TimeUnit::Seconds)),
    ],
];

/// The kinds of retries, which can be counted, priced and backed off from apart (B1, B5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Other,
    Throttle,
}

/// A call of `on` or of `on_hinted`: the first and the last status, and their meaning (D11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meaning {
    pub statuses: (u16, u16),
    pub meaning: StatusMeaning,
    pub is_for_hints: bool,
}

/// The settings of a policy. All times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    pub initial_backoff: u64,
    pub backoff_factor: (u32, u32),
    pub max_backoff: u64,
    pub throttle_backoff: Option<ThrottleBackoff>,
    pub jitter: Jitter,
    pub jitter_spread: u64,
    pub max_retries: u16,
    pub throttle_retries: Option<u16>,
    pub max_token_recoveries: u8,
    pub max_server_wait: u64,
    pub deadline: Option<u64>,
    pub attempt_timeout: Option<u64>,
    /// The later one wins.
    pub meanings: Vec<Meaning>,
    pub dialect: &'static [DialectField],
    pub refresh_on_insufficient: bool,
    pub young_token: YoungToken,
    pub gate: bool,
    pub budget: Option<BudgetPolicy>,
    pub breaker: Option<BreakerPolicy>,
    pub refresh_timeout: u64,
    pub refresh_margin: u64,
}

/// Returns a meaning, plain and hinted.
pub const fn on(first: u16, last: u16, meaning: StatusMeaning) -> Meaning {
    Meaning { statuses: (first, last), meaning, is_for_hints: false }
}

/// Returns a meaning for replies with a hint.
pub const fn on_hinted(first: u16, last: u16, meaning: StatusMeaning) -> Meaning {
    Meaning { is_for_hints: true, ..on(first, last, meaning) }
}

impl Settings {
    /// Returns the numbers of the guide.
    pub fn flextell() -> Settings {
        Settings {
            initial_backoff: 1_000 * MILLIS,
            backoff_factor: (2, 1),
            max_backoff: 60_000 * MILLIS,
            throttle_backoff: None,
            jitter: Jitter::Spread,
            jitter_spread: 500 * MILLIS,
            max_retries: 5,
            throttle_retries: None,
            max_token_recoveries: 1,
            max_server_wait: 300_000 * MILLIS,
            deadline: None,
            attempt_timeout: None,
            meanings: Settings::the_guides_meanings(),
            dialect: DIALECTS[0],
            refresh_on_insufficient: false,
            young_token: YoungToken::Refresh,
            gate: true,
            budget: Some(BudgetPolicy {
                capacity: 25,
                floor: 0,
                retry_cost: 5,
                throttle_cost: 5,
                charge: Charge::Retry,
                success_refund: 1,
                refund: Refund::Paid,
                refill_every: Duration::from_secs(60),
            }),
            breaker: Some(BreakerPolicy { failure_threshold: 7, open_for: Duration::from_secs(10) }),
            refresh_timeout: 30_000 * MILLIS,
            refresh_margin: 30_000 * MILLIS,
        }
    }

    /// Returns common practice for other APIs (D11).
    pub fn common() -> Settings {
        Settings { meanings: Settings::common_meanings(), young_token: YoungToken::Surface, ..Settings::flextell() }
    }

    pub fn the_guides_meanings() -> Vec<Meaning> {
        use StatusMeaning::{Retry, Throttle};
        vec![on(429, 429, Throttle), on(500, 500, Retry), on(503, 503, Retry)]
    }

    pub fn common_meanings() -> Vec<Meaning> {
        use StatusMeaning::{Retry, RetryIfSafe, Throttle};
        let if_safe = [(408, 408), (500, 500), (502, 504), (520, 524)];
        let mut meanings = Vec::from_iter(if_safe.map(|(first, last)| on(first, last, RetryIfSafe)));
        meanings.extend(if_safe.map(|(first, last)| on_hinted(first, last, Retry)));
        meanings.extend([
            on(425, 425, Retry),
            on(529, 529, Retry),
            on(429, 429, Throttle),
            on_hinted(403, 403, Throttle),
        ]);
        meanings
    }

    pub fn builder(&self) -> PolicyBuilder {
        let nanos = Duration::from_nanos;
        let policy = Policy::flextell().into_builder().retry_statuses(&[]);
        let meanings = self.meanings.iter().fold(policy, |policy, entry| {
            let statuses = entry.statuses.0..=entry.statuses.1;
            match entry.is_for_hints {
                false => policy.on(statuses, entry.meaning),
                true => policy.on_hinted(statuses, entry.meaning),
            }
        });
        meanings
            .initial_backoff(nanos(self.initial_backoff))
            .backoff_factor(self.backoff_factor.0, self.backoff_factor.1)
            .max_backoff(nanos(self.max_backoff))
            .throttle_backoff(self.throttle_backoff)
            .jitter(self.jitter)
            .jitter_spread(nanos(self.jitter_spread))
            .max_retries(self.max_retries)
            .throttle_retries(self.throttle_retries)
            .max_token_recoveries(self.max_token_recoveries)
            .max_server_wait(nanos(self.max_server_wait))
            .deadline(self.deadline.map(nanos))
            .attempt_timeout(self.attempt_timeout.map(nanos))
            .dialect(self.dialect)
            .refresh_on_insufficient(self.refresh_on_insufficient)
            .young_token(self.young_token)
            .rate_limit_reset(ResetFormat::Delta)
            .gate(self.gate)
            .budget(self.budget)
            .breaker(self.breaker)
            .refresh_timeout(nanos(self.refresh_timeout))
            .refresh_margin(nanos(self.refresh_margin))
    }

    pub fn policy(&self) -> Policy {
        self.builder().build().expect("these settings are accepted")
    }

    /// Returns the meaning of a status (D11): of the entries that name it, the last one decides.
    pub fn meaning(&self, status: u16, hinted: bool) -> StatusMeaning {
        let decides = |entry: &&Meaning| {
            (entry.statuses.0..=entry.statuses.1).contains(&status) && (hinted || !entry.is_for_hints)
        };
        self.meanings.iter().rev().find(decides).map_or(StatusMeaning::Surface, |entry| entry.meaning)
    }

    /// Returns the largest number of retries of a request, of both kinds together (B3, B5, D17).
    pub fn max_retries_of(&self, limits: RequestLimits) -> u32 {
        let retries = u32::from(self.max_retries) + u32::from(self.throttle_retries.unwrap_or(0));
        limits.max_retries.map_or(retries, |own| retries.min(own.into()))
    }

    /// Returns the largest number of attempts of a request in which no attempt was unprocessed (I2).
    pub fn max_attempts(&self, limits: RequestLimits) -> u64 {
        1 + u64::from(self.max_retries_of(limits)) + u64::from(self.max_token_recoveries)
    }

    /// Returns the time limit of a request (S4, D17).
    pub fn deadline_of(&self, limits: RequestLimits) -> Option<u64> {
        tighter(self.deadline, limits.deadline)
    }

    /// Returns the time limit of each attempt of a request (S4, D17).
    pub fn attempt_timeout_of(&self, limits: RequestLimits) -> Option<u64> {
        tighter(self.attempt_timeout, limits.attempt_timeout)
    }

    /// Returns the widest jitter of a wait for a hint (L2).
    pub fn hint_spread(&self) -> u64 {
        if self.jitter == Jitter::None { 0 } else { self.jitter_spread }
    }

    /// Returns the shortest and the longest back-off of the nth retry of a kind (B1, B2, F2).
    pub fn back_off(&self, kind: Kind, retry: u32) -> (u64, u64) {
        let (first, factor, longest) = match (kind, self.throttle_backoff) {
            (Kind::Throttle, Some(own)) => (nanos(own.initial_backoff), own.backoff_factor, nanos(own.max_backoff)),
            _ => (self.initial_backoff, self.backoff_factor, self.max_backoff),
        };
        let (first, longest) = (u128::from(first).min(longest.into()), u128::from(longest));
        // B1: step by step, each rounded down, up to the cap.
        let grown = |(numerator, denominator): (u32, u32)| {
            let step = |wait: &u128| Some((wait * u128::from(numerator) / u128::from(denominator)).min(longest));
            let mut waits = std::iter::successors(Some(first), step).take(retry.max(1) as usize);
            let mut last = waits.next().unwrap_or(first);
            for wait in waits {
                if wait == last {
                    break;
                }
                last = wait;
            }
            last
        };
        let wait = grown(factor);
        // B2: at the cap the jitter reaches down only, as far as it is wide.
        let band = |down: u128, up: u128| match wait == longest {
            true => (wait.saturating_sub(down.max(up)), wait),
            false => (wait.saturating_sub(down), (wait + up).min(longest)),
        };
        let spread = u128::from(self.jitter_spread);
        let (low, high) = match self.jitter {
            Jitter::None => (wait, wait),
            Jitter::Spread => band(spread, spread),
            Jitter::Above => band(0, spread),
            Jitter::Band { down, up } => band(wait * u128::from(down) / 1_000, wait * u128::from(up) / 1_000),
            Jitter::Decorrelated => (first, (grown((3, 1)) * 3).min(longest)),
        };
        let narrow = |nanos: u128| u64::try_from(nanos).expect("it is at most the cap");
        (narrow(low), narrow(high))
    }
}

/// D17: a request's own limit counts in whole milliseconds, rounded up, up to the longest that fits 32 bits.
fn tighter(policy: Option<u64>, own: Option<Duration>) -> Option<u64> {
    let longest = u128::from(49 * 24 * 3_600_000_u32);
    let own = own.map(|own| own.as_nanos().div_ceil(u128::from(MILLIS)).min(longest) * u128::from(MILLIS));
    let own = own.map(|own| u64::try_from(own).expect("it is at most 49 days"));
    policy.into_iter().chain(own).min()
}

/// Returns a duration in nanoseconds, saturating.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
