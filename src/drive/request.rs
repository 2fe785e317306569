//! One request, from its start to its end: the loop that both drivers share.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use super::api::{Api, SharedService};
use super::cancel::{Cancelled, Canceller};
use super::clock::Sleep;
use super::future::Sender;
use super::login::{Background, SharedLogin};
use super::refresh::Refresh;
use super::sync::Mutex;
use crate::action::{Action, Explanation};
use crate::event::{Event, Idempotency, RefreshOutcome, TransportErrorKind};
use crate::failure::Failure;
use crate::machine::{RequestLimits, RetryMachine};
use crate::reply::Reply;
use crate::time::Timestamp;
use crate::upstream::{Gate, Scope};

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
    start: Start,
    limits: RequestLimits,
    canceller: Option<Canceller>,
    observer: Option<Observer<'a>>,
    keeps_response: bool,
}

enum Start {
    New(Idempotency),
    Resumed(RetryMachine),
}

type Observer<'a> = &'a mut (dyn FnMut(&Step) + Send + 'a);

/// A step of a request, for logs and records: what happened, and what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Step {
    /// The time of the step.
    pub at: Timestamp,
    /// What happened.
    pub trigger: StepTrigger,
    /// What follows.
    pub action: Action,
}

/// What led to a [`Step`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
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
    /// broken off: its response can never come.
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
        Request { start, limits, canceller: None, observer: None, keeps_response: false }
    }

    /// Sets limits of its own (rule D17). They do not change a request that is [resumed](Request::resume).
    pub fn limits(mut self, limits: RequestLimits) -> Request<'a> {
        self.limits = limits;
        self
    }

    /// Lets a canceller end the request.
    pub fn cancelled_by(mut self, canceller: &Canceller) -> Request<'a> {
        self.canceller = Some(canceller.clone());
        self
    }

    /// Calls `observer` with every step, for a log.
    pub fn observed_by(mut self, observer: &'a mut (dyn FnMut(&Step) + Send + 'a)) -> Request<'a> {
        self.observer = Some(observer);
        self
    }

    /// Keeps the last response through the waits, for the [`RequestError`] of a request that fails later. By default a
    /// response that is not the answer is dropped before the next wait, since it may hold a connection. Set it where
    /// responses are complete in memory.
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

/// An attempt to send.
pub struct Attempt<T> {
    number: u32,
    generation: Option<u32>,
    until: Option<Timestamp>,
    token: Option<Arc<T>>,
    call: Arc<Call>,
}

/// What the attempts of a request share.
struct Call {
    service: Arc<SharedService>,
    /// The challenge of the last 401, for the refresh.
    www_authenticate: Mutex<Vec<u8>>,
}

impl<T> Attempt<T> {
    /// Returns the number of the attempt, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the token to send. `None`: the login has no token (rule K9).
    #[must_use]
    pub fn token(&self) -> Option<&T> {
        self.token.as_deref()
    }

    /// Returns the generation of the token (rule K4).
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// Returns the time that is left for the attempt, if it has a limit (rule S4). A blocking client must give up after it;
    /// the async driver drops the attempt by itself.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let clock = &self.call.service.clock;
        self.until.map(|until| clock.real_time(until.saturating_duration_since(clock.now())))
    }

    /// Reads a response with the policy's dialect and the wall clock, as [`Policy::read_at`](crate::Policy::read_at) does:
    /// its status and its headers, in any order.
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Reply {
        let service = &self.call.service;
        let mut reader = service.policy.reader(service.clock.unix_time(), status);
        let mut challenges = Vec::new();
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            reader.feed(name, value);
            if status == 401 && name.eq_ignore_ascii_case(b"www-authenticate") {
                if !challenges.is_empty() {
                    challenges.extend_from_slice(b", ");
                }
                challenges.extend_from_slice(value);
            }
        }
        *self.call.www_authenticate.lock() = challenges;
        reader.finish()
    }
}

