//! The state that all requests to one service share.

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
pub use self::gate::{GateReason, GateState};
use self::token::Token;

/// One service, with its policy and the state that all requests to it share. Its size does not depend on the number of
/// requests (rule S5).
///
/// Pass it `&mut` to every step of every [`RetryMachine`](crate::RetryMachine). It has no lock inside: a server wraps
/// it in a mutex that is held for one call (with feature `std`, `drive::SharedUpstream`), and a device keeps it in a
/// static.
///
/// - **Token**: the generation, the expiry, and the lease of the request that refreshes the token (rules K3–K8).
/// - **Gate**: while it is closed, no request is sent (rule S1). A throttle (a 429) with a hint closes it, and so does a rate limit
///   with nothing left. When it opens, the requests that it held are spread: the first one within the policy's spread
///   (500 ms), the others within the time for which the gate was closed, or within the policy's spread if that is longer.
///   If a throttle had closed the gate, and another one closes it again before it has been open for as long as it was
///   closed, the first request is spread as widely, and the opening is delayed by up to as long again, so that a fleet
///   that is throttled repeatedly drifts apart. One 429 holds back all requests of the upstream. With thousands of busy clients behind one value, a service that sheds only a part of its load would be
///   left idle: give each hundred clients a value of their own.
/// - **Budget**: retries withdraw from it, and successes refill it (rule S2).
/// - **Breaker**: off by default (rule S3).
///
/// ```
/// use retry_machine::{Action, Event, Idempotency, Policy, RetryMachine, Timestamp, Upstream};
///
/// let mut upstream = Upstream::new(Policy::flextell());
/// let (mut first, mut second) =
///     (RetryMachine::new(Idempotency::Idempotent, 7), RetryMachine::new(Idempotency::Idempotent, 8));
///
/// let _ = first.handle(Timestamp::ZERO, Event::Start, &mut upstream);
/// let reply = upstream.policy().read(429, [("Retry-After", "30")]);
/// let _ = first.handle(Timestamp::from_millis(80), Event::Reply { attempt: 1, reply }, &mut upstream);
///
/// // The 429 of the first request holds the second one back.
/// let action = second.handle(Timestamp::from_millis(90), Event::Start, &mut upstream);
/// assert!(matches!(action, Action::Wait { until, .. } if until >= Timestamp::from_millis(30_080)));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Upstream {
    pub(crate) policy: Policy,
    /// T2: the latest instant seen.
    latest: Timestamp,
    pub(crate) token: Token,
    pub(crate) gate: Gate,
    pub(crate) budget: Budget,
    pub(crate) breaker: Breaker,
}

impl Upstream {
    /// Returns a service that has not been called: the gate is open, the budget full, the breaker closed, and the token
    /// has generation 0 and an unknown expiry.
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

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the generation of the current token: 0 for the first one, one more after each refresh and each
    /// replacement (rule K4). It wraps around.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.token.generation()
    }

    /// Returns a counter that changes when requests that [await a refresh](crate::Action::AwaitRefresh) need a tick
    /// (rule K8). It wraps around: compare it only for equality.
    #[must_use]
    pub const fn wakeups(&self) -> u32 {
        self.token.wakeups()
    }

    /// Returns what the retry budget holds at `now` (rule S2), or `None` if the policy has none.
    #[must_use]
    pub fn budget_balance(&self, now: Timestamp) -> Option<u32> {
        let now = self.latest.max(now);
        self.policy.budget.map(|policy| self.budget.balance(now, policy))
    }

    /// Returns the state of the gate at `now` (rule S1).
    #[must_use]
    pub fn gate_state(&self, now: Timestamp) -> GateState {
        self.gate.state(self.latest.max(now))
    }

    /// Returns the instant of the breaker's next probe, while the breaker is open (rule S3).
    #[must_use]
    pub fn next_probe(&self, now: Timestamp) -> Option<Timestamp> {
        self.breaker.next_probe(self.latest.max(now))
    }

    /// Sets the lifetime of the current token from `now` on, so that requests refresh it in time (rule K7). Call it for
    /// the first token; the outcome of a refresh has the lifetime of the next one. With zero, the token has expired.
    pub fn token_expires_in(&mut self, now: Timestamp, lifetime: Duration) {
        let now = self.advance(now);
        self.token.set_lifetime(now, Some(nanos(lifetime)), self.policy.refresh_margin);
    }

    /// Installs a token from outside as the next generation, for example after the user logged in again (rules K6, F5).
    /// Store the new token first. `expires_in` is its lifetime from `now`, if it is known. Ends the lease of a refresh
    /// that is under way, and a rejection.
    pub fn token_replaced(&mut self, now: Timestamp, expires_in: Option<Duration>) {
        let now = self.advance(now);
        self.token.install(now, expires_in.map(nanos), self.policy.refresh_margin);
    }

    /// Opens the gate by hand, for an operator who knows that the service is ready (rule S1). Requests that come
    /// afterwards pass at once; waits under way keep their end (rule F3).
    pub fn open_gate(&mut self, now: Timestamp) {
        let now = self.advance(now);
        self.gate.open(now);
    }

    /// Closes the gate by hand until `until`, for an operator who knows that the service is not ready (rule S1). Does
    /// nothing if the gate is closed for longer already, or if the policy has no gate. The longest server wait does not
    /// limit it: a request that would have to wait longer fails at once.
    pub fn close_gate(&mut self, now: Timestamp, until: Timestamp) {
        let now = self.advance(now);
        if self.policy.gate {
            self.gate.close(now, until, GateReason::Operator, self.policy.max_server_wait);
        }
    }

    /// T2: returns `now`, or the latest instant seen if `now` is earlier.
    pub(crate) fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }
}
