//! The retry budget: a token bucket that keeps retries a bounded share of the traffic (rule S2).

use crate::policy::BudgetPolicy;

/// The balance of the token bucket. Without a policy it is not used.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Budget {
    /// At most the capacity (I9).
    balance: u32,
}

impl Budget {
    /// Returns a full budget.
    pub(crate) const fn full(policy: Option<BudgetPolicy>) -> Budget {
        let balance = match policy {
            Some(policy) => policy.capacity,
            None => 0,
        };
        Budget { balance }
    }

    /// Withdraws the cost of a retry, in one step with the check (P3). Returns whether the balance was sufficient.
    pub(crate) fn try_withdraw(&mut self, throttled: bool, policy: Option<BudgetPolicy>) -> bool {
        let Some(policy) = policy else { return true };
        let cost = if throttled { policy.throttle_cost } else { policy.retry_cost };
        match self.balance.checked_sub(cost) {
            Some(balance) => {
                self.balance = balance;
                true
            }
            None => false,
        }
    }

    /// Deposits the refund of a 2xx.
    pub(crate) fn deposit(&mut self, policy: Option<BudgetPolicy>) {
        if let Some(policy) = policy {
            self.balance = self.balance.saturating_add(policy.success_refund).min(policy.capacity);
        }
    }

    /// Clamps the balance of a snapshot to the capacity (T7, I9).
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, policy: Option<BudgetPolicy>) {
        self.balance = self.balance.min(policy.map_or(0, |policy| policy.capacity));
    }
}
