//! Test vectors and recorded responses of other projects, through the reader and, if a vector is about it, through the
//! machine. Each file in `proptests/data/vectors/` names its sources and licenses.
//!
//! A vector either holds or is decided otherwise. In that case the table in `docs/decisions.md` has its reason. The tests
//! compare the table with the vectors, in both directions.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use retry_machine::replay::{EventRecord, RecordKind, Replay, RequestEvent, Settings};
use retry_machine::{
    Action, BodyError, ErrorBody, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream,
};
use serde_json::Value;

mod backoff;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptests/data");

fn cases(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{HERE}/vectors/{file}.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn id(case: &Value) -> String {
    case["id"].as_str().unwrap().to_owned()
}

fn headers(case: &Value) -> Vec<(String, String)> {
    serde_json::from_value(case["headers"].clone()).unwrap()
}

fn status(case: &Value) -> u16 {
    case["status"].as_u64().unwrap().try_into().unwrap()
}

fn read(case: &Value) -> Reply {
    let wall_clock = case["now_unix"].as_u64().map(Duration::from_secs);
    Policy::flextell().read_at(wall_clock, status(case), headers(case))
}

/// Returns the action after this reply to a first attempt, with the guide's policy.
fn decide(reply: Reply) -> Action {
    let mut upstream = Upstream::new(Policy::flextell());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
    let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
    machine.handle(Timestamp::ZERO, Event::Reply { attempt: 1, reply }, &mut upstream)
}

fn seconds(wait: &Value) -> Option<Duration> {
    wait.as_f64().map(Duration::from_secs_f64)
}

/// Returns the cases of a file that have rows in the table of decisions.
fn decided(prefix: char) -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/decisions.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let ids = rows.filter_map(|row| row.split(" | ").next()).flat_map(|ids| ids.split(", "));
    let is_id = |id: &&str| {
        id.starts_with(prefix) && id[1..].chars().all(|c| c.is_ascii_digit()) && id.len() == 4
            || id.starts_with(prefix) && id.len() == 5 && id[1..].chars().all(|c| c.is_ascii_digit())
    };
    ids.filter(is_id).map(String::from).collect()
}

/// Compares the cases that did not hold with the rows of the table, and prints the counts.
fn account(name: &str, prefix: char, all: usize, otherwise: BTreeSet<String>) {
    println!("{name}: {all} vectors, {} held, {} decided otherwise", all - otherwise.len(), otherwise.len());
    assert_eq!(otherwise, decided(prefix), "left: decided otherwise by the code; right: in docs/decisions.md");
}

#[test]
fn h2_h6_l3_retry_after_vectors_hold_or_are_decided_otherwise() {
    let cases = cases("retry_after");
    let holds = |case: &Value| {
        let expect = &case["expect"];
        let reply = read(case);
        let action = decide(reply);
        let retried = matches!(action, Action::Wait { .. } | Action::RefreshToken { .. });
        if expect.get("backoff_seconds").is_some() {
            return false;
        }
        let wait = match expect.get("wait_seconds") {
            Some(wait) if wait.is_null() => reply.hint().is_none(),
            // The hint is read whatever the status.
            Some(wait) => reply.hint().map(|hint| hint.wait()) == seconds(wait),
            None => true,
        };
        let retry = match (&expect["retry"], expect["is_rate_limit"].as_bool()) {
            // A 401 concerns the token, not the rate limit that it mentions.
            (_, Some(false)) => !matches!(action, Action::Wait { .. }),
            (Value::Bool(retry), None) => *retry == retried,
            _ => true,
        };
        let failed = expect["surface_status"].as_u64().is_none_or(
            |status| matches!(action, Action::Fail(failure) if failure.status().map(u64::from) == Some(status)),
        );
        wait && retry && failed
    };
    let otherwise = cases.iter().filter(|case| !holds(case));
    let wrong = otherwise.clone().find(|case| case["class"] == "must");
    assert!(wrong.is_none(), "{wrong:?}");
    account("retry_after", 'b', cases.len(), otherwise.map(id).collect());
}

#[test]
fn h5_rate_limit_vectors_hold_or_are_decided_otherwise() {
    let cases: Vec<_> = cases("rate_limit").into_iter().filter(|case| case["kind"] != "sf").collect();
    let holds = |case: &Value| {
        let expect = &case["expect"];
        let reply = read(case);
        match case["kind"].as_str().unwrap() {
            "ratelimit_sf" if expect.get("no_panic").is_some() => true,
            "ratelimit_sf" => {
                let member = &expect["ratelimit"][0];
                let quotas =
                    expect["policy"].as_array().into_iter().flatten().filter_map(|policy| policy["q"].as_u64());
                reply.remaining() == member["r"].as_u64()
                    && reply.reset() == seconds(&member["t"])
                    && reply.limit() == quotas.min()
                    && reply.rejected().is_empty()
            }
            "x_ratelimit" => {
                let number = |key: &str| expect[key].as_u64();
                reply.limit() == number("limit")
                    && reply.remaining() == number("remaining")
                    && reply.reset() == seconds(&expect["reset_in_seconds"])
            }
            "problem_json" => {
                let retried = matches!(decide(reply), Action::Wait { .. });
                expect["retryable"].as_bool() == Some(retried)
            }
            kind => panic!("{kind}"),
        }
    };
    let otherwise = cases.iter().filter(|case| !holds(case));
    let wrong = otherwise.clone().find(|case| case["class"] == "must" && case["kind"] != "problem_json");
    assert!(wrong.is_none(), "{wrong:?}");
    account("rate_limit", 'c', cases.len(), otherwise.map(id).collect());
}

