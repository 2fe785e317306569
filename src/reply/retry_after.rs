//! Times as numbers in header values: `Retry-After`, its variants in milliseconds, the resets of rate limits, a dialect's units.

use super::header_time::HeaderTime;
use super::number::Decimal;
#[cfg(feature = "vendor-times")]
use super::vendor_times;
use super::{ResetFormat, TimeUnit};
use crate::time;

/// Reads a wait in seconds or in milliseconds, with or without decimals (rule H2), in nanoseconds.
pub(super) fn wait(value: &[u8], unit: TimeUnit) -> Option<u64> {
    let number = Decimal::parse(value)?;
    Some(time::millis(if unit == TimeUnit::Seconds { number.thousandfold() } else { number.ceil() }))
}

/// Reads the number of `X-RateLimit-Reset` or `RateLimit-Reset` (rule H5).
pub(super) fn reset(value: &[u8], format: ResetFormat) -> Option<HeaderTime> {
    let number = Decimal::parse(value)?;
    Some(match format {
        ResetFormat::Auto if number.whole >= 1_000_000_000_000 => unix(number.ceil()),
        ResetFormat::Auto if number.whole < 1_000_000_000 => HeaderTime::After(time::millis(number.thousandfold())),
        ResetFormat::Delta => HeaderTime::After(time::millis(number.thousandfold())),
        ResetFormat::Auto | ResetFormat::Unix => unix(number.thousandfold()),
    })
}

/// Reads a time in the unit that a dialect names (rule H11).
pub(super) fn in_unit(value: &[u8], unit: TimeUnit) -> Option<HeaderTime> {
    match unit {
        TimeUnit::Seconds | TimeUnit::Milliseconds => wait(value, unit).map(HeaderTime::After),
        TimeUnit::Unix => Decimal::parse(value).map(|seconds| unix(seconds.thousandfold())),
        TimeUnit::UnixMilliseconds => Decimal::parse(value).map(|millis| unix(millis.ceil())),
        #[cfg(feature = "vendor-times")]
        TimeUnit::Duration => {
            vendor_times::duration_millis(value).map(|millis| HeaderTime::After(time::millis(millis)))
        }
        #[cfg(feature = "vendor-times")]
        TimeUnit::Rfc3339 => vendor_times::rfc3339_millis(value).map(HeaderTime::At),
    }
}

fn unix(millis: u64) -> HeaderTime {
    HeaderTime::At(i64::try_from(millis).unwrap_or(i64::MAX))
}
