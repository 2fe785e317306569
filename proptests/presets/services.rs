//! The other presets, held by the examples that the services document and by the numbers of their libraries.

use std::ops::RangeInclusive;
use std::time::Duration;

use retry_machine::Idempotency::{Idempotent, NonIdempotent};
use retry_machine::{
    Action, Event, FailureKind, HintSource, Idempotency, Policy, RetryMachine, TransportErrorKind, Upstream, Verdict,
    WaitReason, presets,
};

use super::Call;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn call(preset: Policy, idempotency: Idempotency) -> Call {
    Call::with(Upstream::new(preset), idempotency)
}

/// Returns the action that answers the first reply to an idempotent request.
fn first(preset: Policy, status: u16, headers: &[(&str, &str)]) -> (Call, Action) {
    let mut call = Call::new(preset);
    let action = call.reply(status, headers);
    (call, action)
}

/// Asserts a wait within these milliseconds, and its reason.
#[track_caller]
fn waits(call: &Call, action: Action, millis: RangeInclusive<u64>, why: WaitReason) {
    let wait = call.wait(action);
    assert!((ms(*millis.start())..=ms(*millis.end())).contains(&wait), "{wait:?}: {action}");
    assert!(matches!(action, Action::Wait { reason, .. } if reason == why), "{action}");
}

#[track_caller]
fn fails(action: Action, kind: FailureKind) {
    assert!(matches!(action, Action::Fail(failure) if failure.kind() == kind), "{action}");
}

/// Asserts the range of each back-off after this status, over many draws, and the number of retries.
#[track_caller]
fn backs_off(preset: &Policy, status: u16, ranges: &[RangeInclusive<u64>]) {
    for seed in 0..100 {
        let mut call = Call::new(alone(preset.clone()));
        call.machine = RetryMachine::new(Idempotent, seed);
        let _ = call.tell(Event::Start);
        for range in ranges {
            let action = call.reply(status, &[]);
            waits(&call, action, range.clone(), WaitReason::Backoff);
            let _ = call.obey(action);
        }
        fails(call.reply(status, &[]), FailureKind::Exhausted);
    }
}

/// Returns a preset without the limits that requests share.
fn alone(preset: Policy) -> Policy {
    preset.into_builder().budget(None).breaker(None).build().unwrap()
}

/// Asserts that another request of the upstream is held at the gate.
#[track_caller]
fn holds_others(call: &mut Call, is_held: bool) {
    let action = call.start(Idempotent);
    assert_eq!(matches!(action, Action::Wait { reason: WaitReason::Gate, .. }), is_held, "{action}");
}

const RETRY_AFTER: WaitReason = WaitReason::Hint(HintSource::RetryAfter);
const RETRY_AFTER_MS: WaitReason = WaitReason::Hint(HintSource::RetryAfterMs);
const RESET: WaitReason = WaitReason::Hint(HintSource::RateLimitReset);
const TOLD: WaitReason = WaitReason::Hint(HintSource::Told);

#[test]
fn d11_github_a_403_with_retry_after_is_a_secondary_limit() {
    let (mut call, action) = first(presets::github(), 403, &[("retry-after", "60"), ("x-ratelimit-remaining", "4000")]);
    waits(&call, action, 60_000..=60_500, RETRY_AFTER);
    holds_others(&mut call, true);
}

#[test]
fn d11_github_a_403_with_nothing_remaining_waits_for_the_reset() {
    let headers = [
        ("date", "Tue, 20 Aug 2013 14:50:41 GMT"),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1377013266"),
    ];
    // 1377010241 is the date.
    let (mut call, action) = first(presets::github(), 403, &headers);
    waits(&call, action, 3_025_000..=3_025_500, RESET);
    holds_others(&mut call, true);
}

#[test]
fn d11_github_another_403_is_final() {
    let (mut call, action) = first(presets::github(), 403, &[("x-ratelimit-remaining", "4999")]);
    fails(action, FailureKind::Forbidden);
    holds_others(&mut call, false);
}

