//! Rate-limit fields: `X-RateLimit-*`, `RateLimit-*`, and `RateLimit` and `RateLimit-Policy` of the IETF draft.

use core::cmp::Reverse;

use super::header_time::{Clock, LatestTime};
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

/// The fields `X-RateLimit-Limit`, `-Remaining` and `-Reset`, or those without `X-` (rule H5).
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

/// The fields `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers; rule H5).
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
}

impl StructuredLimits {
    /// Reads one line of `RateLimit`.
    pub(super) fn add_limits(&mut self, line: &[u8]) -> Result<(), RejectReason> {
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
        let limits = self.tightest.filter(|_| !self.limits_void);
        Family {
            limit: self.quota.filter(|_| !self.policies_void),
            remaining: limits.map(|(remaining, _)| remaining),
            reset: limits.and_then(|(_, Reverse(reset))| reset).map(time::seconds),
        }
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
