//! Decisions about one request: a failed attempt, a successful request, and a request that needs one retry or five.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use backon::BackoffBuilder;
use google_cloud_gax::backoff_policy::BackoffPolicy as _;
use google_cloud_gax::retry_state::RetryState;
use http::HeaderMap;
use retry_machine::{Action, Event, Idempotency, Policy, Reply, RetryMachine, Timestamp, Upstream};
use sisyphus::{BackoffPolicy as _, PolicyExt as _};
use tower::retry::backoff::Backoff as _;
use workloads::{OK, UNAVAILABLE, World};

use crate::measure::Contender;
use crate::rivals::{self, Aws, Exchange, FIRST, Gax, LONGEST, RETRIES, Reqwest, ThrottleNet, Tower, is_transient};

/// The instant at which the first answer comes.
const ANSWERED: Timestamp = Timestamp::from_millis(80);

/// The wait that [`UNAVAILABLE`] asks for.
const ASKED: Duration = Duration::from_secs(7);

/// The rows of [`unavailable`] that read no header.
pub const READ_NO_HEADER: std::ops::Range<usize> = 6..9;

/// Returns an upstream, and a request to it whose first attempt is under way.
pub fn sent() -> (Upstream, RetryMachine) {
    let World { upstream, machine, .. } = *workloads::sent();
    (upstream, machine)
}

/// Returns the contenders for a 503 with ten headers, one of which says when to come back.
pub fn unavailable() -> Vec<Contender> {
    let map = workloads::header_map(&UNAVAILABLE);
    let own_map = map.clone();
    let (mut random, mut other_random) = (fastrand::Rng::with_seed(7), fastrand::Rng::with_seed(7));
    vec![
        Contender::on_fresh(
            "retry-machine, headers in a slice",
            "reads all headers; decides with gate, budget and breaker",
            sent,
            |(upstream, machine)| {
                let reply = upstream.policy().read(black_box(503), black_box(&UNAVAILABLE).iter().copied());
                machine.handle(ANSWERED, Event::Reply { attempt: 1, reply }, upstream)
            },
            waits(ASKED),
        ),
        Contender::on_fresh(
            "retry-machine, `http::HeaderMap`",
            "the same",
            sent,
            move |(upstream, machine)| {
                let reply = upstream.policy().read(black_box(503), black_box(&map));
                machine.handle(ANSWERED, Event::Reply { attempt: 1, reply }, upstream)
            },
            waits(ASKED),
        ),
        Contender::new(
            "by hand, headers in a slice",
            "looks for six names; numbers only, no date; no shared state",
            move || rivals::by_hand(black_box(503), black_box(&UNAVAILABLE).iter().copied(), black_box(1), &mut random),
            |wait| *wait == Some(ASKED),
        ),
        Contender::new(
            "by hand, `http::HeaderMap`",
            "the same",
            {
                let map = own_map.clone();
                move || rivals::by_hand_from_map(black_box(503), black_box(&map), black_box(1), &mut other_random)
            },
            |wait| *wait == Some(ASKED),
        ),
        Contender::on_fresh(
            "backon, with an `adjust` by hand",
            "reads `Retry-After` in seconds, by hand",
            back_off_of_backon,
            move |back_off| {
                is_transient(black_box(503)).then(|| adjust(back_off.next(), black_box(&own_map))).flatten()
            },
            |wait| *wait == Some(ASKED),
        ),
        Contender::on_fresh(
            "throttle-net, headers in a slice",
            "reads `Retry-After` in all forms and `RateLimit-*`; a classification by hand, budget and back-off",
            throttle_net(),
            |state| state.decide(black_box(503), black_box(&UNAVAILABLE)),
            |wait| *wait == Some(ASKED),
        ),
        reqwest_retry("classification and back-off; reads the clock twice, and no header"),
        aws("classifier, back-off and token bucket; reads no header"),
        gax("policy, back-off and throttler; reads the clock, and no header"),
    ]
}

