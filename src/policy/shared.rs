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
    /// The cost of a retry after a throttle. One that finds the gate closed already is free, and so is one with a hint
    /// where throttles are [counted apart](crate::PolicyBuilder::throttle_retries): what bounds it is the gate, or the count.
    pub throttle_cost: u32,
    /// When the cost is charged.
    pub charge: Charge,
    /// The amount that each good answer gives back (rule D18).
    pub success_refund: u32,
    /// Whether a good answer gives back what its request paid, too.
    pub refund: Refund,
    /// The time that brings one token; zero: time brings none. So a client that calls once an hour has its retries again.
    pub refill_every: Duration,
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
    /// The cost of its request's last retry; if that is 0, or without a retry, the fixed amount (AWS).
    LastCost,
    /// The fixed amount, and all that its request has paid and not got back yet.
    Paid,
}

impl BudgetPolicy {
    /// 25 tokens, 5 for each retry; a good answer gives back 1 and all that its request has paid, and a minute brings 1.
    ///
    /// A lone request gets its five retries from a fresh upstream. A client whose first attempts all fail and whose second
    /// ones succeed keeps its retries forever. When the service is down nothing comes back, and retries end after the
    /// fifth: twice the capacity made an outage longer in the simulation and helped nowhere.
    pub const DEFAULT: BudgetPolicy = BudgetPolicy {
        capacity: 25,
        floor: 0,
        retry_cost: 5,
        throttle_cost: 5,
        charge: Charge::Retry,
        success_refund: 1,
        refund: Refund::Paid,
        refill_every: Duration::from_secs(60),
    };
}

/// The settings of the circuit breaker (rule S3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule S3 names two numbers, and users write them as a literal")]
pub struct BreakerPolicy {
    /// The number of bad answers in a row that opens the breaker, at least 1, if the first of them came at least
    /// `open_for` before the last. Answers that say nothing about the service's health do not break the run (rule D18).
    pub failure_threshold: u32,
    /// The time for which the breaker stays open before it lets a probe through, the time that a probe may take, and the
    /// time that a run of failures must last. A longer time delays the first success after the upstream has recovered.
    pub open_for: Duration,
}

impl BreakerPolicy {
    /// 7 failures and 10 s. Seven is one more than a request of six attempts can make alone. Without the ten seconds a
    /// burst of failures would open the breaker at error rates that retries cope with.
    pub const DEFAULT: BreakerPolicy = BreakerPolicy { failure_threshold: 7, open_for: Duration::from_secs(10) };
}
