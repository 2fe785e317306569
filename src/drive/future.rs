//! The async driver: requests are futures, on any runtime.
//!
//! [`Api`] is the handle of a service. It needs to be told how to sleep, and nothing else of the runtime.
//!
//! ```
//! use retry_machine::drive::future;
//! use retry_machine::{Idempotency, Policy, Reply, TransportErrorKind};
//! # use core::future::Future;
//! # use core::pin::pin;
//! # use core::task::{Context, Waker};
//!
//! # let sleep = |_| core::future::ready(());
//! let api = future::Api::new(Policy::common(), sleep); // with tokio: `tokio::time::sleep`
//! let task = async {
//!     let answer = api
//!         .call(Idempotency::Idempotent, |attempt| async move {
//!             // Here your HTTP client sends the request.
//!             let status = if attempt.number() == 1 { 503 } else { 200 };
//!             Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("Retry-After", "0")]), status))
//!         })
//!         .await
//!         .unwrap();
//!     assert_eq!((answer.response, answer.attempts), (200, 2));
//! };
//! # let mut task = pin!(task);
//! # while task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
//! ```
//!
//! A whole client, with reqwest on tokio:
#![doc = concat!("```rust,no_run\n", include_str!("../../examples/reqwest.rs"), "```")]
//! The same with OAuth tokens:
#![doc = concat!("```rust,no_run\n", include_str!("../../examples/oauth.rs"), "```")]
//! [`pages::drivers`](crate::pages::drivers) says what a client must get right, and has the other cases.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::{Future, ready};
use core::marker::PhantomData;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::panic::catch_unwind;
use std::task::Wake;

use super::answer::{CallResult, SendResult};
use super::api::NoToken;
use super::attempt::Attempt;
pub use super::attempt::Sender;
pub use super::clock::Sleep;
use super::clock::{Clock, SystemClock};
use super::login::{Background, SharedLogin, drop_quietly};
pub use super::refresh::RefreshResult;
use super::refresh::{Fresh, RefreshError};
use super::request::Request;
use super::run::run;
use super::service::SharedService;
use super::sync::{AtomicBool, Mutex, Ordering};
use super::waiters::Waiters;
use crate::policy::Policy;
use crate::upstream::{Gate, Upstream};

/// The handle of a service for async clients.
///
/// `S` sleeps, `T` is the client's token type, and `R` refreshes it. Keep one in your client as `Api<S>`, or with tokens as
/// `Api<S, T>`. To name the type of a function that sleeps, turn it into a pointer: with tokio, `S` is
/// `fn(Duration) -> tokio::time::Sleep`, and its value is `tokio::time::sleep as S`.
pub type Api<S, T = NoToken, R = BoxRefresh<S, T>> = super::Api<T, Tasks<S, T, R>>;

/// The facts of a refresh that begins.
pub type Refresh<S, T> = super::Refresh<T, Api<S>>;

/// Refreshes tokens. Closures that take a [`Refresh`] and return a future implement it.
pub trait Refresher<S: Sleep, T> {
    /// The refresh. It owns what it needs, since it can outlive every request (rule K11).
    type Future: Future<Output = RefreshResult<T>>;

    /// Begins a refresh.
    fn refresh(&mut self, refresh: Refresh<S, T>) -> Self::Future;
}

impl<S: Sleep, T, F, Fut> Refresher<S, T> for F
where
    F: FnMut(Refresh<S, T>) -> Fut,
    Fut: Future<Output = RefreshResult<T>>,
{
    type Future = Fut;

    fn refresh(&mut self, refresh: Refresh<S, T>) -> Fut {
        self(refresh)
    }
}

/// A refresh whose type can be named, so that a struct can keep its [`Api`]. [`with_login`](Api::with_login) makes it.
pub struct BoxRefresh<S: Sleep, T>(Box<BoxedFn<S, T>>);

type BoxedFn<S, T> = dyn FnMut(Refresh<S, T>) -> BoxedFuture<T> + Send;
type BoxedFuture<T> = Pin<Box<dyn Future<Output = RefreshResult<T>> + Send>>;

impl<S: Sleep, T> Refresher<S, T> for BoxRefresh<S, T> {
    type Future = BoxedFuture<T>;

    fn refresh(&mut self, refresh: Refresh<S, T>) -> Self::Future {
        self.0(refresh)
    }
}

impl<S: Sleep> Api<S> {
    /// Creates the handle of a service without tokens. `sleep` completes after a time, such as `tokio::time::sleep`.
    /// [`with_login`](Api::with_login) adds tokens.
    pub fn new(policy: Policy, sleep: S) -> Api<S> {
        Api::with_upstream(Upstream::new(policy), sleep, SystemClock::new())
    }

