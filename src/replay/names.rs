//! The trace format's words for values of a policy, each read and written in one place.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::Jitter;
use crate::reply::{DialectField, FieldMeaning, TimeUnit};

/// A number, or two: `2` or `[16, 10]`.
#[derive(Clone, Copy)]
pub(super) struct Ratio(pub(super) u32, pub(super) u32);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RatioForm {
    Whole(u32),
    Parts(u32, u32),
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ratio, D::Error> {
        Ok(match RatioForm::deserialize(deserializer)? {
            RatioForm::Whole(number) => Ratio(number, 1),
            RatioForm::Parts(numerator, denominator) => Ratio(numerator, denominator),
        })
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Ratio(number, 1) => RatioForm::Whole(number),
            Ratio(numerator, denominator) => RatioForm::Parts(numerator, denominator),
        }
        .serialize(serializer)
    }
}

/// `none`, `spread`, `above`, `full`, `equal`, `proportional`, `decorrelated`, or `{"band": [down, up]}`.
#[derive(Clone, Copy)]
pub(super) struct JitterName(pub(super) Jitter);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JitterForm {
    None,
    Spread,
    Above,
    Full,
    Equal,
    Proportional,
    Decorrelated,
    Band(u16, u16),
}

impl<'de> Deserialize<'de> for JitterName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JitterName, D::Error> {
        Ok(JitterName(match JitterForm::deserialize(deserializer)? {
            JitterForm::None => Jitter::None,
            JitterForm::Spread => Jitter::Spread,
            JitterForm::Above => Jitter::Above,
            JitterForm::Full => Jitter::FULL,
            JitterForm::Equal => Jitter::EQUAL,
            JitterForm::Proportional => Jitter::PROPORTIONAL,
            JitterForm::Decorrelated => Jitter::Decorrelated,
            JitterForm::Band(down, up) => Jitter::Band { down, up },
        }))
    }
}

impl Serialize for JitterName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Jitter::None => JitterForm::None,
            Jitter::Spread => JitterForm::Spread,
            Jitter::Above => JitterForm::Above,
            Jitter::FULL => JitterForm::Full,
            Jitter::EQUAL => JitterForm::Equal,
            Jitter::PROPORTIONAL => JitterForm::Proportional,
            Jitter::Decorrelated => JitterForm::Decorrelated,
            Jitter::Band { down, up } => JitterForm::Band(down, up),
        }
        .serialize(serializer)
    }
}

/// A status, or a range of them: `503` or `"500-599"`.
#[derive(Clone, Copy)]
pub(super) struct Statuses(pub(super) u16, pub(super) u16);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StatusesForm {
    One(u16),
    Range(String),
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Statuses, D::Error> {
        match StatusesForm::deserialize(deserializer)? {
            StatusesForm::One(status) => Ok(Statuses(status, status)),
            StatusesForm::Range(range) => {
                let ends =
                    range.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
                let (first, last) = ends.ok_or_else(|| D::Error::custom("a range of statuses is \"500-599\""))?;
                Ok(Statuses(first, last))
            }
        }
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Statuses(first, last) if first == last => StatusesForm::One(first),
            Statuses(first, last) => StatusesForm::Range(format!("{first}-{last}")),
        }
        .serialize(serializer)
    }
}

/// A field of a dialect: `["x-should-retry", "verdict"]` or `["x-reset", {"reset": "unix"}]`.
#[derive(Clone, Copy)]
pub(super) struct FieldName(pub(super) DialectField);

#[derive(Serialize, Deserialize)]
struct FieldForm(String, #[serde(with = "MeaningForm")] FieldMeaning);

#[derive(Serialize, Deserialize)]
#[serde(remote = "FieldMeaning", rename_all = "snake_case")]
enum MeaningForm {
    Wait(#[serde(with = "UnitForm")] TimeUnit),
    Pushback(#[serde(with = "UnitForm")] TimeUnit),
    Reset(#[serde(with = "UnitForm")] TimeUnit),
    Remaining,
    Limit,
    UsedOfLimit,
    Verdict,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TimeUnit", rename_all = "snake_case")]
enum UnitForm {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
    Unix,
    #[serde(rename = "unix_ms")]
    UnixMilliseconds,
    #[cfg(feature = "vendor-times")]
    Duration,
    #[cfg(feature = "vendor-times")]
    Rfc3339,
}

impl<'de> Deserialize<'de> for FieldName {
    /// Leaks the name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldName, D::Error> {
        let FieldForm(name, meaning) = FieldForm::deserialize(deserializer)?;
        Ok(FieldName(DialectField { name: Box::leak(name.into_boxed_str()), meaning }))
    }
}

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FieldForm(self.0.name.to_owned(), self.0.meaning).serialize(serializer)
    }
}
