//! Makes random but plausible traces.
//!
//! It prefers the times at which mistakes show: the end of a wait, a limit or a lease, one
//! millisecond before and after, the same instant twice, sometimes an earlier one. Most events answer
//! the last action of their request; some are late, doubled or out of place.
//!
//! The choices come from a seed, or from the bytes of a fuzzer.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The source of the choices.
enum Choices<'a> {
    /// The state of xorshift64*.
    Seeded(u64),
    /// A byte for each choice, two if there are more than 256 options. After the last byte each choice is the first option.
    #[allow(dead_code, reason = "only fuzzing has bytes")]
    Bytes(&'a [u8]),
}

impl Choices<'_> {
    fn below(&mut self, n: u64) -> u64 {
        match self {
            Choices::Seeded(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
            }
            Choices::Bytes(bytes) => {
                let length = if n <= 256 { 1 } else { 2 };
                let (now, rest) = bytes.split_at(length.min(bytes.len()));
                *bytes = rest;
                now.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) % n
            }
        }
    }

    /// Returns some of the bytes as text, for one in six calls.
    fn text(&mut self) -> Option<String> {
        if matches!(self, Choices::Seeded(_)) || !self.one_in(6) {
            return None;
        }
        let length = usize::try_from(self.below(64)).expect("a small length");
        let Choices::Bytes(bytes) = self else { return None };
        let (text, rest) = bytes.split_at(length.min(bytes.len()));
        *bytes = rest;
        Some(text.iter().copied().map(char::from).collect())
    }

    fn are_used_up(&self) -> bool {
        matches!(self, Choices::Bytes([]))
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).expect("a small list")].clone()
    }
}

/// A trace that grows. The next event depends on the last action of each request.
pub struct Generator<'a> {
    choices: Choices<'a>,
    pub setting: Value,
    last: BTreeMap<u64, Value>,
    now: u64,
    left: u64,
}

impl<'a> Generator<'a> {
    /// Begins a trace from a seed. The same seed and the same actions give the same trace.
    pub fn new(seed: u64) -> Generator<'a> {
        let mut choices = Choices::Seeded((seed.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            choices.below(2);
        }
        let setting = setting(&mut choices);
        let left = 10 + choices.below(51);
        Generator { choices, setting, last: BTreeMap::new(), now: 0, left }
    }

