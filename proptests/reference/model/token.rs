//! The token: after a 401, and before one (K1 to K8).

use super::Model;
use super::action::Action;
use super::event::Outcome;
use super::request::{Need, Request, State};
use super::span::after;
use super::upstream::Lease;

impl Model {
    pub(super) fn unauthorized(&mut self, r: &mut Request, careful: bool) -> Action {
        r.cause = Some("status");
        if careful || r.recoveries >= self.setting.max_token_recoveries {
            self.rule("D12 K2");
            return self.surface(r, "unauthorized");
        }
        if r.past_deadline(self.now) {
            self.rule("P2 F1");
            return self.surface(r, "deadline");
        }
        r.recoveries += 1; // K2: by leading, following or K4
        if r.attempts.last().is_some_and(|a| a.generation < self.upstream.generation) {
            self.rule("K4");
            return self.before_send(r);
        }
        if self.upstream.rejected {
            self.rule("K6");
            return self.surface(r, "token_rejected");
        }
        self.obtain_token(r, Need::Recovery, 0)
    }

    /// K3: follow whoever leads, else lead. `waits` is how often it has followed for this need.
    pub(super) fn obtain_token(&mut self, r: &mut Request, need: Need, waits: u32) -> Action {
        if let Some(lease) = self.upstream.active_lease(self.now) {
            if waits == 3 {
                self.rule("K8 F5: a fourth wait is not begun");
                return self.no_token(r, need);
            }
            self.rule("K3 K8: follow");
            r.state = State::Following { lease, need, waits: waits + 1 };
            return self.same(r);
        }
        if self.now < self.upstream.throttled_until {
            self.rule("K6: no new lease yet");
            return self.no_token(r, need);
        }
        self.rule("K3 K5: lead");
        let end = after(self.now, self.setting.refresh_timeout);
        let lease = self.upstream.leases.len();
        let generation = self.upstream.generation;
        self.upstream.leases.push(Lease { holder: r.id, end, generation, outcome: None, freed: false });
        r.state = State::Leading { lease, need };
        Action::RefreshToken { until: end }
    }

    /// K7, F5: the old token while it is valid, else surfaced.
    pub(super) fn no_token(&mut self, r: &mut Request, need: Need) -> Action {
        let valid = self.upstream.expiry.is_none_or(|e| self.now < e.at);
        if need == Need::Proactive && valid {
            self.rule("K7 F5: the old token is used");
            r.skip_expiry = true;
            return self.before_send(r);
        }
        self.rule("K5 K6 K8");
        self.surface(r, "token_unavailable")
    }

    /// A leader whose lease has ended without an outcome that counts.
    pub(super) fn lead_over(&mut self, r: &mut Request, lease: usize, need: Need) -> Action {
        if self.upstream.leases[lease].generation != self.upstream.generation {
            self.rule("F5: there is a newer token");
            r.skip_expiry = need == Need::Proactive;
            return self.before_send(r);
        }
        if self.upstream.rejected {
            return self.surface(r, "token_rejected");
        }
        self.no_token(r, need)
    }

    /// K8: a follower's tick looks at the upstream first.
    pub(super) fn follow(&mut self, r: &mut Request, lease: usize, need: Need, waits: u32) -> Action {
        let followed = &self.upstream.leases[lease];
        if followed.generation != self.upstream.generation {
            self.rule("K6 K8: there is a newer token");
            r.skip_expiry = need == Need::Proactive; // K7
            return self.before_send(r);
        }
        if self.upstream.rejected {
            self.rule("K6: shared outcome");
            return self.surface(r, "token_rejected");
        }
        // S5: an upstream of constant size remembers the newest run of failures, so one that looks
        // when a later lease has come to nothing, and one after that has failed, finds it forgotten.
        let failed = |lease: &Lease| matches!(lease.outcome, Some(Outcome::Unavailable { .. }));
        let newest = self.upstream.leases.iter().rposition(failed);
        let is_remembered =
            newest.is_some_and(|newest| lease <= newest && self.upstream.leases[lease..=newest].iter().all(failed));
        if is_remembered {
            self.rule("K6: shared outcome");
            return self.no_token(r, need);
        }
        if r.past_deadline(self.now) {
            self.rule("K8: its deadline");
            return self.surface(r, "deadline");
        }
        if self.upstream.active_lease(self.now) == Some(lease) {
            return self.same(r);
        }
        self.rule("K5: the lease is over, the next that ticks leads");
        self.obtain_token(r, need, waits)
    }
}
