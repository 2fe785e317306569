//! The handle's locks and wake-ups under loom: each test runs in every interleaving of its threads, within a bound of
//! preemptions. A wake-up that is lost is a deadlock there, and loom fails.
//!
//! `cargo test --lib interleavings -- --nocapture` prints how many it explored.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::println;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};

use loom::future::block_on;
use loom::thread;

use super::api::NoToken;
use super::future::{BoxRefresh, Tasks};
use super::login::{Background, SharedLogin};
use super::service::SharedService;
use super::sync::{AtomicBool, Mutex, Ordering};
use super::{Api, Clock, Fresh, Refresh};
use crate::upstream::{Gate, Scope, Service};
use crate::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp};

/// Time stands still: nothing ends by a timer.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn unix_time(&self) -> Option<Duration> {
        None
    }
}

type Sleep = fn(Duration) -> core::future::Pending<()>;
type Running = Pin<Box<Endpoint>>;
type Runner = Tasks<Sleep, String, Box<dyn FnMut(Facts) -> Running + Send>>;
type Login = SharedLogin<String, Runner>;
type Facts = Refresh<String, Api<NoToken, Tasks<Sleep, NoToken, BoxRefresh<Sleep, NoToken>>>>;

/// A token endpoint that answers when it is told to.
#[derive(Clone, Default)]
struct Answer(Arc<Pending>);

#[derive(Default)]
struct Pending {
    is_there: AtomicBool,
    waker: Mutex<Option<Waker>>,
    calls: AtomicUsize,
}

impl Answer {
    fn send(&self) {
        self.0.is_there.store(true, Ordering::SeqCst);
        let waker = self.0.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn calls(&self) -> usize {
        self.0.calls.load(StdOrdering::Relaxed)
    }
}

struct Endpoint(Answer);

impl Future for Endpoint {
    type Output = super::RefreshResult<String>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Answer(pending) = &self.0;
        *pending.waker.lock() = Some(context.waker().clone());
        if pending.is_there.load(Ordering::SeqCst) {
            Poll::Ready(Ok(Fresh { token: String::from("refreshed"), expires_in: None }))
        } else {
            Poll::Pending
        }
    }
}

/// Runs a scene in all interleavings of at most this many preemptions.
fn explore(name: &str, preemptions: usize, scene: impl Fn() + Send + Sync + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        counter.fetch_add(1, StdOrdering::Relaxed);
        scene();
    });
    println!("{name}: {} interleavings", count.load(StdOrdering::Relaxed));
}

/// Returns a login whose token has expired, and the facts of its refresh.
fn login(answer: &Answer) -> (Arc<Login>, Facts) {
    let service = Arc::new(SharedService::new(Service::new(Policy::flextell()), Arc::new(Still)));
    let first = Fresh { token: String::from("first"), expires_in: None };
    let answer = answer.clone();
    let refresh: Box<dyn FnMut(Facts) -> Running + Send> = Box::new(move |_| {
        answer.0.calls.fetch_add(1, StdOrdering::Relaxed);
        Box::pin(Endpoint(answer.clone()))
    });
    let login = Arc::new(Login::new(service.clone(), Some(first), Tasks::new(refresh)));
    let facts = lead(&login, Timestamp::ZERO).unwrap();
    (login, facts)
}

/// Takes a lease, as a request does that gets a 401.
fn lead(login: &Arc<Login>, now: Timestamp) -> Option<Facts> {
    let mut state = login.state.lock();
    let (mut service, mut gate) = (Service::new(Policy::flextell()), Gate::new());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
    let mut action = None;
    for event in [Event::Start, Event::Reply { attempt: 1, reply: Reply::new(401) }] {
        let scope = Scope { service: &mut service, login: &mut state.login, gate: &mut gate };
        action = Some(machine.handle(now, event, scope));
    }
    let Some(Action::RefreshToken { lease, generation: 0, .. }) = action else { return None };
    let token = state.token.clone().unwrap();
    drop(state);
    let api = Runner::view(login.service.clone(), Arc::new(Mutex::new(Gate::new())), sleep);
    let www_authenticate = Vec::new();
    Some(Refresh { token, generation: 0, lease, timeout: Duration::ZERO, challenge: None, www_authenticate, api })
}

/// Starts a request that follows.
fn follow(login: &Arc<Login>) -> thread::JoinHandle<()> {
    let login = login.clone();
    thread::spawn(move || block_on(login.moved(0)))
}

/// Starts the answer of the token endpoint.
fn answer_soon(answer: &Answer) -> thread::JoinHandle<()> {
    let answer = answer.clone();
    thread::spawn(move || answer.send())
}

fn sleep(_: Duration) -> core::future::Pending<()> {
    core::future::pending()
}

/// Asserts that the token is that of its generation.
fn assert_token(login: &Login, generation: u32, token: &str) {
    let state = login.state.lock();
    assert_eq!(state.login.generation(), Some(generation));
    assert_eq!(state.token.as_deref().map(String::as_str), Some(token));
}

#[test]
fn k8_nobody_misses_the_outcome() {
    explore("a leader and a follower", 3, || {
        let answer = Answer::default();
        let (login, facts) = login(&answer);
        let (follower, endpoint) = (follow(&login), answer_soon(&answer));
        Tasks::begin(&login, facts);
        block_on(login.moved(0));
        follower.join().unwrap();
        endpoint.join().unwrap();
        assert_token(&login, 1, "refreshed");
        assert_eq!(answer.calls(), 1);
    });
}

#[test]
fn k11_a_follower_goes_on_when_the_leader_is_dropped() {
    explore("a leader that is dropped after its first poll", 3, || {
        let answer = Answer::default();
        let (login, facts) = login(&answer);
        let (follower, endpoint) = (follow(&login), answer_soon(&answer));
        Tasks::begin(&login, facts);
        {
            let mut moved = Box::pin(login.moved(0));
            let _ = moved.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        follower.join().unwrap();
        endpoint.join().unwrap();
        assert_token(&login, 1, "refreshed");
    });
}

#[test]
fn k5_a_token_from_outside_is_not_replaced_by_a_refresh() {
    explore("a login in the middle of a refresh", 3, || {
        let answer = Answer::default();
        let (login, facts) = login(&answer);
        answer.send();
        let user = {
            let login = login.clone();
            thread::spawn(move || login.replace_token(Some(Fresh { token: String::from("user's"), expires_in: None })))
        };
        Tasks::begin(&login, facts);
        block_on(login.moved(0));
        user.join().unwrap();
        // Before the refresh, or after it: never instead of it.
        let generation = login.state.lock().login.generation().unwrap();
        assert_token(&login, generation, "user's");
        assert!(login.with_running(|_| ()).is_none(), "K11: no refresh of a token that is gone");
    });
}

#[test]
fn k11_two_leases_have_one_refresh() {
    explore("a second lease while the first refresh ends", 2, || {
        let answer = Answer::default();
        let (login, facts) = login(&answer);
        Tasks::begin(&login, facts);
        let ends = {
            let (answer, login) = (answer.clone(), login.clone());
            thread::spawn(move || {
                answer.send();
                Tasks::poll(&login);
            })
        };
        // The first lease has run out, and another request leads, unless the outcome came first.
        if let Some(facts) = lead(&login, Timestamp::from_millis(30_000)) {
            Tasks::begin(&login, facts);
        }
        block_on(login.moved(0));
        ends.join().unwrap();
        assert_token(&login, 1, "refreshed");
        assert_eq!(answer.calls(), 1, "the refresh token is used once");
    });
}
