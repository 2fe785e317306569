//! Leases: their numbers, and whose report of which one counts: K5, K6, K8.

use retry_machine::snapshot::LoginSnapshot;
use retry_machine::{Action, FailureKind, Login, LoginState, Policy, RefreshOutcome, Timestamp};

use crate::support::{ABANDONED, Answer, IN_VAIN, REFRESHED, REJECTED, Scene, UNAVAILABLE, at, exact, secs};

/// Returns a scene in which request 0 leads a refresh until 30 s, and the others, up to `n`, follow it.
fn one_leads(n: u64) -> Scene {
    let mut scene = Scene::exact();
    for request in 0..n {
        scene.at(0).request(request).start().is("send 1");
    }
    for request in 0..n {
        let expected = if request == 0 { "refresh until 30000" } else { "await until 30000" };
        scene.at(0).request(request).reply(401).is(expected);
    }
    scene
}

/// Returns the number of the lease and of the generation that it replaces.
fn numbers(action: Action) -> (u32, u32) {
    let Action::RefreshToken { lease, generation, .. } = action else { panic!("{action}") };
    (lease, generation)
}

// ---- Numbers ----

#[test]
fn k5_leases_are_numbered_from_1_and_name_the_generation_that_they_replace() {
    let mut scene = Scene::with(exact().max_token_recoveries(9));
    for n in 0..5 {
        let action = if n == 0 { scene.at(0).start() } else { scene.at(n).tick() };
        assert!(matches!(action, Action::Send { .. } | Action::InFlight { .. }), "{action}");
        let lease = u32::try_from(n).unwrap();
        assert_eq!(numbers(scene.at(n).reply(401)), (lease + 1, lease));
        assert_eq!(scene.machine(0).lease(), Some(lease + 1));
        let _ = scene.at(n).refreshed(REFRESHED);
        assert_eq!(scene.machine(0).lease(), None);
    }
}

#[test]
fn k5_the_numbers_go_on_after_failures_and_logins() {
    let mut scene = Scene::exact();
    for (request, end) in (0..).zip([REFRESHED, REJECTED, UNAVAILABLE, ABANDONED]) {
        let _ = scene.at(0).request(request).start();
        let (lease, _) = numbers(scene.at(0).request(request).reply(401));
        assert_eq!(u64::from(lease), request + 1);
        let _ = scene.at(0).request(request).refreshed(end);
        scene.at(0).token_removed();
        scene.at(0).token_replaced();
    }
}

#[test]
fn k5_a_follower_shows_the_number_of_the_lease_that_it_follows() {
    let mut scene = one_leads(2);
    assert_eq!(scene.machine(1).lease(), Some(1));
    scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
    scene.at(30_000).request(2).start().is("send 1");
    scene.at(30_000).request(2).reply(401).is("refresh until 60000");
    scene.at(30_000).request(1).tick().is("await until 60000");
    assert_eq!(
        (scene.machine(1).lease(), scene.machine(2).lease(), scene.machine(0).lease()),
        (Some(2), Some(2), None)
    );
}

#[test]
fn k5_t7_the_numbers_survive_a_snapshot() {
    let mut scene = one_leads(1);
    scene.at(10).refreshed(UNAVAILABLE).fails(FailureKind::TokenUnavailable);
    let policy = Policy::flextell();
    scene.upstream.login = LoginSnapshot::new(&scene.upstream.login, at(10)).restore(&policy, at(10)).unwrap();
    let _ = scene.at(20).request(1).start();
    assert_eq!(numbers(scene.at(20).request(1).reply(401)), (2, 0));
    // Also an open one: its outcome is still welcome.
    scene.upstream.login = LoginSnapshot::new(&scene.upstream.login, at(20)).restore(&policy, at(20)).unwrap();
    assert!(!scene.at(30).report(1, ABANDONED) && scene.at(30).report(2, REFRESHED));
    scene.at(40).request(1).tick().is("send 2 token 1");
}

// ---- Who reports ----

#[test]
fn k5_a_task_of_its_own_reports_straight_to_the_login() {
    let mut scene = one_leads(2);
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    scene.at(10).request(1).cancel().fails(FailureKind::Cancelled);
    assert!(scene.at(20).report(1, REFRESHED));
    assert_eq!(scene.upstream.login.generation(), Some(1));
    scene.at(30).request(2).start().is("send 1 token 1");
}

#[test]
fn k5_a_request_of_no_lease_reports_for_another() {
    let mut scene = Scene::exact();
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    // It is in flight: the outcome counts, and is not a tick for it (F5).
    scene.at(10).request(1).refreshed(REFRESHED).is("in flight");
    scene.at(20).tick().is("send 2 token 1");
}

