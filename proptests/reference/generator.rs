//! Makes random but plausible traces.
//!
//! The times are those where mistakes live: exactly at the end of a wait, a limit or a lease, one
//! millisecond before and after, twice at once, now and then backwards. Most events answer the last
//! action of their request; some are late, doubled or out of place.
//!
//! What is chosen comes from a seed, or from bytes that a fuzzer makes up.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

enum Dice<'a> {
    /// xorshift64*, seeded through one multiplication.
    Seeded(u64),
    /// A byte for each roll, two for dice of many sides; zeros when there are no more.
    #[allow(dead_code, reason = "not every test that has the generator has bytes")]
    Bytes(&'a [u8]),
}

impl Dice<'_> {
    fn roll(&mut self, sides: u64) -> u64 {
        match self {
            Dice::Seeded(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
            }
            Dice::Bytes(bytes) => {
                let length = if sides <= 256 { 1 } else { 2 };
                let (now, rest) = bytes.split_at(length.min(bytes.len()));
                *bytes = rest;
                now.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) % sides
            }
        }
    }

    /// Now and then what stands in the bytes, as it stands there.
    fn text(&mut self) -> Option<String> {
        if matches!(self, Dice::Seeded(_)) || !self.one_in(6) {
            return None;
        }
        let length = usize::try_from(self.roll(64)).expect("a small length");
        let Dice::Bytes(bytes) = self else { return None };
        let (text, rest) = bytes.split_at(length.min(bytes.len()));
        *bytes = rest;
        Some(text.iter().copied().map(char::from).collect())
    }

    fn are_used_up(&self) -> bool {
        matches!(self, Dice::Bytes([]))
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).expect("a small list")].clone()
    }
}

/// A trace in the making: what comes next depends on what the requests were last told to do.
pub struct Generator<'a> {
    dice: Dice<'a>,
    pub setting: Value,
    last: BTreeMap<u64, Value>,
    now: u64,
    left: u64,
}

impl<'a> Generator<'a> {
    /// The same for the same seed and the same answers.
    pub fn new(seed: u64) -> Generator<'a> {
        let mut dice = Dice::Seeded((seed.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.roll(2);
        }
        let setting = setting(&mut dice);
        let left = 10 + dice.roll(51);
        Generator { dice, setting, last: BTreeMap::new(), now: 0, left }
    }

