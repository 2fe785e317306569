//! The trace format: events and actions as JSON Lines (features `serde` and `json`).
//!
//! Because the machine is pure, a list of events is a complete record of what happened: fed in again it gives the same
//! actions, on any machine. A trace begins with a line of settings, and has one line for each event after it; a replay
//! of it has one line for each action. `cargo run --example replay -- FILE` does that for a file.
//!
//! ```
//! use retry_machine::trace::{Event, Replay, Setting};
//!
//! let setting = Setting::parse(r#"{"seed": 7, "jitter": "none"}"#)?;
//! let mut replay = Replay::new(&setting)?;
//! replay.step(&Event::parse(r#"{"at_ms": 0, "event": "start"}"#)?)?;
//! let action = replay.step(&Event::parse(r#"{"at_ms": 80, "event": "reply", "status": 503}"#)?)?.unwrap();
//! assert_eq!(action.to_json()["until_ms"], 1080);
//! # Ok::<(), retry_machine::trace::TraceError>(())
//! ```

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::time::Duration;

use thiserror::Error;

use crate::policy::PolicyError;
use crate::{ErrorBody, Reply, RetryMachine, Time, Upstream, derive_seed};

#[allow(clippy::indexing_slicing, reason = "to index a JSON object with a key for writing inserts the key")]
mod action;
#[allow(clippy::indexing_slicing, reason = "to index a JSON object with a key for writing inserts the key")]
mod event;
mod fields;
mod setting;

pub use self::action::{Action, Facts};
pub use self::event::{Event, Told, What};
pub use self::setting::Setting;

/// Replays a trace: one upstream and its requests.
#[derive(Clone, Debug)]
pub struct Replay {
    upstream: Upstream,
    seed: u64,
    /// Unix milliseconds at the trace's origin.
    unix_ms: Option<u64>,
    requests: BTreeMap<u64, Request>,
}

#[derive(Clone, Debug)]
struct Request {
    machine: RetryMachine,
    /// Of the last response in flight.
    body: Option<ErrorBody>,
}

impl Replay {
    /// Begins a replay with these settings.
    ///
    /// # Errors
    ///
    /// [`TraceError::Policy`] if they make no policy.
    pub fn new(setting: &Setting) -> Result<Replay, TraceError> {
        let mut upstream = Upstream::new(setting.policy()?);
        if let Some(lifetime) = setting.token_expires_in_ms {
            upstream.token_expires_in(Time::ZERO, Duration::from_millis(lifetime));
        }
        Ok(Replay { upstream, seed: setting.seed, unix_ms: setting.unix_ms, requests: BTreeMap::new() })
    }

    /// Feeds in one event. Returns the action that answers it, or none where the event is no request's.
    ///
    /// # Errors
    ///
    /// [`TraceError::Field`] for an event of a request that was not started, or for the second start of one.
    pub fn step(&mut self, event: &Event) -> Result<Option<Action>, TraceError> {
        let now = Time::from_millis(event.at_ms);
        let wall_clock = self.unix_ms.map(|origin| Duration::from_millis(origin.saturating_add(event.at_ms)));
        let (number, told) = match &event.what {
            What::TokenReplaced { expires_in_ms } => {
                self.upstream.token_replaced(now, expires_in_ms.map(Duration::from_millis));
                return Ok(None);
            }
            What::OpenGate => {
                self.upstream.open_gate(now);
                return Ok(None);
            }
            What::Request { number, event } => (*number, event),
        };
        if let event::Told::Start { repeat } = told {
            let machine = RetryMachine::new(*repeat, derive_seed(self.seed, number));
            if self.requests.insert(number, Request { machine, body: None }).is_some() {
                return Err(TraceError::field("request", &"was started before"));
            }
        }
        let Some(request) = self.requests.get_mut(&number) else {
            return Err(TraceError::field("request", &"was not started"));
        };
        let newest = request.machine.attempts();
        let mut facts = None;
        let heard = match told {
            event::Told::Start { .. } => crate::Event::Start,
            event::Told::Tick => crate::Event::Tick,
            event::Told::Cancel => crate::Event::Cancel,
            event::Told::Token(outcome) => crate::Event::Token(*outcome),
            event::Told::TransportError { attempt, kind } => {
                crate::Event::TransportError(attempt.unwrap_or(newest), *kind)
            }
            event::Told::Reply { attempt, status, headers, body } => {
                let headers = headers.iter().map(|(name, value)| (name, value));
                let reply = Reply::read(*status, headers, wall_clock, self.upstream.policy().reset());
                // H8: the body of an answer is never read.
                let body = body.as_ref().filter(|_| !matches!(status, 200..=299));
                let body = body.and_then(|body| ErrorBody::parse(body).ok());
                let reply = reply.with_code(body.as_ref().map(ErrorBody::class).unwrap_or_default());
                facts = Some(Facts::new(reply, body.as_ref()));
                let attempt = attempt.unwrap_or(newest);
                if request.machine.in_flight() == Some(attempt) {
                    request.body = body;
                }
                crate::Event::Reply(attempt, reply)
            }
        };
        let action = request.machine.handle(now, heard, &mut self.upstream);
        let body = request.body.as_ref().filter(|_| matches!(action, crate::Action::Surface(_)));
        Ok(Some(Action {
            at_ms: event.at_ms,
            request: number,
            action,
            code: body.and_then(ErrorBody::code).map(String::from),
            message: body.and_then(ErrorBody::message).map(String::from),
            facts,
        }))
    }
}

/// Why a trace cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A line is no JSON object.
    #[error("it is no JSON object: {0}")]
    Json(String),
    /// A field is missing, unknown, or has a value that it cannot have.
    #[error("field \"{field}\": {problem}")]
    Field {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The settings make no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl TraceError {
    fn field(field: &str, problem: &dyn ToString) -> TraceError {
        TraceError::Field { field: field.into(), problem: problem.to_string() }
    }
}