/// Returns the contenders for a 503 of which only the status is known.
pub fn status() -> Vec<Contender> {
    let mut random = fastrand::Rng::with_seed(7);
    let budget = Tower::budget();
    vec![
        Contender::on_fresh(
            "retry-machine",
            "decides with gate, budget and breaker",
            sent,
            |(upstream, machine)| {
                let reply = Reply::new(black_box(503));
                machine.handle(ANSWERED, Event::Reply { attempt: 1, reply }, upstream)
            },
            waits(Duration::from_millis(500)),
        ),
        Contender::new(
            "by hand",
            "no shared state",
            move || rivals::by_hand(black_box(503), std::iter::empty(), black_box(1), &mut random),
            |wait| within(*wait, 500, 1_500),
        ),
        Contender::on_fresh(
            "backon",
            "a `when` by hand and the iterator",
            back_off_of_backon,
            |back_off| is_transient(black_box(503)).then(|| back_off.next()).flatten(),
            |wait| within(*wait, 1_000, 2_000),
        ),
        Contender::on_fresh(
            "sisyphus",
            "a classification by hand and the policy",
            back_off_of_sisyphus,
            |back_off| is_transient(black_box(503)).then(|| back_off.next_delay()).flatten(),
            |wait| within(*wait, 500, 1_500),
        ),
        Contender::on_fresh(
            "throttle-net",
            "a classification by hand, budget and back-off; reads the clock",
            throttle_net(),
            |state| state.decide_after(black_box(503), None),
            |wait| within(*wait, 500, 1_500),
        ),
        reqwest_retry("classification and back-off; reads the clock twice"),
        Contender::on_fresh(
            "tower",
            "a `Policy` by hand with `TpsBudget` and `ExponentialBackoff`; makes a sleep of Tokio, and reads the clock twice",
            move || (Tower::new(&budget), Exchange::new(503)),
            |(tower, exchange)| tower.decide(exchange),
            |sleep| sleep.is_some(),
        ),
        aws("classifier, back-off and token bucket"),
        gax("policy, back-off and throttler; reads the clock"),
    ]
}

/// Returns the contenders for a request that succeeds, from its beginning to its end.
pub fn ok() -> Vec<Contender> {
    let map = workloads::header_map(&OK);
    let own_map = map.clone();
    let mut upstream = workloads::upstream();
    let mut other_upstream = workloads::upstream();
    let mut random = fastrand::Rng::with_seed(7);
    let mut other_random = fastrand::Rng::with_seed(7);
    let budget = Tower::budget();
    let reqwest = Reqwest::new(200, &OK);
    let aws = Aws::new();
    let gax = Gax::new(&[]);
    vec![
        Contender::new(
            "retry-machine, headers in a slice",
            "reads all headers, since a 200 can report a limit, too",
            move || succeed(&mut upstream, |policy| policy.read(black_box(200), black_box(&OK).iter().copied())),
            is_done,
        ),
        Contender::new(
            "retry-machine, `http::HeaderMap`",
            "the same",
            move || succeed(&mut other_upstream, |policy| policy.read(black_box(200), black_box(&map))),
            is_done,
        ),
        Contender::new(
            "by hand, headers in a slice",
            "looks for six names, and takes nothing from them",
            move || rivals::by_hand(black_box(200), black_box(&OK).iter().copied(), black_box(1), &mut random),
            Option::is_none,
        ),
        Contender::new(
            "by hand, `http::HeaderMap`",
            "the same",
            move || rivals::by_hand_from_map(black_box(200), black_box(&own_map), black_box(1), &mut other_random),
            Option::is_none,
        ),
        Contender::on_fresh(
            "throttle-net, headers in a slice",
            "the same headers as above, and a deposit",
            throttle_net(),
            |state| state.decide(black_box(200), black_box(&OK)),
            Option::is_none,
        ),
        Contender::new(
            "reqwest-retry",
            "the classification; reads the clock, and no header",
            move || black_box(&reqwest).decide(SystemTime::now(), 0),
            Option::is_none,
        ),
        Contender::on_fresh(
            "tower",
            "a `Policy` by hand: a deposit; reads the clock, and no header",
            move || (Tower::new(&budget), Exchange::new(200)),
            |(tower, exchange)| tower.decide(exchange).is_none(),
            |is_answer| *is_answer,
        ),
        Contender::new(
            "aws-smithy-runtime",
            "a strategy, the question before the first attempt and the one after it; reads no header",
            move || black_box(&aws).succeed(&aws.begin()),
            |is_answer| *is_answer,
        ),
        Contender::new(
            "google-cloud-gax",
            "tells the throttler; reads no header",
            move || black_box(&gax).succeed(),
            |()| true,
        ),
    ]
}

