//! Strategies for requests to one upstream and for events, and plans that become a history when they are played.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use retry_machine::{
    Action, BreakerPolicy, CodeClass, Idempotency, Jitter, RefreshOutcome, RequestLimits, TransportErrorKind, Verdict,
};

use super::history::{FirstToken, History, Input, Player, Request, Setup};
use super::response::{Numbers, PushbackField};
use super::settings::Settings;
use super::strategies::{QUARTER, budget, nanos, settings};

/// Events that are not yet concrete, because they depend on the answers before them.
#[derive(Clone, Debug)]
pub struct Plan {
    pub setup: Setup,
    pub steps: Vec<PlannedStep>,
}

#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// The number of a request of the plan, wrapping around.
    pub request: u64,
    pub time: PlannedTime,
    pub event: PlannedEvent,
}

/// A time relative to the event before, or to the next tick that the request asks for.
#[derive(Clone, Copy, Debug)]
pub enum PlannedTime {
    AtTick,
    OneBeforeTick,
    After(u64),
    Back(u64),
    FarLater,
}

#[derive(Clone, Copy, Debug)]
pub enum PlannedEvent {
    /// The event that the last action asks for. A send ends with the result, a refresh with the outcome.
    Obey(Result<Numbers, TransportErrorKind>, RefreshOutcome),
    Start,
    Tick,
    Reply(WhichAttempt, Numbers),
    Error(WhichAttempt, TransportErrorKind),
    /// The outcome of the newest lease, or of one before.
    Report(WhichLease, RefreshOutcome),
    Cancel,
    TokenReplaced(Option<u64>),
    TokenRemoved,
    OpenGate,
    /// For so many nanoseconds.
    CloseGate(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum WhichAttempt {
    Newest,
    /// The nth before the newest.
    Earlier(u32),
    Numbered(u32),
}

#[derive(Clone, Copy, Debug)]
pub enum WhichLease {
    /// The one that the request leads or follows, or else the newest.
    Own,
    /// The nth before the newest.
    Earlier(u32),
    /// One that has not been given.
    Never,
}

impl Plan {
    pub fn play(&self) -> History {
        let mut player = Player::new(self.setup.clone());
        let mut now = 0_u64;
        for step in &self.steps {
            let request = usize::try_from(step.request).expect("it is small") % player.requests();
            let tick = player.next_tick(request).unwrap_or(now);
            now = match step.time {
                PlannedTime::AtTick => tick,
                PlannedTime::OneBeforeTick => tick.saturating_sub(1),
                PlannedTime::After(nanos) => now.saturating_add(nanos),
                PlannedTime::Back(nanos) => now.saturating_sub(nanos),
                PlannedTime::FarLater => tick.saturating_add(3_600_000_000_000),
            };
            step.event.tell(&mut player, request, now);
        }
        player.into_history()
    }
}

impl PlannedStep {
    /// Returns whether the operator does something.
    pub fn is_by_hand(&self) -> bool {
        matches!(self.event, PlannedEvent::OpenGate | PlannedEvent::CloseGate(_))
    }
}

impl PlannedEvent {
    fn tell(self, player: &mut Player, request: usize, now: u64) {
        let newest = player.seen(request).sends;
        let number = |which| match which {
            WhichAttempt::Newest => newest,
            WhichAttempt::Earlier(by) => newest.saturating_sub(by),
            WhichAttempt::Numbered(number) => number,
        };
        let input = match self {
            PlannedEvent::Obey(result, outcome) => {
                let result = result.map(|numbers| player.response(numbers));
                return player.obey(request, now, result, outcome);
            }
            PlannedEvent::Start => Input::Start,
            PlannedEvent::Tick => Input::Tick,
            PlannedEvent::Reply(attempt, response) => Input::Reply(number(attempt), player.response(response)),
            PlannedEvent::Error(attempt, error) => Input::Error(number(attempt), error),
            PlannedEvent::Report(which, outcome) => {
                let newest = player.newest_lease(request);
                let lease = match which {
                    WhichLease::Own => player.lease(request),
                    WhichLease::Earlier(by) => newest.saturating_sub(by),
                    WhichLease::Never => newest + 1,
                };
                Input::Report(lease, outcome)
            }
            PlannedEvent::Cancel => Input::Cancel,
            PlannedEvent::TokenReplaced(lifetime) => Input::TokenReplaced(lifetime),
            PlannedEvent::TokenRemoved => Input::TokenRemoved,
            PlannedEvent::OpenGate => Input::OpenGate,
            PlannedEvent::CloseGate(nanos) => Input::CloseGate(now.saturating_add(nanos)),
        };
        let _: Option<Action> = player.tell(request, now, input);
    }
}

/// Generates a request, mostly without limits of its own.
pub fn request() -> impl Strategy<Value = Request> {
    let idempotency = select(vec![Idempotency::Idempotent, Idempotency::NonIdempotent]);
    let limit = || option::weighted(0.5, nanos().prop_map(Duration::from_nanos));
    let retries = option::weighted(0.5, prop_oneof![3 => 0_u16..4, 1 => any::<u16>()]);
    let limits = (limit(), retries, limit()).prop_map(|(deadline, max_retries, attempt_timeout)| RequestLimits {
        deadline,
        max_retries,
        attempt_timeout,
    });
    // S8: mostly one login and one gate.
    let part = || prop_oneof![4 => Just(0), 1 => 0_usize..3];
    (idempotency, option::weighted(0.3, limits), part(), part()).prop_map(|(idempotency, limits, login, gate)| {
        Request { idempotency, limits: limits.unwrap_or_default(), login, gate }
    })
}

/// Generates what the logins begin with.
fn first_token() -> impl Strategy<Value = FirstToken> {
    prop_oneof![
        5 => Just(FirstToken::OfUnknownExpiry),
        4 => nanos().prop_map(FirstToken::For),
        1 => Just(FirstToken::None),
    ]
}

/// Generates one to seven requests to one upstream, and up to 80 events.
pub fn plan() -> impl Strategy<Value = Plan> {
    plan_of(settings(), server_bias())
}

/// Generates a plan in which the budget is soon empty, and little else ends a request.
pub fn plan_on_a_budget() -> impl Strategy<Value = Plan> {
    let settings = (settings(), budget()).prop_map(|(settings, budget)| Settings {
        budget: Some(budget),
        max_retries: 9,
        deadline: None,
        breaker: None,
        ..settings
    });
    plan_of(settings, Just(ServerBias::Failing))
}

/// Generates a plan with a breaker that opens soon, and with little else that ends a request.
pub fn plan_with_a_breaker() -> impl Strategy<Value = Plan> {
    let settings = (settings(), 1_u32..4, 1_u64..24).prop_map(|(settings, failure_threshold, quarters)| Settings {
        breaker: Some(BreakerPolicy { failure_threshold, open_for: Duration::from_nanos(quarters * QUARTER) }),
        max_retries: 9,
        budget: None,
        deadline: None,
        ..settings
    });
    plan_of(settings, server_bias())
}

/// Generates a plan in which attempts run out through retries and refreshes.
pub fn plan_of_few_attempts() -> impl Strategy<Value = Plan> {
    let settings = settings().prop_map(|settings| Settings {
        max_retries: settings.max_retries % 3,
        throttle_retries: settings.throttle_retries.map(|retries| retries % 3),
        max_token_recoveries: settings.max_token_recoveries % 3,
        budget: None,
        deadline: None,
        ..settings
    });
    plan_of(settings, select(vec![ServerBias::Failing, ServerBias::Expired, ServerBias::Expired]))
}

/// Generates a plan in which waits often end just at the deadline.
pub fn plan_with_a_deadline() -> impl Strategy<Value = Plan> {
    let settings = (settings(), 0_u64..12, 1_u64..24).prop_map(|(settings, seconds, quarters)| Settings {
        deadline: Some(seconds * 4 * QUARTER),
        jitter: if seconds % 3 == 0 { settings.jitter } else { Jitter::None },
        initial_backoff: quarters * QUARTER,
        budget: None,
        ..settings
    });
    plan_of(settings, server_bias())
}

/// Generates a plan in which the token often expires and is often refused, with little else that ends a request.
pub fn plan_at_the_login() -> impl Strategy<Value = Plan> {
    let settings = (settings(), 1_u64..60, 1_u64..60).prop_map(|(settings, margin, timeout)| Settings {
        refresh_margin: margin * 4 * QUARTER,
        refresh_timeout: timeout * 4 * QUARTER,
        max_token_recoveries: 2,
        max_retries: 9,
        budget: None,
        breaker: None,
        deadline: None,
        gate: false,
        ..settings
    });
    let plan = plan_of(settings, Just(ServerBias::Expired));
    (plan, 1_u64..100).prop_map(|(plan, seconds)| Plan {
        setup: Setup { first_token: FirstToken::For(seconds * 4 * QUARTER), ..plan.setup },
        ..plan
    })
}

fn plan_of(
    settings: impl Strategy<Value = Settings>,
    bias: impl Strategy<Value = ServerBias>,
) -> impl Strategy<Value = Plan> {
    let setting = (settings, any::<u64>(), first_token(), bias);
    let requests = prop_oneof![vec(request(), 1..3), vec(request(), 3..8)];
    let steps = prop_oneof![1 => vec(choices(), 1..20), 3 => vec(choices(), 40..80)];
    (setting, requests, steps).prop_map(|((settings, seed, first_token, bias), requests, choices)| {
        let steps = choices.into_iter().map(|choices| choices.step(bias)).collect();
        Plan { setup: Setup { settings, seed, first_token, requests }, steps }
    })
}

/// Generates the ends of sends and of refreshes.
pub fn results() -> impl Strategy<Value = Vec<(Result<Numbers, TransportErrorKind>, RefreshOutcome)>> {
    let result = |bias, mut choices: Choices| (choices.result(bias), choices.outcome());
    (server_bias(), vec(choices(), 1..20))
        .prop_map(move |(bias, all)| all.into_iter().map(|choices| result(bias, choices)).collect())
}

/// A number that choices divide by their weights. It is cheaper than a tree of strategies for each of a hundred steps. The
/// first choice is always 0, so that it shrinks.
#[derive(Debug)]
struct Choices {
    entropy: u128,
    /// The number for the rare choice of any number.
    any: u64,
}

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        let choice = self.entropy % u128::from(n);
        self.entropy /= u128::from(n);
        u64::try_from(choice).expect("it is below a u64")
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let choice = self.below(choices.len() as u64);
        choices[usize::try_from(choice).expect("it is an index")]
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == of - 1
    }

