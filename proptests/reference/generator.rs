//! Makes random but plausible traces.
//!
//! It prefers the times at which mistakes show: the end of a wait, a limit or a lease, one
//! millisecond before and after, the same instant twice, sometimes an earlier one. Most events answer
//! the last action of their request; some are late, doubled or out of place.
//!
//! The choices come from a seed, or from the bytes of a fuzzer.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

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
    refreshes: Refreshes,
    now: u64,
    left: u64,
    theme: Theme,
}

/// The subject of a trace.
#[derive(Clone, Copy)]
struct Theme {
    crowd: Crowd,
    /// Many 401s, refreshes and new tokens.
    tokens: bool,
    /// Most refreshes hang.
    hanging: bool,
    /// The number of logins and of gates (S8).
    logins: u64,
    gates: u64,
}

impl Theme {
    fn pick(choices: &mut Choices) -> Theme {
        let crowd = Crowd::pick(choices);
        let tokens = choices.one_in(if crowd == Crowd::Few { 2 } else { 5 });
        Theme {
            crowd,
            tokens,
            hanging: tokens && choices.one_in(5),
            logins: choices.pick(&[1, 1, 2, 3]),
            gates: choices.pick(&[1, 1, 1, 2, 3]),
        }
    }
}

/// The refreshes and tokens that the trace has shown.
#[derive(Default)]
struct Refreshes {
    /// The requests that lead.
    leading: BTreeSet<u64>,
    /// The highest number of a lease.
    newest: u64,
    /// When something happens to a token: it is no longer young, it is due, it has expired.
    moments: Vec<u64>,
}

impl Refreshes {
    fn new(setting: &Value) -> Refreshes {
        let mut refreshes = Refreshes::default();
        refreshes.new_token(0, &setting["token_expires_in_ms"], setting);
        refreshes.forget_others(0);
        refreshes
    }

    /// K7, K10.
    fn new_token(&mut self, at: u64, lifetime: &Value, setting: &Value) {
        let lifetime = lifetime.as_u64().unwrap_or(0);
        let margin = setting["refresh_margin_ms"].as_u64().unwrap_or(30_000);
        let margin = if lifetime > 0 { margin.min(lifetime / 2) } else { margin };
        let expiry = at.saturating_add(lifetime);
        let due = expiry - margin.min(lifetime);
        self.moments.extend([at + margin, due, due, due + (expiry - due) / 2, expiry]);
    }

    /// Keeps the moments that are soon.
    fn forget_others(&mut self, at: u64) {
        self.moments.retain(|t| (at..at.saturating_add(1_000_000)).contains(t));
    }

    /// Takes an event and its action.
    fn answered(&mut self, event: &Value, action: Option<&Value>, setting: &Value) {
        let at = event["at_ms"].as_u64().unwrap_or(0);
        match (event["event"].as_str(), event["outcome"].as_str()) {
            (Some("token_replaced"), _) | (Some("token"), Some("refreshed")) => {
                self.new_token(at, &event["expires_in_ms"], setting);
            }
            (Some("token"), Some("unavailable")) => {
                // K6, K7
                let longest = setting["max_server_wait_ms"].as_u64().unwrap_or(300_000);
                let retry_after = event["retry_after_ms"].as_u64().unwrap_or(0);
                let halves = self.moments.iter().filter(|t| **t > at).map(|t| at + (t - at) / 2);
                let halves: Vec<u64> = halves.collect();
                self.moments.extend(halves);
                self.moments.push(at.saturating_add(retry_after.min(longest)));
            }
            _ => {}
        }
        self.forget_others(at);
        if let Some(action) = action {
            let request = action["request"].as_u64().unwrap_or(0);
            match action["action"].as_str() {
                Some("refresh_token") => _ = self.leading.insert(request),
                Some("in_flight") => {}
                _ => _ = self.leading.remove(&request),
            }
            self.newest = self.newest.max(action["lease"].as_u64().unwrap_or(0));
        }
    }
}

/// Number of requests that meet at the gate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Few,
    /// Most of their replies are good or throttles.
    Many,
    /// The same for a long time, and with fewer throttles, so that the pace is measured while they queue.
    Steady,
}