#[test]
fn h8_json_vectors_hold_or_are_decided_otherwise() {
    let cases = cases("json");
    let mut otherwise = BTreeSet::new();
    for case in &cases {
        let body = json_body(case);
        let parsed = ErrorBody::parse(&body);
        let expect = &case["expect"];
        let holds = match case["kind"].as_str().unwrap() {
            "nst" => match expect.as_str().unwrap() {
                // None of them is an error body; the vectors say only whether each is JSON.
                "accept" => matches!(parsed, Err(BodyError::NotAnObject | BodyError::Empty)),
                "reject" => matches!(
                    parsed,
                    Err(BodyError::NotJson | BodyError::NotUtf8 | BodyError::TooDeep | BodyError::TooLong)
                ),
                "either" => parsed.is_err(),
                expect => panic!("{expect}"),
            },
            "error_body" => {
                let either = expect["message"] == "either";
                let parsed = parsed.as_ref().ok();
                let same =
                    |field: &Value, text: Option<&str>| field.is_null() && text.is_none() || field.as_str() == text;
                either
                    || same(&expect["message"], parsed.and_then(ErrorBody::message))
                        && same(&expect["code"], parsed.and_then(ErrorBody::code))
            }
            kind => panic!("{kind}"),
        };
        if !holds {
            otherwise.insert(id(case));
        }
    }
    account("json", 'g', cases.len(), otherwise);
}

fn json_body(case: &Value) -> Vec<u8> {
    let text = |field: &str| case[field].as_str().map(|text| text.as_bytes().to_vec());
    if let Some(made) = case.get("gen") {
        let times = made["times"].as_u64().unwrap().try_into().unwrap();
        return (made["repeat"].as_str().unwrap().repeat(times) + made["suffix"].as_str().unwrap()).into_bytes();
    }
    if let Some(base64) = case["base64"].as_str() {
        let line = serde_json::json!({"at_ms": 0, "event": "reply", "status": 400, "body_base64": base64});
        return match EventRecord::parse(&line.to_string()).unwrap().kind {
            RecordKind::Request { event: RequestEvent::Reply { body: Some(body), .. }, .. } => body,
            what => panic!("{what:?}"),
        };
    }
    text("text").or_else(|| text("body")).unwrap()
}

/// Replays each recorded response as the answer to a first attempt, and compares the result with the committed snapshot.
#[test]
fn recorded_responses_are_read_and_decided_as_committed() {
    let cases = cases("recorded_responses");
    let mut lines = String::from(
        "# id, service, status: hint found; rejected; action. Rewrite: UPDATE_SNAPSHOTS=1 cargo test --test vectors\n",
    );
    let mut otherwise = BTreeSet::new();
    for case in &cases {
        let unix_ms = case["now_unix"].as_u64().map(|now| now * 1_000);
        let mut settings = Settings::new(Policy::flextell());
        settings.unix_ms = unix_ms;
        let mut replay = Replay::new(&settings).unwrap();
        let start = EventRecord::parse(r#"{"at_ms": 0, "event": "start"}"#).unwrap();
        replay.step(&start).unwrap();
        let headers = headers(case).into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        let body = case["body"].as_str().map(|body| body.as_bytes().to_vec());
        let event =
            RequestEvent::Reply { attempt: None, status: status(case), headers, body, verdict: None, hint_ms: None };
        let event = EventRecord { at_ms: 0, kind: RecordKind::Request { number: 0, event } };
        let line = replay.step(&event).unwrap().unwrap().to_json_with_facts();
        let (facts, action) = (&line["facts"], line["action"].as_str().unwrap());
        let what = match action {
            "wait" => format!("wait {} ms ({})", line["until_ms"], line["reason"].as_str().unwrap()),
            "surface" => format!("surface {} {}", line["kind"].as_str().unwrap(), line["message"]),
            other => other.to_owned(),
        };
        lines += &format!(
            "{} {} {}: {} {}; {}; {what}\n",
            id(case),
            case["service"].as_str().unwrap(),
            status(case),
            facts["hint_ms"],
            facts["hint_source"],
            facts["rejected"],
        );
        let holds = match case["expect"]["class"].as_str() {
            None => true,
            Some("surface") => action == "surface",
            Some("refresh" | "refresh_once_then_surface") => action == "refresh_token",
            Some("retry_backoff") => line["reason"] == "backoff",
            Some("wait") => facts["hint_ms"].as_u64() == case["expect"]["seconds"].as_u64().map(|s| s * 1_000),
            Some("success") => action == "done",
            Some(class) => panic!("{class}"),
        };
        if !holds {
            otherwise.insert(id(case));
        }
    }
    account("recorded_responses", 'i', cases.len(), otherwise);
    let file = format!("{HERE}/snapshots/recorded_responses.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&file, &lines).unwrap();
    }
    assert_eq!(lines, fs::read_to_string(&file).unwrap_or_default());
}
