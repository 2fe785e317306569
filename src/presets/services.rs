//! Presets of services with an HTTP API.

use core::time::Duration;

use super::built;
use crate::StatusMeaning::{Retry, RetryIfSafe, Surface, Throttle};
use crate::{DialectField, FieldMeaning, Jitter, Policy, ResetFormat, ThrottleBackoff};

/// Returns the rules of the GitHub REST and GraphQL APIs.
///
/// Source: "Rate limits for the REST API" (`content/rest/using-the-rest-api/rate-limits-for-the-rest-api.md` in
/// `github/docs`).
///
/// | setting | value |
/// |---|---|
/// | 429 | throttle |
/// | 403 | surface; with a hint (`Retry-After`, or nothing remaining until a reset) throttle |
/// | 500, 502, 503, 504 | retry if safe |
/// | back-off | 1 s × 2, at most 60 s, and up to 500 ms more |
/// | back-off after throttles without a hint | 60 s × 2, at most 1 h: at least a minute, then longer |
/// | retries | 5 |
/// | `X-RateLimit-Reset` | Unix seconds |
/// | longest server wait | 1 h: the window of the primary limit |
///
/// A secondary limit may come without a header, told by the message of a 403, and a primary one of GraphQL as a 200
/// with the type `RATE_LIMITED`. The driver says so:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let (policy, message) = (presets::github(), "You have exceeded a secondary rate limit.");
/// let mut reply = policy.read(403, [("x-ratelimit-remaining", "4000")]);
/// if message.contains("secondary rate limit") {
///     reply = reply.with_verdict(Verdict::Throttled);
/// }
/// ```
///
/// What it cannot reproduce:
///
/// - Each `x-ratelimit-resource` (core, search, graphql) is a limit of its own: use one upstream value for each.
/// - The advice to pause a second between requests that write: the driver paces them.
/// - A request may sleep for an hour. To park it instead, lower
///   [`max_server_wait`](crate::PolicyBuilder::max_server_wait): it fails, and names the instant of the reset.
#[must_use]
pub const fn github() -> Policy {
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on(429..=429, Throttle)
            .on_hinted(403..=403, Throttle)
            // With a hint, too: a rate limit with nothing left does not say that a 500 did nothing.
            .on(500..=500, RetryIfSafe)
            .on(502..=504, RetryIfSafe)
            .throttle_backoff(Some(ThrottleBackoff {
                initial_backoff: Duration::from_secs(60),
                backoff_factor: (2, 1),
                max_backoff: Duration::from_secs(3_600),
            }))
            // Upward only: a minute at least.
            .jitter(Jitter::Above)
            .rate_limit_reset(ResetFormat::Unix)
            .max_server_wait(Duration::from_secs(3_600)),
    );
    POLICY
}

/// Returns the rules of the Discord API.
///
/// Sources: "Rate Limits" on docs.discord.com (`developers/topics/rate-limits`), and `@discordjs/rest`
/// (`packages/rest/src/lib/handlers/Shared.ts` and `lib/utils/constants.ts` in `discordjs/discord.js`).
///
/// | setting | value |
/// |---|---|
/// | 429 | throttle |
/// | 500–599 | retry if safe |
/// | 403 and all others | surface, whatever the rate limit says: refused calls count against the caller |
/// | back-off | 1 s × 2, at most 60 s, ± 500 ms |
/// | retries | 3, and 10 more after throttles |
/// | `X-RateLimit-Reset` | Unix seconds, with decimals |
///
/// `Retry-After`, `X-RateLimit-Remaining` and `X-RateLimit-Reset-After: 1.234` need no dialect: every policy reads them.
/// A 429 with the scope `shared` is about a resource and not about this caller. As a transient reply it does not hold
/// the others:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let policy = presets::discord();
/// let headers = [("Retry-After", "5"), ("X-RateLimit-Remaining", "9"), ("X-RateLimit-Scope", "shared")];
/// let reply = policy.read(429, headers).with_verdict(Verdict::Transient);
/// ```
///
/// What it cannot reproduce:
///
/// - The bucket of a route (`X-RateLimit-Bucket`) is known only from a reply: use one upstream value for each bucket, and
///   let the driver keep the map.
/// - A global limit (`X-RateLimit-Global`) closes the gate of its own bucket only: the driver holds the others.
/// - `discord.js` repeats a 429 without a limit. Here there are ten: Discord bans a caller with 10,000 refused calls in
///   ten minutes.
#[must_use]
pub const fn discord() -> Policy {
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on(429..=429, Throttle)
            // With a hint, too: Discord sends its rate limit with every response.
            .on(500..=599, RetryIfSafe)
            .max_retries(3)
            .throttle_retries(Some(10))
            .rate_limit_reset(ResetFormat::Unix),
    );
    POLICY
}

