//! The token: leading a refresh, and following one (K1–K8).

use super::wait::Turn;
use super::{Flags, Phase, Step};
use crate::action::Trigger;
use crate::event::{Event, RefreshOutcome};
use crate::failure::FailureKind;
use crate::reply::{Reply, Verdict};
use crate::time::nanos;
use crate::upstream::token::{self, LeaseStatus};

/// K8: the greatest number of leases that a request waits for.
const MAX_FOLLOWS: u8 = 3;

impl Step<'_> {
    /// Handles a 401 for the attempt in flight (D3, D12, K1–K4).
    pub(super) fn on_unauthorized(&mut self, reply: &Reply) {
        if self.refresh_is_useless(reply) || self.machine.recoveries >= self.upstream.policy.max_token_recoveries {
            return self.fail(FailureKind::Unauthorized);
        }
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        self.machine.recoveries += 1;
        // K4: the attempt was sent with an older token.
        if self.upstream.token.is_newer_than(self.machine.token_epoch) {
            return self.try_send(Turn::None);
        }
        if self.upstream.token.is_rejected() {
            return self.fail(FailureKind::TokenRejected);
        }
        self.machine.flags.set(Flags::EARLY, false);
        self.lead_or_follow(0);
    }

    /// Returns whether challenge or code say that a new token would be refused as this one was (D12). The verdict *token
    /// expired* says otherwise (D15).
    fn refresh_is_useless(&self, reply: &Reply) -> bool {
        if reply.verdict() == Some(Verdict::TokenExpired) {
            return false;
        }
        let is_insufficient = reply.lacking().is_some() && !self.upstream.policy.refresh_on_insufficient;
        is_insufficient || reply.is_token_revoked()
    }

    /// Leads the refresh or follows the one under way (K3). The request has already waited for `waits` leases.
    pub(super) fn lead_or_follow(&mut self, waits: u8) {
        match self.upstream.token.take_turn(self.now, self.upstream.policy.refresh_timeout) {
            token::Turn::Lead { lease, until } => {
                self.machine.flags.set(Flags::HOLDS_LEASE, true);
                self.machine.token_epoch = lease;
                self.machine.until = until;
                self.machine.phase = Phase::Leading;
                self.is_new = true;
            }
            token::Turn::Follow { lease, until } if waits < MAX_FOLLOWS => {
                self.machine.flags.set(Flags::HOLDS_LEASE, false);
                self.machine.token_epoch = lease;
                self.machine.until = until;
                self.machine.phase = Phase::Following(waits + 1);
            }
            token::Turn::Follow { .. } | token::Turn::Throttled => self.go_on_without_refresh(),
        }
    }

    /// Handles the outcome of the refresh that this request leads.
    pub(super) fn on_refreshed(&mut self, outcome: RefreshOutcome) {
        let counted = self.report_outcome(outcome);
        match outcome {
            // F5: the user may have replaced the token.
            _ if self.upstream.token.is_newer_than(self.machine.token_epoch) => self.use_new_token(),
            RefreshOutcome::Rejected if counted => self.fail(FailureKind::TokenRejected),
            RefreshOutcome::Unavailable { .. } if counted => self.go_on_without_refresh(),
            // F5: an outcome that does not count acts as a tick.
            _ => self.on_leader_tick(),
        }
    }

    /// Handles an outcome while this request does not lead. F5: an outcome that does not count acts as a tick.
    pub(super) fn on_late_outcome(&mut self, outcome: RefreshOutcome) {
        if !self.report_outcome(outcome) {
            self.transition(Event::Tick);
        }
    }

    /// Handles a tick while this request leads.
    pub(super) fn on_leader_tick(&mut self) {
        if self.is_past_deadline() {
            self.fail(FailureKind::Deadline);
        } else if self.now < self.machine.until {
            // The refresh is still under way.
        } else if self.upstream.token.is_newer_than(self.machine.token_epoch) {
            self.use_new_token();
        } else {
            self.go_on_without_refresh();
        }
    }

    /// Handles a tick while this request follows. K8: the token is checked first.
    pub(super) fn on_follower_tick(&mut self, waits: u8) {
        match self.upstream.token.lease_status(self.machine.token_epoch, self.now) {
            LeaseStatus::NewToken => self.use_new_token(),
            LeaseStatus::Rejected => self.fail(FailureKind::TokenRejected),
            LeaseStatus::Unavailable => self.go_on_without_refresh(),
            LeaseStatus::UnderWay { .. } | LeaseStatus::Abandoned if self.is_past_deadline() => {
                self.fail(FailureKind::Deadline);
            }
            // T7: the lease may have been stored at another time than its follower.
            LeaseStatus::UnderWay { until } => self.machine.until = until,
            LeaseStatus::Abandoned => self.lead_or_follow(waits),
        }
    }

    /// Sends with the new token. F5: after a refresh ahead of expiry that send does not check the expiry.
    fn use_new_token(&mut self) {
        self.explanation.trigger = Trigger::NewToken;
        self.machine.flags.set(Flags::TOKEN_SETTLED, self.machine.flags.has(Flags::EARLY));
        self.try_send(Turn::None);
    }

    /// Goes on with the current token if the refresh was ahead of expiry and the token may still be valid (K7), else
    /// fails.
    fn go_on_without_refresh(&mut self) {
        if self.upstream.token.is_rejected() {
            // K6: another lease of this generation was rejected.
            self.fail(FailureKind::TokenRejected);
        } else if self.machine.flags.has(Flags::EARLY) && self.upstream.token.is_valid(self.now) {
            self.explanation.trigger = Trigger::TokenKept;
            self.machine.flags.set(Flags::TOKEN_SETTLED, true);
            self.try_send(Turn::None);
        } else {
            self.fail(FailureKind::TokenUnavailable);
        }
    }

    /// Reports the outcome to the token if this request holds the newest lease (K5). Returns whether it counted.
    #[must_use]
    fn report_outcome(&mut self, outcome: RefreshOutcome) -> bool {
        let machine = &mut *self.machine;
        let token = &mut self.upstream.token;
        if !machine.flags.has(Flags::HOLDS_LEASE) || !token.is_current(machine.token_epoch) {
            return false;
        }
        machine.flags.set(Flags::HOLDS_LEASE, false);
        match outcome {
            RefreshOutcome::Refreshed { expires_in } => {
                token.install(self.now, expires_in.map(nanos), self.upstream.policy.refresh_margin);
            }
            RefreshOutcome::Rejected => token.record_rejected(),
            RefreshOutcome::Unavailable { retry_after } => {
                token.record_unavailable(self.now.after(retry_after.map_or(0, nanos)));
            }
        }
        true
    }
}
