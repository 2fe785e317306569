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
use crate::{ErrorBody, Event, Gate, Login, RetryMachine, Scope, Service, Timestamp, derive_seed};

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

/// A replay of a trace: one service with its logins and gates, and their requests.
#[derive(Clone, Debug)]
pub struct Replay {
    service: Service,
    logins: BTreeMap<u64, Login>,
    /// A login as every one begins.
    fresh_login: Login,
    gates: BTreeMap<u64, Gate>,
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
        let mut fresh_login = if settings.token { Login::new() } else { Login::without_token() };
        if let Some(lifetime) = settings.token_expires_in_ms {
            fresh_login.token_expires_in(Timestamp::ZERO, Duration::from_millis(lifetime));
        }
        Ok(Replay {
            service: Service::new(settings.policy()?),
            logins: BTreeMap::new(),
            fresh_login,
            gates: BTreeMap::new(),
            seed: settings.seed,
            unix_ms: settings.unix_ms,
            requests: BTreeMap::new(),
        })
    }

    /// Replays one event. Returns the action that answers it, or `None` if the event belongs to a login or a gate.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Field`] for an event of a request that was not started, and for the second start of a request.
    pub fn step(&mut self, record: &EventRecord) -> Result<Option<ActionRecord>, ReplayError> {
        let now = Timestamp::from_millis(record.at_ms);
        let wall_clock = self.unix_ms.map(|origin| Duration::from_millis(origin.saturating_add(record.at_ms)));
        let fresh_login = &self.fresh_login;
        let (number, event) = match &record.kind {
            RecordKind::TokenReplaced { login, expires_in_ms } => {
                let login = self.logins.entry(*login).or_insert_with(|| fresh_login.clone());
                login.token_replaced(now, expires_in_ms.map(Duration::from_millis));
                return Ok(None);
            }
            RecordKind::OpenGate { gate } => {
                self.gates.entry(*gate).or_default().open(now);
                return Ok(None);
            }
            RecordKind::CloseGate { gate, until_ms } => {
                self.gates.entry(*gate).or_default().close(now, Timestamp::from_millis(*until_ms));
                return Ok(None);
            }
            RecordKind::Request { number, event } => (*number, event),
        };
        if let RequestEvent::Start { idempotency, limits, login, gate } = event {
            let machine = RetryMachine::new(*idempotency, derive_seed(self.seed, number)).with_limits(*limits);
            let request = Request { machine, login: *login, gate: *gate, body: None };
            if self.requests.insert(number, request).is_some() {
                return Err(ReplayError::field("request", &"the request was already started"));
            }
        }
        let Some(request) = self.requests.get_mut(&number) else {
            return Err(ReplayError::field("request", &"the request was not started"));
        };
        let newest = request.machine.attempts();
        let login = self.logins.entry(request.login).or_insert_with(|| fresh_login.clone());
        let gate = self.gates.entry(request.gate).or_default();
        let (mut facts, mut counted) = (None, None);
        let event = match event {
            RequestEvent::Start { .. } => Event::Start,
            RequestEvent::Tick => Event::Tick,
            RequestEvent::Cancel => Event::Cancel,
            RequestEvent::Refreshed { lease, outcome } => {
                // T2: it is told through a request.
                let now = self.service.advance(now);
                counted = Some(login.report_refresh(now, lease.unwrap_or(login.lease().0), *outcome));
                // F5: a tick for a request that leads or follows, and nothing for any other.
                if request.machine.lease().is_some() { Event::Tick } else { Event::Start }
            }
            RequestEvent::TransportError { attempt, kind } => {
                Event::TransportError { attempt: attempt.unwrap_or(newest), kind: *kind }
            }
            RequestEvent::Reply { attempt, status, headers, body, verdict, hint_ms } => {
                let headers = headers.iter().map(|(name, value)| (name, value));
                let reply = self.service.policy().read_at(wall_clock, *status, headers);
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
        let action = request.machine.handle(now, event, Scope { service: &mut self.service, login, gate });
        let body = request.body.as_ref().filter(|_| matches!(action, crate::Action::Fail(_)));
        Ok(Some(ActionRecord {
            at_ms: record.at_ms,
            request: number,
            action,
            code: body.and_then(ErrorBody::code).map(String::from),
            message: body.and_then(ErrorBody::message).map(String::from),
            facts,
            counted,
        }))
    }
}

#[derive(Clone, Debug)]
struct Request {
    machine: RetryMachine,
    login: u64,
    gate: u64,
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
