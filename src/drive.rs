//! Drivers: the loop around the machine, so that nobody has to write it.
//!
//! [`blocking::run`] is for threads, [`future::run`] for any async runtime; both are read in a minute. Neither does IO:
//! the caller's own client sends, sleeps and refreshes. [`Shared`] is how they reach the upstream that a request shares
//! with others; with `std` there is [`SharedUpstream`].

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

/// An attempt to send: what [`Action::Send`] says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The generation of the token to use. A store with nothing but the newest token may leave it aside.
    pub generation: u32,
    /// When to give it up, if ever. The async driver does so by itself, a blocking client must.
    pub until: Option<Timestamp>,
}

/// A request that failed, with what it brought all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RequestError<R, E> {
    /// Why.
    pub failure: Failure,
    /// The last response that any of its attempts got: the one of [`Failure::status`].
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

/// How a driver reaches the upstream: for one step at a time, never across one.
///
/// A [`RefCell`] will do for requests that run one after the other; [`SharedUpstream`] is for many at once. On other
/// platforms implement it for the mutex that is at hand.
pub trait Shared {
    /// Calls `step` with the upstream, with nobody else having it meanwhile.
    fn with<T>(&self, step: impl FnOnce(&mut Upstream) -> T) -> T;

    /// Blocks for at most `timeout` of real time, until [`Upstream::wakeups`] is no longer `seen`. `sleep` is the caller's own way to
    /// let time pass; by default the whole of it passes.
    fn wait_for_token(&self, seen: u32, timeout: Duration, sleep: impl FnOnce(Duration)) {
        let _ = seen;
        sleep(timeout);
    }

    /// Completes when [`Upstream::wakeups`] is no longer `seen`. By default it never does, and requests that follow a
    /// refresh wait until its lease ends.
    fn token_moved(&self, seen: u32) -> impl Future<Output = ()> {
        let _ = seen;
        pending()
    }
}

impl Shared for RefCell<Upstream> {
    /// # Panics
    ///
    /// If `step` itself reaches for the same upstream.
    fn with<T>(&self, step: impl FnOnce(&mut Upstream) -> T) -> T {
        step(&mut self.borrow_mut())
    }
}

/// A machine under way. Dropped before its end it cancels, so that what it holds is given back (rule S6).
struct Run<'a, S: Shared> {
    machine: RetryMachine,
    upstream: &'a S,
}

/// What a driver learns from one step.
struct Next {
    action: Action,
    /// When the next tick matters.
    tick: Option<Timestamp>,
    /// The upstream's wake-ups as of the action.
    wakeups: u32,
}

impl<S: Shared> Run<'_, S> {
    fn tell(&mut self, now: Timestamp, event: Event) -> Next {
        let Run { machine, upstream } = self;
        upstream.with(|upstream| Next {
            action: machine.handle(now, event, upstream),
            tick: machine.next_tick(upstream),
            wakeups: upstream.wakeups(),
        })
    }
}

impl<S: Shared> Drop for Run<'_, S> {
    fn drop(&mut self) {
        if !self.machine.is_ended() {
            // T2: any time counts as the latest that the upstream has seen.
            let _ = self.tell(Timestamp::ZERO, Event::Cancel);
        }
    }
}