#[test]
fn b1_github_a_throttle_without_a_hint_waits_a_minute_at_least_then_longer() {
    let mut call = Call::new(presets::github());
    for range in [60_000..=60_500, 120_000..=120_500, 240_000..=240_500] {
        let reply = call.upstream.policy().read(403, [("x-ratelimit-remaining", "4000")]);
        let action = call.answer(reply.with_verdict(Verdict::Throttled));
        waits(&call, action, range, WaitReason::Backoff);
        let _ = call.obey(action);
    }
}

#[test]
fn d15_github_graphql_limits_inside_a_200() {
    let mut call = Call::new(presets::github());
    let headers = [
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1377013266"),
        ("date", "Tue, 20 Aug 2013 15:40:36 GMT"),
    ];
    let reply = call.upstream.policy().read(200, headers).with_verdict(Verdict::Throttled);
    let action = call.answer(reply);
    waits(&call, action, 30_000..=30_500, RESET);
}

#[test]
fn d11_a_limit_with_nothing_left_does_not_make_a_500_safe() {
    let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "5")];
    for preset in [presets::github(), presets::discord()] {
        fails(call(preset, NonIdempotent).reply(502, &headers), FailureKind::Ambiguous);
    }
    let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1s")];
    fails(call(presets::openai(), NonIdempotent).reply(500, &headers), FailureKind::Ambiguous);
}

const DISCORD: [(&str, &str); 6] = [
    ("Retry-After", "65"),
    ("X-RateLimit-Limit", "10"),
    ("X-RateLimit-Remaining", "0"),
    ("X-RateLimit-Reset", "1470173023.123"),
    ("X-RateLimit-Reset-After", "64.57"),
    ("X-RateLimit-Scope", "user"),
];

#[test]
fn h5_discord_429_waits_for_retry_after() {
    let (mut call, action) = first(presets::discord(), 429, &DISCORD);
    waits(&call, action, 65_000..=65_500, RETRY_AFTER);
    holds_others(&mut call, true);
    // Without it, the decimals of the bucket count.
    let (call, action) = first(presets::discord(), 429, &DISCORD[1..]);
    waits(&call, action, 64_570..=65_070, RESET);
}

#[test]
fn h10_discord_an_empty_bucket_holds_the_next_request() {
    let headers = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-After", "1.234")];
    let (mut call, action) = first(presets::discord(), 200, &headers);
    assert!(matches!(action, Action::Done { .. }), "{action}");
    let action = call.start(Idempotent);
    assert!(call.wait(action) >= ms(1_234), "{action}");
}

#[test]
fn d11_discord_a_403_is_final_even_if_the_bucket_is_empty() {
    fails(first(presets::discord(), 403, &DISCORD[1..]).1, FailureKind::Forbidden);
}

#[test]
fn d15_discord_a_shared_limit_holds_nobody_else() {
    let mut call = Call::new(presets::discord());
    let headers = [("Retry-After", "1337"), ("X-RateLimit-Remaining", "9"), ("X-RateLimit-Scope", "shared")];
    let reply = call.upstream.policy().read(429, headers).with_verdict(Verdict::Transient);
    fails(call.answer(reply), FailureKind::ServerWaitTooLong);
    let mut call = Call::new(presets::discord());
    let headers = [("Retry-After", "5"), ("X-RateLimit-Remaining", "9"), ("X-RateLimit-Scope", "shared")];
    let reply = call.upstream.policy().read(429, headers).with_verdict(Verdict::Transient);
    let action = call.answer(reply);
    waits(&call, action, 5_000..=5_500, RETRY_AFTER);
    holds_others(&mut call, false);
}

#[test]
fn b5_discord_throttles_are_counted_apart() {
    let mut call = Call::new(presets::discord());
    for _ in 0..10 {
        let action = call.reply(429, &[("Retry-After", "1")]);
        let _ = call.obey(action);
    }
    for _ in 0..3 {
        let action = call.reply(502, &[]);
        let _ = call.obey(action);
    }
    fails(call.reply(502, &[]), FailureKind::Exhausted);
}

