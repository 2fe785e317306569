//! After an attempt: the guide's table, and the checks of P2.

use super::{Flags, Step};
use crate::action::{Action, News, WaitReason};
use crate::backoff::Backoff;
use crate::event::TransportError;
use crate::failure::{Cause, FailureKind};
use crate::reply::{Hint, Reply};
use crate::seed::Purpose;
use crate::upstream::breaker::Health;

impl Step<'_> {
    pub(super) fn answered(&mut self, reply: &Reply) -> Action {
        let status = reply.status();
        self.because.news = News::Status(status);
        self.because.rejected = reply.rejected();
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.flags.set(Flags::HAS_STATUS, true);
        self.machine.status = status;
        self.machine.cause = Some(Cause::Status);
        self.hear(reply);
        self.record(self.health(status), self.machine.attempts);
        self.refund(reply);
        match status {
            200..=399 => self.done(self.machine.attempts, status),
            401 => self.unauthorized(reply),
            _ => self.retry(self.verdict_on_status(status), reply.hint()),
        }
    }

    pub(super) fn broke(&mut self, error: TransportError) -> Action {
        self.because.news = News::Transport(error);
        self.machine.flags.set(Flags::UNANSWERED, false);
        self.machine.cause = Some(match error {
            TransportError::NotSent => Cause::NotSent,
            TransportError::TimedOut => Cause::TimedOut,
            TransportError::Broken => Cause::Broken,
            TransportError::Other => Cause::Other,
        });
        self.record(Health::Bad, self.machine.attempts);
        // D13, D14; P2: in flight at its limit it is ambiguous, whatever then came of it.
        let over = self.machine.limit(self.upstream).is_some_and(|limit| self.now >= limit);
        let verdict = match (error, self.machine.flags.has(Flags::UNSAFE)) {
            (TransportError::NotSent, _) | (_, false) => None,
            (TransportError::Other, true) if !over => Some(FailureKind::Transport),
            (_, true) => Some(FailureKind::Ambiguous),
        };
        self.retry(verdict, None)
    }

    /// The guide's table: why a status is not retried, if it is not (D2–D11, D14).
    pub(super) fn verdict_on_status(&self, status: u16) -> Option<FailureKind> {
        let policy = &self.upstream.policy;
        if policy.retries(status) {
            let server_error = (500..=599).contains(&status) && status != 503;
            let ambiguous = policy.ambiguous_5xx && server_error && self.machine.flags.has(Flags::UNSAFE);
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

    /// P2, after a failed attempt.
    pub(super) fn retry(&mut self, verdict: Option<FailureKind>, hint: Option<Hint>) -> Action {
        // F1: the deadline changes the kind only of what would have been retried.
        if let Some(kind) = verdict {
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
        self.because.backoff = Some(backoff);
        self.because.hint = hint;
        let throttled = self.because.news == News::Status(429);
        let mut own = (self.now.after(backoff.wait), WaitReason::Backoff);
        // L2: a hint of zero says nothing about how long.
        if let Some(hint) = hint.filter(|hint| hint.nanos() > 0) {
            let end = self.now.after(hint.nanos()).after(self.draw((Purpose::Retry, retry), self.hint_spread()));
            if throttled || end > own.0 {
                own = (end, WaitReason::Hint(hint.source()));
            }
        }
        self.wait(own, (Purpose::Retry, retry), Some(throttled))
    }
}
