//! The policies to compare: the columns of the matrix.

use std::time::Duration;

use retry_machine::{Jitter, Policy, PolicyBuilder};

pub struct Contestant {
    pub name: &'static str,
    pub policy: Policy,
    /// Whether it matters which requests share an upstream value: only the gate, the budget and the breaker are in there.
    pub shares: bool,
}

/// The columns of the matrix.
pub const NO_RETRIES: usize = 0;
pub const BACK_OFF: usize = 1;
pub const DEFAULT: usize = 2;
pub const COLUMNS: usize = 4;

/// Returns the columns, and after them a policy that only the picture of the load has.
pub fn contestants() -> [Contestant; COLUMNS + 1] {
    let alone = || Policy::flextell().into_builder().gate(false).budget(None).breaker(None);
    let default = || Policy::flextell().into_builder();
    [
        contestant("no retries", alone().max_retries(0), false),
        contestant("back-off alone", alone(), false),
        contestant("the default", default(), true),
        contestant("default, no breaker", default().breaker(None), true),
        contestant("naive, 5 at once", alone().initial_backoff(Duration::ZERO).jitter(Jitter::None), false),
    ]
}

fn contestant(name: &'static str, policy: PolicyBuilder, shares: bool) -> Contestant {
    let policy = policy.attempt_timeout(Some(Duration::from_secs(2))).build().expect("a valid policy");
    Contestant { name, policy, shares }
}
