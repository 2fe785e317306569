//! The retry budget: a token bucket that keeps retries a bounded share of the traffic (rule S2).

use crate::policy::{BudgetPolicy, Charge, Refund};
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{Timestamp, nanos};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Budget {
    /// Never more than the capacity (I9).
    balance: u32,
    /// The instant of the last token that time brought, or of the last look at a full budget (C4).
    refilled_at: Timestamp,
}

/// The price of a retry: that of a throttled one, or of any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Price {
    Retry,
    Throttle,
}

impl Price {
    const fn cost(self, policy: &BudgetPolicy) -> u32 {
        match self {
            Price::Retry => policy.retry_cost,
            Price::Throttle => policy.throttle_cost,
        }
    }
}

/// The cost of a request's retries, as far as it may get it back (C3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Paid(u32);

impl Paid {
    pub(crate) const NOTHING: Paid = Paid(0);

    fn add(&mut self, amount: u32, policy: &BudgetPolicy) {
        self.0 = match policy.refund {
            Refund::Fixed => 0,
            Refund::LastCost => amount,
            Refund::Paid => self.0.saturating_add(amount),
        };
    }
}

impl Budget {
    /// Makes a full budget. Without a policy it is empty, and nothing is asked of it.
    pub(crate) const fn full(policy: Option<&BudgetPolicy>) -> Budget {
        let balance = match policy {
            Some(policy) => policy.capacity,
            None => 0,
        };
        Budget { balance, refilled_at: Timestamp::ZERO }
    }

    /// Returns the balance at `now`.
    pub(crate) fn balance(&self, now: Timestamp, policy: &BudgetPolicy) -> u32 {
        let mut budget = self.clone();
        budget.refill(now, policy);
        budget.balance
    }

    /// Adds what time has brought (C4).
    fn refill(&mut self, now: Timestamp, policy: &BudgetPolicy) {
        let every = nanos(policy.refill_every);
        if let Some(tokens) = now.since(self.refilled_at).checked_div(every) {
            self.balance = self.balance.saturating_add(u32::try_from(tokens).unwrap_or(u32::MAX)).min(policy.capacity);
            self.refilled_at = self.refilled_at.after(tokens.saturating_mul(every));
            if self.balance == policy.capacity {
                // Time counts from the first withdrawal on.
                self.refilled_at = now;
            }
        }
    }

    /// Charges a failed attempt that may be retried, where failures are charged; without a price it is free (C2).
    pub(crate) fn on_failure(
        &mut self,
        price: Option<Price>,
        paid: &mut Paid,
        now: Timestamp,
        policy: Option<&BudgetPolicy>,
    ) {
        if let Some(policy @ &BudgetPolicy { charge: Charge::Failure, .. }) = policy {
            self.refill(now, policy);
            let amount = price.map_or(0, |price| price.cost(policy)).min(self.balance);
            self.balance -= amount;
            paid.add(amount, policy);
        }
    }

    /// Pays for a retry, in one step with the check (P3); without a price it is free (C2). Returns whether there was
    /// enough.
    #[must_use]
    pub(crate) fn try_withdraw(
        &mut self,
        price: Option<Price>,
        paid: &mut Paid,
        now: Timestamp,
        policy: Option<&BudgetPolicy>,
    ) -> bool {
        let Some(policy) = policy else { return true };
        self.refill(now, policy);
        let cost = match (policy.charge, price) {
            (Charge::Retry, Some(price)) => price.cost(policy),
            (Charge::Failure, _) | (_, None) => 0,
        };
        let Some(rest) = self.balance.checked_sub(cost).filter(|rest| *rest >= policy.floor) else { return false };
        self.balance = rest;
        if policy.charge == Charge::Retry {
            paid.add(cost, policy);
        }
        true
    }

    /// Refills the budget for a good answer (D18) to a request that has paid so much (C3).
    pub(crate) fn deposit(&mut self, paid: &mut Paid, now: Timestamp, policy: Option<&BudgetPolicy>) {
        let Some(policy) = policy else { return };
        self.refill(now, policy);
        let Paid(returned) = core::mem::replace(paid, Paid::NOTHING);
        let amount = match policy.refund {
            Refund::LastCost if returned > 0 => returned,
            Refund::Fixed | Refund::LastCost => policy.success_refund,
            Refund::Paid => policy.success_refund.saturating_add(returned),
        };
        self.balance = self.balance.saturating_add(amount).min(policy.capacity);
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) {
        shift.exact(&mut self.refilled_at);
    }

    /// T7, I9: clamps the balance of a snapshot to the most that it can be.
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, policy: Option<&BudgetPolicy>) {
        self.balance = self.balance.min(policy.map_or(0, |policy| policy.capacity));
    }
}
