//! The tokens of an account, and their refresh (RFC 6749 §6).

use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use retry_machine::Reply;
use retry_machine::drive::{Fresh, RefreshError};
use serde::Deserialize;

use super::{Request, Response, error_body};

/// The tokens of an account. Without `Debug`, so that no log shows them (H9).
pub struct Tokens {
    bearer: HeaderValue,
    refresh_token: String,
}

impl Tokens {
    /// Returns `None` if a header cannot have the access token.
    pub fn new(access_token: &str, refresh_token: String) -> Option<Tokens> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {access_token}")).ok()?;
        // So that `Debug` of a request does not show it.
        bearer.set_sensitive(true);
        Some(Tokens { bearer, refresh_token })
    }

    /// Returns the value of `Authorization` (RFC 6750 §2.1).
    pub fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// Builds the request for new tokens. Encode the refresh token if it can have characters other than letters, digits
    /// and hyphens.
    pub fn refresh_request(&self, base_url: &str) -> Request {
        let form = format!("grant_type=refresh_token&refresh_token={}", self.refresh_token);
        http::Request::post(format!("{base_url}/oauth/token"))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into())
            .expect("the URL is well formed")
    }

    /// Reads the token endpoint's response. A program that can restart stores the new tokens here: a refresh token is good
    /// for one refresh.
    pub fn refreshed(&self, response: &Response, reply: &Reply) -> Result<Fresh<Tokens>, RefreshError> {
        match (self.renewed(response), error_body(response)) {
            (Some(fresh), _) => Ok(fresh),
            // For good: until the token is replaced, every call of the account fails without being sent (K6).
            (_, Some(body)) if body.code() == Some("invalid_grant") => Err(RefreshError::Rejected),
            _ => Err(RefreshError::unavailable(reply)),
        }
    }

    fn renewed(&self, response: &Response) -> Option<Fresh<Tokens>> {
        if !response.status().is_success() {
            return None;
        }
        let new: NewTokens = serde_json::from_slice(response.body()).ok()?;
        // Without a new refresh token, the old one stays valid.
        let refresh_token = new.refresh_token.unwrap_or_else(|| self.refresh_token.clone());
        let token = Tokens::new(&new.access_token, refresh_token)?;
        Some(Fresh { token, expires_in: new.expires_in.map(Duration::from_secs) })
    }
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct NewTokens {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}
