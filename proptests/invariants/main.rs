//! The invariants I1–I12, over any policy and any order of events of several requests to one upstream.
//!
//! Each was seen to fail once, with the bug that stands above it planted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use retry_machine::{
    Action, BudgetPolicy, Event, FailureKind, Idempotency, RefreshOutcome, RetryMachine, Timestamp, TransportErrorKind,
    Upstream, WaitReason, derive_seed,
};

#[path = "../common/bounds.rs"]
mod bounds;
#[path = "../common/history.rs"]
mod history;
#[path = "../common/plans.rs"]
mod plans;
#[path = "../common/strategies.rs"]
mod strategies;
#[path = "../common/support.rs"]
mod support;

use history::{Ended, History, Step};
use plans::{idempotency, plan, plan_of_few_attempts, plan_on_a_budget, plan_with_a_deadline, results};
use strategies::{config, settings};

impl History {
    /// Each request's steps in turn, with a state of the judge's own per request.
    fn judge<S: Default + Clone>(&self, mut judge: impl FnMut(&mut S, &Step)) {
        let mut states = vec![S::default(); self.requests.len()];
        for step in &self.steps {
            judge(&mut states[step.request], step);
        }
    }
}

proptest! {
    #![proptest_config(config(4_000))]

    /// Planted: late hints bind neither a wait nor a send; half of each hint is waited; the shorter of hint and
    /// back-off.
    #[test]
    fn i1_never_sooner_than_any_hint_that_counts(plan in plan()) {
        let history = plan.play();
        history.judge(|not_before: &mut u64, step| {
            if let Some(response) = step.heard().filter(|response| plan.settings.hint_counts(response.status)) {
                let hint = response.hint().map_or(0, |(nanos, _)| step.at.saturating_add(nanos));
                *not_before = hint.max(*not_before);
            }
            assert!(step.sent().is_none() || step.at >= *not_before, "sent before {not_before}: {step:?}");
        });
    }

    /// Planted: no look at the gate before a send; a later hint opens it sooner; a 403 that leaves nothing is not
    /// heard.
    #[test]
    fn i1_never_through_a_closed_gate(plan in plan()) {
        let mut gate = bounds::Gate::default();
        for step in &plan.play().steps {
            gate.hear(step, &plan.settings);
            assert!(step.sent().is_none() || step.at >= gate.opens_at, "sent before {}: {step:?}", gate.opens_at);
        }
    }

    /// Planted: one retry too many; recoveries are not counted.
    #[test]
    fn i2_attempts_are_at_most_one_and_retries_and_recoveries(plan in plan_of_few_attempts()) {
        let most = 1 + u64::from(plan.settings.max_retries) + u64::from(plan.settings.max_token_recoveries);
        plan.play().judge(|attempts: &mut u64, step| {
            let Some(sent) = step.sent() else { return };
            *attempts += 1;
            assert_eq!(u64::from(sent.attempt), *attempts, "attempts are numbered from 1: {step:?}");
            assert!(*attempts <= most, "{step:?}");
        });
    }

    /// Planted: a tick sends again after the answer; a cancel after the end surfaces `cancelled`.
    #[test]
    fn i3_after_a_terminal_action_the_same_comes_back_for_ever(plan in plan()) {
        plan.play().judge(|end: &mut Option<Action>, step| {
            assert!(end.is_none() || step.action.is_none() || step.action == *end, "{step:?}");
            *end = end.or(step.action.filter(Action::is_terminal));
        });
    }

    /// Planted: 502 is retried.
    #[test]
    fn i4_no_attempt_follows_a_status_that_is_not_retried(plan in plan()) {
        plan.play().judge(|is_over: &mut bool, step| {
            if let Some((_, Ended::Answered(response))) = step.ended() {
                *is_over |= response.status != 401 && !plan.settings.retries(response.status);
            }
            assert!(!*is_over || step.action.is_none_or(|action| action.is_terminal()), "{step:?}");
        });
    }

    /// Planted: a 401 is backed off from; after an early refresh a 401 is sent again with the old token.
    #[test]
    fn i5_after_a_401_an_attempt_has_a_newer_token(plan in plan()) {
        plan.play().judge(|refused: &mut Option<u32>, step| {
            if let Some((flight, Ended::Answered(response))) = step.ended() {
                *refused = (*refused).max(Some(flight.generation).filter(|_| response.status == 401));
            }
            if let Some(sent) = step.sent() {
                assert!(refused.is_none_or(|refused| sent.generation > refused), "{step:?}");
            }
        });
    }

    /// Planted: a lease is given beside an open one; a follower's outcome counts; the throttled endpoint is not left
    /// alone.
    #[test]
    fn i6_at_most_one_unexpired_lease(plan in plan()) {
        let mut lease = bounds::Lease::default();
        for step in &plan.play().steps {
            lease.hear(step);
            if let Some(Action::RefreshToken { until, .. }) = step.action {
                assert!(!lease.is_open(step.at), "a second lease beside {lease:?}: {step:?}");
                assert!(step.at >= lease.throttled_until, "the endpoint is not left alone: {step:?}");
                lease.give(step.request, until.as_nanos());
            }
            if let Some(sent) = step.sent() {
                assert_eq!(sent.generation, lease.generation, "{step:?}");
            }
        }
    }

    /// Planted: jitter after the cap; no cap; one doubling too many; twice the gate's spread; the longer of two after
    /// a 429; the
    /// hint after a 503 even where it is shorter.
    #[test]
    fn i8_waits_are_within_the_policys_bounds(plan in plan()) {
        let history = plan.play();
        let mut gate = bounds::Gate::default();
        let mut waits = vec![bounds::Waits::default(); history.requests.len()];
        for step in &history.steps {
            gate.hear(step, &plan.settings);
            waits[step.request].hear(step, &plan.settings, &gate);
        }
    }

    /// Planted: a retry is granted for less than its cost; a refund beyond the capacity; none for a late success; two
    /// for one.
    #[test]
    fn i9_the_budget_stays_between_zero_and_its_capacity(plan in plan_on_a_budget()) {
        let budget = plan.settings.budget.unwrap();
        let (mut balance, mut refunds, mut charged) = (budget.capacity, 0_u64, 0_u64);
        let mut succeeded = BTreeSet::new();
        for step in &plan.play().steps {
            // F6: a late one counts too, each attempt's once.
            let success = step.success().is_some_and(|attempt| succeeded.insert((step.request, attempt)));
            if success {
                balance = balance.saturating_add(budget.success_refund).min(budget.capacity);
                refunds += u64::from(budget.success_refund);
            }
            let Some(failure) = step.failure() else { continue };
            let throttled = matches!(failure, Ended::Answered(response) if response.status == 429);
            let cost = if throttled { budget.throttle_cost } else { budget.retry_cost };
            match step.action {
                Some(Action::Wait { .. }) => {
                    assert!(cost <= balance, "granted with {balance}: {step:?}");
                    balance -= cost;
                    charged += u64::from(cost);
                }
                Some(Action::Fail(failure)) if failure.kind() == FailureKind::Budget => {
                    assert!(cost > balance, "refused with {balance}: {step:?}");
                }
                _ => {}
            }
        }
        prop_assert!(charged <= u64::from(budget.capacity) + refunds);
    }

    /// Planted: broken off is retried for all; a give-up counts as not sent; of the 5xx only 500 is ambiguous.
    #[test]
    fn i10_an_unsafe_request_is_never_sent_again_after_an_ambiguous_failure(plan in plan()) {
        plan.play().judge(|is_ambiguous: &mut bool, step| {
            *is_ambiguous |= plan.requests[step.request] == Idempotency::NonIdempotent && match step.ended() {
                Some((_, Ended::GivenUp)) => true,
                Some((_, Ended::Failed(error))) => error != TransportErrorKind::NotSent,
                Some((_, Ended::Answered(response))) => {
                    plan.settings.ambiguous_5xx && (500..600).contains(&response.status) && response.status != 503
                }
                None => false,
            };
            assert!(!*is_ambiguous || step.action.is_none_or(|action| action.is_terminal()), "{step:?}");
        });
    }

    /// Planted: a draw depends on the draws before it.
    #[test]
    fn i12_the_same_input_gives_the_same_output(plan in plan()) {
        let (one, other) = (plan.play(), plan.play());
        prop_assert_eq!(&one.steps, &other.steps);
        prop_assert_eq!(&one.end, &other.end);
        let hash = |history: &History| {
            let mut hasher = DefaultHasher::new();
            history.end.hash(&mut hasher);
            hasher.finish()
        };
        prop_assert_eq!(hash(&one), hash(&other));
    }

    /// Planted: an early tick prolongs its wait; an early tick gives the attempt up.
    #[test]
    fn t4_early_ticks_change_nothing(plan in plan()) {
        let (calm, nervous) = (plan.play(), plan.play_with(true));
        for (calm, nervous) in calm.steps.iter().zip(&nervous.steps) {
            prop_assert_eq!(calm, nervous);
        }
        prop_assert_eq!(calm.end, nervous.end);
    }

    /// Planted: a wait may end just at the deadline; no look at the deadline before a send.
    #[test]
    fn l3_no_wait_ends_at_or_after_the_deadline(plan in plan_with_a_deadline()) {
        let deadline = plan.settings.deadline.unwrap();
        for step in &plan.play().steps {
            let end_of_time = step.before.started.unwrap_or(step.at).saturating_add(deadline);
            if let Some(Action::Wait { until, .. }) = step.action {
                prop_assert!(until.as_nanos() < end_of_time, "{:?}", step);
            }
            if let Some(sent) = step.sent() {
                prop_assert!(step.at < end_of_time && sent.limit.unwrap() <= end_of_time, "{:?}", step);
            }
        }
    }
}

