//! The parts of a handle: shared state (S8), its `Debug` forms (H9), and what client code can do with the types.

use std::cell::Cell;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use retry_machine::drive::future::{self, RefreshResult, Sleep};
use retry_machine::drive::{
    Answer, Attempt, CallResult, CancelHandle, Fresh, NoToken, RefreshError, Request, SendResult, Step, SystemClock,
    blocking,
};
use retry_machine::{
    Action, BreakerPolicy, FailureKind, GateReason, Idempotency, Policy, Reply, TransportErrorKind, Upstream,
};

use super::support::{at, exact, secs};
use super::world::{
    Called, Endpoint, Server, Sleeper, Task, Tasks, TestClock, Timer, Token, request, run, tasks, threads, token,
};

fn ok(token: &str) -> Called {
    Ok(format!("200 {token}"))
}

// ---- What is shared ----

#[test]
fn s8_two_logins_share_a_service_and_not_their_refreshes() {
    let clock = TestClock::default();
    let service = tasks(exact(), &clock);
    let endpoints = [Endpoint::new(), Endpoint::new()];
    let logins = [0, 1].map(|user| service.with_login(Some(token("old")), endpoints[user].refresh()));
    let server = Server::accepting("new");
    let mut requests = [0, 1].map(|user| request(&logins[user], &server));
    for request in &mut requests {
        request.poll();
    }
    assert_eq!(endpoints.each_ref().map(Endpoint::begun), [1, 1]);
    endpoints[1].finish(0, Ok(token("new")));
    assert!(!requests[0].is_woken());
    assert_eq!(requests[1].poll().take(), ok("new"));
    assert_eq!(logins.each_ref().map(|login| login.login_state().generation), [Some(0), Some(1)]);
    endpoints[0].finish(0, Err(RefreshError::Rejected));
    assert_eq!(requests[0].poll().take(), Err(FailureKind::TokenRejected));
    assert!(logins[0].login_state().is_rejected && !logins[1].login_state().is_rejected);
    assert_eq!(request(&logins[1], &server).poll().take(), ok("new"), "the other login is not concerned");
}

#[test]
fn s8_two_logins_share_budget_breaker_and_gate() {
    let clock = TestClock::default();
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(1) };
    let service = tasks(exact().breaker(Some(breaker)), &clock);
    let logins = [0, 1].map(|_| service.with_login(Some(token("a")), Endpoint::new().refresh()));
    let full = logins[1].budget_balance();
    let fail = |login: &Tasks, status: u16| {
        let login = login.clone();
        Task::new(async move {
            let call = login.call(Idempotency::Idempotent, |attempt| {
                ready(Ok::<_, (_, ())>((attempt.read(status, [("Retry-After", "10")]), ())))
            });
            call.await.map_err(|error| error.failure.kind()).unwrap_err()
        })
    };
    let mut throttled = fail(&logins[0], 429);
    throttled.poll();
    assert!(matches!(logins[1].gate_state().closed, Some((end, GateReason::Throttle)) if end == at(10_000)));
    assert!(logins[1].budget_balance() < full);
    throttled.cancel();
    clock.advance(secs(60));
    run(&clock, &mut [&mut fail(&logins[0], 503)]);
    assert!(logins[1].next_probe().is_some());
    assert_eq!(fail(&logins[1], 503).poll().take(), FailureKind::BreakerOpen);
    assert_eq!(service.next_probe(), logins[1].next_probe());
}

#[test]
fn s8_a_handle_with_its_own_gate_shares_the_rest() {
    let clock = TestClock::default();
    let endpoint = Endpoint::new();
    let api = tasks(exact(), &clock).with_login(Some(token("old")), endpoint.refresh());
    let search = api.with_own_gate();
    api.close_gate(secs(100));
    assert!(api.gate_state().closed.is_some() && search.gate_state().closed.is_none());
    let server = Server::accepting("new");
    let mut held = request(&api, &server);
    held.poll();
    assert_eq!(server.calls(), 0);
    let mut first = request(&search, &server);
    first.poll();
    assert_eq!((server.calls(), endpoint.begun()), (1, 1));
    // The login is the same: the refresh of one is that of both.
    endpoint.finish(0, Ok(token("new")));
    assert_eq!(first.poll().take(), ok("new"));
    assert_eq!(api.token().unwrap().0, "new");
    // An opened gate is opened for those who come.
    api.open_gate();
    assert_eq!(request(&api, &server).poll().take(), ok("new"));
    run(&clock, &mut [&mut held]);
    assert_eq!((held.take(), clock.time()), (ok("new"), at(100_000)));
}

