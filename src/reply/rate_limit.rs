//! Rate-limit fields: `X-RateLimit-*`, the same without `X-`, and the IETF draft's `RateLimit` and `RateLimit-Policy`.

use core::cmp::Reverse;

use super::header_time::{Clock, LatestTime};
use super::rejected::RejectReason;
use super::structured_field::{Bare, Dictionary, List, Member};
use crate::time;

/// The facts of one family of rate-limit fields.
#[derive(Clone, Copy, Default)]
pub(super) struct Family {
    pub(super) limit: Option<u64>,
    pub(super) remaining: Option<u64>,
    /// Nanoseconds from the receipt of the response.
    pub(super) reset: Option<u64>,
}

/// `X-RateLimit-Limit`, `-Remaining` and `-Reset`, or the same without `X-` (rule H5).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) limit: Option<u64>,
    pub(super) remaining: Option<u64>,
    pub(super) reset: LatestTime,
}

impl Limits {
    pub(super) fn family(&self, clock: Clock) -> Family {
        Family { limit: self.limit, remaining: self.remaining, reset: self.reset.resolve(clock) }
    }
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers; rule H5).
///
/// The tightest of several limits counts: the one with the least remaining, and of equals the one that is reset last.
/// It also decides when nothing is left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StructuredLimits {
    /// Calls that remain, and seconds until the reset.
    tightest: Option<(u64, Reverse<Option<u64>>)>,
    /// The smallest quota.
    quota: Option<u64>,
    limits_void: bool,
    policies_void: bool,
    draft_7: Draft7,
}

/// `limit=100, remaining=50, reset=30`: the `RateLimit` of draft-ietf-httpapi-ratelimit-headers-07.
#[derive(Clone, Copy, Debug, Default)]
struct Draft7 {
    limit: Option<u64>,
    remaining: Option<u64>,
    /// Seconds.
    reset: Option<u64>,
}

impl StructuredLimits {
    /// Reads one line of `RateLimit`: a list, or else the dictionary of draft 7.
    pub(super) fn add_limits(&mut self, line: &[u8]) -> Result<(), RejectReason> {
        let mut tightest = self.tightest;
        let result = each_member(line, |member| {
            let remaining = natural(member, b"r")??;
            let reset = natural(member, b"t")?;
            let this = (remaining, Reverse(reset));
            tightest = Some(tightest.map_or(this, |tightest| tightest.min(this)));
            Some(())
        });
        if result != Err(RejectReason::Void) {
            self.tightest = tightest;
            return result;
        }
        let result = self.draft_7.add(line);
        self.limits_void |= result == Err(RejectReason::Void);
        result
    }

    /// Reads one line of `RateLimit-Policy`.
    pub(super) fn add_policies(&mut self, line: &[u8]) -> Result<(), RejectReason> {
        let quota = &mut self.quota;
        let result = each_member(line, |member| {
            let this = natural(member, b"q")??;
            natural(member, b"w")?;
            *quota = Some(quota.map_or(this, |quota| quota.min(this)));
            Some(())
        });
        self.policies_void |= result == Err(RejectReason::Void);
        result
    }

    /// Returns the facts. A syntax error voids a field with all its lines.
    pub(super) fn family(&self) -> Family {
        let draft_7 = self.draft_7;
        let from_draft_7 = draft_7.remaining.map(|remaining| (remaining, Reverse(draft_7.reset)));
        let tightest = [self.tightest, from_draft_7].into_iter().flatten().min().filter(|_| !self.limits_void);
        // Without a count the reset is a fact still.
        let reset = tightest.map_or(draft_7.reset.filter(|_| !self.limits_void), |(_, Reverse(reset))| reset);
        Family {
            limit: self.quota.filter(|_| !self.policies_void).or(draft_7.limit.filter(|_| !self.limits_void)),
            remaining: tightest.map(|(remaining, _)| remaining),
            reset: reset.map(time::seconds),
        }
    }
}

impl Draft7 {
    /// Reads a line with these keys and no others. A bad value drops its member; of a key given twice the last good value
    /// counts.
    fn add(&mut self, line: &[u8]) -> Result<(), RejectReason> {
        let mut added = *self;
        let mut result = Ok(());
        for entry in Dictionary::new(line) {
            let Ok((key, member)) = entry else { return Err(RejectReason::Void) };
            let slot = match key {
                b"limit" => &mut added.limit,
                b"remaining" => &mut added.remaining,
                b"reset" => &mut added.reset,
                _ => return Err(RejectReason::Void),
            };
            match member.value.and_then(whole) {
                Some(number) => *slot = Some(number),
                None => result = Err(RejectReason::Malformed),
            }
        }
        *self = added;
        result
    }
}

/// Reads the members of one line. A member that `read` refuses is dropped; after a syntax error nothing in the line counts.
fn each_member(line: &[u8], mut read: impl FnMut(&Member<'_>) -> Option<()>) -> Result<(), RejectReason> {
    let mut verdict = Ok(());
    for member in List::new(line) {
        let Ok(member) = member else { return Err(RejectReason::Void) };
        // F9: the policy's name is a String or a Token.
        let named = matches!(member.value, Some(Bare::String | Bare::Token));
        if !named || read(&member).is_none() {
            verdict = Err(RejectReason::Malformed);
        }
    }
    verdict
}

/// Reads a parameter that must be a whole number, 0 or more. Returns `None` if it has another value.
#[allow(clippy::option_option, reason = "a number, absent, or wrong")]
fn natural(member: &Member<'_>, key: &[u8]) -> Option<Option<u64>> {
    member.params.get(key).map_or(Some(None), |value| whole(value).map(Some))
}

/// Returns a number that is whole and 0 or more.
fn whole(value: Bare) -> Option<u64> {
    match value {
        Bare::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}
