//! A login: which token is current, and who refreshes it (rules K3–K10).

use core::time::Duration;

use crate::event::RefreshOutcome;
use crate::policy::Policy;
#[cfg(feature = "serde")]
use crate::time::shift::Shift;
use crate::time::{NANOS_PER_MILLI, Timestamp, nanos};

/// The owner of a token: one user's or one application's grant (rule S8). It counts tokens and never holds one (rule
/// H9).
///
/// Most programs have one for each service, in an [`Upstream`](crate::Upstream). A server that calls a service for many
/// users has one for each user, and passes it in a [`Scope`](crate::Scope).
///
/// ```
/// use core::time::Duration;
/// use retry_machine::{Login, Timestamp};
///
/// let mut login = Login::new();
/// assert_eq!(login.generation(), Some(0));
///
/// // The user has logged in again: the program has stored the new token.
/// login.token_replaced(Timestamp::from_millis(900), Some(Duration::from_secs(3600)));
/// assert_eq!(login.generation(), Some(1));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Login {
    /// The current token, or the last one.
    token: TokenNumber,
    standing: Standing,
    /// K10: when the current token came, if that is known.
    installed_at: Option<Timestamp>,
    /// K7: the expiry of the current token, if it is known.
    expiry: Option<Expiry>,
    /// The newest lease.
    lease: Lease,
    lease_end: Timestamp,
    /// Whether no outcome of the newest lease has counted yet.
    lease_is_open: bool,
    /// The newest lease that was given before the current token came.
    settled: Lease,
    /// The newest outcome that brought no token, and its lease (K6).
    outcome: Outcome,
    outcome_of: Lease,
    /// K6: the time for which the token endpoint asked to be left alone.
    throttle: Throttle,
    /// K7: no lease ahead of expiry is given earlier.
    no_early_lease_before: Timestamp,
    wakeups: u32,
}

/// The standing of the current token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
enum Standing {
    /// K9: there is none.
    Missing,
    Accepted,
    /// K3: a 401 has come for it.
    Refused,
    /// K6: its refresh was rejected for good.
    Rejected,
}

/// The number of a token: one more than its generation. Wraps around.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct TokenNumber(u32);

impl TokenNumber {
    pub(crate) const NONE: TokenNumber = TokenNumber(0);
}

/// The number of a lease, from 1. Wraps around, but no request lives for two billion leases.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Lease(pub(crate) u32);

impl Lease {
    pub(crate) const NONE: Lease = Lease(0);

    const fn is_after(self, other: Lease) -> bool {
        self.0 != other.0 && self.0.wrapping_sub(other.0) <= u32::MAX / 2
    }
}

/// The number of a token or of a lease, whichever its request needs: never both at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct TokenOrLease(u32);

impl TokenOrLease {
    pub(crate) const NONE: TokenOrLease = TokenOrLease(0);

    pub(crate) const fn token(self) -> TokenNumber {
        TokenNumber(self.0)
    }

    pub(crate) const fn lease(self) -> Lease {
        Lease(self.0)
    }
}

impl From<TokenNumber> for TokenOrLease {
    fn from(token: TokenNumber) -> TokenOrLease {
        TokenOrLease(token.0)
    }
}

