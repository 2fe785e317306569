//! The queue at the gate (S7), and the way back from any history, in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, FailureKind, GateReason, Jitter, Policy, PolicyBuilder, RequestLimits,
    Timestamp, TransportErrorKind, Upstream, WaitReason,
};

use super::fleet::{Answer, Fleet, MILLIS, SECOND, Service, Step, nanos};
use super::oracle;
use super::plans::{plan, plan_with_a_deadline};
use super::strategies::config;

/// A fleet that is not yet made.
#[derive(Clone, Debug)]
struct FleetPlan {
    jitter: Jitter,
    longest: u64,
    retries: u16,
    throttle_retries: Option<u16>,
    has_breaker: bool,
    deadline: Option<u64>,
    service: Service,
    latency: u64,
    /// The times between two starts.
    gaps: Vec<u64>,
    /// Closings by hand: their times and lengths.
    closings: Vec<(u64, u64)>,
}

impl FleetPlan {
    fn policy(&self) -> PolicyBuilder {
        Policy::flextell()
            .into_builder()
            .jitter(self.jitter)
            .max_server_wait(Duration::from_nanos(self.longest))
            .max_retries(self.retries)
            .throttle_retries(self.throttle_retries)
            .deadline(self.deadline.map(Duration::from_nanos))
            .breaker(self.has_breaker.then_some(BreakerPolicy::DEFAULT))
    }

    fn play(&self) -> Fleet {
        let mut fleet = Fleet::new(self.policy().build().unwrap(), self.service.clone(), self.latency);
        let mut at = 0;
        for gap in &self.gaps {
            at += gap;
            fleet.start(at, RequestLimits::default());
        }
        for (at, length) in &self.closings {
            fleet.close_gate(*at, at + length);
        }
        fleet.run(4_000 * self.gaps.len());
        fleet
    }
}

fn time(millis: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    millis.prop_map(|millis| millis * MILLIS)
}

fn answer() -> impl Strategy<Value = Answer> {
    use TransportErrorKind::{Broken, NotSent, Permanent, TimedOut, Unprocessed};
    let hint = || prop_oneof![3 => time(1..20_000), 1 => time(20_000..400_000), 1 => Just(0)];
    prop_oneof![
        8 => Just(Answer::Good),
        1 => hint().prop_map(Answer::LastOne),
        3 => option::weighted(0.8, hint()).prop_map(Answer::Throttled),
        1 => option::weighted(0.3, hint()).prop_map(Answer::Unavailable),
        1 => select(vec![Broken, NotSent, Permanent, TimedOut, Unprocessed]).prop_map(Answer::Fails),
    ]
}

fn fleet() -> impl Strategy<Value = FleetPlan> {
    let service = prop_oneof![
        vec(answer(), 1..40).prop_map(Service::Script),
        (1_u64..20, time(500..60_000)).prop_map(|(answers, window)| Service::Windows { answers, window }),
    ];
    let gap = prop_oneof![2 => Just(0), 3 => time(0..100), 2 => time(0..2_000), 1 => time(0..40_000)];
    let settings = (
        select(vec![Jitter::Spread, Jitter::None, Jitter::FULL, Jitter::Decorrelated]),
        prop_oneof![3 => Just(300 * SECOND), 2 => time(0..60_000)],
        0_u16..8,
        option::weighted(0.4, 0_u16..20),
        prop::bool::weighted(0.3),
        option::weighted(0.2, time(100..120_000)),
    );
    let closings = vec((time(0..60_000), time(0..60_000)), 0..3);
    (settings, service, time(0..3_000), vec(gap, 1..60), closings).prop_map(
        |(settings, service, latency, gaps, closings)| FleetPlan {
            jitter: settings.0,
            longest: settings.1,
            retries: settings.2,
            throttle_retries: settings.3,
            has_breaker: settings.4,
            deadline: settings.5,
            service,
            latency,
            gaps,
            closings,
        },
    )
}

