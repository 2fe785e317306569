//! Token refresh: after a 401, and ahead of expiry (K1 to K8).

use super::super::reading::Facts;
use super::Model;
use super::action::Action;
use super::decide::Turn;
use super::event::Outcome;
use super::request::{Need, Request, State};
use super::span::after;
use super::upstream::Lease;

impl Model {
    /// `expired`: a verdict says so, which is above the codes (D15).
    pub(super) fn on_unauthorized(&mut self, r: &mut Request, facts: &Facts, expired: bool) -> Action {
        let insufficient_is_useless = facts.insufficient.is_some() && !self.settings.refresh_on_insufficient;
        let refresh_is_useless = !expired && (facts.revoked || insufficient_is_useless);
        // D12: the scope or claims, else what else was said.
        r.challenge = facts.insufficient.or(facts.revoked.then_some("token_revoked")).or(facts.challenge);

        if refresh_is_useless || r.recoveries >= self.settings.max_token_recoveries {
            self.rule("D12 K2");
            return self.fail(r, "unauthorized");
        }
        if r.past_deadline(self.now) {
            self.rule("P2 F1");
            return self.fail(r, "deadline");
        }
        r.recoveries += 1; // K2: by leading, following or K4
        if r.attempts.last().is_some_and(|a| a.generation < self.upstream.generation) {
            self.rule("K4");
            return self.try_send(r, Turn::None);
        }
        if self.upstream.rejected {
            self.rule("K6");
            return self.fail(r, "token_rejected");
        }
        self.lead_or_follow(r, Need::Recovery, 0)
    }

    /// K3: follows the leader if there is one, else leads. `waits` counts the leases followed for this need.
    pub(super) fn lead_or_follow(&mut self, r: &mut Request, need: Need, waits: u32) -> Action {
        if let Some(lease) = self.upstream.active_lease(self.now) {
            if waits == 3 {
                self.rule("K8 F5: a fourth wait is not begun");
                return self.go_on_without_refresh(r, need);
            }
            self.rule("K3 K8: follow");
            r.state = State::Following { lease, need, waits: waits + 1 };
            return self.pending_action(r);
        }
        if self.now < self.upstream.throttled_until {
            self.rule("K6: no new lease yet");
            return self.go_on_without_refresh(r, need);
        }
        self.rule("K3 K5: lead");
        let end = after(self.now, self.settings.refresh_timeout);
        let lease = self.upstream.leases.len();
        let generation = self.upstream.generation;
        self.upstream.leases.push(Lease { holder: r.id, end, generation, outcome: None, freed: false });
        r.state = State::Leading { lease, need };
        let challenge = r.challenge.filter(|_| need == Need::Recovery);
        Action::RefreshToken { until: end, challenge }
    }

    /// K7, F5: uses the old token while it is valid, else fails.
    pub(super) fn go_on_without_refresh(&mut self, r: &mut Request, need: Need) -> Action {
        let valid = self.upstream.expiry.is_none_or(|e| self.now < e.at);
        if need == Need::Proactive && valid {
            self.rule("K7 F5: the old token is used");
            r.skip_expiry = true;
            return self.try_send(r, Turn::None);
        }
        self.rule("K5 K6 K8");
        self.fail(r, "token_unavailable")
    }

    /// Continues a leader whose lease has ended without an outcome that counts.
    pub(super) fn on_lease_end(&mut self, r: &mut Request, lease: usize, need: Need) -> Action {
        if self.upstream.leases[lease].generation != self.upstream.generation {
            self.rule("F5: there is a newer token");
            r.skip_expiry = need == Need::Proactive;
            return self.try_send(r, Turn::None);
        }
        if self.upstream.rejected {
            return self.fail(r, "token_rejected");
        }
        self.go_on_without_refresh(r, need)
    }

    /// K8: a follower's tick looks at the upstream first.
    pub(super) fn on_follower_tick(&mut self, r: &mut Request, lease: usize, need: Need, waits: u32) -> Action {
        let followed = &self.upstream.leases[lease];
        if followed.generation != self.upstream.generation {
            self.rule("K6 K8: there is a newer token");
            r.skip_expiry = need == Need::Proactive; // K7
            return self.try_send(r, Turn::None);
        }
        if self.upstream.rejected {
            self.rule("K6: shared outcome");
            return self.fail(r, "token_rejected");
        }
        // S5: an upstream of constant size remembers only the newest run of failures. A lease that ended without
        // an outcome ends the run, so a follower of an earlier lease no longer finds its failure.
        let failed = |lease: &Lease| matches!(lease.outcome, Some(Outcome::Unavailable { .. }));
        let newest = self.upstream.leases.iter().rposition(failed);
        let is_remembered =
            newest.is_some_and(|newest| lease <= newest && self.upstream.leases[lease..=newest].iter().all(failed));
        if is_remembered {
            self.rule("K6: shared outcome");
            return self.go_on_without_refresh(r, need);
        }
        if r.past_deadline(self.now) {
            self.rule("K8: its deadline");
            return self.fail(r, "deadline");
        }
        if self.upstream.active_lease(self.now) == Some(lease) {
            return self.pending_action(r);
        }
        self.rule("K5: the lease is over, the next that ticks leads");
        self.lead_or_follow(r, need, waits)
    }
}