    /// The trace ends with the bytes, or after a hundred events.
    #[allow(dead_code, reason = "not every test that has the generator has bytes")]
    pub fn from_bytes(bytes: &'a [u8]) -> Generator<'a> {
        let mut dice = Dice::Bytes(bytes);
        let setting = setting(&mut dice);
        Generator { dice, setting, last: BTreeMap::new(), now: 0, left: 100 }
    }

    /// The next event, until there are enough or nothing is left to choose by.
    pub fn next_event(&mut self) -> Option<Value> {
        if self.dice.are_used_up() {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.now = next_time(&mut self.dice, self.now, &self.last);
        let backwards = self.dice.one_in(25);
        let at = if backwards { self.now.saturating_sub(self.dice.roll(3000)) } else { self.now };
        let unix_ms = self.setting["unix_ms"].as_u64();
        Some(event(&mut self.dice, at, &self.last, unix_ms))
    }

    /// How the event was answered.
    pub fn answered(&mut self, event: &Value, action: Option<Value>) {
        if let Some(action) = action {
            self.last.insert(event["request"].as_u64().unwrap_or(0), action);
        }
    }
}

fn setting(dice: &mut Dice) -> Value {
    let mut s = Map::new();
    let mut set = |key: &str, value: Value| _ = s.insert(key.into(), value);
    let jitter = if dice.roll(10) < 7 {
        "none"
    } else {
        dice.pick(&["spread", "full", "equal", "decorrelated", "proportional"])
    };
    set("jitter", json!(jitter));
    set("seed", json!(dice.roll(1000)));
    if dice.one_in(4) {
        set("preset", json!("common"));
    }
    if dice.one_in(2) {
        set("unix_ms", json!(1_700_000_000_000_u64));
    }
    if dice.one_in(2) {
        set("base_ms", json!(dice.pick(&[100, 500, 1000, 2000])));
        set("factor", json!(dice.pick(&[1, 2, 3])));
        set("cap_ms", json!(dice.pick(&[2000, 5000, 60_000])));
    }
    if dice.one_in(3) {
        set("max_retries", json!(dice.pick(&[0, 1, 2, 3, 10])));
    }
    if dice.one_in(3) {
        set("max_recoveries", json!(dice.pick(&[0, 1, 2, 3])));
    }
    if dice.one_in(2) {
        set("max_server_wait_ms", json!(dice.pick(&[1000, 5000, 10_000, 20_000])));
    }
    if dice.one_in(3) {
        set("deadline_ms", json!(dice.pick(&[1000, 3000, 5000, 10_000, 30_000])));
    }
    if dice.one_in(2) {
        set("attempt_timeout_ms", json!(dice.pick(&[500, 1000, 2000, 5000])));
    }
    if dice.one_in(6) {
        set(
            "retry_statuses",
            dice.pick(&[json!([503]), json!([429, 503]), json!([404, 429, 500]), json!([500, 502, 503])]),
        );
    }
    if dice.one_in(6) {
        set("ambiguous_5xx", json!(dice.one_in(2)));
    }
    if dice.one_in(3) {
        set("reset", json!(dice.pick(&["auto", "unix", "delta"])));
    }
    // The policy's own rule draws when the gate opens, which nobody else can know.
    if jitter != "none" || dice.one_in(8) {
        set("gate_spread", json!(dice.pick(&[0, 500, 3000])));
    }
    match dice.roll(6) {
        0 => set("budget", Value::Null),
        1 | 2 => set(
            "budget",
            json!({"capacity": dice.pick(&[5, 10, 20]), "retry_cost": dice.pick(&[1, 5]),
                   "throttle_cost": dice.pick(&[0, 0, 3]), "success_refund": dice.pick(&[0, 1, 3])}),
        ),
        _ => {}
    }
    if dice.roll(5) < 2 {
        set("breaker", json!({"failures": dice.pick(&[1, 2, 3]), "open_ms": dice.pick(&[1000, 2000, 5000])}));
    }
    if dice.one_in(2) {
        set("refresh_timeout_ms", json!(dice.pick(&[500, 1000, 3000, 10_000])));
    }
    if dice.one_in(3) {
        set("token_expires_in_ms", json!(dice.pick(&[1000, 4000, 10_000, 40_000])));
        set("refresh_margin_ms", json!(dice.pick(&[500, 1000, 30_000])));
    }
    Value::Object(s)
}

/// The instants that some request waits for.
fn interesting(last: &BTreeMap<u64, Value>) -> Vec<u64> {
    let ms = |action: &Value, key: &str| action[key].as_u64().filter(|ms| *ms < 1_000_000_000);
    last.values().flat_map(|a| [ms(a, "until_ms"), ms(a, "not_before_ms")]).flatten().collect()
}

fn next_time(dice: &mut Dice, now: u64, last: &BTreeMap<u64, Value>) -> u64 {
    let mut ahead: Vec<u64> = interesting(last).into_iter().filter(|t| *t >= now).collect();
    ahead.sort_unstable();
    ahead.dedup();
    match dice.roll(12) {
        0..=2 => now,
        3 => now + 1,
        4 | 5 => now + dice.roll(200),
        6 => now + dice.roll(3000),
        7 => now.max(ahead.first().map_or(now, |t| t.saturating_sub(1))),
        8 if !ahead.is_empty() => dice.pick(&ahead),
        _ => ahead.first().copied().unwrap_or(now + 1000) + u64::from(dice.one_in(8)),
    }
}

fn event(dice: &mut Dice, at: u64, last: &BTreeMap<u64, Value>, unix_ms: Option<u64>) -> Value {
    let mut event = Map::new();
    event.insert("at_ms".into(), json!(at));
    let live: Vec<u64> = last
        .iter()
        .filter(|(_, a)| !matches!(a["action"].as_str(), Some("done" | "surface")))
        .map(|(id, _)| *id)
        .collect();
    let new = last.len() as u64;
    if last.is_empty() || (live.len() < 4 && new < 14 && dice.one_in(4)) || (live.is_empty() && new < 14) {
        event.insert("event".into(), json!("start"));
        event.insert("request".into(), json!(new));
        if dice.one_in(4) {
            event.insert("repeat".into(), json!("unsafe"));
        }
        return Value::Object(event);
    }
    match dice.roll(60) {
        0 => {
            event.insert("event".into(), json!("token_replaced"));
            if dice.one_in(2) {
                event.insert("expires_in_ms".into(), json!(dice.pick(&[500, 5000, 60_000])));
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
    let request = if live.is_empty() || dice.one_in(12) { dice.pick(&all) } else { dice.pick(&live) };
    event.insert("request".into(), json!(request));
    let action = &last[&request];
    let sent = action["attempt"].as_u64().unwrap_or(0);
    let name = action["action"].as_str().unwrap_or_default();
    // a refresh says so only once: afterwards it is in flight like an attempt
    let fitting = match name {
        "send" | "in_flight" => dice.pick(&["reply", "reply", "reply", "reply", "reply", "error", "tick", "token"]),
        "refresh_token" => dice.pick(&["token", "token", "token", "token", "tick", "tick", "reply"]),
        "wait" | "await_token" => dice.pick(&["tick", "tick", "tick", "tick", "tick", "tick", "tick", "late"]),
        _ => dice.pick(&["late", "token", "tick", "cancel", "error", "late"]),
    };
    let kind = match dice.roll(20) {
        0 => dice.pick(&["tick", "late", "token", "error", "reply"]),
        1 if dice.one_in(2) => "cancel",
        _ => fitting,
    };
    match kind {
        "reply" | "late" => {
            event.insert("event".into(), json!("reply"));
            let late = kind == "late";
            if late && sent > 0 {
                event.insert("attempt".into(), json!(1 + dice.roll(sent)));
            }
            if dice.one_in(60) {
                event.insert("attempt".into(), json!(dice.pick(&[0, sent + 1])));
            }
            reply(dice, &mut event, late, at, unix_ms);
        }
        "error" => {
            event.insert("event".into(), json!("transport_error"));
            event.insert("kind".into(), json!(dice.pick(&["not_sent", "timed_out", "broken", "other"])));
            if sent > 0 && dice.one_in(5) {
                event.insert("attempt".into(), json!(1 + dice.roll(sent)));
            }
        }
        "token" => {
            event.insert("event".into(), json!("token"));
            let outcome = dice.pick(&[
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
            if outcome == "refreshed" && dice.one_in(2) {
                event.insert("expires_in_ms".into(), json!(dice.pick(&[0, 1000, 4000, 60_000])));
            }
            if outcome == "unavailable" && dice.one_in(2) {
                event.insert("retry_after_ms".into(), json!(dice.pick(&[0, 500, 3000, 20_000])));
            }
        }
        other => _ = event.insert("event".into(), json!(other)),
    }
    Value::Object(event)
}

/// The fields that are read.
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

fn reply(dice: &mut Dice, event: &mut Map<String, Value>, late: bool, at: u64, unix_ms: Option<u64>) {
    let statuses: &[u64] = if late {
        &[200, 204, 304, 400, 401, 403, 429, 429, 429, 500, 503, 503, 503, 503]
    } else {
        &[
            200, 201, 401, 401, 401, 401, 403, 429, 429, 429, 429, 500, 500, 500, 503, 503, 503, 503, 503, 503, 502,
            504, 408, 409, 404, 422, 302, 599,
        ]
    };
    let status = dice.pick(statuses);
    event.insert("status".into(), json!(status));
    let mut headers: Vec<Value> = Vec::new();
    if matches!(status, 403 | 408 | 429 | 500..=504) || dice.one_in(8) {
        for _ in 0..dice.pick(&[0, 1, 1, 1, 2, 3]) {
            header(dice, &mut headers, at, unix_ms);
        }
    }
    if status == 401 && dice.one_in(4) {
        headers.push(json!([
            "WWW-Authenticate",
            dice.pick(&[
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
    if !(200..400).contains(&status) && dice.one_in(3) {
        let body = dice.text().unwrap_or_else(|| {
            dice.pick(&[
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

fn header(dice: &mut Dice, headers: &mut Vec<Value>, at: u64, unix_ms: Option<u64>) {
    if let Some(text) = dice.text() {
        headers.push(json!([dice.pick(&NAMES), text]));
        return;
    }
    let small = dice.pick(&["0", "1", "2", "3", "5", "10", "20", "30", "301"]);
    match dice.roll(14) {
        0..=4 => headers.push(json!(["Retry-After", small])),
        5 => headers.push(json!(["retry-after-ms", dice.pick(&["0", "1", "250", "999", "1500", "5000", "1.5"])])),
        6 => headers.push(json!(["x-ms-retry-after-ms", dice.pick(&["0", "700", "4000"])])),
        7 => headers.push(json!([
            "Retry-After",
            dice.pick(&["soon", "-3", "1e3", "", "120, 60", " 4\t", "99999999999999999999999", "99999"])
        ])),
        8 => {
            headers.push(json!([
                "Retry-After",
                dice.pick(&[
                    "Tue, 14 Nov 2023 22:13:30 GMT",
                    "Tuesday, 14-Nov-23 22:13:24 GMT",
                    "Tue Nov 14 22:13:22 2023"
                ])
            ]));
            if dice.one_in(2) {
                headers.push(json!([
                    "Date",
                    dice.pick(&["Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:27 GMT"])
                ]));
            }
        }
        9 | 10 => {
            let prefix = dice.pick(&["X-RateLimit-", "RateLimit-"]);
            headers.push(json!([format!("{prefix}Remaining"), dice.pick(&["0", "0", "0", "9"])]));
            let now = unix_ms.unwrap_or(1_700_000_000_000) + at;
            let reset = match dice.roll(4) {
                0 => (now / 1000 + dice.roll(10)).to_string(),
                1 => (now + dice.roll(10_000)).to_string(),
                _ => small.to_string(),
            };
            headers.push(json!([format!("{prefix}Reset"), reset]));
            if dice.one_in(2) {
                headers.push(json!([format!("{prefix}Limit"), "60"]));
            }
        }
        11 | 12 => headers.push(json!([
            "RateLimit",
            dice.pick(&[
                "\"default\";r=0;t=4",
                "\"a\";r=0;t=2, \"b\";r=0;t=6",
                "\"a\";r=5;t=9",
                "a;r=0;t=3;pk=:QUI=:",
                "\"a\";r=0;t=-1, \"b\";r=0;t=2",
                "limit=10, remaining=0, reset=5",
            ])
        ])),
        _ => {
            headers.push(json!(["RateLimit-Policy", dice.pick(&["\"default\";q=100;w=60", "100;w=60", "\"a\";q=1,"])]))
        }
    }
}