/// The first wait at the gate of a request, and its first attempt.
struct Queued<'a> {
    begin: usize,
    sent: Option<usize>,
    step: &'a Step,
}

/// Returns the requests that queued before their first attempt, in the order in which they came.
fn queued(fleet: &Fleet) -> Vec<Queued<'_>> {
    let mut queued = Vec::new();
    for (begin, step) in fleet.steps.iter().enumerate().filter(|(_, step)| step.begins_to_queue()) {
        let of_it = |(_, other): &(usize, &Step)| other.request == step.request && other.is_send();
        let sent = fleet.steps.iter().enumerate().skip(begin).find(of_it).map(|(sent, _)| sent);
        queued.push(Queued { begin, sent, step });
    }
    queued
}

/// S7: who came first is sent first, or at the same instant. C14 excepts the end of a queue.
fn assert_fair(fleet: &Fleet) {
    let steps = &fleet.steps;
    for first in queued(fleet) {
        let Some(sent) = first.sent else { continue };
        for later in first.begin + 1..sent {
            if steps[later].ends_queue() {
                break;
            }
            // One that starts later, and is sent before.
            let starts = steps[later].previous.is_none() && steps[later].request.is_some();
            let overtakes = starts
                && steps[later..sent]
                    .iter()
                    .any(|step| step.request == steps[later].request && step.is_send() && step.at < steps[sent].at);
            let ends = steps[later..sent].iter().any(Step::ends_queue);
            assert!(!overtakes || ends, "S7: {:?} overtakes {:?}", steps[later], first.step);
        }
    }
}

/// S7, C8, C9: between two that queued one after the other lies the pace.
fn assert_paced(fleet: &Fleet) {
    let steps = &fleet.steps;
    let all = queued(fleet);
    for pair in all.windows(2) {
        let (Some(one), Some(other)) = (pair[0].sent, pair[1].sent) else { continue };
        let between = &steps[pair[0].begin..=other.max(one)];
        // Without a pace there is no distance to keep (S1).
        let had_pace = pair[0].step.after.pace.is_some();
        if !had_pace || between.iter().any(|step| step.ends_queue() || step.request.is_none()) {
            continue;
        }
        // The pace when they came, or a faster one that the opening or a measurement brought.
        let paces = between.iter().flat_map(|step| [step.gate.pace, step.after.pace]).flatten();
        let Some(pace) = paces.min() else { continue };
        // A clock at an odd speed rounds.
        let least = nanos(pace).saturating_sub(16);
        let (one, other) = (steps[one].at, steps[other].at);
        assert!(
            other >= one.saturating_add(least),
            "S7: {one} and {other} are closer than {pace:?}: {:?}",
            pair[1].step
        );
    }
}

/// C13: returns the time that a request spent in waits for hints and at the gate.
fn server_time(steps: &[&Step]) -> u64 {
    let is_for_server =
        |step: &Step| matches!(step.action, Some(Action::Wait { reason, .. }) if reason != WaitReason::Backoff);
    steps.windows(2).filter(|pair| is_for_server(pair[0])).map(|pair| pair[1].at - pair[0].at).sum()
}

