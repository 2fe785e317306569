//! Cancelling requests from elsewhere.

use alloc::sync::Arc;
use core::fmt;
use core::task::{Context, Poll};

use super::sync::{AtomicBool, Ordering};
use super::waiters::Waiters;

/// Cancels requests from another thread or task, for a shutdown or a user who gave up (rule S6).
///
/// Clones are one cancel handle. Give one to each request that it is for, by
/// [`Request::cancelled_by`](super::Request::cancelled_by): its waits end at once. A blocking attempt that is under way ends
/// as its HTTP client ends it, so give attempts a time limit, too.
///
/// ```
/// use retry_machine::drive::{CancelHandle, Request, blocking};
/// use retry_machine::{FailureKind, Idempotency, Policy, Reply};
///
/// let api = blocking::Api::new(Policy::flextell());
/// let handle = CancelHandle::new();
/// handle.cancel(); // usually in a signal handler's thread
/// let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
/// let error = api.call(request, |_| Ok::<_, (_, ())>((Reply::new(200), ()))).unwrap_err();
/// assert_eq!(error.failure.kind(), FailureKind::Cancelled);
/// ```
#[derive(Clone, Default)]
pub struct CancelHandle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_cancelled: AtomicBool,
    waiters: Waiters,
}

impl CancelHandle {
    /// Creates a cancel handle.
    #[must_use]
    pub fn new() -> CancelHandle {
        CancelHandle::default()
    }

    /// Cancels its requests: those under way, and those that begin later.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        self.0.waiters.wake_all();
    }

    /// Returns whether [`cancel`](CancelHandle::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for CancelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHandle").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

/// One wait that a cancel handle can end.
pub(super) struct Cancelled<'a> {
    handle: Option<&'a CancelHandle>,
    key: Option<u64>,
}

impl<'a> Cancelled<'a> {
    pub(super) fn new(handle: Option<&'a CancelHandle>) -> Cancelled<'a> {
        Cancelled { handle, key: None }
    }

    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(handle) = self.handle else { return Poll::Pending };
        // First, so that a cancel in between wakes.
        self.key = Some(handle.0.waiters.register(self.key, context.waker()));
        if handle.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let (Some(handle), Some(key)) = (self.handle, self.key) {
            handle.0.waiters.remove(key);
        }
    }
}
