//! Both drivers, in virtual time: how they carry out each action, and what they return.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::error::Error;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use retry_machine::drive::{Attempt, RequestError, Shared, SharedUpstream, blocking, future};
use retry_machine::{
    Cause, Event, FailureKind, Idempotency, Policy, PolicyBuilder, RefreshOutcome, Reply, RetryMachine, Timestamp,
    TransportErrorKind, Upstream,
};

#[path = "../common/scripted.rs"]
mod scripted;
#[path = "../common/support.rs"]
mod support;

use scripted::{Client, Send, run_until};
use support::{REFRESHED, UNAVAILABLE, exact, ms, secs};

type Ended = Result<String, RequestError<String, String>>;

/// Drives a request to its end with one of the drivers.
type Drive = fn(&Client, PolicyBuilder) -> Ended;

const BOTH: [Drive; 2] = [with_threads, with_tasks];

fn machine() -> RetryMachine {
    RetryMachine::new(Idempotency::Idempotent, 7)
}

fn shared(policy: PolicyBuilder) -> SharedUpstream {
    SharedUpstream::new(policy.build().unwrap())
}

fn with_threads(client: &Client, policy: PolicyBuilder) -> Ended {
    blocking::run(machine(), &shared(policy), client)
}

fn with_tasks(client: &Client, policy: PolicyBuilder) -> Ended {
    let upstream = shared(policy);
    let result = RefCell::new(None);
    let mut task = pin!(async { drop(result.replace(Some(future::run(machine(), &upstream, client).await))) });
    run_all(client, &mut [task.as_mut()]);
    result.take().expect("the task has ended")
}

fn run_all(client: &Client, tasks: &mut [Pin<&mut dyn Future<Output = ()>>]) {
    run_until(&client.clock, Timestamp::MAX, tasks);
}

fn limited() -> PolicyBuilder {
    exact().attempt_timeout(Some(secs(2)))
}

#[test]
fn t4_both_drivers_carry_out_each_action() {
    for drive in BOTH {
        let sends = [
            Send::Answer(Some(100), 503),
            Send::Hinted(429, "30"),
            Send::Answer(Some(100), 401),
            Send::Fail(50, TransportErrorKind::NotSent),
            Send::Answer(Some(100), 200),
        ];
        let client = Client::new(&sends, &[(500, REFRESHED)]);
        assert_eq!(drive(&client, exact()), Ok("5: 200".into()));
        let log = [
            "send 1",
            "wait 1100 backoff",
            "send 2",
            "wait 31100 retry_after",
            "send 3",
            "refresh until 61200",
            // P1: after the refresh the request asks the gate like a newcomer, and the throttle set a pace of 7.5 s (C8).
            "wait 38600 gate",
            "send 4 token 1",
            // C11: while somebody queues, a failure in transport closes the gate for the back-off.
            "wait 42650 backoff",
            "send 5 token 1",
            "done 200",
        ];
        assert_eq!(client.log(), log);
        assert_eq!(client.clock.now(), Timestamp::from_millis(42_750));
    }
}

#[test]
fn e1_the_last_response_is_handed_back_with_a_failure() {
    for drive in BOTH {
        let client = Client::new(&[Send::Answer(Some(1), 503), Send::Answer(Some(1), 404)], &[]);
        let error = drive(&client, exact()).unwrap_err();
        assert_eq!(error.failure.kind(), FailureKind::NotFound);
        assert_eq!((error.response.as_deref(), error.error), (Some("2: 404"), None));
    }
}

#[test]
fn e1_the_clients_own_error_is_handed_back_beside_the_last_response() {
    for drive in BOTH {
        let client = Client::new(&[Send::Answer(Some(1), 503), Send::Fail(1, TransportErrorKind::Broken)], &[]);
        let error = drive(&client, exact().max_retries(1)).unwrap_err();
        assert_eq!((error.failure.status(), error.failure.cause()), (Some(503), Some(Cause::Broken)));
        assert_eq!(error.response.as_deref(), Some("1: 503"));
        assert_eq!(error.error.as_deref(), Some("2: Broken"));
        assert_eq!(error.to_string(), error.failure.to_string());
    }
}

