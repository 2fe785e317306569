//! What happens: bytes become events, near to what the machines themselves ask for.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::{
    Action, CodeClass, Event, HintSource, Idempotency, RefreshOutcome, Reply, ResetFormat, Timestamp,
    TransportErrorKind,
};

use super::policy::{duration, policy};
use super::world::World;

const STATUSES: [u16; 22] =
    [429, 503, 500, 401, 200, 403, 404, 400, 409, 422, 204, 301, 408, 425, 502, 504, 418, 100, 599, 600, 0, u16::MAX];

/// An upstream with up to four requests.
pub fn world(u: &mut Unstructured<'_>) -> Result<World> {
    let (policy, known) = policy(u)?;
    let mut requests = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        requests.push(if u.arbitrary()? { Idempotency::Idempotent } else { Idempotency::NonIdempotent });
    }
    let lifetime = if u.ratio(1, 4)? { Some(duration(u)?) } else { None };
    Ok(World::new(policy, known, u.arbitrary::<u8>()?.into(), &requests, lifetime))
}

/// One event.
pub fn step(u: &mut Unstructured<'_>, world: &mut World) -> Result<()> {
    let request = u.int_in_range(0..=world.requests() - 1)?;
    let now = time(u, world, request)?;
    let newest = world.attempts(request);
    let attempt = match u.int_in_range(0..=7)? {
        0 => newest.wrapping_sub(1),
        1 => newest.wrapping_add(1),
        2 => u.int_in_range(0..=4)?,
        _ => newest,
    };
    let event = match u.int_in_range(0..=15)? {
        0 => Event::Start,
        1 => Event::Cancel,
        2 => Event::Refreshed(outcome(u)?),
        3 => {
            let lifetime = if u.arbitrary()? { Some(duration(u)?) } else { None };
            world.token_replaced(now, lifetime);
            return Ok(());
        }
        4 => {
            world.open_gate(now);
            return Ok(());
        }
        5 | 6 => Event::TransportError { attempt, kind: transport_error(u)? },
        7..=9 => Event::Reply { attempt, reply: reply(u)? },
        10 | 11 => Event::Tick,
        // What the machine asks for.
        _ => match world.last(request) {
            None => Event::Start,
            Some(Action::RefreshToken { .. }) => Event::Refreshed(outcome(u)?),
            Some(Action::Send { .. } | Action::InFlight { .. }) => Event::Reply { attempt: newest, reply: reply(u)? },
            Some(_) => Event::Tick,
        },
    };
    world.tell(request, now, event);
    Ok(())
}

/// The next event of a driver that does what it is told, on time.
pub fn obey(world: &mut World, request: usize, habit: u8) {
    let attempt = world.is_in_flight(request).then(|| world.attempts(request));
    let (now, event) = answer(world.last(request), world.now(), attempt, world.has_few_retries(), habit);
    world.tell(request, now, event);
}

/// What the last action asks for, and when. `attempt` is in flight.
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

/// Often just when a machine wants its next tick, or a nanosecond before.
fn time(u: &mut Unstructured<'_>, world: &World, request: usize) -> Result<Timestamp> {
    let now = world.now();
    let next = world.next_tick(request).unwrap_or(now);
    Ok(match u.int_in_range(0..=9)? {
        0 => now,
        1 => now.saturating_add(Duration::from_nanos(u.arbitrary::<u8>()?.into())),
        2 => now.saturating_add(Duration::from_millis(u.arbitrary::<u16>()?.into())),
        3 => Timestamp::from_nanos(next.as_nanos().saturating_sub(1)),
        4 => next.saturating_add(duration(u)?),
        5 if u.ratio(1, 8)? => Timestamp::from_nanos(u.arbitrary()?),
        6 => world.next_tick(u.int_in_range(0..=world.requests() - 1)?).unwrap_or(now),
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