impl Crowd {
    fn pick(choices: &mut Choices) -> Crowd {
        choices.pick(&[Crowd::Few, Crowd::Few, Crowd::Few, Crowd::Few, Crowd::Many, Crowd::Many, Crowd::Steady])
    }

    /// Returns the number of events.
    fn events(self, choices: &mut Choices) -> u64 {
        match self {
            Crowd::Few => 10 + choices.below(51),
            Crowd::Many => 40 + choices.below(120),
            Crowd::Steady => 100 + choices.below(300),
        }
    }
}

impl<'a> Generator<'a> {
    /// Begins a trace from a seed. The same seed and the same actions give the same trace.
    pub fn new(seed: u64) -> Generator<'a> {
        let mut choices = Choices::Seeded((seed.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            choices.below(2);
        }
        let theme = Theme::pick(&mut choices);
        let setting = setting(&mut choices, theme);
        let left = theme.crowd.events(&mut choices);
        let refreshes = Refreshes::new(&setting);
        Generator { choices, setting, last: BTreeMap::new(), refreshes, now: 0, left, theme }
    }

    /// Begins a trace from bytes. It ends with the bytes, or after a hundred events.
    #[allow(dead_code, reason = "only fuzzing has bytes")]
    pub fn from_bytes(bytes: &'a [u8]) -> Generator<'a> {
        let mut choices = Choices::Bytes(bytes);
        let theme = Theme::pick(&mut choices);
        let setting = setting(&mut choices, theme);
        let refreshes = Refreshes::new(&setting);
        Generator { choices, setting, last: BTreeMap::new(), refreshes, now: 0, left: 100, theme }
    }

    /// Returns the next event, if the trace goes on.
    pub fn next_event(&mut self) -> Option<Value> {
        if self.choices.are_used_up() {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let moments: Vec<u64> = self.refreshes.moments.iter().copied().filter(|t| *t >= self.now).collect();
        self.now = if !moments.is_empty() && self.choices.one_in(if self.theme.tokens { 6 } else { 40 }) {
            (self.choices.pick(&moments) + self.choices.below(4)).saturating_sub(1)
        } else {
            next_time(&mut self.choices, self.now, &self.last, self.theme.crowd)
        };
        let backwards = self.choices.one_in(25);
        let at = if backwards { self.now.saturating_sub(self.choices.below(3000)) } else { self.now };
        Some(event(&mut self.choices, at, &self.last, &self.refreshes, &self.setting, self.theme))
    }

    /// Takes the action that answered the event.
    pub fn answered(&mut self, event: &Value, action: Option<Value>) {
        self.refreshes.answered(event, action.as_ref(), &self.setting);
        if let Some(action) = action {
            self.last.insert(event["request"].as_u64().unwrap_or(0), action);
        }
    }
}

fn setting(choices: &mut Choices, theme: Theme) -> Value {
    let mut s = Map::new();
    let mut set = |key: &str, value: Value| _ = s.insert(key.into(), value);
    let jitter = if choices.below(10) < 7 {
        json!("none")
    } else {
        choices.pick(&[
            json!("spread"),
            json!("above"),
            json!("full"),
            json!("equal"),
            json!("decorrelated"),
            json!("proportional"),
            json!({"band": [250, 0]}),
            json!({"band": [200, 200]}),
            json!({"band": [0, 700]}),
        ])
    };
    set("jitter", jitter);
    set("seed", json!(choices.below(1000)));
    if choices.one_in(4) {
        set("preset", json!("common"));
    }
    if choices.one_in(2) {
        set("unix_ms", json!(1_700_000_000_000_u64));
    }
    if choices.one_in(2) {
        set("base_ms", json!(choices.pick(&[100, 500, 1000, 2000])));
        set("factor", choices.pick(&[json!(1), json!(2), json!(3), json!([16, 10]), json!([13, 10]), json!([7, 7])]));
        set("cap_ms", json!(choices.pick(&[2000, 5000, 60_000])));
    }
    if choices.one_in(4) {
        set(
            "throttled",
            choices.pick(&[
                Value::Null,
                json!({"base_ms": 3000, "factor": 2, "cap_ms": 10_000}),
                json!({"base_ms": 60_000, "factor": 2, "cap_ms": 3_600_000}),
                json!({"base_ms": 700, "factor": [15, 10], "cap_ms": 1000}),
                json!({"base_ms": 0, "factor": 1, "cap_ms": 1000}),
            ]),
        );
    }
    if choices.one_in(4) {
        set("throttle_retries", choices.pick(&[Value::Null, json!(0), json!(1), json!(2), json!(10)]));
    }
    if choices.one_in(3) {
        set("max_retries", json!(choices.pick(&[0, 1, 2, 3, 10])));
    }
    if choices.one_in(3) {
        set("max_recoveries", json!(choices.pick(&[0, 1, 2, 3])));
    }
    if choices.one_in(2) {
        set("max_server_wait_ms", json!(choices.pick(&[1000, 5000, 10_000, 20_000, 0, 1, 3_600_000, u64::MAX])));
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
    if choices.one_in(3) {
        let entries: Vec<Value> = (0..1 + choices.below(3)).map(|_| on(choices)).collect();
        set("on", Value::Array(entries));
    }
    if choices.one_in(2) {
        set("fields", dialect(choices));
    }
    if choices.one_in(3) {
        set("refresh_on_insufficient", json!(choices.one_in(2)));
    }
    if choices.one_in(6) {
        set("ambiguous_5xx", json!(choices.one_in(2)));
    }
    if choices.one_in(3) {
        set("reset", json!(choices.pick(&["auto", "unix", "delta"])));
    }
    if choices.one_in(8) {
        set("gate", json!(choices.one_in(4)));
    }
    match choices.below(6) {
        0 => set("budget", Value::Null),
        1..=3 => {
            let mut budget = Map::new();
            let all: [(&str, &[Value]); 8] = [
                ("capacity", &[json!(5), json!(10), json!(20)]),
                ("retry_cost", &[json!(1), json!(5)]),
                ("throttle_cost", &[json!(0), json!(0), json!(3)]),
                ("success_refund", &[json!(0), json!(1), json!(3)]),
                ("floor", &[json!(0), json!(3), json!(5)]),
                ("charge", &[json!("retry"), json!("failure")]),
                ("refund", &[json!("fixed"), json!("last_cost"), json!("paid")]),
                ("refill_ms", &[json!(0), json!(700), json!(5000), json!(60_000)]),
            ];
            for (key, values) in all {
                if !choices.one_in(4) {
                    budget.insert(key.into(), choices.pick(values));
                }
            }
            set("budget", Value::Object(budget));
        }
        _ => {}
    }
    match choices.below(5) {
        0 | 1 => set(
            "breaker",
            json!({"failures": choices.pick(&[1, 2, 3]), "open_ms": choices.pick(&[1000, 2000, 5000, 0, 1, 100])}),
        ),
        2 => set("breaker", Value::Null),
        _ => {}
    }
    if choices.one_in(2) {
        set("refresh_timeout_ms", json!(choices.pick(&[500, 1000, 3000, 10_000])));
    }
    if choices.one_in(3) {
        set("token_expires_in_ms", json!(choices.pick(&[1000, 4000, 10_000, 40_000, 0])));
        set("refresh_margin_ms", json!(choices.pick(&[500, 1000, 30_000])));
    }
    if theme.tokens || choices.one_in(4) {
        s.insert("young_token".into(), json!(choices.pick(&["refresh", "surface", "surface", "retry", "retry"])));
    }
    if choices.one_in(16) {
        s.insert("token".into(), json!(choices.one_in(6)));
    }
    if theme.crowd != Crowd::Few {
        let_many_meet(choices, &mut s);
    }
    if theme.tokens {
        let_tokens_matter(choices, &mut s);
    }
    Value::Object(s)
}

/// Keeps requests from ending before they get a 401, or a new token.
fn let_tokens_matter(choices: &mut Choices, s: &mut Map<String, Value>) {
    for key in ["deadline_ms", "breaker", "on", "max_retries", "budget"] {
        if !choices.one_in(4) {
            s.remove(key);
        }
    }
    if choices.one_in(3) {
        s.insert("breaker".into(), Value::Null);
    }
    if choices.one_in(2) {
        s.insert("max_recoveries".into(), json!(choices.pick(&[1, 2, 3, 10])));
    }
    if choices.one_in(8) {
        s.insert("token".into(), json!(false));
    }
    if choices.one_in(2) {
        let lifetime = choices.pick(&[0, 1, 1000, 4000, 10_000, 40_000, 3_600_000, u64::MAX]);
        s.insert("token_expires_in_ms".into(), json!(lifetime));
    }
    if choices.one_in(3) {
        s.insert("refresh_margin_ms".into(), json!(choices.pick(&[0, 1, 500, 2000, 30_000, 3_600_000])));
    }
}

/// Keeps requests from ending before they meet at the gate.
fn let_many_meet(choices: &mut Choices, s: &mut Map<String, Value>) {
    let mut rarely = |key: &str| {
        if !choices.one_in(6) {
            s.remove(key);
        }
    };
    for key in ["retry_statuses", "on", "fields", "token_expires_in_ms", "max_retries", "gate", "budget"] {
        rarely(key);
    }
    for key in ["deadline_ms", "attempt_timeout_ms", "breaker"] {
        rarely(key);
    }
    if choices.one_in(2) {
        s.insert("budget".into(), Value::Null);
    }
    if choices.one_in(6) {
        s.insert("deadline_ms".into(), json!(choices.pick(&[20_000, 60_000, 200_000])));
    }
    s.remove("max_server_wait_ms");
    if choices.one_in(3) {
        let longest = choices.pick(&[1, 3000, 30_000, 30_000, 120_000, 3_600_000, u64::MAX]);
        s.insert("max_server_wait_ms".into(), json!(longest));
    }
}

/// D11.
fn on(choices: &mut Choices) -> Value {
    let statuses = choices.pick(&[
        json!(403),
        json!(404),
        json!(408),
        json!(429),
        json!(429),
        json!(503),
        json!(503),
        json!("500-599"),
        json!("502-504"),
        json!("402-499"),
    ]);
    let meanings = ["surface", "retry", "retry_if_safe", "throttle"];
    let first = choices.pick(&meanings);
    if choices.one_in(3) { json!([statuses, first]) } else { json!([statuses, first, choices.pick(&meanings)]) }
}

/// H11.
fn dialect(choices: &mut Choices) -> Value {
    let mut fields: Vec<Value> = Vec::new();
    for (name, meanings) in DIALECT {
        if !choices.one_in(3) {
            let meaning = choices.pick(meanings);
            fields.push(json!([name, serde_json::from_str::<Value>(meaning).expect("JSON")]));
        }
    }
    if choices.one_in(4) {
        // A well-known name with another meaning.
        let other = choices.pick(&[
            json!(["Retry-After", {"wait": "ms"}]),
            json!(["retry-after-ms", {"pushback": "s"}]),
            json!(["X-RateLimit-Reset", {"wait": "unix"}]),
            json!(["X-RateLimit-Remaining", "limit"]),
            json!(["RateLimit-Remaining", "used_of_limit"]),
        ]);
        fields.push(other);
    }
    Value::Array(fields)
}

/// The names that a dialect may have, and their possible meanings.
const DIALECT: [(&str, &[&str]); 9] = [
    ("x-should-retry", &["\"verdict\""]),
    ("stripe-should-retry", &["\"verdict\""]),
    ("x-own-wait", &[r#"{"wait":"s"}"#, r#"{"wait":"ms"}"#, r#"{"wait":"unix_ms"}"#, r#"{"wait":"duration"}"#]),
    ("grpc-retry-pushback-ms", &[r#"{"pushback":"ms"}"#, r#"{"pushback":"ms"}"#, r#"{"pushback":"s"}"#]),
    ("x-come-back", &[r#"{"pushback":"duration"}"#, r#"{"pushback":"unix"}"#, r#"{"pushback":"rfc3339"}"#]),
    (
        "x-own-reset",
        &[
            r#"{"reset":"s"}"#,
            r#"{"reset":"ms"}"#,
            r#"{"reset":"unix"}"#,
            r#"{"reset":"duration"}"#,
            r#"{"reset":"rfc3339"}"#,
        ],
    ),
    ("x-own-remaining", &["\"remaining\""]),
    ("x-own-limit", &["\"limit\""]),
    ("x-shop-limit", &["\"used_of_limit\""]),
];

/// Returns the instants that some request waits for.
fn interesting(last: &BTreeMap<u64, Value>) -> Vec<u64> {
    let ms = |action: &Value, key: &str| action[key].as_u64().filter(|ms| *ms < 1_000_000_000);
    last.values().flat_map(|a| [ms(a, "until_ms"), ms(a, "not_before_ms")]).flatten().collect()
}

fn next_time(choices: &mut Choices, now: u64, last: &BTreeMap<u64, Value>, crowd: Crowd) -> u64 {
    let mut ahead: Vec<u64> = interesting(last).into_iter().filter(|t| *t >= now).collect();
    ahead.sort_unstable();
    ahead.dedup();
    let first = ahead.first().copied().unwrap_or(now);
    if crowd == Crowd::Steady && !choices.one_in(40) {
        return match choices.below(9) {
            0..=2 => now,
            3 | 4 => now + choices.below(300),
            5 => now + choices.below(2000),
            6 => first + choices.below(20),
            _ => first,
        };
    }
    if crowd != Crowd::Few {
        match choices.below(40) {
            0 => return now + 29_000 + choices.below(4000),
            1 => return now + 31_000 + choices.below(60_000),
            2 if choices.one_in(2) => return now + 119_000 + choices.below(400_000),
            3..=5 => return first + choices.below(5000),
            6..=12 => return now + choices.below(400),
            13..=18 => return first,
            19 => return now + choices.below(9000),
            20..=28 => return now,
            _ => {}
        }
    }
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

fn event(
    choices: &mut Choices,
    at: u64,
    last: &BTreeMap<u64, Value>,
    refreshes: &Refreshes,
    setting: &Value,
    theme: Theme,
) -> Value {
    let crowd = theme.crowd;
    let mut event = Map::new();
    event.insert("at_ms".into(), json!(at));
    let live: Vec<u64> = last
        .iter()
        .filter(|(_, a)| !matches!(a["action"].as_str(), Some("done" | "surface")))
        .map(|(id, _)| *id)
        .collect();
    let new = last.len() as u64;
    let (at_once, most) = match crowd {
        Crowd::Few if theme.tokens => (6, 30),
        Crowd::Few => (4, 14),
        _ => (10, 200),
    };
    if last.is_empty() || (live.len() < at_once && new < most && choices.one_in(4)) || (live.is_empty() && new < most) {
        event.insert("event".into(), json!("start"));
        event.insert("request".into(), json!(new));
        if choices.one_in(4) {
            event.insert("repeat".into(), json!("unsafe"));
        }
        part(choices, &mut event, "login", theme.logins);
        part(choices, &mut event, "gate", theme.gates);
        // D17
        if choices.one_in(6) {
            event.insert("deadline_ms".into(), json!(choices.pick(&[0, 700, 2000, 8000, 60_000, 20_000])));
        }
        if choices.one_in(6) {
            event.insert("max_retries".into(), json!(choices.pick(&[0, 1, 2, 3, 20])));
        }
        if choices.one_in(6) {
            event.insert("attempt_timeout_ms".into(), json!(choices.pick(&[0, 300, 1000, 3000])));
        }
        return Value::Object(event);
    }
    match choices.below(60) {
        n if n == 0 || (theme.tokens && n >= 58) => {
            event.insert("event".into(), json!("token_replaced"));
            part(choices, &mut event, "login", theme.logins);
            if choices.one_in(2) {
                event.insert("expires_in_ms".into(), json!(lifetime(choices)));
            }
            return Value::Object(event);
        }
        1 => {
            event.insert("event".into(), json!("open_gate"));
            part(choices, &mut event, "gate", theme.gates);
            return Value::Object(event);
        }
        2 => {
            event.insert("event".into(), json!("close_gate"));
            part(choices, &mut event, "gate", theme.gates);
            let until =
                (at + choices.pick(&[500, 3000, 0, 40_000, 400_000])).saturating_sub(choices.pick(&[0, 0, 1000]));
            event.insert("until_ms".into(), json!(until));
            return Value::Object(event);
        }
        _ => {}
    }
    let all: Vec<u64> = last.keys().copied().collect();
    // Those whose wait is over, or whose reply is due.
    let due = |action: &Value| match action["action"].as_str() {
        Some("send" | "in_flight") => true,
        _ => action["until_ms"].as_u64().is_some_and(|until| until <= at),
    };
    let live: Vec<u64> = match live.iter().copied().filter(|id| due(&last[id])).collect::<Vec<_>>() {
        list if crowd != Crowd::Few && !list.is_empty() && !choices.one_in(6) => list,
        _ => live,
    };
    let request = if live.is_empty() || choices.one_in(12) { choices.pick(&all) } else { choices.pick(&live) };
    event.insert("request".into(), json!(request));
    let action = &last[&request];
    let sent = action["attempt"].as_u64().unwrap_or(0);
    let name = action["action"].as_str().unwrap_or_default();
    let fitting = match name {
        // Only the first action of a refresh names it.
        "in_flight" if refreshes.leading.contains(&request) => {
            choices.pick(&["token", "token", "tick", "tick", "tick", "cancel"])
        }
        "send" | "in_flight" => choices.pick(&["reply", "reply", "reply", "reply", "reply", "error", "tick", "token"]),
        "refresh_token" => choices.pick(&["token", "token", "token", "token", "tick", "tick", "reply", "cancel"]),
        "await_token" => choices.pick(&["tick", "tick", "tick", "tick", "tick", "token", "late"]),
        "wait" => choices.pick(&["tick", "tick", "tick", "tick", "tick", "tick", "tick", "late"]),
        _ => choices.pick(&["late", "token", "tick", "cancel", "error", "late"]),
    };
    let kind = match choices.below(20) {
        0 => choices.pick(&["tick", "late", "token", "error", "reply"]),
        1 if choices.one_in(2) => "cancel",
        _ => fitting,
    };
    let kind = if kind == "token" && theme.hanging && !choices.one_in(8) { "tick" } else { kind };
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
            if crowd != Crowd::Few && !choices.one_in(if crowd == Crowd::Steady { 60 } else { 8 }) {
                good_reply_or_throttle(choices, &mut event, crowd);
            } else if theme.tokens && choices.below(5) < 2 {
                event.insert("status".into(), json!(401));
            } else {
                reply(choices, &mut event, late, at, setting);
            }
        }
        "error" => {
            event.insert("event".into(), json!("transport_error"));
            let kinds =
                ["not_sent", "not_sent", "timed_out", "broken", "other", "unprocessed", "unprocessed", "permanent"];
            event.insert("kind".into(), json!(choices.pick(&kinds)));
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
                "abandoned",
                "abandoned",
            ]);
            event.insert("outcome".into(), json!(outcome));
            if outcome == "refreshed" && choices.one_in(2) {
                event.insert("expires_in_ms".into(), json!(lifetime(choices)));
            }
            if outcome == "unavailable" && choices.one_in(2) {
                let retry_after = choices.pick(&[0, 500, 3000, 20_000, 315_360_000_000, u64::MAX]);
                event.insert("retry_after_ms".into(), json!(retry_after));
            }
            if choices.one_in(4) {
                let newest = refreshes.newest;
                let lease = choices.pick(&[newest, newest, newest.saturating_sub(1), newest + 1, 1, 0, 4_294_967_295]);
                event.insert("lease".into(), json!(lease));
            }
        }
        other => _ = event.insert("event".into(), json!(other)),
    }
    Value::Object(event)
}

/// S8: names a login or a gate, the first one seldom.
fn part(choices: &mut Choices, event: &mut Map<String, Value>, key: &str, parts: u64) {
    let part = choices.below(parts);
    if part > 0 || choices.one_in(8) {
        event.insert(key.into(), json!(part));
    }
}

/// K7.
fn lifetime(choices: &mut Choices) -> u64 {
    choices.pick(&[0, 1, 500, 4000, 5000, 30_000, 60_000, 60_000, 3_600_000, u64::MAX])
}

/// Returns a good answer or a throttle, and seldom a failure.
fn good_reply_or_throttle(choices: &mut Choices, event: &mut Map<String, Value>, crowd: Crowd) {
    let seldom = choices.pick(&[429, 429, 429, 429, 503, 500, 404]);
    let status = if choices.one_in(if crowd == Crowd::Steady { 24 } else { 4 }) { seldom } else { 200 };
    event.insert("status".into(), json!(status));
    let seconds = choices.pick(&["1", "2", "3", "5", "10", "30", "60", "301", "2", "0"]);
    match status {
        429 if !choices.one_in(4) => event.insert("headers".into(), json!([["Retry-After", seconds]])),
        503 if choices.one_in(2) => event.insert("headers".into(), json!([["Retry-After", seconds]])),
        200 if choices.one_in(20) => event
            .insert("headers".into(), json!([["X-RateLimit-Remaining", "0"], ["X-RateLimit-Reset-After", seconds]])),
        _ => None,
    };
}

/// The fields that the reader knows.
const NAMES: [&str; 18] = [
    "Retry-After",
    "Date",
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Rate-Limit-Limit",
    "X-Rate-Limit-Remaining",
    "X-Rate-Limit-Reset",
    "X-Rate-Limit-Reset-After",
    "X-RateLimit-Reset-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
];

fn reply(choices: &mut Choices, event: &mut Map<String, Value>, late: bool, at: u64, setting: &Value) {
    let unix_ms = setting["unix_ms"].as_u64();
    let statuses: &[u64] = if late {
        &[200, 204, 304, 400, 401, 403, 429, 429, 429, 500, 503, 503, 503, 503]
    } else {
        &[
            200, 201, 401, 401, 401, 401, 403, 429, 429, 429, 429, 500, 500, 500, 503, 503, 503, 503, 503, 503, 502,
            504, 408, 409, 404, 422, 302, 599, 101, 150, 700, 529,
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
    if let Some(fields) = setting["fields"].as_array().filter(|fields| !fields.is_empty()) {
        if choices.one_in(3) {
            for _ in 0..choices.pick(&[1, 1, 1, 2, 3]) {
                let field = choices.pick(fields);
                let value = own_value(choices, &field[1], at, unix_ms);
                headers.push(json!([field[0], value]));
            }
        }
    }
    if choices.one_in(7) {
        let verdicts = ["final", "transient", "transient", "throttled", "throttled", "token_expired"];
        event.insert("verdict".into(), json!(choices.pick(&verdicts)));
    }
    if choices.one_in(10) {
        event.insert("hint_ms".into(), json!(choices.pick(&[0, 1, 300, 1500, 4000, 12_000, 400_000])));
    }
    if (status == 401 && choices.one_in(3)) || choices.one_in(40) {
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
                    r#"{"error":"insufficient_claims"}"#,
                    r#"{"error":"token_revoked"}"#,
                ])
                .to_string()
        });
        event.insert("body".into(), json!(body));
    }
}

/// Returns a value for a field of the dialect (H11).
fn own_value(choices: &mut Choices, meaning: &Value, at: u64, unix_ms: Option<u64>) -> String {
    if let Some(text) = choices.text() {
        return text;
    }
    if choices.one_in(8) {
        return choices.pick(&["", "-1", "soon", "1e3", "0", "5.", ",", "99999999999999999999999"]).to_string();
    }
    let now = unix_ms.unwrap_or(1_700_000_000_000) + at;
    let ahead = choices.below(9000);
    let unit = meaning.as_object().and_then(|map| map.values().next()).and_then(Value::as_str);
    match (unit, meaning.as_str()) {
        (Some("s"), _) => choices.pick(&["0", "0", "1", "2.0", "3.25", "0.0001", "20", "301"]).into(),
        (Some("ms"), _) => choices.pick(&["0", "0", "1", "250", "999.5", "1500", "4000", "20000"]).into(),
        (Some("unix"), _) => {
            choices.pick(&[format!("{}", now / 1000 + ahead / 1000), format!("{}.5", now / 1000), "0".into()])
        }
        (Some("unix_ms"), _) => choices.pick(&[format!("{}", now + ahead), format!("{now}.5"), format!("{}", now - 9)]),
        (Some("duration"), _) => choices
            .pick(&["0", "6m0s", "1s", "1.5s", "700ms", "2s500ms", "0.1us", "1ms1s", "7", "3\u{b5}s", "1x"])
            .into(),
        (Some(_), _) => choices
            .pick(&[
                "2023-11-14T22:13:23Z",
                "2023-11-14T22:13:29.0001z",
                "2023-11-14 23:13:26+01:00",
                "2023-11-14T22:14Z",
                "2023-11-14T22:13:00Z",
                "2023-11-31T22:13:00Z",
                "2023-11-14T22:13:25",
            ])
            .into(),
        (None, Some("verdict")) => choices.pick(&["true", "true", "TRUE", "false", "False", "yes"]).into(),
        (None, Some("used_of_limit")) => choices
            .pick(&["40/40", "41/40", "3/40", "api-usage=18/5000", "api-usage=5/5", "1.9/2.9", "3", "a/b"])
            .into(),
        _ => choices.pick(&["0", "0", "0.9", "0;w=60", "9", "60", "100;w=21600"]).into(),
    }
}

fn header(choices: &mut Choices, headers: &mut Vec<Value>, at: u64, unix_ms: Option<u64>) {
    if let Some(text) = choices.text() {
        headers.push(json!([choices.pick(&NAMES), text]));
        return;
    }
    let small = choices.pick(&["0", "1", "2", "3", "5", "10", "20", "30", "301", "2.0", "1.234", "0.0001"]);
    // The two forms of `RateLimit` do not mix.
    let has = |mark: char| {
        let mut values = headers.iter().filter(|header| header[0] == "RateLimit");
        values.any(|header| header[1].as_str().is_some_and(|value| value.contains(mark)))
    };
    let (has_list, has_dictionary) = (has(';'), has('m'));
    match choices.below(15) {
        0..=4 => headers.push(json!(["Retry-After", small])),
        5 => headers.push(json!([
            "retry-after-ms",
            choices.pick(&["0", "1", "250", "999", "1500", "5000", "1.5", "0.1", "1."])
        ])),
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
            let prefix = choices.pick(&["X-RateLimit-", "RateLimit-", "X-Rate-Limit-"]);
            let remaining = choices.pick(&["0", "0", "0", "9", "0;w=21600", "0.7"]);
            headers.push(json!([format!("{prefix}Remaining"), remaining]));
            let now = unix_ms.unwrap_or(1_700_000_000_000) + at;
            if prefix != "RateLimit-" && choices.one_in(3) {
                let after = choices.pick(&["1.234", "4", "0", "x"]);
                headers.push(json!([format!("{prefix}Reset-After"), after]));
                if choices.one_in(2) {
                    return;
                }
            }
            let reset = match choices.below(5) {
                4 => format!("{}.{}", now / 1000 + 3, choices.below(1000)),
                0 => (now / 1000 + choices.below(10)).to_string(),
                1 => (now + choices.below(10_000)).to_string(),
                _ => small.to_string(),
            };
            headers.push(json!([format!("{prefix}Reset"), reset]));
            if choices.one_in(2) {
                headers.push(json!([format!("{prefix}Limit"), choices.pick(&["60", "60;w=21600", "59.9"])]));
            }
        }
        11 if !has_dictionary => headers.push(json!([
            "RateLimit",
            choices.pick(&[
                "\"a b\";r=0;t=4",
                "\"a\";r=0;t=2, \"b\";r=0;t=6",
                "\"a\";r=5;t=9",
                "a;r=0;t=3;pk=:QUI=:",
                "\"a\";r=0;t=-1, \"b\";r=0;t=2",
            ])
        ])),
        12 if !has_list => headers.push(json!([
            "RateLimit",
            choices.pick(&[
                "limit=10, remaining=0, reset=5",
                "remaining=0, reset=3, limit=4",
                "limit=10, remaining=0, remaining=4, reset=5",
                "limit=10, remaining=0, reset=1.5",
                "limit=10, remaining=0, reset=5, window=60",
                "remaining=3",
            ])
        ])),
        _ => headers.push(json!(["RateLimit-Policy", choices.pick(&["\"a\";q=100;w=60", "100;w=60", "\"a\";q=1,"])])),
    }
}
