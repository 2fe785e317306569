//! The part that both clients share: the requests, and the reading of responses.

pub mod blocking;
pub mod future;
mod tokens;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use retry_machine::drive::{self, Attempt, CallResult, Step};
use retry_machine::{ErrorBody, Idempotency, Policy, Reply, RetryMachine};

pub use self::tokens::Tokens;
use crate::server::Clock;
use crate::timeline::Log;

/// A request with its whole body. Both HTTP clients take it.
pub type Request = http::Request<Vec<u8>>;
/// A response with its whole body. Each attempt reads the body to its end, for two reasons: a connection that breaks
/// within the body can still be retried, and no connection is held through a wait.
pub type Response = http::Response<Vec<u8>>;

/// The longest body that a client reads into memory, in bytes. A longer one is a transport error.
const BODY_LIMIT: usize = 1 << 20;

/// The result of a call: the response, or a failure with the last response and the client's own error.
pub type Result<E> = CallResult<Response, E>;

/// An account with the API: what a client starts with.
pub struct Account {
    pub base_url: String,
    pub policy: Policy,
    pub tokens: Tokens,
    pub clock: Clock,
}

/// One call of the API, with as many attempts as it needs.
pub struct Call {
    pub method: Method,
    pub path: String,
    pub idempotency: Idempotency,
    pub seed: u64,
    pub log: Log,
}

impl Call {
    /// Returns what the driver knows of the call. Most programs need `drive::Request::new(self.idempotency)` alone; a
    /// call with a seed of its own can be repeated exactly.
    fn start<'a>(&self, observer: &'a mut (dyn FnMut(&Step) + Send)) -> drive::Request<'a> {
        let machine = RetryMachine::new(self.idempotency, self.seed);
        let request = drive::Request::resume(machine).expect("a new call has not ended");
        // Whole responses hold no connection, so the last one may be kept.
        request.observed_by(observer).keep_last_response()
    }

    /// Builds the request of an attempt.
    fn request(&self, base_url: &str, attempt: &Attempt<Tokens>) -> Request {
        let body = if self.method == Method::GET { "" } else { r#"{"to": "+49 30 1234567"}"# };
        let mut request = http::Request::builder().method(&self.method).uri(format!("{base_url}{}", self.path));
        if let Some(tokens) = attempt.token() {
            request = request.header(AUTHORIZATION, tokens.bearer());
        }
        request.header(CONTENT_TYPE, "application/json").body(body.into()).expect("the URL is well formed")
    }

    /// Reads the facts of a response for the machine.
    fn reply(&self, attempt: &Attempt<Tokens>, response: &Response) -> Reply {
        self.log.keep(response);
        let reply = attempt.read(response.status().as_u16(), response.headers());
        reply.with_code(error_body(response).as_ref().map(ErrorBody::class).unwrap_or_default())
    }
}

/// Reads the error in the body of a response. The body of a success is never read as an error (H8).
pub fn error_body(response: &Response) -> Option<ErrorBody> {
    if response.status().is_success() {
        return None;
    }
    ErrorBody::parse(response.body()).ok()
}
