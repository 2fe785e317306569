//! The loop around the machine that both drivers share: one request, from its start to its end.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, pending, poll_fn};
use core::panic::AssertUnwindSafe;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::panic::catch_unwind;

use super::answer::{Answer, CallResult, RequestError};
use super::api::Api;
use super::attempt::{Attempt, Call, Sender};
use super::cancel::{CancelHandle, Cancelled};
use super::clock::Sleep;
use super::login::{Background, SharedLogin};
use super::refresh::Refresh;
use super::request::{Observer, Request, Start, Step, StepTrigger};
use super::service::SharedService;
use super::sync::Mutex;
use crate::action::Action;
use crate::event::{Event, RefreshOutcome, TransportErrorKind};
use crate::failure::{Failure, FailureKind};
use crate::machine::RetryMachine;
use crate::reply::RejectedFields;
use crate::time::Timestamp;
use crate::upstream::{Gate, Scope};

/// Drives a request to its end. It owns its parts, so that they need not be `Sync`.
pub(super) async fn run<T, B: Background<T>, S: Sender<T>>(
    api: Api<T, B>,
    request: Request<'_>,
    mut sender: S,
    timer: impl Sleep,
) -> CallResult<S::Response, S::Error> {
    let Request { start, limits, seed, cancel, observer, keeps_response } = request;
    let Api { login, gate, timer: view_timer } = api;
    // K11: whoever comes goes on with a refresh that was left.
    B::poll(&login);
    let service = login.service.clone();
    let machine = match start {
        Start::New(idempotency) => {
            RetryMachine::new(idempotency, seed.unwrap_or_else(|| service.next_seed())).with_limits(limits)
        }
        Start::Resumed(machine) => machine,
    };
    let mut event = match machine.in_flight() {
        Some(attempt) => Event::TransportError { attempt, kind: TransportErrorKind::Broken },
        None => Event::Start,
    };
    let call = Arc::new(Call { service: service.clone(), www_authenticate: Mutex::default() });
    let mut request = ActiveRequest { machine, login, gate, call, view_timer, observer, led: None, sent_with: None };
    let (mut response, mut error) = (None, None);
    let mut waited = Duration::ZERO;
    let cancel = cancel.as_ref();
    loop {
        let is_cancelled = || cancel.is_some_and(CancelHandle::is_cancelled);
        // An attempt that has ended is told before a cancel: it may be the answer.
        if is_cancelled() && matches!(event, Event::Start | Event::Tick) {
            event = Event::Cancel;
        }
        let mut next = request.step(event);
        if !next.action.is_terminal() && is_cancelled() {
            let unsent = u32::from(matches!(next.action, Action::Send { .. }));
            next = request.step(Event::Cancel);
            if let Action::Fail(failure) = &mut next.action {
                failure.attempts = failure.attempts.saturating_sub(unsent);
            }
        }
        if !next.action.is_terminal() && !keeps_response {
            response = None;
        }
        let tick = sleep_until(timer.clone(), service.clone(), next.tick);
        event = match next.action {
            Action::Send { attempt: number, generation, until, .. } => {
                // An attempt that is dropped has no error.
                error = None;
                request.sent_with = generation;
                request.call.www_authenticate.lock().clear();
                let attempt = Attempt { number, generation, until, token: next.token, call: request.call.clone() };
                match first_of(sender.send(attempt), cancel, tick).await {
                    Ended::Done(Ok((reply, answer))) => {
                        (response, error) = (Some(answer), None);
                        Event::Reply { attempt: number, reply }
                    }
                    Ended::Done(Err((kind, cause))) => {
                        error = Some(cause);
                        Event::TransportError { attempt: number, kind }
                    }
                    Ended::Cancelled => Event::Cancel,
                    // S4: the attempt has reached its limit.
                    Ended::Tick => Event::Tick,
                }
            }
            Action::Wait { .. }
            | Action::AwaitRefresh { .. }
            | Action::RefreshToken { .. }
            | Action::InFlight { .. } => {
                if let Action::Wait { .. } = next.action {
                    request.call.www_authenticate.lock().clear();
                }
                let awaited = request.machine.lease().map(|_| request.login.clone());
                let moved = refresh_moved(awaited, next.wakeups);
                let ended = first_of(moved, cancel, tick).await;
                waited = waited.saturating_add(service.clock.now().saturating_duration_since(next.at));
                if matches!(ended, Ended::Cancelled) { Event::Cancel } else { Event::Tick }
            }
            Action::Done { status, explanation } => {
                let attempts = request.machine.attempts();
                let Some(response) = response else {
                    // Only a response that has just come ends a request. Defined anyway.
                    let failure = lost_answer(status, attempts, next.at);
                    return Err(Box::new(RequestError { failure, response, error, waited }));
                };
                return Ok(Answer { response, attempts, waited, explanation });
            }
            Action::Fail(failure) => return Err(Box::new(RequestError { failure, response, error, waited })),
        };
    }
}

/// Returns the failure of an answered request whose response is lost.
fn lost_answer(status: u16, attempts: u32, at: Timestamp) -> Failure {
    Failure {
        kind: FailureKind::Cancelled,
        status: Some(status),
        attempts,
        elapsed: 0,
        ended: at,
        not_before: None,
        cause: None,
        rejected: RejectedFields::default(),
        challenge: None,
    }
}

