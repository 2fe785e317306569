//! The generated traces: each input that a rule knows, and each answer, occurs often.

use crate::reference::generator::Generator;
use crate::reference::model::Model;
use std::collections::{BTreeMap, BTreeSet};

/// Parts of lines, each of which must occur in this many of a thousand traces.
const OFTEN: [(usize, &[&str]); 2] = [
    (
        20,
        &[
            r#""band":["#,
            r#""jitter":"above""#,
            r#""factor":[16,10]"#,
            r#""throttled":{"#,
            r#""throttle_retries":2"#,
            r#""on":[["#,
            r#""500-599""#,
            r#""retry_if_safe""#,
            r#""charge":"failure""#,
            r#""refund":"last_cost""#,
            r#""refund":"paid""#,
            r#""refill_ms":5000"#,
            r#""breaker":null"#,
            r#""event":"open_gate""#,
            r#""event":"close_gate""#,
            r#""max_server_wait_ms":1,"#,
            r#""max_server_wait_ms":18446744073709551615"#,
            r#""floor":5"#,
            r#""refresh_on_insufficient":true"#,
            r#""gate":false"#,
            r#"{"pushback":"ms"}"#,
            r#"{"reset":"rfc3339"}"#,
            r#"{"wait":"duration"}"#,
            r#""used_of_limit""#,
            r#""deadline_ms":700"#,
            r#""max_retries":20"#,
            r#""attempt_timeout_ms":300"#,
            r#""verdict":"final""#,
            r#""verdict":"transient""#,
            r#""verdict":"throttled""#,
            r#""verdict":"token_expired""#,
            r#""hint_ms":"#,
            r#""kind":"unprocessed""#,
            r#""kind":"permanent""#,
            "X-Rate-Limit-",
            "Reset-After",
            r#""Retry-After","1.234""#,
            ";w=21600",
            "limit=10, remaining=0",
            r#""status":101"#,
            r#""login":1"#,
            r#""gate":1"#,
            r#""token":false"#,
            r#""young_token":"surface""#,
            r#""young_token":"retry""#,
            r#""outcome":"abandoned""#,
            r#""expires_in_ms":0"#,
            r#""expires_in_ms":18446744073709551615"#,
            r#""retry_after_ms":315360000000"#,
            r#""lease":0"#,
            r#""lease":4294967295"#,
            r#""counted":true"#,
            r#""counted":false"#,
            r#""generation":null"#,
            r#""generation":2"#,
        ],
    ),
    (
        8,
        &[
            r#""reason":"told""#,
            r#""reason":"pushback""#,
            r#""reason":"backoff""#,
            r#""reason":"gate""#,
            r#""reason":"rate_limit_reset""#,
            r#""reason":"retry_after_ms""#,
            r#""challenge":"insufficient_scope""#,
            r#""field":"pushback","why":"duplicate""#,
            r#""field":"pushback","why":"malformed""#,
            r#""field":"pushback","why":"no_clock""#,
            r#""field":"verdict","why":"duplicate""#,
            r#""field":"verdict","why":"malformed""#,
            r#""field":"x-ratelimit-reset-after","why":"malformed""#,
            r#""field":"x-ratelimit-remaining","why":"malformed""#,
            r#""cause":"unprocessed""#,
            r#""cause":"permanent""#,
            r#""cause":"not_sent""#,
            r#""cause":"timed_out""#,
            r#""advice":"authorize_with_scopes""#,
            r#""kind":"ambiguous""#,
            r#""kind":"budget""#,
            r#""kind":"breaker_open""#,
            r#""kind":"deadline""#,
            r#""kind":"exhausted""#,
            r#""kind":"server_wait_too_long""#,
            r#""kind":"token_rejected""#,
            r#""kind":"token_unavailable""#,
            r#""kind":"transport""#,
            r#""kind":"unauthorized""#,
            r#""kind":"unexpected_status""#,
        ],
    ),
];

/// Rules that decide about tokens, each of which must decide in this many of a thousand traces.
const RULES: [(usize, &[&str]); 2] = [
    (
        20,
        &[
            "K3 K5: lead",
            "K3 K8: follow",
            "K4",
            "K5 K6: counts",
            "K5: does not count",
            "K5 K8: the end of the lease",
            "K6: abandoned",
            "K6: abandoned, the leader",
            "K6: unavailable",
            "K6: no new lease yet",
            "K6 K8 F5: there is a newer token",
            "K7 F5: the old token is used",
            "K8: its deadline",
            "P1 K3: a 401 has come for the old token",
            "P1 K3: the old token is alive",
            "P1 K3: the old token has expired",
            "P1 K6: rejected sticks",
            "P1 K7",
            "K9: a login without a token",
            "K10: surface",
            "K10: retry",
        ],
    ),
    (
        3,
        &[
            "D12",
            "K2",
            "K6",
            "K6 K9: no token to wait for",
            "K7: half of the time has not passed",
            "K8 F5: a fourth wait is not begun",
        ],
    ),
];

#[test]
fn each_input_and_each_answer_occurs_often() {
    let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..1_000 {
        let mut generator = Generator::new(seed);
        let mut model = Model::new(&generator.setting).unwrap();
        let mut trace = generator.setting.to_string();
        let mut decided: BTreeSet<&str> = BTreeSet::new();
        while let Some(event) = generator.next_event() {
            let action = model.predict(&event).unwrap();
            decided.extend(model.rules());
            trace += &event.to_string();
            trace += &action.as_ref().map(ToString::to_string).unwrap_or_default();
            generator.answered(&event, action);
        }
        for rule in RULES.iter().flat_map(|(_, rules)| *rules).filter(|rule| decided.contains(*rule)) {
            *occurrences.entry(rule).or_default() += 1;
        }
        for part in OFTEN.iter().flat_map(|(_, parts)| *parts).filter(|part| trace.contains(**part)) {
            *occurrences.entry(part).or_default() += 1;
        }
    }
    let mut seldom = Vec::new();
    for (least, parts) in OFTEN.into_iter().chain(RULES) {
        for part in parts {
            let traces = occurrences.get(part).copied().unwrap_or(0);
            if traces < least {
                seldom.push(format!("{traces} traces have {part}, not {least}"));
            }
        }
    }
    assert!(seldom.is_empty(), "{}", seldom.join("\n"));
}