/// H9: without the token.
impl<T> fmt::Debug for Attempt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { number, generation, until, .. } = self;
        f.debug_struct("Attempt")
            .field("number", number)
            .field("generation", generation)
            .field("until", until)
            .finish_non_exhaustive()
    }
}

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
    /// response before a wait is kept only by [`Request::keep_last_response`].
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

/// The result of a request: the answer, or the failure.
pub type CallResult<R, E> = Result<Answer<R>, RequestError<R, E>>;

/// A request under way. Dropped before its end, it cancels the request, which gives back its probe and its slot (S6).
struct ActiveRequest<T, B> {
    machine: RetryMachine,
    login: Arc<SharedLogin<T, B>>,
    gate: Arc<Mutex<Gate>>,
}

/// The result of one step.
struct Next<T> {
    at: Timestamp,
    action: Action,
    /// The instant at which the next tick matters, if one does.
    tick: Option<Timestamp>,
    /// The login's counter of wake-ups after the step.
    wakeups: u32,
    /// The current token, if the action needs it.
    token: Option<Arc<T>>,
    last_report: Option<(u32, RefreshOutcome)>,
}

impl<T, B> ActiveRequest<T, B> {
    fn step(&mut self, event: Event) -> Next<T> {
        let service = &self.login.service;
        let at = service.clock.now();
        // Always in this order: login, service, gate.
        let mut login = self.login.state.lock();
        let mut shared = service.state.lock();
        let mut gate = self.gate.lock();
        let scope = Scope { service: &mut shared, login: &mut login.login, gate: &mut gate };
        let action = self.machine.handle(at, event, scope);
        drop((shared, gate));
        let token = match action {
            Action::Send { .. } | Action::RefreshToken { .. } => login.token.clone(),
            _ => None,
        };
        Next {
            at,
            action,
            tick: self.machine.next_tick(&service.policy),
            wakeups: login.login.wakeups(),
            token,
            last_report: login.last_report,
        }
    }
}

impl<T, B> Drop for ActiveRequest<T, B> {
    fn drop(&mut self) {
        if !self.machine.is_ended() {
            self.step(Event::Cancel);
        }
    }
}

/// How a piece of work ended.
enum Ended<W> {
    Done(W),
    Cancelled,
    /// The tick is due first.
    Tick,
}

