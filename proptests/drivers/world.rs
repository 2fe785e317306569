//! A world for the drivers: virtual time, tasks that are polled by hand, and a token endpoint that a test holds in its hands.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use retry_machine::drive::future::RefreshResult;
use retry_machine::drive::{Attempt, Clock, Fresh, RefreshError, SendResult, blocking, future};
use retry_machine::{PolicyBuilder, Timestamp, Upstream};

use super::support::at;

// ---- Time ----

/// A clock that moves only when a test or the executor moves it. Clones are one clock.
#[derive(Clone, Default)]
pub struct TestClock(Arc<ClockState>);

#[derive(Default)]
struct ClockState {
    now: AtomicU64,
    timers: Mutex<BTreeMap<(u64, u64), Waker>>,
    next_timer: AtomicU64,
    /// Whether whoever sleeps in a thread moves the clock to the end of its sleep.
    sleepers_move: AtomicBool,
    on_now: Mutex<VecDeque<Hook>>,
    on_real_time: Mutex<VecDeque<Hook>>,
    on_each_sleep: Mutex<Option<Arc<Probe>>>,
}

type Hook = Box<dyn FnOnce() + Send>;
type Probe = dyn Fn() + Send + Sync;

/// Threads sleep for so much less than they ask for. Then they look at the clock again.
pub const SCALE: u32 = 10_000;

impl TestClock {
    pub fn time(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.now.load(Ordering::SeqCst))
    }

    /// Moves the clock to this instant, unless it is there already, and wakes who sleeps until then.
    pub fn advance_to(&self, time: Timestamp) {
        self.0.now.fetch_max(time.as_nanos(), Ordering::SeqCst);
        let due: Vec<Waker> = {
            let mut timers = self.0.timers.lock().unwrap();
            let later = timers.split_off(&(self.time().as_nanos() + 1, 0));
            std::mem::replace(&mut *timers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    pub fn advance(&self, wait: Duration) {
        self.advance_to(self.time().saturating_add(wait));
    }

    /// Lets threads that sleep move the clock. Else they wait until something else does.
    pub fn let_sleepers_move(&self, on: bool) {
        self.0.sleepers_move.store(on, Ordering::SeqCst);
    }

    /// Calls `hook` once, in the next call of `now`.
    pub fn on_now(&self, hook: impl FnOnce() + Send + 'static) {
        self.on_now_after(0, hook);
    }

    /// Calls `hook` once, in the call of `now` after this many others.
    pub fn on_now_after(&self, calls: usize, hook: impl FnOnce() + Send + 'static) {
        let mut hooks = self.0.on_now.lock().unwrap();
        hooks.extend((0..calls).map(|_| Box::new(|| {}) as Hook));
        hooks.push_back(Box::new(hook));
    }

    /// Calls `hook` once, in the next call of `real_time`.
    pub fn on_real_time(&self, hook: impl FnOnce() + Send + 'static) {
        self.0.on_real_time.lock().unwrap().push_back(Box::new(hook));
    }

    /// Calls `probe` in each call of `real_time`: whoever sleeps asks for it first.
    pub fn on_each_sleep(&self, probe: impl Fn() + Send + Sync + 'static) {
        *self.0.on_each_sleep.lock().unwrap() = Some(Arc::new(probe));
    }

    pub fn sleep(&self, wait: Duration) -> Timer {
        Timer { clock: self.clone(), until: self.time().saturating_add(wait), key: None }
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.0.timers.lock().unwrap().keys().next().map(|(time, _)| Timestamp::from_nanos(*time))
    }
}

fn call_hook(hooks: &Mutex<VecDeque<Hook>>) {
    let hook = hooks.lock().unwrap().pop_front();
    if let Some(hook) = hook {
        hook();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        call_hook(&self.0.on_now);
        self.time()
    }

    fn unix_time(&self) -> Option<Duration> {
        None
    }

    fn real_time(&self, wait: Duration) -> Duration {
        call_hook(&self.0.on_real_time);
        let probe = self.0.on_each_sleep.lock().unwrap().clone();
        if let Some(probe) = probe {
            probe();
        }
        if self.0.sleepers_move.load(Ordering::SeqCst) {
            self.advance(wait);
            return Duration::ZERO;
        }
        wait
    }
}

/// The same clock for threads: real sleeps are short, and a thread looks at the clock after each.
#[derive(Clone)]
pub struct ThreadClock(pub TestClock);

impl Clock for ThreadClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn unix_time(&self) -> Option<Duration> {
        None
    }

    fn real_time(&self, wait: Duration) -> Duration {
        self.0.real_time(wait) / SCALE
    }
}

/// The `sleep` of a handle for tasks.
#[derive(Clone)]
pub struct Sleeper {
    pub clock: TestClock,
    /// Whether each sleep ends when half of it has passed.
    pub is_hasty: bool,
}

impl future::Sleep for Sleeper {
    type Future = Timer;

    fn sleep(&self, wait: Duration) -> Timer {
        self.clock.sleep(if self.is_hasty { (wait + Duration::from_nanos(1)) / 2 } else { wait })
    }
}

pub struct Timer {
    clock: TestClock,
    until: Timestamp,
    key: Option<(u64, u64)>,
}

impl Timer {
    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.clock.0.timers.lock().unwrap().remove(&key);
            drop(waker);
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.forget();
        if self.clock.time() >= self.until {
            return Poll::Ready(());
        }
        let key = (self.until.as_nanos(), self.clock.0.next_timer.fetch_add(1, Ordering::SeqCst));
        let waker = context.waker().clone();
        self.clock.0.timers.lock().unwrap().insert(key, waker);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.forget();
    }
}

