//! Presets of cloud platforms.

use core::time::Duration;

use super::built;
use crate::StatusMeaning::{Retry, RetryIfSafe, Throttle};
use crate::{
    BreakerPolicy, BudgetPolicy, Charge, DialectField, FieldMeaning, Jitter, Policy, Refund, ResetFormat,
    ThrottleBackoff, TimeUnit,
};

/// Returns the standard retry mode of the AWS SDKs, version 2.1.
///
/// Sources: `botocore` 1.44.8 (`botocore/retries/standard.py`) and the crate `aws-smithy-runtime` 1.16.2
/// (`src/client/retries`), which implement the SDKs' common specification, and that specification's test sequences.
///
/// | setting | value |
/// |---|---|
/// | attempts | 3 |
/// | 500, 502, 503, 504 | retry, for every method: each AWS call is a POST |
/// | 429 | throttle |
/// | back-off | 50 ms × 2, at most 20 s, full jitter; 1 s × 2 after throttles |
/// | retry quota | 500; a retry costs 14, after a throttle 5; a success gives back its last cost, or 1 |
/// | `x-amz-retry-after` | a wait in milliseconds, at least the back-off; nothing is added to it |
/// | gate | off: the mode delays only retries |
///
/// Some codes of a body say more than the status: `ThrottlingException`, `SlowDown` and their like come with a 400 or
/// a 503. The driver reads them, then says so:
///
/// ```
/// # use retry_machine::{Verdict, presets};
/// # let (policy, code) = (presets::aws_standard(), "ThrottlingException");
/// let mut reply = policy.read(400, [("content-type", "application/json")]);
/// if matches!(code, "Throttling" | "ThrottlingException" | "TooManyRequestsException" | "SlowDown") {
///     reply = reply.with_verdict(Verdict::Throttled);
/// }
/// ```
///
/// DynamoDB makes 4 attempts, from 25 ms:
///
/// ```
/// # use core::time::Duration;
/// # use retry_machine::presets;
/// let dynamodb =
///     presets::aws_standard().into_builder().max_retries(3).initial_backoff(Duration::from_millis(25)).build()?;
/// # Ok::<(), retry_machine::PolicyError>(())
/// ```
///
/// What it cannot reproduce:
///
/// - The SDKs clamp `x-amz-retry-after` to at most their back-off and 5 s. Here a longer wait is obeyed (L1).
/// - After a throttle the SDKs wait at least the back-off. Here the header alone decides (L2).
/// - The SDKs refill the quota after a 2xx. Here each good answer refills it, such as a 404 (D18).
/// - The SDKs repeat each call after a timeout or a broken connection. Here only one that is started as idempotent (D14).
/// - An operation that polls for a long time waits for its back-off even if the quota is used up. Here the request
///   fails, and the driver sleeps until [`Failure::not_before`](crate::Failure::not_before).
/// - The mode `adaptive`, which paces first attempts.
#[must_use]
pub const fn aws_standard() -> Policy {
    const FIELDS: &[DialectField] =
        &[DialectField::new("x-amz-retry-after", FieldMeaning::Wait(TimeUnit::Milliseconds))];
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[429, 500, 502, 503, 504])
            .max_retries(2)
            .initial_backoff(Duration::from_millis(50))
            .max_backoff(Duration::from_secs(20))
            .throttle_backoff(Some(ThrottleBackoff {
                initial_backoff: Duration::from_secs(1),
                backoff_factor: (2, 1),
                max_backoff: Duration::from_secs(20),
            }))
            .jitter(Jitter::FULL)
            .jitter_spread(Duration::ZERO)
            .budget(Some(BudgetPolicy {
                capacity: 500,
                floor: 0,
                retry_cost: 14,
                throttle_cost: 5,
                charge: Charge::Retry,
                success_refund: 1,
                refund: Refund::LastCost,
                refill_every: Duration::ZERO,
            }))
            .breaker(None)
            .gate(false)
            .dialect(FIELDS),
    );
    POLICY
}

/// Returns the retry policy of the Azure SDK for Rust.
///
/// Source: the crate `typespec_client_core` 1.1.0 (`src/http/policies/retry`, `src/http/options/retry.rs`).
///
/// | setting | value |
/// |---|---|
/// | 408, 500, 502, 504 | retry if safe |
/// | 503 | retry if safe; with a hint retry |
/// | 429 | throttle |
/// | back-off | 400 ms × 2, at most 30 s, and up to 255 ms more. The SDK's option is 200 ms; its first wait has doubled it already |
/// | retries | 8 |
/// | deadline | 60 s |
/// | `x-ms-retry-after-ms`, `retry-after-ms`, `Retry-After` | as every policy reads them |
///
/// What it cannot reproduce:
///
/// - The SDK counts its 60 s from the first response, and a wait may cross them. Here they are a deadline from the start,
///   which also ends an attempt in flight: turn it off for long transfers.
/// - The SDK takes the first of the three fields. Here the later of the two in milliseconds counts (F9).
/// - The SDK takes a hint on 429 and 503 only. Here it counts on each status that is retried (H10).
/// - After a 429 the SDK waits at least its back-off. Here the hint alone decides (L2).
/// - The SDK repeats every method. Here a request that is not safe to repeat fails as ambiguous.
#[must_use]
pub const fn azure() -> Policy {
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on(408..=408, RetryIfSafe)
            .on(429..=429, Throttle)
            .on(500..=500, RetryIfSafe)
            .on(502..=504, RetryIfSafe)
            .on_hinted(503..=503, Retry)
            .max_retries(8)
            .initial_backoff(Duration::from_millis(400))
            .max_backoff(Duration::from_secs(30))
            .jitter(Jitter::Above)
            .jitter_spread(Duration::from_millis(255))
            // A lone request has all its retries.
            .budget(Some(BudgetPolicy { capacity: 40, ..BudgetPolicy::DEFAULT }))
            .breaker(Some(BreakerPolicy { failure_threshold: 10, ..BreakerPolicy::DEFAULT }))
            .deadline(Some(Duration::from_secs(60))),
    );
    POLICY
}

