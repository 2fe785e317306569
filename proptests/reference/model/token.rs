//! Token refresh: after a 401, and ahead of expiry (K1 to K10).

use super::super::reading::{Facts, Pushback};
use super::Model;
use super::action::{Action, Reason};
use super::decide::{Cause, Turn};
use super::event::Outcome;
use super::login::Token;
use super::meaning::{Class, Taken};
use super::request::{Need, Request, State};
use super::settings::YoungToken;
use super::span::{after, from_ms};

impl Model {
    /// D3, D12, K1 to K10: a 401, or a verdict that says the same, for the attempt in flight.
    pub(super) fn on_unauthorized(&mut self, r: &mut Request, facts: &Facts, taken: &Taken) -> Action {
        let (now, margin) = (self.now, self.settings.refresh_margin);
        // D15: a verdict is above the codes.
        let insufficient = facts.insufficient.filter(|_| !taken.has_verdict);
        let revoked = facts.revoked && !taken.has_verdict;
        // D12: the scope or claims, else what else was said.
        r.challenge = facts.insufficient.or(facts.revoked.then_some("token_revoked")).or(facts.challenge);

        let login = self.upstream.login(r.login, &self.settings);
        let Some(token) = &mut login.token else {
            self.rule("K9: a login without a token");
            return self.fail(r, "unauthorized");
        };
        if revoked || (insufficient.is_some() && !self.settings.refresh_on_insufficient) {
            self.rule("D12");
            return self.fail(r, "unauthorized");
        }
        let is_current = is_sent_with(r, token);
        if is_current && insufficient.is_none() && token.is_young(now, margin) {
            match self.settings.young_token {
                YoungToken::Refresh => {}
                YoungToken::Surface => {
                    self.rule("K10: surface");
                    return self.fail(r, "unauthorized");
                }
                YoungToken::Retry => {
                    self.rule("K10: retry");
                    return self.retry_young(r, facts, taken);
                }
            }
        }
        token.got_401 |= is_current; // K3
        let rejected = token.rejected;
        if r.recoveries >= self.settings.max_token_recoveries {
            self.rule("K2");
            return self.fail(r, "unauthorized");
        }
        if r.past_deadline(now) {
            self.rule("P2 F1");
            return self.fail(r, "deadline");
        }
        r.recoveries += 1; // K2: by leading, following or K4
        if !is_current {
            self.rule("K4");
            return self.try_send(r, Turn::None);
        }
        if rejected {
            self.rule("K6");
            return self.fail(r, "token_rejected");
        }
        self.lead_or_follow(r, Need::Recovery, 0)
    }

    /// K10: like a status of the meaning *retry*, with its hints.
    fn retry_young(&mut self, r: &mut Request, facts: &Facts, taken: &Taken) -> Action {
        let hint = match facts.pushback.filter(|_| !matches!(taken.hint, Some((_, Reason::Told)))) {
            None => taken.hint,
            Some(Pushback::After(ms)) => Some((from_ms(ms), Reason::Pushback)),
            Some(Pushback::Stop) => {
                self.rule("H11: a pushback stops it");
                self.charge_failure(r, false, taken.hint);
                return self.fail(r, "unauthorized");
            }
        };
        r.last_hint = hint.map(|(wait, _)| after(self.now, wait));
        if let Some((wait, reason)) = hint.filter(|(wait, _)| *wait > 0) {
            r.raise_not_before(after(self.now, wait), reason); // L1
        }
        self.retry_or_fail(r, Cause::Reply(Class::Retry), hint)
    }

    /// P1: returns the action of a request that cannot be sent with the token, or is not yet to be.
    pub(super) fn look_at_token(&mut self, r: &mut Request) -> Option<Action> {
        let (now, margin) = (self.now, self.settings.refresh_margin);
        let login = self.upstream.login(r.login, &self.settings);
        let token = login.token.as_ref()?; // K9
        if token.rejected {
            self.rule("P1 K6: rejected sticks");
            return Some(self.fail(r, "token_rejected"));
        }
        let has_expired = token.has_expired(now) && !r.skip_expiry;
        if login.open_lease(now).is_some() {
            if token.got_401 {
                self.rule("P1 K3: a 401 has come for the old token");
                return Some(self.lead_or_follow(r, Need::Shared, 0));
            }
            if has_expired {
                self.rule("P1 K3: the old token has expired");
                return Some(self.lead_or_follow(r, Need::Ahead, 0));
            }
            self.rule("P1 K3: the old token is alive");
            return None;
        }
        if r.skip_expiry || (r.uses_old_token && !has_expired) || !token.is_due(now, margin) {
            return None;
        }
        if !has_expired && token.is_left_alone(now) {
            self.rule("K7: half of the time has not passed");
            return None;
        }
        self.rule("P1 K7");
        Some(self.lead_or_follow(r, Need::Ahead, 0))
    }

