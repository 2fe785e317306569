//! Drivers: the loop around the machine.
//!
//! [`blocking::run`] is for threads and [`future::run`] for any async runtime. Neither does IO: the caller's own client
//! sends, sleeps and refreshes. [`Shared`] gives them access to the upstream that requests share. [`RefCell`]
//! implements it for one request at a time, and with feature `std` `SharedUpstream` does for many at once.

use core::cell::RefCell;
use core::error::Error;
use core::fmt;
use core::future::{Future, pending};
use core::time::Duration;

use crate::{Action, Event, Failure, RetryMachine, Timestamp, Upstream};

pub mod blocking;
pub mod future;
#[cfg(feature = "std")]
mod shared;

#[cfg(feature = "std")]
pub use self::shared::SharedUpstream;

/// An attempt to send: the facts of [`Action::Send`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The attempt's number, from 1.
    pub number: u32,
    /// The generation of the token to use. Ignore it if your store keeps only the newest token.
    pub generation: u32,
    /// The instant at which to give the attempt up, if there is one. The async driver does so itself; a blocking client
    /// must do it.
    pub until: Option<Timestamp>,
}

/// A failed request, with the last response or client error it received.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RequestError<R, E> {
    /// The reason.
    pub failure: Failure,
    /// The last response, if the request got one: that of [`Failure::status`].
    pub response: Option<R>,
    /// The client's own error, if the last attempt failed in transport.
    pub error: Option<E>,
}

impl<R, E> fmt::Display for RequestError<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl<R: fmt::Debug, E: Error + 'static> Error for RequestError<R, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref().map(|error| error as _)
    }
}

/// Access to the upstream for one step at a time.
///
/// Use a [`RefCell`] for requests that run one after the other, and `SharedUpstream` (feature `std`) for many at once.
/// On other platforms, implement it for the mutex of the platform.
pub trait Shared {
    /// Calls `step` with exclusive access to the upstream.
    fn with<T>(&self, step: impl FnOnce(&mut Upstream) -> T) -> T;

    /// Blocks until [`Upstream::wakeups`] differs from `seen`, at most for `timeout`. `sleep` is the client's own way
    /// to let time pass. By default it sleeps for the whole `timeout`. `SharedUpstream` takes `timeout` as real time: for
    /// a clock that runs at another speed, implement this method.
    fn wait_for_token(&self, seen: u32, timeout: Duration, sleep: impl FnOnce(Duration)) {
        let _ = seen;
        sleep(timeout);
    }

    /// Completes when [`Upstream::wakeups`] differs from `seen`. By default it never completes, and requests that
    /// follow a refresh wait until its lease ends.
    fn token_moved(&self, seen: u32) -> impl Future<Output = ()> {
        let _ = seen;
        pending()
    }
}

impl Shared for RefCell<Upstream> {
    /// # Panics
    ///
    /// If `step` accesses the same upstream.
    fn with<T>(&self, step: impl FnOnce(&mut Upstream) -> T) -> T {
        step(&mut self.borrow_mut())
    }
}

/// A request under way. Dropped before its end, it cancels the request, which then gives back its lease or probe (S6).
struct ActiveRequest<'a, S: Shared> {
    machine: RetryMachine,
    upstream: &'a S,
}

/// The result of one step.
struct NextStep {
    action: Action,
    /// The instant at which the next tick matters, if one does.
    tick: Option<Timestamp>,
    /// The upstream's counter of wake-ups after the step.
    wakeups: u32,
}

impl<S: Shared> ActiveRequest<'_, S> {
    fn step(&mut self, now: Timestamp, event: Event) -> NextStep {
        let ActiveRequest { machine, upstream } = self;
        upstream.with(|upstream| NextStep {
            action: machine.handle(now, event, upstream),
            tick: machine.next_tick(upstream),
            wakeups: upstream.wakeups(),
        })
    }
}

impl<S: Shared> Drop for ActiveRequest<'_, S> {
    fn drop(&mut self) {
        if !self.machine.is_ended() {
            // T2: an early instant counts as the latest that the upstream has seen.
            let _ = self.step(Timestamp::ZERO, Event::Cancel);
        }
    }
}