    fn number(&mut self) -> u64 {
        match self.below(10) {
            0..6 => self.below(10),
            6..9 => self.below(400),
            _ => self.any,
        }
    }

    fn nanos(&mut self) -> u64 {
        match self.below(8) {
            0..4 => self.below(24) * QUARTER,
            4..7 => self.below(300) * 4 * QUARTER,
            _ => self.any,
        }
    }

    fn duration(&mut self) -> Option<Duration> {
        self.chance(2).then(|| Duration::from_nanos(self.nanos()))
    }

    fn response(&mut self, bias: ServerBias) -> Numbers {
        let usual: &[u16] = match bias {
            ServerBias::Failing => &[500, 503, 502, 504, 429, 200],
            ServerBias::Throttled => &[429, 503, 200, 429, 403, 201],
            ServerBias::Expired => &[401, 401, 401, 503, 200, 429],
        };
        let status = match self.below(8) {
            0..6 => self.one_of(usual),
            6 => self.one_of(&[200, 101, 301, 400, 403, 404, 409, 422, 502, 401, 408]),
            _ => u16::try_from(self.any % 1_000).expect("it is below a thousand"),
        };
        let challenges = [None, Some("insufficient_scope"), Some("insufficient_claims"), Some("token_revoked")];
        let codes = [CodeClass::None, CodeClass::InsufficientScope, CodeClass::TokenRevoked, CodeClass::Other];
        Numbers {
            status,
            retry_after: self.chance(2).then(|| self.number()),
            retry_after_ms: self.chance(8).then(|| self.number()),
            limit: self.chance(4).then(|| (self.below(2), self.number())),
            told: self.chance(10).then(|| self.nanos()),
            pushback: self.chance(6).then(|| self.pushback()),
            should_retry: self.chance(8).then(|| self.chance(2)),
            verdict: self.chance(8).then(|| self.verdict()),
            challenge: if status == 401 && self.chance(3) || self.chance(8) { self.one_of(&challenges) } else { None },
            code: if self.chance(12) { self.one_of(&codes) } else { CodeClass::None },
        }
    }

