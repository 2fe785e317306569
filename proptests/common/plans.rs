//! Any requests to one upstream, and any events: what the property tests draw from.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use retry_machine::{Idempotency, Jitter, RefreshOutcome, TransportErrorKind};

use crate::strategies::{QUARTER, Settings, budget, nanos, settings};

/// What a test tells to whom.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub seed: u64,
    pub token_expires_in: Option<u64>,
    pub requests: Vec<Idempotency>,
    pub steps: Vec<PlannedStep>,
}

#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// One of the plan's, wrapping around.
    pub request: u64,
    pub when: HeaderTime,
    pub what: RecordKind,
}

/// When, seen from the event before and from the next tick that the request wants.
#[derive(Clone, Copy, Debug)]
pub enum HeaderTime {
    AtTick,
    OneBeforeTick,
    After(u64),
    Back(u64),
    FarLater,
}

#[derive(Clone, Copy, Debug)]
pub enum RecordKind {
    /// Do what the last action asks for; if that is a send, then with this result, and so on.
    Obey(Result<Response, TransportErrorKind>, RefreshOutcome),
    Start,
    Tick,
    Reply(Which, Response),
    Error(Which, TransportErrorKind),
    Token(RefreshOutcome),
    Cancel,
    TokenReplaced(Option<u64>),
    OpenGate,
}

/// Which attempt is named.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Newest,
    /// So many before the newest.
    Earlier(u32),
    Numbered(u32),
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

pub fn idempotency() -> impl Strategy<Value = Idempotency> {
    select(vec![Idempotency::Idempotent, Idempotency::NonIdempotent])
}

/// One to seven requests to one upstream, and up to 80 events.
pub fn plan() -> impl Strategy<Value = Plan> {
    plan_of(settings(), mood())
}

/// One where the budget is soon empty, and little else ends a request.
pub fn plan_on_a_budget() -> impl Strategy<Value = Plan> {
    let settings = (settings(), budget()).prop_map(|(settings, budget)| Settings {
        budget: Some(budget),
        max_retries: 9,
        deadline: None,
        breaker: None,
        ..settings
    });
    plan_of(settings, Just(Mood::Failing))
}

/// One where attempts run out, by retries and by refreshes.
pub fn plan_of_few_attempts() -> impl Strategy<Value = Plan> {
    let settings = settings().prop_map(|settings| Settings {
        max_retries: settings.max_retries % 3,
        max_token_recoveries: settings.max_token_recoveries % 3,
        budget: None,
        deadline: None,
        ..settings
    });
    plan_of(settings, select(vec![Mood::Failing, Mood::Expired, Mood::Expired]))
}

/// One where waits often end just at the deadline.
pub fn plan_with_a_deadline() -> impl Strategy<Value = Plan> {
    let settings = (settings(), 0_u64..12, 1_u64..24).prop_map(|(settings, seconds, quarters)| Settings {
        deadline: Some(seconds * 4 * QUARTER),
        jitter: if seconds % 3 == 0 { settings.jitter } else { Jitter::None },
        base: quarters * QUARTER,
        budget: None,
        ..settings
    });
    plan_of(settings, mood())
}

fn plan_of(
    settings: impl Strategy<Value = Settings>,
    mood: impl Strategy<Value = Mood>,
) -> impl Strategy<Value = Plan> {
    let setting = (settings, any::<u64>(), option::weighted(0.4, nanos()), mood);
    let requests = prop_oneof![vec(idempotency(), 1..3), vec(idempotency(), 3..8)];
    let steps = prop_oneof![1 => vec(dice(), 1..20), 3 => vec(dice(), 40..80)];
    (setting, requests, steps).prop_map(|((settings, seed, token_expires_in, mood), requests, dice)| {
        let steps = dice.into_iter().map(|dice| dice.step(mood)).collect();
        Plan { settings, seed, token_expires_in, requests, steps }
    })
}

/// How sends and refreshes end that were done as asked for.
pub fn results() -> impl Strategy<Value = Vec<(Result<Response, TransportErrorKind>, RefreshOutcome)>> {
    (mood(), vec(dice(), 1..20))
        .prop_map(|(mood, dice)| dice.into_iter().map(|mut dice| (dice.result(mood), dice.outcome())).collect())
}