// ---- What counts ----

#[test]
fn k5_a_lease_that_was_never_given_has_no_outcome() {
    let outcomes = || [REFRESHED].into_iter().chain(IN_VAIN);
    let mut scene = Scene::exact();
    for (lease, outcome) in outcomes().flat_map(|outcome| [0, 1, 2, u32::MAX].map(|lease| (lease, outcome))) {
        assert!(!scene.at(0).report(lease, outcome), "{lease}: {outcome:?}");
    }
    let mut scene = one_leads(1);
    for (lease, outcome) in outcomes().flat_map(|outcome| [0, 2, 3, u32::MAX].map(|lease| (lease, outcome))) {
        assert!(!scene.at(0).report(lease, outcome), "{lease}: {outcome:?}");
    }
    assert_eq!(scene.upstream.login.generation(), Some(0));
    scene.at(10).tick().is("in flight until 30000");
}

#[test]
fn k5_refreshed_counts_from_an_older_lease_whatever_was_reported_before() {
    for outcome in IN_VAIN {
        let mut scene = one_leads(3);
        assert!(scene.at(10).report(1, outcome));
        assert!(scene.at(20).report(1, REFRESHED), "after {outcome:?}");
        assert_eq!(scene.upstream.login.generation(), Some(1));
        for request in 0..3 {
            scene.at(30).request(request).tick().is("send 2 token 1");
        }
    }
}

#[test]
fn k5_refreshed_does_not_count_from_a_lease_of_an_older_generation() {
    let mut scene = one_leads(1);
    scene.at(10).token_replaced();
    assert!(!scene.at(20).report(1, REFRESHED));
    assert_eq!(scene.upstream.login.generation(), Some(1));
    // Also while a lease of the current generation is open.
    scene.at(30).tick().is("send 2 token 1");
    scene.at(30).request(1).start().is("send 1 token 1");
    scene.at(30).request(1).reply(401).is("refresh until 30030");
    assert!(!scene.at(40).report(1, REFRESHED) && scene.at(40).report(2, REFRESHED));
    assert_eq!(scene.upstream.login.generation(), Some(2));
}

#[test]
fn k5_any_other_outcome_counts_from_the_newest_lease_also_after_its_end() {
    for (outcome, expected) in [(REJECTED, "fail TokenRejected"), (UNAVAILABLE, "fail TokenUnavailable")] {
        let mut scene = one_leads(2);
        assert!(scene.at(31_000).report(1, outcome), "{outcome:?}");
        scene.at(32_000).request(1).tick().is(expected);
    }
}

#[test]
fn k5_any_other_outcome_counts_once_and_only_from_the_newest_lease() {
    for (first, second) in IN_VAIN.into_iter().flat_map(|first| IN_VAIN.map(|second| (first, second))) {
        let mut scene = one_leads(2);
        scene.at(30_000).tick().fails(FailureKind::TokenUnavailable);
        scene.at(30_000).request(1).tick().is("refresh until 60000");
        assert!(!scene.at(30_010).report(1, first), "{first:?} of an older lease");
        assert!(scene.at(30_020).report(2, first));
        assert!(!scene.at(30_030).report(2, second), "{second:?} after {first:?}");
    }
}

#[test]
fn k5_a_report_that_does_not_count_changes_nothing() {
    let mut scene = one_leads(2);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    let before = scene.upstream.login.clone();
    for (lease, outcome) in [(1, REJECTED), (1, UNAVAILABLE), (1, ABANDONED), (3, REFRESHED), (0, REFRESHED)] {
        assert!(!scene.at(31_000).report(lease, outcome));
        assert_eq!(scene.upstream.login, before, "{lease}: {outcome:?}");
    }
}

// ---- The end of a request ----

#[test]
fn k5_attempts_to_cancel_all_leaders_lead_to_no_second_refresh() {
    let mut scene = one_leads(4);
    for request in 0..3 {
        scene.at(10 + request).request(request).cancel().fails(FailureKind::Cancelled);
        scene.at(10 + request).request(3).tick().is("await until 30000");
        scene.at(10 + request).request(10 + request).start().is("await until 30000");
    }
    scene.at(200).refreshed(REFRESHED).fails(FailureKind::Cancelled);
    scene.at(210).request(3).tick().is("send 2 token 1");
}

#[test]
fn k5_who_knows_that_it_never_began_reports_it_abandoned() {
    let mut scene = one_leads(2);
    scene.at(10).cancel().fails(FailureKind::Cancelled);
    scene.at(20).request(1).tick().is("await until 30000");
    assert!(scene.at(30).report(1, ABANDONED));
    scene.at(40).request(1).tick().is("refresh until 30040");
}