#[test]
fn s8_a_login_is_made_behind_the_gate_of_its_handle() {
    let clock = TestClock::default();
    let service = tasks(exact(), &clock);
    let search = service.with_own_gate();
    let login = search.with_login(Some(token("a")), Endpoint::new().refresh());
    search.close_gate(secs(5));
    assert!(login.gate_state().closed.is_some() && service.gate_state().closed.is_none());
}

#[test]
fn s8_clones_are_one_handle() {
    let clock = TestClock::default();
    let endpoint = Endpoint::new();
    let api = tasks(exact(), &clock).with_login(Some(token("old")), endpoint.refresh());
    let clone = api.clone();
    let server = Server::accepting("new");
    let mut requests = [request(&api, &server), request(&clone, &server)];
    for request in &mut requests {
        request.poll();
    }
    assert_eq!(endpoint.begun(), 1);
    endpoint.finish(0, Ok(token("new")));
    requests.iter_mut().for_each(|request| assert_eq!(request.poll().take(), ok("new")));
    drop(api);
    assert_eq!(request(&clone, &server).poll().take(), ok("new"));
    assert_eq!(clone.policy(), &exact().build().unwrap());
    assert_eq!(clone.now(), at(0));
}

#[test]
fn k9_a_service_without_tokens_sends_none() {
    let api = threads(exact(), &TestClock::default());
    let answer = api.call(Idempotency::Idempotent, |attempt: Attempt<NoToken>| {
        assert!(attempt.token().is_none() && attempt.generation().is_none());
        Ok::<_, (TransportErrorKind, ())>((attempt.read(401, [("", "")]), ()))
    });
    assert_eq!(answer.unwrap_err().failure.kind(), FailureKind::Unauthorized);
    assert_eq!(api.login_state().generation, None);
}

#[test]
fn t5_each_request_of_each_handle_has_its_own_seed() {
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let clock = TestClock::default();
        clock.let_sleepers_move(true);
        let api = threads(Policy::flextell().into_builder(), &clock);
        for _ in 0..4 {
            let mut observer = |step: &Step| {
                if let Action::Wait { until, .. } = step.action {
                    waits.insert(until.saturating_duration_since(step.at));
                }
            };
            let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
            let call = api.call(request, |attempt| {
                let status = if attempt.number() == 1 { 503 } else { 200 };
                Ok::<_, (TransportErrorKind, ())>((Reply::new(status), ()))
            });
            call.unwrap();
        }
    }
    assert_eq!(waits.len(), 16);
}

#[test]
fn t5_a_request_with_a_seed_repeats_its_waits() {
    let waits = |seed| {
        let clock = TestClock::default();
        clock.let_sleepers_move(true);
        let api = threads(Policy::flextell().into_builder(), &clock);
        let mut waits = Vec::new();
        let mut observer = |step: &Step| {
            if let Action::Wait { until, .. } = step.action {
                waits.push(until);
            }
        };
        let request = Request::new(Idempotency::Idempotent).seed(seed).observed_by(&mut observer);
        api.call(request, |_| Ok::<_, (TransportErrorKind, ())>((Reply::new(503), ()))).unwrap_err();
        waits
    };
    assert_eq!(waits(7), waits(7));
    assert_ne!(waits(7), waits(8));
    assert_eq!(waits(7).len(), 5);
}

// ---- What is shown ----

#[test]
fn h9_no_debug_form_shows_a_token_or_a_challenge() {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (in_refresh, in_send) = (shown.clone(), shown.clone());
    let clock = TestClock::default();
    let secret = |name: &str| Fresh { token: format!("secret {name}"), expires_in: Some(secs(600)) };
    shown.lock().unwrap().push(format!("{:?}", secret("fresh")));
    let api = tasks(exact(), &clock).with_login(Some(secret("old")), move |refresh| {
        in_refresh.lock().unwrap().push(format!("{refresh:?} {:?}", refresh.api()));
        ready(Ok(Fresh { token: String::from("secret new"), expires_in: None }))
    });
    shown.lock().unwrap().push(format!("{api:?}"));
    let call = api.clone();
    let mut task = Task::new(async move {
        let mut observer = |step: &Step| in_send.lock().unwrap().push(format!("{step:?} {}", step.action));
        let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
        let shown = in_send.clone();
        shown.lock().unwrap().push(format!("{request:?}"));
        let call = call.call(request, |attempt| {
            shown.lock().unwrap().push(format!("{attempt:?}"));
            let status = if attempt.generation() == Some(0) { 401 } else { 404 };
            let headers = [("WWW-Authenticate", "Bearer error=\"invalid_token\", scope=\"secret scope\"")];
            ready(Ok::<_, (_, ())>((attempt.read(status, headers), ())))
        });
        call.await.map(drop)
    });
    run(&clock, &mut [&mut task]);
    let error = task.take().unwrap_err();
    let mut shown = shown.lock().unwrap();
    shown.push(format!("{error:?} {error} {:?}", api.login_state()));
    assert!(shown.len() > 10);
    for one in &*shown {
        assert!(!one.contains("secret"), "{one}");
    }
}

