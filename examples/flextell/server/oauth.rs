//! The authorization server: access tokens expire, refresh tokens rotate (RFC 9700 §4.14.2).

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::reply::{self, Reply};

/// The first tokens of a grant, as a client gets them when the user has authorized it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The token for `Authorization: Bearer`.
    pub access_token: String,
    /// The token for one call of the token endpoint.
    pub refresh_token: String,
}

/// All grants. The text of a token is its place in here: `at-3-0` is the first access token of
/// grant 3, and `rt-3-0` the refresh token that came with it.
#[derive(Default)]
pub(super) struct Ledger {
    grants: Vec<Entry>,
}

struct Entry {
    lifetime: Duration,
    /// The expiry of each access token, in virtual milliseconds. Of the refresh tokens, only the one
    /// that came with the last access token is unused.
    expiries: Vec<u64>,
    /// Number of uses of each refresh token. More than one is a replay.
    uses: Vec<usize>,
    revoked: bool,
}

impl Ledger {
    pub(super) fn open(&mut self, lifetime: Duration, now_ms: u64) -> Grant {
        let grant = self.grants.len();
        self.grants.push(Entry { lifetime, expiries: Vec::new(), uses: Vec::new(), revoked: false });
        self.grants[grant].issue(grant, now_ms)
    }

    pub(super) fn is_valid(&mut self, access_token: &str, now_ms: u64) -> bool {
        self.find(ACCESS, access_token)
            .is_some_and(|(entry, _, serial)| !entry.revoked && now_ms < entry.expiries[serial])
    }

    pub(super) fn expire(&mut self, access_token: &str, now_ms: u64) {
        if let Some((entry, _, serial)) = self.find(ACCESS, access_token) {
            entry.expiries[serial] = entry.expiries[serial].min(now_ms);
        }
    }

    /// Revokes the grant of an access token, expired or not.
    pub(super) fn revoke(&mut self, access_token: &str) {
        if let Some((entry, ..)) = self.find(ACCESS, access_token) {
            entry.revoked = true;
        }
    }

    pub(super) fn uses(&mut self, refresh_token: &str) -> Vec<usize> {
        self.find(REFRESH, refresh_token).map_or_else(Vec::new, |(entry, ..)| entry.uses.clone())
    }

    /// Answers a call of the token endpoint (RFC 6749 §6), with the error bodies of the Flextell guide.
    pub(super) fn token(&mut self, form: &[u8], now_ms: u64) -> Reply {
        match self.refresh(form, now_ms) {
            Ok(reply) => reply,
            Err((code, message)) => reply::error(StatusCode::BAD_REQUEST, code, message),
        }
    }

    fn refresh(&mut self, form: &[u8], now_ms: u64) -> Result<Reply, (&'static str, &'static str)> {
        let form = std::str::from_utf8(form).unwrap_or("");
        let grant_type = field(form, "grant_type").ok_or(("invalid_request", "The 'grant_type' field is missing."))?;
        if grant_type != "refresh_token" {
            let message = "This server supports 'refresh_token' only.";
            return Err(("unsupported_grant_type", message));
        }
        let token = field(form, "refresh_token").ok_or(("invalid_request", "The 'refresh_token' field is missing."))?;

        let (entry, grant, serial) =
            self.find(REFRESH, token).ok_or(("invalid_grant", "The refresh token is unknown."))?;
        entry.uses[serial] += 1;
        // A token that is used twice may have been stolen.
        entry.revoked |= serial + 1 != entry.expiries.len();
        if entry.revoked {
            let message = "The refresh token was used before or revoked.";
            return Err(("invalid_grant", message));
        }
        let lifetime = entry.lifetime.as_secs();
        let tokens = entry.issue(grant, now_ms);
        let body = json!({
            "access_token": tokens.access_token,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "refresh_token": tokens.refresh_token,
        });
        Ok(reply::json(StatusCode::OK, &body))
    }

    /// Finds the entry of a token of this kind, with the number of the grant and of the token.
    fn find(&mut self, kind: &str, token: &str) -> Option<(&mut Entry, usize, usize)> {
        let (grant, serial) = token.strip_prefix(kind)?.split_once('-')?;
        let (grant, serial): (usize, usize) = (grant.parse().ok()?, serial.parse().ok()?);
        let entry = self.grants.get_mut(grant)?;
        (serial < entry.expiries.len()).then_some((entry, grant, serial))
    }
}

const ACCESS: &str = "at-";
const REFRESH: &str = "rt-";

impl Entry {
    fn issue(&mut self, grant: usize, now_ms: u64) -> Grant {
        let serial = self.expiries.len();
        let lifetime_ms = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        self.expiries.push(now_ms.saturating_add(lifetime_ms));
        self.uses.push(0);
        Grant { access_token: format!("{ACCESS}{grant}-{serial}"), refresh_token: format!("{REFRESH}{grant}-{serial}") }
    }
}

/// Returns a field of a form. Decodes nothing: the values here need no encoding.
fn field<'a>(form: &'a str, name: &str) -> Option<&'a str> {
    form.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
}
