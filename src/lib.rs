//! The part of every API client that decides whether, when and with which token to try again, and nothing else.
//!
//! A [`RetryMachine`] is one request. It takes in events ([`Event`]: a reply, a transport error, the passing of time)
//! and emits actions ([`Action`]: send, wait until, refresh the token, surface this failure). It does no IO, reads no
//! clock, draws no randomness from outside and allocates nothing, so that anything can drive it: a blocking client, an
//! async one, a browser, a microcontroller. What all requests to one service share (policy, token, gate, budget,
//! breaker) is an [`Upstream`], passed `&mut` to every step.
//!
//! ```text
//!     bytes of a response ──> Reply ──> RetryMachine × Upstream ──> Action
//!            read                              decide                  yours to do
//! ```
//!
//! # Driving it
//!
//! 1. Make one [`Upstream`] of a [`Policy`] for each service, and keep it.
//! 2. Make one [`RetryMachine`] for each request, with a seed of its own ([`derive_seed`]).
//! 3. Tell it [`Event::Start`]; it answers with an action.
//! 4. Do what the action says, and tell it how that went; it answers with the next.
//! 5. Distil responses with [`Reply::read`], or header by header with a [`Reader`].
//! 6. [`Action::Done`] and [`Action::Fail`] end it.
//!
//! ```
//! use core::time::Duration;
//! use retry_machine::{Action, Event, Policy, Idempotency, Reply, ResetFormat, RetryMachine, Timestamp, Upstream};
//!
//! let mut upstream = Upstream::new(Policy::flextell());
//! let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
//!
//! let action = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
//! assert!(matches!(action, Action::Send { attempt: 1, .. }));
//!
//! // 80 ms later the server says: too many requests, come back in 30 s.
//! let reply = Reply::read(429, [("Retry-After", "30")], None, ResetFormat::Auto);
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
//! The loop itself is written already, for threads and for async: see [`drive`].
//!
//! # Promises
//!
//! - **Never sooner**: no attempt is sent before a time that the server asked to wait for has passed, whatever else
//!   happens; and a wait that is too long is neither shortened nor slept, but surfaced, with the instant from which
//!   trying again is welcome.
//! - **Total**: any event, at any time, in any order, has a defined answer. Nothing panics, nothing overflows.
//! - **Bounded**: attempts, waits and the time at the gate have limits, and every request comes to an end.
//! - **One refresh at a time**: however many requests get a 401 at once.
//! - **Reproducible**: the same events give the same actions, bit for bit, on every target. A list of events is a
//!   complete record of an incident (with the features `serde` and `json`: the module `replay`).
//!
//! Each promise is made of numbered rules. [`pages::trust`] says why you can trust them, and how far; [`pages::rules`]
//! lists them with the tests that hold them; [`pages::decisions`] says how they are read where they can be read in two
//! ways; [`pages::peer_bugs`] has what went wrong in other retry code, and why it cannot here.
//!
//! # Features
//!
//! `std` (default) brings [`drive::SharedUpstream`](drive); `serde` stores requests and upstreams (`snapshot`); `json`
//! reads error bodies (`ErrorBody`), and with `serde` brings the trace format. Without any the crate needs neither an
//! allocator nor atomics.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]
// Without the feature the items that `fuzzing` opens are out of reach.
#![cfg_attr(any(fuzzing, feature = "fuzzing"), warn(unreachable_pub))]
#![allow(clippy::missing_errors_doc, clippy::module_name_repetitions)]
// Each public type decides whether it is exhaustive, and says why; and nothing panics.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
extern crate no_std_compat as std;

mod action;
mod backoff;
pub mod drive;
mod event;
mod failure;
#[cfg(any(fuzzing, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod machine;
mod policy;
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

/// Pages of the documentation.
#[cfg(doc)]
pub mod pages {
    #[doc = include_str!("../docs/trust.md")]
    pub mod trust {}
    #[doc = include_str!("../docs/rules.md")]
    pub mod rules {}
    #[doc = include_str!("../docs/rule_tests.md")]
    pub mod rule_tests {}
    #[doc = include_str!("../docs/trace_format.md")]
    pub mod trace_format {}
    #[doc = include_str!("../docs/decisions.md")]
    pub mod decisions {}
    #[doc = include_str!("../docs/peer_bugs.md")]
    pub mod peer_bugs {}
}

/// The code blocks of the README, compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use self::action::{Action, Explanation, WaitReason};
pub use self::event::{Event, Idempotency, RefreshOutcome, TransportErrorKind};
pub use self::failure::{Advice, Cause, Failure, FailureKind};
pub use self::machine::RetryMachine;
pub use self::policy::{BreakerPolicy, BudgetPolicy, Jitter, Policy, PolicyBuilder, PolicyError};
pub use self::reply::{
    BearerErrorCode, CodeClass, HeaderField, Hint, HintSource, Reader, RejectReason, RejectedFields, Reply, ResetFormat,
};
#[cfg(feature = "json")]
pub use self::reply::{BodyError, ErrorBody};
pub use self::seed::derive_seed;
pub use self::time::Timestamp;
pub use self::upstream::Upstream;