proptest! {
    #![proptest_config(config(1_500))]

    /// Planted: a newcomer overtakes; a slot is not moved by a closing.
    #[test]
    fn s7_who_came_first_to_the_queue_is_sent_first(plan in fleet()) {
        assert_fair(&plan.play());
    }

    /// Planted: a head does not move the others; the next slot is not a pace later.
    #[test]
    fn s7_between_two_that_queue_lies_the_pace(plan in fleet()) {
        assert_paced(&plan.play());
    }

    /// Planted: the planned time counts and not the real one; a prolonged wait is not looked at.
    #[test]
    fn c13_nobody_waits_for_the_server_longer_than_the_longest_server_wait(plan in fleet()) {
        for steps in plan.play().by_request() {
            let spent = server_time(&steps);
            prop_assert!(spent <= plan.longest, "C13: {spent} of {}: {steps:?}", plan.longest);
        }
    }

    /// Planted: a head does not move the others.
    #[test]
    fn c10_a_head_moves_all_slots_back_by_a_pace(plan in fleet()) {
        for step in plan.play().steps {
            // The hint of a request closed the open gate, and so it waits as the head.
            let by_hint = matches!(step.after.closed, Some((_, GateReason::Throttle)));
            let closes = step.gate.closed.is_none() && by_hint && step.request.is_some();
            let (Some(_), Some(pace), Some(Action::Wait { .. })) = (step.gate.pace, step.after.pace, step.action) else {
                continue;
            };
            let first = step.closed_until().unwrap_or(0).saturating_add(nanos(pace));
            prop_assert!(!closes || step.after.next_free.as_nanos().saturating_add(16) >= first, "C10: {step:?}");
        }
    }

    /// Planted: C12's limit is missing.
    #[test]
    fn c12_one_reply_closes_the_gate_for_at_most_the_longest_server_wait(plan in fleet()) {
        let fleet = plan.play();
        let mut by_hand = 0;
        for step in &fleet.steps {
            if step.request.is_none() {
                by_hand = by_hand.max(step.closed_until().unwrap_or(0));
            }
            let latest = step.at.saturating_add(plan.longest).max(by_hand);
            let before = step.gate.closed.map_or(0, |(until, _)| until.as_nanos());
            prop_assert!(step.closed_until().is_none_or(|until| until <= latest.max(before)), "C12: {step:?}");
        }
    }

    /// Planted: a wait under way is shortened.
    #[test]
    fn c9_no_wait_is_shortened(plan in fleet()) {
        for step in plan.play().steps {
            let Some(Action::Wait { until, .. }) = step.previous else { continue };
            prop_assert!(step.at >= until.as_nanos(), "C9: {step:?}");
        }
    }

    /// Planted: the draw on top of a hint counts for the deadline.
    #[test]
    fn f3_no_draw_on_top_ends_a_request_for_its_deadline(plan in plan_with_a_deadline()) {
        oracle::waits_are_within_bounds(&plan.play());
    }

    /// After any history, good answers at a calm rate bring all back. One request comes each five seconds, and its answer
    /// after 100 ms. After an hour and two of the longest server waits at most the gate is open and nobody waits there, the
    /// budget is full, and the breaker closed. After four hours more there is no pace.
    ///
    /// The bounds: a closing lasts for the longest server wait. A queue of abandoned slots passes within as long, or ends with
    /// C14. A measurement of eight answers takes 40 s, and makes the pace at most the time between two answers. Each one after
    /// that makes it shorter by a 64th, as long as an answer comes before the next free slot (C7): 250 of them, 10,000 s, from
    /// five seconds down to 100 ms.
    #[test]
    fn s7_after_any_history_good_answers_bring_all_back(plan in plan()) {
        let longest = 300 * SECOND;
        let settings = super::settings::Settings {
            max_server_wait: plan.setup.settings.max_server_wait.min(longest),
            deadline: None,
            // It must leave time for an answer.
            attempt_timeout: None,
            budget: Some(BudgetPolicy::DEFAULT),
            ..plan.setup.settings.clone()
        };
        let open_for = settings.breaker.map_or(0, |breaker| nanos(breaker.open_for));
        let steps = plan.steps.iter().filter(|step| !step.is_by_hand()).cloned().collect();
        let setup = super::history::Setup { settings, ..plan.setup };
        let history = super::plans::Plan { setup, steps }.play();
        let now = history.entries.last().map_or(0, |entry| entry.at);
        // Neither the end of time nor a breaker that is open for years.
        prop_assume!(now < u64::MAX / 2 && open_for <= 600 * SECOND);
        let super::history::Parts { service, mut logins, mut gates } = history.end.1;
        let (login, gate) = (logins.swap_remove(0), gates.swap_remove(0));
        let mut upstream = Upstream { service, login, gate };
        // The token is another matter.
        upstream.login.token_replaced(Timestamp::from_nanos(now), None);
        assert_comes_back(upstream, now, longest);
    }

    /// C4, C1: after 25 minutes without a call a request has its five retries, whatever was before.
    #[test]
    fn c4_after_a_quiet_hour_a_request_has_its_retries(plan in fleet(), minutes in 25_u64..120) {
        // The breaker bounds retries, too.
        let policy = plan.policy().breaker(None).deadline(None).max_retries(5).throttle_retries(None);
        let mut fleet = Fleet::new(policy.build().unwrap(), plan.service.clone(), plan.latency);
        for n in 0..plan.gaps.len() as u64 {
            fleet.start(n * 100 * MILLIS, RequestLimits::default());
        }
        fleet.run(4_000 * plan.gaps.len());
        let later = fleet.now + minutes * 60 * SECOND;
        let mut alone = Fleet::on(fleet.upstream, Service::Script(vec![Answer::Unavailable(None)]), 50 * MILLIS);
        alone.start(later, RequestLimits::default());
        alone.run(100);
        let Action::Fail(failure) = alone.ends()[0] else { panic!("it fails") };
        prop_assert_eq!((failure.kind(), failure.attempts()), (FailureKind::Exhausted, 6));
    }

    /// Asserts that no request is stuck, at the limits of all settings, with hints of zero and of centuries, and a clock that
    /// jumps.
    #[test]
    fn i7_no_request_of_a_fleet_is_stuck(
        extremes in extremes(),
        answers in vec(extreme_answer(), 1..12),
        gaps in vec(prop_oneof![3 => Just(0), 2 => time(0..2_000), 1 => Just(100 * 365 * 24 * 3_600 * SECOND)], 1..30),
        latency in time(0..1_000),
    ) {
        let mut fleet = Fleet::new(extremes, Service::Script(answers), latency);
        let mut at = 0_u64;
        for gap in &gaps {
            at = at.saturating_add(*gap);
            fleet.start(at, RequestLimits::default());
        }
        fleet.run(500 * gaps.len());
    }
}

