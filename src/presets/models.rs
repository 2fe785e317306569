//! Presets of services with language models.

use core::time::Duration;

use super::built;
use crate::StatusMeaning::{Retry, RetryIfSafe, Throttle};
#[cfg(feature = "vendor-times")]
use crate::TimeUnit;
use crate::policy::PolicyBuilder;
use crate::{DialectField, FieldMeaning, Jitter, Policy};

/// Returns the rules of the OpenAI API.
///
/// Sources: `openai-python` 3.57.0 (`openai/_base_client.py`, `openai/_constants.py`), and "Rate limits" in OpenAI's
/// documentation for the headers.
///
/// | setting | value |
/// |---|---|
/// | `x-should-retry` | a verdict: it overrides the status |
/// | 408, 500–599 | retry if safe |
/// | 409 | retry |
/// | 429 | throttle |
/// | back-off | 500 ms × 2, at most 8 s, and up to a quarter less |
/// | retries | 2 |
/// | longest server wait | 120 s: beyond it the library does not repeat |
/// | `x-ratelimit-*-requests` | limit, remaining, and with feature `vendor-times` the reset (`6m0s`) |
///
/// A 429 with the code `insufficient_quota` is not about time. The driver says so:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let (policy, code) = (presets::openai(), "insufficient_quota");
/// let mut reply = policy.read(429, [("content-type", "application/json")]);
/// if code == "insufficient_quota" {
///     reply = reply.with_verdict(Verdict::Final);
/// }
/// ```
///
/// What it cannot reproduce:
///
/// - Requests and tokens have limits of their own, and a table lists one: `x-ratelimit-*-tokens` is not read.
/// - The reset is the time until the limit is full again. The library ignores it; here a request waits that long where
///   nothing remains and no `Retry-After` says otherwise.
/// - The library repeats every request, with an idempotency key. Here start such a request as idempotent.
#[must_use]
pub const fn openai() -> Policy {
    const FIELDS: &[DialectField] = &[
        DialectField::new("x-should-retry", FieldMeaning::Verdict),
        DialectField::new("x-ratelimit-limit-requests", FieldMeaning::Limit),
        DialectField::new("x-ratelimit-remaining-requests", FieldMeaning::Remaining),
        #[cfg(feature = "vendor-times")]
        DialectField::new("x-ratelimit-reset-requests", FieldMeaning::Reset(TimeUnit::Duration)),
    ];
    const POLICY: Policy = built(base().max_server_wait(Duration::from_secs(120)).dialect(FIELDS));
    POLICY
}

/// Returns the rules of the Anthropic API.
///
/// Sources: `anthropic-sdk-python` 2.14.0 (`anthropic/_base_client.py`, `anthropic/_constants.py`), and "Rate limits" and
/// "Errors" in Anthropic's documentation for the headers and for 529.
///
/// | setting | value |
/// |---|---|
/// | `x-should-retry` | a verdict: it overrides the status |
/// | 408, 500–599 | retry if safe |
/// | 409, 529 (overloaded: the request was turned away) | retry |
/// | 429 | throttle |
/// | back-off | 500 ms × 2, at most 8 s, and up to a quarter less |
/// | retries | 2 |
/// | `anthropic-ratelimit-requests-*` | limit, remaining, and with feature `vendor-times` the reset (RFC 3339) |
///
/// A 429 for a spend limit has no `Retry-After` and the detail `enforced_spend_limit_reached`. The driver says so:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let (policy, error_code) = (presets::anthropic(), "enforced_spend_limit_reached");
/// let mut reply = policy.read(429, [("content-type", "application/json")]);
/// if error_code == "enforced_spend_limit_reached" {
///     reply = reply.with_verdict(Verdict::Final);
/// }
/// ```
///
/// What it cannot reproduce:
///
/// - Requests and tokens have limits of their own, and a table lists one: `anthropic-ratelimit-*-tokens-*` is not read.
/// - The library obeys a `Retry-After` of any length. Here one beyond the longest server wait, 300 s, fails the request
///   (L3). Older versions ignored one of more than 60 s.
/// - An error inside a stream (`event: error` after a 200) comes when the answer has begun: whether to begin again is
///   the caller's decision.
/// - The library repeats every request, with an idempotency key. Here start such a request as idempotent.
#[must_use]
pub const fn anthropic() -> Policy {
    const FIELDS: &[DialectField] = &[
        DialectField::new("x-should-retry", FieldMeaning::Verdict),
        DialectField::new("anthropic-ratelimit-requests-limit", FieldMeaning::Limit),
        DialectField::new("anthropic-ratelimit-requests-remaining", FieldMeaning::Remaining),
        #[cfg(feature = "vendor-times")]
        DialectField::new("anthropic-ratelimit-requests-reset", FieldMeaning::Reset(TimeUnit::Rfc3339)),
    ];
    const POLICY: Policy = built(base().on(529..=529, Retry).dialect(FIELDS));
    POLICY
}

// The rules that both have: their libraries come from one generator.
const fn base() -> PolicyBuilder {
    Policy::common()
        .into_builder()
        .retry_statuses(&[])
        .on(408..=408, RetryIfSafe)
        .on(409..=409, Retry)
        .on(429..=429, Throttle)
        // With a hint, too: a rate limit with nothing left does not say that a 500 did nothing.
        .on(500..=599, RetryIfSafe)
        .max_retries(2)
        .initial_backoff(Duration::from_millis(500))
        .max_backoff(Duration::from_secs(8))
        .jitter(Jitter::Band { down: 250, up: 0 })
}
