//! A blocking client with ureq.
use retry_machine::TransportErrorKind::{self, Broken, NotSent, Other, Permanent, TimedOut};
use retry_machine::drive::{CallResult, blocking::Api};
use retry_machine::{Idempotency, Policy};
use std::{io::ErrorKind, time::Duration};
use ureq::{Agent, Body, Error, Timeout, http::Response};

fn get(api: &Api, agent: &Agent, url: &str) -> CallResult<Response<Vec<u8>>, Error> {
    api.call(Idempotency::Idempotent, |attempt| {
        let request = agent.get(url).config().timeout_global(attempt.timeout()).build();
        let response = request.call().and_then(read).map_err(|error| (classify(&error), error))?;
        Ok((attempt.read(response.status().as_u16(), response.headers()), response))
    })
}

fn read(response: Response<Body>) -> Result<Response<Vec<u8>>, Error> {
    let (head, mut body) = response.into_parts();
    Ok(Response::from_parts(head, body.with_config().limit(1 << 20).read_to_vec()?))
}

fn classify(error: &Error) -> TransportErrorKind {
    match error {
        Error::HostNotFound | Error::ConnectionFailed | Error::Timeout(Timeout::Resolve | Timeout::Connect) => NotSent,
        Error::Timeout(_) => TimedOut,
        Error::BadUri(_) | Error::TooManyRedirects => Permanent,
        Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => NotSent,
        Error::Io(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => Broken,
        _ => Other,
    }
}

fn main() {
    let policy = Policy::common().into_builder().attempt_timeout(Some(Duration::from_secs(20))).build().unwrap();
    let api = Api::new(policy); // one for each service, for as long as the program runs
    let agent = Agent::config_builder().http_status_as_error(false).build().new_agent();
    match get(&api, &agent, &std::env::args().nth(1).expect("an address")) {
        Ok(answer) => println!("{} after {} attempts", answer.response.status(), answer.attempts),
        Err(error) => eprintln!("{error}"), // `error.response` is the last response
    }
}
