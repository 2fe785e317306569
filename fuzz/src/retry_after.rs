//! `Retry-After` and the millisecond fields, one value at a time, against a second reader.

use std::time::Duration;

use retry_machine::{DialectField, FieldMeaning, HeaderField, HintSource, Policy, RejectReason, TimeUnit};

use super::second_reader::{Clock, Date, decimal, trim};

const OWN: &[DialectField] = &[
    DialectField::new("x-wait", FieldMeaning::Wait(TimeUnit::Seconds)),
    DialectField::new("x-wait-ms", FieldMeaning::Wait(TimeUnit::Milliseconds)),
];

/// Checks `data` as a field's value.
pub fn check(data: &[u8]) {
    let value = trim(data);
    let policy = Policy::flextell();
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let wall = Duration::from_millis(1_700_000_000_123);
    for (date, wall) in [(None, None), (Some(date), None), (None, Some(wall)), (Some(date), Some(wall))] {
        let headers = [("Retry-After", data), ("date", date.unwrap_or_default().as_bytes())];
        let headers = &headers[..if date.is_some() { 2 } else { 1 }];
        let reply = policy.read_at(wall, 503, headers.iter().copied());
        let clock = Clock::new(date.and_then(|date| Date::parse(date.as_bytes())), wall);
        let wait = reply.hint().map(|hint| hint.wait());
        assert_eq!(wait, clock.retry_after(value).map(Duration::from_nanos), "H2, H4: {reply:?}");
        assert!(reply.hint().is_none_or(|hint| hint.source() == HintSource::RetryAfter));

        let why = match (decimal(value, 3), Date::parse(value)) {
            (None, None) => Some(RejectReason::Malformed),
            (None, Some(_)) if !clock.has_time() => Some(RejectReason::NoClock),
            // 29 February of a short year that turns out not to be a leap year.
            (None, Some(_)) if wait.is_none() => Some(RejectReason::Malformed),
            _ => None,
        };
        let rejected: Vec<_> = reply.rejected().iter().collect();
        assert_eq!(rejected, Vec::from_iter(why.map(|why| (HeaderField::RetryAfter, why))), "H6");
    }
    // H11: a field of a dialect is read as the one that it stands for.
    let policy = policy.into_builder().dialect(OWN).build().expect("a dialect");
    let seconds = decimal(value, 3).map(|millis| Duration::from_nanos(millis.saturating_mul(1_000_000)));
    let reply = policy.read(429, [("X-Wait", data)]);
    assert_eq!(reply.hint().map(|hint| hint.wait()), seconds, "H2, H11");
    for name in ["retry-after-ms", "X-MS-Retry-After-MS", "x-WAIT-ms"] {
        let reply = policy.read(429, [(name, data)]);
        let millis = decimal(value, 0).map(|millis| Duration::from_nanos(millis.saturating_mul(1_000_000)));
        assert_eq!(reply.hint().map(|hint| hint.wait()), millis, "H5");
        assert_eq!(reply.rejected().is_empty(), millis.is_some(), "H6");
    }
}
