//! Event lines.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ReplayError;
use super::fields::Fields;
use crate::{Idempotency, RefreshOutcome, RequestLimits, TransportErrorKind, Verdict};

/// An event line of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs, reason = "recorders create them")]
pub struct EventRecord {
    /// The time of the event, in milliseconds since the origin of the trace.
    pub at_ms: u64,
    /// The request, login or gate that the event belongs to, and the event itself.
    pub kind: RecordKind,
}

/// The subject of an event: a request, a login or a gate.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "recorders create them, and the format is fixed")]
pub enum RecordKind {
    /// An event of a request.
    Request {
        /// The number of the request.
        number: u64,
        /// The event.
        event: RequestEvent,
    },
    /// The user logged in again, see [`Login::token_replaced`](crate::Login::token_replaced).
    TokenReplaced {
        /// The number of the login.
        login: u64,
        /// The lifetime of the new token in milliseconds, if it is known.
        expires_in_ms: Option<u64>,
    },
    /// An operator opened the gate, see [`Gate::open`](crate::Gate::open).
    OpenGate {
        /// The number of the gate.
        gate: u64,
    },
    /// An operator closed the gate, see [`Gate::close`](crate::Gate::close).
    CloseGate {
        /// The number of the gate.
        gate: u64,
        /// The end of the closing in milliseconds from the origin of the trace.
        until_ms: u64,
    },
}

/// An event of a request, with the response as raw bytes. [`Event`](crate::Event) describes the variants.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "recorders create them, and the format is fixed")]
pub enum RequestEvent {
    /// The request starts.
    Start {
        /// Whether the request is idempotent.
        idempotency: Idempotency,
        /// The request's own limits (rule D17).
        limits: RequestLimits,
        /// The number of the request's login (rule S8).
        login: u64,
        /// The number of the request's gate (rule S8).
        gate: u64,
    },
    /// Time has passed.
    Tick,
    /// A response arrived.
    Reply {
        /// The number of the attempt, from 1. `None`: the newest attempt.
        attempt: Option<u32>,
        /// The status.
        status: u16,
        /// The names and values of the headers.
        headers: Vec<(String, Vec<u8>)>,
        /// The body, if there is one.
        body: Option<Vec<u8>>,
        /// The driver's verdict, if it gave one (rule D15).
        verdict: Option<Verdict>,
        /// The wait in milliseconds that the driver read where no field says it (rule D16).
        hint_ms: Option<u64>,
    },
    /// An attempt did not get a complete response.
    TransportError {
        /// The number of the attempt, from 1. `None`: the newest attempt.
        attempt: Option<u32>,
        /// How the attempt failed.
        kind: TransportErrorKind,
    },
    /// A token refresh ended, and this request's driver reports it to its login (rule K5).
    Refreshed {
        /// The number of the lease. `None`: the newest lease of the request's login.
        lease: Option<u32>,
        /// The outcome.
        outcome: RefreshOutcome,
    },
    /// The user gave up.
    Cancel,
}

impl EventRecord {
    /// Parses an event line.
    ///
    /// # Errors
    ///
    /// [`ReplayError::Json`] if the line is not a JSON object, and [`ReplayError::Field`] for a missing, unknown or
    /// invalid field.
    pub fn parse(line: &str) -> Result<EventRecord, ReplayError> {
        let mut fields = Fields::parse(line)?;
        let at_ms = fields.require("at_ms")?;
        let kind = match fields.require("event")? {
            EventName::TokenReplaced => RecordKind::TokenReplaced {
                login: fields.take("login")?.unwrap_or(0),
                expires_in_ms: fields.take("expires_in_ms")?.flatten(),
            },
            EventName::OpenGate => RecordKind::OpenGate { gate: fields.take("gate")?.unwrap_or(0) },
            EventName::CloseGate => {
                RecordKind::CloseGate { gate: fields.take("gate")?.unwrap_or(0), until_ms: fields.require("until_ms")? }
            }
            name => RecordKind::Request {
                number: fields.take("request")?.unwrap_or(0),
                event: request_event(&name, &mut fields)?,
            },
        };
        fields.finish()?;
        Ok(EventRecord { at_ms, kind })
    }