/// Drives a request to its end. It owns its parts, so that they need not be `Sync`.
pub(super) async fn run<T, B: Background<T>, S: Sender<T>>(
    api: Api<T, B>,
    request: Request<'_>,
    mut sender: S,
    timer: impl Sleep,
) -> CallResult<S::Response, S::Error> {
    let Request { start, limits, canceller, mut observer, keeps_response } = request;
    let Api { login, gate, timer: view_timer } = api;
    let service = &login.service.clone();
    let canceller = canceller.as_ref();
    let call = Arc::new(Call { service: service.clone(), www_authenticate: Mutex::default() });
    // K11: whoever comes goes on with a refresh that was left.
    B::poll(&login);
    let machine = match start {
        Start::New(idempotency) => RetryMachine::new(idempotency, service.next_seed()).with_limits(limits),
        Start::Resumed(machine) => machine,
    };
    let mut event = match machine.in_flight() {
        Some(attempt) => Event::TransportError { attempt, kind: TransportErrorKind::Broken },
        None => Event::Start,
    };
    let mut active = ActiveRequest { machine, login: login.clone(), gate };
    let (mut response, mut error) = (None, None);
    let mut waited = Duration::ZERO;
    let mut led = None;
    loop {
        let is_cancelled =
            canceller.is_some_and(Canceller::is_cancelled) && matches!(event, Event::Start | Event::Tick);
        if is_cancelled {
            event = Event::Cancel;
        }
        let next = active.step(event);
        // K5: nothing comes between a lease and its refresh.
        if let (Action::RefreshToken { lease, generation, until, challenge, .. }, Some(token)) =
            (next.action, next.token.clone())
        {
            led = Some(lease);
            let view = SharedLogin::new(service.clone(), None, B::anonymous());
            B::begin(
                &login,
                Refresh {
                    token,
                    generation,
                    lease,
                    timeout: service.clock.real_time(until.saturating_duration_since(next.at)),
                    challenge,
                    www_authenticate: core::mem::take(&mut *call.www_authenticate.lock()),
                    api: Api { login: Arc::new(view), gate: active.gate.clone(), timer: view_timer.clone() },
                },
            );
        }
        if let Some(observer) = &mut observer {
            let trigger = match next.last_report {
                Some((lease, outcome)) if led == Some(lease) && event == Event::Tick => {
                    led = None;
                    StepTrigger::Refreshed { lease, outcome }
                }
                _ => StepTrigger::Event(event),
            };
            observer(&Step { at: next.at, trigger, action: next.action });
        }
        if !next.action.is_terminal() && !keeps_response {
            response = None;
        }
        let tick = sleep_until(timer.clone(), service.clone(), next.tick);
        event = match next.action {
            Action::Send { attempt: number, generation, until, .. } => {
                let attempt = Attempt { number, generation, until, token: next.token, call: call.clone() };
                match first_of(sender.send(attempt), canceller, tick).await {
                    Ended::Done(Ok((reply, answer))) => {
                        (response, error) = (Some(answer), None);
                        Event::Reply { attempt: number, reply }
                    }
                    Ended::Done(Err((kind, cause))) => {
                        error = Some(cause);
                        Event::TransportError { attempt: number, kind }
                    }
                    Ended::Cancelled => Event::Cancel,
                    // S4: the attempt has reached its limit, and no client error describes that.
                    Ended::Tick => {
                        error = None;
                        Event::Tick
                    }
                }
            }
            Action::Wait { .. }
            | Action::AwaitRefresh { .. }
            | Action::RefreshToken { .. }
            | Action::InFlight { .. } => {
                let moved = async {
                    match active.machine.lease() {
                        Some(_) => login.moved(next.wakeups).await,
                        None => pending().await,
                    }
                };
                let ended = first_of(moved, canceller, tick).await;
                waited = waited.saturating_add(service.clock.now().saturating_duration_since(next.at));
                if matches!(ended, Ended::Cancelled) { Event::Cancel } else { Event::Tick }
            }
            Action::Done { explanation, .. } => {
                let attempts = active.machine.attempts();
                match response {
                    Some(response) => return Ok(Answer { response, attempts, waited, explanation }),
                    // A request is done only by a response that has just come. Defined all the same.
                    None => {
                        let failure = active.machine.lost_answer();
                        return Err(RequestError { failure, response, error, waited });
                    }
                }
            }
            Action::Fail(failure) => return Err(RequestError { failure, response, error, waited }),
        };
    }
}

/// Completes at an instant, or never.
async fn sleep_until(timer: impl Sleep, service: Arc<SharedService>, until: Option<Timestamp>) {
    let Some(until) = until else { return pending().await };
    loop {
        // B4: a timer that fires early must not end an attempt early.
        let now = service.clock.now();
        if now >= until {
            return;
        }
        let sleep = timer.sleep(service.clock.real_time(until.saturating_duration_since(now)));
        sleep.await;
    }
}

/// Waits for the work, the canceller or the tick, whichever is first: in this order, if several are ready.
async fn first_of<W>(
    work: impl Future<Output = W>,
    canceller: Option<&Canceller>,
    tick: impl Future<Output = ()>,
) -> Ended<W> {
    let (mut work, mut tick) = (pin!(work), pin!(tick));
    let mut cancel = Cancelled::new(canceller);
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(Ended::Done(result));
        }
        if cancel.poll(context).is_ready() {
            return Poll::Ready(Ended::Cancelled);
        }
        tick.as_mut().poll(context).map(|()| Ended::Tick)
    })
    .await
}