    /// Begins a trace from bytes. It ends with the bytes, or after a hundred events.
    #[allow(dead_code, reason = "only fuzzing has bytes")]
    pub fn from_bytes(bytes: &'a [u8]) -> Generator<'a> {
        let mut choices = Choices::Bytes(bytes);
        let setting = setting(&mut choices);
        Generator { choices, setting, last: BTreeMap::new(), now: 0, left: 100 }
    }

    /// Returns the next event, if the trace goes on.
    pub fn next_event(&mut self) -> Option<Value> {
        if self.choices.are_used_up() {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.now = next_time(&mut self.choices, self.now, &self.last);
        let backwards = self.choices.one_in(25);
        let at = if backwards { self.now.saturating_sub(self.choices.below(3000)) } else { self.now };
        let unix_ms = self.setting["unix_ms"].as_u64();
        Some(event(&mut self.choices, at, &self.last, unix_ms))
    }

    /// Takes the action that answered the event.
    pub fn answered(&mut self, event: &Value, action: Option<Value>) {
        if let Some(action) = action {
            self.last.insert(event["request"].as_u64().unwrap_or(0), action);
        }
    }
}

fn setting(choices: &mut Choices) -> Value {
    let mut s = Map::new();
    let mut set = |key: &str, value: Value| _ = s.insert(key.into(), value);
    let jitter = if choices.below(10) < 7 {
        "none"
    } else {
        choices.pick(&["spread", "full", "equal", "decorrelated", "proportional"])
    };
    set("jitter", json!(jitter));
    set("seed", json!(choices.below(1000)));
    if choices.one_in(4) {
        set("preset", json!("common"));
    }
    if choices.one_in(2) {
        set("unix_ms", json!(1_700_000_000_000_u64));
    }
    if choices.one_in(2) {
        set("base_ms", json!(choices.pick(&[100, 500, 1000, 2000])));
        set("factor", json!(choices.pick(&[1, 2, 3])));
        set("cap_ms", json!(choices.pick(&[2000, 5000, 60_000])));
    }
    if choices.one_in(3) {
        set("max_retries", json!(choices.pick(&[0, 1, 2, 3, 10])));
    }
    if choices.one_in(3) {
        set("max_recoveries", json!(choices.pick(&[0, 1, 2, 3])));
    }
    if choices.one_in(2) {
        set("max_server_wait_ms", json!(choices.pick(&[1000, 5000, 10_000, 20_000])));
    }
    if choices.one_in(3) {
        set("deadline_ms", json!(choices.pick(&[1000, 3000, 5000, 10_000, 30_000])));
    }
    if choices.one_in(2) {
        set("attempt_timeout_ms", json!(choices.pick(&[500, 1000, 2000, 5000])));
    }
    if choices.one_in(6) {
        set(
            "retry_statuses",
            choices.pick(&[json!([503]), json!([429, 503]), json!([404, 429, 500]), json!([500, 502, 503])]),
        );
    }
    if choices.one_in(6) {
        set("ambiguous_5xx", json!(choices.one_in(2)));
    }
    if choices.one_in(3) {
        set("reset", json!(choices.pick(&["auto", "unix", "delta"])));
    }
    // Without a setting the crate draws the spread of the gate; the model cannot know it.
    if jitter != "none" || choices.one_in(8) {
        set("gate_spread", json!(choices.pick(&[0, 500, 3000])));
    }
    match choices.below(6) {
        0 => set("budget", Value::Null),
        1 | 2 => set(
            "budget",
            json!({"capacity": choices.pick(&[5, 10, 20]), "retry_cost": choices.pick(&[1, 5]),
                   "throttle_cost": choices.pick(&[0, 0, 3]), "success_refund": choices.pick(&[0, 1, 3])}),
        ),
        _ => {}
    }
    if choices.below(5) < 2 {
        set("breaker", json!({"failures": choices.pick(&[1, 2, 3]), "open_ms": choices.pick(&[1000, 2000, 5000])}));
    }
    if choices.one_in(2) {
        set("refresh_timeout_ms", json!(choices.pick(&[500, 1000, 3000, 10_000])));
    }
    if choices.one_in(3) {
        set("token_expires_in_ms", json!(choices.pick(&[1000, 4000, 10_000, 40_000])));
        set("refresh_margin_ms", json!(choices.pick(&[500, 1000, 30_000])));
    }
    Value::Object(s)
}

/// Returns the instants that some request waits for.
fn interesting(last: &BTreeMap<u64, Value>) -> Vec<u64> {
    let ms = |action: &Value, key: &str| action[key].as_u64().filter(|ms| *ms < 1_000_000_000);
    last.values().flat_map(|a| [ms(a, "until_ms"), ms(a, "not_before_ms")]).flatten().collect()
}

fn next_time(choices: &mut Choices, now: u64, last: &BTreeMap<u64, Value>) -> u64 {
    let mut ahead: Vec<u64> = interesting(last).into_iter().filter(|t| *t >= now).collect();
    ahead.sort_unstable();
    ahead.dedup();
    match choices.below(12) {
        0..=2 => now,
        3 => now + 1,
        4 | 5 => now + choices.below(200),
        6 => now + choices.below(3000),
        7 => now.max(ahead.first().map_or(now, |t| t.saturating_sub(1))),
        8 if !ahead.is_empty() => choices.pick(&ahead),
        _ => ahead.first().copied().unwrap_or(now + 1000) + u64::from(choices.one_in(8)),
    }
}

fn event(choices: &mut Choices, at: u64, last: &BTreeMap<u64, Value>, unix_ms: Option<u64>) -> Value {
    let mut event = Map::new();
    event.insert("at_ms".into(), json!(at));
    let live: Vec<u64> = last
        .iter()
        .filter(|(_, a)| !matches!(a["action"].as_str(), Some("done" | "surface")))
        .map(|(id, _)| *id)
        .collect();
    let new = last.len() as u64;
    if last.is_empty() || (live.len() < 4 && new < 14 && choices.one_in(4)) || (live.is_empty() && new < 14) {
        event.insert("event".into(), json!("start"));
        event.insert("request".into(), json!(new));
        if choices.one_in(4) {
            event.insert("repeat".into(), json!("unsafe"));
        }
        return Value::Object(event);
    }
    match choices.below(60) {
        0 => {
            event.insert("event".into(), json!("token_replaced"));
            if choices.one_in(2) {
                event.insert("expires_in_ms".into(), json!(choices.pick(&[500, 5000, 60_000])));
            }
            return Value::Object(event);
        }
        1 => {
            event.insert("event".into(), json!("open_gate"));
            return Value::Object(event);
        }
        _ => {}
    }
    let all: Vec<u64> = last.keys().copied().collect();
    let request = if live.is_empty() || choices.one_in(12) { choices.pick(&all) } else { choices.pick(&live) };
    event.insert("request".into(), json!(request));
    let action = &last[&request];
    let sent = action["attempt"].as_u64().unwrap_or(0);
    let name = action["action"].as_str().unwrap_or_default();
    // Only the first action of a refresh names it. After that it is in flight like an attempt.
    let fitting = match name {
        "send" | "in_flight" => choices.pick(&["reply", "reply", "reply", "reply", "reply", "error", "tick", "token"]),
        "refresh_token" => choices.pick(&["token", "token", "token", "token", "tick", "tick", "reply"]),
        "wait" | "await_token" => choices.pick(&["tick", "tick", "tick", "tick", "tick", "tick", "tick", "late"]),
        _ => choices.pick(&["late", "token", "tick", "cancel", "error", "late"]),
    };
    let kind = match choices.below(20) {
        0 => choices.pick(&["tick", "late", "token", "error", "reply"]),
        1 if choices.one_in(2) => "cancel",
        _ => fitting,
    };
    match kind {
        "reply" | "late" => {
            event.insert("event".into(), json!("reply"));
            let late = kind == "late";
            if late && sent > 0 {
                event.insert("attempt".into(), json!(1 + choices.below(sent)));
            }
            if choices.one_in(60) {
                event.insert("attempt".into(), json!(choices.pick(&[0, sent + 1])));
            }
            reply(choices, &mut event, late, at, unix_ms);
        }
        "error" => {
            event.insert("event".into(), json!("transport_error"));
            event.insert("kind".into(), json!(choices.pick(&["not_sent", "timed_out", "broken", "other"])));
            if sent > 0 && choices.one_in(5) {
                event.insert("attempt".into(), json!(1 + choices.below(sent)));
            }
        }
        "token" => {
            event.insert("event".into(), json!("token"));
            let outcome = choices.pick(&[
                "refreshed",
                "refreshed",
                "refreshed",
                "unavailable",
                "unavailable",
                "refreshed",
                "refreshed",
                "unavailable",
                "rejected",
            ]);
            event.insert("outcome".into(), json!(outcome));
            if outcome == "refreshed" && choices.one_in(2) {
                event.insert("expires_in_ms".into(), json!(choices.pick(&[0, 1000, 4000, 60_000])));
            }
            if outcome == "unavailable" && choices.one_in(2) {
                event.insert("retry_after_ms".into(), json!(choices.pick(&[0, 500, 3000, 20_000])));
            }
        }
        other => _ = event.insert("event".into(), json!(other)),
    }
    Value::Object(event)
}

/// The fields that the reader knows.
const NAMES: [&str; 13] = [
    "Retry-After",
    "Date",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
];

fn reply(choices: &mut Choices, event: &mut Map<String, Value>, late: bool, at: u64, unix_ms: Option<u64>) {
    let statuses: &[u64] = if late {
        &[200, 204, 304, 400, 401, 403, 429, 429, 429, 500, 503, 503, 503, 503]
    } else {
        &[
            200, 201, 401, 401, 401, 401, 403, 429, 429, 429, 429, 500, 500, 500, 503, 503, 503, 503, 503, 503, 502,
            504, 408, 409, 404, 422, 302, 599,
        ]
    };
    let status = choices.pick(statuses);
    event.insert("status".into(), json!(status));
    let mut headers: Vec<Value> = Vec::new();
    if matches!(status, 403 | 408 | 429 | 500..=504) || choices.one_in(8) {
        for _ in 0..choices.pick(&[0, 1, 1, 1, 2, 3]) {
            header(choices, &mut headers, at, unix_ms);
        }
    }
    if status == 401 && choices.one_in(4) {
        headers.push(json!([
            "WWW-Authenticate",
            choices.pick(&[
                "Bearer error=\"invalid_token\"",
                "Bearer realm=\"x\", error=\"invalid_token\"",
                "Basic realm=\"Bearer error=insufficient_scope\"",
                "Bearer error=insufficient_scope",
                "Bearer error=\"invalid_token\", Bearer error=\"insufficient_scope\"",
                "Bearer error=\"token_revoked",
                "Bearer error=\"insufficient_claims\", claims=\"e30=\"",
                "Negotiate, Bearer error=nonsense",
            ])
        ]));
    }
    if !headers.is_empty() {
        event.insert("headers".into(), Value::Array(headers));
    }
    if !(200..400).contains(&status) && choices.one_in(3) {
        let body = choices.text().unwrap_or_else(|| {
            choices
                .pick(&[
                    r#"{"error":"rate_limit_exceeded","message":"slow down"}"#,
                    r#"{"error":"invalid_token","message":"expired"}"#,
                    r#"{"error":"internal"}"#,
                    r#"{"message":"only words"}"#,
                    r#"{"error":7}"#,
                    "<html>",
                    "",
                    r#"{"error":"a","error":"b"}"#,
                    r#"{"error":"insufficient_scope","message":"m"}"#,
                ])
                .to_string()
        });
        event.insert("body".into(), json!(body));
    }
}

fn header(choices: &mut Choices, headers: &mut Vec<Value>, at: u64, unix_ms: Option<u64>) {
    if let Some(text) = choices.text() {
        headers.push(json!([choices.pick(&NAMES), text]));
        return;
    }
    let small = choices.pick(&["0", "1", "2", "3", "5", "10", "20", "30", "301"]);
    match choices.below(14) {
        0..=4 => headers.push(json!(["Retry-After", small])),
        5 => headers.push(json!(["retry-after-ms", choices.pick(&["0", "1", "250", "999", "1500", "5000", "1.5"])])),
        6 => headers.push(json!(["x-ms-retry-after-ms", choices.pick(&["0", "700", "4000"])])),
        7 => headers.push(json!([
            "Retry-After",
            choices.pick(&["soon", "-3", "1e3", "", "120, 60", " 4\t", "99999999999999999999999", "99999"])
        ])),
        8 => {
            headers.push(json!([
                "Retry-After",
                choices.pick(&[
                    "Tue, 14 Nov 2023 22:13:30 GMT",
                    "Tuesday, 14-Nov-23 22:13:24 GMT",
                    "Tue Nov 14 22:13:22 2023"
                ])
            ]));
            if choices.one_in(2) {
                headers.push(json!([
                    "Date",
                    choices.pick(&["Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:27 GMT"])
                ]));
            }
        }
        9 | 10 => {
            let prefix = choices.pick(&["X-RateLimit-", "RateLimit-"]);
            headers.push(json!([format!("{prefix}Remaining"), choices.pick(&["0", "0", "0", "9"])]));
            let now = unix_ms.unwrap_or(1_700_000_000_000) + at;
            let reset = match choices.below(4) {
                0 => (now / 1000 + choices.below(10)).to_string(),
                1 => (now + choices.below(10_000)).to_string(),
                _ => small.to_string(),
            };
            headers.push(json!([format!("{prefix}Reset"), reset]));
            if choices.one_in(2) {
                headers.push(json!([format!("{prefix}Limit"), "60"]));
            }
        }
        11 | 12 => headers.push(json!([
            "RateLimit",
            choices.pick(&[
                "\"default\";r=0;t=4",
                "\"a\";r=0;t=2, \"b\";r=0;t=6",
                "\"a\";r=5;t=9",
                "a;r=0;t=3;pk=:QUI=:",
                "\"a\";r=0;t=-1, \"b\";r=0;t=2",
                "limit=10, remaining=0, reset=5",
            ])
        ])),
        _ => headers
            .push(json!(["RateLimit-Policy", choices.pick(&["\"default\";q=100;w=60", "100;w=60", "\"a\";q=1,"])])),
    }
}
