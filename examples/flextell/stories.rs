//! The stories: how the server treats a call, and how the call must end.

use std::time::Duration;

use http::Method;
use retry_machine::FailureKind::{
    Ambiguous, BadRequest, Conflict, Exhausted, Forbidden, NotFound, ServerWaitTooLong, TokenRejected, Unauthorized,
    UnexpectedStatus, Validation,
};
use retry_machine::{FailureKind, Idempotency, Policy, derive_seed};

use crate::client::{Account, Call, Tokens};
use crate::server::{Clock, Grant, Server};
use crate::timeline::Log;

use Before::{ClosePort, ExpireToken, Nothing};
use Outcome::{Done, Fails};

/// The guide as stories. GET is idempotent, POST is not. The counts are, in this order: attempts, refreshes at the
/// token endpoint, and the times that the request took effect on the server.
#[rustfmt::skip]
pub static STORIES: [Story; 23] = [
    //    name on the server      what happens                              method        before       outcome                              error code             counts
    story("ok",                   "200",                                    Method::GET,  Nothing,     Done(200),                           "",                    [1, 0, 1]),
    story("expired-token",        "expired token, refresh, 200",            Method::POST, ExpireToken, Done(200),                           "",                    [2, 1, 1]),
    story("still-401",            "still 401 after the refresh",            Method::GET,  Nothing,     Fails(Unauthorized, Some(401)),      "invalid_token",       [2, 1, 0]),
    story("revoked-grant",        "401, and the grant is revoked",          Method::GET,  Nothing,     Fails(TokenRejected, Some(401)),     "invalid_token",       [1, 1, 0]),

    story("rate-limited-seconds", "429 with seconds, 200",                  Method::POST, Nothing,     Done(200),                           "",                    [2, 0, 1]),
    story("rate-limited-date",    "429 with a date, 200",                   Method::GET,  Nothing,     Done(200),                           "",                    [2, 0, 1]),
    story("rate-limited-hour",    "429 that asks for an hour",              Method::GET,  Nothing,     Fails(ServerWaitTooLong, Some(429)), "rate_limit_exceeded", [1, 0, 0]),

    story("unavailable-twice",    "503, 503, 200",                          Method::POST, Nothing,     Done(200),                           "",                    [3, 0, 1]),
    story("server-error",         "500 each time",                          Method::POST, Nothing,     Fails(Exhausted, Some(500)),         "internal_error",      [6, 0, 0]),
    story("bad-gateway",          "502, which the guide does not list",     Method::GET,  Nothing,     Fails(UnexpectedStatus, Some(502)),  "bad_gateway",         [1, 0, 0]),

    story("bad-request",          "400",                                    Method::POST, Nothing,     Fails(BadRequest, Some(400)),        "bad_request",         [1, 0, 0]),
    story("forbidden",            "403",                                    Method::GET,  Nothing,     Fails(Forbidden, Some(403)),         "insufficient_scope",  [1, 0, 0]),
    story("not-found",            "404",                                    Method::GET,  Nothing,     Fails(NotFound, Some(404)),          "not_found",           [1, 0, 0]),
    story("conflict",             "409",                                    Method::POST, Nothing,     Fails(Conflict, Some(409)),          "conflict",            [1, 0, 0]),
    story("validation",           "422 with its message",                   Method::POST, Nothing,     Fails(Validation, Some(422)),        "validation_error",    [1, 0, 0]),

    story("html",                 "500 with an HTML page, 200",             Method::POST, Nothing,     Done(200),                           "",                    [2, 0, 1]),
    story("not-json",             "422 with a body that is not JSON",       Method::POST, Nothing,     Fails(Validation, Some(422)),        "",                    [1, 0, 0]),

    story("refused",              "connection refused",                     Method::POST, ClosePort,   Fails(Exhausted, None),              "",                    [6, 0, 0]),
    story("cut-before",           "cut before the response, 200",           Method::GET,  Nothing,     Done(200),                           "",                    [2, 0, 1]),
    story("cut-within",           "cut within the response, 200",           Method::GET,  Nothing,     Done(200),                           "",                    [2, 0, 2]),
    story("hang",                 "no answer at all, 200",                  Method::GET,  Nothing,     Done(200),                           "",                    [2, 0, 1]),
    story("cut-post",             "POST applied, then cut off",             Method::POST, Nothing,     Fails(Ambiguous, None),              "",                    [1, 0, 1]),

    story("bad-day",              "429, 503, 401, cut, HTML page, 200",     Method::GET,  Nothing,     Done(200),                           "",                    [6, 1, 1]),
];

/// One story.
pub struct Story {
    pub name: &'static str,
    pub title: &'static str,
    pub method: Method,
    before: Before,
    /// The code in the last error's body, or nothing.
    pub code: &'static str,
    pub ending: Ending,
}

/// The change to the account before the call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    ExpireToken,
    ClosePort,
}

/// The end of a call, with its counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    pub outcome: Outcome,
    /// Attempts, refreshes, effects.
    pub counts: [usize; 3],
}

/// The result that the user got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A response of this status.
    Done(u16),
    /// A failure of this kind, after a last response of this status.
    Fails(FailureKind, Option<u16>),
}

const fn story(
    name: &'static str,
    title: &'static str,
    method: Method,
    before: Before,
    outcome: Outcome,
    code: &'static str,
    counts: [usize; 3],
) -> Story {
    Story { name, title, method, before, code, ending: Ending { outcome, counts } }
}

/// Returns the guide's policy with a time limit for each attempt. Without the limit, a call to a server that hangs never
/// ends.
pub fn policy() -> Policy {
    Policy::flextell().into_builder().attempt_timeout(Some(ATTEMPT_TIMEOUT)).build().expect("any limit is valid")
}

pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);

/// The lifetime of a token.
const DAY: Duration = Duration::from_secs(86_400);

impl Story {
    /// Prepares the call of this story, on an account of its own.
    pub fn begin(&self, server: &Server, clock: Clock, client: &str, entropy: u64) -> (Account, Call, Grant) {
        let grant = server.grant(DAY);
        if self.before == ExpireToken {
            server.expire(&grant.access_token);
        }
        let address = if self.before == ClosePort { Server::closed_port() } else { server.addr() };
        let tokens = Tokens::new(&grant.access_token, grant.refresh_token.clone()).expect("it is well formed");
        let account = Account { base_url: format!("http://{address}"), policy: policy(), tokens, clock };
        let call = Call {
            method: self.method.clone(),
            path: format!("/{}/{client}", self.name),
            idempotency: self.idempotency(),
            // As in a replay: the first request of this entropy (T5).
            seed: derive_seed(entropy, 0),
            log: Log::default(),
        };
        (account, call, grant)
    }

    /// Returns the number of attempts that reach the server.
    pub fn arrivals(&self) -> usize {
        let [attempts, ..] = self.ending.counts;
        if self.before == ClosePort { 0 } else { attempts }
    }

    /// Returns whether the method is idempotent (RFC 9110 §9.2.2).
    pub fn idempotency(&self) -> Idempotency {
        if self.method.is_idempotent() { Idempotency::Idempotent } else { Idempotency::NonIdempotent }
    }
}
