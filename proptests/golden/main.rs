//! Golden values: a change of the random numbers fails a test (T1).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use retry_machine::replay::{EventRecord, ReplayError, Settings};
use retry_machine::{
    BreakerPolicy, BudgetPolicy, Charge, DialectField, FailureKind, FieldMeaning, Jitter, Policy, Refund, ResetFormat,
    StatusMeaning, ThrottleBackoff, TimeUnit, YoungToken, derive_seed,
};

#[path = "../common/support.rs"]
mod support;
use support::{Answer, Scene, ms, secs};

#[test]
fn t1_t5_derived_seeds_are_those_of_splitmix64() {
    // The first outputs of SplitMix64 seeded with 0 and with 1234567, as published elsewhere.
    assert_eq!(
        [0, 1, 2].map(|n| derive_seed(0, n)),
        [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
    );
    assert_eq!(
        [0, 1, 2, 3, 4].map(|n| derive_seed(1_234_567, n)),
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ]
    );
}

/// Returns the waits of a request whose attempts all fail, in nanoseconds.
fn waits(seed: u64, jitter: Jitter) -> Vec<u64> {
    let mut scene = Scene::with(Policy::flextell().into_builder().jitter(jitter).max_retries(6).budget(None));
    scene.seed = seed;
    let (waits, _) = scene.fail_until_the_end(503);
    waits.iter().map(|wait| u64::try_from(wait.as_nanos()).unwrap()).collect()
}

#[test]
fn t1_the_first_waits_of_every_jitter_never_change() {
    // Request 0 of a client with this seed.
    #[rustfmt::skip]
    let golden = [
        (7, Jitter::None, [1_000_000_000, 2_000_000_000, 4_000_000_000, 8_000_000_000, 16_000_000_000, 32_000_000_000]),
        (7, Jitter::Spread, [624_323_271, 1_911_331_165, 4_142_255_097, 8_123_888_284, 16_031_928_289, 31_533_148_684]),
        (7, Jitter::FULL, [124_323_271, 822_662_330, 2_569_020_387, 4_991_106_271, 8_510_852_619, 1_060_757_918]),
        (7, Jitter::EQUAL, [562_161_635, 1_411_331_165, 3_284_510_194, 6_495_553_136, 12_255_426_310, 16_530_378_959]),
        (7, Jitter::Decorrelated, [1_248_646_542, 2_129_490_545, 4_460_773_371, 8_725_184_446, 14_391_589_004, 2_398_038_064]),
        (7, Jitter::PROPORTIONAL, [812_161_635, 1_911_331_165, 4_284_510_194, 8_495_553_136, 16_255_426_310, 24_530_378_959]),
        (8, Jitter::Spread, [1_214_900_913, 1_761_084_303, 4_010_765_843, 8_327_204_395, 15_870_764_009, 31_775_705_622]),
        (8, Jitter::FULL, [714_900_913, 522_168_606, 2_043_063_371, 6_617_635_158, 5_932_224_143, 8_822_579_921]),
        (8, Jitter::EQUAL, [857_450_457, 1_261_084_303, 3_021_531_686, 7_308_817_579, 10_966_112_071, 20_411_289_960]),
        (8, Jitter::Decorrelated, [2_429_801_826, 2_642_065_045, 4_537_663_896, 11_433_522_154, 13_346_651_522, 11_763_534_977]),
        (8, Jitter::PROPORTIONAL, [1_107_450_457, 1_761_084_303, 4_021_531_686, 9_308_817_579, 14_966_112_071, 28_411_289_960]),
    ];
    for (seed, jitter, expected) in golden {
        assert_eq!(waits(seed, jitter), expected, "seed {seed}, {jitter:?}");
    }
}

#[test]
fn t1_the_jitter_of_hints_gate_and_breaker_never_changes() {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "30")]).is("wait 30062.161635 retry_after");
    scene.at(0).request(1).start().is("wait 30000 gate");
    // C10: a head, after a throttle without a hint.
    scene.at(40_000).request(1).tick().is("send 1");
    scene.at(40_000).close_gate(50_000);
    scene.at(41_000).request(1).reply(429).is("wait 50009.331706 gate");

    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(10) };
    let mut scene = Scene::with(Policy::flextell().into_builder().breaker(Some(breaker)));
    scene.at(0).request(1).start().is("send 1");
    let _ = scene.at(0).request(1).reply(503);
    scene.at(10_000).start().is("send 1");
    let failure = scene.at(10_000).reply(503).fails(FailureKind::BreakerOpen);
    assert_eq!(failure.not_before().unwrap().as_nanos(), 20_970_259_390);
}