    fn pushback(&mut self) -> PushbackField {
        match self.below(8) {
            0..3 => PushbackField::Once(0),
            3..6 => PushbackField::Once(self.number()),
            6 => PushbackField::Twice(self.number()),
            _ => PushbackField::Negative(self.number()),
        }
    }

    fn verdict(&mut self) -> Verdict {
        self.one_of(&[Verdict::Transient, Verdict::TokenExpired, Verdict::Throttled, Verdict::Final])
    }

    fn transport_error(&mut self) -> TransportErrorKind {
        use TransportErrorKind::{Broken, NotSent, Other, Permanent, TimedOut, Unprocessed};
        self.one_of(&[NotSent, TimedOut, Broken, Other, Unprocessed, Unprocessed, Permanent])
    }

    fn result(&mut self, bias: ServerBias) -> Result<Numbers, TransportErrorKind> {
        if self.chance(6) { Err(self.transport_error()) } else { Ok(self.response(bias)) }
    }

    fn outcome(&mut self) -> RefreshOutcome {
        match self.below(10) {
            0..5 => RefreshOutcome::Refreshed { expires_in: self.duration() },
            5..7 => RefreshOutcome::Unavailable { retry_after: self.duration() },
            7..9 => RefreshOutcome::Abandoned,
            _ => RefreshOutcome::Rejected,
        }
    }

