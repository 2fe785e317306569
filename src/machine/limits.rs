//! Limits of one request (D17), packed: they live in the machine.

use core::time::Duration;

use super::RetryMachine;
use crate::policy::Policy;
use crate::time::{millis, nanos};

/// Limits of one request, where they are tighter than the policy's (rule D17). A wider limit changes nothing.
///
/// Times count in whole milliseconds, rounded up, and up to 49 days; longer ones count as 49 days.
///
/// ```
/// use core::time::Duration;
/// use retry_machine::{Idempotency, RequestLimits, RetryMachine};
///
/// // A health check: two seconds, one retry at most.
/// let limits = RequestLimits { deadline: Some(Duration::from_secs(2)), max_retries: Some(1), ..Default::default() };
/// let machine = RetryMachine::new(Idempotency::Idempotent, 7).with_limits(limits);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "rule D17 names three limits, and users write them as a literal")]
pub struct RequestLimits {
    /// The overall time limit of the request, all attempts and waits included.
    pub deadline: Option<Duration>,
    /// The number of retries, throttled ones included; 0 means none.
    pub max_retries: Option<u16>,
    /// The time limit of each attempt.
    pub attempt_timeout: Option<Duration>,
}

/// The same in ten bytes, without padding: the largest number of each stands for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[repr(Rust, packed(2))]
pub(super) struct Limits {
    deadline_ms: u32,
    attempt_timeout_ms: u32,
    max_retries: u16,
}

impl Limits {
    pub(super) const NONE: Limits =
        Limits { deadline_ms: u32::MAX, attempt_timeout_ms: u32::MAX, max_retries: u16::MAX };

    fn new(limits: RequestLimits) -> Limits {
        Limits {
            deadline_ms: pack(limits.deadline),
            attempt_timeout_ms: pack(limits.attempt_timeout),
            max_retries: limits.max_retries.unwrap_or(u16::MAX),
        }
    }

    /// Returns whether the limit leaves a retry after `retries` of them.
    pub(super) fn allow_retry(self, retries: u32) -> bool {
        self.max_retries == u16::MAX || retries < u32::from(self.max_retries)
    }

    /// Returns the number of attempts that back-off allows, with those of the policy.
    pub(super) fn max_attempts(self, policy: &Policy) -> u32 {
        let retries = u32::from(policy.max_retries) + policy.throttle_retries.map_or(0, u32::from);
        1 + if self.max_retries == u16::MAX { retries } else { retries.min(self.max_retries.into()) }
    }

    /// Returns the tighter one of the request's limit and the policy's, in nanoseconds.
    pub(super) fn deadline(self, policy: &Policy) -> Option<u64> {
        tighter(self.deadline_ms, policy.deadline)
    }

    pub(super) fn attempt_timeout(self, policy: &Policy) -> Option<u64> {
        tighter(self.attempt_timeout_ms, policy.attempt_timeout)
    }
}

impl RetryMachine {
    /// Returns the request with limits of its own, in place of any that it had (rule D17).
    #[must_use]
    pub fn with_limits(mut self, limits: RequestLimits) -> RetryMachine {
        self.limits = Limits::new(limits);
        self
    }
}

/// 49 days.
const LONGEST_MS: u32 = 49 * 24 * 3_600_000;

fn pack(limit: Option<Duration>) -> u32 {
    let Some(limit) = limit else { return u32::MAX };
    u32::try_from(nanos(limit).div_ceil(1_000_000)).map_or(LONGEST_MS, |ms| ms.min(LONGEST_MS))
}

fn tighter(own_ms: u32, policy: Option<u64>) -> Option<u64> {
    let own = (own_ms != u32::MAX).then(|| millis(own_ms.into()));
    match (own, policy) {
        (Some(own), Some(policy)) => Some(own.min(policy)),
        (own, policy) => own.or(policy),
    }
}
