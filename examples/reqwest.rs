//! An async client with reqwest on tokio.
use retry_machine::TransportErrorKind::{self, Broken, NotSent, Other, Permanent, TimedOut};
use retry_machine::drive::{CallResult, future::Api};
use retry_machine::{Idempotency, Policy};
use std::time::Duration;

type Sleep = fn(Duration) -> tokio::time::Sleep;

async fn get(api: &Api<Sleep>, http: &reqwest::Client, url: &str) -> CallResult<String, reqwest::Error> {
    let send = |attempt: retry_machine::drive::Attempt<_>| async move {
        let response = http.get(url).send().await.map_err(classify)?;
        let reply = attempt.read(response.status().as_u16(), response.headers());
        Ok((reply, response.text().await.map_err(classify)?))
    };
    api.call(Idempotency::Idempotent, send).await
}

fn classify(error: reqwest::Error) -> (TransportErrorKind, reqwest::Error) {
    let kind = match &error {
        error if error.is_builder() || error.is_redirect() => Permanent, // an invalid request, or a redirect loop
        error if error.is_connect() => NotSent,                          // also a failed name lookup
        error if error.is_timeout() => TimedOut,
        error if error.is_request() || error.is_body() || error.is_decode() => Broken,
        _ => Other,
    };
    (kind, error)
}

#[tokio::main]
async fn main() {
    let policy = Policy::common().into_builder().attempt_timeout(Some(Duration::from_secs(20))).build().unwrap();
    let api = Api::new(policy, tokio::time::sleep as Sleep); // one for each service, for as long as the program runs
    let http = reqwest::Client::new();
    match get(&api, &http, &std::env::args().nth(1).expect("an address")).await {
        Ok(answer) => println!("{} after {} attempts", answer.response, answer.attempts),
        Err(error) => eprintln!("{error}"), // `error.response` is the last response
    }
}
