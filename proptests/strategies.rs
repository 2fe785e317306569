//! Any policy, any requests, any events: what the property tests draw from.
#![allow(unreachable_pub)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use retry_machine::{
    BreakerPolicy, BudgetPolicy, Jitter, Policy, PolicyBuilder, Repeat, ResetFormat, TokenOutcome, TransportError,
};

/// A policy's numbers, times in nanoseconds, open to the tests that judge by them.
#[derive(Clone, Debug)]
pub struct Settings {
    pub base: u64,
    pub factor: u32,
    pub cap: u64,
    pub jitter: Jitter,
    pub spread: u64,
    pub max_retries: u32,
    pub max_recoveries: u8,
    pub max_server_wait: u64,
    pub deadline: Option<u64>,
    pub attempt_timeout: Option<u64>,
    pub statuses: Vec<u16>,
    pub ambiguous_5xx: bool,
    pub gate: bool,
    pub gate_spread: Option<u64>,
    pub budget: Option<BudgetPolicy>,
    pub breaker: Option<BreakerPolicy>,
    pub refresh_timeout: u64,
    pub refresh_margin: u64,
}

impl Settings {
    pub fn builder(&self) -> PolicyBuilder {
        let nanos = Duration::from_nanos;
        Policy::flextell()
            .to_builder()
            .base(nanos(self.base))
            .factor(self.factor)
            .cap(nanos(self.cap))
            .jitter(self.jitter)
            .spread(nanos(self.spread))
            .max_retries(self.max_retries)
            .max_recoveries(self.max_recoveries)
            .max_server_wait(nanos(self.max_server_wait))
            .deadline(self.deadline.map(nanos))
            .attempt_timeout(self.attempt_timeout.map(nanos))
            .retry_statuses(&self.statuses)
            .ambiguous_5xx(self.ambiguous_5xx)
            .reset(ResetFormat::Delta)
            .gate(self.gate)
            .gate_spread(self.gate_spread.map(nanos))
            .budget(self.budget)
            .breaker(self.breaker)
            .refresh_timeout(nanos(self.refresh_timeout))
            .refresh_margin(nanos(self.refresh_margin))
    }
}

/// What a test tells to whom.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub seed: u64,
    pub token_expires_in: Option<u64>,
    pub requests: Vec<Repeat>,
    pub steps: Vec<PlannedStep>,
}

#[derive(Clone, Debug)]
pub struct PlannedStep {
    pub request: prop::sample::Index,
    pub when: When,
    pub what: What,
}

/// When, seen from the event before and from the next tick that the request wants.
#[derive(Clone, Copy, Debug)]
pub enum When {
    AtTick,
    OneBeforeTick,
    After(u64),
    Back(u64),
    FarLater,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Do what the last action asks for; if that is a send, then with this result, and so on.
    Obey(Result<Response, TransportError>, TokenOutcome),
    Start,
    Tick,
    /// To the newest attempt, or to the one with this number.
    Reply(Option<u32>, Response),
    Error(Option<u32>, TransportError),
    Token(TokenOutcome),
    Cancel,
    TokenReplaced(Option<u64>),
    OpenGate,
}

/// What a response says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub retry_after_ms: Option<u64>,
    /// Remaining, and seconds until the reset.
    pub limit: Option<(u64, u64)>,
}

/// Nanoseconds: mostly of a size that is met with, sometimes any.
pub fn nanos() -> BoxedStrategy<u64> {
    prop_oneof![
        1 => select(vec![0, 1, 499_999_999, u64::MAX - 1, u64::MAX]),
        1 => any::<u64>(),
        6 => (1_u64..5_000).prop_map(|ms| ms * 1_000_000),
        4 => (1_u64..600).prop_map(|s| s * 1_000_000_000),
    ]
    .boxed()
}

pub fn jitter() -> impl Strategy<Value = Jitter> {
    use Jitter::{Decorrelated, Equal, Full, None, Proportional, Spread};
    select(vec![None, Spread, Spread, Full, Equal, Decorrelated, Proportional])
}

