//! Those who wait for something that is shared: tasks, and threads that wait like tasks.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::task::Waker;
use std::task::Wake;

use super::sync::Mutex;

/// Wakers by the keys of those who wait. No waker is woken, cloned or dropped under the lock, since that runs a runtime's
/// code.
#[derive(Default)]
pub(super) struct Waiters(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    wakers: BTreeMap<u64, Waker>,
    next_key: u64,
}

impl Waiters {
    /// Registers a waker, in place of the one that has this key. Returns its key.
    pub(super) fn register(&self, key: Option<u64>, waker: &Waker) -> u64 {
        let waker = waker.clone();
        let mut registered = self.0.lock();
        let key = key.unwrap_or(registered.next_key);
        registered.next_key = registered.next_key.max(key + 1);
        let replaced = registered.wakers.insert(key, waker);
        drop(registered);
        drop(replaced);
        key
    }

    /// Removes a waker. Returns whether it was still registered, and so was not woken since.
    pub(super) fn remove(&self, key: u64) -> bool {
        let removed = self.0.lock().wakers.remove(&key);
        removed.is_some()
    }

    /// Wakes one of those who wait.
    pub(super) fn wake_one(&self) {
        let first = self.0.lock().wakers.pop_first();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }

    /// Wakes all who wait.
    pub(super) fn wake_all(&self) {
        let wakers = core::mem::take(&mut self.0.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

/// The waker of a refresh that several wait for: one of them goes on with it.
impl Wake for Waiters {
    fn wake(self: Arc<Self>) {
        self.wake_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_one();
    }
}
