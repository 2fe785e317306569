//! Error bodies: a JSON object with a machine-readable code and a message for people.

use alloc::string::String;
use core::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::CodeClass;

/// What an error body says: `{"error": "invalid_token", "message": "The bearer token is expired."}` (rule H8).
///
/// Read it for a non-success status only. It is never trusted: what is not of this form gives a [`BodyError`], and the
/// status decides alone. Unknown fields are ignored, and one of the two may be missing (rule F9).
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
    /// The longest body that is read, in bytes (rule F9).
    pub const MAX_LENGTH: usize = 64 * 1024;
    /// How deep arrays and objects may be nested in what is ignored (rule F9).
    pub const MAX_DEPTH: usize = 64;

    /// Reads the body of an error response.
    ///
    /// # Errors
    ///
    /// A [`BodyError`] says why it is no error body.
    pub fn parse(body: &[u8]) -> Result<ErrorBody, BodyError> {
        if body.len() > ErrorBody::MAX_LENGTH {
            return Err(BodyError::TooLong);
        }
        // Here, since what is skipped over is not checked below.
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

    /// The machine-readable code: the field `error`.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// What the decision sees of the code: for [`Reply::with_code`](crate::Reply::with_code).
    #[must_use]
    pub fn class(&self) -> CodeClass {
        match self.code() {
            None => CodeClass::None,
            Some("insufficient_scope" | "insufficient_claims") => CodeClass::InsufficientScope,
            Some("token_revoked") => CodeClass::TokenRevoked,
            Some(_) => CodeClass::Other,
        }
    }
}

/// Why a body is no error body.
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
    /// Not JSON, or a name, `error` or `message` is a string that is no text (it has a lone surrogate).
    #[error("the body is not JSON")]
    NotJson,
    /// JSON, but no object.
    #[error("the body is no JSON object")]
    NotAnObject,
    /// `error` or `message` is there and is no string.
    #[error("error and message must be strings")]
    WrongType,
    /// `error` or `message` is there twice.
    #[error("error or message is given twice")]
    Duplicate,
    /// Neither `error` nor `message` is there.
    #[error("the body has neither error nor message")]
    Empty,
}

/// How deep arrays and objects are nested; of what is no JSON, something.
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

/// Why a text could not be read as an object.
fn refusal(text: &str) -> BodyError {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    if is_json && !text.trim_ascii_start().starts_with('{') { BodyError::NotAnObject } else { BodyError::NotJson }
}

/// The two fields of an object. A derived reader would also take an array for one, and stop at duplicates.
#[derive(Default)]
struct Fields {
    code: HeaderField,
    message: HeaderField,
}

#[derive(Default)]
enum HeaderField {
    #[default]
    Missing,
    Text(String),
    Wrong(BodyError),
}

impl HeaderField {
    fn take(&mut self, value: Value) {
        *self = match (&self, value) {
            (HeaderField::Missing, Value::Text(text)) => HeaderField::Text(text),
            (HeaderField::Missing, Value::Other(_)) => HeaderField::Wrong(BodyError::WrongType),
            _ => HeaderField::Wrong(BodyError::Duplicate),
        };
    }

    fn text(self) -> Result<Option<String>, BodyError> {
        match self {
            HeaderField::Missing => Ok(None),
            HeaderField::Text(text) => Ok(Some(text)),
            HeaderField::Wrong(why) => Err(why),
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
                "error" => fields.code.take(map.next_value()?),
                "message" => fields.message.take(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}