#[test]
fn e1_an_error_before_the_last_response_is_forgotten() {
    for drive in BOTH {
        let client = Client::new(&[Send::Fail(1, TransportErrorKind::NotSent), Send::Answer(Some(1), 422)], &[]);
        let error = drive(&client, exact()).unwrap_err();
        assert_eq!((error.response.as_deref(), error.error), (Some("2: 422"), None));
    }
}

#[test]
fn e1_an_attempt_that_was_dropped_does_not_bring_back_an_older_error() {
    let client = Client::new(&[Send::Fail(1, TransportErrorKind::NotSent), Send::Answer(None, 200)], &[]);
    let error = with_tasks(&client, limited().max_retries(1)).unwrap_err();
    assert_eq!(error.failure.cause(), Some(Cause::TimedOut));
    assert_eq!(error.error, None);
}

#[test]
fn e1_a_request_that_was_never_sent_hands_back_nothing() {
    for drive in BOTH {
        let client = Client::new(&[], &[]);
        let error = drive(&client, exact().deadline(Some(Duration::ZERO))).unwrap_err();
        assert_eq!(error.failure.kind(), FailureKind::Deadline);
        assert_eq!((error.response, error.error), (None, None));
    }
}

#[test]
fn e1_the_drivers_error_has_the_clients_error_as_its_source() {
    struct Unplugged;

    impl blocking::Client for Unplugged {
        type Response = ();
        type Error = std::io::Error;

        fn now(&self) -> Timestamp {
            Timestamp::ZERO
        }

        fn sleep(&self, _: Duration) {}

        fn send(&self, _: Attempt) -> Result<(Reply, ()), (TransportErrorKind, std::io::Error)> {
            Err((TransportErrorKind::NotSent, std::io::Error::other("unplugged")))
        }

        fn refresh(&self, _: Timestamp) -> RefreshOutcome {
            UNAVAILABLE
        }
    }

    let error = blocking::run(machine(), &shared(exact().max_retries(0)), &Unplugged).unwrap_err();
    assert_eq!(error.source().map(ToString::to_string), Some("unplugged".into()));
}

// ---- Limits ----

#[test]
fn s4_at_its_limit_an_attempt_is_dropped_and_the_next_begun() {
    for drive in BOTH {
        let client = Client::new(&[Send::Answer(None, 200), Send::Answer(Some(1_999), 200)], &[]);
        assert_eq!(drive(&client, limited()), Ok("2: 200".into()));
        assert_eq!(client.log(), ["send 1 until 2000", "wait 3000 backoff", "send 2 until 5000", "done 200"]);
        assert_eq!(client.under_way.get(), 0);
    }
}

#[test]
fn s4_a_refresh_ends_with_the_requests_deadline() {
    let client = Client::new(&[Send::Answer(Some(100), 401)], &[(60_000, REFRESHED)]);
    let error = with_tasks(&client, exact().deadline(Some(secs(5)))).unwrap_err();
    assert_eq!((error.failure.kind(), error.failure.elapsed()), (FailureKind::Deadline, secs(5)));
}

#[test]
fn k5_a_refresh_ends_with_its_lease() {
    let client = Client::new(&[Send::Answer(Some(100), 401)], &[(60_000, REFRESHED)]);
    let error = with_tasks(&client, exact()).unwrap_err();
    assert_eq!(error.failure.kind(), FailureKind::TokenUnavailable);
    assert_eq!(error.failure.elapsed(), ms(30_100));
}

#[test]
fn t4_b4_early_timers_are_harmless() {
    for drive in BOTH {
        let sends = [Send::Answer(Some(1), 503), Send::Hinted(429, "30"), Send::Answer(Some(1_500), 200)];
        let calm = Client::new(&sends, &[]);
        let hasty = Client { hasty: true, ..Client::new(&sends, &[]) };
        assert_eq!(drive(&calm, limited()), drive(&hasty, limited()));
        let steps = |client: &Client| {
            let mut log = client.log();
            log.dedup();
            log
        };
        assert_eq!(steps(&calm), steps(&hasty));
        assert_eq!(calm.clock.now(), hasty.clock.now());
    }
}

// ---- Cancelling ----