impl From<Lease> for TokenOrLease {
    fn from(lease: Lease) -> TokenOrLease {
        TokenOrLease(lease.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
struct Expiry {
    expires: Timestamp,
    /// The lifetime in nanoseconds, from the instant at which it was told.
    lifetime: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
enum Outcome {
    Unavailable,
    Abandoned,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
struct Throttle {
    told_at: Timestamp,
    until: Timestamp,
}

impl Throttle {
    const NONE: Throttle = Throttle { told_at: Timestamp::ZERO, until: Timestamp::ZERO };
}

/// The state of a [`Login`], for logs and health pages (rule S8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct LoginState {
    /// The generation of the current token. `None`: the login has no token (rule K9).
    pub generation: Option<u32>,
    /// The expiry of the current token, if it is known (rule K7).
    pub expires: Option<Timestamp>,
    /// Whether the refresh of the current token was rejected for good, so that the user must log in again (rule K6).
    pub is_rejected: bool,
    /// The number and the end of the open lease: somebody refreshes the token (rule K5).
    pub lease: Option<(u32, Timestamp)>,
}

/// The role of a request that needs a new token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The request refreshes the token. No other request does before the end of the lease.
    Leads,
    /// Another request holds the newest lease.
    Follows,
    /// The token endpoint asked to be left alone (K6).
    Refused,
}

/// The status of a lease that a request leads or follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeaseStatus {
    /// The refresh can still be under way.
    UnderWay { until: Timestamp },
    /// A new token has come since.
    NewToken,
    /// The refresh was rejected for good, or the token was removed.
    Rejected,
    /// The token endpoint gave no useful answer.
    Unavailable,
    /// The lease was given up.
    Abandoned,
    /// The lease ended without an outcome.
    RanOut,
}

/// How the expiry of a token is checked before a send (K7, F5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExpiryCheck {
    WithMargin,
    /// A refresh was in vain.
    WithoutMargin,
    /// A refresh has just brought the token.
    Skipped,
}

/// Whether a token can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenStatus {
    Usable,
    /// K3: a 401 has come for it, and somebody refreshes it.
    Refused,
    /// K3: it has expired, and somebody refreshes it.
    Expired,
    /// K7: it must be refreshed first.
    Due,
    /// K6: its refresh was rejected for good.
    Rejected,
}

impl Login {
    /// Creates a login with a first token, of generation 0, whose expiry is unknown.
    #[must_use]
    pub const fn new() -> Login {
        Login { token: TokenNumber(1), standing: Standing::Accepted, ..Login::without_token() }
    }

    /// Creates a login without a token (rule K9): a 401 fails its request, and nothing else changes.
    #[must_use]
    pub const fn without_token() -> Login {
        Login {
            token: TokenNumber::NONE,
            standing: Standing::Missing,
            installed_at: None,
            expiry: None,
            lease: Lease::NONE,
            lease_end: Timestamp::ZERO,
            lease_is_open: false,
            settled: Lease::NONE,
            outcome: Outcome::Abandoned,
            outcome_of: Lease::NONE,
            throttle: Throttle::NONE,
            no_early_lease_before: Timestamp::ZERO,
            wakeups: 0,
        }
    }

    /// Returns the generation of the current token: 0 for the first one, one more for each later one (rule K4). It wraps
    /// around. `None`: the login has no token (rule K9).
    #[must_use]
    pub const fn generation(&self) -> Option<u32> {
        if self.has_token() { Some(self.token.0.wrapping_sub(1)) } else { None }
    }

    /// Returns a counter that changes when requests that [refresh](crate::Action::RefreshToken) or [await a
    /// refresh](crate::Action::AwaitRefresh) need a tick (rule K8). It wraps around: compare it only for equality.
    #[must_use]
    pub const fn wakeups(&self) -> u32 {
        self.wakeups
    }