/// Gives a good answer to one request each five seconds, until the gate is open without a pace, the budget full, and the breaker
/// closed.
fn assert_comes_back(upstream: Upstream, now: u64, longest: u64) {
    let gap = 5 * SECOND;
    let (mut upstream, mut at) = (upstream, now);
    for (round, length) in [3_600 * SECOND + 2 * longest].into_iter().chain([600 * SECOND; 24]).enumerate() {
        let instant = Timestamp::from_nanos(at);
        let state = upstream.gate.state(instant);
        let balance = upstream.service.budget_balance(instant);
        let is_full = balance == Some(BudgetPolicy::DEFAULT.capacity);
        let is_open = state.closed.is_none() && state.next_free == instant;
        let is_calm = is_open && is_full && upstream.service.next_probe(instant).is_none();
        if is_calm && state.pace.is_none() {
            return;
        }
        assert!(round == 0 || is_calm, "not calm: {state:?}, {balance:?}");
        let mut fleet = Fleet::on(upstream, Service::Script(vec![Answer::Good]), 100 * MILLIS);
        for n in 1..=length / gap {
            fleet.start(at + n * gap, RequestLimits::default());
        }
        fleet.run(100_000);
        at = fleet.now + gap;
        upstream = fleet.upstream;
    }
    panic!("not back: {:?}", upstream.gate.state(Timestamp::from_nanos(at)));
}

fn extreme() -> impl Strategy<Value = u64> {
    select(vec![0, 1, MILLIS, SECOND, 300 * SECOND, u64::MAX / 2, u64::MAX])
}

