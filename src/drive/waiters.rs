//! Those who wait for something that is shared: tasks, and threads that wait like tasks.

use alloc::collections::BTreeMap;
use core::panic::AssertUnwindSafe;
use core::task::Waker;
use std::panic::catch_unwind;

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

    /// Removes a waker.
    pub(super) fn remove(&self, key: u64) {
        let removed = self.0.lock().wakers.remove(&key);
        drop(removed);
    }

    /// Wakes all who wait.
    pub(super) fn wake_all(&self) {
        let wakers = core::mem::take(&mut self.0.lock().wakers);
        for waker in wakers.into_values() {
            // A runtime that panics must not keep the others asleep.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
