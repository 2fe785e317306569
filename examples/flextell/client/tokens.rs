//! The token store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use retry_machine::RefreshOutcome;
use serde::Deserialize;

use crate::client::Response;
use crate::server::Grant;

/// The newest tokens of an account. Without `Debug`, so that no log shows them (H9).
///
/// A program that can restart must keep them on disk: a refresh token is good for one refresh.
pub struct TokenStore(Mutex<Tokens>);

struct Tokens {
    bearer: HeaderValue,
    refresh_token: String,
}

impl TokenStore {
    pub fn new(grant: &Grant) -> TokenStore {
        let bearer = bearer(&grant.access_token).expect("the first token is well formed");
        TokenStore(Mutex::new(Tokens { bearer, refresh_token: grant.refresh_token.clone() }))
    }

    /// Returns the value of `Authorization`.
    pub fn bearer(&self) -> HeaderValue {
        self.lock().bearer.clone()
    }

    /// Returns the form that asks for new tokens (RFC 6749 §6). Encode the token if it can have characters other than
    /// letters, digits and hyphens.
    pub fn refresh_form(&self) -> String {
        format!("grant_type=refresh_token&refresh_token={}", self.lock().refresh_token)
    }

    /// Stores the tokens of a successful response. Returns `None` if it has none.
    pub fn store(&self, response: &Response) -> Option<RefreshOutcome> {
        if !response.status().is_success() {
            return None;
        }
        let new: NewTokens = serde_json::from_slice(response.body()).ok()?;
        let mut tokens = self.lock();
        tokens.bearer = bearer(&new.access_token)?;
        // Without a new refresh token, the old one stays valid.
        if let Some(refresh_token) = new.refresh_token {
            tokens.refresh_token = refresh_token;
        }
        Some(RefreshOutcome::Refreshed { expires_in: new.expires_in.map(Duration::from_secs) })
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds the header's value (RFC 6750 §2.1). Returns `None` if a header cannot have this value.
fn bearer(access_token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {access_token}")).ok()?;
    // So that `Debug` of a request does not show it.
    value.set_sensitive(true);
    Some(value)
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct NewTokens {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}
