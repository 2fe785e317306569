//! How attempts and requests end.

use alloc::boxed::Box;
use core::error::Error;
use core::fmt;
use core::time::Duration;

use crate::action::Explanation;
use crate::event::TransportErrorKind;
use crate::failure::Failure;
use crate::reply::Reply;

/// The response that answers a request, and what the request did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Answer<R> {
    /// The response.
    pub response: R,
    /// The number of attempts sent.
    pub attempts: u32,
    /// The time spent in waits: for back-offs, for the server, and for tokens.
    pub waited: Duration,
    /// The facts behind the last action.
    pub explanation: Explanation,
}

/// A failed request, with the last response or client error it received.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RequestError<R, E> {
    /// The reason.
    pub failure: Failure,
    /// The response that the failure is about: that of the last attempt, if the request failed at once because of it. A
    /// response before a wait is kept only by [`Request::keep_last_response`](super::Request::keep_last_response).
    pub response: Option<R>,
    /// The client's own error, if the last attempt failed in transport.
    pub error: Option<E>,
    /// The time spent in waits: for back-offs, for the server, and for tokens.
    pub waited: Duration,
}

impl<R, E> fmt::Display for RequestError<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl<R: fmt::Debug, E: Error + 'static> Error for RequestError<R, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref().map(|error| error as _)
    }
}

/// The result of an attempt: the facts of the response and the response, or the kind of the transport error and the
/// client's own error.
pub type SendResult<R, E> = Result<(Reply, R), (TransportErrorKind, E)>;

/// The result of a request: the answer, or the failure. It is boxed, since it is large and rare.
pub type CallResult<R, E> = Result<Answer<R>, Box<RequestError<R, E>>>;
