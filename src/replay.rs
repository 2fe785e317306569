//! The trace format: events and actions as JSON Lines (feature `replay`).
//!
//! The machine is pure, so a list of events is a complete record: the same events give the same actions, on any
//! machine. A trace has a line of settings, then one line for each event, and its replay has one line for each action.
//! The page [`trace_format`](crate::pages::trace_format) specifies the lines. `cargo run --example replay -- FILE`
//! replays a file.
//!
//! ```
//! use retry_machine::replay::{EventRecord, Replay, Settings};
//!
//! let settings = Settings::parse(r#"{"seed": 7, "jitter": "none"}"#)?;
//! let mut replay = Replay::new(&settings)?;
//! replay.step(&EventRecord::parse(r#"{"at_ms": 0, "event": "start"}"#)?)?;
//! let action = replay.step(&EventRecord::parse(r#"{"at_ms": 80, "event": "reply", "status": 503}"#)?)?.unwrap();
//! assert_eq!(action.to_json()["until_ms"], 1080);
//! # Ok::<(), retry_machine::replay::ReplayError>(())
//! ```

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::time::Duration;

use thiserror::Error;

use crate::policy::PolicyError;
use crate::{ErrorBody, Event, RetryMachine, Timestamp, Upstream, derive_seed};

#[allow(clippy::indexing_slicing, reason = "writing to a JSON object at a key inserts the key")]
mod action;
#[allow(clippy::indexing_slicing, reason = "writing to a JSON object at a key inserts the key")]
mod event;
mod fields;
mod names;
mod settings;

pub use self::action::{ActionRecord, Facts};
pub use self::event::{EventRecord, RecordKind, RequestEvent};
pub use self::settings::Settings;

/// A replay of a trace: one upstream and its requests.
#[derive(Clone, Debug)]
pub struct Replay {
    upstream: Upstream,
    seed: u64,
    /// Unix milliseconds at the trace's origin.
    unix_ms: Option<u64>,
    requests: BTreeMap<u64, Request>,
}

impl Replay {
    /// Starts a replay with these settings.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Policy`] if a setting is invalid.
    pub fn new(settings: &Settings) -> Result<Replay, ReplayError> {
        let mut upstream = Upstream::new(settings.policy()?);
        if let Some(lifetime) = settings.token_expires_in_ms {
            upstream.token_expires_in(Timestamp::ZERO, Duration::from_millis(lifetime));
        }
        Ok(Replay { upstream, seed: settings.seed, unix_ms: settings.unix_ms, requests: BTreeMap::new() })
    }

    /// Replays one event. Returns the action that answers it, or `None` if the event belongs to the upstream.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Field`] for an event of a request that was not started, and for the second start of a request.
    pub fn step(&mut self, record: &EventRecord) -> Result<Option<ActionRecord>, ReplayError> {
        let now = Timestamp::from_millis(record.at_ms);
        let wall_clock = self.unix_ms.map(|origin| Duration::from_millis(origin.saturating_add(record.at_ms)));
        let (number, event) = match &record.kind {
            RecordKind::TokenReplaced { expires_in_ms } => {
                self.upstream.token_replaced(now, expires_in_ms.map(Duration::from_millis));
                return Ok(None);
            }
            RecordKind::OpenGate => {
                self.upstream.open_gate(now);
                return Ok(None);
            }
            RecordKind::CloseGate { until_ms } => {
                self.upstream.close_gate(now, Timestamp::from_millis(*until_ms));
                return Ok(None);
            }
            RecordKind::Request { number, event } => (*number, event),
        };
        if let RequestEvent::Start { idempotency, limits } = event {
            let machine = RetryMachine::new(*idempotency, derive_seed(self.seed, number)).with_limits(*limits);
            if self.requests.insert(number, Request { machine, body: None }).is_some() {
                return Err(ReplayError::field("request", &"the request was already started"));
            }
        }
        let Some(request) = self.requests.get_mut(&number) else {
            return Err(ReplayError::field("request", &"the request was not started"));
        };
        let newest = request.machine.attempts();
        let mut facts = None;
        let event = match event {
            RequestEvent::Start { .. } => Event::Start,
            RequestEvent::Tick => Event::Tick,
            RequestEvent::Cancel => Event::Cancel,
            RequestEvent::Refreshed(outcome) => Event::Refreshed(*outcome),
            RequestEvent::TransportError { attempt, kind } => {
                Event::TransportError { attempt: attempt.unwrap_or(newest), kind: *kind }
            }
            RequestEvent::Reply { attempt, status, headers, body, verdict, hint_ms } => {
                let headers = headers.iter().map(|(name, value)| (name, value));
                let reply = self.upstream.policy().read_at(wall_clock, *status, headers);
                // H8: the body of an answer is never read.
                let body = body.as_ref().filter(|_| !matches!(status, 200..=299));
                let body = body.and_then(|body| ErrorBody::parse(body).ok());
                let reply = reply.with_code(body.as_ref().map(ErrorBody::class).unwrap_or_default());
                facts = Some(Facts::new(reply, body.as_ref()));
                let reply = verdict.map_or(reply, |verdict| reply.with_verdict(verdict));
                let reply = hint_ms.map_or(reply, |ms| reply.with_hint(Duration::from_millis(ms)));
                let attempt = attempt.unwrap_or(newest);
                if request.machine.in_flight() == Some(attempt) {
                    request.body = body;
                }
                Event::Reply { attempt, reply }
            }
        };
        let action = request.machine.handle(now, event, &mut self.upstream);
        let body = request.body.as_ref().filter(|_| matches!(action, crate::Action::Fail(_)));
        Ok(Some(ActionRecord {
            at_ms: record.at_ms,
            request: number,
            action,
            code: body.and_then(ErrorBody::code).map(String::from),
            message: body.and_then(ErrorBody::message).map(String::from),
            facts,
        }))
    }
}

#[derive(Clone, Debug)]
struct Request {
    machine: RetryMachine,
    /// The body of the last response to an attempt in flight (E3).
    body: Option<ErrorBody>,
}

/// The reason why a line of a trace cannot be replayed. The `Display` form names the field.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The line is not a JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// A field is missing, unknown or invalid.
    #[error("field \"{field}\": {problem}")]
    Field {
        /// The field's name.
        field: String,
        /// The problem, as a clause.
        problem: String,
    },
    /// A setting is invalid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl ReplayError {
    fn field(field: &str, problem: &dyn ToString) -> ReplayError {
        ReplayError::Field { field: field.into(), problem: problem.to_string() }
    }
}