// ---- Tasks ----

/// A future that is polled when a test says so.
pub struct Task<R> {
    future: Option<Pin<Box<dyn Future<Output = R> + Send>>>,
    flag: Arc<Flag>,
    pub result: Option<R>,
}

/// Whether a task was woken.
#[derive(Default)]
pub struct Flag {
    is_woken: AtomicBool,
    on_wake: Mutex<Option<Arc<Probe>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        let hook = self.on_wake.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl<R> Task<R> {
    /// Creates a task that has not been polled and wants to be.
    pub fn new(future: impl Future<Output = R> + Send + 'static) -> Task<R> {
        let flag = Arc::new(Flag { is_woken: AtomicBool::new(true), ..Flag::default() });
        Task { future: Some(Box::pin(future)), flag, result: None }
    }

    /// Polls the future once, woken or not.
    pub fn poll(&mut self) -> &mut Self {
        self.poll_with(&Waker::from(self.flag.clone()))
    }

    pub fn poll_with(&mut self, waker: &Waker) -> &mut Self {
        self.flag.is_woken.store(false, Ordering::SeqCst);
        let future = self.future.as_mut().expect("the task was neither dropped nor has it ended");
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(waker)) {
            self.future = None;
            self.result = Some(result);
        }
        self
    }

    /// Drops the future.
    pub fn cancel(&mut self) {
        self.future = None;
    }

    /// Returns whether the task was woken since it was polled.
    pub fn is_woken(&self) -> bool {
        self.flag.is_woken.load(Ordering::SeqCst)
    }

    /// Calls `hook` with each wake-up, where the task is woken.
    pub fn on_wake(&self, hook: impl Fn() + Send + Sync + 'static) {
        *self.flag.on_wake.lock().unwrap() = Some(Arc::new(hook));
    }

    pub fn has_ended(&self) -> bool {
        self.result.is_some()
    }

    #[track_caller]
    pub fn take(&mut self) -> R {
        self.result.take().expect("the task has ended")
    }
}

/// A future that the executor runs.
pub trait Run {
    /// Polls the future if it was woken. Returns whether it was.
    fn run(&mut self) -> bool;

    fn is_over(&self) -> bool;
}

impl<R> Run for Task<R> {
    fn run(&mut self) -> bool {
        let is_due = self.future.is_some() && self.is_woken();
        if is_due {
            self.poll();
        }
        is_due
    }

    fn is_over(&self) -> bool {
        self.future.is_none()
    }
}

/// Runs tasks as a runtime would until `end`: it polls a task only after it was woken, and moves the clock to the next timer
/// when none is.
pub fn run_until(clock: &TestClock, end: Timestamp, tasks: &mut [&mut dyn Run]) {
    let mut rounds = 0;
    loop {
        let mut some_ran = false;
        for task in tasks.iter_mut() {
            some_ran |= task.run();
        }
        rounds += 1;
        assert!(rounds < 100_000, "the tasks run in circles");
        if some_ran {
            continue;
        }
        if tasks.iter().all(|task| task.is_over()) {
            return;
        }
        match clock.next_timer() {
            Some(next) if next <= end => clock.advance_to(next),
            _ => {
                if end < Timestamp::MAX {
                    clock.advance_to(end);
                }
                return;
            }
        }
    }
}

/// Runs tasks until none can go on.
pub fn run(clock: &TestClock, tasks: &mut [&mut dyn Run]) {
    run_until(clock, Timestamp::MAX, tasks);
}

// ---- The client ----

