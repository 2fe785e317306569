//! The blocking driver: requests run in the calling thread.
//!
//! ```
//! use retry_machine::drive::blocking;
//! use retry_machine::{Idempotency, Policy, TransportErrorKind};
//!
//! let api = blocking::Api::new(Policy::common());
//! let answer = api.call(Idempotency::Idempotent, |attempt| {
//!     // Here your HTTP client sends the request, and gives up after `attempt.timeout()`.
//!     let status = if attempt.number() == 1 { 425 } else { 200 };
//!     Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("Retry-After", "1")]), status))
//! });
//! assert_eq!(answer.unwrap().response, 200);
//! ```
//!
//! A whole client, with ureq:
#![doc = concat!("```rust,no_run\n", include_str!("../../examples/ureq.rs"), "```")]
//! [`pages::drivers`](crate::pages::drivers) says what a client must get right, and has the other cases.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use core::cell::Cell;
use core::future::{Future, poll_fn, ready};
use core::panic::AssertUnwindSafe;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::panic::catch_unwind;
use std::sync::{Condvar, Mutex as StdMutex, PoisonError};
use std::task::Wake;
use std::thread;
use std::time::Instant;

use super::answer::{CallResult, SendResult};
use super::api::NoToken;
use super::attempt::Attempt;
use super::clock::{Clock, Sleep, SystemClock};
use super::login::{Background, SharedLogin};
pub use super::refresh::RefreshResult;
use super::refresh::{Fresh, RefreshError};
use super::request::Request;
use super::run::run;
use super::service::SharedService;
use super::sync::Mutex;
use crate::policy::Policy;
use crate::upstream::{Gate, Upstream};

/// The handle of a service for blocking clients.
///
/// `T` is the client's token type. Keep one in your client as `Api`, or with tokens as `Api<T>`.
pub type Api<T = NoToken> = super::Api<T, Threads<T>>;

/// The facts of a refresh that begins.
pub type Refresh<T> = super::Refresh<T, Api>;

type BoxRefresh<T> = Box<dyn Fn(Refresh<T>) -> RefreshResult<T> + Send + Sync>;

/// Sends the attempts of one request, for a type of its own in place of a closure: it can keep what an attempt needs and the
/// next one reuses. [`Api::send`] takes it.
pub trait Sender<T> {
    /// The client's response type.
    type Response;
    /// The client's error type.
    type Error;

    /// Sends the request. It must give up after [`Attempt::timeout`].
    ///
    /// # Errors
    ///
    /// The kind of the transport error and the client's own error, if there is no complete response.
    fn send(&mut self, attempt: Attempt<T>) -> SendResult<Self::Response, Self::Error>;
}

impl Api {
    /// Creates the handle of a service without tokens. [`with_login`](Api::with_login) adds them.
    #[must_use]
    pub fn new(policy: Policy) -> Api {
        Api::with_upstream(Upstream::new(policy), SystemClock::new())
    }

    /// Creates the handle of a service with a clock of its own, and with the service and the gate of `upstream`, such as
    /// one from a snapshot. The tokens are set by [`with_login`](Api::with_login).
    #[must_use]
    pub fn with_upstream(upstream: Upstream, clock: impl Clock + 'static) -> Api {
        Api::from_upstream(upstream, Arc::new(clock), (), Threads::without_refresh())
    }
}

impl<T: Send + Sync + 'static> Api<T> {
    /// Returns the same service for a login: its requests send a token, and `refresh` brings the next one. Budget, breaker
    /// and gate stay shared (rule S8), so a service with many users has one handle for each of them.
    ///
    /// `first` is the token at the start; with `None` the login begins without one (rule K9). `refresh` is called once for
    /// each token, and again only where it failed or hung through three leases. It runs in a thread of its own, which no
    /// request can lose (rule K11); requests that wait for it keep their deadlines. If it panics, the refresh counts as
    /// abandoned. Calls that the refresh makes to the same service go through [`Refresh::api`](super::Refresh::api).
    ///
    /// ```
    /// use retry_machine::drive::{Fresh, blocking};
    /// use retry_machine::{Idempotency, Policy};
    ///
    /// let first = Fresh { token: String::from("old"), expires_in: None };
    /// let api = blocking::Api::new(Policy::flextell()).with_login(Some(first), |_refresh| {
    ///     // Here your HTTP client calls the token endpoint.
    ///     Ok(Fresh { token: String::from("new"), expires_in: None })
    /// });
    /// let answer = api.call(Idempotency::Idempotent, |attempt| {
    ///     let status = if attempt.token().is_some_and(|token| token == "new") { 200 } else { 401 };
    ///     Ok::<_, (_, ())>((attempt.read(status, [("WWW-Authenticate", "Bearer error=\"invalid_token\"")]), status))
    /// });
    /// assert_eq!(answer.unwrap().response, 200);
    /// ```
    pub fn with_login<T2, R2>(&self, first: Option<Fresh<T2>>, refresh: R2) -> Api<T2>
    where
        T2: Send + Sync + 'static,
        R2: Fn(Refresh<T2>) -> RefreshResult<T2> + Send + Sync + 'static,
    {
        self.for_login(first, Threads::new(Box::new(refresh)))
    }

    /// Sends a request until it is answered or fails. `send` is called for each attempt: it sends the request and returns
    /// the facts of the response with the response itself, or the kind of the transport error with the client's own error.
    /// It must give up after [`Attempt::timeout`].
    ///
    /// Waits for back-offs, for the server and for tokens end at once when a [`CancelHandle`](super::CancelHandle) says so.
    ///
    /// # Errors
    ///
    /// [`RequestError`](super::RequestError) if the request fails: the failure, and the last response or client error.
    pub fn call<'a, A, E>(
        &self,
        request: impl Into<Request<'a>>,
        send: impl FnMut(Attempt<T>) -> SendResult<A, E>,
    ) -> CallResult<A, E> {
        self.send(request, FromFn(send))
    }

    /// Sends a request until it is answered or fails, like [`call`](Api::call), by a [`Sender`].
    ///
    /// # Errors
    ///
    /// [`RequestError`](super::RequestError) if the request fails: the failure, and the last response or client error.
    pub fn send<'a, X: Sender<T>>(
        &self,
        request: impl Into<Request<'a>>,
        sender: X,
    ) -> CallResult<X::Response, X::Error> {
        let timer = ParkTimer::default();
        block_on(run(self.clone(), request.into(), InPlace(sender), timer.clone()), &timer)
    }
}

