//! An async client: reqwest, driven by `drive::future` on tokio.

use std::time::Duration;

use retry_machine::drive::{Attempt, Fresh, RefreshError, future};
use retry_machine::{TransportErrorKind, Upstream};

use super::{Account, BODY_LIMIT, Call, Request, Response, Tokens};

type Sleep = fn(Duration) -> tokio::time::Sleep;

pub struct Client {
    http: reqwest::Client,
    base_url: String,
    api: future::Api<Sleep, Tokens>,
}

impl Client {
    pub fn new(account: Account) -> Client {
        let Account { base_url, policy, tokens, clock } = account;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
        let refresh = {
            let (http, base_url) = (http.clone(), base_url.clone());
            move |refresh: future::Refresh<Sleep, Tokens>| {
                let exchange = exchange(http.clone(), refresh.token().refresh_request(&base_url));
                async move {
                    let response = exchange.await.map_err(|_| RefreshError::UNAVAILABLE)?;
                    refresh.token().refreshed(&response, &refresh.read(response.status().as_u16(), response.headers()))
                }
            }
        };
        let first = Fresh { token: tokens, expires_in: None };
        let api = future::Api::with_upstream(Upstream::new(policy), tokio::time::sleep as Sleep, clock);
        Client { http, base_url, api: api.with_login(Some(first), refresh) }
    }

    pub async fn call(&self, call: &Call) -> super::Result<Error> {
        let send = |attempt: Attempt<Tokens>| async move {
            let request = call.request(&self.base_url, &attempt);
            let response = exchange(self.http.clone(), request).await.map_err(|error| (kind(&error), error))?;
            Ok((call.reply(&attempt, &response), response))
        };
        self.api.call(call.start(&mut |step| call.log.observe(step)), send).await
    }
}

/// Sends a request and reads the whole response. It needs no time limit: the driver drops it at the limit.
async fn exchange(http: reqwest::Client, request: Request) -> Result<Response, Error> {
    let mut answer = http.execute(request.try_into()?).await?;
    let mut response = Response::default();
    *response.status_mut() = answer.status();
    std::mem::swap(response.headers_mut(), answer.headers_mut());
    while let Some(chunk) = answer.chunk().await? {
        if response.body().len() + chunk.len() > BODY_LIMIT {
            return Err(Error::BodyTooLong);
        }
        response.body_mut().extend_from_slice(&chunk);
    }
    Ok(response)
}

/// The reason why there is no whole response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the body is longer than {BODY_LIMIT} bytes")]
    BodyTooLong,
}

/// Classifies an error by how far the request may have come (D13). Several of these questions may be true of an error,
/// so their order matters.
fn kind(error: &Error) -> TransportErrorKind {
    let Error::Http(error) = error else { return TransportErrorKind::Other };
    if error.is_connect() || error.is_builder() {
        // Name resolution, connecting or TLS failed, or the request was invalid. This comes first, because a
        // `connect_timeout` makes an error that is a timeout, too, and nothing was sent.
        TransportErrorKind::NotSent
    } else if error.is_timeout() {
        // Before the next question, because a time limit makes an error that is a request error, too.
        TransportErrorKind::TimedOut
    } else if error.is_request() || error.is_body() || error.is_decode() {
        // The connection ended before the response (request) or within it (body, decode).
        TransportErrorKind::Broken
    } else {
        TransportErrorKind::Other
    }
}
