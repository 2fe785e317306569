//! The stories, and the reply for each answer in them.

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde_json::json;

use super::Clock;
use super::reply::{self, Outcome, Reply};

use Answer::{
    CutAfterApplying, CutBefore, CutWithin, Error, ExpireToken, HtmlPage, Limited, NotJson, RevokeGrant, Silence,
    Success,
};
use Wait::{DateAhead, Seconds};

/// Returns the answers of a story, one for each call. The last one repeats. `None` for an unknown
/// story.
#[rustfmt::skip]
pub(super) fn of(story: &str) -> Option<&'static [Answer]> {
    Some(match story {
        // The second is about the expiry of the token, the third about many calls at once.
        "ok" | "expired-token" | "stampede" => &[Success],

        "still-401"            => &[UNAUTHORIZED],
        "revoked-grant"        => &[RevokeGrant],

        "rate-limited-seconds" => &[Limited(Seconds(2)), Success],
        "rate-limited-date"    => &[Limited(DateAhead(3)), Success],
        "rate-limited-hour"    => &[Limited(Seconds(3600))],

        "unavailable-twice"    => &[UNAVAILABLE, UNAVAILABLE, Success],
        "server-error"         => &[Error(500, "internal_error", "Something went wrong here.")],
        "bad-gateway"          => &[Error(502, "bad_gateway", "The carrier gave no useful answer.")],

        "bad-request"          => &[Error(400, "bad_request", "The 'to' field is missing.")],
        "forbidden"            => &[Error(403, "insufficient_scope", "The token lacks the scope 'messages:write'.")],
        "not-found"            => &[NOT_FOUND],
        "conflict"             => &[Error(409, "conflict", "A contact with this number exists.")],
        "validation"           => &[Error(422, "validation_error", "The 'email' field must be a valid address.")],

        "html"                 => &[HtmlPage, Success],
        "not-json"             => &[NotJson],

        "cut-before"           => &[CutBefore, Success],
        "cut-within"           => &[CutWithin, Success],
        "cut-post"             => &[CutAfterApplying, Success],
        "hang"                 => &[Silence, Success],

        "bad-day"              => &[Limited(Seconds(2)), UNAVAILABLE, ExpireToken, CutBefore, HtmlPage, Success],
        _ => return None,
    })
}

/// The answer to a call without a valid token.
pub(super) const UNAUTHORIZED: Answer = Error(401, "invalid_token", "The bearer token is expired or malformed.");

/// The answer to a call of an unknown path.
pub(super) const NOT_FOUND: Answer = Error(404, "not_found", "There is no such resource; ids are case-sensitive.");

const UNAVAILABLE: Answer = Error(503, "service_unavailable", "We are busy. Come back later.");

/// One answer of a story.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// 200 with a `data` object.
    Success,
    /// An error of the guide: status, `error`, `message`.
    Error(u16, &'static str, &'static str),
    /// 429, with the wait.
    Limited(Wait),
    /// 401, and the grant of the caller's token is revoked.
    RevokeGrant,
    /// 401: the caller's token expires now.
    ExpireToken,
    /// 500 with the error page of some proxy.
    HtmlPage,
    /// 422 with a body that claims to be JSON but is not.
    NotJson,
    /// The connection is cut before the first byte of a reply.
    CutBefore,
    /// 200, but the connection is cut half-way through the body.
    CutWithin,
    /// The request takes effect, then the connection is cut before the first byte of a reply.
    CutAfterApplying,
    /// No reply at all.
    Silence,
}

/// The form in which a 429 states the wait.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    /// A number of seconds from now.
    Seconds(u64),
    /// A date, this number of seconds after the reply's own `Date`.
    DateAhead(u64),
}

impl Answer {
    /// Returns whether only a valid token gets this answer. In stories about bad tokens, any token does.
    pub(super) fn needs_token(self) -> bool {
        !matches!(self, RevokeGrant | ExpireToken | Error(401, ..))
    }

    /// Returns whether the request takes effect.
    pub(super) fn applies(self) -> bool {
        matches!(self, Success | CutWithin | CutAfterApplying)
    }

    /// Returns the earliest virtual instant at which it allows the next call.
    pub(super) fn not_before_ms(self, clock: Clock, now_ms: u64) -> Option<u64> {
        match self {
            Limited(wait) => Some(wait.end_ms(clock, now_ms)),
            _ => None,
        }
    }

    /// Builds the caller's reply at a virtual instant.
    pub(super) fn outcome(self, clock: Clock, now_ms: u64) -> Outcome {
        let data = json!({ "data": { "id": "msg_1", "status": "sent" } });
        Outcome::Reply(match self {
            Success => reply::json(StatusCode::OK, &data),
            Error(status, code, message) => {
                let status = StatusCode::from_u16(status).expect("a status of the table");
                reply::error(status, code, message)
            }
            RevokeGrant | ExpireToken => return UNAUTHORIZED.outcome(clock, now_ms),
            Limited(wait) => {
                let end_ms = wait.end_ms(clock, now_ms);
                too_many_requests(wait, clock.unix_at(end_ms).div_ceil(1000))
            }
            HtmlPage => {
                let page = "<!DOCTYPE html><title>500</title><h1>Internal Server Error</h1>";
                reply::text(StatusCode::INTERNAL_SERVER_ERROR, "text/html", page)
            }
            NotJson => {
                let body = "email: not a valid address";
                reply::text(StatusCode::UNPROCESSABLE_ENTITY, "application/json", body)
            }
            CutWithin => reply::half(StatusCode::OK, &data),
            CutBefore | CutAfterApplying => return Outcome::Cut,
            Silence => return Outcome::Hang,
        })
    }
}

impl Wait {
    /// Returns the virtual instant at which it ends. A date has whole seconds, like the `Date` of the
    /// reply.
    fn end_ms(self, clock: Clock, now_ms: u64) -> u64 {
        match self {
            Seconds(wait) => now_ms + wait * 1000,
            DateAhead(wait) => {
                let unix_s = clock.unix_at(now_ms) / 1000 + wait;
                (unix_s * 1000).saturating_sub(clock.unix_origin_ms)
            }
        }
    }
}

/// Builds a 429 whose `Retry-After` and `X-RateLimit-Reset` agree to the second.
fn too_many_requests(wait: Wait, reset_unix_s: u64) -> Reply {
    let (retry_after, message) = match wait {
        Seconds(wait) => {
            let message = format!("Too many requests. Please retry after {wait} seconds.");
            (HeaderValue::from(wait), message)
        }
        DateAhead(_) => {
            let message = "Too many requests. Please retry later.".to_owned();
            (reply::http_date(reset_unix_s), message)
        }
    };
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut reply = reply::error(status, "rate_limit_exceeded", &message);
    let headers = reply.headers_mut();
    headers.insert(RETRY_AFTER, retry_after);
    headers.insert("X-RateLimit-Limit", 100.into());
    headers.insert("X-RateLimit-Remaining", 0.into());
    headers.insert("X-RateLimit-Reset", reset_unix_s.into());
    reply
}