impl<T: Send + Sync + 'static> Api<T> {
    /// Waits until no refresh is under way, at most for `limit`. Call it before the program stores its
    /// [token](super::Api::token) and ends, since a server that rotates refresh tokens has replaced the old one. Returns
    /// whether none is.
    #[must_use]
    pub fn refresh_ended(&self, limit: Duration) -> bool {
        let timer = ParkTimer::default();
        let (ended, limit) = (self.login.clone().refresh_ended(), timer.sleep(limit));
        let ended = async {
            let (mut ended, mut limit) = (pin!(ended), pin!(limit));
            poll_fn(|context| match ended.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => limit.as_mut().poll(context).map(|()| false),
            })
            .await
        };
        block_on(ended, &timer)
    }
}

struct FromFn<F>(F);

impl<T, A, E, F: FnMut(Attempt<T>) -> SendResult<A, E>> Sender<T> for FromFn<F> {
    type Response = A;
    type Error = E;

    fn send(&mut self, attempt: Attempt<T>) -> SendResult<A, E> {
        self.0(attempt)
    }
}

/// A sender that blocks, as one whose futures are ready.
struct InPlace<X>(X);

impl<T, X: Sender<T>> super::future::Sender<T> for InPlace<X> {
    type Response = X::Response;
    type Error = X::Error;

    fn send(&mut self, attempt: Attempt<T>) -> impl Future<Output = SendResult<X::Response, X::Error>> {
        ready(self.0.send(attempt))
    }
}

/// The end of the sleep under way, for [`block_on`].
#[derive(Clone, Default)]
struct ParkTimer {
    until: Rc<Cell<Option<Instant>>>,
}

impl Sleep for ParkTimer {
    type Future = Park;

    fn sleep(&self, wait: Duration) -> Park {
        Park { until: Instant::now().checked_add(wait.min(LONGEST_PARK)), timer: self.clone() }
    }
}

/// A sleep. One whose end the platform cannot express ends early, and is slept again.
struct Park {
    until: Option<Instant>,
    timer: ParkTimer,
}

impl Future for Park {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.until {
            Some(until) if Instant::now() < until => {
                self.timer.until.set(Some(until));
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

/// A day. A longer sleep is several.
const LONGEST_PARK: Duration = Duration::from_secs(86_400);

/// Runs a future in this thread. It sleeps until the end of the sleep under way, or until it is woken.
fn block_on<F: Future>(future: F, timer: &ParkTimer) -> F::Output {
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(parker.clone());
    let mut future = pin!(future);
    loop {
        timer.until.set(None);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        parker.park(timer.until.get());
    }
}

/// A thread that sleeps until it is woken.
#[derive(Default)]
struct Parker {
    is_woken: StdMutex<bool>,
    woken: Condvar,
}

impl Parker {
    /// Sleeps until the thread is woken, or until an instant.
    fn park(&self, until: Option<Instant>) {
        let mut is_woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_woken {
            is_woken = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(wait) => self.woken.wait_timeout(is_woken, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.woken.wait(is_woken).unwrap_or_else(PoisonError::into_inner),
            };
        }
        *is_woken = false;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_one();
    }
}

/// The refresh of a login, run in a thread of its own.
pub struct Threads<T> {
    refresh: BoxRefresh<T>,
}

impl<T> Threads<T> {
    fn new(refresh: BoxRefresh<T>) -> Threads<T> {
        Threads { refresh }
    }

    /// Returns the refresh of a login without a token, which is never called.
    fn without_refresh() -> Threads<T> {
        Threads::new(Box::new(|_| Err(RefreshError::Abandoned)))
    }
}

impl<T: Send + Sync + 'static> Background<T> for Threads<T> {
    type Timer = ();
    type Job = ();
    type View = Api;

    fn view(service: Arc<SharedService>, gate: Arc<Mutex<Gate>>, timer: ()) -> Api {
        let login = SharedLogin::new(service, None, Threads::without_refresh());
        Api { login: Arc::new(login), gate, timer }
    }

    fn begin(login: &Arc<SharedLogin<T, Self>>, refresh: Refresh<T>) {
        let lease = refresh.lease;
        let Some(id) = login.begin(refresh.generation, lease, ()) else { return };
        let in_thread = login.clone();
        let thread = thread::Builder::new().name(String::from("token refresh")).spawn(move || {
            let run = || (in_thread.background.refresh)(refresh);
            // A panic is reported like any other end, so that nobody waits for it.
            let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(RefreshError::Abandoned));
            // A thread cannot be ended: what it brings after it was given up still counts while its generation is current.
            in_thread.end(id, lease, result);
        });
        if thread.is_err() {
            login.end(id, lease, Err(RefreshError::Abandoned));
        }
    }

    fn poll(_: &SharedLogin<T, Self>) {}
}
