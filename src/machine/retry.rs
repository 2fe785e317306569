//! After a failed attempt: whether a retry is granted (P2).

use super::{Flags, Step};
use crate::action::{Trigger, WaitReason};
use crate::backoff::Backoff;
use crate::failure::FailureKind;
use crate::reply::Hint;
use crate::seed::Purpose;

impl Step<'_> {
    /// Returns the kind of failure, if this status is not retried (D2–D11, D14).
    pub(super) fn classify_status(&self, status: u16) -> Option<FailureKind> {
        let policy = &self.upstream.policy;
        if policy.retries(status) {
            let server_error = (500..=599).contains(&status) && status != 503;
            let ambiguous = policy.ambiguous_5xx && server_error && self.machine.flags.has(Flags::NON_IDEMPOTENT);
            return ambiguous.then_some(FailureKind::Ambiguous);
        }
        Some(match status {
            400 => FailureKind::BadRequest,
            403 => FailureKind::Forbidden,
            404 => FailureKind::NotFound,
            409 => FailureKind::Conflict,
            422 => FailureKind::Validation,
            _ => FailureKind::UnexpectedStatus,
        })
    }

    /// Waits for a retry or fails (P2). `refused` is the kind of a failure that is not retried.
    pub(super) fn retry_or_fail(&mut self, refused: Option<FailureKind>, hint: Option<Hint>) {
        // F1: the deadline changes only the kind of a failure that would have been retried.
        if let Some(kind) = refused {
            return self.fail(kind);
        }
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        // Attempts are 1 + retries + recoveries (K2), so this is the number of the next retry.
        let retry = self.machine.attempts.saturating_sub(u32::from(self.machine.recoveries));
        if retry > self.upstream.policy.max_retries || self.machine.attempts == u32::MAX {
            return self.fail(FailureKind::Exhausted);
        }
        let backoff = Backoff::before_retry(retry, &self.upstream.policy, self.machine.seed);
        self.explanation.backoff = Some(backoff);
        self.explanation.hint = hint;
        let throttled = self.explanation.trigger == Trigger::Status(429);
        let mut own = (self.now.after(backoff.wait), WaitReason::Backoff);
        // L2: a hint of zero does not say how long to wait.
        if let Some(hint) = hint.filter(|hint| hint.nanos() > 0) {
            let end = self.now.after(hint.nanos()).after(self.draw((Purpose::Retry, retry), self.hint_spread()));
            if throttled || end > own.0 {
                own = (end, WaitReason::Hint(hint.source()));
            }
        }
        self.wait_or_fail(own, (Purpose::Retry, retry), Some(throttled));
    }
}
