//! Drivers: the loop around the machine, for threads and for tasks (feature `std`).
//!
//! [`blocking::Api`] is for threads and [`future::Api`] for any async runtime. Each is the handle of a service: it keeps
//! what requests share, and its `call` drives one request to its end. Neither does IO: a closure sends each attempt with
//! the HTTP client of your choice. The two modules show whole clients, and [`pages::drivers`](crate::pages::drivers) has
//! what comes after the first call: tokens, logins, several rate limits, shutting down, watching, virtual time.

pub mod blocking;
pub mod future;

mod answer;
mod api;
mod attempt;
mod cancel;
mod clock;
#[cfg(test)]
mod interleavings;
mod login;
mod refresh;
mod request;
mod run;
mod service;
mod sync;
mod waiters;

pub use self::answer::{Answer, CallResult, RequestError, SendResult};
pub use self::api::{Api, NoToken};
pub use self::attempt::Attempt;
pub use self::cancel::CancelHandle;
pub use self::clock::{Clock, SystemClock};
pub use self::refresh::{Fresh, Refresh, RefreshError, RefreshResult};
pub use self::request::{Request, Step, StepTrigger};
