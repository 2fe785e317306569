//! A login that requests share: its state, its token, and the refresh that is under way (rules K3–K11).

use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::api::{Api, NoToken, SharedService};
use super::refresh::{Fresh, Refresh, RefreshError};
use super::sync::Mutex;
use super::waiters::Waiters;
use crate::event::RefreshOutcome;
use crate::upstream::Login;

/// The handle of a service for calls without a token.
pub(super) type Anonymous<T, B> = Api<NoToken, <B as Background<T>>::Anonymous>;

/// A login with its token, and what runs its refresh.
pub struct SharedLogin<T, B> {
    pub(super) service: Arc<SharedService>,
    pub(super) state: Mutex<State<T>>,
    /// Those who wait for a refresh.
    pub(super) waiters: Arc<Waiters>,
    pub(super) background: B,
}

pub(super) struct State<T> {
    pub(super) login: Login,
    /// The token of the login's generation. It changes in one step with the login.
    pub(super) token: Option<Arc<T>>,
    /// The newest report, for observers.
    pub(super) last_report: Option<(u32, RefreshOutcome)>,
}

/// How a refresh is run: in a thread of its own, or by the tasks that wait for it.
pub trait Background<T>: Sized {
    /// What lets time pass.
    type Timer: Clone;
    /// The same for a login without a token.
    type Anonymous: Background<NoToken, Timer = Self::Timer>;

    /// Returns what runs the refresh of a login without a token: nothing.
    fn anonymous() -> Self::Anonymous;

    /// Begins a refresh, or goes on with the one under way (K11).
    fn begin(login: &Arc<SharedLogin<T, Self>>, refresh: Refresh<T, Anonymous<T, Self>>);

    /// Goes on with the refresh under way, if it is the waiting tasks that do so.
    fn poll(login: &SharedLogin<T, Self>);

    /// Drops the refresh under way if it is for this generation or an earlier one: the login has another token.
    fn stop(&self, generation: u32);

    /// Returns whether a refresh is under way that the waiting tasks must go on with.
    fn needs_polling(&self) -> bool;
}

impl<T, B: Background<T>> SharedLogin<T, B> {
    pub(super) fn new(service: Arc<SharedService>, first: Option<Fresh<T>>, background: B) -> SharedLogin<T, B> {
        let mut login = if first.is_some() { Login::new() } else { Login::without_token() };
        if let Some(lifetime) = first.as_ref().and_then(|first| first.expires_in) {
            login.token_expires_in(service.clock.now(), lifetime);
        }
        let token = first.map(|first| Arc::new(first.token));
        let state = Mutex::new(State { login, token, last_report: None });
        SharedLogin { service, state, waiters: Arc::default(), background }
    }

    /// Reports the outcome of a refresh, and stores its token if it counts: one step (K5). Returns whether it counted.
    pub(super) fn report(&self, lease: u32, result: Result<Fresh<T>, RefreshError>) -> bool {
        let now = self.service.clock.now();
        let (outcome, mut token) = match result {
            Ok(Fresh { token, expires_in }) => (RefreshOutcome::Refreshed { expires_in }, Some(Arc::new(token))),
            Err(error) => (error.into(), None),
        };
        let mut state = self.state.lock();
        let counts = state.login.report_refresh(now, lease, outcome);
        state.last_report = Some((lease, outcome));
        if counts && token.is_some() {
            core::mem::swap(&mut state.token, &mut token);
        }
        drop(state);
        // The old token, or one that does not count.
        drop(token);
        self.waiters.wake_all();
        counts
    }

    /// Replaces or removes the token (K9), and drops the refresh of the old one.
    pub(super) fn replace_token(&self, fresh: Option<Fresh<T>>) {
        let now = self.service.clock.now();
        let (mut token, expires_in) = match fresh {
            Some(Fresh { token, expires_in }) => (Some(Arc::new(token)), expires_in),
            None => (None, None),
        };
        let mut state = self.state.lock();
        let removed = state.login.generation();
        match token {
            Some(_) => state.login.token_replaced(now, expires_in),
            None => state.login.token_removed(),
        }
        core::mem::swap(&mut state.token, &mut token);
        drop(state);
        drop(token);
        if let Some(generation) = removed {
            self.background.stop(generation);
        }
        self.waiters.wake_all();
    }