/// A request under way. Dropped before its end, it cancels the request, which gives back its probe and its slot (S6).
struct ActiveRequest<'a, T, B: Background<T>> {
    machine: RetryMachine,
    login: Arc<SharedLogin<T, B>>,
    gate: Arc<Mutex<Gate>>,
    call: Arc<Call>,
    view_timer: B::Timer,
    observer: Option<Observer<'a>>,
    /// The lease under which the request last asked for a refresh.
    led: Option<u32>,
    /// The generation of the newest attempt.
    sent_with: Option<u32>,
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

impl<T, B: Background<T>> ActiveRequest<'_, T, B> {
    /// Hands an event to the machine, and begins the refresh that it asks for. The observer comes last: a panic there must
    /// not come between a lease and its refresh (K5).
    fn step(&mut self, event: Event) -> Next<T> {
        let next = self.decide(event);
        self.begin_refresh(&next);
        self.observe(event, &next);
        next
    }

    fn decide(&mut self, event: Event) -> Next<T> {
        let service = &self.call.service;
        let at = service.clock.now();
        // Always in this order: login, service, gate.
        let mut login = self.login.state.lock();
        let mut shared = service.state.lock();
        let mut gate = self.gate.lock();
        let scope = Scope { service: &mut shared, login: &mut login.login, gate: &mut gate };
        let action = self.machine.handle(at, event, scope);
        drop((shared, gate));
        let needs_token = matches!(action, Action::Send { .. } | Action::RefreshToken { .. });
        Next {
            at,
            action,
            tick: self.machine.next_tick(&service.policy),
            wakeups: login.login.wakeups(),
            token: login.token.as_ref().filter(|_| needs_token).cloned(),
            last_report: login.last_report,
        }
    }

    fn begin_refresh(&mut self, next: &Next<T>) {
        let Action::RefreshToken { lease, generation, until, challenge, .. } = next.action else { return };
        let Some(token) = next.token.clone() else { return };
        self.led = Some(lease);
        // A panic of the clock or of the timer must not come between a lease and its refresh.
        let guard = Unbegun { login: &*self.login, at: next.at, lease };
        let service = &self.call.service;
        let refresh = Refresh {
            token,
            generation,
            lease,
            timeout: service.clock.real_time(until.saturating_duration_since(next.at)),
            challenge,
            www_authenticate: self.challenge_for(generation),
            api: B::view(service.clone(), self.gate.clone(), self.view_timer.clone()),
        };
        core::mem::forget(guard);
        B::begin(&self.login, refresh);
    }

    /// Takes the challenge of the last attempt, if it was sent with this generation and has not been answered by a wait.
    fn challenge_for(&self, generation: u32) -> Vec<u8> {
        let challenge = core::mem::take(&mut *self.call.www_authenticate.lock());
        if self.sent_with == Some(generation) { challenge } else { Vec::new() }
    }

    fn observe(&mut self, event: Event, next: &Next<T>) {
        let Some(observer) = &mut self.observer else { return };
        let trigger = match next.last_report {
            Some((lease, outcome)) if self.led == Some(lease) && event == Event::Tick => {
                self.led = None;
                StepTrigger::Refreshed { lease, outcome }
            }
            _ => StepTrigger::Event(event),
        };
        observer(&Step { at: next.at, trigger, action: next.action });
    }
}

impl<T, B: Background<T>> Drop for ActiveRequest<'_, T, B> {
    fn drop(&mut self) {
        if !self.machine.is_ended() {
            // A clock that panics again must not abort the process.
            let _ = catch_unwind(AssertUnwindSafe(|| self.decide(Event::Cancel)));
        }
    }
}

/// Gives up a lease whose refresh did not begin.
struct Unbegun<'a, T, B: Background<T>> {
    login: &'a SharedLogin<T, B>,
    at: Timestamp,
    lease: u32,
}

impl<T, B: Background<T>> Drop for Unbegun<'_, T, B> {
    fn drop(&mut self) {
        self.login.abandon(self.at, self.lease);
    }
}

/// How a piece of work ended.
enum Ended<W> {
    Done(W),
    Cancelled,
    /// The tick is due first.
    Tick,
}

/// Completes when the login's counter of wake-ups differs from `seen`, or never: not every wait is for a refresh.
async fn refresh_moved<T, B: Background<T>>(login: Option<Arc<SharedLogin<T, B>>>, seen: u32) {
    match login {
        Some(login) => login.moved(seen).await,
        None => pending().await,
    }
}

/// Completes at an instant, or never.
async fn sleep_until(timer: impl Sleep, service: Arc<SharedService>, until: Option<Timestamp>) {
    let Some(until) = until else { return pending().await };
    let mut has_slept = false;
    loop {
        // B4: a timer that fires early must not end an attempt early.
        let now = service.clock.now();
        if now >= until {
            return;
        }
        if core::mem::replace(&mut has_slept, true) {
            give_way().await;
        }
        let sleep = timer.sleep(service.clock.real_time(until.saturating_duration_since(now)));
        sleep.await;
    }
}

/// Gives the runtime its turn: a sleep that ends early at once must not keep it.
async fn give_way() {
    let mut has_given = false;
    poll_fn(|context| {
        if core::mem::replace(&mut has_given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for the work, the cancel handle or the tick, whichever is first: in this order, if several are ready.
async fn first_of<W>(
    work: impl Future<Output = W>,
    cancel: Option<&CancelHandle>,
    tick: impl Future<Output = ()>,
) -> Ended<W> {
    let (mut work, mut tick) = (pin!(work), pin!(tick));
    let mut cancelled = Cancelled::new(cancel);
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(Ended::Done(result));
        }
        if cancelled.poll(context).is_ready() {
            return Poll::Ready(Ended::Cancelled);
        }
        tick.as_mut().poll(context).map(|()| Ended::Tick)
    })
    .await
}