#[test]
fn t1_event_lines_are_written_as_they_are_read() {
    let lines = [
        r#"{"at_ms":0,"event":"start","repeat":"safe"}"#,
        r#"{"at_ms":1,"event":"start","repeat":"unsafe","request":3}"#,
        r#"{"at_ms":1,"event":"start","repeat":"safe","deadline_ms":2000,"max_retries":0,"attempt_timeout_ms":500}"#,
        r#"{"at_ms":2,"event":"tick"}"#,
        r#"{"at_ms":2,"event":"cancel","request":1}"#,
        r#"{"at_ms":3,"event":"transport_error","kind":"timed_out"}"#,
        r#"{"at_ms":3,"event":"transport_error","kind":"not_sent","attempt":2}"#,
        r#"{"at_ms":3,"event":"transport_error","kind":"unprocessed"}"#,
        r#"{"at_ms":3,"event":"transport_error","kind":"permanent"}"#,
        r#"{"at_ms":4,"event":"token","outcome":"refreshed","expires_in_ms":null}"#,
        r#"{"at_ms":4,"event":"token","outcome":"refreshed","expires_in_ms":1500}"#,
        r#"{"at_ms":4,"event":"token","outcome":"rejected"}"#,
        r#"{"at_ms":4,"event":"token","outcome":"unavailable","retry_after_ms":null}"#,
        r#"{"at_ms":4,"event":"token","outcome":"unavailable","retry_after_ms":2000}"#,
        r#"{"at_ms":4,"event":"token","outcome":"abandoned","lease":3}"#,
        r#"{"at_ms":4,"event":"start","repeat":"safe","request":2,"login":1,"gate":2}"#,
        r#"{"at_ms":5,"event":"reply","status":503,"headers":[["Retry-After","30"]],"body":"{}"}"#,
        r#"{"at_ms":5,"event":"reply","status":200,"headers":[],"attempt":1}"#,
        r#"{"at_ms":5,"event":"reply","status":0,"headers":[["x",{"base64":"/w=="}],["y",{"base64":"//4="}]]}"#,
        r#"{"at_ms":5,"event":"reply","status":200,"headers":[],"verdict":"token_expired","hint_ms":1500}"#,
        r#"{"at_ms":5,"event":"reply","status":0,"headers":[],"body_base64":"++++/w=="}"#,
        r#"{"at_ms":5,"event":"reply","status":0,"headers":[],"body_base64":"AAECAwT/"}"#,
        r#"{"at_ms":6,"event":"token_replaced","expires_in_ms":null}"#,
        r#"{"at_ms":6,"event":"token_replaced","expires_in_ms":60000}"#,
        r#"{"at_ms":6,"event":"token_replaced","expires_in_ms":null,"login":1}"#,
        r#"{"at_ms":7,"event":"open_gate"}"#,
        r#"{"at_ms":7,"event":"open_gate","gate":2}"#,
        r#"{"at_ms":7,"event":"close_gate","until_ms":900}"#,
        r#"{"at_ms":7,"event":"close_gate","until_ms":900,"gate":2}"#,
    ];
    for line in lines {
        assert!(EventRecord::is_event(line), "{line}");
        let written = EventRecord::parse(line).unwrap().to_json();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(line).unwrap());
    }
    for line in [r#"{"jitter":"none"}"#, "{}", "", "event"] {
        assert!(!EventRecord::is_event(line), "{line}");
    }
}

const FIELDS: [DialectField; 2] = [
    DialectField::new("x-should-retry", FieldMeaning::Verdict),
    DialectField::new("x-reset", FieldMeaning::Reset(TimeUnit::Unix)),
];

