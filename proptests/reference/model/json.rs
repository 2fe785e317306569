//! Small readers of JSON values. Their errors name the invalid field.

use serde_json::{Map, Value};

/// Reads a whole number that fits a `u64`.
pub fn whole(value: &Value, key: &str) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("{key}: not a whole number"))
}

/// Reads a whole number or `null`.
pub fn whole_or_null(value: &Value, key: &str) -> Result<Option<u64>, String> {
    if value.is_null() { Ok(None) } else { whole(value, key).map(Some) }
}

/// Reads a string.
pub fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{key}: not a string"))
}

/// Refuses an object with an unknown key.
pub fn keys(map: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{key}: unknown key")),
        None => Ok(()),
    }
}

/// Decodes base64 with padding (RFC 4648 §4).
pub fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    if text.len() % 4 != 0 || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bits = Vec::new();
    for c in digits.bytes() {
        let value = ALPHABET.iter().position(|a| *a == c)?;
        bits.extend((0..6).rev().map(|i| value >> i & 1 == 1));
    }
    Some(bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum * 2 + u8::from(*bit))).collect())
}
