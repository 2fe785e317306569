//! The token store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use retry_machine::RefreshOutcome;
use serde::Deserialize;

use crate::client::Response;
use crate::server::Grant;

/// The newest tokens of an account. It has no `Debug`, so that no log shows them (H9).
///
/// A program that is restarted keeps them on disk: a refresh token is good for one refresh.
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

    /// The value of `Authorization`.
    pub fn bearer(&self) -> HeaderValue {
        self.lock().bearer.clone()
    }

    /// The form that asks for new tokens (RFC 6749 §6). A token that is not made of letters, digits and hyphens must be
    /// encoded.
    pub fn refresh_form(&self) -> String {
        format!("grant_type=refresh_token&refresh_token={}", self.lock().refresh_token)
    }

    /// Stores the tokens of a successful answer. `None` if it has none.
    pub fn store(&self, answer: &Response) -> Option<RefreshOutcome> {
        if !answer.status().is_success() {
            return None;
        }
        let new: NewTokens = serde_json::from_slice(answer.body()).ok()?;
        let mut tokens = self.lock();
        tokens.bearer = bearer(&new.access_token)?;
        // Without a new one the old one stays good.
        if let Some(refresh_token) = new.refresh_token {
            tokens.refresh_token = refresh_token;
        }
        Some(RefreshOutcome::Refreshed { expires_in: new.expires_in.map(Duration::from_secs) })
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 6750 §2.1. `None` for what cannot stand in a header.
fn bearer(access_token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {access_token}")).ok()?;
    // `Debug` of a request does not show it.
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