#[test]
fn t1_a_settings_line_makes_its_policy() {
    let line = r#"{"preset":"common","seed":9,"unix_ms":1000,"token_expires_in_ms":2000,"base_ms":100,"factor":3,
        "cap_ms":9000,"jitter":"equal","spread_ms":50,"max_retries":2,"max_recoveries":3,"max_server_wait_ms":4000,
        "deadline_ms":60000,"attempt_timeout_ms":7000,"ambiguous_5xx":false,"reset":"delta",
        "budget":{"capacity":20,"floor":3,"retry_cost":4,"throttle_cost":2,"charge":"failure","success_refund":1,
        "refund":"last_cost","refill_ms":30},"throttled":{"base_ms":60000,"factor":[16,10],"cap_ms":90000},"throttle_retries":9,
        "refresh_on_insufficient":true,"young_token":"retry","token":false,"gate":false,"fields":[["x-should-retry","verdict"],["x-reset",{"reset":"unix"}]],
        "on":[["500-503","retry"],[503,"retry","throttle"]],
        "breaker":{"failures":6,"open_ms":700},"refresh_timeout_ms":8000,"refresh_margin_ms":900,
        "retry_statuses":[429,502]}"#;
    let setting = Settings::parse(line).unwrap();
    assert_eq!((setting.seed, setting.unix_ms, setting.token_expires_in_ms), (9, Some(1_000), Some(2_000)));
    assert!(!setting.token && Settings::parse("{}").unwrap().token);
    let policy = Policy::common()
        .into_builder()
        .initial_backoff(ms(100))
        .backoff_factor(3, 1)
        .max_backoff(secs(9))
        .jitter(Jitter::EQUAL)
        .jitter_spread(ms(50))
        .max_retries(2)
        .max_token_recoveries(3)
        .max_server_wait(secs(4))
        .deadline(Some(secs(60)))
        .attempt_timeout(Some(secs(7)))
        .rate_limit_reset(ResetFormat::Delta)
        .budget(Some(BudgetPolicy {
            capacity: 20,
            floor: 3,
            retry_cost: 4,
            throttle_cost: 2,
            charge: Charge::Failure,
            success_refund: 1,
            refund: Refund::LastCost,
            refill_every: ms(30),
        }))
        .throttle_backoff(Some(ThrottleBackoff {
            initial_backoff: secs(60),
            backoff_factor: (16, 10),
            max_backoff: secs(90),
        }))
        .throttle_retries(Some(9))
        .refresh_on_insufficient(true)
        .young_token(YoungToken::Retry)
        .gate(false)
        .dialect(&FIELDS)
        .breaker(Some(BreakerPolicy { failure_threshold: 6, open_for: ms(700) }))
        .refresh_timeout(secs(8))
        .refresh_margin(ms(900))
        .retry_statuses(&[429, 502])
        .on(500..=503, StatusMeaning::Retry)
        .on_hinted(503..=503, StatusMeaning::Throttle);
    assert_eq!(setting.policy(), Ok(policy.build().unwrap()));

    let setting = Settings::parse(r#"{"factor":0}"#).unwrap();
    assert!(matches!(setting.policy(), Err(ReplayError::Policy(_))));
}

#[test]
fn t1_invalid_lines_are_refused_with_the_name_of_the_field() {
    let lines = [
        ("[]", "not a JSON object: "),
        (r#"{"event":"tick"}"#, r#"field "at_ms": missing"#),
        (r#"{"at_ms":0,"event":"tock"}"#, r#"field "event": unknown variant `tock`"#),
        (r#"{"at_ms":0,"event":"tick","color":1}"#, r#"field "color": unknown field"#),
        (r#"{"at_ms":0,"event":"token","outcome":"lost"}"#, r#"field "outcome": unknown variant `lost`"#),
        (r#"{"at_ms":0,"event":"reply","status":0,"body_base64":"A"}"#, r#"field "body_base64": invalid base64"#),
        (r#"{"at_ms":0,"event":"reply","status":0,"body_base64":"?"}"#, r#"field "body_base64": invalid base64"#),
        (
            r#"{"at_ms":0,"event":"reply","status":0,"body":"","body_base64":""}"#,
            r#"field "body_base64": the line already has a body"#,
        ),
    ];
    for (line, expected) in lines {
        let refusal = EventRecord::parse(line).unwrap_err().to_string();
        assert!(refusal.starts_with(expected), "{line}: {refusal}");
    }
}
