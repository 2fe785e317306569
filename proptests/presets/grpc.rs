//! The retries of gRPC, held by the cases of its design and of its implementations' tests.

use std::collections::BTreeSet;
use std::time::Duration;

use retry_machine::replay::Settings;
use retry_machine::snapshot::UpstreamSnapshot;
use retry_machine::{
    Action, BudgetPolicy, Charge, Event, FailureKind, Idempotency, Policy, Refund, Reply, RequestLimits, RetryMachine,
    Timestamp, Upstream, Verdict, presets,
};
use serde_json::{Value, json};

use super::{Call, decided, vectors};

/// The client's own greatest number of attempts, where nothing else is set.
const CLIENT_ATTEMPTS: u64 = 5;

/// Returns a driver's reading of an answer, a 200 with a code in its trailer. The codes in `retryable` are transient.
fn answered(code: &str, retryable: &[&str]) -> Reply {
    let reply = Reply::new(200);
    match code {
        "OK" => reply,
        code if retryable.contains(&code) => reply.with_verdict(Verdict::Transient),
        _ => reply.with_verdict(Verdict::Final),
    }
}

fn thousandths(tokens: &Value) -> u32 {
    format!("{:.0}", (tokens.as_f64().unwrap() * 1_000.0).trunc()).parse().unwrap()
}

/// Returns the tokens of a case, in thousandths. A retry needs more than half of them.
fn throttling(max_tokens: &Value, token_ratio: &Value) -> BudgetPolicy {
    let capacity = thousandths(max_tokens);
    BudgetPolicy {
        capacity,
        floor: capacity / 2 + 1,
        retry_cost: 1_000,
        throttle_cost: 1_000,
        charge: Charge::Failure,
        success_refund: thousandths(token_ratio),
        refund: Refund::Fixed,
        refill_every: Duration::ZERO,
    }
}

fn with_budget(budget: Option<BudgetPolicy>) -> Policy {
    presets::grpc().into_builder().budget(budget).build().unwrap()
}

/// Returns the upstream of a case. Where its tokens begin below the most, a configuration was replaced that had 3 of 4: the
/// balance is kept by a snapshot.
fn started(case: &Value, budget: BudgetPolicy) -> Upstream {
    let policy = with_budget(Some(budget));
    if case["start_tokens"].as_f64() == case["max_tokens"].as_f64() {
        return Upstream::new(policy);
    }
    let former = Upstream::new(with_budget(Some(BudgetPolicy { capacity: 3_000, ..budget })));
    UpstreamSnapshot::new(&former, Timestamp::ZERO).restore(policy, Timestamp::ZERO).unwrap()
}

fn throttle(case: &Value) -> bool {
    let mut upstream = started(case, throttling(&case["max_tokens"], &case["token_ratio"]));
    case["ops"].as_array().unwrap().iter().all(|op| {
        let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
        let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
        let code = if op["op"] == "success" { "OK" } else { "UNAVAILABLE" };
        let reply = answered(code, &["UNAVAILABLE"]);
        let action = machine.handle(Timestamp::ZERO, Event::Reply { attempt: 1, reply }, &mut upstream);
        let is_allowed = match op["retry_allowed"].as_bool() {
            Some(true) => matches!(action, Action::Wait { .. }),
            Some(false) => matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::Budget),
            None => matches!(action, Action::Done { .. }),
        };
        is_allowed && upstream.service.budget_balance(Timestamp::ZERO) == Some(thousandths(&op["tokens_after"]))
    })
}

fn pushback(case: &Value) -> bool {
    let values = case["grpc-retry-pushback-ms"].as_array().unwrap();
    let headers = values.iter().map(|value| ("grpc-retry-pushback-ms", value.as_str().unwrap()));
    let mut call = Call::new(presets::grpc());
    let reply = call.upstream.policy().read(200, headers).with_verdict(Verdict::Transient);
    let action = call.answer(reply);
    match case["expect"]["wait_ms"].as_u64() {
        Some(wait) => matches!(action, Action::Wait { .. }) && call.wait(action) == Duration::from_millis(wait),
        None => matches!(action, Action::Fail(_)) && case["expect"]["retry"] == false,
    }
}