/// A number that is taken apart by weights. Cheap, where a tree of strategies for each of a hundred steps is not; and 0
/// is everywhere the first choice, so that it shrinks.
#[derive(Debug)]
struct Dice {
    spots: u128,
    /// For the rare choice of any number at all.
    any: u64,
}

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        let spot = self.spots % u128::from(n);
        self.spots /= u128::from(n);
        u64::try_from(spot).expect("it is below a u64")
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

    fn response(&mut self, mood: Mood) -> Response {
        let usual: &[u16] = match mood {
            Mood::Failing => &[500, 503, 502, 504, 429, 200],
            Mood::Throttled => &[429, 503, 200, 429, 403, 201],
            Mood::Expired => &[401, 401, 401, 503, 200, 429],
        };
        let status = match self.below(8) {
            0..6 => self.one_of(usual),
            6 => self.one_of(&[200, 301, 400, 403, 404, 409, 422, 502, 401, 408]),
            _ => u16::try_from(self.any % 1_000).expect("it is below a thousand"),
        };
        Response {
            status,
            retry_after: self.chance(2).then(|| self.number()),
            retry_after_ms: self.chance(8).then(|| self.number()),
            limit: self.chance(4).then(|| (self.below(2), self.number())),
        }
    }

    fn transport_error(&mut self) -> TransportErrorKind {
        use TransportErrorKind::{Broken, NotSent, Other, TimedOut};
        self.one_of(&[NotSent, TimedOut, Broken, Other])
    }

    fn result(&mut self, mood: Mood) -> Result<Response, TransportErrorKind> {
        if self.chance(6) { Err(self.transport_error()) } else { Ok(self.response(mood)) }
    }

    fn outcome(&mut self) -> RefreshOutcome {
        match self.below(8) {
            0..5 => RefreshOutcome::Refreshed { expires_in: self.duration() },
            5..7 => RefreshOutcome::Unavailable { retry_after: self.duration() },
            _ => RefreshOutcome::Rejected,
        }
    }

    fn when(&mut self) -> HeaderTime {
        match self.below(16) {
            0..6 => HeaderTime::AtTick,
            6..8 => HeaderTime::OneBeforeTick,
            8..13 => HeaderTime::After(self.below(8) * QUARTER),
            13 => HeaderTime::After(self.nanos()),
            14 => HeaderTime::Back(self.nanos()),
            _ => HeaderTime::FarLater,
        }
    }

    fn which(&mut self) -> Which {
        match self.below(8) {
            0..3 => Which::Newest,
            3..7 => Which::Earlier(1 + u32::from(self.chance(4))),
            _ => Which::Numbered(self.one_of(&[0, 1, 2, 7, u32::MAX])),
        }
    }

    fn step(mut self, mood: Mood) -> PlannedStep {
        let what = match self.below(32) {
            0..18 => RecordKind::Obey(self.result(mood), self.outcome()),
            18..22 => RecordKind::Tick,
            22..26 => RecordKind::Reply(self.which(), self.response(mood)),
            26 => RecordKind::Error(self.which(), self.transport_error()),
            27 => RecordKind::Token(self.outcome()),
            28 => RecordKind::Start,
            29 => self.one_of(&[RecordKind::Cancel, RecordKind::OpenGate]),
            30 => RecordKind::TokenReplaced(self.chance(2).then(|| self.nanos())),
            _ => RecordKind::Reply(Which::Earlier(1), Response { status: 200, ..self.response(mood) }),
        };
        PlannedStep { request: self.below(7), when: self.when(), what }
    }
}

/// What the upstream mostly answers.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    Failing,
    Throttled,
    Expired,
}

fn dice() -> impl Strategy<Value = Dice> {
    (any::<u128>(), any::<u64>()).prop_map(|(spots, any)| Dice { spots, any })
}

fn mood() -> impl Strategy<Value = Mood> {
    select(vec![Mood::Failing, Mood::Throttled, Mood::Expired])
}
