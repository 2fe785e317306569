//! After a failed attempt that may be repeated: whether a retry is granted (P2).

use super::wait::{Held, Own, Retry};
use super::{Flags, Step};
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
    /// Whether the limits leave it.
    is_left: bool,
}

impl Step<'_> {
    /// Waits for the next retry, or fails if a limit forbids it: P2, from the deadline on. `kind` tells whether the retry
    /// follows a throttle.
    pub(super) fn retry_or_fail(&mut self, kind: Price, hint: Option<Hint>) {
        // F1: the deadline changes the kind only where the attempt would have been retried.
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        let count = self.count(kind);
        if !count.is_left {
            return self.fail(FailureKind::Exhausted);
        }
        let backoff = self.backoff_of(kind, count);
        (self.backoff, self.hint) = (Some(backoff), hint);
        let mut own = Own { end: self.now.after(backoff.wait), jitter: 0, reason: WaitReason::Backoff };
        match hint {
            // H11: exactly then.
            Some(hint) if hint.source() == HintSource::Pushback => {
                own = Own { end: self.now.after(hint.nanos()), jitter: 0, reason: WaitReason::Hint(hint.source()) };
            }
            // L2: a throttle's hint decides, any other where it is longer than the back-off.
            Some(hint) if hint.nanos() > 0 => {
                let end = self.now.after(hint.nanos());
                let jitter = self.draw((count.purpose, count.number.into()), self.hint_spread());
                if kind == Price::Throttle || end.after(jitter) > own.end {
                    own = Own { end, jitter, reason: WaitReason::Hint(hint.source()) };
                }
            }
            // L2: a hint of zero does not say how long to wait.
            _ => {}
        }
        let held = if !self.gate.is_closed(self.now) {
            Held::No
        } else if self.closed_gate || self.machine.flags.has(Flags::QUEUED) {
            Held::AsHead
        } else {
            Held::InQueue
        };
        self.wait_or_fail(own, held, Some(Retry { kind, price: self.price(kind, hint) }));
    }

    /// Returns the back-off of the retry that would come next, whether one is left or not.
    pub(super) fn backoff(&self, kind: Price) -> Backoff {
        self.backoff_of(kind, self.count(kind))
    }

    fn backoff_of(&self, kind: Price, Count { number, purpose, .. }: Count) -> Backoff {
        let policy = &self.service.policy;
        let growth = match (kind, &policy.throttle_backoff) {
            (Price::Throttle, Some(growth)) => growth,
            _ => &policy.backoff,
        };
        Backoff::before_retry(number, growth, policy, purpose, self.machine.seed)
    }

    /// Returns the price of a retry, or `None` where something else bounds it (C2): the gate, which was closed already
    /// when the throttle came, or a count of the throttles with a hint.
    pub(super) fn price(&self, kind: Price, hint: Option<Hint>) -> Option<Price> {
        let is_counted = self.service.policy.throttle_retries.is_some() && hint.is_some_and(|hint| hint.nanos() > 0);
        let is_free = kind == Price::Throttle && (self.was_closed || is_counted);
        (!is_free).then_some(kind)
    }

    /// Returns the count of the retry that comes next (B3, B5).
    fn count(&self, kind: Price) -> Count {
        let machine = &*self.machine;
        let policy = &self.service.policy;
        let all = machine.retries();
        let throttled = u32::from(machine.throttled_retries);
        let (counted, limit, purpose) = match (policy.throttle_retries, kind) {
            (None, _) => (all, policy.max_retries, Purpose::Retry),
            (Some(_), Price::Retry) => (all.saturating_sub(throttled), policy.max_retries, Purpose::Retry),
            (Some(limit), Price::Throttle) => (throttled, limit, Purpose::ThrottledRetry),
        };
        // D17: the request's own limit bounds both counts together.
        let is_left = counted < u32::from(limit) && machine.limits.allow_retry(all);
        Count { number: u16::try_from(counted).unwrap_or(u16::MAX).saturating_add(1), purpose, is_left }
    }
}