#[test]
fn h2_h11_shopify_429_with_decimals_and_a_full_bucket() {
    let headers = [("X-Shopify-Shop-Api-Call-Limit", "40/40"), ("Retry-After", "2.0")];
    let reply = presets::shopify().read(429, headers);
    assert_eq!((reply.remaining(), reply.limit()), (Some(0), Some(40)));
    assert!(reply.rejected().is_empty());
    let (mut call, action) = first(presets::shopify(), 429, &headers);
    waits(&call, action, 2_000..=2_500, RETRY_AFTER);
    holds_others(&mut call, true);
    assert_eq!(presets::shopify().read(200, [("X-Shopify-Shop-Api-Call-Limit", "32/40")]).remaining(), Some(8));
}

#[test]
fn d15_d16_shopify_graphql_says_its_wait_in_the_body() {
    let mut call = Call::new(presets::shopify());
    let reply = call.upstream.policy().read(200, [("content-type", "application/json")]);
    let action = call.answer(reply.with_verdict(Verdict::Throttled).with_hint(ms(3_000)));
    waits(&call, action, 3_000..=3_500, TOLD);
    holds_others(&mut call, true);
}

#[test]
fn d8_slack_429_waits_and_holds_its_method() {
    let (mut call, action) = first(presets::slack(), 429, &[("Retry-After", "30")]);
    waits(&call, action, 30_000..=30_500, RETRY_AFTER);
    holds_others(&mut call, true);
}

#[test]
fn d15_slack_errors_inside_a_200() {
    let mut call = Call::new(presets::slack());
    let reply = call.upstream.policy().read(200, [("Retry-After", "10")]);
    let action = call.answer(reply.with_verdict(Verdict::Throttled));
    waits(&call, action, 10_000..=10_500, RETRY_AFTER);
    let _ = call.obey(action);
    let action = call.answer(reply.with_verdict(Verdict::TokenExpired));
    assert!(matches!(action, Action::RefreshToken { .. }), "{action}");
    fails(first(presets::slack(), 403, &[("Retry-After", "10")]).1, FailureKind::Forbidden);
}

#[test]
fn d15_stripe_its_word_overrides_the_status() {
    let (call, action) = first(presets::stripe(), 400, &[("Stripe-Should-Retry", "true")]);
    waits(&call, action, 250..=500, WaitReason::Backoff);
    fails(first(presets::stripe(), 500, &[("Stripe-Should-Retry", "false")]).1, FailureKind::UnexpectedStatus);
    fails(first(presets::stripe(), 409, &[("stripe-should-retry", "false")]).1, FailureKind::Conflict);
}

#[test]
fn d11_stripe_statuses_without_its_word() {
    for status in [409, 500, 503, 529] {
        backs_off(&presets::stripe(), status, &[250..=500, 500..=1_000]);
    }
    fails(first(presets::stripe(), 429, &[]).1, FailureKind::UnexpectedStatus);
    fails(call(presets::stripe(), NonIdempotent).reply(500, &[]), FailureKind::Ambiguous);
    let mut call = Call::new(presets::stripe());
    let reply = call.upstream.policy().read(429, [("content-type", "application/json")]);
    assert!(matches!(call.answer(reply.with_verdict(Verdict::Throttled)), Action::Wait { .. }));
}

#[test]
fn d15_language_models_x_should_retry_overrides_the_status() {
    for preset in [presets::openai(), presets::anthropic()] {
        fails(first(preset.clone(), 429, &[("x-should-retry", "false")]).1, FailureKind::UnexpectedStatus);
        let (call, action) = first(preset, 400, &[("x-should-retry", "true")]);
        waits(&call, action, 375..=500, WaitReason::Backoff);
    }
}

#[test]
fn b1_b2_language_models_back_off_up_to_a_quarter_less() {
    for preset in [presets::openai(), presets::anthropic()] {
        for status in [408, 409, 429, 500, 529] {
            backs_off(&preset, status, &[375..=500, 750..=1_000]);
        }
        fails(first(preset, 424, &[]).1, FailureKind::UnexpectedStatus);
    }
    let eight = presets::openai().into_builder().max_retries(6).build().unwrap();
    let ranges = [375..=500, 750..=1_000, 1_500..=2_000, 3_000..=4_000, 6_000..=8_000, 6_000..=8_000];
    backs_off(&eight, 503, &ranges);
}

