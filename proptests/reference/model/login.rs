//! The state that the requests of one login share: its token and its leases (K3 to K10).

use super::event::Outcome;
use super::settings::Settings;
use super::span::{Ns, after};

#[derive(Clone, Debug)]
pub struct Login {
    /// K9: a login can be without one.
    pub token: Option<Token>,
    /// Every lease, oldest first. K5: the first has the number 1.
    pub leases: Vec<Lease>,
}

/// One generation of the token. All knowledge of it ends with it.
#[derive(Clone, Debug)]
pub struct Token {
    /// K4.
    pub generation: u64,
    /// K10: when it was brought. It is not known of a login's first token.
    pub brought: Option<Ns>,
    /// K7, if the driver reported a lifetime.
    pub expiry: Option<Expiry>,
    /// K3: a 401 has come for it.
    pub got_401: bool,
    /// K6: its refresh was rejected.
    pub rejected: bool,
    /// K6: the newest report that its refresh was unavailable.
    pub unavailable: Option<Unavailable>,
}

#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    pub at: Ns,
    pub lifetime: Ns,
}

/// K6.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable {
    pub at: Ns,
    pub retry_after: Ns,
}

/// K5.
#[derive(Clone, Debug)]
pub struct Lease {
    pub end: Ns,
    /// The generation that the refresh replaces.
    pub generation: u64,
    /// The newest outcome that counted.
    pub outcome: Option<Outcome>,
}

impl Login {
    /// F5: the first generation is 0. K7: its lifetime counts from the origin.
    pub fn new(settings: &Settings) -> Login {
        let mut login = Login { token: None, leases: Vec::new() };
        if settings.token {
            login.install(0, settings.token_expires_in);
            login.token.as_mut().expect("installed").brought = None; // K10
        }
        login
    }

    /// Installs a new token, from a refresh or from the user (K4, K6, K7, K9).
    pub fn install(&mut self, now: Ns, expires_in: Option<Ns>) {
        let lifetime = expires_in.filter(|lifetime| *lifetime > 0); // K7: zero is not a lifetime
        self.token = Some(Token {
            generation: self.token.as_ref().map_or(0, |old| old.generation + 1),
            brought: Some(now),
            expiry: lifetime.map(|lifetime| Expiry { at: after(now, lifetime), lifetime }),
            got_401: false,
            rejected: false,
            unavailable: None,
        });
    }

    /// K4.
    pub fn generation(&self) -> Option<u64> {
        self.token.as_ref().map(|token| token.generation)
    }

    /// K3: returns the lease that is open. Replacing the token ends it (F5).
    pub fn open_lease(&self, now: Ns) -> Option<usize> {
        let lease = self.leases.last()?;
        let is_open = lease.outcome.is_none() && now < lease.end && Some(lease.generation) == self.generation();
        is_open.then(|| self.leases.len() - 1)
    }

    /// K3, K5: gives a lease for the current generation.
    pub fn lead(&mut self, end: Ns) -> usize {
        let generation = self.generation().expect("only a login with a token is refreshed");
        self.leases.push(Lease { end, generation, outcome: None });
        self.leases.len() - 1
    }

    /// K5, K6: reports an outcome, of the newest lease if none is named. Returns whether it counts.
    pub fn report(&mut self, now: Ns, lease: Option<u64>, outcome: Outcome) -> bool {
        let newest = self.leases.len() as u64;
        let number = lease.unwrap_or(newest);
        let Some(token) = &mut self.token else {
            return false; // K9
        };
        if number == 0 || number > newest {
            return false; // never given
        }
        let lease = &mut self.leases[usize::try_from(number - 1).expect("a lease that was given")];
        if lease.generation != token.generation {
            return false;
        }
        let is_first_of_newest = number == newest && lease.outcome.is_none();
        if !is_first_of_newest && !matches!(outcome, Outcome::Refreshed { .. }) {
            return false;
        }
        lease.outcome = Some(outcome);
        match outcome {
            Outcome::Refreshed { expires_in } => self.install(now, expires_in),
            Outcome::Rejected => token.rejected = true,
            Outcome::Unavailable { retry_after } => {
                token.unavailable = Some(Unavailable { at: now, retry_after: retry_after.unwrap_or(0) });
            }
            Outcome::Abandoned => {}
        }
        true
    }

    /// K6: returns the newest outcome since a lease began.
    pub fn outcome_since(&self, lease: usize) -> Option<Outcome> {
        self.leases[lease..].iter().rev().find_map(|lease| lease.outcome)
    }

    /// K6: returns until when the token endpoint must be left alone.
    pub fn throttled_until(&self, longest: Ns) -> Ns {
        let unavailable = self.token.as_ref().and_then(|token| token.unavailable);
        unavailable.map_or(0, |report| after(report.at, report.retry_after.min(longest)))
    }
}

impl Token {
    pub fn has_expired(&self, now: Ns) -> bool {
        self.expiry.is_some_and(|expiry| now >= expiry.at)
    }

    /// K7, F5: returns whether `now` is strictly later than the expiry less the margin, which is at most half of the
    /// lifetime.
    pub fn is_due(&self, now: Ns, margin: Ns) -> bool {
        let is_near = self.expiry.is_some_and(|expiry| now > expiry.at - margin.min(expiry.lifetime / 2));
        is_near || self.has_expired(now)
    }

    /// K7: returns whether, after an unavailable outcome, no lease ahead of expiry is given yet.
    pub fn is_left_alone(&self, now: Ns) -> bool {
        let (Some(expiry), Some(report)) = (self.expiry, self.unavailable) else {
            return false;
        };
        now < expiry.at && now < report.at + (expiry.at - report.at) / 2
    }

    /// K10.
    pub fn is_young(&self, now: Ns, margin: Ns) -> bool {
        let margin = self.expiry.map_or(margin, |expiry| margin.min(expiry.lifetime / 2));
        self.brought.is_some_and(|brought| (now - brought).max(0) < margin)
    }
}
