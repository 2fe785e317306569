//! Settings of the state that requests share: the retry budget and the circuit breaker.

use core::time::Duration;

/// The settings of the retry budget, a token bucket that starts full (rule S2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "users write its numbers as a literal, with the rest of the default")]
pub struct BudgetPolicy {
    /// The most it holds, and the balance at the start. With 0 nothing that costs is retried.
    pub capacity: u32,
    /// The least that a granted retry leaves. 0: the balance may be used up.
    pub floor: u32,
    /// The cost of a retry.
    pub retry_cost: u32,
    /// The cost of a retry after a throttle. 0 while the gate is on: the gate holds such requests back already.
    pub throttle_cost: u32,
    /// When the cost is charged.
    pub charge: Charge,
    /// The amount that each good answer gives back (rule D18).
    pub success_refund: u32,
    /// Whether a good answer gives back what its request paid, too.
    pub refund: Refund,
}

/// When a [budget](BudgetPolicy) is charged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a closed choice of the policy")]
pub enum Charge {
    /// A retry, when it is granted; a retry that would leave less than the floor is not granted (rule P3).
    Retry,
    /// Each failed attempt that may be retried, whether it is or not, down to 0; a retry is granted if the floor is
    /// left then (gRPC).
    Failure,
}

/// The amount that a good answer gives back to a [budget](BudgetPolicy).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[allow(clippy::exhaustive_enums, reason = "a closed choice of the policy")]
pub enum Refund {
    /// The fixed amount.
    Fixed,
    /// The cost of its request's last retry; without a retry the fixed amount (AWS).
    LastCost,
}

impl BudgetPolicy {
    /// 50/5/0/1: a lone request always gets its five retries from a fresh upstream, and when the upstream is down
    /// retries are at most a fifth of the traffic. One upstream value that serves hundreds of requests at once may
    /// take a capacity of 500: it rides out a longer hiccup, at the price of a larger burst.
    pub const DEFAULT: BudgetPolicy = BudgetPolicy {
        capacity: 50,
        floor: 0,
        retry_cost: 5,
        throttle_cost: 0,
        charge: Charge::Retry,
        success_refund: 1,
        refund: Refund::Fixed,
    };
}

/// The settings of the circuit breaker (rule S3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule S3 names two numbers, and users write them as a literal")]
pub struct BreakerPolicy {
    /// The number of failures in a row that opens the breaker, at least 1. With 5 it opens at an error rate that
    /// retries cope with; with 10 it does not.
    pub failure_threshold: u32,
    /// The time for which the breaker stays open before it lets a probe through, and the time that a probe may take. A
    /// longer time delays the first success after the upstream has recovered.
    pub open_for: Duration,
}

impl BreakerPolicy {
    /// The recommended settings for a breaker: 10 failures and 10 s.
    pub const RECOMMENDED: BreakerPolicy = BreakerPolicy { failure_threshold: 10, open_for: Duration::from_secs(10) };
}
