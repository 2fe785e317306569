//! The token store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::client::Response;
use crate::server::Grant;

/// The newest tokens of an account. It has no `Debug`, so that no log shows them (H9).
///
/// A program that is restarted keeps them on disk: a refresh token is good for one refresh.
pub(crate) struct TokenStore(Mutex<Grant>);

impl TokenStore {
    pub(crate) fn new(grant: &Grant) -> TokenStore {
        TokenStore(Mutex::new(grant.clone()))
    }

    /// The value of `Authorization`.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.lock().access_token)
    }

    /// The form that asks for new tokens (RFC 6749 §6). Tokens with other characters than these must be encoded.
    pub(crate) fn refresh_form(&self) -> String {
        format!("grant_type=refresh_token&refresh_token={}", self.lock().refresh_token)
    }

    /// Stores the tokens of a successful answer (RFC 6749 §5.1), and gives the lifetime that it may name. `None` if
    /// there are none in it.
    pub(crate) fn store(&self, answer: &Response) -> Option<Option<Duration>> {
        if !answer.status().is_success() {
            return None;
        }
        let body: Value = serde_json::from_slice(answer.body()).ok()?;
        let mut tokens = self.lock();
        tokens.access_token = body["access_token"].as_str()?.to_owned();
        // Without a new one the old one stays good.
        if let Some(refresh_token) = body["refresh_token"].as_str() {
            tokens.refresh_token = refresh_token.to_owned();
        }
        Some(body["expires_in"].as_u64().map(Duration::from_secs))
    }

    fn lock(&self) -> MutexGuard<'_, Grant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