#[test]
fn h2_h6_language_models_milliseconds_before_seconds() {
    for preset in [presets::openai(), presets::anthropic()] {
        let (call, action) = first(preset.clone(), 429, &[("retry-after", "20"), ("retry-after-ms", "1500.5")]);
        waits(&call, action, 1_501..=2_001, RETRY_AFTER_MS);
        let (call, action) = first(preset, 429, &[("retry-after", "1.5")]);
        waits(&call, action, 1_500..=2_000, RETRY_AFTER);
    }
}

#[test]
fn l3_openai_a_wait_of_more_than_two_minutes_is_refused() {
    let (call, action) = first(presets::openai(), 429, &[("retry-after", "120")]);
    waits(&call, action, 120_000..=120_500, RETRY_AFTER);
    fails(first(presets::openai(), 429, &[("retry-after", "121")]).1, FailureKind::ServerWaitTooLong);
    let (call, action) = first(presets::anthropic(), 429, &[("retry-after", "121")]);
    waits(&call, action, 121_000..=121_500, RETRY_AFTER);
}

#[test]
fn h11_openai_reads_the_limit_of_requests() {
    let headers = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-requests", "6m0s"),
    ];
    let reply = presets::openai().read(200, headers);
    assert_eq!((reply.limit(), reply.remaining(), reply.reset()), (Some(60), Some(59), Some(ms(360_000))));
    assert!(reply.rejected().is_empty() && reply.hint().is_none());
    let headers = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "1.2s")];
    let (call, action) = first(presets::openai(), 429, &headers);
    waits(&call, action, 1_200..=1_700, RESET);
}

#[test]
fn h11_anthropic_reads_the_limit_of_requests() {
    let headers = [
        ("date", "Thu, 21 Aug 2025 12:41:00 GMT"),
        ("anthropic-ratelimit-requests-limit", "1000"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "2025-08-21T12:41:09Z"),
    ];
    let (mut call, action) = first(presets::anthropic(), 429, &headers);
    waits(&call, action, 9_000..=9_500, RESET);
    holds_others(&mut call, true);
    assert!(matches!(
        super::Call::with(Upstream::new(presets::anthropic()), NonIdempotent).reply(529, &[]),
        Action::Wait { .. }
    ));
}

#[test]
fn d15_openai_a_used_up_quota_is_final() {
    let mut call = Call::new(presets::openai());
    let reply = call.upstream.policy().read(429, [("retry-after", "1")]).with_verdict(Verdict::Final);
    fails(call.answer(reply), FailureKind::UnexpectedStatus);
    holds_others(&mut call, false);
}

#[test]
fn d11_microsoft_graph_429_and_503_with_a_hint_are_throttles() {
    let sharepoint =
        [("Retry-After", "31"), ("RateLimit-Limit", "1200"), ("RateLimit-Remaining", "0"), ("RateLimit-Reset", "31")];
    for status in [429, 503, 509] {
        let (mut call, action) = first(presets::microsoft_graph(), status, &sharepoint);
        waits(&call, action, 31_000..=32_000, RETRY_AFTER);
        holds_others(&mut call, true);
    }
    // The meaning closes the gate, also where no rate limit is empty.
    let (mut call, action) = first(presets::microsoft_graph(), 503, &sharepoint[..1]);
    waits(&call, action, 31_000..=32_000, RETRY_AFTER);
    holds_others(&mut call, true);
    // `RateLimit-Reset` alone: seconds from now.
    let (call, action) = first(presets::microsoft_graph(), 429, &sharepoint[1..]);
    waits(&call, action, 31_000..=32_000, RESET);
}

#[test]
fn b1_b2_microsoft_graph_backs_off_from_three_seconds() {
    for status in [429, 503, 504] {
        backs_off(&presets::microsoft_graph(), status, &[3_000..=4_000, 6_000..=7_000, 12_000..=13_000]);
    }
    fails(first(presets::microsoft_graph(), 500, &[]).1, FailureKind::UnexpectedStatus);
    fails(call(presets::microsoft_graph(), NonIdempotent).reply(504, &[]), FailureKind::Ambiguous);
    assert!(matches!(call(presets::microsoft_graph(), NonIdempotent).reply(503, &[]), Action::Wait { .. }));
}

