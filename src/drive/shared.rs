//! An upstream for many requests at once, in threads and in tasks.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Shared;
use crate::{Policy, Upstream};

/// An [`Upstream`] in a mutex that is held for one step. It wakes the requests that wait for a token when the refresh
/// has ended (rule K8).
///
/// Keep it in an `Arc` or in a static. Needs feature `std`.
///
/// ```
/// use retry_machine::drive::{Shared, SharedUpstream};
/// use retry_machine::{Policy, Timestamp};
///
/// static UPSTREAM: SharedUpstream = SharedUpstream::new(Policy::flextell());
///
/// // The user has logged in again, and the new token is in the store.
/// UPSTREAM.with(|upstream| upstream.token_replaced(Timestamp::from_millis(900), None));
/// assert_eq!(UPSTREAM.with(|upstream| upstream.generation()), 1);
/// ```
#[derive(Debug)]
pub struct SharedUpstream {
    state: Mutex<State>,
    /// Notified when the counter of wake-ups changes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    upstream: Upstream,
    /// The tasks that wait for a token.
    tasks: BTreeMap<u64, Waker>,
    next_task: u64,
}

impl SharedUpstream {
    /// Returns a service that has not been called, as [`Upstream::new`] does.
    #[must_use]
    pub const fn new(policy: Policy) -> SharedUpstream {
        let state = State { upstream: Upstream::new(policy), tasks: BTreeMap::new(), next_task: 0 };
        SharedUpstream { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Locks the state, even after a panic: a step never leaves the upstream half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared for SharedUpstream {
    fn with<T>(&self, step: impl FnOnce(&mut Upstream) -> T) -> T {
        let mut state = self.lock();
        let before = state.upstream.wakeups();
        let result = step(&mut state.upstream);
        if state.upstream.wakeups() != before {
            let tasks = core::mem::take(&mut state.tasks);
            drop(state);
            self.changed.notify_all();
            tasks.into_values().for_each(Waker::wake);
        }
        result
    }

    fn wait_for_token(&self, seen: u32, timeout: Duration, _: impl FnOnce(Duration)) {
        let waiting = |state: &mut State| state.upstream.wakeups() == seen;
        drop(self.changed.wait_timeout_while(self.lock(), timeout, waiting));
    }

    fn token_moved(&self, seen: u32) -> impl Future<Output = ()> {
        TokenMoved { shared: self, seen, task: None }
    }
}

/// Completes when the upstream's counter of wake-ups differs from `seen`.
struct TokenMoved<'a> {
    shared: &'a SharedUpstream,
    seen: u32,
    task: Option<u64>,
}

impl Future for TokenMoved<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.upstream.wakeups() != self.seen {
            return Poll::Ready(());
        }
        let task = self.task.unwrap_or(state.next_task);
        state.next_task = state.next_task.max(task + 1);
        state.tasks.insert(task, context.waker().clone());
        drop(state);
        self.task = Some(task);
        Poll::Pending
    }
}

impl Drop for TokenMoved<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            self.shared.lock().tasks.remove(&task);
        }
    }
}
