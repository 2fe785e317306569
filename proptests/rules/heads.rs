//! Requests that have had their turn at the gate: C10.

use retry_machine::{BreakerPolicy, BudgetPolicy, FailureKind, Policy, Timestamp};

use crate::queue::{paced, paced_with};
use crate::support::{Answer, Scene, at, exact, ms, secs};

#[test]
fn c10_who_closes_the_gate_passes_first_and_moves_the_others_back_by_a_pace() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(33_000).request(2).start().is("wait 50000 gate");
    scene.at(42_000).tick().is("send 2");
    // Once more: 5 s for the closing, and 4 s for the head.
    scene.at(43_000).reply_with(429, &[("Retry-After", "5")]).is("wait 48000 retry_after");
    scene.at(46_000).request(1).tick().is("wait 55000 gate");
    scene.at(50_000).request(2).tick().is("wait 59000 gate");
    scene.at(48_000).tick().is("send 3");
    scene.at(55_000).request(1).tick().is("send 1");
}

#[test]
fn c10_each_of_several_heads_moves_the_others_back() {
    let mut scene = paced();
    scene.at(42_000).tick().is("send 2");
    for (request, slot) in [(1, 46_000), (2, 50_000), (3, 54_000), (4, 58_000)] {
        scene.at(42_000).request(request).start().is(&format!("wait {slot} gate"));
    }
    scene.at(46_000).request(1).tick().is("send 1");
    scene.at(50_000).request(2).tick().is("send 1");
    scene.at(51_000).request(1).reply_with(429, &[("Retry-After", "5")]).is("wait 56000 retry_after");
    // Request 2 has queued before: it is a head, too. Its own end comes before the opening.
    scene.at(52_000).request(2).reply_with(429, &[("Retry-After", "3")]).is("wait 56000 gate");
    // Request 0 has been a head before: its own end comes after the opening.
    scene.at(52_000).reply(503).is("wait 56000 gate");
    // 5 s for the closing, and three heads of 4 s.
    scene.at(54_000).request(3).tick().is("wait 71000 gate");
    scene.at(58_000).request(4).tick().is("wait 75000 gate");
    for (request, sent) in [(2, "send 2"), (1, "send 2"), (0, "send 3")] {
        scene.at(56_000).request(request).tick().is(sent);
    }
}

#[test]
fn c10_who_has_never_queued_and_did_not_close_the_gate_queues() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    // Request 9 was sent before the gate closed.
    scene.at(34_000).request(9).reply_with(429, &[("Retry-After", "2")]).is("wait 50000 gate");
    scene.at(34_000).request(2).start().is("wait 54000 gate");
}

#[test]
fn c10_a_head_with_an_own_end_after_the_opening_waits_for_it() {
    let mut scene = paced();
    scene.at(33_000).request(1).start().is("wait 46000 gate");
    scene.at(42_000).tick().is("send 2");
    scene.at(46_000).request(1).tick().is("send 1");
    scene.at(47_000).request(1).reply_with(429, &[("Retry-After", "5")]).is("wait 52000 retry_after");
    scene.at(48_000).reply_with(503, &[("Retry-After", "9")]).is("wait 57000 retry_after");
    scene.at(57_000).tick().is("send 3");
}

#[test]
fn c10_a_closing_prolongs_the_wait_of_a_head_to_the_opening() {
    let mut scene = paced();
    scene.at(33_000).close_gate(50_000);
    scene.at(42_000).tick().is("wait 50000 gate");
    scene.at(50_000).tick().is("send 2");
}

/// Whatever was learned before: a head does not queue.
#[test]
fn c10_l2_a_lone_client_that_is_told_again_waits_its_hint_and_at_most_the_spread() {
    for seed in 0..500 {
        let mut scene = Scene::new(Policy::flextell());
        scene.seed = seed;
        let mut now = at(0);
        scene.at_time(now).start().is("send 1");
        for _ in 0..4 {
            now = now.saturating_add(secs(1));
            let end = scene.at_time(now).reply_with(429, &[("Retry-After", "60")]).end_of_wait();
            let wait = end.saturating_duration_since(now);
            assert!(wait >= secs(60) && wait <= ms(60_500), "{wait:?}");
            now = end;
            assert!(matches!(scene.at_time(now).tick(), retry_machine::Action::Send { .. }));
        }
    }
}

/// Returns the end of the wait of a request that has queued, and fails while the gate is closed until 60 s.
fn end_of_a_head(seed: u64, status: u16) -> Timestamp {
    let mut scene = Scene::new(Policy::flextell());
    scene.seed = seed;
    scene.at(0).close_gate(10_000);
    scene.at(0).start().is("wait 10000 gate");
    scene.at(10_000).tick().is("send 1");
    scene.at(10_000).close_gate(60_000);
    scene.at(11_000).reply(status).end_of_wait()
}

#[test]
fn c10_after_a_throttle_without_a_hint_the_opening_has_a_jitter_of_its_own() {
    let ends: std::collections::BTreeSet<_> = (0..500).map(|seed| end_of_a_head(seed, 429)).collect();
    let (first, last) = (*ends.first().unwrap(), *ends.last().unwrap());
    assert!(ends.len() > 490);
    assert!(first >= at(60_000) && first < at(60_010), "{first:?}");
    assert!(last > at(60_490) && last <= at(60_500), "{last:?}");
}

#[test]
fn c10_a_back_off_has_no_jitter_but_its_own() {
    for seed in 0..100 {
        assert_eq!(end_of_a_head(seed, 503), at(60_000));
    }
}

#[test]
fn c10_a_slot_that_the_budget_refuses_stays_empty() {
    let empty = Some(BudgetPolicy { capacity: 0, throttle_cost: 0, ..BudgetPolicy::DEFAULT });
    let mut scene = paced_with(exact().budget(empty));
    let failure = scene.at(33_000).request(9).reply(503).fails(FailureKind::Budget);
    assert_eq!(failure.not_before(), Some(at(46_000)), "the end of the wait that was refused");
    scene.at(33_000).request(1).start().is("wait 50000 gate");
}

#[test]
fn c10_a_head_that_the_budget_refuses_moves_the_others_back() {
    let mut scene = Scene::with(exact().budget(Some(BudgetPolicy { capacity: 0, ..BudgetPolicy::DEFAULT })));
    scene.at(0).start().is("send 1");
    scene.at(0).reply_with(429, &[("Retry-After", "12")]).fails(FailureKind::Budget);
    scene.at(0).request(1).start().is("wait 12000 gate");
    scene.at(12_000).request(1).tick().is("wait 15000 gate");
    scene.at(15_000).request(1).tick().is("send 1");
}

#[test]
fn c10_a_slot_that_the_breaker_refuses_stays_empty() {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(20) };
    let mut scene = paced_with(exact().breaker(Some(breaker)));
    scene.at(42_000).tick().is("send 2");
    scene.at(43_000).reply(503).is("wait 45000 backoff");
    scene.at(62_000).close_gate(70_000);
    assert_eq!(scene.upstream.gate.state(at(62_000)).next_free, at(70_000));
    // The second failure, 20 s after the first one, opens the breaker until 83 s.
    scene.at(63_000).request(9).reply(503).fails(FailureKind::BreakerOpen);
    assert_eq!(scene.upstream.gate.state(at(63_000)).next_free, at(74_000));
}
