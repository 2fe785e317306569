//! Events from a fuzzer's bytes, close to those that the machines ask for.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::{
    Action, CodeClass, Event, Idempotency, RefreshOutcome, Reply, RequestLimits, Timestamp, TransportErrorKind, Verdict,
};

use super::super::common::history::{FirstToken, Input, Player, Request, Setup};
use super::super::common::response::{Numbers, PushbackField};
use super::super::common::settings::nanos;
use super::settings::{duration, settings};

const STATUSES: [u16; 23] = [
    429,
    503,
    500,
    401,
    200,
    101,
    403,
    404,
    400,
    409,
    422,
    204,
    301,
    408,
    425,
    502,
    504,
    418,
    100,
    599,
    600,
    0,
    u16::MAX,
];

/// Chooses up to four requests to one service, mostly with one login and one gate (S8).
pub fn player(u: &mut Unstructured<'_>) -> Result<Player> {
    let settings = settings(u)?;
    let mut requests = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        let idempotency = if u.arbitrary()? { Idempotency::Idempotent } else { Idempotency::NonIdempotent };
        requests.push(Request { idempotency, limits: limits(u)?, login: part(u)?, gate: part(u)? });
    }
    let first_token = match u.int_in_range(0..=7)? {
        0 | 1 => FirstToken::For(nanos(duration(u)?)),
        2 => FirstToken::None,
        _ => FirstToken::OfUnknownExpiry,
    };
    Ok(Player::new(Setup { settings, seed: u.arbitrary::<u8>()?.into(), first_token, requests }))
}

/// Chooses the number of a login or a gate.
fn part(u: &mut Unstructured<'_>) -> Result<usize> {
    if u.ratio(1, 4)? { u.int_in_range(0..=2) } else { Ok(0) }
}

/// Chooses the number of a lease: mostly the one that the request leads or follows, or else the newest.
fn lease(u: &mut Unstructured<'_>, player: &Player, request: usize) -> Result<u32> {
    let newest = player.newest_lease(request);
    Ok(match u.int_in_range(0..=7)? {
        0 => newest.wrapping_add(1),
        1 | 2 => newest.wrapping_sub(1),
        3 => u.int_in_range(0..=4)?,
        _ => player.lease(request),
    })
}

/// Chooses the limits of a request, mostly none (D17).
pub fn limits(u: &mut Unstructured<'_>) -> Result<RequestLimits> {
    let mut limits = RequestLimits::default();
    match u.int_in_range(0..=7)? {
        0 => limits.deadline = Some(duration(u)?),
        1 => limits.attempt_timeout = Some(duration(u)?),
        2 => limits.max_retries = Some(*u.choose(&[0, 1, 2, u16::MAX])?),
        _ => {}
    }
    Ok(limits)
}

/// Tells one event.
pub fn step(u: &mut Unstructured<'_>, player: &mut Player) -> Result<()> {
    let request = u.int_in_range(0..=player.requests() - 1)?;
    let now = time(u, player, request)?;
    let newest = player.seen(request).sends;
    let attempt = match u.int_in_range(0..=7)? {
        0 => newest.wrapping_sub(1),
        1 => newest.wrapping_add(1),
        2 => u.int_in_range(0..=4)?,
        _ => newest,
    };
    let input = match u.int_in_range(0..=15)? {
        0 => Input::Start,
        1 => Input::Cancel,
        2 => Input::Report(lease(u, player, request)?, outcome(u)?),
        3 if u.ratio(1, 8)? => Input::TokenRemoved,
        3 => Input::TokenReplaced(if u.arbitrary()? { Some(nanos(duration(u)?)) } else { None }),
        4 if u.arbitrary()? => Input::OpenGate,
        4 => Input::CloseGate(now.saturating_add(nanos(duration(u)?))),
        5 | 6 => Input::Error(attempt, transport_error(u)?),
        7..=9 => Input::Reply(attempt, player.response(numbers(u)?)),
        10 | 11 => Input::Tick,
        // The event that the machine asks for.
        _ => match player.seen(request).last {
            None => Input::Start,
            Some(Action::RefreshToken { lease, .. }) => Input::Report(lease, outcome(u)?),
            Some(Action::Send { .. } | Action::InFlight { .. }) => Input::Reply(newest, player.response(numbers(u)?)),
            Some(_) => Input::Tick,
        },
    };
    let _ = player.tell(request, now, input);
    Ok(())
}

/// Returns how sends and refreshes end if all of them end alike.
pub fn habit(habit: u8) -> (std::result::Result<Numbers, TransportErrorKind>, RefreshOutcome) {
    let result = match habit % 4 {
        0 => Ok(Numbers::of(500)),
        1 => Err(if habit & 32 == 0 { TransportErrorKind::NotSent } else { TransportErrorKind::Unprocessed }),
        2 => Ok(Numbers::of(401)),
        _ => Ok(Numbers::of(200)),
    };
    let outcome = match habit & 64 {
        0 => RefreshOutcome::Refreshed { expires_in: None },
        _ => RefreshOutcome::Unavailable { retry_after: None },
    };
    (result, outcome)
}

