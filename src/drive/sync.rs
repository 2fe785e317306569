//! The mutex that the handle's parts are shared by. In the crate's own unit tests it is loom's, which explores the interleavings of
//! threads (`interleavings.rs`).

#[cfg(test)]
pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(test)]
use loom::sync::{Mutex as Lock, MutexGuard};
use std::sync::PoisonError;
#[cfg(not(test))]
pub(super) use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(test))]
use std::sync::{Mutex as Lock, MutexGuard};

/// A mutex that a panic does not poison: it is held for a few instructions of the crate's own, which leave nothing half
/// changed.
#[derive(Debug, Default)]
pub struct Mutex<T>(Lock<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(Lock::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
