//! A blocking client: ureq, driven by `drive::blocking`.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use retry_machine::drive::{Attempt, blocking};
use retry_machine::{Action, Event, RefreshOutcome, Reply, Timestamp, TransportErrorKind};
use ureq::{Agent, Error, Timeout};

use super::{Account, BODY_LIMIT, Call, Request, Response};

pub struct Client {
    agent: Agent,
    account: Account,
}

impl Client {
    pub fn new(account: Account) -> Client {
        // A 4xx or 5xx is a response like any other: its headers count. Loopback needs no proxy.
        let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        Client { agent, account }
    }

    pub fn call(&self, call: &Call) -> super::Result<Error> {
        blocking::run(self.account.machine(call), &self.account.upstream, &Driven { client: self, call })
            .map_err(Box::new)
    }

    /// Sends a request and reads the whole response, or gives up at `until`.
    fn exchange(&self, request: Request, until: Option<Timestamp>) -> Result<Response, Error> {
        let limit = until.map(|until| self.account.remaining(until));
        let request = self.agent.configure_request(request).timeout_global(limit).build();
        let (head, mut body) = self.agent.run(request)?.into_parts();
        Ok(Response::from_parts(head, body.with_config().limit(BODY_LIMIT as u64).read_to_vec()?))
    }
}

/// A call under way.
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
        self.call.log.keep(&response);
        Ok((self.client.account.reply(&response), response))
    }

    fn refresh(&self, until: Timestamp) -> RefreshOutcome {
        let response = self.client.exchange(self.client.account.refresh_request(), Some(until));
        self.client.account.refreshed(response.as_ref().ok())
    }

    fn observe(&self, now: Timestamp, event: &Event, action: &Action) {
        self.call.log.observe(now, event, action);
    }
}

/// Classifies an error by how far the request may have come (D13). If in doubt, the server may have it: then the
/// machine repeats the request only if it is idempotent.
#[allow(clippy::match_same_arms, reason = "each has a reason of its own")]
fn kind(error: &Error) -> TransportErrorKind {
    match error {
        // Without a connection, nothing was sent. Of the kinds of `io::Error`, only `ConnectionRefused` comes from
        // connecting alone: `HostUnreachable` can also end an established connection.
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            TransportErrorKind::NotSent
        }
        Error::Tls(_) | Error::TlsRequired | Error::ConnectProxyFailed(_) => TransportErrorKind::NotSent,
        Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => TransportErrorKind::NotSent,
        // ureq itself refuses these before it connects.
        Error::Http(_) | Error::BadUri(_) | Error::RequireHttpsOnly(_) => TransportErrorKind::NotSent,
        // The limit covers the whole exchange and can end it at any point.
        Error::Timeout(_) => TransportErrorKind::TimedOut,
        Error::Io(error) if error.kind() == ErrorKind::TimedOut => TransportErrorKind::TimedOut,
        // The connection ended before the response or within it. A server that closes it is an unexpected end of file.
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
        // The response is not HTTP.
        Error::Protocol(_) | Error::LargeResponseHeader(..) => TransportErrorKind::Broken,
        // A failed name lookup is one of these: an `io::Error` of a kind without a name.
        _ => TransportErrorKind::Other,
    }
}
