//! Error bodies: a JSON object with a machine-readable code and a message for people.

use alloc::string::String;
use core::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::CodeClass;

/// The two texts of an error body, such as `{"error": "invalid_token", "message": "The bearer token is expired."}`
/// (rule H8).
///
/// Read it only for a status that is not a success. The body is never trusted: one of another form gives a
/// [`BodyError`], and the status alone decides. Unknown fields are ignored, and one of the two may be missing (rule F9).
///
/// ```
/// use retry_machine::{BodyError, CodeClass, ErrorBody};
///
/// let body = ErrorBody::parse(br#"{"error": "token_revoked", "message": "Log in again."}"#)?;
/// assert_eq!(body.message(), Some("Log in again."));
/// assert_eq!(body.class(), CodeClass::TokenRevoked);
/// assert_eq!(ErrorBody::parse(b"<html>").unwrap_err(), BodyError::NotJson);
/// # Ok::<(), BodyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}

impl ErrorBody {
    /// Length of the longest body that is read, in bytes (rule F9).
    pub const MAX_LENGTH: usize = 64 * 1024;
    /// Number of levels that arrays and objects may be nested, ignored ones included (rule F9).
    pub const MAX_DEPTH: usize = 64;

    /// Reads the body of an error response.
    ///
    /// # Errors
    ///
    /// Returns a [`BodyError`] if `body` is not an error body.
    pub fn parse(body: &[u8]) -> Result<ErrorBody, BodyError> {
        if body.len() > ErrorBody::MAX_LENGTH {
            return Err(BodyError::TooLong);
        }
        // The JSON parser does not check the strings that it skips.
        let text = core::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
        if depth(text) > ErrorBody::MAX_DEPTH {
            return Err(BodyError::TooDeep);
        }
        let Fields { code, message } = serde_json::from_str(text).map_err(|_| refusal(text))?;
        let body = ErrorBody { code: code.text()?, message: message.text()? };
        match body {
            ErrorBody { code: None, message: None } => Err(BodyError::Empty),
            body => Ok(body),
        }
    }

    /// Returns the machine-readable code: the field `error`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns the message for people: the field `message`.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Returns the class of the code, for [`Reply::with_code`](crate::Reply::with_code).
    #[must_use]
    pub fn class(&self) -> CodeClass {
        match self.code() {
            None => CodeClass::None,
            Some("insufficient_scope") => CodeClass::InsufficientScope,
            Some("insufficient_claims") => CodeClass::InsufficientClaims,
            Some("token_revoked") => CodeClass::TokenRevoked,
            Some(_) => CodeClass::Other,
        }
    }
}

/// The reason why a body is not an error body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than [`ErrorBody::MAX_LENGTH`].
    #[error("the body is longer than 65536 bytes")]
    TooLong,
    /// Nested deeper than [`ErrorBody::MAX_DEPTH`].
    #[error("the body is nested deeper than 64 levels")]
    TooDeep,
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Not JSON, or a name, `error` or `message` has a lone surrogate and so is not text.
    #[error("the body is not JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// `error` or `message` is there and is not a string.
    #[error("error and message must be strings")]
    WrongType,
    /// `error` or `message` is there twice.
    #[error("error or message is given twice")]
    Duplicate,
    /// Both `error` and `message` are missing.
    #[error("the body has neither error nor message")]
    Empty,
}

/// Returns the number of levels that arrays and objects are nested. For a text that is not JSON it may be any number.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Tells why `text` could not be read as an object.
fn refusal(text: &str) -> BodyError {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    if is_json && !text.trim_ascii_start().starts_with('{') { BodyError::NotAnObject } else { BodyError::NotJson }
}

/// The two fields of an object. A derived reader would also accept an array, and would stop at a duplicate.
#[derive(Default)]
struct Fields {
    code: TextField,
    message: TextField,
}

#[derive(Default)]
enum TextField {
    #[default]
    Missing,
    Text(String),
    Wrong(BodyError),
}

impl TextField {
    fn set(&mut self, value: Value) {
        *self = match (&self, value) {
            (TextField::Missing, Value::Text(text)) => TextField::Text(text),
            (TextField::Missing, Value::Other(_)) => TextField::Wrong(BodyError::WrongType),
            _ => TextField::Wrong(BodyError::Duplicate),
        };
    }

    fn text(self) -> Result<Option<String>, BodyError> {
        match self {
            TextField::Missing => Ok(None),
            TextField::Text(text) => Ok(Some(text)),
            TextField::Wrong(why) => Err(why),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Other(IgnoredAny),
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "error" => fields.code.set(map.next_value()?),
                "message" => fields.message.set(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}