/// Returns the contenders for a request that gets a 503, waits, and gets a 200. It pays for its retry, and gets the price
/// back.
pub fn one_retry() -> Vec<Contender> {
    let mut upstream = workloads::upstream();
    let policy = Policy::common().into_builder().budget(None).breaker(None).build().expect("a valid policy");
    let mut bare = Upstream::new(policy);
    let mut now = Timestamp::ZERO;
    let mut bare_now = Timestamp::ZERO;
    let mut random = fastrand::Rng::with_seed(7);
    let budget = Tower::budget();
    let own_budget = Tower::budget();
    let (failed, answered) = (Reqwest::new(503, &[]), Reqwest::new(200, &[]));
    let mut aws = Aws::new();
    let mut gax = Gax::new(&[]);
    vec![
        Contender::new(
            "retry-machine",
            "gate, budget and breaker",
            move || retry_once(&mut now, &mut upstream),
            |action| is_done(action) && action.attempt() == 2,
        ),
        Contender::new(
            "retry-machine, without budget and breaker",
            "the difference is what the two cost",
            move || retry_once(&mut bare_now, &mut bare),
            |action| is_done(action) && action.attempt() == 2,
        ),
        Contender::new(
            "by hand",
            "no budget",
            move || {
                let wait = rivals::by_hand(black_box(503), std::iter::empty(), 1, &mut random);
                (wait, rivals::by_hand(black_box(200), std::iter::empty(), 2, &mut random))
            },
            |(wait, answer)| wait.is_some() && answer.is_none(),
        ),
        Contender::on_fresh(
            "throttle-net",
            "a classification by hand, budget and back-off; reads the clock",
            throttle_net(),
            |state| (state.decide_after(black_box(503), None), state.decide_after(black_box(200), None)),
            |(wait, answer)| wait.is_some() && answer.is_none(),
        ),
        Contender::new(
            "reqwest-retry",
            "no budget; reads the clock three times",
            move || {
                let start = SystemTime::now();
                (black_box(&failed).decide(start, 0), black_box(&answered).decide(start, 1))
            },
            |(wait, answer)| wait.is_some() && answer.is_none(),
        ),
        Contender::on_fresh(
            "tower",
            "a `Policy` by hand with `TpsBudget` and `ExponentialBackoff`; reads the clock three times",
            move || (Tower::new(&budget), Exchange::new(503), Exchange::new(200)),
            |(tower, failed, answered)| (tower.decide(failed).is_some(), tower.decide(answered).is_none()),
            |decisions| *decisions == (true, true),
        ),
        Contender::new(
            "tower, `TpsBudget` alone",
            "one withdrawal and one deposit; reads the clock twice",
            move || {
                use tower::retry::budget::Budget as _;
                let is_granted = black_box(&own_budget).withdraw();
                own_budget.deposit();
                is_granted
            },
            |is_granted| *is_granted,
        ),
        Contender::new(
            "aws-smithy-runtime",
            "classifier, back-off and token bucket",
            move || {
                let strategy = aws.begin();
                aws.begin_attempt(1);
                let wait = aws.decide(&strategy);
                aws.begin_attempt(2);
                (wait, aws.succeed(&strategy))
            },
            |(wait, is_answer)| wait.is_some() && *is_answer,
        ),
        Contender::new(
            "google-cloud-gax",
            "policy, back-off and throttler; reads the clock twice",
            move || {
                let wait = gax.decide(Instant::now(), 1);
                let is_sent = gax.is_sent();
                gax.succeed();
                (wait, is_sent)
            },
            |(wait, is_sent)| wait.is_some() && *is_sent,
        ),
    ]
}

