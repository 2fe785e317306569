//! The token: leading a refresh, and following one (K1–K8).

use super::{Flags, Phase, Step};
use crate::action::{Action, News};
use crate::event::TokenOutcome;
use crate::failure::FailureKind;
use crate::reply::Reply;
use crate::time::nanos;
use crate::upstream::token::{Finding, Turn};

/// K8: a follower waits for three leases, then it gives up.
const MAX_FOLLOWS: u8 = 3;

impl Step<'_> {
    /// D3, D12, K1–K4: a 401 for the attempt in flight.
    pub(super) fn unauthorized(&mut self, reply: &Reply) -> Action {
        if reply.refresh_is_useless() || self.machine.recoveries >= self.upstream.policy.max_recoveries {
            return self.fail(FailureKind::Unauthorized);
        }
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        self.machine.recoveries += 1;
        // K4: it was sent with an older token.
        if self.upstream.token.is_newer_than(self.machine.stamp) {
            return self.proceed();
        }
        if self.upstream.token.is_rejected() {
            return self.fail(FailureKind::TokenRejected);
        }
        self.machine.flags.set(Flags::EARLY, false);
        self.take_turn(0)
    }

    /// K3: leads the refresh, or follows the one that does, after having followed `waits` leases in vain.
    pub(super) fn take_turn(&mut self, waits: u8) -> Action {
        let turn = self.upstream.token.take_turn(self.now, self.upstream.policy.refresh_timeout);
        match turn {
            Turn::Lead { lease, until } => {
                self.machine.flags.set(Flags::HOLDS_LEASE, true);
                self.machine.stamp = lease;
                self.machine.until = until;
                self.machine.phase = Phase::Leading;
                Action::RefreshToken { until, because: self.because() }
            }
            Turn::Follow { lease, until } if waits < MAX_FOLLOWS => {
                self.machine.flags.set(Flags::HOLDS_LEASE, false);
                self.machine.stamp = lease;
                self.machine.until = until;
                self.machine.phase = Phase::Following(waits + 1);
                self.again()
            }
            Turn::Follow { .. } | Turn::LeaveAlone => self.no_token(),
        }
    }

    /// The outcome of the refresh that this request leads.
    pub(super) fn refreshed(&mut self, outcome: TokenOutcome) -> Action {
        let settled = self.settle(outcome);
        match outcome {
            // Refreshed; or F5: the user has replaced it meanwhile.
            _ if self.upstream.token.is_newer_than(self.machine.stamp) => self.new_token(),
            TokenOutcome::Rejected if settled => self.fail(FailureKind::TokenRejected),
            TokenOutcome::Unavailable { .. } if settled => self.no_token(),
            // F5: an outcome that does not count acts as a tick.
            _ => self.lead_on(),
        }
    }

    /// A tick while this request leads.
    pub(super) fn lead_on(&mut self) -> Action {
        if self.is_past_deadline() {
            self.fail(FailureKind::Deadline)
        } else if self.now < self.machine.until {
            self.again()
        } else if self.upstream.token.is_newer_than(self.machine.stamp) {
            self.new_token()
        } else {
            self.no_token()
        }
    }

    /// A tick while this request follows: it looks at the upstream first (K8).
    pub(super) fn follow_on(&mut self, waits: u8) -> Action {
        match self.upstream.token.look(self.machine.stamp, self.now) {
            Finding::NewToken => self.new_token(),
            Finding::Rejected => self.fail(FailureKind::TokenRejected),
            Finding::Unavailable => self.no_token(),
            Finding::UnderWay { .. } | Finding::Abandoned if self.is_past_deadline() => {
                self.fail(FailureKind::Deadline)
            }
            Finding::UnderWay { until } => {
                // T7: a lease that was stored at another time than its follower ends at another time.
                self.machine.until = until;
                self.again()
            }
            Finding::Abandoned => self.take_turn(waits),
        }
    }

    /// F5: a refresh before its time is not followed by another for the same send.
    pub(super) fn new_token(&mut self) -> Action {
        self.because.news = News::NewToken;
        self.machine.flags.set(Flags::TOKEN_SETTLED, self.machine.flags.has(Flags::EARLY));
        self.proceed()
    }

    /// K7: without a new token the old one is used, if it may still be valid and no 401 has said otherwise.
    pub(super) fn no_token(&mut self) -> Action {
        if self.upstream.token.is_rejected() {
            // K6: another's refresh of the same generation was.
            self.fail(FailureKind::TokenRejected)
        } else if self.machine.flags.has(Flags::EARLY) && self.upstream.token.is_valid(self.now) {
            self.because.news = News::NoNewToken;
            self.machine.flags.set(Flags::TOKEN_SETTLED, true);
            self.proceed()
        } else {
            self.fail(FailureKind::TokenUnavailable)
        }
    }

    /// K5: tells the upstream the outcome, if this request holds the newest lease. Returns whether it counted.
    pub(super) fn settle(&mut self, outcome: TokenOutcome) -> bool {
        let machine = &mut *self.machine;
        let token = &mut self.upstream.token;
        if !machine.flags.has(Flags::HOLDS_LEASE) || !token.is_current(machine.stamp) {
            return false;
        }
        machine.flags.set(Flags::HOLDS_LEASE, false);
        match outcome {
            TokenOutcome::Refreshed { expires_in } => {
                token.install(self.now, expires_in.map(nanos), self.upstream.policy.refresh_margin);
            }
            TokenOutcome::Rejected => token.reject(),
            TokenOutcome::Unavailable { retry_after } => {
                token.fail(self.now.after(retry_after.map_or(0, nanos)));
            }
        }
        true
    }
}
