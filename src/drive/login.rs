//! A login that requests share: its state, its token, and the refresh that is under way (rules K3–K11).

use alloc::sync::Arc;
use core::future::Future;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::panic::catch_unwind;

use super::refresh::{Fresh, Refresh, RefreshResult};
use super::service::SharedService;
use super::sync::Mutex;
use super::waiters::Waiters;
use crate::event::RefreshOutcome;
use crate::time::Timestamp;
use crate::upstream::{Gate, Login};

/// A login with its token, and what runs its refresh.
pub struct SharedLogin<T, B: Background<T>> {
    pub(super) service: Arc<SharedService>,
    /// Where both locks are held, this one comes first.
    slot: Mutex<Slot<B::Job>>,
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
    /// Lets time pass.
    type Timer: Clone;
    /// The runner of one refresh.
    type Job;
    /// The handle of the same service without a token, for the refresh's own calls (K9).
    type View;

    /// Returns that handle.
    fn view(service: Arc<SharedService>, gate: Arc<Mutex<Gate>>, timer: Self::Timer) -> Self::View;

    /// Begins a refresh, or goes on with the one under way (K11).
    fn begin(login: &Arc<SharedLogin<T, Self>>, refresh: Refresh<T, Self::View>);

    /// Goes on with the refresh under way, if it is the waiting tasks that do so.
    fn poll(login: &SharedLogin<T, Self>);
}

impl<T, B: Background<T>> SharedLogin<T, B> {
    pub(super) fn new(service: Arc<SharedService>, first: Option<Fresh<T>>, background: B) -> SharedLogin<T, B> {
        let mut login = if first.is_some() { Login::new() } else { Login::without_token() };
        if let Some(lifetime) = first.as_ref().and_then(|first| first.expires_in) {
            login.token_expires_in(service.clock.now(), lifetime);
        }
        let token = first.map(|first| Arc::new(first.token));
        let state = Mutex::new(State { login, token, last_report: None });
        SharedLogin { service, slot: Mutex::new(Slot::new()), state, waiters: Arc::default(), background }
    }

    /// Makes room for the refresh of a lease. Returns its id, if one is to begin: not if another one goes on for it, and not
    /// if the lease has ended since it was given, by an outcome or a token from outside.
    pub(super) fn begin(&self, generation: u32, lease: u32, job: B::Job) -> Option<u64> {
        let mut slot = self.slot.lock();
        if !self.state.lock().login.is_awaited(lease) {
            return None;
        }
        let begin = slot.begin(generation, lease, job);
        drop(slot);
        let (id, replaced) = begin?;
        drop_quietly(replaced);
        Some(id)
    }

    /// Ends the refresh with this id, reports its outcome, and stores its token if it counts: one step (K5, K11).
    ///
    /// It is reported for the newest lease that it is for. One that was given up is reported for `own_lease`: a token that it
    /// brings counts while its generation is current.
    pub(super) fn end(&self, id: u64, own_lease: u32, result: RefreshResult<T>) {
        // A clock that panics must not lose the token: with an earlier time it is due sooner.
        let now = catch_unwind(AssertUnwindSafe(|| self.service.clock.now())).unwrap_or(Timestamp::ZERO);
        let (outcome, mut token) = match result {
            Ok(Fresh { token, expires_in }) => (RefreshOutcome::Refreshed { expires_in }, Some(Arc::new(token))),
            Err(error) => (error.into(), None),
        };
        let mut slot = self.slot.lock();
        let ended = slot.end(id);
        let lease = ended.as_ref().map_or(own_lease, |running| running.lease);
        let mut state = self.state.lock();
        let counts = state.login.report_refresh(now, lease, outcome);
        state.last_report = Some((lease, outcome));
        let mut overtaken = None;
        if counts && token.is_some() {
            core::mem::swap(&mut state.token, &mut token);
            // Another refresh of the old token, begun after this one was given up.
            overtaken = slot.stop();
        }
        drop((state, slot));
        self.waiters.wake_all();
        // The client's own code runs last: the old token or one that does not count, and the refresh.
        drop_quietly((token, ended, overtaken));
    }

