//! The invariants I1–I13, over any policy and any order of events of several requests to one upstream.
//!
//! The oracle judges each history. Each test was seen to fail with the planted bugs that its comment names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use retry_machine::{
    Action, BudgetPolicy, Event, Idempotency, RetryMachine, Timestamp, Upstream, WaitReason, derive_seed,
};

#[path = "../common/bounds.rs"]
mod bounds;
mod fleet;
#[allow(dead_code, reason = "the fuzz targets use the rest")]
#[path = "../common/history.rs"]
mod history;
#[path = "../common/oracle.rs"]
mod oracle;
#[path = "../common/plans.rs"]
mod plans;
mod queue;
#[path = "../common/response.rs"]
mod response;
#[allow(dead_code, reason = "the fuzz targets use the rest")]
#[path = "../common/settings.rs"]
mod settings;
#[path = "../common/strategies.rs"]
mod strategies;
#[path = "../common/support.rs"]
mod support;

use history::{FirstToken, Player, Setup};
use oracle::Order;
use plans::{
    plan, plan_at_the_login, plan_of_few_attempts, plan_on_a_budget, plan_with_a_breaker, plan_with_a_deadline,
    request, results,
};
use settings::Settings;
use strategies::config;

proptest! {
    #![proptest_config(config(4_000))]

    /// Planted: late hints bind neither a wait nor a send; half of each hint is waited; the shorter of hint and back-off.
    #[test]
    fn i1_never_sooner_than_any_hint_that_counts(plan in plan()) {
        oracle::hints_bind(&plan.play());
    }

    /// Planted: no look at the gate before a send; a later hint opens it sooner; a 403 that leaves nothing is not heard.
    #[test]
    fn i1_never_through_a_closed_gate(plan in plan()) {
        oracle::the_gate_binds(&plan.play());
    }

    /// Planted: one retry too many; recoveries are not counted; a wider limit of a request wins; unprocessed repeated twice.
    #[test]
    fn i2_attempts_are_at_most_one_and_retries_and_recoveries(plan in plan_of_few_attempts()) {
        oracle::attempts_are_bounded(&plan.play());
    }

    /// Planted: a tick sends again after the answer; a cancel after the end surfaces `cancelled`.
    #[test]
    fn i3_after_a_terminal_action_the_same_comes_back_forever(plan in plan()) {
        oracle::the_end_is_final(&plan.play());
    }

    /// Planted: 502 is retried.
    #[test]
    fn i4_no_attempt_follows_a_status_that_is_not_retried(plan in plan()) {
        oracle::final_replies_end(&plan.play());
    }

    /// Planted: a 404 is retried.
    #[test]
    fn d1_each_result_has_its_place_in_the_table(plan in plan()) {
        oracle::results_follow_the_table(&plan.play());
    }

    /// Planted: a 401 is backed off from; after an early refresh a 401 is sent again with the old token.
    #[test]
    fn i5_after_a_401_an_attempt_has_a_newer_token(plan in plan()) {
        oracle::refused_tokens_are_not_sent_again(&plan.play());
    }

    /// Planted: those of K3 to K9 in `proptests/planted`.
    #[test]
    fn i6_k3_at_most_one_unexpired_lease_and_nobody_sends_with_a_dead_token(
        plan in prop_oneof![plan(), plan_at_the_login()],
    ) {
        oracle::logins_keep_the_rules(&plan.play());
    }

    /// Planted: jitter after the cap; no cap; one doubling too many; twice the gate's spread; the longer of two after a 429;
    /// the hint after a 503 even where it is shorter.
    #[test]
    fn i8_waits_are_within_the_policys_bounds(plan in plan()) {
        oracle::waits_are_within_bounds(&plan.play());
    }

    /// Planted: a retry is granted for less than its cost; a refund beyond the capacity; none for a late success; two for one.
    #[test]
    fn i9_the_budget_stays_between_zero_and_its_capacity(plan in plan_on_a_budget()) {
        oracle::the_budget_is_kept(&plan.play());
    }

    /// Planted: a late permanent error counts as a failure of the service.
    #[test]
    fn d18_the_breaker_hears_the_health_of_the_service(plan in plan_with_a_breaker()) {
        oracle::the_breaker_hears_the_health(&plan.play());
    }

    /// Planted: the hint of a surfaced reply is lost beside a late hint that binds.
    #[test]
    fn e1_a_failure_tells_what_is_known(plan in plan()) {
        oracle::failures_tell_what_is_known(&plan.play());
    }

    /// Planted: broken off is retried for all; a give-up counts as not sent; of the 5xx only 500 is ambiguous.
    #[test]
    fn i10_an_unsafe_request_is_never_sent_again_after_an_ambiguous_failure(plan in plan()) {
        oracle::ambiguous_failures_end(&plan.play());
    }

    /// Planted: a draw depends on the draws before it.
    #[test]
    fn i12_the_same_input_gives_the_same_output(plan in plan()) {
        oracle::histories_repeat(&plan.play());
    }

    /// Planted: a restored lease has half of its time.
    #[test]
    fn i13_a_restored_state_gives_the_same_action(plan in plan()) {
        oracle::steps_repeat(&plan.play());
    }

    /// Planted: an early tick prolongs its wait; an early tick gives the attempt up.
    #[test]
    fn t4_early_ticks_change_nothing(plan in plan()) {
        oracle::early_ticks_change_nothing(&plan.play());
    }

    /// Planted: a late reply ends its wait.
    #[test]
    fn f7_only_ticks_end_waits(plan in plan()) {
        oracle::only_ticks_end_waits(&plan.play());
    }

    /// Planted: a wait may end just at the deadline; no look at the deadline before a send.
    #[test]
    fn l3_no_wait_ends_at_or_after_the_deadline(plan in plan_with_a_deadline()) {
        oracle::the_deadline_binds(&plan.play());
    }

    /// Planted: retries are not counted; a hint binds at the instant of its end.
    #[test]
    fn i7_every_request_ends_after_a_bounded_number_of_answers(
        settings in strategies::settings(),
        requests in prop::collection::vec(request(), 1..5),
        results in results(),
    ) {
        let settings = Settings {
            max_retries: settings.max_retries.min(6),
            throttle_retries: settings.throttle_retries.map(|retries| retries.min(4)),
            max_token_recoveries: settings.max_token_recoveries.min(3),
            ..settings
        };
        let player = Player::new(Setup { settings, seed: 1, first_token: FirstToken::OfUnknownExpiry, requests });
        for order in [Order::ByTime, Order::OneByOne] {
            oracle::check(&oracle::every_request_ends(player.clone(), order, &results));
        }
    }
}

