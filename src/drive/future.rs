//! The async driver: it runs one request as a future, on any runtime.

use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use super::{ActiveRequest, Attempt, RequestError, Shared};
use crate::{Action, Event, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind};

/// An async client, for one request: implement it for a value that knows the request and borrows the client.
///
/// Its futures need not be `Send`. If they all are, the driver's future is, too.
pub trait Client {
    /// The client's response type.
    type Response;
    /// The client's error type.
    type Error;

    /// Returns the current time, from a clock that all requests of the upstream share.
    fn now(&self) -> Timestamp;

    /// Completes after `wait`. Completing early is harmless: the driver calls it again (rule B4).
    fn sleep(&self, wait: Duration) -> impl Future<Output = ()>;

    /// Sends the request. Returns the response and its facts. The driver drops the future at `attempt.until`.
    ///
    /// # Errors
    ///
    /// The kind of the transport error and the client's own error, if there is no complete response.
    fn send(
        &self,
        attempt: Attempt,
    ) -> impl Future<Output = Result<(Reply, Self::Response), (TransportErrorKind, Self::Error)>>;

    /// Refreshes the token, and stores the new one before it completes (rule K5). The driver drops the future at the
    /// end of the lease (`until`) or at the deadline. If the server rotates refresh tokens, refresh in a separate task
    /// and await that, or the new token may be lost. A client without tokens must return
    /// [`RefreshOutcome::Unavailable`], not [`RefreshOutcome::Rejected`], which would fail all later requests.
    fn refresh(&self, until: Timestamp) -> impl Future<Output = RefreshOutcome>;

    /// Observes a step, for a log: the event and the action that answers it. By default it does nothing.
    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        let _ = (now, event, action);
    }
}

/// Drives a request to its end. Returns the response that answers it. Dropping the future cancels the request (rule
/// S6).
///
/// ```
/// use core::cell::{Cell, RefCell};
/// use core::time::Duration;
/// use retry_machine::drive::{Attempt, future};
/// use retry_machine::{
///     Idempotency, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind, Upstream,
/// };
///
/// /// Fails once with 503. Its clock advances only in `sleep`.
/// struct Client(Cell<Timestamp>);
///
/// impl future::Client for Client {
///     type Response = u16;
///     type Error = ();
///
///     fn now(&self) -> Timestamp {
///         self.0.get()
///     }
///
///     async fn sleep(&self, wait: Duration) {
///         self.0.set(self.0.get().saturating_add(wait));
///     }
///
///     async fn send(&self, attempt: Attempt) -> Result<(Reply, u16), (TransportErrorKind, ())> {
///         let status = if attempt.number == 1 { 503 } else { 200 };
///         Ok((Reply::new(status), status))
///     }
///
///     async fn refresh(&self, _: Timestamp) -> RefreshOutcome {
///         RefreshOutcome::Unavailable { retry_after: None } // it has no token
///     }
/// }
///
/// # use core::pin::pin;
/// # use core::task::{Context, Poll, Waker};
/// let upstream = RefCell::new(Upstream::new(Policy::flextell()));
/// let client = Client(Cell::new(Timestamp::ZERO));
/// let machine = RetryMachine::new(Idempotency::Idempotent, 7);
/// let task = async {
///     assert_eq!(future::run(machine, &upstream, &client).await, Ok(200));
///     assert!(client.0.get() >= Timestamp::from_millis(500), "it waited before the retry");
/// };
/// # assert!(pin!(task).poll(&mut Context::from_waker(Waker::noop())).is_ready());
/// ```
///
/// # Errors
///
/// [`RequestError`] if the request fails: the failure, and the last response or client error.
pub async fn run<C: Client>(
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
        let tick = async {
            let Some(tick) = next.tick else { return pending().await };
            // B4: a timer that fires early must not end an attempt early.
            while client.now() < tick {
                client.sleep(tick.saturating_duration_since(client.now())).await;
            }
        };
        event = match next.action {
            Action::Send { attempt: number, generation, until, .. } => {
                match until_tick(tick, client.send(Attempt { number, generation, until })).await {
                    Some(Ok((reply, answer))) => {
                        (response, error) = (Some(answer), None);
                        Event::Reply { attempt: number, reply }
                    }
                    Some(Err((kind, cause))) => {
                        error = Some(cause);
                        Event::TransportError { attempt: number, kind }
                    }
                    // S4: the attempt has reached its limit, and no client error describes that.
                    None => {
                        error = None;
                        Event::Tick
                    }
                }
            }
            Action::RefreshToken { until, .. } => {
                until_tick(tick, client.refresh(until)).await.map_or(Event::Tick, Event::Refreshed)
            }
            Action::AwaitRefresh { .. } => {
                until_tick(tick, upstream.token_moved(next.wakeups)).await;
                Event::Tick
            }
            Action::Wait { .. } | Action::InFlight { until: Some(_), .. } => {
                tick.await;
                Event::Tick
            }
            // Unreachable: only an attempt in flight without a limit needs no tick, and `send` has completed.
            Action::InFlight { until: None, .. } => Event::Cancel,
            Action::Fail(failure) => return Err(RequestError { failure, response, error }),
            Action::Done { .. } => match response {
                Some(response) => return Ok(response),
                _ => unreachable!("a request is done only after a response"),
            },
        };
    }
}

/// Returns the output of `work`, or `None` if `tick` completes first. If both are ready, `work` wins.
async fn until_tick<T>(tick: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut tick, mut work) = (pin!(tick), pin!(work));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => tick.as_mut().poll(context).map(|()| None),
    })
    .await
}