/// Returns the contenders for a request that gets a 503 five times, with the waits between.
pub fn five_back_offs() -> Vec<Contender> {
    let mut random = fastrand::Rng::with_seed(7);
    let policy = rivals::policies();
    let failed = Reqwest::new(503, &[]);
    let gax = Gax::back_off();
    let backon = builder_of_backon();
    vec![
        Contender::on_fresh(
            "retry-machine",
            "starts, decides five times, and sends six attempts",
            workloads::upstream,
            retry_five_times,
            |action| matches!(action, Action::Send { attempt: 6, .. }),
        ),
        Contender::new(
            "by hand",
            "the back-off alone",
            move || waits_of(|attempt| Some(rivals::back_off_by_hand(black_box(attempt), &mut random))),
            are_back_offs,
        ),
        Contender::new(
            "backon",
            "the iterator alone",
            move || {
                let mut back_off = black_box(backon).build();
                waits_of(|_| back_off.next())
            },
            are_back_offs,
        ),
        Contender::new(
            "sisyphus",
            "the policy alone",
            || {
                let mut back_off = back_off_of_sisyphus();
                waits_of(|_| back_off.next_delay())
            },
            are_back_offs,
        ),
        Contender::new(
            "throttle-net",
            "the back-off alone",
            || {
                let mut back_off = ThrottleNet::back_off();
                waits_of(|_| Some(back_off.next_delay()))
            },
            are_back_offs,
        ),
        Contender::new(
            "retry-policies",
            "the policy alone; reads the clock eleven times",
            move || {
                let start = SystemTime::now();
                waits_of(|attempt| rivals::back_off(&policy, start, black_box(attempt) - 1))
            },
            |waits| waits.iter().all(Option::is_some),
        ),
        Contender::new(
            "reqwest-retry",
            "the same with the classification",
            move || {
                let start = SystemTime::now();
                waits_of(|attempt| black_box(&failed).decide(start, attempt - 1))
            },
            |waits| waits.iter().all(Option::is_some),
        ),
        Contender::new(
            "tower",
            "the back-off alone; makes five sleeps of Tokio, each of which reads the clock",
            || {
                let mut back_off = Tower::back_off();
                waits_of(|_| Some(back_off.next_backoff().deadline()))
            },
            |waits| waits.iter().all(Option::is_some),
        ),
        Contender::new(
            "google-cloud-gax, back-off",
            "the back-off alone; its state reads the clock",
            move || {
                let start = Instant::now();
                waits_of(|attempt| {
                    let state = RetryState::new(true).set_attempt_count(attempt).set_start(start);
                    Some(black_box(&gax).on_failure(&state))
                })
            },
            |waits| waits.iter().all(Option::is_some),
        ),
        Contender::on_fresh(
            "google-cloud-gax",
            "the same with policy and throttler",
            || Gax::new(&[]),
            |gax| {
                let start = Instant::now();
                waits_of(|attempt| gax.decide(start, attempt))
            },
            |waits| waits.iter().all(Option::is_some),
        ),
        Contender::on_fresh(
            "aws-smithy-runtime",
            "classifier, back-off and token bucket",
            Aws::new,
            |aws| {
                let strategy = aws.begin();
                waits_of(|attempt| {
                    aws.begin_attempt(attempt);
                    aws.decide(&strategy)
                })
            },
            |waits| waits.iter().all(Option::is_some),
        ),
    ]
}

fn throttle_net() -> impl FnMut() -> ThrottleNet {
    let budget = ThrottleNet::budget();
    move || ThrottleNet::new(&budget)
}

fn reqwest_retry(remark: &'static str) -> Contender {
    let reqwest = Reqwest::new(503, &UNAVAILABLE);
    let start = SystemTime::now();
    Contender::new("reqwest-retry", remark, move || black_box(&reqwest).decide(start, black_box(0)), Option::is_some)
}

