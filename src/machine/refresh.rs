//! The token: who may send with it, leading a refresh, and following one (K1–K10).

use super::wait::Turn;
use super::{Flags, Phase, Step};
use crate::action::Trigger;
use crate::failure::FailureKind;
use crate::policy::YoungToken;
use crate::reply::{Reply, Verdict};
use crate::upstream::login::{ExpiryCheck, LeaseStatus, Role, TokenOrLease, TokenStatus};

/// K8: the greatest number of leases that a request waits for.
const MAX_FOLLOWS: u8 = 3;

impl Step<'_> {
    /// Checks the token before a send (P1). Returns whether the request can use it; else it waits for a new one, or has
    /// failed.
    pub(super) fn has_usable_token(&mut self) -> bool {
        // K9: nothing to check.
        if !self.login.has_token() {
            return true;
        }
        let check = match &self.machine.flags {
            flags if flags.has(Flags::TOKEN_SETTLED) => ExpiryCheck::Skipped,
            flags if flags.has(Flags::TOKEN_KEPT) => ExpiryCheck::WithoutMargin,
            _ => ExpiryCheck::WithMargin,
        };
        let is_early = match self.login.token_status(self.now, &self.service.policy, check) {
            TokenStatus::Usable => return true,
            TokenStatus::Rejected => {
                self.fail(FailureKind::TokenRejected);
                return false;
            }
            TokenStatus::Refused => false,
            TokenStatus::Expired | TokenStatus::Due => true,
        };
        // K3, K7: the request itself has not got a 401.
        self.machine.challenge = None;
        self.machine.flags.set(Flags::EARLY, is_early);
        self.lead_or_follow(0);
        false
    }

    /// Handles a 401 for the attempt in flight that is not retried with the same token (D3, D12, K1–K4, K9, K10).
    pub(super) fn on_unauthorized(&mut self, reply: &Reply) {
        if !self.login.has_token() || self.refresh_is_useless(reply) {
            return self.fail(FailureKind::Unauthorized);
        }
        if self.young_token(reply) == Some(YoungToken::Surface) {
            return self.fail(FailureKind::Unauthorized);
        }
        let is_outdated = !self.has_sent_current_token();
        if !is_outdated {
            self.login.note_refusal();
        }
        if self.machine.recoveries >= self.service.policy.max_token_recoveries {
            return self.fail(FailureKind::Unauthorized);
        }
        if self.is_past_deadline() {
            return self.fail(FailureKind::Deadline);
        }
        self.machine.recoveries += 1;
        if is_outdated {
            return self.try_send(Turn::None);
        }
        if self.login.is_rejected() {
            return self.fail(FailureKind::TokenRejected);
        }
        self.machine.flags.set(Flags::EARLY, false);
        self.lead_or_follow(0);
    }

    /// Returns what the policy says about this 401, if the token is young (K10).
    pub(super) fn young_token(&self, reply: &Reply) -> Option<YoungToken> {
        let policy = &self.service.policy;
        let is_current = self.login.has_token() && self.has_sent_current_token();
        let is_insufficient = reply.lacking().is_some() && reply.verdict() != Some(Verdict::TokenExpired);
        // D12: the switch is about scopes and claims, which the token's age does not change.
        let is_about_token = !is_insufficient && !self.refresh_is_useless(reply);
        (is_current && is_about_token && self.login.is_young(self.now, policy)).then_some(policy.young_token)
    }

    /// Returns whether the attempt in flight was sent with the current token, and not with an older one (K4).
    fn has_sent_current_token(&self) -> bool {
        self.machine.token_or_lease.token() == self.login.token()
    }

    /// Returns whether challenge or code say that a new token would be refused as this one was (D12). The verdict *token
    /// expired* says otherwise (D15).
    fn refresh_is_useless(&self, reply: &Reply) -> bool {
        if reply.verdict() == Some(Verdict::TokenExpired) {
            return false;
        }
        let is_insufficient = reply.lacking().is_some() && !self.service.policy.refresh_on_insufficient;
        is_insufficient || reply.is_token_revoked()
    }

    /// Leads the refresh or follows the one under way (K3). The request has already waited for `waits` leases.
    fn lead_or_follow(&mut self, waits: u8) {
        let role = self.login.take_role(self.now, &self.service.policy);
        self.machine.phase = match role {
            Role::Leads => Phase::Leading,
            Role::Follows if waits < MAX_FOLLOWS => Phase::Following(waits + 1),
            Role::Follows | Role::Refused => return self.go_on_without_refresh(),
        };
        self.machine.token_or_lease = TokenOrLease::from(self.login.lease());
        self.machine.until = self.login.lease_end();
        self.is_new = role == Role::Leads;
    }

    /// Handles a tick while this request leads.
    pub(super) fn on_leader_tick(&mut self) {
        if self.lease_status().is_some() {
            self.go_on_without_refresh();
        }
    }

    /// Handles a tick while this request follows.
    pub(super) fn on_follower_tick(&mut self, waits: u8) {
        match self.lease_status() {
            Some(LeaseStatus::Unavailable) => self.go_on_without_refresh(),
            // Nobody begins a refresh without time for it.
            Some(_) if self.is_past_deadline() => self.fail(FailureKind::Deadline),
            Some(_) => self.lead_or_follow(waits),
            _ => {}
        }
    }

    /// Does what a leader and a follower do alike, and returns the status of the lease if something is left to do. K8: the
    /// login is asked first, then the deadline.
    fn lease_status(&mut self) -> Option<LeaseStatus> {
        let status = self.login.lease_status(self.machine.token_or_lease.lease(), self.now);
        match status {
            LeaseStatus::NewToken => self.use_new_token(),
            LeaseStatus::Rejected => self.fail(FailureKind::TokenRejected),
            LeaseStatus::UnderWay { .. } | LeaseStatus::RanOut if self.is_past_deadline() => {
                self.fail(FailureKind::Deadline);
            }
            // T7: the lease may have been stored at another time than its request.
            LeaseStatus::UnderWay { until } => self.machine.until = until,
            LeaseStatus::Unavailable | LeaseStatus::Abandoned | LeaseStatus::RanOut => return Some(status),
        }
        None
    }

    /// Sends with the new token. F5: after a refresh ahead of expiry that send does not check the expiry.
    fn use_new_token(&mut self) {
        self.explanation.trigger = Trigger::NewToken;
        self.machine.flags.set(Flags::TOKEN_KEPT, false);
        self.machine.flags.set(Flags::TOKEN_SETTLED, self.machine.flags.has(Flags::EARLY));
        self.try_send(Turn::None);
    }

    /// Goes on with the current token if the refresh was ahead of expiry and the token may still be valid (K7), else
    /// fails.
    fn go_on_without_refresh(&mut self) {
        if self.machine.flags.has(Flags::EARLY) && self.login.is_valid(self.now) {
            self.explanation.trigger = Trigger::TokenKept;
            self.machine.flags.set(Flags::TOKEN_KEPT, true);
            self.try_send(Turn::None);
        } else {
            self.fail(FailureKind::TokenUnavailable);
        }
    }
}