    /// Returns whether a line is an event and not the settings.
    #[must_use]
    pub fn is_event(line: &str) -> bool {
        Fields::parse(line).is_ok_and(|fields| fields.has("event"))
    }

    /// Returns the event as a JSON object: its line in the trace format.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut line = match &self.kind {
            RecordKind::TokenReplaced { login, expires_in_ms } => {
                with_number(json!({"event": "token_replaced", "expires_in_ms": expires_in_ms}), "login", *login)
            }
            RecordKind::OpenGate { gate } => with_number(json!({"event": "open_gate"}), "gate", *gate),
            RecordKind::CloseGate { gate, until_ms } => {
                with_number(json!({"event": "close_gate", "until_ms": until_ms}), "gate", *gate)
            }
            RecordKind::Request { number, event } => with_number(event.to_json(), "request", *number),
        };
        line["at_ms"] = json!(self.at_ms);
        line
    }
}

impl RequestEvent {
    fn to_json(&self) -> Value {
        let mut line = match self {
            RequestEvent::Start { idempotency, limits, login, gate } => {
                let line = with_number(start_to_json(*idempotency, *limits), "login", *login);
                with_number(line, "gate", *gate)
            }
            RequestEvent::Tick => json!({"event": "tick"}),
            RequestEvent::Cancel => json!({"event": "cancel"}),
            RequestEvent::TransportError { kind, .. } => json!({"event": "transport_error", "kind": kind}),
            RequestEvent::Refreshed { lease, outcome } => {
                let mut line = outcome_to_json(*outcome);
                if let Some(lease) = lease {
                    line["lease"] = json!(lease);
                }
                line
            }
            RequestEvent::Reply { status, headers, body, verdict, hint_ms, .. } => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| json!([name, bytes_to_json(value)])).collect();
                let mut line = json!({"event": "reply", "status": status, "headers": headers});
                match body.as_deref().map(|body| (core::str::from_utf8(body), body)) {
                    Some((Ok(text), _)) => line["body"] = json!(text),
                    Some((Err(_), body)) => line["body_base64"] = json!(BASE64.encode(body)),
                    None => {}
                }
                if let Some(verdict) = verdict {
                    line["verdict"] = json!(verdict);
                }
                if let Some(hint_ms) = hint_ms {
                    line["hint_ms"] = json!(hint_ms);
                }
                line
            }
        };
        if let RequestEvent::Reply { attempt: Some(attempt), .. }
        | RequestEvent::TransportError { attempt: Some(attempt), .. } = self
        {
            line["attempt"] = json!(attempt);
        }
        line
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EventName {
    Start,
    Reply,
    Tick,
    TransportError,
    Token,
    Cancel,
    TokenReplaced,
    OpenGate,
    CloseGate,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeName {
    Refreshed,
    Rejected,
    Unavailable,
    Abandoned,
}

/// The format's words for an idempotency.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RepeatName {
    Safe,
    Unsafe,
}

impl From<Idempotency> for RepeatName {
    fn from(idempotency: Idempotency) -> RepeatName {
        match idempotency {
            Idempotency::Idempotent => RepeatName::Safe,
            Idempotency::NonIdempotent => RepeatName::Unsafe,
        }
    }
}

fn request_event(name: &EventName, fields: &mut Fields) -> Result<RequestEvent, ReplayError> {
    Ok(match name {
        EventName::Start => RequestEvent::Start {
            idempotency: idempotency(fields)?,
            limits: limits(fields)?,
            login: fields.take("login")?.unwrap_or(0),
            gate: fields.take("gate")?.unwrap_or(0),
        },
        EventName::Reply => RequestEvent::Reply {
            attempt: fields.take("attempt")?,
            status: fields.require("status")?,
            headers: headers(fields)?,
            body: body(fields)?,
            verdict: fields.take("verdict")?.flatten(),
            hint_ms: fields.take("hint_ms")?.flatten(),
        },
        EventName::TransportError => {
            RequestEvent::TransportError { attempt: fields.take("attempt")?, kind: fields.require("kind")? }
        }
        EventName::Token => RequestEvent::Refreshed { lease: fields.take("lease")?, outcome: outcome(fields)? },
        EventName::Cancel => RequestEvent::Cancel,
        EventName::Tick | EventName::TokenReplaced | EventName::OpenGate | EventName::CloseGate => RequestEvent::Tick,
    })
}

