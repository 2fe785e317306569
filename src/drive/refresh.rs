//! The facts that a refresh is given, and its results.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::event::RefreshOutcome;
use crate::reply::{BearerErrorCode, Reply};

/// A new token, or the first one.
#[derive(Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "clients create it")]
pub struct Fresh<T> {
    /// The token: whatever the client needs to send and to refresh it, such as an access token with its refresh token.
    pub token: T,
    /// Its lifetime from now, if the token endpoint reported it: `expires_in` of RFC 6749 §5.1. With it, requests refresh
    /// the token before it expires and save the 401 (rule K7).
    pub expires_in: Option<Duration>,
}

impl<T> Fresh<T> {
    /// Returns a token that has expired: the next request refreshes it first. For a program that starts with a refresh token
    /// and without an access token.
    pub fn expired(token: T) -> Fresh<T> {
        Fresh { token, expires_in: Some(Duration::from_nanos(1)) }
    }
}

/// H9: without the token.
impl<T> fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Why a refresh brought no token (rule K6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::exhaustive_enums, reason = "rule K6 names these outcomes")]
pub enum RefreshError {
    /// The token endpoint refused for good: `invalid_grant` of RFC 6749 §5.2. Every request of the login fails until it has
    /// a new token.
    Rejected,
    /// The token endpoint gave no useful answer: it could not be reached, failed or throttled.
    Unavailable {
        /// The time for which to leave the token endpoint alone, if it asked for one.
        retry_after: Option<Duration>,
    },
    /// The token endpoint was not called: another request can refresh at once.
    Abandoned,
}

/// The result of a refresh.
pub type RefreshResult<T> = Result<Fresh<T>, RefreshError>;

impl RefreshError {
    /// The token endpoint could not be reached, or gave no useful answer.
    pub const UNAVAILABLE: RefreshError = RefreshError::Unavailable { retry_after: None };

    /// Returns the error for a token endpoint that failed or throttled with this reply: unavailable, for as long as it says.
    #[must_use]
    pub fn unavailable(reply: &Reply) -> RefreshError {
        RefreshError::Unavailable { retry_after: reply.hint().map(|hint| hint.wait()) }
    }
}

impl From<RefreshError> for RefreshOutcome {
    fn from(error: RefreshError) -> RefreshOutcome {
        match error {
            RefreshError::Rejected => RefreshOutcome::Rejected,
            RefreshError::Unavailable { retry_after } => RefreshOutcome::Unavailable { retry_after },
            RefreshError::Abandoned => RefreshOutcome::Abandoned,
        }
    }
}

/// The facts of a refresh that begins. `V` is the handle for its own calls.
pub struct Refresh<T, V> {
    pub(super) token: Arc<T>,
    pub(super) generation: u32,
    pub(super) lease: u32,
    pub(super) timeout: Duration,
    pub(super) challenge: Option<BearerErrorCode>,
    pub(super) www_authenticate: Vec<u8>,
    pub(super) api: V,
}

impl<T, V> Refresh<T, V> {
    /// Returns the token to replace, with what it is refreshed by.
    pub fn token(&self) -> &T {
        &self.token
    }

    /// Returns the generation of the token to replace.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the time that the lease leaves (rule K5): the requests that wait give up after it. A later outcome still
    /// counts.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns the error that the 401 named, if one did (rule D12). `None` ahead of expiry.
    pub fn challenge(&self) -> Option<BearerErrorCode> {
        self.challenge
    }

    /// Returns the `WWW-Authenticate` fields of the 401, joined by commas, with the scopes or claims to ask for. Empty ahead
    /// of expiry, or if [`Attempt::read`](super::Attempt::read) did not read the response.
    pub fn www_authenticate(&self) -> &[u8] {
        &self.www_authenticate
    }

    /// Returns the same service without a token, for calls that the refresh makes itself (rule K9). They share budget,
    /// breaker and gate with all others, and can never wait for this refresh.
    pub fn api(&self) -> &V {
        &self.api
    }
}

/// H9: without the token and the challenge's text.
impl<T, V> fmt::Debug for Refresh<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refresh { generation, lease, timeout, challenge, .. } = self;
        f.debug_struct("Refresh")
            .field("generation", generation)
            .field("lease", lease)
            .field("timeout", timeout)
            .field("challenge", challenge)
            .finish_non_exhaustive()
    }
}