/// Returns the rules of Google's API client libraries.
///
/// Sources: AIP-194 (`aip/general/0194.md`: which codes), and the crate `google-cloud-gax` 1.15.0
/// (`src/retry_policy.rs`, `src/exponential_backoff.rs`: which requests, and how long).
///
/// | setting | value |
/// |---|---|
/// | 503 (UNAVAILABLE) | retry if safe |
/// | all others | surface, 429 included: it often is a quota that lasts for hours |
/// | back-off | 1 s × 2, at most 60 s, full jitter |
/// | retries | 5: AIP-194 leaves the number to the caller |
///
/// A body may carry a `google.rpc.RetryInfo`, or a 429 may be about a short limit. The driver says so:
///
/// ```
/// # use core::time::Duration;
/// # use retry_machine::{Verdict, presets};
/// # let (policy, retry_delay) = (presets::google(), Duration::from_secs(3));
/// let reply = policy.read(429, [("content-type", "application/json")]);
/// let reply = reply.with_verdict(Verdict::Throttled).with_hint(retry_delay);
/// ```
///
/// What it cannot reproduce:
///
/// - The libraries' adaptive throttler, which drops retries at random.
/// - Their circuit breaker withdraws for each failure and refills for each completed call, a permanent error included.
///   `CircuitBreaker::new(1000, 250, 10)` is a [budget](crate::BudgetPolicy) of capacity 1,000, floor 251, costs of 10
///   charged at the [failure](crate::Charge::Failure), and a refund of 1 for each good answer (D18).
/// - They repeat a call that was not sent, whatever its method: here [`NotSent`](crate::TransportErrorKind::NotSent)
///   does the same.
#[must_use]
pub const fn google() -> Policy {
    const POLICY: Policy =
        built(Policy::common().into_builder().retry_statuses(&[]).on(503..=503, RetryIfSafe).jitter(Jitter::FULL));
    POLICY
}

/// Returns the rules of Microsoft Graph, and of SharePoint behind it.
///
/// Sources: "Microsoft Graph throttling guidance" (`concepts/throttling.md` in
/// `microsoftgraph/microsoft-graph-docs-contrib`), `how-to-avoid-getting-throttled-or-blocked-in-sharepoint-online` on
/// learn.microsoft.com, and the retry handler of Microsoft's clients (`retry_handler.go` in `microsoft/kiota-http-go`).
///
/// | setting | value |
/// |---|---|
/// | 429, 509 | throttle |
/// | 503 | retry: the service asks for a repetition; with a hint throttle |
/// | 504 | retry if safe |
/// | back-off | 3 s × 2, at most 180 s, and up to 1 s more |
/// | retries | 3 |
/// | `RateLimit-Reset` | seconds from now |
///
/// The responses inside a batch have their own statuses and headers: read each as a reply of a request of its own.
///
/// ```
/// # use retry_machine::presets;
/// # let policy = presets::microsoft_graph();
/// // { "responses": [{ "id": "1", "status": 429, "headers": { "Retry-After": "10" } }] }
/// let reply = policy.read(429, [("Retry-After", "10")]);
/// ```
///
/// What it cannot reproduce:
///
/// - The handler stops after 180 s of waits. Here `.deadline(…)` is a limit of all waits and attempts.
/// - The handler does not repeat a body of unknown length: report such a request as
///   [`Permanent`](crate::TransportErrorKind::Permanent), or give it a limit of no retries.
/// - Limits for each application and tenant need an upstream value each.
#[must_use]
pub const fn microsoft_graph() -> Policy {
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on(429..=429, Throttle)
            .on(503..=503, Retry)
            .on_hinted(503..=503, Throttle)
            .on(504..=504, RetryIfSafe)
            .on(509..=509, Throttle)
            .max_retries(3)
            .initial_backoff(Duration::from_secs(3))
            .max_backoff(Duration::from_secs(180))
            .jitter(Jitter::Above)
            .jitter_spread(Duration::from_secs(1))
            .rate_limit_reset(ResetFormat::Delta),
    );
    POLICY
}
