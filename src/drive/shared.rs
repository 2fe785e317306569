//! An upstream for many requests at once, on threads and in tasks.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Shared;
use crate::{Policy, Upstream};

/// An [`Upstream`] in a mutex that is held for one step, which wakes the requests that wait for a token when its
/// refresh is done (rule K8).
///
/// Put it into an `Arc`, or a static. Feature `std`.
#[derive(Debug)]
pub struct SharedUpstream {
    state: Mutex<State>,
    /// Notified when the wake-ups move.
    moved: Condvar,
}

#[derive(Debug)]
struct State {
    upstream: Upstream,
    /// The tasks that wait for a token.
    tasks: BTreeMap<u64, Waker>,
    next_task: u64,
}

impl SharedUpstream {
    /// An upstream that was not called yet.
    #[must_use]
    pub const fn new(policy: Policy) -> SharedUpstream {
        let state = State { upstream: Upstream::new(policy), tasks: BTreeMap::new(), next_task: 0 };
        SharedUpstream { state: Mutex::new(state), moved: Condvar::new() }
    }

    /// A step never leaves the upstream half changed, so a panic elsewhere while it was locked does no harm.
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
            self.moved.notify_all();
            tasks.into_values().for_each(Waker::wake);
        }
        result
    }

    fn wait_for_token(&self, seen: u32, timeout: Duration, _: impl FnOnce(Duration)) {
        let waiting = |state: &mut State| state.upstream.wakeups() == seen;
        drop(self.moved.wait_timeout_while(self.lock(), timeout, waiting));
    }

    fn token_moved(&self, seen: u32) -> impl Future<Output = ()> {
        TokenMoved { shared: self, seen, task: None }
    }
}

/// Completes when the upstream's wake-ups have moved on from `seen`.
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