#[test]
fn d11_google_repeats_unavailable_and_idempotent_only() {
    backs_off(&presets::google(), 503, &[0..=1_000, 0..=2_000, 0..=4_000, 0..=8_000, 0..=16_000]);
    fails(call(presets::google(), NonIdempotent).reply(503, &[("retry-after", "1")]), FailureKind::Ambiguous);
    for status in [429, 500, 502, 504] {
        fails(first(presets::google(), status, &[("retry-after", "1")]).1, FailureKind::UnexpectedStatus);
    }
    let mut call = call(presets::google(), NonIdempotent);
    let action = call.tell(Event::TransportError { attempt: 1, kind: TransportErrorKind::NotSent });
    assert!(matches!(action, Action::Wait { .. }), "not sent: {action}");
}

#[test]
fn d16_google_retry_info_of_a_body() {
    let mut call = Call::new(presets::google());
    let reply = call.upstream.policy().read(429, [("content-type", "application/json")]);
    let action = call.answer(reply.with_verdict(Verdict::Throttled).with_hint(ms(3_200)));
    waits(&call, action, 3_200..=3_700, TOLD);
}

#[test]
fn d11_kubernetes_repeats_only_what_names_a_time() {
    for status in [429, 500, 503, 599] {
        let mut call = Call::new(alone(presets::kubernetes()));
        for _ in 0..10 {
            let action = call.reply(status, &[("Retry-After", "1")]);
            assert_eq!(call.wait(action), ms(1_000), "{action}");
            let _ = call.obey(action);
        }
        fails(call.reply(status, &[("Retry-After", "1")]), FailureKind::Exhausted);
        fails(first(presets::kubernetes(), status, &[]).1, FailureKind::UnexpectedStatus);
        // Whatever the method is.
        assert!(matches!(call_unsafe(status), Action::Wait { .. }));
    }
    fails(first(presets::kubernetes(), 409, &[("Retry-After", "1")]).1, FailureKind::Conflict);
}

fn call_unsafe(status: u16) -> Action {
    call(presets::kubernetes(), NonIdempotent).reply(status, &[("Retry-After", "7")])
}

#[test]
fn d13_kubernetes_waits_a_second_after_a_broken_connection() {
    let mut call = Call::new(presets::kubernetes());
    for attempt in 1..=3 {
        let action = call.tell(Event::TransportError { attempt, kind: TransportErrorKind::Broken });
        assert_eq!(call.wait(action), ms(1_000), "{action}");
        let _ = call.obey(action);
    }
}

#[test]
fn b1_b2_azure_doubles_before_its_first_wait() {
    let patient = presets::azure().into_builder().deadline(None).build().unwrap();
    let ranges = [
        400..=655,
        800..=1_055,
        1_600..=1_855,
        3_200..=3_455,
        6_400..=6_655,
        12_800..=13_055,
        25_600..=25_855,
        29_745..=30_000,
    ];
    for status in [408, 429, 500, 502, 503, 504] {
        backs_off(&patient, status, &ranges);
    }
    fails(first(presets::azure(), 501, &[]).1, FailureKind::UnexpectedStatus);
}

#[test]
fn d14_azure_an_unsafe_request_is_sent_again_after_a_refusal_only() {
    for status in [408, 500, 502, 503, 504] {
        fails(call(presets::azure(), NonIdempotent).reply(status, &[]), FailureKind::Ambiguous);
    }
    let action = call(presets::azure(), NonIdempotent).reply(503, &[("Retry-After", "9")]);
    assert!(matches!(action, Action::Wait { .. }), "{action}");
}

#[test]
fn h5_s4_azure_fields_and_its_minute() {
    let (call, action) = first(presets::azure(), 503, &[("x-ms-retry-after-ms", "1500"), ("Retry-After", "9")]);
    waits(&call, action, 1_500..=1_755, RETRY_AFTER_MS);
    let (call, action) = first(presets::azure(), 429, &[("Retry-After", "9")]);
    waits(&call, action, 9_000..=9_255, RETRY_AFTER);
    fails(first(presets::azure(), 429, &[("Retry-After", "61")]).1, FailureKind::Deadline);
}
