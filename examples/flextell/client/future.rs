//! An async client: reqwest, driven by `drive::future` on tokio.

use std::time::Duration;

use reqwest::Error;
use retry_machine::drive::{Attempt, future};
use retry_machine::{Action, Event, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind};

use super::{Account, Call, Request, Response};

pub struct Client {
    http: reqwest::Client,
    account: Account,
}

impl Client {
    pub fn new(account: Account) -> Client {
        let http = reqwest::Client::builder().no_proxy().build().expect("there is nothing to go wrong without TLS");
        Client { http, account }
    }

    pub async fn call(&self, call: &Call) -> super::Result<Error> {
        let machine = RetryMachine::new(call.idempotency, call.seed);
        future::run(machine, &self.account.upstream, &Driven { client: self, call }).await.map_err(Box::new)
    }

    /// Sends a request and reads the whole response. There is no time limit in it: the driver drops it in time.
    async fn exchange(&self, request: Request) -> Result<Response, Error> {
        let mut answer = self.http.execute(request.try_into()?).await?;
        let mut response = Response::default();
        *response.status_mut() = answer.status();
        std::mem::swap(response.headers_mut(), answer.headers_mut());
        *response.body_mut() = answer.bytes().await?.into();
        Ok(response)
    }
}

/// A call that is being driven.
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
        self.call.log.heard(&response);
        Ok((self.client.account.reply(&response), response))
    }

    async fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        let answer = self.client.exchange(self.client.account.refresh_request()).await;
        self.client.account.refreshed(answer.as_ref().ok())
    }

    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        self.call.log.observe(now, event, action);
    }
}

/// What an error says about where the request is (D13). An error may answer yes to several of these questions, so their
/// order matters.
fn kind(error: &Error) -> TransportErrorKind {
    if error.is_connect() || error.is_builder() {
        // Name resolution, connecting, TLS; or no request could be made at all. First, since connecting that timed out
        // has not sent anything either.
        TransportErrorKind::NotSent
    } else if error.is_timeout() {
        // Before the next, since a time limit of reqwest's own makes a request error too.
        TransportErrorKind::TimedOut
    } else if error.is_request() || error.is_body() || error.is_decode() {
        // There was a connection, and it ended before the response (request) or within it (body, decode).
        TransportErrorKind::Broken
    } else {
        TransportErrorKind::Other
    }
}