    fn time(&mut self) -> PlannedTime {
        match self.below(16) {
            0..6 => PlannedTime::AtTick,
            6..8 => PlannedTime::OneBeforeTick,
            8..13 => PlannedTime::After(self.below(8) * QUARTER),
            13 => PlannedTime::After(self.nanos()),
            14 => PlannedTime::Back(self.nanos()),
            _ => PlannedTime::FarLater,
        }
    }

    fn which(&mut self) -> WhichAttempt {
        match self.below(8) {
            0..3 => WhichAttempt::Newest,
            3..7 => WhichAttempt::Earlier(1 + u32::from(self.chance(4))),
            _ => WhichAttempt::Numbered(self.one_of(&[0, 1, 2, 7, u32::MAX])),
        }
    }

    fn which_lease(&mut self) -> WhichLease {
        match self.below(8) {
            0..5 => WhichLease::Own,
            5..7 => WhichLease::Earlier(1 + u32::from(self.chance(3))),
            _ => WhichLease::Never,
        }
    }

    fn step(mut self, bias: ServerBias) -> PlannedStep {
        let event = match self.below(32) {
            0..18 => PlannedEvent::Obey(self.result(bias), self.outcome()),
            18..22 => PlannedEvent::Tick,
            22..26 => PlannedEvent::Reply(self.which(), self.response(bias)),
            26 => PlannedEvent::Error(self.which(), self.transport_error()),
            27 => PlannedEvent::Report(self.which_lease(), self.outcome()),
            28 => PlannedEvent::Start,
            29 if self.chance(4) => PlannedEvent::CloseGate(self.nanos()),
            29 => self.one_of(&[PlannedEvent::Cancel, PlannedEvent::OpenGate]),
            30 if self.chance(6) => PlannedEvent::TokenRemoved,
            30 => PlannedEvent::TokenReplaced(self.chance(2).then(|| self.nanos())),
            _ => PlannedEvent::Reply(WhichAttempt::Earlier(1), Numbers { status: 200, ..self.response(bias) }),
        };
        PlannedStep { request: self.below(7), time: self.time(), event }
    }
}

/// The responses that the server favors.
#[derive(Clone, Copy, Debug)]
pub enum ServerBias {
    Failing,
    Throttled,
    Expired,
}

fn choices() -> impl Strategy<Value = Choices> {
    (any::<u128>(), any::<u64>()).prop_map(|(entropy, any)| Choices { entropy, any })
}

fn server_bias() -> impl Strategy<Value = ServerBias> {
    select(vec![ServerBias::Failing, ServerBias::Throttled, ServerBias::Expired])
}
