//! The generated traces: each input that a rule knows, and each answer, occurs often.

use crate::reference::generator::Generator;
use crate::reference::model::Model;
use std::collections::BTreeMap;

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

#[test]
fn each_input_and_each_answer_occurs_often() {
    let mut occurrences: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..1_000 {
        let mut generator = Generator::new(seed);
        let mut model = Model::new(&generator.setting).unwrap();
        let mut trace = generator.setting.to_string();
        while let Some(event) = generator.next_event() {
            let action = model.predict(&event).unwrap();
            trace += &event.to_string();
            trace += &action.as_ref().map(ToString::to_string).unwrap_or_default();
            generator.answered(&event, action);
        }
        for part in OFTEN.iter().flat_map(|(_, parts)| *parts).filter(|part| trace.contains(**part)) {
            *occurrences.entry(part).or_default() += 1;
        }
    }
    for (least, parts) in OFTEN {
        for part in parts {
            let traces = occurrences.get(part).copied().unwrap_or(0);
            assert!(traces >= least, "{traces} traces have {part}");
        }
    }
}
