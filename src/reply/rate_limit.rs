//! Rate-limit fields: `X-RateLimit-*`, the same without `X-`, and the IETF draft's `RateLimit` and `RateLimit-Policy`.

use core::cmp::Reverse;

use super::facts::{Fact, Facts};
use super::header_time::{Clock, TimeFacts};
use super::rejected::{HeaderField, RejectReason, RejectedFields};
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

impl Family {
    /// Returns the facts of `X-RateLimit-Limit`, `-Remaining`, `-Reset` and `-Reset-After` (rule H5).
    pub(super) fn with_x(facts: &Facts, clock: Clock) -> Family {
        Family {
            limit: facts.get(Fact::XLimit),
            remaining: facts.get(Fact::XRemaining),
            reset: TimeFacts::X_RESET.resolve(facts, clock).max(facts.get(Fact::XResetAfter)),
        }
    }

    /// Returns the facts of the same fields without `X-`.
    pub(super) fn without_x(facts: &Facts, clock: Clock) -> Family {
        Family {
            limit: facts.get(Fact::Limit),
            remaining: facts.get(Fact::Remaining),
            reset: TimeFacts::RESET.resolve(facts, clock),
        }
    }

    /// Returns the facts of `RateLimit` and `RateLimit-Policy`. A syntax error voids a field with all its lines.
    pub(super) fn structured(facts: &Facts, rejected: RejectedFields) -> Family {
        let is_void = |field| rejected.contains(field, RejectReason::Void);
        let quota = if is_void(HeaderField::RateLimitPolicy) { None } else { facts.get(Fact::Quota) };
        if is_void(HeaderField::RateLimit) {
            return Family { limit: quota, ..Family::default() };
        }
        let limit = |remaining, reset| Some((facts.get(remaining)?, Reverse(facts.get(reset))));
        let list = limit(Fact::ListRemaining, Fact::ListReset);
        let draft_7 = limit(Fact::Draft7Remaining, Fact::Draft7Reset);
        let tightest = list.into_iter().chain(draft_7).min();
        // Without a count the reset is a fact still.
        let reset = tightest.map_or(facts.get(Fact::Draft7Reset), |(_, Reverse(reset))| reset);
        Family {
            limit: quota.or(facts.get(Fact::Draft7Limit)),
            remaining: tightest.map(|(remaining, _)| remaining),
            reset: reset.map(time::seconds),
        }
    }
}

/// Reads one line of `RateLimit`: a list, or else the dictionary of draft 7.
///
/// The tightest of several limits counts: the one with the least remaining, and of equals the one that is reset last.
/// It also decides when nothing is left.
pub(super) fn add_limits(line: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
    let mut tightest = facts.get(Fact::ListRemaining).map(|remaining| (remaining, Reverse(facts.get(Fact::ListReset))));
    let result = each_member(line, [b"r", b"t"], |[remaining, reset]| {
        let this = (remaining?, Reverse(reset));
        tightest = Some(tightest.map_or(this, |tightest| tightest.min(this)));
        Some(())
    });
    if result == Err(RejectReason::Void) {
        return add_draft_7(line, facts);
    }
    if let Some((remaining, Reverse(reset))) = tightest {
        facts.set(Fact::ListRemaining, remaining);
        facts.replace(Fact::ListReset, reset);
    }
    result
}

/// Reads one line of `RateLimit-Policy`. The smallest quota counts.
pub(super) fn add_policies(line: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
    each_member(line, [b"q", b"w"], |[quota, _]| {
        // Several policies may have several quotas.
        let _ = facts.keep_smaller(Fact::Quota, quota?);
        Some(())
    })
}

/// Reads `limit=100, remaining=50, reset=30`: the `RateLimit` of draft-ietf-httpapi-ratelimit-headers-07, with these keys
/// and no others. A bad value drops its member; of a key given twice the last good value counts.
fn add_draft_7(line: &[u8], facts: &mut Facts) -> Result<(), RejectReason> {
    let mut added = [None; 3];
    let mut result = Ok(());
    for entry in Dictionary::new(line) {
        let Ok((key, member)) = entry else { return Err(RejectReason::Void) };
        let [limit, remaining, reset] = &mut added;
        let slot = match key {
            b"limit" => limit,
            b"remaining" => remaining,
            b"reset" => reset,
            _ => return Err(RejectReason::Void),
        };
        match member.value.and_then(whole) {
            Some(number) => *slot = Some(number),
            None => result = Err(RejectReason::Malformed),
        }
    }
    for (fact, number) in [Fact::Draft7Limit, Fact::Draft7Remaining, Fact::Draft7Reset].into_iter().zip(added) {
        if let Some(number) = number {
            facts.set(fact, number);
        }
    }
    result
}

/// Reads the members of one line, of each the parameters with these two keys, which must be whole numbers. A member that
/// `read` refuses is dropped; after a syntax error nothing in the line counts.
fn each_member(
    line: &[u8],
    keys: [&[u8]; 2],
    mut read: impl FnMut([Option<u64>; 2]) -> Option<()>,
) -> Result<(), RejectReason> {
    let mut verdict = Ok(());
    for member in List::new(line, keys) {
        let Ok(Member { value, params }) = member else { return Err(RejectReason::Void) };
        // F9: the policy's name is a String or a Token.
        let is_named = matches!(value, Some(Bare::String | Bare::Token));
        let numbers = params.map(|param| param.and_then(whole));
        let are_whole = params.iter().zip(&numbers).all(|(param, number)| param.is_some() == number.is_some());
        if !is_named || !are_whole || read(numbers).is_none() {
            verdict = Err(RejectReason::Malformed);
        }
    }
    verdict
}

/// Returns a number that is whole and 0 or more.
fn whole(value: Bare) -> Option<u64> {
    match value {
        Bare::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}
