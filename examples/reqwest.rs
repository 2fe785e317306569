//! An async client with reqwest on tokio, with OAuth tokens that it refreshes.
use retry_machine::drive::future::{Api, Refresh, RefreshResult};
use retry_machine::drive::{Attempt, CallResult, Fresh, RefreshError};
use retry_machine::{Idempotency, Policy, TransportErrorKind};
use std::time::Duration;

type Sleep = fn(Duration) -> tokio::time::Sleep;

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    api: Api<Sleep, Token>,
}

impl Client {
    fn new(policy: Policy, first: Fresh<Token>) -> Client {
        let http = reqwest::Client::new();
        let to_endpoint = http.clone();
        let api = Api::new(policy, tokio::time::sleep as Sleep);
        let api = api.with_login(Some(first), move |refresh| renew(to_endpoint.clone(), refresh));
        Client { http, api }
    }

    async fn get(&self, url: &str) -> CallResult<String, reqwest::Error> {
        let send = |attempt: Attempt<Token>| async move {
            let mut request = self.http.get(url);
            if let Some(token) = attempt.token() {
                request = request.bearer_auth(&token.access_token);
            }
            let response = request.send().await.map_err(classify)?;
            let reply = attempt.read(response.status().as_u16(), response.headers());
            Ok((reply, response.text().await.map_err(classify)?))
        };
        self.api.call(Idempotency::Idempotent, send).await
    }
}

fn classify(error: reqwest::Error) -> (TransportErrorKind, reqwest::Error) {
    let kind = if error.is_builder() || error.is_redirect() {
        TransportErrorKind::Permanent // an invalid request, or a redirect loop
    } else if error.is_connect() {
        TransportErrorKind::NotSent // also a failed name lookup
    } else if error.is_timeout() {
        TransportErrorKind::TimedOut
    } else if error.is_request() || error.is_body() || error.is_decode() {
        TransportErrorKind::Broken // the connection ended before or within the response
    } else {
        TransportErrorKind::Other
    };
    (kind, error)
}

const TOKEN_ENDPOINT: &str = "http://127.0.0.1:8080/oauth/token";

/// The answer of the token endpoint (RFC 6749 §5.1).
#[derive(serde::Deserialize)]
struct Token {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

async fn renew(http: reqwest::Client, refresh: Refresh<Sleep, Token>) -> RefreshResult<Token> {
    let old = refresh.token().refresh_token.as_deref().ok_or(RefreshError::Rejected)?;
    let form = [("grant_type", "refresh_token"), ("refresh_token", old)];
    let lost = |_| RefreshError::Unavailable { retry_after: None };
    let response = http.post(TOKEN_ENDPOINT).form(&form).send().await.map_err(lost)?;
    let reply = refresh.api().policy().read(response.status().as_u16(), response.headers());
    let body = response.bytes().await.map_err(lost)?;
    if let (200, Ok(mut token)) = (reply.status(), serde_json::from_slice::<Token>(&body)) {
        token.refresh_token.get_or_insert_with(|| old.into()); // rotated, or as before
        return Ok(Fresh { expires_in: token.expires_in.map(Duration::from_secs), token });
    }
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(error) if reply.status() == 400 && error["error"] == "invalid_grant" => Err(RefreshError::Rejected),
        _ => Err(RefreshError::Unavailable { retry_after: reply.hint().map(|hint| hint.wait()) }),
    }
}

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("an address");
    let limit = Some(Duration::from_secs(20));
    let policy = Policy::flextell().into_builder().attempt_timeout(limit).build().expect("any limit is valid");
    let token = Token { access_token: "access".into(), refresh_token: Some("refresh".into()), expires_in: None };
    let client = Client::new(policy, Fresh { token, expires_in: None });
    let tasks = [1, 2, 3].map(|_| {
        let (client, address) = (client.clone(), address.clone());
        tokio::spawn(async move { client.get(&address).await })
    });
    for task in tasks {
        match task.await.expect("a task does not panic") {
            Ok(answer) => println!("{} after {} attempts", answer.response, answer.attempts),
            Err(error) => eprintln!("{error}"), // `error.response` is the last response
        }
    }
}
