//! A request as its caller states it, and what its caller can see of it.

use core::fmt;

use super::cancel::CancelHandle;
use crate::action::Action;
use crate::event::{Event, Idempotency, RefreshOutcome};
use crate::machine::{RequestLimits, RetryMachine};
use crate::time::Timestamp;

/// A request to make: [`Idempotency`] alone is enough for most.
///
/// ```
/// use core::time::Duration;
/// use retry_machine::drive::Request;
/// use retry_machine::{Idempotency, RequestLimits};
///
/// // A health check: two seconds, without retries.
/// let limits = RequestLimits { deadline: Some(Duration::from_secs(2)), max_retries: Some(0), ..Default::default() };
/// let request = Request::new(Idempotency::Idempotent).limits(limits);
/// ```
#[must_use = "a request does nothing until it is called"]
pub struct Request<'a> {
    pub(super) start: Start,
    pub(super) limits: RequestLimits,
    pub(super) seed: Option<u64>,
    pub(super) cancel: Option<CancelHandle>,
    pub(super) observer: Option<Observer<'a>>,
    pub(super) keeps_response: bool,
}

pub(super) enum Start {
    New(Idempotency),
    Resumed(RetryMachine),
}

pub(super) type Observer<'a> = &'a mut (dyn FnMut(&Step) + Send + 'a);

/// A step of a request, for logs and records: what happened, and what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Step {
    /// The time of the step.
    pub at: Timestamp,
    /// The cause of the step.
    pub trigger: StepTrigger,
    /// The action that follows.
    pub action: Action,
}

/// The cause of a [`Step`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a request hears of nothing else")]
pub enum StepTrigger {
    /// An event.
    Event(Event),
    /// The refresh that this request asked for has ended.
    Refreshed {
        /// The lease that it was reported for.
        lease: u32,
        /// The outcome.
        outcome: RefreshOutcome,
    },
}

impl<'a> Request<'a> {
    /// Creates a request that has not begun.
    pub fn new(idempotency: Idempotency) -> Request<'a> {
        Request::starting(Start::New(idempotency))
    }

    /// Goes on with a request that began earlier, such as one from a snapshot. An attempt that was in flight counts as
    /// broken off: its response can never come. A machine that has not begun gives the request a seed of its own (rule T5),
    /// so that a test or a record can be repeated.
    ///
    /// # Errors
    ///
    /// The terminal action, if the request has ended.
    pub fn resume(machine: RetryMachine) -> Result<Request<'a>, Action> {
        match machine.terminal_action() {
            Some(action) => Err(action),
            None => Ok(Request::starting(Start::Resumed(machine))),
        }
    }

    fn starting(start: Start) -> Request<'a> {
        let limits = RequestLimits::default();
        Request { start, limits, seed: None, cancel: None, observer: None, keeps_response: false }
    }

    /// Sets limits of its own (rule D17). They do not change a request that is [resumed](Request::resume).
    pub fn limits(mut self, limits: RequestLimits) -> Request<'a> {
        self.limits = limits;
        self
    }

    /// Sets its seed (rule T5), for a test that is to repeat. By default each request has one of its own. It does not change a
    /// request that is [resumed](Request::resume).
    pub fn seed(mut self, seed: u64) -> Request<'a> {
        self.seed = Some(seed);
        self
    }

    /// Lets a cancel handle end the request.
    pub fn cancelled_by(mut self, cancel: &CancelHandle) -> Request<'a> {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Calls `observer` with every step, for a log.
    pub fn observed_by(mut self, observer: &'a mut (dyn FnMut(&Step) + Send + 'a)) -> Request<'a> {
        self.observer = Some(observer);
        self
    }

    /// Keeps the last response through the waits, for the [`RequestError`](super::RequestError) of a request that fails
    /// later. By default a response that is not the answer is dropped before the next wait, since it may hold a connection.
    /// Set it where responses are complete in memory.
    pub fn keep_last_response(mut self) -> Request<'a> {
        self.keeps_response = true;
        self
    }
}

impl From<Idempotency> for Request<'_> {
    fn from(idempotency: Idempotency) -> Self {
        Request::new(idempotency)
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("limits", &self.limits).finish_non_exhaustive()
    }
}
