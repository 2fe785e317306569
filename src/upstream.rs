//! What all requests to one service share.

use core::time::Duration;

use crate::policy::Policy;
use crate::time::{Timestamp, nanos};

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod gate;
pub(crate) mod token;

use self::breaker::Breaker;
use self::budget::Budget;
use self::gate::Gate;
use self::token::Token;

/// One service that is called: its policy, and what all requests to it share (rule S5: of constant size, however many
/// requests there are).
///
/// Passed `&mut` to every step of every [`RetryMachine`](crate::RetryMachine). There is no lock inside: a server wraps
/// it in a mutex that is held for one call ([`drive::SharedUpstream`](crate::drive::SharedUpstream)), a device keeps
/// it in a static.
///
/// - **Token**: its generation, its expiry, and the lease of the request that refreshes it (rules K3–K8).
/// - **Gate**: a 429's hint, and a rate limit with nothing left, close it for every request until then (rule S1). When
///   it opens, the requests that it held come through spread over a while, or they would all come at once: the first
///   one held within the policy's spread (500 ms), any further ones within as long again as the gate was closed. If a
///   429 closes it once more before it has been open for as long as it was closed, the first one is spread as widely, and
///   the gate itself opens later, by up to as long again, so that a fleet which is throttled again and again drifts apart.
///   One 429 holds back all that share the upstream: with thousands of busy clients behind one value a service that
///   sheds only some of its load is left idle; give each hundred of them a value of its own.
/// - **Budget**: retries draw on it, successes refill it (rule S2).
/// - **Breaker**: off by default (rule S3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Upstream {
    pub(crate) policy: Policy,
    /// The latest instant that any request brought (rule T2).
    latest: Timestamp,
    pub(crate) token: Token,
    pub(crate) gate: Gate,
    pub(crate) budget: Budget,
    pub(crate) breaker: Breaker,
}

impl Upstream {
    /// A service that was not called yet: the gate open, the budget full, the breaker closed, token generation 0 with
    /// an unknown expiry.
    #[must_use]
    pub const fn new(policy: Policy) -> Upstream {
        Upstream {
            budget: Budget::full(policy.budget),
            policy,
            latest: Timestamp::ZERO,
            token: Token::new(),
            gate: Gate::new(),
            breaker: Breaker::new(),
        }
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The generation of the current token: 0 for the first, one more with every refresh and every replacement
    /// (rule K4).
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.token.generation()
    }

    /// A counter that moves whenever requests that were told to [await the token](crate::Action::AwaitRefresh) should be
    /// ticked (rule K8). It wraps around; compare it for equality only.
    #[must_use]
    pub const fn wakeups(&self) -> u32 {
        self.token.wakeups()
    }

    /// Says how long the current token is valid from `now` on, so that it is refreshed in time (rule K7). For the
    /// first token; the outcome of a refresh brings its own.
    pub fn token_expires_in(&mut self, now: Timestamp, lifetime: Duration) {
        let now = self.advance(now);
        self.token.set_lifetime(now, Some(nanos(lifetime)), self.policy.refresh_margin);
    }

    /// Says that the token was replaced from outside: the user logged in again (rules K6, F5). Store the new token
    /// first. Ends a refresh that is under way.
    pub fn token_replaced(&mut self, now: Timestamp, expires_in: Option<Duration>) {
        let now = self.advance(now);
        self.token.install(now, expires_in.map(nanos), self.policy.refresh_margin);
    }

    /// Opens the gate by hand: an operator knows better (rule S1). Waits that are under way keep their end (rule F3).
    pub fn open_gate(&mut self, now: Timestamp) {
        let now = self.advance(now);
        self.gate.open(now);
    }

    /// T2: time never goes back. An earlier `now` counts as the latest one seen.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }
}
