//! The blocking driver: one request, one thread.

use core::time::Duration;

use super::{Attempt, RequestError, Run, Shared};
use crate::{Action, Event, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind};

/// What the driver needs of a blocking client, for one request: a value that knows the request and borrows the client.
pub trait Client {
    /// What the client's own responses are.
    type Response;
    /// What the client's own transport errors are.
    type Error;

    /// The time: of a clock that all requests to the same upstream share.
    fn now(&self) -> Timestamp;

    /// Lets `wait` pass. Returning early is harmless.
    fn sleep(&self, wait: Duration);

    /// How long `wait` takes on the wall clock, where the client's own clock is another: in a test, say.
    fn real_time(&self, wait: Duration) -> Duration {
        wait
    }

    /// Sends the request, and distils the response's [`Reply`]. It must give up at `attempt.until`.
    ///
    /// # Errors
    ///
    /// If there is no complete response: of what kind, and the client's own error.
    fn send(&self, attempt: Attempt) -> Result<(Reply, Self::Response), (TransportErrorKind, Self::Error)>;

    /// Refreshes the token, and stores the new one before it returns. It should give up at `until`.
    fn refresh(&self, until: Timestamp) -> RefreshOutcome;

    /// Sees every step: for a log.
    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        let _ = (now, event, action);
    }
}

/// Drives a request to its end.
///
/// # Errors
///
/// If the request is surfaced: with the failure, and what the last attempt brought.
pub fn run<C: Client>(
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
                let wait = wait(until);
                upstream.wait_for_token(next.wakeups, client.real_time(wait), |_| client.sleep(wait));
                Event::Tick
            }
            Action::Wait { until, .. } | Action::InFlight { until: Some(until), .. } => {
                client.sleep(wait(until));
                Event::Tick
            }
            // Only an attempt without a limit is under way without a tick to come, and none is: `send` has returned.
            Action::InFlight { until: None, .. } => Event::Cancel,
            Action::Fail(failure) => return Err(RequestError { failure, response, error }),
            Action::Done { .. } => match response {
                Some(response) => return Ok(response),
                _ => unreachable!("a request is done when its last attempt was answered"),
            },
        };
    }
}
