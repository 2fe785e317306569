//! A sans-IO retry state machine.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
extern crate no_std_compat as std;

mod action;
mod backoff;
pub mod drive;
mod event;
mod failure;
mod machine;
mod policy;
mod reply;
mod seed;
mod time;
#[cfg(all(feature = "json", feature = "serde"))]
pub mod trace;
mod upstream;

pub use self::action::{Action, Because, WaitReason};
pub use self::backoff::Jitter;
pub use self::event::{Event, Repeat, TokenOutcome, TransportError};
pub use self::failure::{Advice, Cause, Failure, FailureKind};
pub use self::machine::RetryMachine;
pub use self::policy::{BreakerPolicy, BudgetPolicy, Policy, PolicyBuilder, PolicyError};
pub use self::reply::{BearerError, CodeClass, Field, Hint, HintSource, Reader, Rejected, Reply, ResetFormat, Why};
#[cfg(feature = "json")]
pub use self::reply::{BodyError, ErrorBody};
pub use self::seed::derive_seed;
pub use self::time::Time;
pub use self::upstream::Upstream;
