//! Cancelling requests from elsewhere.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};

use super::waiters::Waiters;

/// Cancels requests from another thread or task, for a shutdown or a user who gave up (rule S6).
///
/// Clones are one canceller. Give one to each request that it is for, by [`Request::cancelled_by`](super::Request::cancelled_by): its waits
/// end at once. A blocking attempt that is under way ends as its HTTP client ends it, so give attempts a time limit, too.
///
/// ```
/// use retry_machine::drive::{Canceller, Request, blocking};
/// use retry_machine::{FailureKind, Idempotency, Policy, Reply};
///
/// let api = blocking::Api::new(Policy::flextell());
/// let canceller = Canceller::new();
/// canceller.cancel(); // usually in a signal handler's thread
/// let request = Request::new(Idempotency::Idempotent).cancelled_by(&canceller);
/// let error = api.call(request, |_| Ok::<_, (_, ())>((Reply::new(200), ()))).unwrap_err();
/// assert_eq!(error.failure.kind(), FailureKind::Cancelled);
/// ```
#[derive(Clone, Default)]
pub struct Canceller(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_cancelled: AtomicBool,
    waiters: Waiters,
}

impl Canceller {
    /// Creates a canceller.
    #[must_use]
    pub fn new() -> Canceller {
        Canceller::default()
    }

    /// Cancels its requests: those under way, and those that begin later.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        self.0.waiters.wake_all();
    }

    /// Returns whether [`cancel`](Canceller::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

/// One wait that a canceller can end.
pub(super) struct Cancelled<'a> {
    canceller: Option<&'a Canceller>,
    key: Option<u64>,
}

impl<'a> Cancelled<'a> {
    pub(super) fn new(canceller: Option<&'a Canceller>) -> Cancelled<'a> {
        Cancelled { canceller, key: None }
    }

    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let Some(canceller) = self.canceller else { return Poll::Pending };
        // First, so that a cancel in between wakes.
        self.key = Some(canceller.0.waiters.register(self.key, context.waker()));
        if canceller.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let (Some(canceller), Some(key)) = (self.canceller, self.key) {
            canceller.0.waiters.remove(key);
        }
    }
}