// ---- What client code can do with the types ----

fn spawn<F: Future + Send + 'static>(future: F) -> F {
    future
}

fn is_send_and_sync<V: Send + Sync>(_: &V) {}

/// `Send`, and nothing else.
struct Loner(Cell<u8>);

impl Loner {
    fn new() -> Loner {
        Loner(Cell::new(0))
    }

    /// Uses it, so that whoever keeps it needs it.
    fn touch(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }
}

/// A sleep, and a future of it, that are not `Sync`.
struct LonelySleep(Loner, TestClock);

impl Clone for LonelySleep {
    fn clone(&self) -> LonelySleep {
        LonelySleep(Loner::new(), self.1.clone())
    }
}

struct LonelyTimer(Loner, Timer);

impl Sleep for LonelySleep {
    type Future = LonelyTimer;

    fn sleep(&self, wait: Duration) -> LonelyTimer {
        self.0.touch();
        LonelyTimer(Loner::new(), self.1.sleep(wait))
    }
}

impl Future for LonelyTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.touch();
        Pin::new(&mut self.1).poll(context)
    }
}

/// Generic code, such as a client's or a middleware's: it knows nothing of the parts but that they are `Send`.
fn generic<S, T, C, Fut, R, E>(api: future::Api<S, T>, send: C) -> impl Future<Output = CallResult<R, E>> + Send
where
    S: Sleep<Future: Send> + Send + 'static,
    T: Send + Sync + 'static,
    C: FnMut(Attempt<T>) -> Fut + Send + 'static,
    Fut: Future<Output = SendResult<R, E>> + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    spawn(async move {
        let handle = CancelHandle::new();
        let mut observer = |_: &Step| {};
        let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle).observed_by(&mut observer);
        api.call(request, send).await
    })
}

/// Returns the same with a refresh of any type.
fn generic_refresh<S, T, F, Fut, R>(api: &future::Api<S>, first: Fresh<T>, refresh: F, other: R) -> future::Api<S, T, R>
where
    S: Sleep<Future: Send> + Send + 'static,
    T: Send + Sync + 'static,
    F: FnMut(future::Refresh<S, T>) -> Fut + Send + 'static,
    Fut: Future<Output = RefreshResult<T>> + Send + 'static,
    R: FnMut(future::Refresh<S, T>) -> Ready<RefreshResult<T>> + Send + 'static,
{
    let boxed = api.with_login(Some(first), refresh);
    drop(generic(boxed, |_| ready(Ok::<_, (TransportErrorKind, ())>((Reply::new(200), ())))));
    let local = api.with_local_login(None, other);
    let call = local.clone();
    drop(spawn(async move {
        let send = |_| ready(Ok::<_, (TransportErrorKind, ())>((Reply::new(200), ())));
        call.call(Idempotency::Idempotent, send).await.is_ok()
    }));
    local
}

#[test]
fn t4_generic_code_can_spawn_a_call_whose_parts_are_not_sync() {
    let clock = TestClock::default();
    let upstream = Upstream::new(exact().build().unwrap());
    let sleep = LonelySleep(Loner::new(), clock.clone());
    let service = future::Api::with_upstream(upstream, sleep, clock.clone());
    let (in_refresh, lonely) = (Loner::new(), clock.clone());
    let api = service.with_login(Some(token("old")), move |_| {
        in_refresh.touch();
        let (wait, in_future) = (lonely.sleep(secs(1)), Loner::new());
        async move {
            wait.await;
            in_future.touch();
            Ok(token("new"))
        }
    });
    let (in_send, slow) = (Loner::new(), clock.clone());
    let mut task = Task::new(generic(api, move |attempt| {
        in_send.touch();
        let (wait, in_future) = (slow.sleep(secs(1)), Loner::new());
        async move {
            wait.await;
            let status = match attempt.number() {
                1 => 503,
                2 => 401,
                _ => 200,
            };
            in_future.touch();
            // A response that is not `Sync`.
            Ok::<_, (TransportErrorKind, Loner)>((attempt.read(status, [("", "")]), Loner::new()))
        }
    }));
    run(&clock, &mut [&mut task]);
    assert_eq!(task.take().ok().unwrap().attempts, 3);
    let refresh = |_: future::Refresh<LonelySleep, Token>| ready(Ok(token("new")));
    assert!(generic_refresh(&service, token("old"), refresh, |_| ready(Ok(token("new")))).token().is_none());
}