/// Returns the event that the last action asks for, and its time. `attempt` is in flight. For a refresh it is the tick behind
/// the report.
pub fn answer(
    last: Option<Action>,
    now: Timestamp,
    attempt: Option<u32>,
    few_retries: bool,
    habit: u8,
) -> (Timestamp, Event) {
    match (last, attempt) {
        (None, _) => (now, Event::Start),
        (Some(Action::Wait { until, .. } | Action::AwaitRefresh { until, .. }), _) => (now.max(until), Event::Tick),
        (Some(Action::Send { .. } | Action::InFlight { .. }), Some(attempt)) => {
            let event = match (habit % 4, few_retries) {
                (0, true) => Event::Reply { attempt, reply: Reply::new(500) },
                (1, true) => Event::TransportError { attempt, kind: TransportErrorKind::NotSent },
                (2, _) => Event::Reply { attempt, reply: Reply::new(401) },
                _ => Event::Reply { attempt, reply: Reply::new(200) },
            };
            (now, event)
        }
        (Some(_), _) => (now, Event::Tick),
    }
}

/// Chooses a time: often that of the next tick that a machine asks for, or a nanosecond before.
fn time(u: &mut Unstructured<'_>, player: &Player, request: usize) -> Result<u64> {
    let now = player.now();
    let next = player.next_tick(request).unwrap_or(now);
    Ok(match u.int_in_range(0..=9)? {
        0 => now,
        1 => now.saturating_add(u.arbitrary::<u8>()?.into()),
        2 => now.saturating_add(nanos(Duration::from_millis(u.arbitrary::<u16>()?.into()))),
        3 => next.saturating_sub(1),
        4 => next.saturating_add(nanos(duration(u)?)),
        5 if u.ratio(1, 8)? => u.arbitrary()?,
        6 => player.next_tick(u.int_in_range(0..=player.requests() - 1)?).unwrap_or(now),
        _ => next,
    })
}

pub fn numbers(u: &mut Unstructured<'_>) -> Result<Numbers> {
    let mut numbers = Numbers::of(*u.choose(&STATUSES)?);
    let waits = [0, 1, 5, 30, 300, 301, 100_000, u64::MAX];
    for _ in 0..u.int_in_range(0..=2)? {
        match u.int_in_range(0..=8)? {
            0 | 1 => numbers.retry_after = Some(*u.choose(&waits)?),
            2 => numbers.retry_after_ms = Some(u.arbitrary::<u16>()?.into()),
            3 => numbers.limit = Some((u.int_in_range(0..=1)?, *u.choose(&waits)?)),
            4 => numbers.told = Some(nanos(duration(u)?)),
            5 => {
                let wait = *u.choose(&waits)?;
                let fields = [PushbackField::Once(wait), PushbackField::Twice(wait), PushbackField::Negative(wait)];
                numbers.pushback = Some(*u.choose(&fields)?);
            }
            6 => numbers.should_retry = Some(u.arbitrary()?),
            7 => {
                use Verdict::{Final, Throttled, TokenExpired, Transient};
                numbers.verdict = Some(*u.choose(&[Final, Throttled, TokenExpired, Transient])?);
            }
            _ => {
                let errors = ["insufficient_scope", "insufficient_claims", "token_revoked", "invalid_token", "new"];
                let codes = [CodeClass::None, CodeClass::InsufficientScope, CodeClass::TokenRevoked, CodeClass::Other];
                numbers.challenge = Some(*u.choose(&errors)?);
                numbers.code = *u.choose(&codes)?;
            }
        }
    }
    Ok(numbers)
}

pub fn transport_error(u: &mut Unstructured<'_>) -> Result<TransportErrorKind> {
    use TransportErrorKind::{Broken, NotSent, Other, Permanent, TimedOut, Unprocessed};
    u.choose(&[NotSent, TimedOut, Broken, Other, Unprocessed, Permanent]).copied()
}

pub fn outcome(u: &mut Unstructured<'_>) -> Result<RefreshOutcome> {
    let time = |u: &mut Unstructured<'_>| if u.arbitrary()? { Ok(Some(duration(u)?)) } else { Ok(None) };
    Ok(match u.int_in_range(0..=4)? {
        0 => RefreshOutcome::Rejected,
        4 => RefreshOutcome::Abandoned,
        1 => RefreshOutcome::Unavailable { retry_after: time(u)? },
        _ => RefreshOutcome::Refreshed { expires_in: time(u)? },
    })
}