/// Events that answer each request's last action on time, until all have ended; returns how many it took.
fn obey(
    policy: &strategies::Settings,
    requests: &[Idempotency],
    answers: &[(Result<plans::Response, TransportErrorKind>, RefreshOutcome)],
) -> usize {
    let mut upstream = Upstream::new(policy.builder().build().unwrap());
    let mut now = Timestamp::ZERO;
    let mut machines: Vec<_> =
        requests.iter().zip(0..).map(|(idempotency, n)| RetryMachine::new(*idempotency, derive_seed(1, n))).collect();
    let mut actions: Vec<_> = machines.iter_mut().map(|m| m.handle(now, Event::Start, &mut upstream)).collect();
    let mut answers = answers.iter().cycle();
    for events in 0.. {
        let due = |n: &usize| match actions[*n] {
            Action::Wait { until, .. } | Action::AwaitRefresh { until, .. } => until.max(now),
            _ => now,
        };
        let open = (0..machines.len()).filter(|n| !actions[*n].is_terminal());
        let Some(next) = open.min_by_key(due) else { return events };
        assert!(events < 5_000, "it does not end: {:?}", actions[next]);
        now = due(&next);
        let (result, outcome) = answers.next().unwrap();
        let event = match (actions[next], result) {
            (Action::Send { attempt, .. }, Ok(response)) => Event::Reply { attempt, reply: response.reply() },
            (Action::Send { attempt, .. }, Err(error)) => Event::TransportError { attempt, kind: *error },
            (Action::RefreshToken { .. }, _) => Event::Refreshed(*outcome),
            _ => Event::Tick,
        };
        actions[next] = machines[next].handle(now, event, &mut upstream);
    }
    unreachable!("the events do not run out")
}