    /// Creates the handle of a service with a clock of its own, and with the service and the gate of `upstream`, such as
    /// one from a snapshot. The tokens are set by [`with_login`](Api::with_login).
    pub fn with_upstream(upstream: Upstream, sleep: S, clock: impl Clock + 'static) -> Api<S> {
        Api::from_upstream(upstream, Arc::new(clock), sleep, Tasks::without_refresh())
    }
}

impl<S: Sleep, T, R: Refresher<S, T>> Api<S, T, R> {
    /// Returns the same service for a login: its requests send a token, and `refresh` brings the next one. Budget, breaker
    /// and gate stay shared (rule S8), so a service with many users has one handle for each of them.
    ///
    /// `first` is the token at the start; with `None` the login begins without one (rule K9). `refresh` is called once for
    /// each token, and again only where it failed or hung through three leases. Whoever waits for the token goes on with its
    /// future, and the handle keeps it when nobody waits any more (rule K11), so no dropped request replays a refresh token
    /// or loses a new one. Calls that the refresh makes to the same service go through
    /// [`Refresh::api`](super::Refresh::api).
    ///
    /// ```
    /// use core::time::Duration;
    /// use retry_machine::drive::{Fresh, RefreshError, future};
    /// use retry_machine::Policy;
    ///
    /// # let sleep = |_| core::future::ready(());
    /// let first = Fresh { token: String::from("a"), expires_in: Some(Duration::from_secs(3600)) };
    /// let api = future::Api::new(Policy::flextell(), sleep).with_login(Some(first), |refresh| async move {
    ///     // Here your HTTP client calls the token endpoint.
    ///     Ok::<_, RefreshError>(Fresh { token: refresh.token().repeat(2), expires_in: None })
    /// });
    /// assert_eq!(api.login_state().generation, Some(0));
    /// ```
    pub fn with_login<T2, F, Fut>(&self, first: Option<Fresh<T2>>, mut refresh: F) -> Api<S, T2>
    where
        F: FnMut(Refresh<S, T2>) -> Fut + Send + 'static,
        Fut: Future<Output = RefreshResult<T2>> + Send + 'static,
    {
        let boxed = BoxRefresh(Box::new(move |facts| -> BoxedFuture<T2> { Box::pin(refresh(facts)) }));
        self.for_login(first, Tasks::new(boxed))
    }

    /// Returns the same service for a login, like [`with_login`](Api::with_login), with a refresh that need not be `Send`.
    pub fn with_local_login<T2, F, Fut>(&self, first: Option<Fresh<T2>>, refresh: F) -> Api<S, T2, F>
    where
        F: FnMut(Refresh<S, T2>) -> Fut,
        Fut: Future<Output = RefreshResult<T2>>,
    {
        self.for_login(first, Tasks::new(refresh))
    }

    /// Sends a request until it is answered or fails. `send` is called for each attempt: it sends the request and returns
    /// the facts of the response with the response itself, or the kind of the transport error with the client's own error.
    ///
    /// Dropping the future cancels the request (rule S6). The future is `Send` if the parts are.
    ///
    /// # Errors
    ///
    /// [`RequestError`](super::RequestError) if the request fails: the failure, and the last response or client error.
    pub fn call<'a, Q, A, E, F, Fut>(
        &self,
        request: Q,
        send: F,
    ) -> impl Future<Output = CallResult<A, E>> + use<'a, Q, A, E, F, Fut, S, T, R>
    where
        Q: Into<Request<'a>>,
        F: FnMut(Attempt<T>) -> Fut,
        Fut: Future<Output = SendResult<A, E>>,
    {
        self.send(request, FromFn(send))
    }

    /// Sends a request until it is answered or fails, like [`call`](Api::call), by a [`Sender`].
    ///
    /// # Errors
    ///
    /// [`RequestError`](super::RequestError) if the request fails: the failure, and the last response or client error.
    pub fn send<'a, Q, X>(
        &self,
        request: Q,
        sender: X,
    ) -> impl Future<Output = CallResult<X::Response, X::Error>> + use<'a, Q, X, S, T, R>
    where
        Q: Into<Request<'a>>,
        X: Sender<T>,
    {
        run(self.clone(), request.into(), sender, self.timer.clone())
    }
}

struct FromFn<F>(F);

impl<T, A, E, F: FnMut(Attempt<T>) -> Fut, Fut: Future<Output = SendResult<A, E>>> Sender<T> for FromFn<F> {
    type Response = A;
    type Error = E;

    fn send(&mut self, attempt: Attempt<T>) -> impl Future<Output = SendResult<A, E>> {
        self.0(attempt)
    }
}

impl<S: Sleep, T, R: Refresher<S, T>> Api<S, T, R> {
    /// Completes when no refresh is under way: goes on with one that nobody waits for. Await it before the program stores its
    /// [token](super::Api::token) and ends, since a server that rotates refresh tokens has replaced the old one. It takes as
    /// long as the refresh.
    pub fn refresh_ended(&self) -> impl Future<Output = ()> + use<S, T, R> {
        self.login.clone().refresh_ended()
    }
}

