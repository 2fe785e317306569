//! The account of a round: its users' grants, the ways in which it goes wrong, and the checks at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use retry_machine::drive::{CallResult, Fresh, RefreshError};
use retry_machine::{FailureKind, Policy, RequestLimits};
use serde_json::Value;

use crate::flextell::server::{Grant, Server};

/// The mishaps of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chaos {
    None,
    All,
}

/// The lease of a refresh. Short, so that a round sees several of them end.
const LEASE: Duration = Duration::from_millis(250);

pub fn policy() -> Policy {
    // No queue, no budget and no breaker: the round is about the token.
    let policy = Policy::flextell().into_builder().refresh_timeout(LEASE).gate(false).budget(None).breaker(None);
    policy.build().unwrap()
}

/// The length of a storm: in it requests begin, and users log in and out.
pub const STORM: Duration = Duration::from_millis(2_000);

/// A refresh's fate.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// The time before its call.
    pub before: Duration,
    /// The time after its call.
    pub after: Duration,
    /// Whether it panics before its call.
    pub panics: bool,
    /// Whether a user logs in during its call.
    pub is_overtaken: bool,
}

/// A deed of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    LogIn,
    LogOut,
    /// Nothing: the server lets the newest token expire.
    Expire,
}

pub struct Account {
    pub url: String,
    pub chaos: Chaos,
    rng: Mutex<fastrand::Rng>,
    /// All grants of the login, in the order in which their users logged in.
    grants: Mutex<Vec<Grant>>,
    /// The access tokens that were sent, by their generation.
    sent: Mutex<BTreeMap<u32, String>>,
    /// The newest refresh of each generation: when it began, and whether it has called the token endpoint.
    refreshes: Mutex<BTreeMap<u32, (Instant, bool)>>,
    /// The refresh tokens whose refresh was given up: it hung through three leases, or its answer was lost (K11).
    given_up: Mutex<BTreeSet<String>>,
    /// The generations of which a second refresh began while the first could still come (I6).
    doubled: Mutex<Vec<u32>>,
}

impl Account {
    pub fn new(server: &Server, seed: u64, chaos: Chaos) -> Account {
        Account {
            url: format!("http://{}", server.addr()),
            chaos,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            grants: Mutex::default(),
            sent: Mutex::default(),
            refreshes: Mutex::default(),
            given_up: Mutex::default(),
            doubled: Mutex::default(),
        }
    }

    pub fn chance(&self, percent: u32) -> bool {
        self.chaos == Chaos::All && self.rng.lock().unwrap().u32(0..100) < percent
    }

    pub fn millis(&self, limit: u64) -> Duration {
        Duration::from_millis(self.rng.lock().unwrap().u64(0..limit))
    }

    /// Logs a user in. The access token has expired when it is issued, in most of the cases.
    pub fn log_in(&self, server: &Server) -> Fresh<Grant> {
        // In a storm no token is valid for long, and nobody says so.
        let lifetime = if self.chaos == Chaos::None { Duration::from_secs(3_600) } else { Duration::from_millis(60) };
        let grant = server.grant(lifetime);
        if self.chaos == Chaos::None || self.chance(70) {
            server.expire(&grant.access_token);
        }
        self.grants.lock().unwrap().push(grant.clone());
        Fresh { token: grant, expires_in: None }
    }

    /// Expires the token that was sent last, so that many get a 401 again.
    pub fn expire_newest(&self, server: &Server) {
        if let Some((_, token)) = self.sent.lock().unwrap().last_key_value() {
            server.expire(token);
        }
    }

    /// Returns the time in which nothing happens to the login: sometimes long enough for several leases.
    pub fn calm(&self) -> Duration {
        if self.chance(40) { self.millis(600) } else { self.millis(60) }
    }

    pub fn deed(&self) -> Deed {
        match self.rng.lock().unwrap().u32(0..10) {
            0..2 => Deed::LogOut,
            2..6 => Deed::LogIn,
            _ => Deed::Expire,
        }
    }

    pub fn fate(&self) -> Fate {
        if self.chaos == Chaos::None {
            return Fate { before: Duration::ZERO, after: Duration::ZERO, panics: false, is_overtaken: false };
        }
        // Some exceed their lease, before or after the call.
        let slow = |usual| if self.chance(10) { LEASE + self.millis(100) } else { self.millis(usual) };
        Fate { before: slow(20), after: slow(120), panics: self.chance(10), is_overtaken: self.chance(20) }
    }

