//! After a failed attempt that may be repeated: whether a retry is granted (P2).

use super::Step;
use crate::action::WaitReason;
use crate::backoff::Backoff;
use crate::failure::FailureKind;
use crate::reply::{Hint, HintSource};
use crate::seed::Purpose;
use crate::upstream::budget::Price;

/// A retry as it is counted (B5): its number among those of its kind, and the purpose of its draws.
#[derive(Clone, Copy)]
struct Count {
    number: u16,
    purpose: Purpose,
}

impl Step<'_> {
    /// Waits for the next retry, or fails if a limit forbids it: P2, from the deadline on. The price tells whether the
    /// retry follows a throttle.
    pub(super) fn retry_or_fail(&mut self, price: Price, hint: Option<Hint>) {
        // F1: the deadline changes the kind only where the attempt would have been retried.
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        let Some(count) = self.next_retry(price) else {
            return self.fail(FailureKind::Exhausted);
        };
        let policy = &self.upstream.policy;
        let growth = match (price, &policy.throttle_backoff) {
            (Price::Throttle, Some(growth)) => growth,
            _ => &policy.backoff,
        };
        let backoff = Backoff::before_retry(count.number, growth, policy, count.purpose, self.machine.seed);
        self.explanation.backoff = Some(backoff);
        self.explanation.hint = hint;
        let draw = (count.purpose, u32::from(count.number));
        let mut own = (self.now.after(backoff.wait), WaitReason::Backoff);
        match hint {
            // H11: exactly then.
            Some(hint) if hint.source() == HintSource::Pushback => {
                own = (self.now.after(hint.nanos()), WaitReason::Hint(HintSource::Pushback));
            }
            // L2: a throttle's hint decides, any other where it is longer than the back-off.
            Some(hint) if hint.nanos() > 0 => {
                let end = self.now.after(hint.nanos()).after(self.draw(draw, self.hint_spread()));
                if price == Price::Throttle || end > own.0 {
                    own = (end, WaitReason::Hint(hint.source()));
                }
            }
            // L2: a hint of zero does not say how long to wait.
            _ => {}
        }
        self.wait_or_fail(own, draw, Some(price));
    }

    /// Returns the count of the retry that comes next, or `None` if the limit is reached (B3, B5).
    fn next_retry(&self, price: Price) -> Option<Count> {
        let machine = &*self.machine;
        let policy = &self.upstream.policy;
        let all = machine.retries();
        let throttled = u32::from(machine.throttled_retries);
        let (counted, limit, purpose) = match (policy.throttle_retries, price) {
            (None, _) => (all, policy.max_retries, Purpose::Retry),
            (Some(_), Price::Retry) => (all.saturating_sub(throttled), policy.max_retries, Purpose::Retry),
            (Some(limit), Price::Throttle) => (throttled, limit, Purpose::ThrottledRetry),
        };
        // D17: the request's own limit bounds both counts together.
        let is_left = counted < u32::from(limit) && machine.limits.allow_retry(all);
        let number = u16::try_from(counted).ok()?.checked_add(1)?;
        is_left.then_some(Count { number, purpose })
    }
}