/// Makes calls one after the other; returns the index of the attempt that ended each, with its result.
fn calls(case: &Value, last: u64) -> Vec<(u64, String)> {
    let at = |key: &str, index: u64| case[key].as_array().unwrap().contains(&json!(index));
    let retryable: Vec<_> = case["retryable"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    let policy = with_budget(None).into_builder().max_retries(attempts(&case["max_attempts"]) - 1).build().unwrap();
    let mut call = Call::new(policy);
    let mut ends = Vec::new();
    for index in 0..=last {
        let code = match index {
            index if at("server_ok_at", index) => "OK",
            index if at("server_nonretryable_at", index) => "INTERNAL",
            _ => "ALREADY_EXISTS",
        };
        let action = call.answer(answered(code, &retryable));
        if let Action::Wait { .. } = action {
            let _ = call.obey(action);
        } else {
            ends.push((index, code.to_owned()));
            let _ = call.start(Idempotency::Idempotent);
        }
    }
    ends
}

fn unary(case: &Value) -> bool {
    let last = case["cumulative_last_attempt_index"].as_u64().unwrap();
    calls(case, last).last() == Some(&(last, case["want"].as_str().unwrap().to_owned()))
}

fn attempts(value: &Value) -> u16 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// Whoever allows fewer attempts decides: the service by the policy, the client by a limit of the request.
fn max_attempts(case: &Value) -> bool {
    let client = Some(&case["client"]).filter(|client| client.as_u64() != Some(0)).cloned();
    let client = attempts(&client.unwrap_or(json!(CLIENT_ATTEMPTS)));
    let policy = with_budget(None).into_builder().max_retries(attempts(&case["service"]) - 1).build().unwrap();
    let limits = RequestLimits { max_retries: Some(client - 1), ..RequestLimits::default() };
    let mut call = Call::new(policy);
    call.machine = RetryMachine::new(Idempotency::Idempotent, 7).with_limits(limits);
    let _ = call.tell(Event::Start);
    loop {
        let action = call.answer(answered("UNAVAILABLE", &["UNAVAILABLE"]));
        if let Action::Fail(failure) = action {
            return failure.kind() == FailureKind::Exhausted && u64::from(failure.attempts()) == case["expect"];
        }
        let _ = call.obey(action);
    }
}

/// Returns a driver's reading of an attempt of a stream: a call that is committed is final.
fn streamed(result: &str) -> Reply {
    match result {
        "MSG+UNAVAILABLE" | "UNAVAILABLE (request body > buffer limit)" => Reply::new(200).with_verdict(Verdict::Final),
        code => answered(code, &["UNAVAILABLE"]),
    }
}

fn stream(case: &Value) -> bool {
    let retries = attempts(&case["max_attempts"]) - 1;
    let mut call = Call::new(with_budget(None).into_builder().max_retries(retries).build().unwrap());
    let results: Vec<_> = case["attempt_results"].as_array().unwrap().iter().collect();
    let mut end = None;
    for result in &results {
        let action = call.answer(streamed(result.as_str().unwrap()));
        match action {
            Action::Wait { .. } => drop(call.obey(action)),
            action => end = Some(action),
        }
    }
    let is_ok = matches!(end, Some(Action::Done { .. }));
    end.is_some() && is_ok == (case["final"] == "OK") && u64::from(call.machine.attempts()) == case["attempts"]
}

/// Checks the bounds of a back-off over many draws, which also come near them.
fn backoff(case: &Value) -> bool {
    let bound = |index: usize| Duration::from_secs_f64(case["bounds_s"][index].as_f64().unwrap());
    let number = attempts(&case["retry_number"]);
    let policy = with_budget(None).into_builder().max_retries(number).build().unwrap();
    let mut waits = Vec::new();
    for seed in 0..200 {
        let mut call = Call::new(policy.clone());
        call.machine = RetryMachine::new(Idempotency::Idempotent, seed);
        let mut action = call.tell(Event::Start);
        for _ in 1..number {
            action = call.answer(answered("UNAVAILABLE", &["UNAVAILABLE"]));
            action = call.obey(action);
        }
        assert!(matches!(action, Action::Send { .. }), "{action}");
        let action = call.answer(answered("UNAVAILABLE", &["UNAVAILABLE"]));
        waits.push(call.wait(action));
    }
    let near = (bound(1) - bound(0)) / 10;
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    *least >= bound(0) && *least < bound(0) + near && *most <= bound(1) && *most > bound(1) - near
}

/// Returns a service config as a line of settings.
fn settings(config: &Value) -> Value {
    let seconds = |key: &str| config[key].as_str().unwrap().strip_suffix('s').unwrap().parse::<f64>().unwrap();
    let millis = |key: &str| format!("{:.0}", seconds(key) * 1_000.0).parse::<u64>().unwrap();
    json!({
        "preset": "grpc",
        "max_retries": config["maxAttempts"].as_i64().unwrap() - 1,
        "base_ms": millis("initialBackoff"),
        "cap_ms": millis("maxBackoff"),
        "factor": [thousandths(&config["backoffMultiplier"]), 1_000],
    })
}

fn is_accepted(line: &Value) -> bool {
    Settings::parse(&line.to_string()).is_ok_and(|settings| settings.policy().is_ok())
}

fn config(case: &Value) -> bool {
    is_accepted(&settings(&case["input"])) == (case["valid"] == true)
}

fn throttle_config(case: &Value) -> bool {
    let input = &case["input"];
    if input["maxTokens"].as_f64().unwrap() < 0.0 || input["tokenRatio"].as_f64().unwrap() < 0.0 {
        let parts = |key: &str| format!("{:.0}", input[key].as_f64().unwrap() * 1_000.0).parse::<i64>().unwrap();
        let budget = json!({"capacity": parts("maxTokens"), "success_refund": parts("tokenRatio")});
        return case["valid"] == is_accepted(&json!({"preset": "grpc", "budget": budget}));
    }
    // The ratio counts in thousandths: one failure, then one success.
    let budget = throttling(&input["maxTokens"], &input["tokenRatio"]);
    let mut call = Call::new(with_budget(Some(budget)));
    let _ = call.answer(answered("UNAVAILABLE", &["UNAVAILABLE"]));
    let failed = call.balance().unwrap();
    let _ = call.start(Idempotency::Idempotent);
    let _ = call.answer(answered("OK", &[]));
    let ratio = case.get("effective_ratio").unwrap_or(&input["tokenRatio"]);
    let refunded = call.balance().unwrap() - failed;
    case["valid"] == true && refunded == thousandths(ratio).min(budget.retry_cost)
}

#[test]
fn h11_s2_b1_grpc_vectors() {
    let cases = vectors("grpc");
    let mut kinds = BTreeSet::new();
    let mut otherwise = BTreeSet::new();
    for case in &cases {
        let kind = case["kind"].as_str().unwrap();
        kinds.insert(kind);
        let holds = match kind {
            "throttle" => throttle(case),
            "pushback" => pushback(case),
            "unary" => unary(case),
            "max_attempts" => max_attempts(case),
            "stream" => stream(case),
            "backoff" => backoff(case),
            "config" => config(case),
            "throttle_config" => throttle_config(case),
            kind => panic!("{kind}"),
        };
        if !holds {
            otherwise.insert(case["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    println!("grpc: {} vectors, {} decided otherwise", cases.len(), otherwise.len());
    let is_ours =
        |id: &String| id.starts_with('e') && id.len() == 4 && id[1..].bytes().all(|byte| byte.is_ascii_digit());
    let decided: BTreeSet<_> = decided().into_iter().filter(is_ours).collect();
    assert_eq!(otherwise, decided, "left: decided otherwise by the code; right: by docs/decisions.md");
}

#[test]
fn s2_grpc_tokens_are_ten_and_a_tenth() {
    let mut call = Call::new(presets::grpc());
    assert_eq!(call.balance(), Some(10_000));
    for left in [9_000, 8_000, 7_000, 6_000] {
        assert!(matches!(call.reply(503, &[]), Action::Wait { .. }), "{left}");
        assert_eq!(call.balance(), Some(left));
        let _ = call.start(Idempotency::Idempotent);
    }
    // At half of the tokens a call fails at once.
    assert!(matches!(call.reply(503, &[]), Action::Fail(failure) if failure.kind() == FailureKind::Budget));
    let _ = call.start(Idempotency::Idempotent);
    let _ = call.reply(200, &[]);
    assert_eq!(call.balance(), Some(5_100));
}

#[test]
fn h11_grpc_a_pushback_that_stops_is_a_failure() {
    let mut call = Call::new(presets::grpc());
    assert!(matches!(call.reply(503, &[("grpc-retry-pushback-ms", "-1")]), Action::Fail(_)));
    assert_eq!(call.balance(), Some(9_000));
}

#[test]
fn d11_grpc_statuses_of_intermediaries() {
    for (status, is_retried) in [(429, true), (502, true), (503, true), (504, true), (500, false), (400, false)] {
        let mut call = Call::new(presets::grpc());
        let action = call.reply(status, &[]);
        assert_eq!(matches!(action, Action::Wait { .. }), is_retried, "{action}");
    }
}

#[test]
fn s1_grpc_a_limit_of_one_call_does_not_hold_another() {
    let mut call = Call::new(presets::grpc());
    let reply = call.upstream.policy().read(200, [("retry-after", "9")]).with_verdict(Verdict::Throttled);
    assert!(matches!(call.answer(reply), Action::Wait { .. }));
    assert!(matches!(call.start(Idempotency::Idempotent), Action::Send { .. }));
}