    /// Completes when the login's counter of wake-ups differs from `seen`.
    pub(super) fn moved(&self, seen: u32) -> Moved<'_, T, B> {
        Moved { login: self, seen, key: None }
    }
}

/// Waits for the outcome of a refresh, and goes on with it meanwhile.
pub(super) struct Moved<'a, T, B: Background<T>> {
    login: &'a SharedLogin<T, B>,
    seen: u32,
    key: Option<u64>,
}

impl<T, B: Background<T>> Future for Moved<'_, T, B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let login = self.login;
        // First, so that an outcome in between wakes.
        self.key = Some(login.waiters.register(self.key, context.waker()));
        B::poll(login);
        let is_moved = login.state.lock().login.wakeups() != self.seen;
        if is_moved { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T, B: Background<T>> Drop for Moved<'_, T, B> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let was_woken = !self.login.waiters.remove(key);
        // The wake-up may have been to go on with the refresh: somebody else must.
        if was_woken && self.login.background.needs_polling() {
            self.login.waiters.wake_one();
        }
    }
}

/// The refresh that is under way, and the leases that it has run through (K11). `J` is what runs it.
pub(super) struct Running<J> {
    id: u64,
    generation: u32,
    /// The newest lease that it is for: its outcome is reported for that one.
    lease: u32,
    leases: u8,
    pub(super) job: J,
}

/// The place of the refresh that is under way.
pub(super) struct Slot<J> {
    running: Option<Running<J>>,
    next_id: u64,
}

/// What a lease leads to.
pub(super) enum Begin<J> {
    /// The refresh under way is for this lease, too.
    GoOn,
    /// A new refresh with this id. The other one has run through its leases, or is for another token: drop it.
    New(u64, Option<Running<J>>),
}

impl<J> Slot<J> {
    pub(super) const fn new() -> Slot<J> {
        Slot { running: None, next_id: 0 }
    }

    /// Makes room for the refresh of a lease, which `job` runs.
    pub(super) fn begin(&mut self, generation: u32, lease: u32, job: J) -> Begin<J> {
        match &mut self.running {
            // The token was replaced, and its successor is being refreshed already.
            Some(running) if is_after(running.generation, generation) => return Begin::GoOn,
            Some(running) if running.generation == generation && running.leases < MAX_LEASES => {
                running.leases += 1;
                if is_after(lease, running.lease) {
                    running.lease = lease;
                }
                return Begin::GoOn;
            }
            _ => {}
        }
        let id = self.next_id;
        self.next_id += 1;
        Begin::New(id, self.running.replace(Running { id, generation, lease, leases: 1, job }))
    }

    /// Returns the job under way.
    pub(super) fn job(&mut self) -> Option<(u64, &mut J)> {
        self.running.as_mut().map(|running| (running.id, &mut running.job))
    }

    /// Returns the job with this id, if it is still under way.
    pub(super) fn job_of(&mut self, id: u64) -> Option<&mut J> {
        self.running.as_mut().filter(|running| running.id == id).map(|running| &mut running.job)
    }

    /// Ends the refresh with this id. Returns the lease to report it for, if it was still under way.
    pub(super) fn end(&mut self, id: u64) -> Option<u32> {
        self.running.take_if(|running| running.id == id).map(|running| running.lease)
    }

    /// Ends the refresh of this generation or an earlier one.
    pub(super) fn stop(&mut self, generation: u32) -> Option<Running<J>> {
        self.running.take_if(|running| !is_after(running.generation, generation))
    }
}

/// Compares generations or leases, which wrap around.
const fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) <= u32::MAX / 2
}

/// K11: the greatest number of leases of one refresh.
const MAX_LEASES: u8 = 3;