fn aws(remark: &'static str) -> Contender {
    // The strategy holds a permit of the bucket, and its end gives the permit back: here after the clock has stopped.
    let aws = Rc::new(Aws::new());
    let make = move || (Rc::clone(&aws), aws.begin());
    Contender::on_fresh("aws-smithy-runtime", remark, make, |(aws, strategy)| aws.decide(strategy), Option::is_some)
}

fn gax(remark: &'static str) -> Contender {
    let mut gax = Gax::new(&UNAVAILABLE);
    let start = Instant::now();
    Contender::new("google-cloud-gax", remark, move || gax.decide(start, black_box(1)), Option::is_some)
}

fn succeed(upstream: &mut Upstream, read: impl FnOnce(&Policy) -> Reply) -> Action {
    let mut machine = RetryMachine::new(Idempotency::Idempotent, black_box(7));
    let _ = black_box(machine.handle(Timestamp::ZERO, Event::Start, &mut *upstream));
    let reply = read(upstream.policy());
    machine.handle(ANSWERED, Event::Reply { attempt: 1, reply }, upstream)
}

fn retry_once(now: &mut Timestamp, upstream: &mut Upstream) -> Action {
    let mut machine = RetryMachine::new(Idempotency::Idempotent, black_box(7));
    let _ = black_box(machine.handle(*now, Event::Start, &mut *upstream));
    let event = Event::Reply { attempt: 1, reply: Reply::new(black_box(503)) };
    if let Action::Wait { until, .. } = machine.handle(*now, event, &mut *upstream) {
        *now = until;
    }
    let _ = black_box(machine.handle(*now, Event::Tick, &mut *upstream));
    machine.handle(*now, Event::Reply { attempt: 2, reply: Reply::new(black_box(200)) }, upstream)
}

fn retry_five_times(upstream: &mut Upstream) -> Action {
    let mut now = Timestamp::ZERO;
    let mut machine = RetryMachine::new(Idempotency::Idempotent, black_box(7));
    let mut action = machine.handle(now, Event::Start, &mut *upstream);
    for attempt in 1..=RETRIES {
        let event = Event::Reply { attempt, reply: Reply::new(black_box(503)) };
        if let Action::Wait { until, .. } = machine.handle(now, event, &mut *upstream) {
            now = until;
        }
        action = machine.handle(now, Event::Tick, &mut *upstream);
    }
    action
}

fn waits_of<T>(mut next: impl FnMut(u32) -> Option<T>) -> [Option<T>; RETRIES as usize] {
    std::array::from_fn(|index| next(index as u32 + 1))
}

/// Returns whether five waits double, whatever their jitter.
fn are_back_offs(waits: &[Option<Duration>; RETRIES as usize]) -> bool {
    waits.iter().zip(0..).all(|(wait, retry)| within(*wait, 500 << retry, 2_000 << retry))
}

fn within(wait: Option<Duration>, least: u64, most: u64) -> bool {
    wait.is_some_and(|wait| (least..=most).contains(&(wait.as_millis() as u64)))
}

fn waits(least: Duration) -> impl Fn(&Action) -> bool {
    move |action| matches!(action, Action::Wait { until, .. } if *until >= ANSWERED.saturating_add(least))
}

fn is_done(action: &Action) -> bool {
    matches!(action, Action::Done { status: 200, .. })
}

/// Adjusts a wait to the header, as a user of backon writes it.
fn adjust(wait: Option<Duration>, headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    wait.map(|wait| wait.max(asked.map_or(Duration::ZERO, Duration::from_secs)))
}

fn builder_of_backon() -> backon::ExponentialBuilder {
    backon::ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_max_times(RETRIES as usize)
}

fn back_off_of_backon() -> impl Iterator<Item = Duration> {
    builder_of_backon().build()
}

fn back_off_of_sisyphus() -> impl sisyphus::BackoffPolicy {
    sisyphus::ExponentialBackoff::new(FIRST, 2.0)
        .with_jitter(sisyphus::SplitMix64::new(black_box(7)), 0.5)
        .with_max_delay(LONGEST)
        .max_attempts(RETRIES)
}
