//! The policies to compare, from no retries to all parts of the crate.

use std::time::Duration;

use retry_machine::{BreakerPolicy, BudgetPolicy, Jitter, Policy, PolicyBuilder};

pub struct Contestant {
    pub name: &'static str,
    pub policy: Policy,
    /// Whether it obeys `Retry-After`.
    pub obeys_hints: bool,
    /// Whether it matters which requests share an upstream value: only the gate, the budget and the breaker are in there.
    pub shares: bool,
    /// Whether this is the default of the crate.
    pub is_default: bool,
}

pub const NAIVE: &str = "naive, 5 at once";

pub fn contestants() -> [Contestant; 7] {
    let guide = || Policy::flextell().into_builder().gate(false).budget(None);
    // Without a gate, a retry after a 429 costs as much as any other.
    let budget = BudgetPolicy { throttle_cost: BudgetPolicy::DEFAULT.retry_cost, ..BudgetPolicy::DEFAULT };
    let default = || Policy::flextell().into_builder();
    [
        alone("no retries", guide().max_retries(0)),
        Contestant { obeys_hints: false, ..alone(NAIVE, guide().initial_backoff(Duration::ZERO).jitter(Jitter::None)) },
        alone("back-off, no jitter", guide().jitter(Jitter::None)),
        alone("the guide's back-off", guide()),
        sharing("+ budget", guide().budget(Some(budget))),
        Contestant { is_default: true, ..sharing("+ gate (the default)", default()) },
        sharing("+ breaker", default().breaker(Some(BreakerPolicy::RECOMMENDED))),
    ]
}

fn alone(name: &'static str, policy: PolicyBuilder) -> Contestant {
    Contestant { shares: false, ..sharing(name, policy) }
}

fn sharing(name: &'static str, policy: PolicyBuilder) -> Contestant {
    let policy = policy.attempt_timeout(Some(Duration::from_secs(2))).build().expect("a valid policy");
    Contestant { name, policy, obeys_hints: true, shares: true, is_default: false }
}
