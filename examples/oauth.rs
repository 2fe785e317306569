//! An async client with reqwest on tokio, with OAuth tokens that it refreshes.
use retry_machine::drive::future::{Api, Refresh, RefreshResult};
use retry_machine::drive::{Attempt, CallResult, Fresh, RefreshError};
use retry_machine::{Idempotency, Policy, TransportErrorKind};
use std::time::Duration;

type Sleep = fn(Duration) -> tokio::time::Sleep;

/// One for each service, for as long as the program runs. Give each task a clone.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    api: Api<Sleep, Token>,
}

impl Client {
    fn new(policy: Policy, first: Fresh<Token>) -> Client {
        let http = reqwest::Client::new();
        let for_refresh = http.clone();
        let api = Api::new(policy, tokio::time::sleep as Sleep);
        let api = api.with_login(Some(first), move |refresh| renew(for_refresh.clone(), refresh));
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

const TOKEN_ENDPOINT: &str = "http://127.0.0.1:8080/oauth/token";

/// The answer of the token endpoint (RFC 6749 §5.1).
#[derive(serde::Deserialize)]
struct Token {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

async fn renew(http: reqwest::Client, refresh: Refresh<Sleep, Token>) -> RefreshResult<Token> {
    let old = refresh.token().refresh_token.as_deref().unwrap_or_default();
    let form = [("grant_type", "refresh_token"), ("refresh_token", old)];
    let lost = |_| RefreshError::UNAVAILABLE;
    let response = http.post(TOKEN_ENDPOINT).form(&form).send().await.map_err(lost)?;
    let reply = refresh.read(response.status().as_u16(), response.headers());
    let body = response.text().await.map_err(lost)?;
    match (reply.status(), serde_json::from_str::<Token>(&body)) {
        (200, Ok(mut token)) => {
            token.refresh_token.get_or_insert_with(|| old.into()); // a new one, or the old one again
            Ok(Fresh { expires_in: token.expires_in.map(Duration::from_secs), token })
        }
        (400, _) if body.contains("\"invalid_grant\"") => Err(RefreshError::Rejected),
        _ => Err(RefreshError::unavailable(&reply)),
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

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (address, refresh_token) = (arguments.next().expect("an address"), arguments.next());
    let policy = Policy::flextell().into_builder().attempt_timeout(Some(Duration::from_secs(20))).build().unwrap();
    let token = Token { access_token: String::new(), refresh_token, expires_in: None };
    let client = Client::new(policy, Fresh::expired(token)); // the first request brings a token
    match client.get(&address).await {
        Ok(answer) => println!("{} after {} attempts", answer.response, answer.attempts),
        Err(error) => eprintln!("{error}"), // `error.response` is the last response
    }
}
