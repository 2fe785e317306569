//! Reads a JSON object field by field, so that an error can name the field.

use alloc::string::{String, ToString};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ReplayError;

/// The fields of a line that were not taken.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(line: &str) -> Result<Fields, ReplayError> {
        serde_json::from_str(line).map(Fields).map_err(|error| ReplayError::Json(error.to_string()))
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Takes the value of a field, if the field is present. `null` is a value, for a `T` that accepts it.
    pub(super) fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, ReplayError> {
        let Some(value) = self.0.remove(field) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|error| ReplayError::field(field, &error))
    }

    /// Takes the value of a required field.
    pub(super) fn require<T: DeserializeOwned>(&mut self, field: &str) -> Result<T, ReplayError> {
        self.take(field)?.ok_or_else(|| ReplayError::field(field, &"missing"))
    }

    /// Checks that all fields were taken.
    pub(super) fn finish(self) -> Result<(), ReplayError> {
        match self.0.keys().next() {
            Some(field) => Err(ReplayError::field(field, &"unknown field")),
            None => Ok(()),
        }
    }
}
