//! Event lines.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::TraceError;
use super::fields::Fields;
use crate::{Repeat, TokenOutcome, TransportError};

/// One event of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs, reason = "recorders make them")]
pub struct Event {
    /// When, in milliseconds since the trace's origin.
    pub at_ms: u64,
    /// What happened.
    pub what: What,
}

/// What an event is about.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "recorders make them, and the format is fixed")]
pub enum What {
    /// Something happened to a request.
    Request {
        /// Which request.
        number: u64,
        /// What.
        event: Told,
    },
    /// The user logged in again.
    TokenReplaced {
        /// How long the new token is valid, if that is known.
        expires_in_ms: Option<u64>,
    },
    /// An operator opened the gate.
    OpenGate,
}

/// What is told to a request's machine, before it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "recorders make them, and the format is fixed")]
pub enum Told {
    /// The request begins.
    Start {
        /// Whether it is safe to repeat.
        repeat: Repeat,
    },
    /// Time has passed.
    Tick,
    /// A response came.
    Reply {
        /// To which attempt; the newest if it is not said.
        attempt: Option<u32>,
        /// Its status.
        status: u16,
        /// Its headers.
        headers: Vec<(String, Vec<u8>)>,
        /// Its body, if there is one.
        body: Option<Vec<u8>>,
    },
    /// An attempt brought no response.
    TransportError {
        /// Which attempt; the newest if it is not said.
        attempt: Option<u32>,
        /// Why.
        kind: TransportError,
    },
    /// A token refresh ended.
    Token(TokenOutcome),
    /// The user gave up.
    Cancel,
}

impl Event {
    /// Reads an event line.
    ///
    /// # Errors
    ///
    /// [`TraceError::Json`] or [`TraceError::Field`].
    pub fn parse(line: &str) -> Result<Event, TraceError> {
        let mut fields = Fields::parse(line)?;
        let at_ms = fields.need("at_ms")?;
        let what = match fields.need("event")? {
            Name::TokenReplaced => What::TokenReplaced { expires_in_ms: fields.take("expires_in_ms")?.flatten() },
            Name::OpenGate => What::OpenGate,
            name => What::Request { number: fields.take("request")?.unwrap_or(0), event: told(&name, &mut fields)? },
        };
        fields.end()?;
        Ok(Event { at_ms, what })
    }

    /// Whether a line is an event, rather than the settings.
    #[must_use]
    pub fn is_event(line: &str) -> bool {
        Fields::parse(line).is_ok_and(|fields| fields.has("event"))
    }

    /// The event as a line.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut line = match &self.what {
            What::TokenReplaced { expires_in_ms } => json!({"event": "token_replaced", "expires_in_ms": expires_in_ms}),
            What::OpenGate => json!({"event": "open_gate"}),
            What::Request { number, event } => {
                let mut line = event.to_json();
                if *number != 0 {
                    line["request"] = json!(number);
                }
                line
            }
        };
        line["at_ms"] = json!(self.at_ms);
        line
    }
}

impl Told {
    fn to_json(&self) -> Value {
        let mut line = match self {
            Told::Start { repeat } => json!({"event": "start", "repeat": repeat}),
            Told::Tick => json!({"event": "tick"}),
            Told::Cancel => json!({"event": "cancel"}),
            Told::TransportError { kind, .. } => json!({"event": "transport_error", "kind": kind}),
            Told::Token(TokenOutcome::Refreshed { expires_in }) => {
                json!({"event": "token", "outcome": "refreshed", "expires_in_ms": expires_in.map(millis)})
            }
            Told::Token(TokenOutcome::Rejected) => json!({"event": "token", "outcome": "rejected"}),
            Told::Token(TokenOutcome::Unavailable { retry_after }) => {
                json!({"event": "token", "outcome": "unavailable", "retry_after_ms": retry_after.map(millis)})
            }
            Told::Reply { status, headers, body, .. } => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| json!([name, bytes_to_json(value)])).collect();
                let mut line = json!({"event": "reply", "status": status, "headers": headers});
                match body.as_deref().map(|body| (core::str::from_utf8(body), body)) {
                    Some((Ok(text), _)) => line["body"] = json!(text),
                    Some((Err(_), body)) => line["body_base64"] = json!(to_base64(body)),
                    None => {}
                }
                line
            }
        };
        if let Told::Reply { attempt: Some(attempt), .. } | Told::TransportError { attempt: Some(attempt), .. } = self {
            line["attempt"] = json!(attempt);
        }
        line
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Start,
    Reply,
    Tick,
    TransportError,
    Token,
    Cancel,
    TokenReplaced,
    OpenGate,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Refreshed,
    Rejected,
    Unavailable,
}

