//! Several requests of one upstream under any policy and any order of events: the invariants of the rules, as far as
//! they show from outside.

pub mod policy;
pub mod script;
mod world;

use arbitrary::Unstructured;

use self::world::World;

/// `data` says what the policy is and what happens; when it ends every request is driven to its end.
pub fn check(data: &[u8]) {
    let mut script = Unstructured::new(data);
    let Ok(mut world) = script::world(&mut script) else { return };
    while !script.is_empty() && script::step(&mut script, &mut world).is_ok() {}
    world.finish(data.first().copied().unwrap_or(0));
}

impl World {
    /// I7: drivers that do what they are told come to an end.
    fn finish(&mut self, habit: u8) {
        for request in 0..self.requests() {
            let mut steps = 0;
            while !self.is_over(request) {
                script::obey(self, request, habit);
                steps += 1;
                assert!(steps <= self.longest(), "I7: request {request} does not end");
            }
        }
    }
}
