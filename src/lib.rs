//! Decides for an API client whether, when and with which token to retry a request, and does nothing else.
//!
//! A [`RetryMachine`] decides for one request. It takes events ([`Event`]: a reply, a transport error, the passing of
//! time) and returns actions ([`Action`]: send, wait until an instant, refresh the token, fail). It does no IO, reads
//! no clock, draws no randomness from outside and allocates nothing. So anything can drive it: a blocking client, an
//! async one, a browser, a microcontroller. An [`Upstream`] has the state that all requests to one service share:
//! policy, token, gate, budget and breaker. It is passed `&mut` to every step.
//!
//! ```text
//!     bytes of a response ──> Reply ──> RetryMachine × Upstream ──> Action
//!            read                              decide                 carry out
//! ```
//!
//! # Driving it
//!
//! 1. Create one [`Upstream`] from a [`Policy`] for each service, and keep it.
//! 2. Create one [`RetryMachine`] for each request, with its own seed ([`derive_seed`]).
//! 3. Pass [`Event::Start`] to [`RetryMachine::handle`]. It returns an action.
//! 4. Carry out the action, and pass the result as the next event.
//! 5. Read responses with [`Policy::read`], or header by header with a [`Reader`].
//! 6. Stop at [`Action::Done`] or [`Action::Fail`].
//!
//! ```
//! use core::time::Duration;
//! use retry_machine::{Action, Event, Idempotency, Policy, RetryMachine, Timestamp, Upstream};
//!
//! let mut upstream = Upstream::new(Policy::flextell());
//! let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
//!
//! let action = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
//! assert!(matches!(action, Action::Send { attempt: 1, .. }));
//!
//! // 80 ms later the server says: too many requests, come back in 30 s.
//! let reply = upstream.policy().read(429, [("Retry-After", "30")]);
//! let action = machine.handle(Timestamp::from_millis(80), Event::Reply { attempt: 1, reply }, &mut upstream);
//! let Action::Wait { until, .. } = action else { panic!("{action}") };
//! assert!(until >= Timestamp::from_millis(30_080));
//! assert!(action.to_string().starts_with("attempt 1 of 6 got 429; waiting 30."));
//!
//! // Ticks are harmless: the wait ends when it ends.
//! assert!(matches!(machine.handle(Timestamp::from_millis(90), Event::Tick, &mut upstream), Action::Wait { .. }));
//! assert!(matches!(machine.handle(until, Event::Tick, &mut upstream), Action::Send { attempt: 2, .. }));
//! ```
//!
//! [`drive`] has this loop for threads and for async: with it a client is one closure that sends an attempt.
//! [`drive::blocking`] and [`drive::future`] show whole clients, with ureq and with reqwest.
//!
//! # Promises
//!
//! - **Never sooner**: no attempt is sent before the time that the server asked for has passed, whatever else happens.
//!   A wait that is too long is neither shortened nor slept: the request fails, with the instant from which another one
//!   is welcome.
//! - **Total**: any event, at any time and in any order, has a defined answer. Nothing panics or overflows.
//! - **Bounded**: attempts, waits and the time at the gate have limits, and every request ends.
//! - **One refresh at a time**, however many requests get a 401 at once.
//! - **Reproducible**: the same events give the same actions, bit for bit, on every target. A list of events is a
//!   complete record of an incident (feature `replay`: module `replay`).
//!
//! Each promise consists of numbered rules. [`pages::rules`] states them, [`pages::rule_tests`] lists their tests, and
//! [`pages::trust`] shows the evidence. [`pages::decisions`] settles questions that a rule leaves open.
//! [`pages::peer_bugs`] lists bugs of other retry code, and why this crate does not have them. [`pages::comparison`] measures
//! what a decision costs, here and elsewhere.
//!
//! # Features
//!
//! - `std` (default): the drivers, the module [`drive`]. It implies `alloc`.
//! - `alloc`: nothing by itself; other features need an allocator.
//! - `serde`: snapshots of requests and upstreams, the module `snapshot`.
//! - `json`: error bodies, `ErrorBody`. It needs an allocator (`alloc`).
//! - `vendor-times`: durations (`6m0s`) and RFC 3339 in a service's own fields ([`TimeUnit`]).
//! - `replay`: the trace format, the module `replay`. It implies `serde` and `json`.
//!
//! Without features the crate needs neither an allocator nor atomics.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]
// Without the feature the items that `fuzzing` opens are out of reach.
#![cfg_attr(any(fuzzing, feature = "fuzzing"), warn(unreachable_pub))]
#![allow(clippy::missing_errors_doc, clippy::module_name_repetitions)]
// Each public type decides whether it is exhaustive, and says why. I11: nothing panics.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
// With the feature `std` this is the standard library, which the drivers need; without it, `core` under that name. So no
// `use` needs a `cfg` of its own.
extern crate no_std_compat as std;

mod action;
mod backoff;
#[cfg(feature = "std")]
#[cfg_attr(docsrs, doc(cfg(feature = "std")))]
pub mod drive;
mod event;
mod failure;
#[cfg(any(fuzzing, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod machine;
mod policy;
pub mod presets;
#[cfg(feature = "replay")]
#[cfg_attr(docsrs, doc(cfg(feature = "replay")))]
pub mod replay;
mod reply;
mod seed;
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub mod snapshot;
mod time;
mod upstream;

/// The pages of the documentation.
#[cfg(doc)]
pub mod pages {
    #[doc = include_str!("../docs/trust.md")]
    pub mod trust {}
    #[doc = include_str!("../docs/figures.md")]
    pub mod figures {}
    #[doc = include_str!("../docs/rules.md")]
    pub mod rules {}
    #[doc = include_str!("../docs/rule_tests.md")]
    pub mod rule_tests {}
    #[doc = include_str!("../docs/trace_format.md")]
    pub mod trace_format {}
    #[doc = include_str!("../docs/decisions.md")]
    pub mod decisions {}
    #[doc = include_str!("../docs/storm.svg")]
    #[doc = ""]
    #[doc = include_str!("../docs/storm.md")]
    pub mod storm {}
    #[doc = include_str!("../docs/peer_bugs.md")]
    pub mod peer_bugs {}
    #[doc = include_str!("../docs/comparison.md")]
    pub mod comparison {}
    #[doc = include_str!("../docs/drivers.md")]
    pub mod drivers {}
}

/// The code blocks of the README, compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use self::action::{Action, Explanation, WaitDetails, WaitReason};
pub use self::event::{Event, Idempotency, RefreshOutcome, TransportErrorKind};
pub use self::failure::{Advice, Cause, Failure, FailureKind};
pub use self::machine::{RequestLimits, RetryMachine};
pub use self::policy::{
    BreakerPolicy, BudgetPolicy, Charge, Jitter, Policy, PolicyBuilder, PolicyError, Refund, StatusMeaning,
    ThrottleBackoff, YoungToken,
};
pub use self::reply::{
    BearerErrorCode, CodeClass, DialectField, FieldMeaning, HeaderField, Hint, HintSource, Reader, RejectReason,
    RejectedFields, Reply, ResetFormat, TimeUnit, Verdict,
};
#[cfg(feature = "json")]
pub use self::reply::{BodyError, ErrorBody};
pub use self::seed::derive_seed;
pub use self::time::Timestamp;
pub use self::upstream::{Gate, GateReason, GateState, Login, LoginState, Scope, Service, Upstream};
