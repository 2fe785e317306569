//! Jittered instants: the model allows both bounds, refuses a millisecond beyond them, and continues
//! with the observed instant.

use crate::reference::model::Model;
use serde_json::{Value, json};

/// Returns a model that has applied `events` and predicted each action.
fn after(setting: Value, events: &[Value]) -> Model {
    let mut model = Model::new(&setting).unwrap();
    for event in events {
        model.predict(event).unwrap();
    }
    model
}

fn reply(at_ms: u64, status: u64, headers: &[[&str; 2]]) -> Value {
    json!({"at_ms": at_ms, "event": "reply", "status": status, "headers": headers})
}

fn start(request: u64, at_ms: u64) -> Value {
    json!({"at_ms": at_ms, "event": "start", "request": request})
}

fn wait(event: &Value, attempt: u64, until_ms: u64, reason: &str) -> Value {
    let request = event["request"].as_u64().unwrap_or(0);
    json!({"at_ms": event["at_ms"], "request": request, "action": "wait", "attempt": attempt, "until_ms": until_ms, "reason": reason})
}

/// Returns the earliest and the latest end that the model allows for a wait with this reason.
fn allowed(model: &Model, event: &Value, attempt: u64, reason: &str) -> Option<(u64, u64)> {
    // Every 50 ms, and a millisecond to either side: these include the bounds below.
    let at = event["at_ms"].as_u64().unwrap();
    let near = (0..360).flat_map(|n| [at, at / 50 * 50].map(|from| from + 50 * n));
    let mut ends: Vec<u64> = near.flat_map(|t| [t.saturating_sub(1), t, t + 1]).collect();
    ends.retain(|until| {
        let line = wait(event, attempt, *until, reason);
        model.clone().check(event, Some(&line)).is_ok()
    });
    Some((*ends.iter().min()?, *ends.iter().max()?))
}

#[test]
fn b2_the_back_off_has_the_bounds_of_the_guides_table() {
    let mut model = after(json!({}), &[start(0, 0)]);
    let mut now = 0;
    for (n, (lo, hi)) in
        [(500, 1500), (1500, 2500), (3500, 4500), (7500, 8500), (15_500, 16_500)].into_iter().enumerate()
    {
        let failed = reply(now, 503, &[]);
        let attempt = n as u64 + 1;
        assert_eq!(allowed(&model, &failed, attempt, "backoff"), Some((now + lo, now + hi)));
        let end = now + (lo + hi) / 2 + 7;
        model.check(&failed, Some(&wait(&failed, attempt, end, "backoff"))).unwrap();
        // The observed end counts.
        let early = json!({"at_ms": end - 1, "event": "tick"});
        model.check(&early, Some(&wait(&early, attempt, end, "backoff"))).unwrap();
        let on_time = json!({"at_ms": end, "event": "tick"});
        assert_eq!(model.predict(&on_time).unwrap().unwrap()["action"], "send");
        now = end;
    }
}

#[test]
fn b2_jitter_remains_at_the_maximum() {
    let model = after(json!({"base_ms": 8000, "cap_ms": 8000}), &[start(0, 0)]);
    assert_eq!(allowed(&model, &reply(0, 500, &[]), 1, "backoff"), Some((7500, 8000)));
    let model = after(json!({"base_ms": 7800, "cap_ms": 8000}), &[start(0, 0)]);
    assert_eq!(allowed(&model, &reply(0, 500, &[]), 1, "backoff"), Some((7300, 8000)));
    let model = after(json!({"base_ms": 100}), &[start(0, 0)]);
    assert_eq!(allowed(&model, &reply(0, 500, &[]), 1, "backoff"), Some((0, 600)));
}

