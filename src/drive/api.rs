//! The handle of a service: its parts, and what can be done with them besides calling.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use super::clock::Clock;
use super::login::{Background, SharedLogin};
use super::refresh::{Fresh, Refresh};
use super::service::SharedService;
use super::sync::Mutex;
use crate::policy::Policy;
use crate::reply::Reply;
use crate::time::Timestamp;
use crate::upstream::{Gate, GateState, LoginState, Upstream};

/// A service as a client calls it: everything that requests share, behind locks that are held for one step.
///
/// Make one with [`blocking::Api::new`](super::blocking::Api) or [`future::Api::new`](super::future::Api), and keep it as
/// long as the program runs. It is cheap to clone, and clones are one handle: give one to each thread or task.
///
/// It brings what every client would write by hand: the clock, a seed for each request (rule T5), reading with the wall
/// clock (rule H4), the token beside its generation, and one refresh at a time that outlives the request which began it
/// (rule K11).
pub struct Api<T, B: Background<T>> {
    pub(super) login: Arc<SharedLogin<T, B>>,
    pub(super) gate: Arc<Mutex<Gate>>,
    pub(super) timer: B::Timer,
}

/// The token of a handle without one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums, reason = "it has no value")]
pub enum NoToken {}

impl<B: Background<NoToken>> Api<NoToken, B> {
    pub(super) fn from_upstream(upstream: Upstream, clock: Arc<dyn Clock>, timer: B::Timer, background: B) -> Self {
        let Upstream { service, gate, .. } = upstream;
        let service = Arc::new(SharedService::new(service, clock));
        let login = Arc::new(SharedLogin::new(service, None, background));
        Api { login, gate: Arc::new(Mutex::new(gate)), timer }
    }
}

impl<T, B: Background<T>> Api<T, B> {
    /// Returns the same service for a login of its own: its token and its refresh, with the same gate (rule S8).
    pub(super) fn for_login<T2, B2>(&self, first: Option<Fresh<T2>>, background: B2) -> Api<T2, B2>
    where
        B2: Background<T2, Timer = B::Timer>,
    {
        let login = Arc::new(SharedLogin::new(self.login.service.clone(), first, background));
        Api { login, gate: self.gate.clone(), timer: self.timer.clone() }
    }

    /// Returns the same service and login behind a gate of its own: for calls that another rate limit of the service
    /// counts (rule S8).
    #[must_use]
    pub fn with_own_gate(&self) -> Self {
        Api { gate: Arc::new(Mutex::new(Gate::new())), ..self.clone() }
    }

    /// Installs a token from outside, for example after the user logged in (again): requests that wait for one go on with it
    /// (rules K6, F5). A refresh under way is dropped, and its outcome does not count.
    pub fn token_replaced(&self, token: Fresh<T>) {
        self.login.replace_token(Some(token));
    }

    /// Removes the token, for example after the user logged out (rule K9). Requests that wait for a new one fail as
    /// [`TokenRejected`](crate::FailureKind::TokenRejected), and later ones are sent without a token.
    pub fn token_removed(&self) {
        self.login.replace_token(None);
    }

    /// Returns the current token, for example to store it at the end of the program. `None`: the login has none.
    #[must_use]
    pub fn token(&self) -> Option<Arc<T>> {
        self.login.state.lock().token.clone()
    }

    /// Returns the policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.login.service.policy
    }

    /// Returns the time of the handle's clock. Instants in actions and failures are on it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.login.service.clock.now()
    }

    /// Returns the state of the gate (rule S1).
    #[must_use]
    pub fn gate_state(&self) -> GateState {
        let now = self.now();
        self.gate.lock().state(now)
    }

    /// Opens the gate, for an operator; see [`Gate::open`].
    pub fn open_gate(&self) {
        let now = self.now();
        self.gate.lock().open(now);
    }

    /// Closes the gate for this long, for an operator; see [`Gate::close`].
    pub fn close_gate(&self, wait: Duration) {
        let now = self.now();
        self.gate.lock().close(now, now.saturating_add(wait));
    }

    /// Returns the state of the login (rule S8).
    #[must_use]
    pub fn login_state(&self) -> LoginState {
        let now = self.now();
        self.login.state.lock().login.state(now)
    }

    /// Returns what the retry budget holds (rule S2), or `None` if the policy has none.
    #[must_use]
    pub fn budget_balance(&self) -> Option<u32> {
        let now = self.now();
        self.login.service.state.lock().budget_balance(now)
    }

    /// Returns the instant of the breaker's next probe, while the breaker is open (rule S3).
    #[must_use]
    pub fn next_probe(&self) -> Option<Timestamp> {
        let now = self.now();
        self.login.service.state.lock().next_probe(now)
    }

    /// Returns a copy of what requests share, for a snapshot (rule T7).
    #[must_use]
    pub fn upstream(&self) -> Upstream {
        let login = self.login.state.lock();
        let service = self.login.service.state.lock();
        let gate = self.gate.lock();
        Upstream { service: service.clone(), login: login.login.clone(), gate: gate.clone() }
    }
}

impl<T, B: Background<NoToken>> Refresh<T, Api<NoToken, B>> {
    /// Reads a response of the token endpoint, as [`Attempt::read`](super::Attempt::read) reads one of the service: its status
    /// and its headers. [`RefreshError::unavailable`](super::RefreshError::unavailable) takes the result.
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Reply {
        let service = &self.api.login.service;
        service.policy.read_at(service.clock.unix_time(), status, headers)
    }
}

impl<T, B: Background<T>> Clone for Api<T, B> {
    fn clone(&self) -> Self {
        Api { login: self.login.clone(), gate: self.gate.clone(), timer: self.timer.clone() }
    }
}

/// H9: without the token.
impl<T, B: Background<T>> fmt::Debug for Api<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("login", &self.login_state())
            .field("gate", &self.gate_state())
            .field("budget_balance", &self.budget_balance())
            .finish_non_exhaustive()
    }
}