    /// K3: follows the leader if there is one, else leads. `waits` counts the leases followed for this need.
    pub(super) fn lead_or_follow(&mut self, r: &mut Request, need: Need, waits: u32) -> Action {
        let login = self.upstream.login(r.login, &self.settings);
        if let Some(lease) = login.open_lease(self.now) {
            if waits == 3 {
                self.rule("K8 F5: a fourth wait is not begun");
                return self.go_on_without_refresh(r, need);
            }
            self.rule("K3 K8: follow");
            r.state = State::Following { lease, need, waits: waits + 1 };
            return self.pending_action(r);
        }
        if self.now < login.throttled_until(self.settings.max_server_wait) {
            self.rule("K6: no new lease yet");
            return self.go_on_without_refresh(r, need);
        }
        let until = after(self.now, self.settings.refresh_timeout);
        let lease = login.lead(until);
        let generation = login.leases[lease].generation;
        self.rule("K3 K5: lead");
        r.state = State::Leading { lease, need };
        // D12: the word of the 401 that it answers.
        let challenge = r.challenge.filter(|_| need == Need::Recovery);
        Action::RefreshToken { until, lease: lease as u64 + 1, generation, challenge }
    }

    /// K7, F5: uses the old token while it is valid, else fails.
    fn go_on_without_refresh(&mut self, r: &mut Request, need: Need) -> Action {
        let login = self.upstream.login(r.login, &self.settings);
        let is_valid = login.token.as_ref().is_some_and(|token| !token.has_expired(self.now));
        if need == Need::Ahead && is_valid {
            r.uses_old_token = true;
            self.rule("K7 F5: the old token is used");
            return self.try_send(r, Turn::None);
        }
        self.rule("K5 K6 K8");
        self.fail(r, "token_unavailable")
    }

    /// K8: a tick of a leader, or of a follower with its number of waits, looks at the login first.
    pub(super) fn look_at_login(&mut self, r: &mut Request, lease: usize, need: Need, waits: Option<u32>) -> Action {
        let login = self.upstream.login(r.login, &self.settings);
        let Some(token) = login.token.as_ref().filter(|token| !token.rejected) else {
            self.rule("K6 K9: no token to wait for");
            return self.fail(r, "token_rejected");
        };
        if token.generation != login.leases[lease].generation {
            self.rule("K6 K8 F5: there is a newer token");
            r.skip_expiry = need == Need::Ahead; // K7, F5
            r.uses_old_token = false;
            return self.try_send(r, Turn::None);
        }
        let outcome = login.outcome_since(lease);
        let is_open = outcome.is_none() && login.open_lease(self.now) == Some(lease);
        match (outcome, waits) {
            (Some(Outcome::Refreshed { .. } | Outcome::Rejected), _) => unreachable!("the token shows these"),
            (Some(Outcome::Unavailable { .. }), _) => {
                self.rule("K6: unavailable");
                return self.go_on_without_refresh(r, need);
            }
            (Some(Outcome::Abandoned), None) => {
                self.rule("K6: abandoned, the leader");
                return self.go_on_without_refresh(r, need);
            }
            (Some(Outcome::Abandoned), Some(_)) => self.rule("K6: abandoned"),
            (None, _) => {}
        }
        if r.past_deadline(self.now) {
            self.rule("K8: its deadline");
            return self.fail(r, "deadline");
        }
        if is_open {
            return self.pending_action(r);
        }
        self.rule("K5 K8: the end of the lease");
        match waits {
            None => self.go_on_without_refresh(r, need),
            Some(waits) => self.lead_or_follow(r, need, waits),
        }
    }
}

/// K4: returns whether the attempt in flight was sent with this token.
fn is_sent_with(r: &Request, token: &Token) -> bool {
    r.attempts.last().is_some_and(|attempt| attempt.generation == Some(token.generation))
}