#[test]
fn f2_each_other_jitter_has_its_bounds() {
    for (jitter, lo, hi) in [
        (json!("none"), 4000, 4000),
        (json!("full"), 0, 4000),
        (json!("equal"), 2000, 4000),
        (json!("proportional"), 3000, 5000),
        (json!("above"), 4000, 4500),
        (json!({"band": [250, 0]}), 3000, 4000),
        (json!({"band": [100, 300]}), 3600, 5200),
        (json!("decorrelated"), 4000, 12_000),
    ] {
        let model = after(json!({"base_ms": 4000, "jitter": jitter}), &[start(0, 0)]);
        assert_eq!(allowed(&model, &reply(0, 500, &[]), 1, "backoff"), Some((lo, hi)), "{jitter}");
    }
    // B2: at the cap the jitter is below it.
    for (jitter, lo, hi) in [
        (json!("above"), 3500, 4000),
        (json!({"band": [0, 700]}), 1200, 4000),
        (json!({"band": [250, 100]}), 3000, 4000),
        (json!({"band": [0, 3000]}), 0, 4000),
    ] {
        let model = after(json!({"base_ms": 4000, "cap_ms": 4000, "jitter": jitter}), &[start(0, 0)]);
        assert_eq!(allowed(&model, &reply(0, 500, &[]), 1, "backoff"), Some((lo, hi)), "{jitter}");
    }
    // Three times the observed wait.
    let mut model = after(json!({"base_ms": 1000, "jitter": "decorrelated"}), &[start(0, 0)]);
    let failed = reply(0, 500, &[]);
    model.check(&failed, Some(&wait(&failed, 1, 2000, "backoff"))).unwrap();
    model.predict(&json!({"at_ms": 2000, "event": "tick"})).unwrap();
    assert_eq!(allowed(&model, &reply(2000, 500, &[]), 2, "backoff"), Some((3000, 8000)));
}

#[test]
fn l2_a_hint_is_jittered_upward_only() {
    let model = after(json!({}), &[start(0, 0)]);
    let throttled = reply(0, 429, &[["Retry-After", "7"]]);
    assert_eq!(allowed(&model, &throttled, 1, "retry_after"), Some((7000, 7500)));
    assert_eq!(allowed(&model, &throttled, 1, "backoff"), None);
    // L2: the hint or the jittered back-off, whichever is longer.
    let failed = reply(0, 503, &[["Retry-After", "1"]]);
    assert_eq!(allowed(&model, &failed, 1, "retry_after"), Some((1000, 1500)));
    assert_eq!(allowed(&model, &failed, 1, "backoff"), Some((1000, 1500)));
}

#[test]
fn l2_a_pushback_is_exact() {
    let setting = json!({"fields": [["x-then", {"pushback": "ms"}]]});
    let model = after(setting, &[start(0, 0)]);
    let failed = reply(0, 503, &[["x-then", "50"]]);
    assert_eq!(allowed(&model, &failed, 1, "pushback"), Some((50, 50)));
    assert_eq!(allowed(&model, &failed, 1, "backoff"), None);
    assert_eq!(allowed(&model, &reply(0, 503, &[["x-then", "0"]]), 1, "pushback"), Some((0, 0)));
}

#[test]
fn b5_counted_apart_each_kind_has_its_own_previous_wait() {
    let throttles = json!({"base_ms": 1000, "factor": 2, "cap_ms": 60_000});
    for (throttle_retries, bounds) in [(json!(3), (1000, 3000)), (Value::Null, (1000, 9000))] {
        let mut model = after(
            json!({"jitter": "decorrelated", "base_ms": 1000, "throttled": throttles, "throttle_retries": throttle_retries}),
            &[start(0, 0)],
        );
        let failed = reply(0, 503, &[]);
        model.check(&failed, Some(&wait(&failed, 1, 3000, "backoff"))).unwrap();
        model.predict(&json!({"at_ms": 3000, "event": "tick"})).unwrap();
        let (lo, hi) = bounds;
        let throttled = reply(3000, 429, &[]);
        assert_eq!(allowed(&model, &throttled, 2, "backoff"), Some((3000 + lo, 3000 + hi)), "{throttle_retries}");
    }
}

