//! Error bodies against `serde_json::Value`.

use retry_machine::{BodyError, CodeClass, ErrorBody};
use serde_json::{Map, Value};

/// Checks `data` as a body.
pub fn check(data: &[u8]) {
    let body = ErrorBody::parse(data);
    assert_eq!(ErrorBody::parse(data), body, "I12");
    match &body {
        Ok(body) => accepted(body),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(value) = serde_json::from_slice::<Value>(data) {
        compare(&value, &body, data.len());
    }
    // White space around the object changes nothing.
    if data.len() + 2 <= ErrorBody::MAX_LENGTH {
        assert_eq!(ErrorBody::parse(&[b" ", data, b"\n"].concat()), body);
    }
}

fn accepted(body: &ErrorBody) {
    assert!(body.code().is_some() || body.message().is_some(), "F9: one of the two");
    let class = match body.code() {
        None => CodeClass::None,
        Some("insufficient_scope" | "insufficient_claims") => CodeClass::InsufficientScope,
        Some("token_revoked") => CodeClass::TokenRevoked,
        Some(_) => CodeClass::Other,
    };
    assert_eq!(body.class(), class, "H8");
}

/// Compares with a `Value`, which does not show which of two equal keys counted (H8).
fn compare(value: &Value, body: &Result<ErrorBody, BodyError>, length: usize) {
    if body == &Err(BodyError::Duplicate) && value.is_object() {
        return;
    }
    let expected = match value {
        _ if length > ErrorBody::MAX_LENGTH => Err(BodyError::TooLong),
        _ if depth(value) > ErrorBody::MAX_DEPTH => Err(BodyError::TooDeep),
        Value::Object(fields) => texts(fields),
        _ => Err(BodyError::NotAnObject),
    };
    let texts = |body: &ErrorBody| [body.code().map(str::to_owned), body.message().map(str::to_owned)];
    // A key that comes twice can hide the depth of its first value.
    assert!(body.as_ref().map(texts) == expected.as_ref().cloned() || body == &Err(BodyError::TooDeep), "{body:?}");
}

fn texts(fields: &Map<String, Value>) -> Result<[Option<String>; 2], BodyError> {
    let text = |key| match fields.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(BodyError::WrongType),
    };
    match [text("error")?, text("message")?] {
        [None, None] => Err(BodyError::Empty),
        texts => Ok(texts),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