#[test]
fn k8_what_the_login_says_comes_before_the_deadline_and_that_before_a_turn() {
    let outcomes = [
        (REFRESHED, "fail Deadline"),
        (REJECTED, "fail TokenRejected"),
        (UNAVAILABLE, "fail TokenUnavailable"),
        // Nobody begins a refresh without time for it.
        (ABANDONED, "fail Deadline"),
    ];
    for (outcome, expected) in outcomes {
        let mut scene = Scene::with(exact().deadline(Some(secs(10))));
        for request in 0..2 {
            let _ = scene.at(0).request(request).start();
            let _ = scene.at(0).request(request).reply(401);
        }
        assert!(scene.at(9_000).report(1, outcome));
        scene.at(10_000).request(1).tick().is(expected);
    }
}

// ---- K6 ----

#[test]
fn k6_after_abandoned_the_leader_fails_and_the_first_follower_that_ticks_leads() {
    let mut scene = one_leads(4);
    let failure = scene.at(10).refreshed(ABANDONED).fails(FailureKind::TokenUnavailable);
    assert_eq!(failure.not_before(), None);
    scene.at(20).request(2).tick().is("refresh until 30020");
    scene.at(20).request(1).tick().is("await until 30020");
    scene.at(20).request(3).tick().is("await until 30020");
}

#[test]
fn k6_abandoned_is_neither_a_throttle_nor_a_rejection() {
    let mut scene = one_leads(1);
    let _ = scene.at(10).refreshed(ABANDONED);
    scene.at(10).request(1).start().is("send 1");
    scene.at(10).request(1).reply(401).is("refresh until 30010");
}

fn throttled(seconds: u64) -> RefreshOutcome {
    RefreshOutcome::Unavailable { retry_after: Some(secs(seconds)) }
}

#[test]
fn k6_e1_f8_a_throttle_of_the_endpoint_is_part_of_each_failures_not_before() {
    let mut scene = Scene::exact();
    for request in 0..4 {
        scene.at(0).request(request).start().is("send 1");
    }
    scene.at(0).reply(401).is("refresh until 30000");
    let failure = scene.at(1_000).refreshed(throttled(60)).fails(FailureKind::TokenUnavailable);
    assert_eq!(failure.not_before(), Some(at(61_000)));
    let failure = scene.at(2_000).request(1).reply(401).fails(FailureKind::TokenUnavailable);
    assert_eq!(failure.not_before(), Some(at(61_000)));
    let failure = scene.at(3_000).request(2).reply(404).fails(FailureKind::NotFound);
    assert_eq!(failure.not_before(), Some(at(61_000)));
    // F8: only while it lies in the future.
    let failure = scene.at(61_000).request(3).reply(404).fails(FailureKind::NotFound);
    assert_eq!(failure.not_before(), None);
}

#[test]
fn k6_a_throttle_of_the_endpoint_is_cut_to_the_longest_server_wait() {
    let mut scene = Scene::with(exact().max_server_wait(secs(20)));
    scene.at(0).start().is("send 1");
    scene.at(0).request(1).start().is("send 1");
    scene.at(0).reply(401).is("refresh until 30000");
    let failure = scene.at(1_000).refreshed(throttled(1 << 40)).fails(FailureKind::TokenUnavailable);
    assert_eq!(failure.not_before(), Some(at(21_000)));
    scene.at(20_999).request(2).start().is("send 1");
    scene.at(20_999).request(2).reply(401).fails(FailureKind::TokenUnavailable);
    scene.at(21_000).request(1).reply(401).is("refresh until 51000");
}

#[test]
fn k6_s8_the_limit_is_that_of_the_policy_when_a_request_looks() {
    // The login stores what it was told.
    let mut login = one_leads(1).upstream.login;
    assert!(login.report_refresh(at(0), 1, throttled(1_000)));
    for (longest, expected) in [(300, 300_000), (2_000, 1_000_000)] {
        let mut scene = Scene::with(exact().max_server_wait(secs(longest)));
        scene.upstream.login = login.clone();
        scene.at(0).start().is("send 1");
        let failure = scene.at(10).reply(401).fails(FailureKind::TokenUnavailable);
        assert_eq!(failure.not_before(), Some(at(expected)));
    }
}

