//! An async client: reqwest, driven by `drive::future` on tokio.

use std::time::Duration;

use retry_machine::drive::{Attempt, future};
use retry_machine::{Action, Event, RefreshOutcome, Reply, Timestamp, TransportErrorKind};

use super::{Account, BODY_LIMIT, Call, Request, Response};

pub struct Client {
    http: reqwest::Client,
    account: Account,
}

impl Client {
    pub fn new(account: Account) -> Client {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client without TLS");
        Client { http, account }
    }

    pub async fn call(&self, call: &Call) -> super::Result<Error> {
        future::run(self.account.machine(call), &self.account.upstream, &Driven { client: self, call })
            .await
            .map_err(Box::new)
    }

    /// Sends a request and reads the whole response. It needs no time limit: the driver drops it at the limit.
    async fn exchange(&self, request: Request) -> Result<Response, Error> {
        let request = reqwest::Request::try_from(request)?;
        let mut answer = self.http.execute(request).await?;
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
}

/// The reason why there is no whole response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the body is longer than {BODY_LIMIT} bytes")]
    BodyTooLong,
}

/// A call under way.
struct Driven<'a> {
    client: &'a Client,
    call: &'a Call,
}

impl future::Client for Driven<'_> {
    type Response = Response;
    type Error = Error;

    fn now(&self) -> Timestamp {
        self.client.account.now()
    }

    async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(self.client.account.real(wait)).await;
    }

    async fn send(&self, _: Attempt) -> Result<(Reply, Response), (TransportErrorKind, Error)> {
        let request = self.client.account.request(self.call);
        let response = self.client.exchange(request).await.map_err(|error| (kind(&error), error))?;
        self.call.log.keep(&response);
        Ok((self.client.account.reply(&response), response))
    }

    async fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        let response = self.client.exchange(self.client.account.refresh_request()).await;
        self.client.account.refreshed(response.as_ref().ok())
    }

    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        self.call.log.observe(now, event, action);
    }
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