/// Returns the rules of the Shopify Admin API.
///
/// Source: "REST Admin API rate limits" and "Shopify API limits" on shopify.dev (`docs/api/admin-rest/usage/rate-limits`,
/// `docs/api/usage/limits`).
///
/// | setting | value |
/// |---|---|
/// | statuses, back-off, retries | as [`common`](super::common): 429 throttle, the first back-off 1 s, as Shopify recommends |
/// | `Retry-After: 2.0` | every policy reads decimals |
/// | `X-Shopify-Shop-Api-Call-Limit: 40/40` | calls used of those allowed |
///
/// GraphQL answers with a 200 and the code `THROTTLED`. The driver computes the wait from the costs in the body:
///
/// ```
/// # use core::time::Duration;
/// # use retry_machine::{Verdict, presets};
/// # let policy = presets::shopify();
/// // "cost": { "requestedQueryCost": 202, "throttleStatus": { "currentlyAvailable": 52, "restoreRate": 50 } }
/// let wait = Duration::from_secs((202 - 52_u64).div_ceil(50));
/// let reply = policy.read(200, [("content-type", "application/json")]);
/// let reply = reply.with_verdict(Verdict::Throttled).with_hint(wait);
/// ```
///
/// What it cannot reproduce:
///
/// - The call limit comes without a reset: a full bucket is a fact of the reply, and holds nobody.
/// - Each shop has a bucket of its own: use one upstream value for each.
/// - Two calls a second, the rate at which the bucket leaks: the driver paces them.
#[must_use]
pub const fn shopify() -> Policy {
    const FIELDS: &[DialectField] = &[DialectField::new("x-shopify-shop-api-call-limit", FieldMeaning::UsedOfLimit)];
    const POLICY: Policy = built(Policy::common().into_builder().dialect(FIELDS));
    POLICY
}

/// Returns the rules of the Slack Web API.
///
/// Source: "Rate limits" on docs.slack.dev (`apis/web-api/rate-limits`).
///
/// | setting | value |
/// |---|---|
/// | statuses, back-off, retries | as [`common`](super::common), but 403 is surfaced |
/// | 429 | throttle, with `Retry-After` in seconds |
///
/// Most errors of the Web API are a 200 with `"ok": false`. The driver reads those that matter:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let (policy, error) = (presets::slack(), "ratelimited");
/// let reply = policy.read(200, [("content-type", "application/json")]);
/// let reply = match error {
///     "ratelimited" => reply.with_verdict(Verdict::Throttled),
///     "internal_error" | "service_unavailable" => reply.with_verdict(Verdict::Transient),
///     "token_expired" => reply.with_verdict(Verdict::TokenExpired),
///     _ => reply,
/// };
/// ```
///
/// What it cannot reproduce:
///
/// - Limits hold for each method and workspace: use one upstream value for each.
/// - One message a second for each channel: the driver paces them.
#[must_use]
pub const fn slack() -> Policy {
    const POLICY: Policy = built(Policy::common().into_builder().on(403..=403, Surface));
    POLICY
}

/// Returns the rules of the Stripe API.
///
/// Sources: `stripe-python` 16.1.0 (`stripe/_http_client.py`, `stripe/__init__.py`), and "Advanced error handling" on
/// docs.stripe.com (`error-low-level`).
///
/// | setting | value |
/// |---|---|
/// | `Stripe-Should-Retry` | a verdict: it overrides the status |
/// | 409 | retry |
/// | 500–599 | retry if safe |
/// | all others | surface, 429 included |
/// | back-off | 500 ms × 2, at most 5 s; half of it is jitter |
/// | retries | 2 |
///
/// Send the same `Idempotency-Key` with all attempts of a POST, and start it as idempotent. A 429 with the code
/// `lock_timeout` is worth a repetition; Stripe's other libraries read it:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let (policy, code) = (presets::stripe(), "lock_timeout");
/// let mut reply = policy.read(429, [("content-type", "application/json")]);
/// if code == "lock_timeout" {
///     reply = reply.with_verdict(Verdict::Throttled);
/// }
/// ```
///
/// To repeat every 429, add `.on(429..=429, StatusMeaning::Throttle)`.
///
/// What it cannot reproduce:
///
/// - The library waits at least 500 ms. Here the first wait lies within [250 ms, 500 ms].
/// - The library ignores `Retry-After`. Here it counts on each reply that is retried (H10).
#[must_use]
pub const fn stripe() -> Policy {
    const FIELDS: &[DialectField] = &[DialectField::new("stripe-should-retry", FieldMeaning::Verdict)];
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on(409..=409, Retry)
            .on(500..=599, RetryIfSafe)
            .max_retries(2)
            .initial_backoff(Duration::from_millis(500))
            .max_backoff(Duration::from_secs(5))
            .jitter(Jitter::EQUAL)
            .dialect(FIELDS),
    );
    POLICY
}