#[test]
fn c10_a_head_has_at_most_the_jitter_of_its_hint() {
    let throttled = reply(0, 429, &[["Retry-After", "7"]]);
    // The one that closes the gate, alone or not.
    for others in [&[][..], &[start(1, 0)][..]] {
        let model = after(json!({}), &[&[start(0, 0)], others].concat());
        assert_eq!(allowed(&model, &throttled, 1, "retry_after"), Some((7000, 7500)));
        assert_eq!(allowed(&model, &throttled, 1, "gate"), None);
    }
    // C9: another one queues, and a slot is exact.
    let mut model = after(json!({}), &[start(0, 0), start(1, 0)]);
    model.check(&throttled, Some(&wait(&throttled, 1, 7300, "retry_after"))).unwrap();
    let second = json!({"at_ms": 10, "event": "reply", "request": 1, "status": 429, "headers": [["Retry-After", "2"]]});
    assert_eq!(allowed(&model, &second, 1, "gate"), Some((7000, 7000)));
    // A throttle without a hint: the opening has a jitter of its own (C10), unless jitter is off.
    for (jitter, longest) in [("spread", 500), ("none", 0)] {
        let mut model = after(json!({"jitter": jitter, "base_ms": 100, "spread_ms": 500}), &[start(0, 0)]);
        let first = reply(0, 429, &[["Retry-After", "1"]]);
        model.check(&first, Some(&wait(&first, 1, 1000, "retry_after"))).unwrap();
        model.predict(&json!({"at_ms": 1000, "event": "tick"})).unwrap();
        model.predict(&json!({"at_ms": 1000, "event": "close_gate", "until_ms": 9000})).unwrap();
        assert_eq!(allowed(&model, &reply(1000, 429, &[]), 2, "gate"), Some((9000, 9000 + longest)));
    }
}

#[test]
fn c9_slots_lie_a_pace_apart() {
    let throttled = reply(0, 429, &[["Retry-After", "8"]]);
    let mut model = after(json!({"jitter": "none"}), &[start(0, 0), start(1, 0), throttled]);
    // C8: the newcomers are told the opening, and at the opening their slots. The pace is 8 s / 4, halved until two slots
    // fit into 3 s; the head moves them back by one.
    for request in [2, 3, 4] {
        let newcomer = start(request, 10);
        assert_eq!(allowed(&model, &newcomer, 0, "gate"), Some((8000, 8000)));
        model.predict(&newcomer).unwrap();
    }
    let tick = |at_ms: u64, request: u64| json!({"at_ms": at_ms, "event": "tick", "request": request});
    assert_eq!(model.predict(&tick(8000, 0)).unwrap().unwrap()["action"], "send");
    for (request, turn) in [(2, 9000), (3, 10_000), (4, 11_000)] {
        let line = model.predict(&tick(8000, request)).unwrap().unwrap();
        assert_eq!((&line["action"], &line["until_ms"]), (&json!("wait"), &json!(turn)));
    }
    // S1: closing by hand moves them back by as long.
    model.predict(&json!({"at_ms": 8500, "event": "close_gate", "until_ms": 10_500})).unwrap();
    let line = model.predict(&tick(9000, 2)).unwrap().unwrap();
    assert_eq!(line["until_ms"], 11_000);
}

#[test]
fn c11_the_brake_is_drawn_like_the_next_retry() {
    let throttled = reply(0, 429, &[["Retry-After", "8"]]);
    let failed = json!({"at_ms": 8000, "event": "transport_error", "request": 1, "kind": "broken"});
    for (jitter, bounds) in [("none", 1000..=1000), ("spread", 500..=1500), ("decorrelated", 1000..=3000)] {
        let mut openings: Vec<u64> = Vec::new();
        for seed in 0..20 {
            let events = [start(0, 0), start(1, 0), throttled.clone(), start(2, 10), start(3, 10), failed.clone()];
            let mut model = after(json!({"jitter": jitter, "seed": seed, "max_retries": 1}), &events);
            let stranger = json!({"at_ms": 8000, "event": "start", "request": 4, "deadline_ms": 1});
            let line = model.predict(&stranger).unwrap().unwrap();
            openings.push(line["not_before_ms"].as_u64().unwrap());
        }
        assert!(openings.iter().all(|opening| bounds.contains(&(opening - 8000))), "{jitter}: {openings:?}");
        openings.sort_unstable();
        openings.dedup();
        assert_eq!(openings.len() > 1, jitter != "none", "{jitter}: {openings:?}");
    }
}

#[test]
fn p2_a_wait_that_may_reach_the_deadline_may_fail() {
    let failed = reply(0, 503, &[]);
    let failure = json!({"at_ms": 0, "request": 0, "action": "surface", "attempt": 1, "kind": "deadline", "status": 503,
        "attempts": 1, "elapsed_ms": 0, "not_before_ms": null, "cause": "status", "advice": "try_later"});
    for (deadline, may_fail, ends) in [
        (500, true, None),
        (501, true, Some((500, 501))),
        (1000, true, Some((500, 1000))),
        (1501, false, Some((500, 1500))),
    ] {
        let model = after(json!({"deadline_ms": deadline}), &[start(0, 0)]);
        assert_eq!(model.clone().check(&failed, Some(&failure)).is_ok(), may_fail, "{deadline}");
        assert_eq!(allowed(&model, &failed, 1, "backoff"), ends, "{deadline}");
    }
}

