//! Rate-limit fields, one value at a time, against a second reader and the crate `sfv`.

use std::time::Duration;

use retry_machine::{DialectField, FieldMeaning, HeaderField, HintSource, Policy, RejectReason, ResetFormat};
use sfv::{BareItem, ListEntry, Parser};

use super::second_reader::{Clock, count, digits, trim};

const OWN: &[DialectField] = &[DialectField::new("api-usage", FieldMeaning::UsedOfLimit)];

/// Checks `data` as a field's value.
pub fn check(data: &[u8]) {
    check_reset(data);
    check_limit(data);
    check_policy(data);
    check_usage(data);
}

fn check_reset(data: &[u8]) {
    let wall = Some(Duration::from_secs(1_700_000_000));
    for format in [ResetFormat::Auto, ResetFormat::Unix, ResetFormat::Delta] {
        let policy = Policy::flextell().into_builder().rate_limit_reset(format).build().expect("a policy");
        for prefix in ["X-RateLimit", "RateLimit", "X-Rate-Limit"] {
            let (remaining, reset) = (format!("{prefix}-Remaining"), format!("{prefix}-Reset"));
            let headers = [(reset.as_str(), data), (remaining.as_str(), b"0".as_slice())];
            let reply = policy.read_at(wall, 429, headers);
            let wait = Clock::new(None, wall).reset(trim(data), format).map(Duration::from_nanos);
            assert_eq!((reply.remaining(), reply.reset()), (Some(0), wait), "H5");
            assert_eq!(reply.hint().map(|hint| (hint.wait(), hint.source())), wait.map(reset_hint), "H6");

            let reply = policy.read_at(wall, 429, [(remaining.as_str(), data), (reset.as_str(), b"7")]);
            assert_eq!(reply.remaining(), count(trim(data)));
            assert_eq!(reply.hint().is_some(), reply.remaining() == Some(0), "H6: only with nothing left");
        }
    }
}

fn check_limit(data: &[u8]) {
    let reply = Policy::flextell().read(429, [("RateLimit", data)]);
    if let Some(draft7) = draft7(trim(data)) {
        let remaining = draft7.last("remaining");
        let reset = draft7.last("reset").filter(|_| remaining == Some(0)).map(Duration::from_secs);
        assert_eq!((reply.remaining(), reply.limit()), (remaining, draft7.last("limit")), "H5");
        assert_eq!(reply.hint().map(|hint| (hint.wait(), hint.source())), reset.map(reset_hint), "H5");
        assert_eq!(reply.rejected().is_empty(), !draft7.has_bad_value, "F9: a dropped member is reported");
        return;
    }
    let Some(members) = members(data) else {
        assert_eq!((reply.remaining(), reply.hint()), (None, None), "H5: a syntax error voids the field");
        assert_eq!(Vec::from_iter(reply.rejected().iter()), [(HeaderField::RateLimit, RejectReason::Void)]);
        return;
    };
    let read = |member: &Option<Member>| {
        let member = member.as_ref()?;
        let (remaining, reset) = (member.number("r")?, member.number("t")?);
        Some((remaining?, reset))
    };
    let limits: Vec<_> = members.iter().filter_map(read).collect();
    let least = limits.iter().map(|(remaining, _)| *remaining).min();
    assert_eq!(reply.remaining(), least, "F9: the smaller");
    // H5: of the members with nothing left the largest reset counts.
    let reset = limits.iter().filter(|(remaining, _)| *remaining == 0).filter_map(|(_, reset)| *reset).max();
    let wait = reset.map(|seconds| Duration::from_nanos(seconds.saturating_mul(1_000_000_000)));
    assert_eq!(reply.hint().map(|hint| (hint.wait(), hint.source())), wait.map(reset_hint), "H5");
    assert_eq!(reply.rejected().is_empty(), limits.len() == members.len(), "F9: a dropped member is reported");
}

/// The members of draft 7's dictionary: `limit=100, remaining=50, reset=30`.
struct Draft7 {
    members: Vec<(String, u64)>,
    has_bad_value: bool,
}

impl Draft7 {
    /// Returns the value of a key. Given twice, the last one counts (RFC 9651 §3.2).
    fn last(&self, key: &str) -> Option<u64> {
        self.members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// Reads a dictionary of just these keys.
fn draft7(line: &[u8]) -> Option<Draft7> {
    let mut read = Draft7 { members: Vec::new(), has_bad_value: false };
    for member in line.split(|byte| *byte == b',').map(trim) {
        let (key, value) = member.split_at(member.iter().position(|byte| *byte == b'=')?);
        let key = std::str::from_utf8(key).ok().filter(|key| ["limit", "remaining", "reset"].contains(key))?;
        // An Integer has at most 15 digits (RFC 9651 §3.3.1).
        match digits(&value[1..]).filter(|_| value.len() <= 16) {
            Some(value) => read.members.push((key.into(), value)),
            None => read.has_bad_value = true,
        }
    }
    Some(read)
}

fn check_policy(data: &[u8]) {
    let reply = Policy::flextell().read(429, [("RateLimit-Policy", data)]);
    let members = members(data);
    let read = |member: &Option<Member>| {
        let member = member.as_ref()?;
        member.number("w")?;
        member.number("q")?
    };
    let quotas: Option<Vec<_>> = members.as_ref().map(|members| members.iter().filter_map(read).collect());
    assert_eq!(reply.limit(), quotas.as_ref().and_then(|quotas| quotas.iter().min().copied()));
    assert_eq!(reply.hint(), None);
    let complete = quotas.map(|quotas| quotas.len()) == members.map(|members| members.len());
    assert!(reply.rejected().is_empty() || !complete || Parser::new(trim(data)).parse::<sfv::List>().is_err());
}

/// H11: calls used of those allowed, also behind a name.
fn check_usage(data: &[u8]) {
    let policy = Policy::flextell().into_builder().dialect(OWN).build().expect("a dialect");
    let reply = policy.read(429, [("API-Usage", data)]);
    let usage = data.iter().position(|byte| *byte == b'/').and_then(|slash| {
        let used = data[..slash].rsplit(|byte| *byte == b'=').next()?;
        Some((count(trim(used))?, count(trim(&data[slash + 1..]))?))
    });
    let remaining = usage.map(|(used, limit)| limit.saturating_sub(used));
    assert_eq!((reply.remaining(), reply.limit()), (remaining, usage.map(|(_, limit)| limit)), "H11");
    assert_eq!(reply.rejected().is_empty(), usage.is_some(), "H6");
}

fn reset_hint(wait: Duration) -> (Duration, HintSource) {
    (wait, HintSource::RateLimitReset)
}

/// A named member's parameters.
struct Member(sfv::Parameters);

impl Member {
    /// Returns a parameter that is a whole number, 0 or more, or `None` if it has another value.
    fn number(&self, key: &str) -> Option<Option<u64>> {
        match self.0.iter().find(|(name, _)| name.as_str() == key) {
            None => Some(None),
            Some((_, BareItem::Integer(number))) => u64::try_from(i64::from(*number)).ok().map(Some),
            Some(_) => None,
        }
    }
}

/// Reads the members of a list: `None` for one without a name.
fn members(data: &[u8]) -> Option<Vec<Option<Member>>> {
    let list = Parser::new(trim(data)).parse::<sfv::List>().ok()?;
    let named = |entry| match entry {
        ListEntry::Item(item) if matches!(item.bare_item, BareItem::String(_) | BareItem::Token(_)) => {
            Some(Member(item.params))
        }
        _ => None,
    };
    Some(list.into_iter().map(named).collect())
}