/// The refresh of a login, run by the tasks that wait for it.
pub struct Tasks<S, T, R> {
    /// `None` while it begins a refresh: that runs a client's code.
    refresh: Mutex<Option<R>>,
    /// Its types.
    marker: PhantomData<fn(S, T)>,
}

impl<S: Sleep> Tasks<S, NoToken, BoxRefresh<S, NoToken>> {
    /// Returns the refresh of a login without a token, which is never called.
    fn without_refresh() -> Self {
        let never = |_| -> BoxedFuture<NoToken> { Box::pin(ready(Err(RefreshError::Abandoned))) };
        Tasks::new(BoxRefresh(Box::new(never)))
    }
}

impl<S, T, R> Tasks<S, T, R> {
    pub(super) fn new(refresh: R) -> Tasks<S, T, R> {
        Tasks { refresh: Mutex::new(Some(refresh)), marker: PhantomData }
    }
}

/// A refresh that tasks go on with.
pub struct Job<F> {
    /// `None` until it is made, and while a task polls it.
    future: Option<Pin<Box<F>>>,
    waker: Arc<JobWaker>,
}

/// The waker of a refresh: one of those who wait goes on with it. All of them are woken, since a task that is woken need not
/// be polled soon.
struct JobWaker {
    /// Whether the refresh must be polled.
    is_woken: AtomicBool,
    waiters: Arc<Waiters>,
}

impl Wake for JobWaker {
    fn wake(self: Arc<Self>) {
        // Not a store, which loom may order before a swap that does not see it.
        self.is_woken.swap(true, Ordering::SeqCst);
        self.waiters.wake_all();
    }
}

impl<F> Job<F> {
    fn new(waiters: &Arc<Waiters>) -> Job<F> {
        let waker = JobWaker { is_woken: AtomicBool::new(true), waiters: waiters.clone() };
        Job { future: None, waker: Arc::new(waker) }
    }

    /// Takes the future, if it must be polled.
    fn take(&mut self) -> Option<(Pin<Box<F>>, Arc<JobWaker>)> {
        if self.future.is_none() || !self.waker.is_woken.swap(false, Ordering::SeqCst) {
            return None;
        }
        Some((self.future.take()?, self.waker.clone()))
    }
}

impl<S: Sleep, T, R: Refresher<S, T>> Background<T> for Tasks<S, T, R> {
    type Timer = S;
    type Job = Job<R::Future>;
    type View = Api<S>;

    fn view(service: Arc<SharedService>, gate: Arc<Mutex<Gate>>, timer: S) -> Api<S> {
        let login = SharedLogin::new(service, None, Tasks::without_refresh());
        Api { login: Arc::new(login), gate, timer }
    }

    fn begin(login: &Arc<SharedLogin<T, Self>>, refresh: Refresh<S, T>) {
        let lease = refresh.lease;
        let Some(id) = login.begin(refresh.generation, lease, Job::new(&login.waiters)) else { return };
        let taken = login.background.refresh.lock().take();
        // It hangs where it should return a future, for three leases.
        let Some(mut refresher) = taken else { return login.end(id, lease, Err(RefreshError::Abandoned)) };
        let future = catch_unwind(AssertUnwindSafe(|| Box::pin(refresher.refresh(refresh))));
        *login.background.refresh.lock() = Some(refresher);
        match future {
            Ok(future) => put_back(login, id, future),
            Err(_) => login.end(id, lease, Err(RefreshError::Abandoned)),
        }
    }

    fn poll(login: &SharedLogin<T, Self>) {
        let taken = login.with_running(|running| Some((running.id, running.lease, running.job.take()?)));
        let Some(Some((id, lease, (mut future, waker)))) = taken else { return };
        let waker = Waker::from(waker);
        let result = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker)))) {
            Ok(Poll::Pending) => return put_back(login, id, future),
            Ok(Poll::Ready(result)) => result,
            Err(_) => Err(RefreshError::Abandoned),
        };
        login.end(id, lease, result);
        drop_quietly(future);
    }
}

/// Puts a refresh back into its slot, for whoever is woken to go on with it. It is dropped if it was stopped since then.
fn put_back<S: Sleep, T, R: Refresher<S, T>>(
    login: &SharedLogin<T, Tasks<S, T, R>>,
    id: u64,
    future: Pin<Box<R::Future>>,
) {
    let mut future = Some(future);
    let is_woken = login.with_running(|running| {
        if running.id == id {
            running.job.future = future.take();
        }
        running.job.waker.is_woken.load(Ordering::SeqCst)
    });
    if is_woken == Some(true) {
        login.waiters.wake_all();
    }
    drop_quietly(future);
}
