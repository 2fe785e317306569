//! The blocking driver: it runs one request in the calling thread.

use core::time::Duration;

use super::{ActiveRequest, Attempt, RequestError, Shared};
use crate::{Action, Event, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind};

/// A blocking client, for one request: implement it for a value that knows the request and borrows the client.
pub trait Client {
    /// The client's response type.
    type Response;
    /// The client's error type.
    type Error;

    /// Returns the current time, from a clock that all requests of the upstream share.
    fn now(&self) -> Timestamp;

    /// Sleeps for `wait`. Returning early is harmless (rule T4).
    fn sleep(&self, wait: Duration);

    /// Sends the request. Returns the response and its facts. It must give up at `attempt.until`.
    ///
    /// # Errors
    ///
    /// The kind of the transport error and the client's own error, if there is no complete response.
    fn send(&self, attempt: Attempt) -> Result<(Reply, Self::Response), (TransportErrorKind, Self::Error)>;

    /// Refreshes the token, and stores the new one before it returns (rule K5). It should give up at `until`, the end
    /// of the lease. A client without tokens must return [`RefreshOutcome::Unavailable`], not
    /// [`RefreshOutcome::Rejected`], which would fail all later requests.
    fn refresh(&self, until: Timestamp) -> RefreshOutcome;

    /// Observes a step, for a log: the event and the action that answers it. By default it does nothing.
    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        let _ = (now, event, action);
    }
}

/// Drives a request to its end. Returns the response that answers it.
///
/// ```
/// use core::cell::{Cell, RefCell};
/// use core::time::Duration;
/// use retry_machine::drive::{Attempt, blocking};
/// use retry_machine::{
///     Idempotency, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind, Upstream,
/// };
///
/// /// Fails once with 503. Its clock advances only in `sleep`.
/// struct Client(Cell<Timestamp>);
///
/// impl blocking::Client for Client {
///     type Response = u16;
///     type Error = ();
///
///     fn now(&self) -> Timestamp {
///         self.0.get()
///     }
///
///     fn sleep(&self, wait: Duration) {
///         self.0.set(self.0.get().saturating_add(wait));
///     }
///
///     fn send(&self, attempt: Attempt) -> Result<(Reply, u16), (TransportErrorKind, ())> {
///         let status = if attempt.number == 1 { 503 } else { 200 };
///         Ok((Reply::new(status), status))
///     }
///
///     fn refresh(&self, _: Timestamp) -> RefreshOutcome {
///         RefreshOutcome::Unavailable { retry_after: None } // it has no token
///     }
/// }
///
/// let upstream = RefCell::new(Upstream::new(Policy::flextell()));
/// let client = Client(Cell::new(Timestamp::ZERO));
/// let machine = RetryMachine::new(Idempotency::Idempotent, 7);
/// assert_eq!(blocking::run(machine, &upstream, &client), Ok(200));
/// assert!(client.0.get() >= Timestamp::from_millis(500), "it waited before the retry");
/// ```
///
/// # Errors
///
/// [`RequestError`] if the request fails: the failure, and the last response or client error.
pub fn run<C: Client>(
    machine: RetryMachine,
    upstream: &impl Shared,
    client: &C,
) -> Result<C::Response, RequestError<C::Response, C::Error>> {
    let mut request = ActiveRequest { machine, upstream };
    let (mut response, mut error) = (None, None);
    let mut event = Event::Start;
    loop {
        let now = client.now();
        let next = request.step(now, event);
        client.observe(now, &event, &next.action);
        let wait = |until: Timestamp| until.saturating_duration_since(now);
        event = match next.action {
            Action::Send { attempt: number, generation, until, .. } => {
                match client.send(Attempt { number, generation, until }) {
                    Ok((reply, answer)) => {
                        (response, error) = (Some(answer), None);
                        Event::Reply { attempt: number, reply }
                    }
                    Err((kind, cause)) => {
                        error = Some(cause);
                        Event::TransportError { attempt: number, kind }
                    }
                }
            }
            Action::RefreshToken { until, .. } => Event::Refreshed(client.refresh(until)),
            Action::AwaitRefresh { until, .. } => {
                upstream.wait_for_token(next.wakeups, wait(until), |wait| client.sleep(wait));
                Event::Tick
            }
            Action::Wait { until, .. } | Action::InFlight { until: Some(until), .. } => {
                client.sleep(wait(until));
                Event::Tick
            }
            // Unreachable: only an attempt in flight without a limit needs no tick, and `send` has returned.
            Action::InFlight { until: None, .. } => Event::Cancel,
            Action::Fail(failure) => return Err(RequestError { failure, response, error }),
            Action::Done { .. } => match response {
                Some(response) => return Ok(response),
                _ => unreachable!("a request is done only after a response"),
            },
        };
    }
}
