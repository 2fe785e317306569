//! The event lines of a trace (`docs/trace_format.md`).

use super::json::{base64, keys, text, whole, whole_or_null};
use super::span::{MS, Ns, from_ms};
use serde_json::Value;

/// One event line.
#[derive(Clone, Debug)]
pub struct Line {
    pub at_ms: u64,
    pub request: u64,
    pub event: Event,
}

/// The `lease` of an outcome is `None` for the newest one of the request's login.
#[derive(Clone, Debug)]
pub enum Event {
    Start { idempotent: bool, limits: Limits, login: u64, gate: u64 },
    Tick,
    Reply { attempt: Option<u64>, response: Response },
    TransportError { attempt: Option<u64>, error: TransportErrorKind },
    Token { outcome: Outcome, lease: Option<u64> },
    Cancel,
    TokenReplaced { login: u64, expires_in: Option<Ns> },
    OpenGate { gate: u64 },
    CloseGate { gate: u64, until: Ns },
}

/// D17: the limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub deadline: Option<Ns>,
    pub max_retries: Option<u64>,
    pub attempt_timeout: Option<Ns>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u64,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
    /// D15: the driver's verdict.
    pub verdict: Option<Verdict>,
    /// D16.
    pub told: Option<Ns>,
}

/// D15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Final,
    Transient,
    Throttled,
    TokenExpired,
}

/// D13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportErrorKind {
    NotSent,
    Unprocessed,
    Permanent,
    TimedOut,
    Broken,
    Other,
}

/// K6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Refreshed { expires_in: Option<Ns> },
    Rejected,
    Unavailable { retry_after: Option<Ns> },
    Abandoned,
}

/// D17: 49 days.
const LONGEST: Ns = 49 * 86_400 * 1000 * MS;

impl Line {
    pub fn read(line: &Value) -> Result<Line, String> {
        let map = line.as_object().ok_or("the line is not an object")?;
        let get = |key: &str| map.get(key);
        let need = |key: &str| get(key).ok_or_else(|| format!("{key}: missing"));
        let optional = |key: &str| get(key).map_or(Ok(None), |v| whole_or_null(v, key));
        let ms = |key: &str| Ok::<_, String>(optional(key)?.map(from_ms));
        let part = |key: &str| Ok::<_, String>(optional(key)?.unwrap_or(0)); // S8
        let name = text(need("event")?, "event")?;
        let own: &[&str] = match name {
            "start" => &["request", "repeat", "deadline_ms", "max_retries", "attempt_timeout_ms", "login", "gate"],
            "tick" | "cancel" => &["request"],
            "reply" => &["request", "attempt", "status", "headers", "body", "body_base64", "verdict", "hint_ms"],
            "transport_error" => &["request", "attempt", "kind"],
            "token" => &["request", "outcome", "expires_in_ms", "retry_after_ms", "lease"],
            "token_replaced" => &["expires_in_ms", "login"],
            "open_gate" => &["gate"],
            "close_gate" => &["until_ms", "gate"],
            other => return Err(format!("event: {other} is unknown")),
        };
        keys(map, &[&["at_ms", "event"], own].concat())?;
        let event = match name {
            "start" => Event::Start {
                idempotent: match get("repeat").map(|v| text(v, "repeat")).transpose()? {
                    None | Some("safe") => true,
                    Some("unsafe") => false,
                    Some(other) => return Err(format!("repeat: {other} is unknown")),
                },
                limits: Limits {
                    deadline: ms("deadline_ms")?.map(|limit| limit.min(LONGEST)),
                    max_retries: optional("max_retries")?,
                    attempt_timeout: ms("attempt_timeout_ms")?.map(|limit| limit.min(LONGEST)),
                },
                login: part("login")?,
                gate: part("gate")?,
            },
            "tick" => Event::Tick,
            "cancel" => Event::Cancel,
            "reply" => {
                let status = whole(need("status")?, "status")?;
                if status > u64::from(u16::MAX) {
                    return Err("status: too large".into());
                }
                Event::Reply {
                    attempt: optional("attempt")?,
                    response: Response {
                        status,
                        headers: headers(get("headers"))?,
                        body: body(map)?,
                        verdict: match get("verdict").map(|v| text(v, "verdict")).transpose()? {
                            None => None,
                            Some("final") => Some(Verdict::Final),
                            Some("transient") => Some(Verdict::Transient),
                            Some("throttled") => Some(Verdict::Throttled),
                            Some("token_expired") => Some(Verdict::TokenExpired),
                            Some(other) => return Err(format!("verdict: {other} is unknown")),
                        },
                        told: ms("hint_ms")?,
                    },
                }
            }
            "transport_error" => Event::TransportError {
                attempt: optional("attempt")?,
                error: match text(need("kind")?, "kind")? {
                    "not_sent" => TransportErrorKind::NotSent,
                    "unprocessed" => TransportErrorKind::Unprocessed,
                    "permanent" => TransportErrorKind::Permanent,
                    "timed_out" => TransportErrorKind::TimedOut,
                    "broken" => TransportErrorKind::Broken,
                    "other" => TransportErrorKind::Other,
                    other => return Err(format!("kind: {other} is unknown")),
                },
            },
            "token" => Event::Token {
                outcome: match text(need("outcome")?, "outcome")? {
                    "refreshed" => Outcome::Refreshed { expires_in: ms("expires_in_ms")? },
                    "rejected" => Outcome::Rejected,
                    "unavailable" => Outcome::Unavailable { retry_after: ms("retry_after_ms")? },
                    "abandoned" => Outcome::Abandoned,
                    other => return Err(format!("outcome: {other} is unknown")),
                },
                lease: optional("lease")?,
            },
            "token_replaced" => Event::TokenReplaced { login: part("login")?, expires_in: ms("expires_in_ms")? },
            "close_gate" => {
                Event::CloseGate { gate: part("gate")?, until: from_ms(whole(need("until_ms")?, "until_ms")?) }
            }
            _ => Event::OpenGate { gate: part("gate")? },
        };
        let request = optional("request")?.unwrap_or(0);
        Ok(Line { at_ms: whole(need("at_ms")?, "at_ms")?, request, event })
    }
}

fn headers(value: Option<&Value>) -> Result<Vec<(String, Vec<u8>)>, String> {
    let wrong = || "headers: not a list of pairs".to_string();
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let mut list = Vec::new();
    for pair in value.as_array().ok_or_else(wrong)? {
        let [name, value] = pair.as_array().ok_or_else(wrong)?.as_slice() else {
            return Err(wrong());
        };
        let bytes = match value {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Object(map) => {
                keys(map, &["base64"])?;
                base64(text(map.get("base64").ok_or_else(wrong)?, "base64")?).ok_or("base64: malformed")?
            }
            _ => return Err(wrong()),
        };
        list.push((text(name, "headers")?.to_string(), bytes));
    }
    Ok(list)
}

fn body(map: &serde_json::Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    match (map.get("body"), map.get("body_base64")) {
        (Some(_), Some(_)) => Err("body_base64: beside body".into()),
        (Some(body), None) => Ok(Some(text(body, "body")?.as_bytes().to_vec())),
        (None, Some(body)) => Ok(Some(base64(text(body, "body_base64")?).ok_or("body_base64: malformed")?)),
        (None, None) => Ok(None),
    }
}