fn outcome(fields: &mut Fields) -> Result<RefreshOutcome, ReplayError> {
    Ok(match fields.require("outcome")? {
        OutcomeName::Refreshed => RefreshOutcome::Refreshed { expires_in: duration(fields, "expires_in_ms")? },
        OutcomeName::Rejected => RefreshOutcome::Rejected,
        OutcomeName::Unavailable => RefreshOutcome::Unavailable { retry_after: duration(fields, "retry_after_ms")? },
        OutcomeName::Abandoned => RefreshOutcome::Abandoned,
    })
}

fn outcome_to_json(outcome: RefreshOutcome) -> Value {
    match outcome {
        RefreshOutcome::Refreshed { expires_in } => {
            json!({"event": "token", "outcome": "refreshed", "expires_in_ms": expires_in.map(millis)})
        }
        RefreshOutcome::Rejected => json!({"event": "token", "outcome": "rejected"}),
        RefreshOutcome::Unavailable { retry_after } => {
            json!({"event": "token", "outcome": "unavailable", "retry_after_ms": retry_after.map(millis)})
        }
        RefreshOutcome::Abandoned => json!({"event": "token", "outcome": "abandoned"}),
    }
}

/// Adds the number of a request, login or gate to a line, unless it is the default.
fn with_number(mut line: Value, key: &str, number: u64) -> Value {
    if number != 0 {
        line[key] = json!(number);
    }
    line
}

fn idempotency(fields: &mut Fields) -> Result<Idempotency, ReplayError> {
    Ok(match fields.take("repeat")? {
        None | Some(RepeatName::Safe) => Idempotency::Idempotent,
        Some(RepeatName::Unsafe) => Idempotency::NonIdempotent,
    })
}

fn limits(fields: &mut Fields) -> Result<RequestLimits, ReplayError> {
    Ok(RequestLimits {
        deadline: duration(fields, "deadline_ms")?,
        max_retries: fields.take("max_retries")?.flatten(),
        attempt_timeout: duration(fields, "attempt_timeout_ms")?,
    })
}

fn start_to_json(idempotency: Idempotency, limits: RequestLimits) -> Value {
    let mut line = json!({"event": "start", "repeat": RepeatName::from(idempotency)});
    for (key, limit) in [("deadline_ms", limits.deadline), ("attempt_timeout_ms", limits.attempt_timeout)] {
        if let Some(limit) = limit {
            line[key] = json!(millis(limit));
        }
    }
    if let Some(retries) = limits.max_retries {
        line["max_retries"] = json!(retries);
    }
    line
}

fn duration(fields: &mut Fields, field: &str) -> Result<Option<Duration>, ReplayError> {
    Ok(fields.take::<Option<u64>>(field)?.flatten().map(Duration::from_millis))
}

/// The value of a header: text, or bytes that are not text.
#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    Text(String),
    Base64 { base64: String },
}

fn headers(fields: &mut Fields) -> Result<Vec<(String, Vec<u8>)>, ReplayError> {
    let headers = fields.take::<Vec<(String, HeaderValue)>>("headers")?.unwrap_or_default();
    let bytes = |value| match value {
        HeaderValue::Text(text) => Ok(text.into_bytes()),
        HeaderValue::Base64 { base64 } => {
            BASE64.decode(base64).map_err(|_| ReplayError::field("headers", &"invalid base64"))
        }
    };
    headers.into_iter().map(|(name, value)| Ok((name, bytes(value)?))).collect()
}

fn body(fields: &mut Fields) -> Result<Option<Vec<u8>>, ReplayError> {
    let text = fields.take::<Option<String>>("body")?.flatten();
    let Some(base64) = fields.take::<String>("body_base64")? else {
        return Ok(text.map(String::into_bytes));
    };
    match (text, BASE64.decode(base64)) {
        (None, Ok(bytes)) => Ok(Some(bytes)),
        (None, Err(_)) => Err(ReplayError::field("body_base64", &"invalid base64")),
        (Some(_), _) => Err(ReplayError::field("body_base64", &"the line already has a body")),
    }
}

fn bytes_to_json(bytes: &[u8]) -> Value {
    match core::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": BASE64.encode(bytes)}),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 4648 §4. Decoding accepts missing padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
