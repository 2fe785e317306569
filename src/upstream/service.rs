//! The service: the policy, and what all requests to it share, whatever their login and their rate limit.

use super::breaker::Breaker;
use super::budget::Budget;
use crate::policy::Policy;
use crate::time::Timestamp;

/// One service: the policy, the retry budget, the circuit breaker, and the latest time that was seen (rule S8).
///
/// Most programs have one in an [`Upstream`](crate::Upstream). A program with several logins or several rate limits at one
/// service passes it in a [`Scope`](crate::Scope).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    pub(crate) policy: Policy,
    /// T2: the latest instant seen.
    latest: Timestamp,
    pub(crate) budget: Budget,
    pub(crate) breaker: Breaker,
}

impl Service {
    /// Creates a service that has not been called: the budget is full and the breaker closed.
    #[must_use]
    pub const fn new(policy: Policy) -> Service {
        Service {
            budget: Budget::full(policy.budget.as_ref()),
            policy,
            latest: Timestamp::ZERO,
            breaker: Breaker::new(),
        }
    }

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns what the retry budget holds at `now` (rule S2), or `None` if the policy has none.
    #[must_use]
    pub fn budget_balance(&self, now: Timestamp) -> Option<u32> {
        let now = self.latest.max(now);
        self.policy.budget.as_ref().map(|policy| self.budget.balance(now, policy))
    }

    /// Returns the instant of the breaker's next probe, while the breaker is open (rule S3). `None`: attempts pass, or the
    /// next one is the probe.
    #[must_use]
    pub fn next_probe(&self, now: Timestamp) -> Option<Timestamp> {
        self.breaker.next_probe(self.latest.max(now))
    }

    /// T2: returns `now`, or the latest instant seen if `now` is earlier.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }
}