#[test]
fn s6_a_future_that_is_dropped_frees_its_lease() {
    let upstream = shared(exact());
    let client = Client::new(&[Send::Answer(Some(100), 401)], &[(60_000, REFRESHED)]);
    {
        let mut task = pin!(async { drop(future::run(machine(), &upstream, &client).await) });
        run_until(&client.clock, Timestamp::from_millis(5_000), &mut [task.as_mut()]);
        assert_eq!(client.log().last().unwrap(), "refresh until 30100");
    }
    let next = Client::new(&[Send::Answer(Some(0), 401), Send::Answer(Some(0), 200)], &[(0, REFRESHED)]);
    assert_eq!(blocking::run(machine(), &upstream, &next), Ok("2: 200".into()));
    assert_eq!(next.log(), ["send 1", "refresh until 30100", "send 2 token 1", "done 200"]);
}

#[test]
fn s6_a_future_that_is_dropped_drops_its_send() {
    let upstream = shared(exact());
    let client = Client::new(&[Send::Answer(None, 200)], &[]);
    {
        let mut task = pin!(async { drop(future::run(machine(), &upstream, &client).await) });
        run_until(&client.clock, Timestamp::MAX, &mut [task.as_mut()]);
        assert_eq!(client.under_way.get(), 1);
    }
    assert_eq!(client.under_way.get(), 0);
}

#[test]
fn s6_a_panic_in_the_client_frees_the_lease() {
    let upstream = shared(exact());
    let client = Client::new(&[Send::Answer(Some(0), 401)], &[]);
    let run = || blocking::run(machine(), &upstream, &client);
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "the script has no refresh");
    let next = Client::new(&[Send::Answer(Some(0), 401)], &[(0, UNAVAILABLE)]);
    let error = blocking::run(machine(), &upstream, &next).unwrap_err();
    assert_eq!(error.failure.kind(), FailureKind::TokenUnavailable);
    assert_eq!(next.log()[1], "refresh until 30000", "the next request leads");
}

// ---- Followers ----

/// Runs a leader whose refresh takes 5 s, and two followers. Returns when each ended.
fn one_leads(upstream: &impl Shared) -> Vec<Timestamp> {
    let ends = RefCell::new(Vec::new());
    let leader = Client::new(&[Send::Answer(Some(100), 401), Send::Answer(Some(0), 200)], &[(5_000, REFRESHED)]);
    let follower = || Client {
        clock: leader.clock.clone(),
        ..Client::new(&[Send::Answer(Some(200), 401), Send::Answer(Some(0), 200)], &[])
    };
    let (one, other) = (follower(), follower());
    let run = async |client: &Client| {
        assert_eq!(future::run(machine(), upstream, client).await, Ok("2: 200".into()));
        ends.borrow_mut().push(client.clock.now());
    };
    let (a, b, c) = (pin!(run(&leader)), pin!(run(&one)), pin!(run(&other)));
    run_all(&leader, &mut [a, b, c]);
    assert_eq!(one.log(), ["send 1", "await until 30100", "send 2 token 1", "done 200"]);
    ends.take()
}

#[test]
fn k8_tasks_that_follow_are_woken_when_the_refresh_is_done() {
    assert_eq!(one_leads(&shared(exact())), [Timestamp::from_millis(5_100); 3]);
}

#[test]
fn k8_followers_that_nothing_wakes_look_again_at_the_leases_end() {
    let upstream = RefCell::new(Upstream::new(exact().build().unwrap()));
    let [leads, follow @ ..] = &one_leads(&upstream)[..] else { panic!("three requests have ended") };
    assert_eq!(*leads, Timestamp::from_millis(5_100));
    assert_eq!(*follow, [Timestamp::from_millis(30_100); 2]);
}

/// Records how long a thread waits at most, and never wakes it.
struct Recording(RefCell<Upstream>, RefCell<Vec<Duration>>);

impl Shared for Recording {
    fn with<T>(&self, step: impl FnOnce(&mut Upstream) -> T) -> T {
        self.0.with(step)
    }

    fn wait_for_token(&self, seen: u32, timeout: Duration, sleep: impl FnOnce(Duration)) {
        self.1.borrow_mut().push(timeout);
        self.0.wait_for_token(seen, timeout, sleep);
    }
}