#[test]
fn k6_a_throttle_of_the_endpoint_is_forgotten_when_a_token_is_installed() {
    type Install = fn(&mut Scene);
    let ways: [Install; 2] = [
        |scene| scene.at(2_000).token_replaced(),
        |scene| assert!(scene.at(2_000).report(1, REFRESHED), "a late success of the same lease"),
    ];
    for install in ways {
        let mut scene = one_leads(1);
        let _ = scene.at(1_000).refreshed(throttled(200));
        install(&mut scene);
        scene.at(3_000).request(1).start().is("send 1 token 1");
        scene.at(3_000).request(1).reply(401).is("refresh until 33000");
        let failure = scene.at(3_000).request(2).cancel().fails(FailureKind::Cancelled);
        assert_eq!(failure.not_before(), None);
    }
}

#[test]
fn k6_the_newest_report_of_a_throttle_decides() {
    for (second, expected) in [(Some(secs(5)), Some(at(36_000))), (None, None)] {
        let mut scene = one_leads(1);
        let _ = scene.at(1_000).refreshed(throttled(30));
        scene.at(31_000).request(5).start().is("send 1");
        scene.at(31_000).request(5).reply(401).is("refresh until 61000");
        let failure = scene.at(31_000).request(5).refreshed(RefreshOutcome::Unavailable { retry_after: second });
        assert_eq!(failure.fails(FailureKind::TokenUnavailable).not_before(), expected);
    }
}

// ---- S8 ----

#[test]
fn s8_a_login_shows_its_state() {
    let mut scene = Scene::exact();
    scene.upstream.login.token_expires_in(Timestamp::ZERO, secs(100));
    let state = |scene: &Scene, now: u64| {
        let LoginState { generation, expires, is_rejected, lease, .. } = scene.upstream.login.state(at(now));
        (generation, expires, is_rejected, lease)
    };
    assert_eq!(state(&scene, 0), (Some(0), Some(at(100_000)), false, None));
    scene.at(80_000).start().is("refresh until 110000");
    assert_eq!(state(&scene, 80_000), (Some(0), Some(at(100_000)), false, Some((1, at(110_000)))));
    assert_eq!(state(&scene, 110_000).3, None, "the lease is over");
    let _ = scene.at(80_010).refreshed(REJECTED);
    assert_eq!(state(&scene, 80_010), (Some(0), Some(at(100_000)), true, None));
    scene.at(80_020).token_replaced();
    assert_eq!(state(&scene, 80_020), (Some(1), None, false, None));
    scene.at(80_030).token_removed();
    assert_eq!(state(&scene, 80_030), (None, None, false, None));
    assert_eq!(Login::default(), Login::new());
}

#[test]
fn k8_the_counter_moves_with_each_outcome_that_counts_and_with_no_other() {
    let mut scene = one_leads(2);
    let before = scene.upstream.login.wakeups();
    assert!(!scene.at(10).report(2, REFRESHED) && !scene.at(10).report(0, ABANDONED));
    assert_eq!(scene.upstream.login.wakeups(), before);
    for (n, outcome) in (1..).zip([UNAVAILABLE, REFRESHED]) {
        assert!(scene.at(10).report(1, outcome));
        assert_eq!(scene.upstream.login.wakeups(), before + n);
    }
}

// ---- K11, K12 ----

#[test]
fn k11_a_refresh_that_outlives_its_lease_is_reported_for_the_newest_one() {
    // One refresh runs through three leases of one generation, and then comes.
    let mut scene = one_leads(4);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(60_000).request(2).tick().is("refresh until 90000");
    assert_eq!(scene.machine(2).lease(), Some(3));
    assert!(scene.at(70_000).report(3, REFRESHED));
    scene.at(70_010).request(2).tick().is("send 2 token 1");
    scene.at(70_010).request(3).tick().is("send 2 token 1");

    // Or it is dropped, so that the next one begins anew.
    let mut scene = one_leads(4);
    scene.at(30_000).request(1).tick().is("refresh until 60000");
    scene.at(60_000).request(2).tick().is("refresh until 90000");
    assert!(scene.at(90_000).report(3, ABANDONED));
    scene.at(90_010).request(3).tick().is("refresh until 120010");
    assert_eq!(scene.machine(3).lease(), Some(4));
}

#[test]
fn k12_the_lease_of_a_process_that_died_runs_out() {
    // The login was stored while a refresh was under way, and its process died.
    let mut scene = one_leads(1);
    let stored = LoginSnapshot::new(&scene.upstream.login, at(10_000));
    let mut other = Scene::exact();
    other.upstream.login = stored.restore(&Policy::flextell(), at(500)).unwrap();
    other.at(500).request(1).start().is("await until 20500");
    other.at(20_500).request(1).tick().is("refresh until 50500");
    // Had it lived, its new token would still be welcome.
    assert!(other.at(20_600).report(1, REFRESHED));
    scene.at(10_000).cancel().fails(FailureKind::Cancelled);
}