/// A token: `Send` and `Sync`, and nothing else.
pub struct Token(pub String);

pub fn token(name: &str) -> Fresh<Token> {
    Fresh { token: Token(name.into()), expires_in: None }
}

pub fn token_for(name: &str, seconds: u64) -> Fresh<Token> {
    Fresh { token: Token(name.into()), expires_in: Some(Duration::from_secs(seconds)) }
}

pub type Tasks = future::Api<Sleeper, Token>;

pub const UNAVAILABLE: RefreshError = RefreshError::UNAVAILABLE;

/// A refresh that a test makes.
pub type BoxRefresh = Box<dyn FnMut(future::Refresh<Sleeper, Token>) -> BoxFuture + Send>;
pub type BoxFuture = Pin<Box<dyn Future<Output = RefreshResult<Token>> + Send>>;

/// The server that most tests call: it knows one token, and answers at once.
#[derive(Clone)]
pub struct Server(Arc<Mutex<String>>, Arc<AtomicU32>);

impl Server {
    pub fn accepting(token: &str) -> Server {
        Server(Arc::new(Mutex::new(token.into())), Arc::default())
    }

    /// Accepts this token from now on, and no other.
    pub fn accept(&self, token: &str) {
        *self.0.lock().unwrap() = token.into();
    }

    /// Returns the number of requests that it got.
    pub fn calls(&self) -> u32 {
        self.1.load(Ordering::SeqCst)
    }

    /// Answers 200 with the token's name, or 401.
    pub fn answer(&self, attempt: &Attempt<Token>) -> SendResult<String, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let token = attempt.token().map_or("none", |token| &token.0);
        let status = if token == *self.0.lock().unwrap() { 200 } else { 401 };
        let headers = [("WWW-Authenticate", format!("Bearer error=\"invalid_token\", realm=\"{token}\""))];
        Ok((attempt.read(status, headers), format!("{status} {token}")))
    }
}

/// A token endpoint: a test says when and how each refresh ends.
#[derive(Clone, Default)]
pub struct Endpoint(Arc<EndpointState>);

#[derive(Default)]
struct EndpointState {
    refreshes: Mutex<Vec<Arc<Refreshing>>>,
    polls: AtomicU32,
    under_way: AtomicU32,
}

/// One refresh at the endpoint.
#[derive(Default)]
pub struct Refreshing {
    pub token: String,
    pub generation: u32,
    pub www_authenticate: String,
    outcome: Mutex<Option<Ending>>,
    waker: Mutex<Option<Waker>>,
}

enum Ending {
    Result(RefreshResult<Token>),
    Panic,
}

impl Endpoint {
    pub fn new() -> Endpoint {
        Endpoint::default()
    }

    /// Returns the closure that refreshes at this endpoint.
    pub fn refresh(&self) -> BoxRefresh {
        let endpoint = self.clone();
        Box::new(move |refresh| Box::pin(endpoint.begin(&refresh)))
    }

    pub fn begin(&self, refresh: &future::Refresh<Sleeper, Token>) -> Exchange {
        let refreshing = Arc::new(Refreshing {
            token: refresh.token().0.clone(),
            generation: refresh.generation(),
            www_authenticate: String::from_utf8_lossy(refresh.www_authenticate()).into(),
            ..Refreshing::default()
        });
        self.0.refreshes.lock().unwrap().push(refreshing.clone());
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        Exchange { endpoint: self.clone(), refreshing, on_drop: None }
    }

    /// Ends the refresh with this number, from 0.
    #[track_caller]
    pub fn finish(&self, number: usize, result: Result<Fresh<Token>, RefreshError>) {
        self.end(number, Ending::Result(result));
    }

    #[track_caller]
    pub fn panic(&self, number: usize) {
        self.end(number, Ending::Panic);
    }

    #[track_caller]
    fn end(&self, number: usize, ending: Ending) {
        *self.refreshing(number).outcome.lock().unwrap() = Some(ending);
        self.wake(number);
    }

