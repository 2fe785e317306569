//! What the two clients share: the account with its tokens, and the reading of replies.

pub mod blocking;
pub mod future;
mod tokens;

use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use retry_machine::drive::{RequestError, SharedUpstream};
use retry_machine::{ErrorBody, Idempotency, Policy, RefreshOutcome, Reply, ResetFormat, Timestamp};

use self::tokens::TokenStore;
use crate::server::{Clock, Grant};
use crate::timeline::Log;

/// A request with its whole body, as both HTTP clients take it.
pub type Request = http::Request<Vec<u8>>;
/// A response with its whole body: it is read to its end within the attempt, where a cut can still be retried.
pub type Response = http::Response<Vec<u8>>;

/// What comes of a call: an answer, or a failure with the last response and the client's own error.
pub type Result<E> = std::result::Result<Response, Box<RequestError<Response, E>>>;

/// An account with the API: what all its calls share. Keep one for as long as the program runs.
pub struct Account {
    base_url: String,
    upstream: SharedUpstream,
    tokens: TokenStore,
    reset: ResetFormat,
    clock: Clock,
}

/// One call of the API, which takes as many attempts as it needs.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub idempotency: Idempotency,
    /// T5: each call needs one of its own.
    pub seed: u64,
    pub log: Log,
}

impl Account {
    pub fn new(base_url: String, policy: Policy, grant: &Grant, clock: Clock) -> Account {
        let (reset, tokens) = (policy.rate_limit_reset(), TokenStore::new(grant));
        Account { base_url, upstream: SharedUpstream::new(policy), tokens, reset, clock }
    }

    /// Whole milliseconds, so that a trace of the call says exactly what the machine was told.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_ms())
    }

    /// How long `wait` really takes: time may run faster here. Elsewhere it is `wait` itself.
    fn real(&self, wait: Duration) -> Duration {
        self.clock.real(wait)
    }

    /// How long it really is until `until`.
    fn remaining(&self, until: Timestamp) -> Duration {
        self.real(until.saturating_duration_since(self.now()))
    }

    /// The request of an attempt, with the newest token.
    fn request(&self, call: &Call) -> Request {
        let body = if call.method == Method::GET { "" } else { r#"{"to": "+49 30 1234567"}"# };
        http::Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.base_url, call.path))
            .header(AUTHORIZATION, self.tokens.bearer())
            .header(CONTENT_TYPE, "application/json")
            .body(body.into())
            .expect("the URL is well formed")
    }

    /// The request for a new token (RFC 6749 §6).
    fn refresh_request(&self) -> Request {
        http::Request::post(format!("{}/oauth/token", self.base_url))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.tokens.refresh_form().into())
            .expect("the URL is well formed")
    }

    /// What a response says to the machine.
    fn reply(&self, response: &Response) -> Reply {
        let wall_clock = Some(Duration::from_millis(self.clock.unix_ms()));
        let reply = Reply::read(response.status().as_u16(), response.headers(), wall_clock, self.reset);
        reply.with_code(error_body(response).as_ref().map(ErrorBody::class).unwrap_or_default())
    }

    /// What the token endpoint's answer, if there is one, says to the machine. A new token is stored first (K5).
    fn refreshed(&self, answer: Option<&Response>) -> RefreshOutcome {
        let Some(answer) = answer else {
            return RefreshOutcome::Unavailable { retry_after: None };
        };
        if let Some(refreshed) = self.tokens.store(answer) {
            return refreshed;
        }
        match error_body(answer) {
            Some(body) if body.code() == Some("invalid_grant") => RefreshOutcome::Rejected,
            _ => RefreshOutcome::Unavailable { retry_after: self.reply(answer).hint().map(|hint| hint.wait()) },
        }
    }
}

/// The error that a response tells of. The body of a success is never read as one (H8).
pub fn error_body(response: &Response) -> Option<ErrorBody> {
    if response.status().is_success() {
        return None;
    }
    ErrorBody::parse(response.body()).ok()
}