    /// Returns the limits of a request: some have a deadline, which can end them in their refresh.
    pub fn limits(&self) -> RequestLimits {
        let deadline = self.chance(50).then(|| Duration::from_millis(20) + self.millis(120));
        RequestLimits { deadline, ..RequestLimits::default() }
    }

    /// Records what an attempt sends.
    pub fn bearer(&self, generation: Option<u32>, token: Option<&Grant>) -> String {
        let (Some(generation), Some(token)) = (generation, token) else {
            assert!(generation.is_none() && token.is_none(), "K9: both or neither");
            return String::from("none");
        };
        let mut sent = self.sent.lock().unwrap();
        let first = sent.entry(generation).or_insert_with(|| token.access_token.clone());
        assert_eq!(*first, token.access_token, "K4: one token for each generation");
        format!("Bearer {}", token.access_token)
    }

    /// Notes that a refresh of this generation begins. I6, K11: the one before it never called, or has run through three
    /// leases.
    pub fn begins(&self, generation: u32, token: &Grant) {
        let before = self.refreshes.lock().unwrap().insert(generation, (Instant::now(), false));
        match before {
            Some((begun, true)) if begun.elapsed() >= 3 * LEASE - Duration::from_millis(10) => self.gives_up(token),
            Some((_, true)) => self.doubled.lock().unwrap().push(generation),
            _ => {}
        }
    }

    /// Notes that the refresh of this generation calls the token endpoint.
    pub fn calls(&self, generation: u32) {
        if let Some((_, has_called)) = self.refreshes.lock().unwrap().get_mut(&generation) {
            *has_called = true;
        }
    }

    /// Notes that the answer to a refresh can never come.
    pub fn gives_up(&self, token: &Grant) {
        self.given_up.lock().unwrap().insert(token.refresh_token.clone());
    }

    pub fn form(token: &Grant) -> String {
        format!("grant_type=refresh_token&refresh_token={}", token.refresh_token)
    }

    pub fn token_of(answer: &[u8]) -> Result<Fresh<Grant>, RefreshError> {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        let text = |key: &str| answer[key].as_str().map(String::from).ok_or(RefreshError::Rejected);
        let token = Grant { access_token: text("access_token")?, refresh_token: text("refresh_token")? };
        Ok(Fresh { token, expires_in: None })
    }

    /// Asserts that a request ended as it may.
    pub fn judge<E>(&self, result: &CallResult<u16, E>) {
        match result {
            Ok(answer) => assert_eq!(answer.response, 200),
            Err(error) => {
                use FailureKind::{Cancelled, Deadline, TokenRejected, TokenUnavailable, Unauthorized};
                let kind = error.failure.kind();
                // Unauthorized: a second 401, or a request of a user who had logged out.
                let may = [Cancelled, Deadline, TokenRejected, TokenUnavailable, Unauthorized];
                assert!(self.chaos == Chaos::All && may.contains(&kind), "{}", error.failure);
            }
        }
    }

    /// Asserts what must hold when all requests have ended.
    pub fn settle(&self, server: &Server) {
        let grants = self.grants.lock().unwrap();
        let calls: usize = grants.iter().flat_map(|grant| server.uses(grant)).sum();
        let given_up = self.given_up.lock().unwrap();
        println!("{} logins, {calls} calls of the token endpoint, {} given up", grants.len(), given_up.len());
        let doubled = self.doubled.lock().unwrap();
        assert!(doubled.is_empty(), "two refreshes of the generations {doubled:?}");
        for (n, grant) in grants.iter().enumerate() {
            let uses = server.uses(grant);
            let may_replay = given_up.iter().any(|token| login_of(token) == login_of(&grant.refresh_token));
            let is_replayed = uses.iter().any(|uses| *uses > 1);
            assert!(may_replay || !is_replayed, "grant {n}: a refresh token was replayed: {uses:?}");
            if self.chaos == Chaos::None {
                assert_eq!(uses, [1, 0], "one call of the token endpoint");
            }
        }
        // K5: the token of a user who was logged out is not stored over that of the next one.
        let logins: Vec<_> = self.sent.lock().unwrap().values().map(|token| login_of(token)).collect();
        assert!(logins.is_sorted(), "a token of another login was sent: {logins:?}");
    }
}

/// Returns the number of the grant in the text of a token: `at-3-0` is the first one of grant 3.
fn login_of(token: &str) -> u64 {
    token.split('-').nth(1).and_then(|grant| grant.parse().ok()).unwrap()
}
