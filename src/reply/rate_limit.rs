//! Rate-limit fields: `X-RateLimit-*`, the same without `X-`, and the IETF draft's `RateLimit` and `RateLimit-Policy`.

use core::cmp::Reverse;

use super::header_time::{Clock, LatestTime};
use super::number::{digits, trim};
use super::rejected::RejectReason;
use super::structured_field::{Bare, List, Member};
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
    /// The dictionary of draft 7.
    dictionary: Dictionary,
}

/// `limit=100, remaining=50, reset=30`: the `RateLimit` of draft-ietf-httpapi-ratelimit-headers-07.
#[derive(Clone, Copy, Debug, Default)]
struct Dictionary {
    limit: Option<u64>,
    remaining: Option<u64>,
    /// Seconds.
    reset: Option<u64>,
}

impl StructuredLimits {
    /// Reads one line of `RateLimit`.
    pub(super) fn add_limits(&mut self, line: &[u8]) -> Result<(), RejectReason> {
        if let Some(result) = self.dictionary.add(line) {
            return result;
        }
        let Self { tightest, limits_void, .. } = self;
        each_member(line, limits_void, |member| {
            let remaining = natural(member, b"r")??;
            let reset = natural(member, b"t")?;
            let this = (remaining, Reverse(reset));
            *tightest = Some(tightest.map_or(this, |tightest| tightest.min(this)));
            Some(())
        })
    }

    /// Reads one line of `RateLimit-Policy`.
    pub(super) fn add_policies(&mut self, line: &[u8]) -> Result<(), RejectReason> {
        let Self { quota, policies_void, .. } = self;
        each_member(line, policies_void, |member| {
            let this = natural(member, b"q")??;
            natural(member, b"w")?;
            *quota = Some(quota.map_or(this, |quota| quota.min(this)));
            Some(())
        })
    }

    /// Returns the facts. A syntax error voids a field with all its lines.
    pub(super) fn family(&self) -> Family {
        let dictionary = self.dictionary;
        let from_dictionary = dictionary.remaining.map(|remaining| (remaining, Reverse(dictionary.reset)));
        let tightest = [self.tightest, from_dictionary].into_iter().flatten().min().filter(|_| !self.limits_void);
        // Without a count the reset is a fact still.
        let reset = tightest.map_or(dictionary.reset.filter(|_| !self.limits_void), |(_, Reverse(reset))| reset);
        Family {
            limit: self.quota.filter(|_| !self.policies_void).or(dictionary.limit.filter(|_| !self.limits_void)),
            remaining: tightest.map(|(remaining, _)| remaining),
            reset: reset.map(time::seconds),
        }
    }
}

impl Dictionary {
    /// Takes a line that has these keys and no others; `None` for any other line. A bad value drops its member; a key
    /// given twice has its last value (RFC 9651 §3.2).
    fn add(&mut self, line: &[u8]) -> Option<Result<(), RejectReason>> {
        let mut added = *self;
        let mut result = Ok(());
        for member in line.split(|byte| *byte == b',') {
            // Parameters say nothing here.
            let member = trim(member).split(|byte| *byte == b';').next()?;
            // A key alone is the Boolean true (RFC 9651 §3.2), a bad value.
            let equals = member.iter().position(|byte| *byte == b'=').unwrap_or(member.len());
            let (key, value) = (member.get(..equals)?, member.get(equals + 1..).unwrap_or_default());
            let slot = match key {
                b"limit" => &mut added.limit,
                b"remaining" => &mut added.remaining,
                b"reset" => &mut added.reset,
                _ => return None,
            };
            match digits(value) {
                // An Integer has at most 15 digits (RFC 9651 §3.3.1).
                Some(number) if value.len() <= 15 => *slot = Some(number),
                _ => result = Err(RejectReason::Malformed),
            }
        }
        *self = added;
        Some(result)
    }
}

/// Reads the members of one line. A member that `read` refuses is dropped; a syntax error makes the field `void`.
fn each_member(
    line: &[u8],
    void: &mut bool,
    mut read: impl FnMut(&Member<'_>) -> Option<()>,
) -> Result<(), RejectReason> {
    let mut verdict = Ok(());
    for member in List::new(line) {
        let Ok(member) = member else {
            *void = true;
            return Err(RejectReason::Void);
        };
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
    match member.params.get(key) {
        None => Some(None),
        Some(Bare::Integer(number)) => u64::try_from(number).ok().map(Some),
        Some(_) => None,
    }
}
