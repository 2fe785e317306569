//! Presets for calls inside a cluster.

use core::time::Duration;

use super::built;
use crate::StatusMeaning::{Retry, Throttle};
use crate::{BreakerPolicy, BudgetPolicy, Charge, DialectField, FieldMeaning, Jitter, Policy, Refund, TimeUnit};

/// Returns the retries of gRPC with the numbers of the example in its design.
///
/// Sources: the proposal gRFC A6 (`A6-client-retries.md` in `grpc/proposal`), and `doc/http-grpc-status-mapping.md` in
/// `grpc/grpc` for responses without a `grpc-status`.
///
/// | setting | value |
/// |---|---|
/// | attempts | 4 |
/// | 429, 502, 503, 504 without a `grpc-status` (UNAVAILABLE) | retry, for every method |
/// | back-off | 100 ms × 2, at most 1 s, ± 20 % |
/// | tokens, in thousandths | 10,000; each failure takes 1,000, each success brings 100; a retry needs more than 5,000 |
/// | `grpc-retry-pushback-ms` | a pushback: exactly then, or not at all |
/// | gate | off: a pushback is about its own call |
///
/// A gRPC answer is a 200 with a code in its trailer. The driver turns the code into a verdict. A call that is
/// committed (response headers have arrived, or its messages were not kept) is final, whatever its code:
///
/// ```
/// use retry_machine::{Reply, Verdict};
///
/// const UNAVAILABLE: u8 = 14;
///
/// fn judged(reply: Reply, code: u8, is_committed: bool) -> Reply {
///     match code {
///         0 => reply,
///         UNAVAILABLE if !is_committed => reply.with_verdict(Verdict::Transient),
///         _ => reply.with_verdict(Verdict::Final),
///     }
/// }
/// ```
///
/// A transparent retry of gRPC is [`Unprocessed`](crate::TransportErrorKind::Unprocessed), and the client's own limit of
/// attempts is a limit of the request ([`RequestLimits`](crate::RequestLimits)).
///
/// What it cannot reproduce:
///
/// - A service config with one attempt or with a back-off of zero is not refused; a multiplier below 1 is.
/// - A replaced config keeps the balance of tokens, clamped to the new capacity, and not their ratio.
/// - After a pushback gRPC begins its back-off again; here it goes on.
/// - At the longest back-off a wait is drawn below it only: [0.8 s, 1 s] and not [0.8 s, 1.2 s] (B2).
/// - A final code inside a 200 is a good answer and brings 100 tokens (D18). In gRPC it changes nothing.
/// - A pushback beyond the longest server wait, 300 s, fails the call (L3). One with decimals is read (H2).
/// - Hedging.
#[must_use]
pub const fn grpc() -> Policy {
    const FIELDS: &[DialectField] =
        &[DialectField::new("grpc-retry-pushback-ms", FieldMeaning::Pushback(TimeUnit::Milliseconds))];
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on(429..=429, Retry)
            .on(502..=504, Retry)
            .max_retries(3)
            .initial_backoff(Duration::from_millis(100))
            .max_backoff(Duration::from_secs(1))
            .jitter(Jitter::Band { down: 200, up: 200 })
            .budget(Some(BudgetPolicy {
                capacity: 10_000,
                floor: 5_001,
                retry_cost: 1_000,
                throttle_cost: 1_000,
                charge: Charge::Failure,
                success_refund: 100,
                refund: Refund::Fixed,
                refill_every: Duration::ZERO,
            }))
            .breaker(None)
            .gate(false)
            .dialect(FIELDS),
    );
    POLICY
}

/// Returns the rules of the Kubernetes client for Go.
///
/// Source: `staging/src/k8s.io/client-go/rest/with_retry.go` in `kubernetes/kubernetes`.
///
/// | setting | value |
/// |---|---|
/// | 429 | surface; with a hint throttle |
/// | 500–599 | surface; with a hint retry, for every method |
/// | wait | exactly the hint; 1 s after a transport error |
/// | retries | 10 |
///
/// The API server itself sends `Retry-After: 1` with each request that it turns away, so that all of its clients come
/// back together. A jitter is one call away: `.jitter(Jitter::Above)`.
///
/// What it cannot reproduce:
///
/// - The client repeats at once after a `Retry-After: 0`. Here a hint of zero leaves the wait to the back-off, 1 s (L2).
/// - The client reads `Retry-After` in whole seconds only. Here a date and other hints count as well (H6).
/// - The client's limiter of queries per second, and its back-off for each host before a first attempt.
/// - The client repeats a GET after a reset connection, and nothing else: start other requests as not idempotent.
#[must_use]
pub const fn kubernetes() -> Policy {
    const POLICY: Policy = built(
        Policy::common()
            .into_builder()
            .retry_statuses(&[])
            .on_hinted(429..=429, Throttle)
            .on_hinted(500..=599, Retry)
            .max_retries(10)
            .initial_backoff(Duration::from_secs(1))
            .backoff_factor(1, 1)
            // A lone request has all its retries.
            .budget(Some(BudgetPolicy { capacity: 50, ..BudgetPolicy::DEFAULT }))
            .breaker(Some(BreakerPolicy { failure_threshold: 12, ..BreakerPolicy::DEFAULT }))
            .jitter(Jitter::None),
    );
    POLICY
}