/// Generates policies at the limits of what a policy can be.
fn extremes() -> impl Strategy<Value = Policy> {
    let times = (extreme(), extreme(), extreme(), option::weighted(0.2, extreme()), extreme());
    let budget = (select(vec![0, 1, 25, u32::MAX]), select(vec![0, 5, u32::MAX]), extreme());
    let jitter = select(vec![Jitter::None, Jitter::Spread, Jitter::FULL, Jitter::Decorrelated]);
    (times, option::weighted(0.8, budget), jitter, prop::bool::weighted(0.8), option::weighted(0.5, extreme()))
        .prop_map(|(times, budget, jitter, gate, open_for)| {
            let span = Duration::from_nanos;
            let budget = budget.map(|(capacity, cost, refill)| BudgetPolicy {
                capacity,
                retry_cost: cost,
                throttle_cost: cost,
                refill_every: span(refill),
                ..BudgetPolicy::DEFAULT
            });
            let breaker = open_for.map(|open_for| BreakerPolicy { failure_threshold: 1, open_for: span(open_for) });
            Policy::flextell()
                .into_builder()
                .initial_backoff(span(times.0))
                .max_backoff(span(times.1))
                .max_server_wait(span(times.2))
                .attempt_timeout(times.3.map(span))
                .jitter_spread(span(times.4))
                .jitter(jitter)
                .gate(gate)
                .budget(budget)
                .breaker(breaker)
                .build()
                .unwrap()
        })
}

fn extreme_answer() -> impl Strategy<Value = Answer> {
    use TransportErrorKind::{NotSent, TimedOut, Unprocessed};
    prop_oneof![
        2 => Just(Answer::Good),
        3 => option::of(extreme()).prop_map(Answer::Throttled),
        2 => option::of(extreme()).prop_map(Answer::Unavailable),
        1 => extreme().prop_map(|nanos| Answer::LastOne(nanos / 2)),
        1 => select(vec![NotSent, TimedOut, Unprocessed]).prop_map(Answer::Fails),
    ]
}

/// Ten thousand requests come at once to a closed gate. Each is sent or fails, in the order in which they came.
#[test]
fn s7_ten_thousand_requests_at_once_at_a_closed_gate_come_to_an_end() {
    let answers = vec![Answer::Throttled(Some(30 * SECOND))];
    for service in [
        Service::Script(answers.into_iter().chain(vec![Answer::Good; 20_000]).collect()),
        Service::Windows { answers: 100, window: 10 * SECOND },
    ] {
        let mut fleet = Fleet::new(Policy::flextell(), service, 50 * MILLIS);
        fleet.start(0, RequestLimits::default());
        for _ in 1..10_000 {
            fleet.start(60 * MILLIS, RequestLimits::default());
        }
        fleet.close_gate(55 * MILLIS, 30 * SECOND);
        fleet.run(1_000_000);
        let ends: BTreeSet<_> =
            fleet.ends().iter().map(|end| format!("{end:?}").split(' ').next().unwrap().to_owned()).collect();
        assert!(ends.contains("Done"), "{ends:?}");
        // In the order in which they came.
        let mut last = 0;
        for steps in fleet.by_request().iter().skip(1) {
            let Some(first) = steps.iter().find(|step| step.is_send()) else { continue };
            assert!(first.at >= last, "S7: {first:?} before {last}");
            last = first.at;
        }
    }
}

/// S1: a request that comes to a gate without a queue waits for its opening only, also where a queue was there before.
#[test]
fn s1_after_an_opening_by_hand_nobody_queues_behind_those_that_waited() {
    let policy = Policy::flextell().into_builder().jitter(Jitter::None).build().unwrap();
    let answers = [Answer::Throttled(Some(60 * SECOND))].into_iter().chain([Answer::Good; 20]).collect();
    let mut fleet = Fleet::new(policy, Service::Script(answers), MILLIS);
    for n in 0..11 {
        fleet.start(n * 10 * MILLIS, RequestLimits::default());
    }
    fleet.open_gate(60_005 * MILLIS);
    fleet.close_gate(61 * SECOND, 62 * SECOND);
    fleet.start(61_500 * MILLIS, RequestLimits::default());
    fleet.start(62_500 * MILLIS, RequestLimits::default());
    fleet.run(200);
    let sent = |n: usize| fleet.by_request()[n].iter().find(|step| step.is_send()).unwrap().at;
    assert_eq!((sent(11), sent(12)), (62 * SECOND, 62_500 * MILLIS));
}
