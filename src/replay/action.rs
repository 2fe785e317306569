//! Action lines.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Value, json};

use crate::time::Timestamp;
use crate::{Action, BearerErrorCode, ErrorBody, HintSource, Reply, WaitReason};

/// An action line of a replay.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ActionRecord {
    /// The time of the event that the action answers, in milliseconds since the origin of the trace.
    pub at_ms: u64,
    /// The number of the request.
    pub request: u64,
    /// The action.
    pub action: Action,
    /// The `error` of the last response's body. Only with a failure (rule E3).
    pub code: Option<String>,
    /// The `message` of the last response's body. Only with a failure (rule E3).
    pub message: Option<String>,
    /// The facts of the response, if the action answers a reply.
    pub facts: Option<Facts>,
    /// Whether the outcome counted, if the action answers the outcome of a refresh (rule K5).
    pub counted: Option<bool>,
}

/// The facts read from a response.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Facts {
    /// The facts of the headers.
    pub reply: Reply,
    /// The `error` of the body, if it has one.
    pub code: Option<String>,
}

impl ActionRecord {
    /// Returns the action as a JSON object without the facts: its line in the trace format.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let until = |until: Timestamp| json!(until.as_millis_ceil());
        let mut line = match self.action {
            Action::Send { generation, until: limit, .. } => {
                json!({"action": "send", "generation": generation, "until_ms": limit.map(until)})
            }
            Action::Wait { until: end, reason, .. } => {
                json!({"action": "wait", "until_ms": until(end), "reason": reason_name(reason)})
            }
            Action::RefreshToken { lease, generation, until: end, challenge, .. } => {
                json!({
                    "action": "refresh_token", "until_ms": until(end), "lease": lease, "generation": generation,
                    "challenge": challenge.map(BearerErrorCode::name),
                })
            }
            Action::AwaitRefresh { until: end, .. } => json!({"action": "await_token", "until_ms": until(end)}),
            Action::InFlight { until: end, .. } => json!({"action": "in_flight", "until_ms": end.map(until)}),
            Action::Done { status, .. } => json!({"action": "done", "status": status}),
            Action::Fail(failure) => {
                let mut line = json!({
                    "action": "surface",
                    "kind": failure.kind(),
                    "status": failure.status(),
                    "attempts": failure.attempts(),
                    "elapsed_ms": u64::try_from(failure.elapsed().as_millis()).unwrap_or(u64::MAX),
                    "not_before_ms": failure.not_before().map(until),
                    "cause": failure.cause(),
                    "advice": failure.advice(),
                });
                for (key, text) in [("code", &self.code), ("message", &self.message)] {
                    if let Some(text) = text {
                        line[key] = json!(text);
                    }
                }
                line
            }
        };
        if let Some(counted) = self.counted {
            line["counted"] = json!(counted);
        }
        line["at_ms"] = json!(self.at_ms);
        line["request"] = json!(self.request);
        line["attempt"] = json!(self.action.attempt());
        line["explain"] = json!(self.action.to_string());
        line
    }

    /// Returns the action as a JSON object, with the facts if it answers a reply.
    #[must_use]
    pub fn to_json_with_facts(&self) -> Value {
        let mut line = self.to_json();
        if let Some(facts) = &self.facts {
            line["facts"] = facts.to_json();
        }
        line
    }
}

impl Facts {
    /// Combines the facts of the headers and of the body of a response.
    #[must_use]
    pub fn new(reply: Reply, body: Option<&ErrorBody>) -> Facts {
        Facts { reply, code: body.and_then(ErrorBody::code).map(String::from) }
    }

    /// Returns the facts as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Facts { reply, code } = self;
        let millis = |wait: core::time::Duration| Timestamp::from_elapsed(wait).as_millis_ceil();
        let rejected: Vec<_> = reply
            .rejected()
            .iter()
            .map(|(field, reason)| json!({"field": field.name(), "why": reason.name()}))
            .collect();
        json!({
            "hint_ms": reply.hint().map(|hint| millis(hint.wait())),
            "hint_source": reply.hint().map(|hint| hint.source()),
            "remaining": reply.remaining(),
            "limit": reply.limit(),
            "reset_ms": reply.reset().map(millis),
            "challenge": reply.challenge().map(BearerErrorCode::name),
            "code": code,
            "rejected": rejected,
        })
    }
}

fn reason_name(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Backoff => "backoff",
        WaitReason::Hint(HintSource::RetryAfter) => "retry_after",
        WaitReason::Hint(HintSource::RetryAfterMs) => "retry_after_ms",
        WaitReason::Hint(HintSource::RateLimitReset) => "rate_limit_reset",
        WaitReason::Hint(HintSource::Told) => "told",
        WaitReason::Hint(HintSource::Pushback) => "pushback",
        WaitReason::Gate => "gate",
    }
}
