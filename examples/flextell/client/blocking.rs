//! A blocking client: ureq, driven by `drive::blocking`.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use retry_machine::drive::{Attempt, blocking};
use retry_machine::{Action, Event, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind};
use ureq::{Agent, Error, Timeout};

use super::{Account, Call, Request, Response};

pub struct Client {
    agent: Agent,
    account: Account,
}

impl Client {
    pub fn new(account: Account) -> Client {
        // A 4xx or 5xx is a response like any other; and loopback needs no proxy.
        let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        Client { agent, account }
    }

    pub fn call(&self, call: &Call) -> super::Result<Error> {
        let machine = RetryMachine::new(call.idempotency, call.seed);
        blocking::run(machine, &self.account.upstream, &Driven { client: self, call }).map_err(Box::new)
    }

    /// Sends a request and reads the whole response, or gives up at `until`.
    fn exchange(&self, request: Request, until: Option<Timestamp>) -> Result<Response, Error> {
        let limit = until.map(|until| self.account.remaining(until));
        let request = self.agent.configure_request(request).timeout_global(limit).build();
        let (head, mut body) = self.agent.run(request)?.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?))
    }
}

/// A call that is being driven.
struct Driven<'a> {
    client: &'a Client,
    call: &'a Call,
}

impl blocking::Client for Driven<'_> {
    type Response = Response;
    type Error = Error;

    fn now(&self) -> Timestamp {
        self.client.account.now()
    }

    fn sleep(&self, wait: Duration) {
        thread::sleep(self.client.account.real(wait));
    }

    fn send(&self, attempt: Attempt) -> Result<(Reply, Response), (TransportErrorKind, Error)> {
        let request = self.client.account.request(self.call);
        let response = self.client.exchange(request, attempt.until).map_err(|error| (kind(&error), error))?;
        self.call.log.heard(&response);
        Ok((self.client.account.reply(&response), response))
    }

    fn refresh(&self, until: Timestamp) -> RefreshOutcome {
        let answer = self.client.exchange(self.client.account.refresh_request(), Some(until));
        self.client.account.refreshed(answer.as_ref().ok())
    }

    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        self.call.log.observe(now, event, action);
    }
}

/// What an error says about where the request is (D13). If in doubt, the server may have it: an unsafe request is then
/// not sent again, and a safe one is sent again all the same.
#[allow(clippy::match_same_arms, reason = "each has a reason of its own")]
fn kind(error: &Error) -> TransportErrorKind {
    match error {
        // Before there is a connection nothing can have been sent. Of the kinds of `io::Error` only this one comes from
        // connecting alone: "host unreachable" may also end a connection that was good.
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            TransportErrorKind::NotSent
        }
        Error::Tls(_) | Error::TlsRequired | Error::ConnectProxyFailed(_) => TransportErrorKind::NotSent,
        Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => TransportErrorKind::NotSent,
        // Refused by ureq itself, before it connects.
        Error::Http(_) | Error::BadUri(_) | Error::RequireHttpsOnly(_) => TransportErrorKind::NotSent,
        // The limit is on the whole exchange, so this may be at any point of it.
        Error::Timeout(_) => TransportErrorKind::TimedOut,
        Error::Io(error) if error.kind() == ErrorKind::TimedOut => TransportErrorKind::TimedOut,
        // The connection ended before the response, or within it: "peer disconnected" is an unexpected end of file.
        Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
            ) =>
        {
            TransportErrorKind::Broken
        }
        // What arrived is no HTTP.
        Error::Protocol(_) | Error::LargeResponseHeader(..) => TransportErrorKind::Broken,
        _ => TransportErrorKind::Other,
    }
}
