//! A blocking client: ureq, driven by `drive::blocking`.

use std::io::ErrorKind;
use std::time::Duration;

use retry_machine::drive::{Fresh, RefreshError, blocking};
use retry_machine::{TransportErrorKind, Upstream};
use ureq::{Agent, Error, Timeout};

use super::{Account, BODY_LIMIT, Call, Request, Response, Tokens};

pub struct Client {
    agent: Agent,
    base_url: String,
    api: blocking::Api<Tokens>,
}

impl Client {
    pub fn new(account: Account) -> Client {
        let Account { base_url, policy, tokens, clock } = account;
        // A 4xx or 5xx is a response like any other: its headers count. Loopback needs no proxy.
        let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        let refresh = {
            let (agent, base_url) = (agent.clone(), base_url.clone());
            move |refresh: blocking::Refresh<Tokens>| {
                let request = refresh.token().refresh_request(&base_url);
                let response = exchange(&agent, request, Some(refresh.timeout()));
                let response = response.map_err(|_| RefreshError::UNAVAILABLE)?;
                refresh.token().refreshed(&response, &refresh.read(response.status().as_u16(), response.headers()))
            }
        };
        let first = Fresh { token: tokens, expires_in: None };
        let api = blocking::Api::with_upstream(Upstream::new(policy), clock).with_login(Some(first), refresh);
        Client { agent, base_url, api }
    }

    pub fn call(&self, call: &Call) -> super::Result<Error> {
        let send = |attempt| {
            let request = call.request(&self.base_url, &attempt);
            let response = exchange(&self.agent, request, attempt.timeout()).map_err(|error| (kind(&error), error))?;
            Ok((call.reply(&attempt, &response), response))
        };
        self.api.call(call.start(&mut |step| call.log.observe(step)), send)
    }
}

/// Sends a request and reads the whole response, or gives up after `timeout`.
fn exchange(agent: &Agent, request: Request, timeout: Option<Duration>) -> Result<Response, Error> {
    let request = agent.configure_request(request).timeout_global(timeout).build();
    let (head, mut body) = agent.run(request)?.into_parts();
    Ok(Response::from_parts(head, body.with_config().limit(BODY_LIMIT as u64).read_to_vec()?))
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
