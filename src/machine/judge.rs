//! The meaning of a reply and of a transport error for their request: pure functions of policy, facts and idempotency.

use crate::event::TransportErrorKind;
use crate::failure::{Cause, FailureKind};
use crate::policy::{Policy, StatusMeaning};
use crate::reply::{Hint, HintSource, Pushback, Reply, Verdict};
use crate::upstream::breaker::Health;
use crate::upstream::budget::Price;

/// The meaning of a reply for its request (D1–D15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judgment {
    /// The response is the answer.
    Answer,
    /// The token has expired.
    RefreshToken,
    Fail(FailureKind),
    /// Sent again after a wait, at this price: a throttle has its own.
    Retry(Price),
}

/// All that a reply means.
#[derive(Clone, Copy)]
pub(super) struct Ruling {
    pub(super) judgment: Judgment,
    /// The price, where the reply is a failure that may be retried, whether it is or not.
    pub(super) price: Option<Price>,
    /// The health of the service, whatever becomes of the request (D18).
    pub(super) health: Health,
    /// The hint that decides where the reply is retried: a pushback goes before every hint (H11).
    pub(super) hint: Option<Hint>,
}

/// Judges a reply. `is_safe`: the request is safe to repeat (D14).
pub(super) fn judge(policy: &Policy, reply: &Reply, is_safe: bool) -> Ruling {
    use StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
    let status = reply.status();
    let verdict = reply.verdict();
    let hint = effective_hint(reply);
    let own_meaning = || policy.meaning(status, hint.is_some());
    // D11, D15: `None` for an answer, for a *final* reply, and for one that is about the token (K1: a 401 is, whatever a
    // verdict but *final* says).
    let meaning = match (verdict, status) {
        (Some(Verdict::Final | Verdict::TokenExpired), _) | (_, 401) | (None, 101 | 200..=399) => None,
        (Some(Verdict::Transient), _) => Some(Retry),
        (Some(Verdict::Throttled), _) => Some(Throttle),
        (None, _) => Some(own_meaning()),
    };
    let judgment = match meaning {
        None if verdict == Some(Verdict::Final) => Judgment::Fail(kind_of(status)),
        None if verdict == Some(Verdict::TokenExpired) || status == 401 => Judgment::RefreshToken,
        None => Judgment::Answer,
        Some(Surface) => Judgment::Fail(kind_of(status)),
        // D14: on a request that is not safe to repeat; a verdict is the server's own word that it may be repeated.
        Some(RetryIfSafe) if !is_safe => Judgment::Fail(FailureKind::Ambiguous),
        // H11: a pushback's stop counts only where the reply would be retried.
        Some(_) if reply.pushback() == Some(Pushback::Stop) => Judgment::Fail(kind_of(status)),
        Some(Retry | RetryIfSafe) => Judgment::Retry(Price::Retry),
        Some(Throttle) => Judgment::Retry(Price::Throttle),
    };
    let price = match meaning {
        None | Some(Surface) => None,
        Some(Retry | RetryIfSafe) => Some(Price::Retry),
        Some(Throttle) => Some(Price::Throttle),
    };
    let health = match (meaning, status) {
        (Some(Throttle), _) | (Some(Retry | RetryIfSafe), 400..=499) | (None, 401) => Health::Neutral,
        (Some(Retry | RetryIfSafe), _) => Health::Bad,
        (None, _) if verdict == Some(Verdict::TokenExpired) => Health::Neutral,
        // A *final* throttle is a throttle still.
        (None, _) if verdict == Some(Verdict::Final) && own_meaning() == Throttle => Health::Neutral,
        (_, 100..=499) => Health::Good,
        // Other 5xx, and numbers that are not a status.
        _ => Health::Neutral,
    };
    Ruling { judgment, price, health, hint }
}

fn effective_hint(reply: &Reply) -> Option<Hint> {
    match reply.pushback() {
        Some(Pushback::After(wait)) => Some(Hint::new(wait, HintSource::Pushback)),
        Some(Pushback::Stop) | None => reply.hint(),
    }
}

/// Returns the kind of failure of a status that is surfaced (D2–D7, D10).
fn kind_of(status: u16) -> FailureKind {
    match status {
        400 => FailureKind::BadRequest,
        401 => FailureKind::Unauthorized,
        403 => FailureKind::Forbidden,
        404 => FailureKind::NotFound,
        409 => FailureKind::Conflict,
        422 => FailureKind::Validation,
        _ => FailureKind::UnexpectedStatus,
    }
}

/// Returns why a transport error is not retried, if it is not (D13, D14). `is_past_limit`: the attempt reached its limit.
pub(super) fn transport_failure(kind: TransportErrorKind, is_safe: bool, is_past_limit: bool) -> Option<FailureKind> {
    match kind {
        TransportErrorKind::NotSent | TransportErrorKind::Unprocessed => None,
        // P2: an attempt that reached its limit is ambiguous, whatever its transport then reports.
        _ if !is_safe && is_past_limit => Some(FailureKind::Ambiguous),
        TransportErrorKind::Permanent => Some(FailureKind::Transport),
        _ if is_safe => None,
        TransportErrorKind::TimedOut | TransportErrorKind::Broken => Some(FailureKind::Ambiguous),
        TransportErrorKind::Other => Some(FailureKind::Transport),
    }
}

/// Returns the health of the service as a transport error shows it (D18).
pub(super) fn transport_health(kind: TransportErrorKind) -> Health {
    match kind {
        TransportErrorKind::Unprocessed | TransportErrorKind::Permanent => Health::Neutral,
        TransportErrorKind::NotSent
        | TransportErrorKind::TimedOut
        | TransportErrorKind::Broken
        | TransportErrorKind::Other => Health::Bad,
    }
}

/// Returns the cause that a transport error leaves (F8).
pub(super) fn transport_cause(kind: TransportErrorKind) -> Cause {
    match kind {
        TransportErrorKind::NotSent => Cause::NotSent,
        TransportErrorKind::Unprocessed => Cause::Unprocessed,
        TransportErrorKind::TimedOut => Cause::TimedOut,
        TransportErrorKind::Broken => Cause::Broken,
        TransportErrorKind::Permanent => Cause::Permanent,
        TransportErrorKind::Other => Cause::Other,
    }
}
