//! Events from a fuzzer's bytes, close to those that the machines ask for.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::{
    Action, CodeClass, Event, HintSource, Idempotency, RefreshOutcome, Reply, ResetFormat, Timestamp,
    TransportErrorKind,
};

use super::super::common::history::{Input, Player, Response, Setup};
use super::super::common::settings::nanos;
use super::settings::{duration, settings};

const STATUSES: [u16; 22] =
    [429, 503, 500, 401, 200, 403, 404, 400, 409, 422, 204, 301, 408, 425, 502, 504, 418, 100, 599, 600, 0, u16::MAX];

/// Chooses an upstream with up to four requests.
pub fn player(u: &mut Unstructured<'_>) -> Result<Player> {
    let settings = settings(u)?;
    let mut requests = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        requests.push(if u.arbitrary()? { Idempotency::Idempotent } else { Idempotency::NonIdempotent });
    }
    let token_expires_in = if u.ratio(1, 4)? { Some(nanos(duration(u)?)) } else { None };
    Ok(Player::new(Setup { settings, seed: u.arbitrary::<u8>()?.into(), token_expires_in, requests }))
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
        2 => Input::Refreshed(outcome(u)?),
        3 => Input::TokenReplaced(if u.arbitrary()? { Some(nanos(duration(u)?)) } else { None }),
        4 => Input::OpenGate,
        5 | 6 => Input::Error(attempt, transport_error(u)?),
        7..=9 => Input::Reply(attempt, Response::of(reply(u)?)),
        10 | 11 => Input::Tick,
        // The event that the machine asks for.
        _ => match player.seen(request).last {
            None => Input::Start,
            Some(Action::RefreshToken { .. }) => Input::Refreshed(outcome(u)?),
            Some(Action::Send { .. } | Action::InFlight { .. }) => Input::Reply(newest, Response::of(reply(u)?)),
            Some(_) => Input::Tick,
        },
    };
    let _ = player.tell(request, now, input);
    Ok(())
}

/// Returns how sends and refreshes end if all of them end alike.
pub fn habit(habit: u8) -> (std::result::Result<Response, TransportErrorKind>, RefreshOutcome) {
    let result = match habit % 4 {
        0 => Ok(Response::of(Reply::new(500))),
        1 => Err(TransportErrorKind::NotSent),
        2 => Ok(Response::of(Reply::new(401))),
        _ => Ok(Response::of(Reply::new(200))),
    };
    let outcome = match habit & 64 {
        0 => RefreshOutcome::Refreshed { expires_in: None },
        _ => RefreshOutcome::Unavailable { retry_after: None },
    };
    (result, outcome)
}

/// Returns the event that the last action asks for, and its time. `attempt` is in flight.
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
        (Some(_), _) if habit & 64 == 0 => (now, Event::Refreshed(RefreshOutcome::Refreshed { expires_in: None })),
        (Some(_), _) => (now, Event::Refreshed(RefreshOutcome::Unavailable { retry_after: None })),
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

pub fn reply(u: &mut Unstructured<'_>) -> Result<Reply> {
    let status = *u.choose(&STATUSES)?;
    let wait = [0, 1, 5, 30, 300, 301, 100_000, u64::MAX];
    Ok(match u.int_in_range(0..=8)? {
        0 | 1 => Reply::new(status),
        2 => Reply::new(status).with_hint(duration(u)?, HintSource::RetryAfter),
        3 => Reply::read(status, [("Retry-After", u.choose(&wait)?.to_string())], None, ResetFormat::Auto),
        4 => Reply::read(status, [("retry-after-ms", u.arbitrary::<u16>()?.to_string())], None, ResetFormat::Auto),
        5 | 6 => {
            let remaining = u.int_in_range(0..=1)?.to_string();
            let headers = [("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", u.choose(&wait)?.to_string())];
            Reply::read(status, headers, None, ResetFormat::Delta)
        }
        7 => {
            let codes = ["insufficient_scope", "insufficient_claims", "token_revoked", "invalid_token", "new"];
            let challenge = format!("Bearer error={}", u.choose(&codes)?);
            Reply::read(status, [("WWW-Authenticate", challenge)], None, ResetFormat::Auto)
        }
        _ => {
            let codes = [CodeClass::InsufficientScope, CodeClass::TokenRevoked, CodeClass::Other];
            Reply::read(status, [("Retry-After", "soon")], None, ResetFormat::Auto).with_code(*u.choose(&codes)?)
        }
    })
}

pub fn transport_error(u: &mut Unstructured<'_>) -> Result<TransportErrorKind> {
    use TransportErrorKind::{Broken, NotSent, Other, TimedOut};
    u.choose(&[NotSent, TimedOut, Broken, Other]).copied()
}

pub fn outcome(u: &mut Unstructured<'_>) -> Result<RefreshOutcome> {
    let time = |u: &mut Unstructured<'_>| if u.arbitrary()? { Ok(Some(duration(u)?)) } else { Ok(None) };
    Ok(match u.int_in_range(0..=3)? {
        0 => RefreshOutcome::Rejected,
        1 => RefreshOutcome::Unavailable { retry_after: time(u)? },
        _ => RefreshOutcome::Refreshed { expires_in: time(u)? },
    })
}
