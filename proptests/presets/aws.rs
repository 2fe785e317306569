//! The AWS standard retry mode, held by the published sequences of its specification.

use std::collections::BTreeSet;
use std::time::Duration;

use retry_machine::snapshot::UpstreamSnapshot;
use retry_machine::{
    Action, BudgetPolicy, FailureKind, Idempotency, Jitter, Policy, Timestamp, Upstream, Verdict, presets,
};
use serde_json::Value;

use super::{Call, decided, vectors};

/// Returns the policy of a case: jitter is forced to its longest, which is none.
fn policy(given: &Value) -> Policy {
    let mut policy = presets::aws_standard().into_builder().jitter(Jitter::None);
    if given["service"] == "dynamodb" {
        policy = policy.initial_backoff(Duration::from_millis(25));
    }
    if let Some(attempts) = given["max_attempts"].as_u64() {
        policy = policy.max_retries(u16::try_from(attempts).unwrap() - 1);
    }
    if let Some(seconds) = given["max_backoff_time"].as_f64() {
        policy = policy.max_backoff(Duration::from_secs_f64(seconds));
    }
    policy.build().unwrap()
}

/// Returns the upstream of a case, whose quota may begin below its capacity: as restored from a snapshot.
fn upstream(given: &Value) -> Upstream {
    let mut upstream = Upstream::new(policy(given));
    if let Some(tokens) = given["initial_retry_tokens"].as_u64() {
        let mut stored = serde_json::to_value(UpstreamSnapshot::new(&upstream, Timestamp::ZERO)).unwrap();
        stored["service"]["budget"]["balance"] = tokens.into();
        let stored: UpstreamSnapshot = serde_json::from_value(stored).unwrap();
        upstream = stored.restore(policy(given), Timestamp::ZERO).unwrap();
    }
    upstream
}

/// Returns the verdict of a driver that reads the codes of throttling in a body.
fn verdict(response: &Value) -> Option<Verdict> {
    let code = response["error_code"].as_str()?;
    let throttled =
        ["Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown", "RequestLimitExceeded"];
    throttled.contains(&code).then_some(Verdict::Throttled)
}

/// Runs a case; returns the first difference.
fn difference(case: &Value) -> Option<String> {
    let mut call = Call::with(upstream(&case["given"]), Idempotency::Idempotent);
    for (step, exchange) in case["responses"].as_array().unwrap().iter().enumerate() {
        let (response, expected) = (&exchange["response"], &exchange["expected"]);
        let headers = response["headers"].as_object().into_iter().flatten();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
        let status = response["status_code"].as_u64().unwrap().try_into().unwrap();
        let reply = call.upstream.policy().read(status, headers);
        let reply = verdict(response).map_or(reply, |verdict| reply.with_verdict(verdict));
        let action = call.answer(reply);
        let outcome = match action {
            Action::Wait { .. } => "retry_request",
            Action::Done { .. } => "success",
            Action::Fail(failure) if failure.kind() == FailureKind::Exhausted => "max_attempts_exceeded",
            Action::Fail(failure) if failure.kind() == FailureKind::Budget => "retry_quota_exceeded",
            _ => "another",
        };
        let quota = call.balance().map(u64::from);
        if outcome != expected["outcome"] || quota != expected["retry_quota"].as_u64() {
            return Some(format!("step {step}: {outcome}, quota {quota:?}: {action}"));
        }
        if let Action::Wait { .. } = action {
            let wait = call.wait(action);
            if Some(wait) != expected["delay"].as_f64().map(Duration::from_secs_f64) {
                return Some(format!("step {step}: waits {wait:?}: {action}"));
            }
            let _ = call.obey(action);
        }
    }
    None
}

#[test]
fn b1_b2_s2_aws_standard_vectors() {
    let cases = vectors("aws_standard");
    assert!(!cases.is_empty());
    let names: BTreeSet<_> = cases.iter().map(|case| case["name"].as_str().unwrap().to_owned()).collect();
    let mut otherwise = BTreeSet::new();
    for case in &cases {
        if let Some(difference) = difference(case) {
            println!("{}: {difference}", case["name"]);
            otherwise.insert(case["name"].as_str().unwrap().to_owned());
        }
    }
    println!("aws_standard: {} vectors, {} decided otherwise", cases.len(), otherwise.len());
    let decided: BTreeSet<_> = decided().intersection(&names).cloned().collect();
    assert_eq!(otherwise, decided, "left: decided otherwise by the code; right: by docs/decisions.md");
}

#[test]
fn s2_aws_throttles_cost_five_and_wait_from_a_second() {
    let policy = presets::aws_standard().into_builder().jitter(Jitter::None).build().unwrap();
    let mut call = Call::new(policy);
    let action = call.reply(429, &[]);
    assert_eq!((call.wait(action), call.balance()), (Duration::from_secs(1), Some(495)));
    let _ = call.obey(action);
    let action = call.reply(503, &[]);
    assert_eq!((call.wait(action), call.balance()), (Duration::from_millis(100), Some(481)));
    let _ = call.obey(action);
    // The last cost comes back.
    assert!(matches!(call.reply(200, &[]), Action::Done { .. }));
    assert_eq!(call.balance(), Some(495));
    // A request without a retry brings 1.
    let _ = call.start(Idempotency::Idempotent);
    let _ = call.reply(200, &[]);
    assert_eq!(call.balance(), Some(496));
}

#[test]
fn l1_aws_obeys_a_header_that_is_longer_than_the_backoff() {
    let mut call = Call::new(presets::aws_standard());
    let action = call.reply(500, &[("X-Amz-Retry-After", "700")]);
    assert_eq!(call.wait(action), Duration::from_millis(700));
    let mut call = Call::new(presets::aws_standard());
    let action = call.reply(500, &[("x-amz-retry-after", "60000")]);
    assert_eq!(call.wait(action), Duration::from_secs(60), "L1: never clamped");
}

#[test]
fn e1_aws_a_long_poll_without_quota_learns_how_long_to_wait() {
    let policy = presets::aws_standard().into_builder().jitter(Jitter::None);
    let budget = BudgetPolicy { capacity: 13, retry_cost: 14, ..BudgetPolicy::DEFAULT };
    let mut call = Call::new(policy.budget(Some(budget)).build().unwrap());
    let Action::Fail(failure) = call.reply(500, &[]) else { panic!("the quota is not enough") };
    assert_eq!(failure.kind(), FailureKind::Budget);
    let wait = failure.not_before().unwrap().saturating_duration_since(call.now);
    assert_eq!(wait, Duration::from_millis(50));
}

#[test]
fn s1_aws_a_throttle_does_not_delay_other_requests() {
    let mut call = Call::new(presets::aws_standard());
    let _ = call.reply(429, &[("x-amz-retry-after", "5000")]);
    assert!(matches!(call.start(Idempotency::Idempotent), Action::Send { .. }));
}