    /// Reports that the refresh of a lease never began (K5).
    pub(super) fn abandon(&self, now: Timestamp, lease: u32) {
        let counts = self.state.lock().login.report_refresh(now, lease, RefreshOutcome::Abandoned);
        if counts {
            self.waiters.wake_all();
        }
    }

    /// Replaces or removes the token (K9), and drops the refresh of the old one.
    pub(super) fn replace_token(&self, fresh: Option<Fresh<T>>) {
        let now = self.service.clock.now();
        let (mut token, expires_in) = match fresh {
            Some(Fresh { token, expires_in }) => (Some(Arc::new(token)), expires_in),
            None => (None, None),
        };
        let mut slot = self.slot.lock();
        let mut state = self.state.lock();
        match token {
            Some(_) => state.login.token_replaced(now, expires_in),
            None => state.login.token_removed(),
        }
        core::mem::swap(&mut state.token, &mut token);
        let stopped = slot.stop();
        drop((state, slot));
        self.waiters.wake_all();
        drop_quietly((token, stopped));
    }

    /// Calls `look` with the refresh under way, if there is one.
    pub(super) fn with_running<O>(&self, look: impl FnOnce(&mut Running<B::Job>) -> O) -> Option<O> {
        self.slot.lock().running.as_mut().map(look)
    }

    /// Completes when no refresh is under way.
    pub(super) async fn refresh_ended(self: Arc<Self>) {
        let is_idle = |login: &Self| login.slot.lock().running.is_none();
        Wait { login: &*self, is_over: is_idle, key: None }.await;
    }

    /// Completes when the login's counter of wake-ups differs from `seen`.
    pub(super) async fn moved(&self, seen: u32) {
        let is_moved = |login: &Self| login.state.lock().login.wakeups() != seen;
        Wait { login: self, is_over: is_moved, key: None }.await;
    }
}

/// Waits for something about a login, and goes on with its refresh.
struct Wait<'a, T, B: Background<T>, P> {
    login: &'a SharedLogin<T, B>,
    is_over: P,
    key: Option<u64>,
}

impl<T, B: Background<T>, P: Fn(&SharedLogin<T, B>) -> bool + Unpin> Future for Wait<'_, T, B, P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let login = self.login;
        // First, so that what comes in between wakes.
        self.key = Some(login.waiters.register(self.key, context.waker()));
        B::poll(login);
        if (self.is_over)(login) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T, B: Background<T>, P> Drop for Wait<'_, T, B, P> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.login.waiters.remove(key);
        }
    }
}

/// The place of the refresh that is under way.
struct Slot<J> {
    running: Option<Running<J>>,
    next_id: u64,
}

/// The refresh that is under way, and the leases that it has run through (K11). `J` is what runs it.
pub(super) struct Running<J> {
    pub(super) id: u64,
    generation: u32,
    /// The newest lease that it is for: its outcome is reported for that one.
    pub(super) lease: u32,
    leases: u8,
    pub(super) job: J,
}

impl<J> Slot<J> {
    const fn new() -> Slot<J> {
        Slot { running: None, next_id: 0 }
    }

    /// Makes room for a refresh, or lets the one under way go on for this lease, too. Returns the id of the new one, and the
    /// one that it replaces: it is for another token, or has run through its leases.
    fn begin(&mut self, generation: u32, lease: u32, job: J) -> Option<(u64, Option<Running<J>>)> {
        match &mut self.running {
            Some(running) if running.generation == generation && running.leases < MAX_LEASES => {
                running.leases += 1;
                running.lease = lease;
                None
            }
            running => {
                let id = self.next_id;
                self.next_id += 1;
                Some((id, running.replace(Running { id, generation, lease, leases: 1, job })))
            }
        }
    }

    /// Takes the refresh with this id, if it is still under way.
    fn end(&mut self, id: u64) -> Option<Running<J>> {
        self.running.take_if(|running| running.id == id)
    }

    fn stop(&mut self) -> Option<Running<J>> {
        self.running.take()
    }
}

/// K11: the greatest number of leases of one refresh.
const MAX_LEASES: u8 = 3;

/// Drops what belongs to the client. A panic there hurts nobody who waits.
pub(super) fn drop_quietly<D>(value: D) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