    /// Wakes whoever is to go on with a refresh.
    #[track_caller]
    pub fn wake(&self, number: usize) {
        let waker = self.refreshing(number).waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[track_caller]
    pub fn refreshing(&self, number: usize) -> Arc<Refreshing> {
        self.0.refreshes.lock().unwrap().get(number).expect("this refresh has begun").clone()
    }

    /// Returns the number of refreshes that have begun.
    pub fn begun(&self) -> usize {
        self.0.refreshes.lock().unwrap().len()
    }

    /// Returns the number of refreshes that were neither dropped nor ended.
    pub fn under_way(&self) -> u32 {
        self.0.under_way.load(Ordering::SeqCst)
    }

    /// Returns how often refreshes were polled.
    pub fn polls(&self) -> u32 {
        self.0.polls.load(Ordering::SeqCst)
    }
}

/// The future of one refresh.
pub struct Exchange {
    endpoint: Endpoint,
    refreshing: Arc<Refreshing>,
    /// Called when the future is dropped.
    pub on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Future for Exchange {
    type Output = RefreshResult<Token>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.endpoint.0.polls.fetch_add(1, Ordering::SeqCst);
        let waker = context.waker().clone();
        drop(self.refreshing.waker.lock().unwrap().replace(waker));
        let outcome = self.refreshing.outcome.lock().unwrap().take();
        match outcome {
            None => Poll::Pending,
            Some(Ending::Result(result)) => Poll::Ready(result),
            Some(Ending::Panic) => panic!("the refresh panics"),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.endpoint.0.under_way.fetch_sub(1, Ordering::SeqCst);
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

/// A service with one login for tasks, with all that a test needs to hold.
pub struct Scene {
    pub clock: TestClock,
    pub server: Server,
    pub endpoint: Endpoint,
    pub api: Tasks,
}

pub type Called = Result<String, retry_machine::FailureKind>;

impl Scene {
    /// Creates a scene whose handle has the token `old`, while the server wants `new`.
    pub fn new(policy: PolicyBuilder) -> Scene {
        let endpoint = Endpoint::new();
        let refresh = endpoint.refresh();
        Scene::with_refresh(policy, endpoint, |_| refresh)
    }

    /// Returns the same with a refresh that needs to know the clock.
    pub fn with_refresh(
        policy: PolicyBuilder,
        endpoint: Endpoint,
        refresh: impl FnOnce(&TestClock) -> BoxRefresh,
    ) -> Scene {
        let clock = TestClock::default();
        let api = tasks(policy, &clock).with_login(Some(token("old")), refresh(&clock));
        Scene { clock, server: Server::accepting("new"), endpoint, api }
    }

    /// Returns a request that was not polled.
    pub fn request(&self) -> Task<Called> {
        request(&self.api, &self.server)
    }

    /// Returns a request that was polled once: it waits for the refresh.
    pub fn waiting(&self) -> Task<Called> {
        let mut request = self.request();
        request.poll();
        assert!(!request.has_ended(), "the request waits for the token");
        request
    }

    pub fn run(&self, tasks: &mut [&mut dyn Run]) {
        run(&self.clock, tasks);
    }

    pub fn run_until(&self, millis: u64, tasks: &mut [&mut dyn Run]) {
        run_until(&self.clock, at(millis), tasks);
    }
}

/// Returns the service for tasks, without a login.
pub fn tasks(policy: PolicyBuilder, clock: &TestClock) -> future::Api<Sleeper> {
    let upstream = Upstream::new(policy.build().unwrap());
    future::Api::with_upstream(upstream, Sleeper { clock: clock.clone(), is_hasty: false }, clock.clone())
}

/// Returns the service for threads, without a login.
pub fn threads(policy: PolicyBuilder, clock: &TestClock) -> blocking::Api {
    blocking::Api::with_upstream(Upstream::new(policy.build().unwrap()), ThreadClock(clock.clone()))
}

/// Returns a request to a server.
pub fn request(api: &Tasks, server: &Server) -> Task<Called> {
    request_of(api, server, retry_machine::Idempotency::Idempotent)
}

pub fn request_of(
    api: &Tasks,
    server: &Server,
    request: impl Into<retry_machine::drive::Request<'static>> + Send + 'static,
) -> Task<Called> {
    let (api, server) = (api.clone(), server.clone());
    Task::new(async move {
        let result = api.call(request, |attempt| std::future::ready(server.answer(&attempt))).await;
        result.map(|answer| answer.response).map_err(|error| error.failure.kind())
    })
}

// ---- Bounds ----

/// Runs a test that could hang in a thread of its own, and fails if it does.
#[track_caller]
pub fn bounded<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || drop(done.send(test())));
    match result.recv_timeout(Duration::from_secs(60)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the thread has sent a result"),
        },
    }
}

/// Waits until something holds.
#[track_caller]
pub fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..200_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_micros(100));
    }
    panic!("it never held");
}

// ---- Values that tell of their end ----

/// Counts the values that are alive.
#[derive(Clone, Default)]
pub struct Alive(Arc<AtomicU32>);

pub struct Living(Alive);

impl Alive {
    pub fn one(&self) -> Living {
        self.0.fetch_add(1, Ordering::SeqCst);
        Living(self.clone())
    }

    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
