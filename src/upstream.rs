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
/// # What is in it
///
/// - **Token**: the generation, the expiry, and the lease of the request that refreshes the token (rules K3–K8).
/// - **Gate**: while it is closed no request is sent. A throttle (a 429) with a hint closes it, and so does a rate limit
///   with nothing left. One response closes it for others for at most the longest server wait, whatever it says; then one
///   request tries (rules S1, C6, C12). [`gate_state`](Upstream::gate_state) says until when it is closed, and why.
/// - **Pace**: after the opening the requests that were held pass one by one, in the order in which they came but for the jitter on top of their own hints, as fast as
///   the service's good answers came when it was last seen at its fastest. A request that was refused in its turn is the
///   next one again. The pace ends when a measurement or two idle minutes find that nobody waits any more (rules S7, C7–C14). So a limit is used to the full, nobody is
///   lost, and a lone request waits for its hint and at most half a second more.
/// - **Budget**: each retry takes 5 of 25 tokens. A good answer gives back all that its request has paid and one more,
///   and a minute brings one. So retries that help cost nothing, and those that do not end soon: in an overload nothing
///   comes back (rules S2, C1–C4). A throttle that finds the gate closed already costs nothing, since the queue bounds it.
/// - **Breaker**: seven failures in a row that last ten seconds open it for ten to fifteen seconds; then one probe decides
///   (rules S3, C5). In a brownout the first attempts alone would keep the service down.
///
/// # What to share
///
/// Share one value among all requests of one login that meet one rate limit, however many they are. Never use two values
/// for one login: each would refresh its token. One response speaks for all requests of a value, so give each hundred
/// clients of a server that has thousands a value of their own. The matrix in `pages::storm` of the documentation shows what
/// sharing does under 200 disturbances, limits and errors, and compares it with clients that do not retry.
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