/// A client that names the types of its handles.
#[allow(dead_code)]
struct Client {
    plain: future::Api<Sleeper>,
    with_token: future::Api<Sleeper, Token>,
    with_a_function: future::Api<fn(Duration) -> Timer>,
    in_threads: blocking::Api,
    in_threads_with_token: blocking::Api<Token>,
}

#[test]
fn t4_handles_have_names_and_are_shared_by_threads() {
    fn never(_: Duration) -> Timer {
        TestClock::default().sleep(Duration::MAX)
    }
    let clock = TestClock::default();
    let client = Client {
        plain: tasks(exact(), &clock),
        with_token: tasks(exact(), &clock).with_login(Some(token("a")), |_| ready(Err(RefreshError::Abandoned))),
        with_a_function: future::Api::new(Policy::common(), never as fn(Duration) -> Timer),
        in_threads: blocking::Api::new(Policy::common()),
        in_threads_with_token: blocking::Api::new(Policy::common())
            .with_login(Some(token("a")), |_| Err(RefreshError::Rejected)),
    };
    is_send_and_sync(&client);
    is_send_and_sync(&CancelHandle::new());
    is_send_and_sync(&SystemClock::new());
    drop(spawn(client.with_token.call(Idempotency::Idempotent, |attempt| {
        ready(Ok::<_, (TransportErrorKind, ())>((attempt.read(200, [("", "")]), ())))
    })));
    // An error of a request is an error like any other.
    fn is_error<E: std::error::Error + Send + Sync + 'static>(_: Option<E>) {}
    is_error(None::<retry_machine::drive::RequestError<Vec<u8>, std::io::Error>>);
}

/// A sender with a type of its own, whose future borrows it.
struct Counter {
    sent: Vec<u32>,
    clock: TestClock,
}

impl future::Sender<Token> for Counter {
    type Response = Vec<u32>;
    type Error = ();

    async fn send(&mut self, attempt: Attempt<Token>) -> SendResult<Vec<u32>, ()> {
        self.sent.push(attempt.number());
        self.clock.sleep(secs(1)).await;
        let status = if attempt.number() < 3 { 503 } else { 200 };
        Ok((attempt.read(status, [("", "")]), self.sent.clone()))
    }
}

#[test]
fn t4_a_sender_of_its_own_type_is_spawned_and_keeps_its_state() {
    let clock = TestClock::default();
    let api = tasks(exact(), &clock).with_login(Some(token("a")), Endpoint::new().refresh());
    let sender = Counter { sent: Vec::new(), clock: clock.clone() };
    let mut task = Task::new(spawn(api.send(Idempotency::Idempotent, sender)));
    run(&clock, &mut [&mut task]);
    let Answer { response, attempts, waited, .. } = task.take().unwrap();
    assert_eq!((response, attempts, waited), (vec![1, 2, 3], 3, secs(3)));
}

#[test]
fn t4_a_client_that_is_not_send_works_in_one_thread() {
    let clock = TestClock::default();
    let (begun, sent) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let count = begun.clone();
    let api = tasks(exact(), &clock).with_local_login(
        Some(Fresh { token: Rc::new(0), expires_in: None }),
        move |refresh: future::Refresh<Sleeper, Rc<u32>>| {
            count.set(count.get() + 1);
            let next = Rc::new(**refresh.token() + 1);
            async move { Ok(Fresh { token: next, expires_in: None }) }
        },
    );
    let mut call = pin!(api.call(Idempotency::Idempotent, |attempt| {
        let sent = sent.clone();
        async move {
            sent.set(sent.get() + 1);
            let token = attempt.token().unwrap().clone();
            let status = if *token == 0 { 401 } else { 200 };
            Ok::<_, (TransportErrorKind, Rc<()>)>((attempt.read(status, [("", "")]), token))
        }
    }));
    let mut context = Context::from_waker(Waker::noop());
    let answer = loop {
        if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
            break answer.unwrap();
        }
    };
    assert_eq!((*answer.response, begun.get(), sent.get()), (1, 1, 2));
}
