//! The state that requests share, in three parts: the service, the login and the gate.

use crate::policy::Policy;

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod gate;
pub(crate) mod login;
pub(crate) mod service;

pub use self::gate::{Gate, GateReason, GateState};
pub use self::login::{Login, LoginState};
pub use self::service::Service;

/// One service, one login and one gate: the state that requests share. Its size does not depend on the number of requests
/// (rule S5).
///
/// Pass it `&mut` to every step of every [`RetryMachine`](crate::RetryMachine). It has no lock inside: a server wraps
/// it in a mutex that is held for one call, and a device keeps it in a static. With feature `std`, the drivers do that.
///
/// # What is in it
///
/// - **Token**: the generation, the expiry, and the lease of the request that refreshes the token (rules K3–K10).
/// - **Gate**: while it is closed no request is sent. A throttle (a 429) with a hint closes it, and so does a rate limit
///   with nothing left. One response closes it for others for at most the longest server wait, whatever it says; then one
///   request tries (rules S1, C6, C12). [`Gate::state`] says until when it is closed, and why.
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
/// Share one value among all requests of one login that meet one rate limit, however many they are. A service with several
/// logins or several rate limits has one [`Login`] or one [`Gate`] for each, in a [`Scope`]. Never use two logins for one
/// grant: each would refresh its token. One response speaks for all requests of a value, so give each hundred
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
#[allow(clippy::exhaustive_structs, reason = "rule S8 names three parts")]
pub struct Upstream {
    /// The policy, the budget and the breaker.
    pub service: Service,
    /// The token.
    pub login: Login,
    /// The gate and its queue.
    pub gate: Gate,
}

impl Upstream {
    /// Creates a service that has not been called: the gate is open, the budget full, the breaker closed, and the token
    /// has generation 0 and an unknown expiry.
    ///
    /// For a service without tokens, or before the user has logged in, set `login` to [`Login::without_token`].
    #[must_use]
    pub const fn new(policy: Policy) -> Upstream {
        Upstream { service: Service::new(policy), login: Login::new(), gate: Gate::new() }
    }

    /// Returns the policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        self.service.policy()
    }
}

/// The parts that a request shares with others, borrowed for one step (rule S8). A request has the same three parts all its
/// life.
///
/// [`RetryMachine::handle`](crate::RetryMachine::handle) takes it, and an `&mut Upstream` turns into it. Combine parts by
/// hand where one service has several logins, or several rate limits:
///
/// ```
/// use retry_machine::{Action, Event, Gate, Idempotency, Policy, RetryMachine, Scope, Timestamp, Upstream};
///
/// let mut upstream = Upstream::new(Policy::common());
/// let mut search = Gate::new(); // searches have a rate limit of their own
///
/// let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
/// let scope = Scope { service: &mut upstream.service, login: &mut upstream.login, gate: &mut search };
/// let action = machine.handle(Timestamp::ZERO, Event::Start, scope);
/// assert!(matches!(action, Action::Send { attempt: 1, .. }));
/// ```
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "rule S8 names three parts")]
pub struct Scope<'a> {
    /// The service: one for all its logins and gates.
    pub service: &'a mut Service,
    /// The login that the request belongs to.
    pub login: &'a mut Login,
    /// The gate of the rate limit that the request counts for.
    pub gate: &'a mut Gate,
}

impl<'a> From<&'a mut Upstream> for Scope<'a> {
    fn from(upstream: &'a mut Upstream) -> Scope<'a> {
        let Upstream { service, login, gate } = upstream;
        Scope { service, login, gate }
    }
}
