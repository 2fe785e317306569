//! The committed inputs of the fuzz targets, which pass the same checks on a stable toolchain. A bug that fuzzing found once
//! stays found.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;

/// Checks the inputs of one target. Each target has its own test, so that they run side by side.
fn check_corpus(target: &str) {
    let (_, check) = fuzz::CHECKS.into_iter().find(|(name, _)| *name == target).unwrap();
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    for input in &inputs {
        println!("{}", input.display());
        check(&fs::read(input).unwrap());
    }
    assert!(inputs.len() >= 10, "{target}: {} inputs", inputs.len());
}

macro_rules! targets {
    ($($target:ident),* $(,)?) => {
        $(#[test]
        fn $target() {
            check_corpus(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(fuzz::CHECKS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

targets!(
    body,
    challenge,
    events,
    http_date,
    model,
    rate_limit,
    replay,
    response,
    retry_after,
    snapshot,
    structured_field
);
