//! The retry budget: a token bucket that keeps retries a bounded share of the traffic (rule S2).

use crate::policy::{BudgetPolicy, Charge, Refund};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Budget {
    /// Never more than the capacity (I9).
    balance: u32,
}

/// The price of a retry: that of a throttled one, or of any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Price {
    Retry,
    Throttle,
}

impl Price {
    const fn cost(self, policy: BudgetPolicy) -> u32 {
        match self {
            Price::Retry => policy.retry_cost,
            Price::Throttle => policy.throttle_cost,
        }
    }
}

impl Budget {
    /// Makes a full budget. Without a policy it is empty, and nothing is asked of it.
    pub(crate) const fn full(policy: Option<BudgetPolicy>) -> Budget {
        let balance = match policy {
            Some(policy) => policy.capacity,
            None => 0,
        };
        Budget { balance }
    }

    pub(crate) const fn balance(&self) -> u32 {
        self.balance
    }

    /// Charges a failed attempt that may be retried, where failures are charged.
    pub(crate) fn on_failure(&mut self, price: Price, policy: Option<BudgetPolicy>) {
        if let Some(policy @ BudgetPolicy { charge: Charge::Failure, .. }) = policy {
            self.balance = self.balance.saturating_sub(price.cost(policy));
        }
    }

    /// Pays for a retry, in one step with the check (P3). Returns whether there was enough.
    #[must_use]
    pub(crate) fn try_withdraw(&mut self, price: Price, policy: Option<BudgetPolicy>) -> bool {
        let Some(policy) = policy else { return true };
        let cost = match policy.charge {
            Charge::Retry => price.cost(policy),
            Charge::Failure => 0,
        };
        let Some(rest) = self.balance.checked_sub(cost).filter(|rest| *rest >= policy.floor) else { return false };
        self.balance = rest;
        true
    }

    /// Refills the budget for a good answer (D18) to a request whose last retry was charged at `last`.
    pub(crate) fn deposit(&mut self, last: Option<Price>, policy: Option<BudgetPolicy>) {
        let Some(policy) = policy else { return };
        let amount = match (policy.refund, last) {
            (Refund::LastCost, Some(price)) => price.cost(policy),
            (Refund::Fixed, _) | (Refund::LastCost, None) => policy.success_refund,
        };
        self.balance = self.balance.saturating_add(amount).min(policy.capacity);
    }

    /// T7, I9: clamps the balance of a snapshot to the most that it can be.
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, policy: Option<BudgetPolicy>) {
        self.balance = self.balance.min(policy.map_or(0, |policy| policy.capacity));
    }
}
