//! Rate-limit fields, one value at a time, against a second reader and the crate `sfv`.

use std::time::Duration;

use retry_machine::{DialectField, FieldMeaning, HeaderField, HintSource, Policy, RejectReason, Reply, ResetFormat};
use sfv::{BareItem, Item, ListEntry, Parser};

use super::second_reader::{Clock, count, trim};

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
    let Some(members) = members(data) else {
        return check_draft_7(data, &reply);
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

/// H5: a line that is not a list is the dictionary of draft 7, with its keys and no others, or void.
fn check_draft_7(data: &[u8], reply: &Reply) {
    const KEYS: [&str; 3] = ["limit", "remaining", "reset"];
    let dictionary = Parser::new(trim(data)).parse::<sfv::Dictionary>().ok();
    let Some(dictionary) = dictionary.filter(|all| all.keys().all(|key| KEYS.contains(&key.as_str()))) else {
        assert_eq!(
            (reply.remaining(), reply.limit(), reply.hint()),
            (None, None, None),
            "H5: a syntax error voids the field"
        );
        assert_eq!(Vec::from_iter(reply.rejected().iter()), [(HeaderField::RateLimit, RejectReason::Void)]);
        return;
    };
    let number = |key: &str| match dictionary.get(key)? {
        ListEntry::Item(Item { bare_item: BareItem::Integer(number), .. }) => u64::try_from(i64::from(*number)).ok(),
        _ => None,
    };
    let seen = [reply.limit(), reply.remaining(), reply.reset().map(|reset| reset.as_secs())];
    let malformed = [(HeaderField::RateLimit, RejectReason::Malformed)];
    for (key, seen) in KEYS.into_iter().zip(seen) {
        match number(key) {
            Some(number) => assert_eq!(seen, Some(number), "H5: {key}"),
            None if !dictionary.contains_key(key) => assert_eq!(seen, None, "H5: {key}"),
            // Of a key given twice `sfv` keeps the last value, also a bad one.
            None => assert_eq!(Vec::from_iter(reply.rejected().iter()), malformed, "F9: a dropped member is reported"),
        }
    }
    let wait = reply.reset().filter(|_| reply.remaining() == Some(0));
    assert_eq!(reply.hint().map(|hint| (hint.wait(), hint.source())), wait.map(reset_hint), "H6");
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
        let before = &data[..slash];
        // A name has no semicolon: a window behind the count has an equals sign, too.
        let name = before.split(|byte| *byte == b'=').next().filter(|name| !name.contains(&b';'));
        let used = match name {
            Some(name) if name.len() < before.len() => &before[name.len() + 1..],
            _ => before,
        };
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