    /// Returns the state at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> LoginState {
        LoginState {
            generation: self.generation(),
            expires: self.expiry.map(|expiry| expiry.expires),
            is_rejected: self.is_rejected(),
            lease: self.has_open_lease(now).then_some((self.lease.0, self.lease_end)),
        }
    }

    // ---- What the driver tells ----

    /// Sets the lifetime of the current token from `now` on, so that requests refresh it in time (rule K7). Call it for
    /// the first token; later ones come with their lifetime. Zero is not a lifetime: the expiry is unknown then.
    pub fn token_expires_in(&mut self, now: Timestamp, lifetime: Duration) {
        self.set_lifetime(now, Some(lifetime));
    }

    /// Installs a token from outside as the next generation, for example after the user logged in again (rules K6, F5).
    /// Store the token in the same step. `expires_in` is its lifetime from `now`, if it is known. Ends an open lease and a
    /// rejection.
    pub fn token_replaced(&mut self, now: Timestamp, expires_in: Option<Duration>) {
        self.token = TokenNumber(self.token.0.wrapping_add(1));
        self.standing = Standing::Accepted;
        self.installed_at = Some(now);
        self.set_lifetime(now, expires_in);
        self.forget_leases();
    }

    /// Removes the token, for example after the user logged out (rule K9). Ends an open lease: its outcome does not count
    /// any more, and requests that wait for a new token fail as
    /// [`TokenRejected`](crate::FailureKind::TokenRejected).
    pub fn token_removed(&mut self) {
        self.standing = Standing::Missing;
        self.installed_at = None;
        self.expiry = None;
        self.forget_leases();
    }

    /// Reports the outcome of the refresh that [`Action::RefreshToken`](crate::Action::RefreshToken) asked for under this
    /// lease (rules K5, K6). Whoever has the outcome reports it: the driver of the request, another one, or a task of its
    /// own. Then tick the requests that refresh or await a refresh.
    ///
    /// Returns whether the outcome counts. Store the new token if it does, in one step with the report, and drop it if it
    /// does not: the user may have logged in again since then.
    #[must_use = "the new token may be stored only if the outcome counts"]
    pub fn report_refresh(&mut self, now: Timestamp, lease: u32, outcome: RefreshOutcome) -> bool {
        let lease = Lease(lease);
        // K5: a lease of the current generation. `settled` and the newest lease bound them.
        if !lease.is_after(self.settled) || lease.is_after(self.lease) {
            return false;
        }
        if let RefreshOutcome::Refreshed { expires_in } = outcome {
            self.token_replaced(now, expires_in);
            return true;
        }
        if lease != self.lease || !self.lease_is_open {
            return false;
        }
        match outcome {
            RefreshOutcome::Rejected => self.standing = Standing::Rejected,
            RefreshOutcome::Unavailable { retry_after } => {
                self.record(Outcome::Unavailable);
                self.throttle = Throttle { told_at: now, until: now.after(retry_after.map_or(0, nanos)) };
                let left = self.expiry.map_or(0, |expiry| expiry.expires.since(now));
                self.no_early_lease_before = now.after(left / 2);
            }
            RefreshOutcome::Abandoned | RefreshOutcome::Refreshed { .. } => self.record(Outcome::Abandoned),
        }
        self.lease_is_open = false;
        self.wake();
        true
    }

    // ---- What requests ask and tell ----

    pub(crate) const fn has_token(&self) -> bool {
        !matches!(self.standing, Standing::Missing)
    }

    /// Returns the number of the current token, for an attempt that is sent now (K4).
    pub(crate) const fn token(&self) -> TokenNumber {
        self.token
    }

    /// Returns the number of the newest lease.
    pub(crate) const fn lease(&self) -> Lease {
        self.lease
    }

    pub(crate) const fn lease_end(&self) -> Timestamp {
        self.lease_end
    }

    /// Returns whether this is the newest lease and has no outcome yet, past its end or not.
    #[cfg(feature = "std")]
    pub(crate) const fn is_awaited(&self, lease: u32) -> bool {
        self.lease_is_open && self.lease.0 == lease
    }

    pub(crate) const fn is_rejected(&self) -> bool {
        matches!(self.standing, Standing::Rejected)
    }

    /// Returns the status of the token, if there is one.
    pub(crate) fn token_status(&self, now: Timestamp, policy: &Policy, check: ExpiryCheck) -> TokenStatus {
        let is_expired = check != ExpiryCheck::Skipped && !self.is_valid(now);
        let is_due = is_expired || check == ExpiryCheck::WithMargin && self.is_due(now, policy);
        match (self.standing, self.has_open_lease(now)) {
            (Standing::Rejected, _) => TokenStatus::Rejected,
            (Standing::Refused, true) => TokenStatus::Refused,
            (_, true) if is_expired => TokenStatus::Expired,
            (_, false) if is_due => TokenStatus::Due,
            _ => TokenStatus::Usable,
        }
    }

    /// Returns whether the current token is not known to have expired (K7).
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry.expires)
    }

    /// Returns whether the current token came less than its margin ago (K10).
    pub(crate) fn is_young(&self, now: Timestamp, policy: &Policy) -> bool {
        self.installed_at.is_some_and(|installed| now.since(installed) < self.margin(policy))
    }

    /// Records a 401 for the current token (K3).
    pub(crate) const fn note_refusal(&mut self) {
        if let Standing::Accepted = self.standing {
            self.standing = Standing::Refused;
        }
    }

    /// Gives a request its role (K3): the first one leads, and the others follow while its lease is open.
    pub(crate) fn take_role(&mut self, now: Timestamp, policy: &Policy) -> Role {
        if self.has_open_lease(now) {
            Role::Follows
        } else if self.throttled_until(policy).is_some_and(|until| now < until) {
            Role::Refused
        } else {
            self.lease = Lease(self.lease.0.wrapping_add(1));
            self.lease_end = now.after(policy.refresh_timeout);
            self.lease_is_open = true;
            Role::Leads
        }
    }

    /// Returns the status of a lease, for a request that leads or follows it (K6, K8).
    pub(crate) fn lease_status(&self, lease: Lease, now: Timestamp) -> LeaseStatus {
        if let Standing::Missing | Standing::Rejected = self.standing {
            LeaseStatus::Rejected
        } else if !lease.is_after(self.settled) {
            LeaseStatus::NewToken
        } else if !lease.is_after(self.outcome_of) {
            match self.outcome {
                Outcome::Unavailable => LeaseStatus::Unavailable,
                Outcome::Abandoned => LeaseStatus::Abandoned,
            }
        } else if lease == self.lease && self.has_open_lease(now) {
            LeaseStatus::UnderWay { until: self.lease_end }
        } else {
            LeaseStatus::RanOut
        }
    }

    /// Returns the instant before which no lease is given (K6), passed or not.
    pub(crate) fn throttled_until(&self, policy: &Policy) -> Option<Timestamp> {
        let Throttle { told_at, until } = self.throttle;
        (until > told_at).then(|| until.min(told_at.after(policy.max_server_wait)))
    }

    // ---- What both need ----

    fn has_open_lease(&self, now: Timestamp) -> bool {
        self.lease_is_open && now < self.lease_end
    }

    /// Returns whether a request that would be sent now refreshes ahead of expiry (K7). Strictly later than the expiry less
    /// the margin (F5).
    fn is_due(&self, now: Timestamp, policy: &Policy) -> bool {
        let Some(Expiry { expires, .. }) = self.expiry else { return false };
        let due = Timestamp::from_nanos(expires.as_nanos().saturating_sub(self.margin(policy)));
        // After a vain refresh the next one waits.
        now > due && now >= self.no_early_lease_before
    }

    /// Returns the margin of the current token in nanoseconds (K7): at most half of its lifetime, or a short-lived token
    /// would be due at once.
    fn margin(&self, policy: &Policy) -> u64 {
        self.expiry.map_or(policy.refresh_margin, |expiry| policy.refresh_margin.min(expiry.lifetime / 2))
    }

    fn set_lifetime(&mut self, now: Timestamp, lifetime: Option<Duration>) {
        let lifetime = lifetime.map_or(0, nanos);
        // Less than a millisecond has passed, whatever the clock can tell.
        let left = if lifetime < NANOS_PER_MILLI { 0 } else { lifetime };
        self.expiry = (lifetime > 0).then(|| Expiry { expires: now.after(left), lifetime });
    }

    fn record(&mut self, outcome: Outcome) {
        (self.outcome, self.outcome_of) = (outcome, self.lease);
    }

    /// Forgets what belongs to the token before: its leases, their outcomes, and what they told.
    fn forget_leases(&mut self) {
        self.lease_is_open = false;
        self.settled = self.lease;
        self.outcome_of = self.lease;
        self.throttle = Throttle::NONE;
        self.no_early_lease_before = Timestamp::ZERO;
        self.wake();
    }

    fn wake(&mut self) {
        self.wakeups = self.wakeups.wrapping_add(1);
    }

    /// Clamps the end of a stored lease to that of one given now, and the numbers of leases to those that were given (T7,
    /// K5).
    #[cfg(feature = "serde")]
    pub(crate) fn clamp(&mut self, now: Timestamp, policy: &Policy) {
        self.lease_end = self.lease_end.min(now.after(policy.refresh_timeout));
        // A lease that has not been given is neither settled nor has an outcome.
        for lease in [&mut self.settled, &mut self.outcome_of] {
            if lease.is_after(self.lease) {
                *lease = self.lease;
            }
        }
    }

    /// Moves the instants to another clock (T7).
    #[cfg(feature = "serde")]
    pub(crate) fn rebase(&mut self, shift: Shift) {
        shift.ahead(&mut self.lease_end);
        shift.ahead(&mut self.no_early_lease_before);
        shift.ahead(&mut self.throttle.until);
        shift.past(&mut self.throttle.told_at);
        if let Some(installed) = &mut self.installed_at {
            shift.past(installed);
        }
        if let Some(Expiry { expires, .. }) = &mut self.expiry {
            shift.exact(expires);
        }
    }
}

impl Default for Login {
    fn default() -> Login {
        Login::new()
    }
}