#[test]
fn k8_a_thread_that_nothing_wakes_looks_again_at_the_leases_end() {
    let upstream = Recording(RefCell::new(Upstream::new(exact().build().unwrap())), RefCell::default());
    let mut leader = machine();
    for event in [Event::Start, Event::Reply { attempt: 1, reply: Reply::new(401) }] {
        let _ = upstream.with(|upstream| leader.handle(Timestamp::ZERO, event, upstream));
    }
    let client = Client::new(&[Send::Answer(Some(100), 401), Send::Answer(Some(0), 200)], &[(5_000, REFRESHED)]);
    assert_eq!(blocking::run(machine(), &upstream, &client), Ok("2: 200".into()));
    let log = ["send 1", "await until 30000", "refresh until 60000", "send 2 token 1", "done 200"];
    assert_eq!((client.log(), client.clock.now()), (log.map(String::from).to_vec(), Timestamp::from_millis(35_000)));
    assert_eq!(upstream.1.take(), [ms(29_900)]);
}

/// Counts the wake-ups of a task.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn k8_a_task_that_no_longer_waits_is_forgotten() {
    let upstream = shared(exact());
    let count = Arc::new(Count::default());
    {
        let mut moved = pin!(upstream.token_moved(0));
        assert!(moved.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&count)))).is_pending());
        assert_eq!(Arc::strong_count(&count), 2);
    }
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn k8_a_task_is_woken_only_when_the_token_moves() {
    let upstream = shared(exact());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let woken = || count.0.load(Ordering::Relaxed);
    let mut moved = pin!(upstream.token_moved(upstream.with(|upstream| upstream.wakeups())));
    assert!(moved.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    upstream.with(|_| ());
    assert_eq!(woken(), 0);
    upstream.with(|upstream| upstream.token_replaced(Timestamp::ZERO, None));
    assert_eq!(woken(), 1);
    assert!(moved.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn k8_a_thread_waits_until_the_token_moves() {
    let upstream = shared(exact());
    let seen = upstream.with(|upstream| upstream.wakeups());
    let never = |_| unreachable!("the thread waits without the client");
    let begun = Instant::now();
    upstream.wait_for_token(seen, ms(50), never);
    assert!(begun.elapsed() >= ms(50));
    upstream.with(|upstream| upstream.token_replaced(Timestamp::ZERO, None));
    upstream.wait_for_token(seen, secs(3_600), never);
}

/// A client on a real thread: the leader's refresh ends after the follower has begun to wait.
struct Threaded<'a> {
    upstream: &'a SharedUpstream,
    leads: bool,
    sent: mpsc::Sender<()>,
    others: RefCell<mpsc::Receiver<()>>,
}

impl blocking::Client for Threaded<'_> {
    type Response = u16;
    type Error = ();

    fn now(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn sleep(&self, wait: Duration) {
        panic!("unexpected sleep of {wait:?}");
    }

    fn send(&self, attempt: Attempt) -> Result<(Reply, u16), (TransportErrorKind, ())> {
        let status = if attempt.generation == 0 { 401 } else { 200 };
        if !self.leads && attempt.number == 1 {
            // After the other request leads.
            self.others.borrow().recv_timeout(Duration::from_secs(20)).unwrap();
        }
        Ok((Reply::new(status), status))
    }

    fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        self.sent.send(()).unwrap();
        self.others.borrow().recv_timeout(Duration::from_secs(20)).unwrap();
        // The follower is about to wait, or waits already. Both ways it is woken.
        assert_eq!(self.upstream.with(|upstream| upstream.generation()), 0);
        REFRESHED
    }

    fn observe(&self, _: Timestamp, _: &retry_machine::Event, action: &retry_machine::Action) {
        if matches!(action, retry_machine::Action::AwaitRefresh { .. }) {
            self.sent.send(()).unwrap();
        }
    }
}

#[test]
fn k8_threads_that_follow_are_woken_when_the_refresh_is_done() {
    let upstream = SharedUpstream::new(Policy::flextell());
    let (to_follower, from_leader) = mpsc::channel();
    let (to_leader, from_follower) = mpsc::channel();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (leads, sent, others) in [(true, to_follower, from_follower), (false, to_leader, from_leader)] {
            let upstream = &upstream;
            scope.spawn(move || {
                let client = Threaded { upstream, leads, sent, others: RefCell::new(others) };
                assert_eq!(blocking::run(machine(), upstream, &client), Ok(200));
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(15), "the follower waited for the end of the lease");
}
