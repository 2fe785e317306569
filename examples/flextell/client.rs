//! The part that both clients share: the account with its tokens, and the reading of replies.

pub mod blocking;
pub mod future;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use retry_machine::drive::{RequestError, SharedUpstream};
use retry_machine::{ErrorBody, Idempotency, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp, derive_seed};

use self::tokens::TokenStore;
use crate::server::{Clock, Grant};
use crate::timeline::Log;

/// A request with its whole body. Both HTTP clients take it.
pub type Request = http::Request<Vec<u8>>;
/// A response with its whole body. Each attempt reads the body to its end, for two reasons: a connection that breaks
/// within the body can still be retried, and no connection is held through a wait.
pub type Response = http::Response<Vec<u8>>;

/// The longest body that a client reads into memory, in bytes. A longer one is a transport error.
const BODY_LIMIT: usize = 1 << 20;

/// The result of a call: the response, or a failure with the last response and the client's own error.
pub type Result<E> = std::result::Result<Response, Box<RequestError<Response, E>>>;

/// An account with the API: everything that its calls share. Keep one for as long as the program runs, because the
/// upstream remembers instants of its clock: each call must see the same clock.
pub struct Account {
    base_url: String,
    upstream: SharedUpstream,
    tokens: TokenStore,
    policy: Policy,
    clock: Clock,
    entropy: u64,
    calls: AtomicU64,
}

/// One call of the API, with as many attempts as it needs.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub idempotency: Idempotency,
    pub log: Log,
}

impl Account {
    /// Opens an account. A program draws `entropy` once, from the system: `std::hash::RandomState` has some. Here it is
    /// given, so that a run can be repeated.
    pub fn new(base_url: String, policy: Policy, grant: &Grant, clock: Clock, entropy: u64) -> Account {
        Account {
            base_url,
            upstream: SharedUpstream::new(policy.clone()),
            policy,
            tokens: TokenStore::new(grant),
            clock,
            entropy,
            calls: AtomicU64::new(0),
        }
    }

    /// Returns the machine of a new call.
    fn machine(&self, call: &Call) -> RetryMachine {
        // T5: each call needs a seed of its own.
        let seed = derive_seed(self.entropy, self.calls.fetch_add(1, Ordering::Relaxed));
        RetryMachine::new(call.idempotency, seed)
    }

    /// Returns the time in whole milliseconds, so that a trace of the call repeats each instant exactly.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now_ms())
    }

    /// Converts a wait to real time, which may run slower than the clock. Without a clock of your own it is `wait` itself.
    fn real(&self, wait: Duration) -> Duration {
        self.clock.real(wait)
    }

    /// Returns the real time that remains until `until`.
    fn remaining(&self, until: Timestamp) -> Duration {
        self.real(until.saturating_duration_since(self.now()))
    }

    /// Builds the request of an attempt, with the newest token.
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

    /// Builds the request for a new token (RFC 6749 §6).
    fn refresh_request(&self) -> Request {
        http::Request::post(format!("{}/oauth/token", self.base_url))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.tokens.refresh_form().into())
            .expect("the URL is well formed")
    }

    /// Reads the facts of a response for the machine.
    fn reply(&self, response: &Response) -> Reply {
        let wall_clock = Some(Duration::from_millis(self.clock.unix_ms()));
        let reply = self.policy.read_at(wall_clock, response.status().as_u16(), response.headers());
        reply.with_code(error_body(response).as_ref().map(ErrorBody::class).unwrap_or_default())
    }

    /// Reads the outcome of a refresh from the token endpoint's response, if there is one. Stores a new token first (K5).
    fn refreshed(&self, response: Option<&Response>) -> RefreshOutcome {
        let Some(response) = response else {
            return RefreshOutcome::Unavailable { retry_after: None };
        };
        if let Some(refreshed) = self.tokens.store(response) {
            return refreshed;
        }
        match error_body(response) {
            // For good: until the token is replaced, every call of the account fails without being sent (K6).
            Some(body) if body.code() == Some("invalid_grant") => RefreshOutcome::Rejected,
            _ => RefreshOutcome::Unavailable { retry_after: self.reply(response).hint().map(|hint| hint.wait()) },
        }
    }
}

/// Reads the error in the body of a response. The body of a success is never read as an error (H8).
pub fn error_body(response: &Response) -> Option<ErrorBody> {
    if response.status().is_success() {
        return None;
    }
    ErrorBody::parse(response.body()).ok()
}
