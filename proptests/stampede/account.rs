//! What a round knows: its users' grants, what may go wrong, and what must hold in the end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use retry_machine::drive::{Fresh, RefreshError, RequestError};
use retry_machine::{FailureKind, Policy, RequestLimits};
use serde_json::Value;

use crate::flextell::server::{Grant, Server};

/// What goes wrong in a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chaos {
    None,
    All,
}

/// The lease of a refresh. Short, so that a round sees several of them end.
const LEASE: Duration = Duration::from_millis(400);

pub fn policy() -> Policy {
    // No queue, no budget and no breaker: the round is about the token.
    let policy = Policy::flextell().into_builder().refresh_timeout(LEASE).gate(false).budget(None).breaker(None);
    policy.build().unwrap()
}

/// A refresh's fate: how long it takes before and after its call, and whether it panics before the call.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    pub before: Duration,
    pub after: Duration,
    pub panics: bool,
}

pub struct Account {
    pub url: String,
    pub chaos: Chaos,
    rng: Mutex<fastrand::Rng>,
    /// All grants of the login, in the order in which their users logged in.
    grants: Mutex<Vec<Grant>>,
    /// The access tokens that were sent, by their generation.
    sent: Mutex<BTreeMap<u32, String>>,
}

impl Account {
    pub fn new(server: &Server, seed: u64, chaos: Chaos) -> Account {
        Account {
            url: format!("http://{}", server.addr()),
            chaos,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            grants: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    pub fn chance(&self, percent: u32) -> bool {
        self.chaos == Chaos::All && self.rng.lock().unwrap().u32(0..100) < percent
    }

    pub fn millis(&self, limit: u64) -> Duration {
        Duration::from_millis(self.rng.lock().unwrap().u64(0..limit))
    }

    /// Logs a user in. The access token has expired when it is issued, in half of the cases.
    pub fn log_in(&self, server: &Server) -> Fresh<Grant> {
        let grant = server.grant(Duration::from_secs(3_600));
        if self.chaos == Chaos::None || self.chance(50) {
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

    pub fn fate(&self) -> Fate {
        if self.chaos == Chaos::None {
            return Fate { before: Duration::ZERO, after: Duration::ZERO, panics: false };
        }
        // Some exceed their lease, before or after the call.
        let slow = |chance| if self.chance(chance) { LEASE + self.millis(300) } else { self.millis(30) };
        Fate { before: slow(10), after: slow(10), panics: self.chance(15) }
    }

    /// Some requests have a deadline, which can end them in their refresh.
    pub fn limits(&self) -> RequestLimits {
        let deadline = self.chance(20).then(|| Duration::from_millis(20) + self.millis(400));
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
    pub fn judge<R, E>(&self, result: &Result<u16, RequestError<R, E>>) {
        match result {
            Ok(200) => {}
            Ok(status) => panic!("answered with {status}"),
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
        for (n, grant) in grants.iter().enumerate() {
            let uses = server.uses(grant);
            assert!(uses.iter().all(|uses| *uses <= 1), "grant {n}: a refresh token was replayed: {uses:?}");
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