#[test]
fn f6_the_open_time_is_jittered_and_the_observed_probe_is_kept() {
    let mut model = after(
        json!({"breaker": {"failures": 2, "open_ms": 4000}, "max_retries": 0}),
        &[start(0, 0), start(1, 0), reply(0, 503, &[])],
    );
    let failure = |at_ms: u64, request: u64, kind: &str, elapsed_ms: u64, not_before_ms: u64| {
        let second = request == 1;
        json!({"at_ms": at_ms, "request": request, "action": "surface", "attempt": u64::from(second), "kind": kind,
            "status": if second { json!(503) } else { Value::Null }, "attempts": u64::from(second), "elapsed_ms": elapsed_ms,
            "not_before_ms": not_before_ms, "cause": if second { json!("status") } else { Value::Null }, "advice": "try_later"})
    };
    let failed = |at_ms: u64| json!({"at_ms": at_ms, "event": "reply", "request": 1, "status": 503});
    // C5: the run must last as long as the breaker opens.
    let soon = model.clone().predict(&failed(3999)).unwrap().unwrap();
    assert_eq!(soon["not_before_ms"], Value::Null);
    let failed = failed(4000);
    for (not_before, ok) in [(7999, false), (8000, true), (10_000, true), (10_001, false)] {
        assert_eq!(model.clone().check(&failed, Some(&failure(4000, 1, "exhausted", 4000, not_before))).is_ok(), ok);
    }
    model.check(&failed, Some(&failure(4000, 1, "exhausted", 4000, 9123))).unwrap();
    let early = start(2, 9122);
    assert!(model.clone().check(&early, Some(&failure(9122, 2, "breaker_open", 0, 9124))).is_err());
    model.check(&early, Some(&failure(9122, 2, "breaker_open", 0, 9123))).unwrap();
    assert_eq!(model.predict(&start(3, 9123)).unwrap().unwrap()["action"], "send");
}

#[test]
fn an_invalid_line_is_not_a_disagreement() {
    let mut model = after(json!({}), &[start(0, 0)]);
    for bad in [
        start(0, 1),
        json!({"at_ms": 1, "event": "tick", "request": 1}),
        json!({"at_ms": 1, "event": "tock"}),
        json!({"at_ms": -1, "event": "tick"}),
        json!({"at_ms": 1, "event": "tick", "color": 1}),
        json!({"at_ms": 1, "event": "reply"}),
        json!({"at_ms": 1, "event": "close_gate"}),
        json!({"at_ms": 1, "event": "token", "outcome": "lost"}),
        json!({"at_ms": 1, "event": "token", "outcome": "refreshed", "lease": -1}),
        json!({"at_ms": 1, "event": "start", "request": 1, "login": "a"}),
        json!({"at_ms": 1, "event": "tick", "login": 0}),
        json!({"at_ms": 1, "event": "token_replaced", "request": 0}),
        json!([]),
    ] {
        assert!(model.check(&bad, None).unwrap_err().starts_with("trace: "), "{bad}");
    }
    assert!(Model::new(&json!({"color": 1})).is_err());
    assert!(Model::new(&json!({"retry_statuses": [401]})).is_err());
    for bad in [
        json!({"factor": 0}),
        json!({"factor": [1, 2]}),
        json!({"factor": [2]}),
        json!({"jitter": {"band": [1001, 0]}}),
        json!({"jitter": {"band": [0]}}),
        json!({"on": [[401, "retry"]]}),
        json!({"on": [["400-499", "retry"]]}),
        json!({"on": [["599-500", "retry"]]}),
        json!({"on": [[503, "give_up"]]}),
        json!({"fields": [["x-a", "verdict"], ["X-A", "limit"]]}),
        json!({"fields": [["x-a", {"reset": "auto"}]]}),
        json!({"budget": {"charge": "always"}}),
        json!({"budget": {"refund": "twice"}}),
        json!({"breaker": {"failures": 0}}),
        json!({"gate_spread": 100}),
        json!({"throttled": {"base": 1}}),
        json!({"max_retries": 65_536}),
        json!({"token": null}),
        json!({"young_token": "wait"}),
    ] {
        assert!(Model::new(&bad).is_err(), "{bad}");
    }
}