pub fn settings() -> BoxedStrategy<Settings> {
    let small_or_any = || prop_oneof![9 => 0_u32..7, 1 => any::<u32>()];
    let status = (400_u16..600).prop_filter("a 401 cannot be retried", |status| *status != 401);
    let statuses = prop_oneof![
        4 => Just(vec![429, 500, 503]),
        1 => Just(vec![408, 425, 429, 500, 502, 503, 504]),
        1 => vec(status, 0..6),
    ];
    let budget = (0_u32..30, 0_u32..8, 0_u32..8, 0_u32..8).prop_map(
        |(capacity, retry_cost, throttle_cost, success_refund)| BudgetPolicy {
            capacity,
            retry_cost,
            throttle_cost,
            success_refund,
        },
    );
    let breaker = (1_u32..5, nanos())
        .prop_map(|(failures, open)| BreakerPolicy { failures, open: Duration::from_nanos(open) });
    let back_off = (nanos(), prop_oneof![4 => 1_u32..5, 1 => 1..=u32::MAX], nanos(), jitter(), nanos());
    let limits = (
        small_or_any(),
        prop_oneof![3 => 0_u8..3, 1 => any::<u8>()],
        nanos(),
        option::weighted(0.3, nanos()),
        option::weighted(0.3, nanos()),
    );
    let shared = (
        prop::bool::weighted(0.8),
        option::weighted(0.2, nanos()),
        option::of(budget),
        option::weighted(0.3, breaker),
        nanos(),
        nanos(),
    );
    (back_off, limits, statuses, any::<bool>(), shared)
        .prop_map(|(back_off, limits, statuses, ambiguous_5xx, shared)| Settings {
            base: back_off.0,
            factor: back_off.1,
            cap: back_off.2,
            jitter: back_off.3,
            spread: back_off.4,
            max_retries: limits.0,
            max_recoveries: limits.1,
            max_server_wait: limits.2,
            deadline: limits.3,
            attempt_timeout: limits.4,
            statuses,
            ambiguous_5xx,
            gate: shared.0,
            gate_spread: shared.1,
            budget: shared.2,
            breaker: shared.3,
            refresh_timeout: shared.4,
            refresh_margin: shared.5,
        })
        .boxed()
}

pub fn response() -> BoxedStrategy<Response> {
    let status = prop_oneof![
        4 => select(vec![429_u16, 500, 503]),
        3 => Just(401),
        2 => select(vec![200, 201, 301]),
        1 => select(vec![400, 403, 404, 409, 422, 502]),
        1 => any::<u16>(),
    ];
    let number = || prop_oneof![6 => 0_u64..400, 1 => any::<u64>()];
    let limit = option::weighted(0.2, (0_u64..3, number()));
    (status, option::weighted(0.4, number()), option::weighted(0.1, number()), limit)
        .prop_map(|(status, retry_after, retry_after_ms, limit)| Response { status, retry_after, retry_after_ms, limit })
        .boxed()
}

pub fn transport_error() -> impl Strategy<Value = TransportError> {
    use TransportError::{Broken, NotSent, Other, TimedOut};
    select(vec![NotSent, TimedOut, Broken, Other])
}

pub fn outcome() -> BoxedStrategy<TokenOutcome> {
    let duration = || option::of(nanos().prop_map(Duration::from_nanos));
    prop_oneof![
        4 => duration().prop_map(|expires_in| TokenOutcome::Refreshed { expires_in }),
        1 => Just(TokenOutcome::Rejected),
        2 => duration().prop_map(|retry_after| TokenOutcome::Unavailable { retry_after }),
    ]
    .boxed()
}

/// How a send ends that was done as asked for.
pub fn result() -> BoxedStrategy<Result<Response, TransportError>> {
    prop_oneof![5 => response().prop_map(Ok), 1 => transport_error().prop_map(Err)].boxed()
}

pub fn step() -> BoxedStrategy<PlannedStep> {
    let when = prop_oneof![
        4 => Just(When::AtTick),
        2 => Just(When::OneBeforeTick),
        5 => nanos().prop_map(|nanos| When::After(nanos % 1_000_000_000)),
        1 => nanos().prop_map(When::After),
        1 => nanos().prop_map(When::Back),
        1 => Just(When::FarLater),
    ];
    let attempt = || option::weighted(0.5, 0_u32..6);
    let what = prop_oneof![
        14 => (result(), outcome()).prop_map(|(result, outcome)| What::Obey(result, outcome)),
        1 => Just(What::Start),
        4 => Just(What::Tick),
        3 => (attempt(), response()).prop_map(|(attempt, response)| What::Reply(attempt, response)),
        2 => (attempt(), transport_error()).prop_map(|(attempt, error)| What::Error(attempt, error)),
        2 => outcome().prop_map(What::Token),
        1 => prop_oneof![Just(What::Cancel), Just(What::OpenGate)],
        1 => option::of(nanos()).prop_map(What::TokenReplaced),
    ];
    (any::<prop::sample::Index>(), when, what)
        .prop_map(|(request, when, what)| PlannedStep { request, when, what })
        .boxed()
}

pub fn repeat() -> impl Strategy<Value = Repeat> {
    select(vec![Repeat::Safe, Repeat::Unsafe])
}

/// One to five requests to one upstream, and up to 80 events.
pub fn plan() -> impl Strategy<Value = Plan> {
    (settings(), any::<u64>(), option::weighted(0.3, nanos()), vec(repeat(), 1..6), vec(step(), 1..80)).prop_map(
        |(settings, seed, token_expires_in, requests, steps)| Plan { settings, seed, token_expires_in, requests, steps },
    )
}
