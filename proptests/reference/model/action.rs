//! The action lines of a trace (`docs/trace_format.md`), with bounds for jittered instants.

use super::super::reading::Source;
use super::span::{Ns, Span, ceil_ms};
use serde_json::{Map, Value, json};

/// K5: a refresh has the number of its lease and the generation that it replaces. K9: a send has no generation where there is no
/// token.
#[derive(Clone, Debug)]
pub enum Action {
    Send { generation: Option<u64>, until: Option<Ns> },
    Wait { until: Span, reason: Reason },
    RefreshToken { until: Ns, lease: u64, generation: u64, challenge: Option<&'static str> },
    AwaitRefresh { until: Ns },
    InFlight { until: Option<Ns> },
    Done { status: u64 },
    Fail(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Backoff,
    Hint(Source),
    /// D16.
    Told,
    /// H11.
    Pushback,
    Gate,
}

/// E1.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: &'static str,
    pub status: Option<u64>,
    pub attempts: usize,
    pub elapsed: Ns,
    pub not_before: Option<Span>,
    pub cause: Option<&'static str>,
    pub advice: &'static str,
    pub code: Option<String>,
    pub message: Option<String>,
}

impl Action {
    /// Returns the keys of the action line. `pick` chooses each jittered instant.
    pub fn keys(&self, pick: fn(Span) -> Ns) -> Map<String, Value> {
        let value = match self {
            Action::Send { generation, until } => {
                json!({"action": "send", "generation": generation, "until_ms": until.map(ceil_ms)})
            }
            Action::Wait { until, reason } => {
                json!({"action": "wait", "until_ms": ceil_ms(pick(*until)), "reason": reason.name()})
            }
            Action::RefreshToken { until, lease, generation, challenge } => json!({
                "action": "refresh_token", "until_ms": ceil_ms(*until), "lease": lease, "generation": generation,
                "challenge": challenge,
            }),
            Action::AwaitRefresh { until } => {
                json!({"action": "await_token", "until_ms": ceil_ms(*until)})
            }
            Action::InFlight { until } => {
                json!({"action": "in_flight", "until_ms": until.map(ceil_ms)})
            }
            Action::Done { status } => json!({"action": "done", "status": status}),
            Action::Fail(f) => json!({
                "action": "surface", "kind": f.kind, "status": f.status, "attempts": f.attempts,
                "elapsed_ms": ceil_ms(f.elapsed), "not_before_ms": f.not_before.map(|s| ceil_ms(pick(s))),
                "cause": f.cause, "advice": f.advice, "code": f.code, "message": f.message,
            }),
        };
        match value {
            Value::Object(map) => map,
            _ => unreachable!("every arm is an object"),
        }
    }
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Backoff => "backoff",
            Reason::Hint(source) => source.name(),
            Reason::Told => "told",
            Reason::Pushback => "pushback",
            Reason::Gate => "gate",
        }
    }
}

/// F8: returns the advice to the user. `insufficient`: the last reply named a scope or claims.
pub fn advice(kind: &str, cause: Option<&str>, status: Option<u64>, insufficient: bool) -> &'static str {
    match kind {
        "bad_request" => "fix_request",
        "transport" if cause == Some("permanent") => "fix_request",
        "unauthorized" if insufficient => "authorize_with_scopes",
        "unauthorized" | "token_rejected" => "authorize_again",
        "forbidden" => "authorize_with_scopes",
        "not_found" => "check_id",
        "conflict" => "make_unique",
        "validation" => "read_message",
        "exhausted" if cause == Some("status") && status == Some(500) => "contact_support",
        "ambiguous" => "check_whether_applied",
        "unexpected_status" | "cancelled" => "none",
        _ => "try_later",
    }
}