/// Asserts that the plans reach every case that the oracle looks at.
#[test]
fn i11_plans_reach_every_kind_of_action_and_of_failure() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..600 {
        let plan = plan().new_tree(&mut runner).unwrap().current();
        for action in plan.play().entries.iter().filter_map(|entry| entry.action) {
            reached.insert(match action {
                Action::Fail(failure) => format!("{:?}", failure.kind()),
                Action::Wait { reason: WaitReason::Hint(source), .. } => format!("{source:?}"),
                Action::Wait { reason, .. } => format!("{reason:?}"),
                other => format!("{other:?}").split(' ').next().unwrap().into(),
            });
        }
    }
    #[rustfmt::skip]
    let all = [
        "Ambiguous", "AwaitRefresh", "Backoff", "BadRequest", "BreakerOpen", "Budget", "Cancelled", "Conflict",
        "Deadline", "Done", "Exhausted", "Forbidden", "Gate", "InFlight", "NotFound", "Pushback", "RateLimitReset",
        "RefreshToken", "RetryAfter", "RetryAfterMs", "Send", "ServerWaitTooLong", "TokenRejected", "TokenUnavailable",
        "Told", "Transport", "Unauthorized", "UnexpectedStatus", "Validation",
    ];
    assert_eq!(reached.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// Shares one upstream among many threads with their own requests. The budget holds in any order.
///
/// There is no bug to plant, because the upstream can be changed only through `&mut`.
#[test]
fn i9_under_many_threads_no_more_is_granted_than_the_budget_holds() {
    let budget =
        BudgetPolicy { capacity: 50, retry_cost: 5, throttle_cost: 0, success_refund: 0, ..BudgetPolicy::DEFAULT };
    let upstream = std::sync::Mutex::new(Upstream::new(support::exact().budget(Some(budget)).build().unwrap()));
    let granted = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (upstream, granted) = (&upstream, &granted);
            scope.spawn(move || {
                for n in 0..50 {
                    let mut machine = RetryMachine::new(Idempotency::Idempotent, derive_seed(thread, n));
                    let mut tell = |event| machine.handle(Timestamp::ZERO, event, &mut *upstream.lock().unwrap());
                    let _ = tell(Event::Start);
                    if let Action::Wait { .. } =
                        tell(Event::Reply { attempt: 1, reply: retry_machine::Reply::new(503) })
                    {
                        granted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(granted.into_inner(), 10);
}
