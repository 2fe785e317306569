//! A mutex that a panic does not poison. Under loom, which explores interleavings in tests, it is loom's.

#[cfg(all(test, loom))]
use loom::sync::{Mutex as StdMutex, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(all(test, loom)))]
use std::sync::{Mutex as StdMutex, MutexGuard};

/// A mutex that is held for a few instructions of the crate's own, which leave nothing half changed.
#[derive(Debug, Default)]
pub(super) struct Mutex<T>(StdMutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(StdMutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
