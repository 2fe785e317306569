//! Several requests to one upstream, under any policy and any order of events. The oracle of the property tests judges the
//! history.

pub mod script;
pub mod settings;

use arbitrary::Unstructured;

use super::common::oracle::{self, Order};

/// Checks a history: `data` chooses the policy and the events. After them every request comes to its end.
pub fn check(data: &[u8]) {
    let mut script = Unstructured::new(data);
    let Ok(mut player) = script::player(&mut script) else { return };
    while !script.is_empty() && script::step(&mut script, &mut player).is_ok() {}
    let results = [script::habit(data.first().copied().unwrap_or(0))];
    for order in [Order::OneByOne, Order::ByTime] {
        oracle::check(&oracle::every_request_ends(player.clone(), order, &results));
    }
}
