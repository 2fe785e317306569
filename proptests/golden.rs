//! Golden values: a generator that gives other numbers is noticed (T1).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use retry_machine::{BreakerPolicy, FailureKind, Jitter, Policy, derive_seed};

mod support;
use support::{Answer, Scene, secs};

#[test]
fn t1_t5_derived_seeds_are_those_of_splitmix64() {
    // The first outputs of SplitMix64 seeded with 0 and with 1234567, as published by others.
    assert_eq!([0, 1, 2].map(|n| derive_seed(0, n)), [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
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

/// The waits of a request that fails to its end, in nanoseconds.
fn waits(seed: u64, jitter: Jitter) -> Vec<u64> {
    let mut scene = Scene::with(Policy::flextell().to_builder().jitter(jitter).max_retries(6));
    scene.seed = seed;
    let (waits, _) = scene.fail_until_the_end(503);
    waits.iter().map(|wait| u64::try_from(wait.as_nanos()).unwrap()).collect()
}

#[test]
fn t1_the_first_waits_of_every_jitter() {
    #[rustfmt::skip]
    let golden = [
        GOLDEN
    ];
    for (seed, jitter, expected) in golden {
        assert_eq!(waits(seed, jitter), expected, "seed {seed}, {jitter:?}");
    }
}

#[test]
fn t1_the_jitter_of_hints_of_the_gate_and_of_the_breaker() {
    let mut scene = Scene::new(Policy::flextell());
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "30")]).is("HINT");
    scene.at(0).request(1).start().is("GATE1");
    scene.at(0).request(2).start().is("GATE2");

    let breaker = BreakerPolicy { failures: 1, open: secs(10) };
    let mut scene = Scene::with(Policy::flextell().to_builder().breaker(Some(breaker)));
    scene.at(0).start().is("send 1");
    let failure = scene.at(0).reply(503).fails(FailureKind::BreakerOpen);
    assert_eq!(failure.not_before().unwrap().as_nanos(), BREAKER);
}
