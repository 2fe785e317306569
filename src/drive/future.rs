//! The async driver: one request, one future, any runtime.

use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use super::{Attempt, RequestError, Run, Shared};
use crate::{Action, Event, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind};

/// What the driver needs of an async client, for one request: a value that knows the request and borrows the client.
///
/// Its futures need not be `Send`; where they all are, so is the driver's.
pub trait Client {
    /// What the client's own responses are.
    type Response;
    /// What the client's own transport errors are.
    type Error;

    /// The time: of a clock that all requests to the same upstream share.
    fn now(&self) -> Timestamp;

    /// Completes after `wait`. Completing early costs another call and nothing else.
    fn sleep(&self, wait: Duration) -> impl Future<Output = ()>;

    /// Sends the request, and distils the response's [`Reply`]. Dropped when `attempt.until` comes first.
    ///
    /// # Errors
    ///
    /// If there is no complete response: of what kind, and the client's own error.
    fn send(
        &self,
        attempt: Attempt,
    ) -> impl Future<Output = Result<(Reply, Self::Response), (TransportErrorKind, Self::Error)>>;

    /// Refreshes the token, and stores the new one before it completes. Dropped when the lease or the deadline ends: where
    /// the server rotates refresh tokens, do it in a task of its own and await that, or the new one may be lost on the way.
    fn refresh(&self, until: Timestamp) -> impl Future<Output = RefreshOutcome>;

    /// Sees every step: for a log.
    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        let _ = (now, event, action);
    }
}

/// Drives a request to its end. Dropping the future cancels the request.
///
/// # Errors
///
/// If the request is surfaced: with the failure, and what the last attempt brought.
pub async fn run<C: Client>(
    machine: RetryMachine,
    upstream: &impl Shared,
    client: &C,
) -> Result<C::Response, RequestError<C::Response, C::Error>> {
    let mut run = Run { machine, upstream };
    let (mut response, mut error) = (None, None);
    let mut event = Event::Start;
    loop {
        let now = client.now();
        let next = run.tell(now, event);
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
                match before(tick, client.send(Attempt { number, generation, until })).await {
                    Some(Ok((reply, answer))) => {
                        (response, error) = (Some(answer), None);
                        Event::Reply { attempt: number, reply }
                    }
                    Some(Err((kind, cause))) => {
                        error = Some(cause);
                        Event::TransportError { attempt: number, kind }
                    }
                    // S4: its time is over, and with it what it could have brought.
                    None => {
                        error = None;
                        Event::Tick
                    }
                }
            }
            Action::RefreshToken { until, .. } => {
                before(tick, client.refresh(until)).await.map_or(Event::Tick, Event::Refreshed)
            }
            Action::AwaitRefresh { .. } => {
                before(tick, upstream.token_moved(next.wakeups)).await;
                Event::Tick
            }
            Action::Wait { .. } | Action::InFlight { until: Some(_), .. } => {
                tick.await;
                Event::Tick
            }
            // Only an attempt without a limit is under way without a tick to come, and none is: `send` has ended.
            Action::InFlight { until: None, .. } => Event::Cancel,
            Action::Fail(failure) => return Err(RequestError { failure, response, error }),
            Action::Done { .. } => match response {
                Some(response) => return Ok(response),
                _ => unreachable!("a request is done when its last attempt was answered"),
            },
        };
    }
}

/// What `work` gives, if it completes before `tick` does; if both are ready it has.
async fn before<T>(tick: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut tick, mut work) = (pin!(tick), pin!(work));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => tick.as_mut().poll(context).map(|()| None),
    })
    .await
}