proptest! {
    #![proptest_config(config(4_000))]

    /// Planted: retries are not counted; a hint binds at the instant of its end.
    #[test]
    fn i7_every_request_ends_after_a_bounded_number_of_answers(
        settings in settings(),
        requests in prop::collection::vec(idempotency(), 1..5),
        answers in results(),
    ) {
        let settings = strategies::Settings {
            max_retries: settings.max_retries.min(6),
            max_token_recoveries: settings.max_token_recoveries.min(3),
            ..settings
        };
        let attempts = 1 + settings.max_retries as usize + settings.max_token_recoveries as usize;
        let count = requests.len();
        // Each attempt: its answer, its wait's end, a refresh led or three followed, before its time and after a 401;
        // and a wait at the gate for each time that any attempt closed it.
        let most = count * attempts * (2 + 2 * 4 + count * attempts);
        let events = obey(&settings, &requests, &answers);
        prop_assert!(events <= most, "{} events", events);
    }
}

/// What the judges above look at does happen.
#[test]
fn i11_plans_reach_every_kind_of_action_and_of_failure() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..600 {
        let plan = plan().new_tree(&mut runner).unwrap().current();
        for action in plan.play().steps.iter().filter_map(|step| step.action) {
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
        "Deadline", "Done", "Exhausted", "Forbidden", "Gate", "InFlight", "NotFound", "RateLimitReset", "RefreshToken",
        "RetryAfter", "RetryAfterMs", "Send", "ServerWaitTooLong", "TokenRejected", "TokenUnavailable", "Transport",
        "Unauthorized", "UnexpectedStatus", "Validation",
    ];
    assert_eq!(reached.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// One upstream shared by many threads, each with requests of its own: whatever the order, the budget holds.
///
/// No bug to plant: the upstream has no way in but `&mut`.
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
                    let mut tell = |event| machine.handle(Timestamp::ZERO, event, &mut upstream.lock().unwrap());
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
