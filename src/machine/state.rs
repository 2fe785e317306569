//! Facts that follow from the fields of a request.

use super::{Flags, RetryMachine};
use crate::policy::Policy;
use crate::time::Timestamp;

impl RetryMachine {
    /// Returns the number of retries: attempts that are not the first, not made after a refresh (K2) and not D13's
    /// repetition.
    pub(super) fn retries(&self) -> u32 {
        let others = 1 + u32::from(self.recoveries) + u32::from(self.flags.has(Flags::REPEATED));
        self.attempts.saturating_sub(others)
    }

    /// Returns the number of attempts sent after this one, or `None` if this one was not sent.
    pub(super) fn age(&self, attempt: u32) -> Option<u32> {
        (1..=self.attempts).contains(&attempt).then(|| self.attempts - attempt)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Returns the end of the attempt in flight, if it has a limit (S4).
    pub(super) fn limit(&self, policy: &Policy) -> Option<Timestamp> {
        let has_limit = self.limits.deadline(policy).is_some() || self.limits.attempt_timeout(policy).is_some();
        has_limit.then_some(self.until)
    }

    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub(super) fn deadline(&self, policy: &Policy) -> Option<Timestamp> {
        self.limits.deadline(policy).map(|limit| self.started.after(limit))
    }
}