fn told(name: &Name, fields: &mut Fields) -> Result<Told, TraceError> {
    Ok(match name {
        Name::Start => Told::Start { repeat: fields.take("repeat")?.unwrap_or(Repeat::Safe) },
        Name::Reply => Told::Reply {
            attempt: fields.take("attempt")?,
            status: fields.need("status")?,
            headers: headers(fields)?,
            body: body(fields)?,
        },
        Name::TransportError => Told::TransportError { attempt: fields.take("attempt")?, kind: fields.need("kind")? },
        Name::Token => Told::Token(match fields.need("outcome")? {
            Outcome::Refreshed => TokenOutcome::Refreshed { expires_in: duration(fields, "expires_in_ms")? },
            Outcome::Rejected => TokenOutcome::Rejected,
            Outcome::Unavailable => TokenOutcome::Unavailable { retry_after: duration(fields, "retry_after_ms")? },
        }),
        Name::Cancel => Told::Cancel,
        Name::Tick | Name::TokenReplaced | Name::OpenGate => Told::Tick,
    })
}

fn duration(fields: &mut Fields, field: &str) -> Result<Option<Duration>, TraceError> {
    Ok(fields.take::<Option<u64>>(field)?.flatten().map(Duration::from_millis))
}

/// A header's value: text, or bytes that are none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Base64 { base64: String },
}

fn headers(fields: &mut Fields) -> Result<Vec<(String, Vec<u8>)>, TraceError> {
    let headers = fields.take::<Vec<(String, Bytes)>>("headers")?.unwrap_or_default();
    let bytes = |value| match value {
        Bytes::Text(text) => Ok(text.into_bytes()),
        Bytes::Base64 { base64 } => {
            from_base64(&base64).ok_or_else(|| TraceError::field("headers", &"it is no base64"))
        }
    };
    headers.into_iter().map(|(name, value)| Ok((name, bytes(value)?))).collect()
}

fn body(fields: &mut Fields) -> Result<Option<Vec<u8>>, TraceError> {
    let text = fields.take::<Option<String>>("body")?.flatten();
    let Some(base64) = fields.take::<String>("body_base64")? else {
        return Ok(text.map(String::into_bytes));
    };
    match (text, from_base64(&base64)) {
        (None, Some(bytes)) => Ok(Some(bytes)),
        (None, None) => Err(TraceError::field("body_base64", &"it is no base64")),
        (Some(_), _) => Err(TraceError::field("body_base64", &"there is a body already")),
    }
}

fn bytes_to_json(bytes: &[u8]) -> Value {
    match core::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": to_base64(bytes)}),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4.
fn to_base64(bytes: &[u8]) -> String {
    let digit = |word: u32, n: usize| BASE64.get((word >> (18 - 6 * n)) as usize & 63).map_or('=', |c| char::from(*c));
    let group = |chunk: &[u8]| {
        let word = (0..3).fold(0, |word, n| word << 8 | chunk.get(n).copied().map_or(0, u32::from));
        let length = chunk.len();
        (0..4).map(move |n| if n <= length { digit(word, n) } else { '=' }).collect::<Vec<_>>()
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// RFC 4648 §4; the padding may be missing.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let digits = group.iter().map(|c| BASE64.iter().position(|digit| digit == c));
        let word = digits
            .enumerate()
            .try_fold(0_u32, |word, (n, digit)| Some(word | u32::try_from(digit?).ok()? << (18 - 6 * n)))?;
        let [_, triple @ ..] = word.to_be_bytes();
        let length = group.len().checked_sub(1).filter(|length| *length > 0)?;
        bytes.extend(triple.iter().take(length));
    }
    Some(bytes)
}
