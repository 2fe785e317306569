//! The blocking driver with real threads: cancelling, refreshes in threads of their own, and deadlines during them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use retry_machine::drive::blocking::{Api, RefreshResult, Sender};
use retry_machine::drive::{
    Attempt, CancelHandle, Clock, Fresh, RefreshError, Request, SendResult, Step, SystemClock, blocking,
};
use retry_machine::{
    BreakerPolicy, FailureKind, Idempotency, PolicyBuilder, Reply, RequestLimits, Timestamp, TransportErrorKind,
    Upstream,
};

use super::support::{Answer as _, at, exact, ms, secs};
use super::world::{
    Alive, Called, Living, SCALE, Server, TestClock, Token, UNAVAILABLE, bounded, eventually, threads, token,
};

const NO_TOKEN: Called = Err(FailureKind::TokenUnavailable);

fn ok(token: &str) -> Called {
    Ok(format!("200 {token}"))
}

/// A token endpoint for threads: each refresh blocks until the test says how it ends.
#[derive(Clone, Default)]
struct Desk(Arc<(Mutex<Queue>, Condvar)>);

#[derive(Default)]
struct Queue {
    begun: Vec<(String, u32)>,
    outcomes: Vec<Option<Outcome>>,
    ended: u32,
}

enum Outcome {
    Result(RefreshResult<Token>),
    Panic,
}

impl Desk {
    fn refresh(&self) -> impl Fn(blocking::Refresh<Token>) -> RefreshResult<Token> + Send + Sync + 'static {
        let desk = self.clone();
        move |refresh| {
            let (lock, changed) = &*desk.0;
            let number = {
                let mut queue = lock.lock().unwrap();
                queue.begun.push((refresh.token().0.clone(), refresh.generation()));
                if queue.outcomes.len() < queue.begun.len() {
                    queue.outcomes.push(None);
                }
                queue.begun.len() - 1
            };
            let mut queue = lock.lock().unwrap();
            loop {
                if let Some(outcome) = queue.outcomes[number].take() {
                    queue.ended += 1;
                    drop(queue);
                    match outcome {
                        Outcome::Result(result) => return result,
                        Outcome::Panic => panic!("the refresh panics"),
                    }
                }
                let (next, timeout) = changed.wait_timeout(queue, Duration::from_secs(50)).unwrap();
                assert!(!timeout.timed_out(), "nobody ended the refresh");
                queue = next;
            }
        }
    }

    #[track_caller]
    fn end(&self, number: usize, outcome: Outcome) {
        eventually(|| self.begun() > number);
        self.0.0.lock().unwrap().outcomes[number] = Some(outcome);
        self.0.1.notify_all();
    }

    fn finish(&self, number: usize, result: RefreshResult<Token>) {
        self.end(number, Outcome::Result(result));
    }

    fn begun(&self) -> usize {
        self.0.0.lock().unwrap().begun.len()
    }

    fn ended(&self) -> u32 {
        self.0.0.lock().unwrap().ended
    }
}

struct Scene {
    clock: TestClock,
    server: Server,
    desk: Desk,
    api: Api<Token>,
}

impl Scene {
    fn new(policy: PolicyBuilder) -> Scene {
        let (clock, desk) = (TestClock::default(), Desk::default());
        let api = threads(policy, &clock).with_login(Some(token("old")), desk.refresh());
        Scene { clock, server: Server::accepting("new"), desk, api }
    }

    /// Sends a request in a thread of its own.
    fn request(&self) -> JoinHandle<Called> {
        self.request_of(Request::new(Idempotency::Idempotent))
    }

    fn request_of(&self, request: Request<'static>) -> JoinHandle<Called> {
        let (api, server) = (self.api.clone(), self.server.clone());
        thread::spawn(move || call(&api, &server, request))
    }

    /// Sends a request that leads the refresh with this number.
    fn leader(&self, number: usize) -> JoinHandle<Called> {
        let leader = self.request();
        eventually(|| self.desk.begun() > number);
        leader
    }
}

fn call<'a>(api: &Api<Token>, server: &Server, request: impl Into<Request<'a>>) -> Called {
    let result = api.call(request, |attempt| server.answer(&attempt));
    result.map(|answer| answer.response).map_err(|error| error.failure.kind())
}

// ---- The refresh ----

#[test]
fn k3_k11_of_many_threads_one_begins_a_refresh() {
    bounded(|| {
        let scene = Scene::new(exact());
        let requests: Vec<_> = (0..16).map(|_| scene.request()).collect();
        scene.desk.finish(0, Ok(token("new")));
        for request in requests {
            assert_eq!(request.join().unwrap(), ok("new"));
        }
        assert_eq!(scene.desk.begun(), 1);
        assert_eq!(scene.clock.time(), Timestamp::ZERO, "they were woken");
    });
}

#[test]
fn s4_k11_the_deadline_of_a_thread_does_not_end_its_refresh() {
    bounded(|| {
        let scene = Scene::new(exact());
        let limits = RequestLimits { deadline: Some(secs(5)), ..RequestLimits::default() };
        let limited = || scene.request_of(Request::new(Idempotency::Idempotent).limits(limits));
        let leader = limited();
        eventually(|| scene.desk.begun() == 1);
        let follower = limited();
        let patient = scene.request();
        thread::sleep(ms(5));
        assert!(!leader.is_finished() && !follower.is_finished());
        scene.clock.advance(secs(5));
        assert_eq!(leader.join().unwrap(), Err(FailureKind::Deadline));
        assert_eq!(follower.join().unwrap(), Err(FailureKind::Deadline));
        scene.desk.finish(0, Ok(token("new")));
        assert_eq!(patient.join().unwrap(), ok("new"));
        assert_eq!(scene.desk.begun(), 1);
    });
}

#[test]
fn k5_k11_a_thread_waits_for_its_lease_and_the_refresh_goes_on() {
    bounded(|| {
        let scene = Scene::new(exact());
        let leader = scene.leader(0);
        scene.clock.advance(secs(30));
        assert_eq!(leader.join().unwrap(), NO_TOKEN);
        scene.desk.finish(0, Ok(token("new")));
        eventually(|| scene.api.token().unwrap().0 == "new");
        assert_eq!(call(&scene.api, &scene.server, Idempotency::Idempotent), ok("new"));
        assert_eq!(scene.desk.begun(), 1);
    });
}

#[test]
fn k11_a_thread_that_hangs_is_given_up_after_three_leases() {
    bounded(|| {
        let scene = Scene::new(exact());
        for _ in 0..3 {
            let leader = scene.request();
            eventually(|| scene.api.login_state().lease.is_some());
            eventually(|| scene.desk.begun() == 1);
            scene.clock.advance(secs(30));
            assert_eq!(leader.join().unwrap(), NO_TOKEN);
        }
        let fourth = scene.leader(1);
        // A thread cannot be ended, and what it brings is a fact (K5).
        scene.desk.finish(0, Ok(token("new")));
        assert_eq!(fourth.join().unwrap(), ok("new"));
        assert_eq!(scene.api.login_state().generation, Some(1));
        // The token of the second one is not of this generation.
        scene.desk.finish(1, Ok(token("stale")));
        eventually(|| scene.desk.ended() == 2);
        thread::sleep(ms(5));
        assert_eq!(scene.api.token().unwrap().0, "new");
    });
}

#[test]
fn k11_a_failure_of_a_thread_that_was_given_up_does_not_end_its_successor() {
    bounded(|| {
        for outcome in [UNAVAILABLE, RefreshError::Rejected, RefreshError::Abandoned] {
            let scene = Scene::new(exact());
            for _ in 0..3 {
                let leader = scene.request();
                eventually(|| scene.api.login_state().lease.is_some() && scene.desk.begun() == 1);
                scene.clock.advance(secs(30));
                assert_eq!(leader.join().unwrap(), NO_TOKEN);
            }
            let fourth = scene.leader(1);
            scene.desk.finish(0, Err(outcome));
            eventually(|| scene.desk.ended() == 1);
            thread::sleep(ms(5));
            assert!(!fourth.is_finished(), "{outcome:?}");
            scene.desk.finish(1, Ok(token("new")));
            assert_eq!(fourth.join().unwrap(), ok("new"));
        }
    });
}

#[test]
fn k6_each_outcome_of_a_thread_reaches_all_who_wait() {
    bounded(|| {
        for (outcome, expected) in [
            (Ok(token("new")), ok("new")),
            (Err(UNAVAILABLE), NO_TOKEN),
            (Err(RefreshError::Rejected), Err(FailureKind::TokenRejected)),
        ] {
            let scene = Scene::new(exact());
            let leader = scene.leader(0);
            let follower = scene.request();
            thread::sleep(ms(2));
            scene.desk.finish(0, outcome);
            assert_eq!(leader.join().unwrap(), expected);
            if expected != NO_TOKEN {
                assert_eq!(follower.join().unwrap(), expected);
                continue;
            }
            // It may not have followed yet.
            eventually(|| follower.is_finished() || scene.desk.begun() == 2);
            if scene.desk.begun() == 2 {
                scene.desk.finish(1, Err(UNAVAILABLE));
            }
            assert_eq!(follower.join().unwrap(), NO_TOKEN);
        }
    });
}

#[test]
fn k11_a_thread_that_panics_counts_as_abandoned() {
    bounded(|| {
        let scene = Scene::new(exact());
        let leader = scene.leader(0);
        let follower = scene.request();
        scene.desk.end(0, Outcome::Panic);
        assert_eq!(leader.join().unwrap(), NO_TOKEN);
        scene.desk.finish(1, Ok(token("new")));
        assert_eq!(follower.join().unwrap(), ok("new"));
    });
}

#[test]
fn k11_a_token_from_outside_wins_over_a_thread() {
    bounded(|| {
        for remove in [false, true] {
            let scene = Scene::new(exact());
            let requests = [scene.leader(0), scene.request()];
            if remove {
                scene.api.token_removed();
                // The second one may come later, and is sent without a token then.
                let [leader, other] = requests;
                assert_eq!(leader.join().unwrap(), Err(FailureKind::TokenRejected));
                let other = other.join().unwrap().unwrap_err();
                assert!(matches!(other, FailureKind::TokenRejected | FailureKind::Unauthorized));
            } else {
                scene.api.token_replaced(token("new"));
                for request in requests {
                    assert_eq!(request.join().unwrap(), ok("new"));
                }
            }
            scene.desk.finish(0, Ok(token("stale")));
            eventually(|| scene.desk.ended() == 1);
            thread::sleep(ms(5));
            assert_eq!(scene.api.token().map(|token| token.0.clone()), (!remove).then(|| "new".into()));
        }
    });
}

#[test]
fn k9_the_thread_of_a_refresh_calls_its_own_service_without_a_token() {
    bounded(|| {
        let clock = TestClock::default();
        let api = threads(exact(), &clock).with_login(Some(token("old")), |refresh| {
            let answer = refresh.api().call(Idempotency::Idempotent, |attempt| {
                assert!(attempt.token().is_none() && attempt.generation().is_none());
                Ok::<_, (TransportErrorKind, ())>((attempt.read(200, [("", "")]), "new"))
            });
            answer.map(|answer| token(answer.response)).map_err(|_| UNAVAILABLE)
        });
        assert_eq!(call(&api, &Server::accepting("new"), Idempotency::Idempotent), ok("new"));
    });
}

#[test]
fn k9_a_thread_that_waits_for_itself_ends_with_its_leases() {
    bounded(|| {
        let clock = TestClock::default();
        let own: Arc<OnceLock<Api<Token>>> = Arc::default();
        let server = Server::accepting("new");
        let inner = Arc::new(Mutex::new(None));
        let (handle, of, noted) = (own.clone(), server.clone(), inner.clone());
        let api = threads(exact(), &clock).with_login(Some(token("old")), move |_| {
            // By mistake: this handle waits for the refresh itself.
            let result = call(handle.get().unwrap(), &of, Idempotency::Idempotent);
            *noted.lock().unwrap() = Some(result.clone());
            result.map(|_| token("new")).map_err(|_| UNAVAILABLE)
        });
        own.set(api.clone()).ok().unwrap();
        let leader = {
            let (api, server) = (api.clone(), server.clone());
            thread::spawn(move || call(&api, &server, Idempotency::Idempotent))
        };
        // Time passes, and at the latest after two leases it is over.
        let begun = clock.time();
        eventually(|| {
            clock.advance(secs(1));
            leader.is_finished() && inner.lock().unwrap().is_some()
        });
        assert_eq!(leader.join().unwrap(), NO_TOKEN);
        assert_eq!(*inner.lock().unwrap(), Some(NO_TOKEN));
        assert!(clock.time() > begun.saturating_add(secs(30)));
    });
}

#[test]
fn k11_a_handle_that_is_dropped_lets_its_thread_end_and_keeps_nothing() {
    bounded(|| {
        struct Counted(&'static str, #[allow(dead_code)] Living);
        let (clock, alive) = (TestClock::default(), Alive::default());
        let (go, gone) = mpsc::channel();
        let gone = Mutex::new(gone);
        let fresh = |name, alive: &Alive| Fresh { token: Counted(name, alive.one()), expires_in: None };
        let of = alive.clone();
        let api = threads(exact(), &clock).with_login(Some(fresh("old", &alive)), move |_| {
            gone.lock().unwrap().recv().unwrap();
            Ok(fresh("new", &of))
        });
        let request = {
            let api = api.clone();
            thread::spawn(move || {
                let limits = RequestLimits { deadline: Some(secs(5)), ..RequestLimits::default() };
                let request = Request::new(Idempotency::Idempotent).limits(limits);
                let call = api.call(request, |attempt| {
                    assert_eq!(attempt.token().unwrap().0, "old");
                    Ok::<_, (_, ())>((attempt.read(401, [("", "")]), ()))
                });
                call.unwrap_err().failure.kind()
            })
        };
        eventually(|| api.login_state().lease.is_some());
        drop(api);
        clock.advance(secs(5));
        assert_eq!(request.join().unwrap(), FailureKind::Deadline);
        assert_eq!(alive.count(), 1, "the thread has the handle");
        go.send(()).unwrap();
        eventually(|| alive.count() == 0);
    });
}

#[test]
fn k11_a_program_of_threads_ends_when_no_refresh_is_under_way() {
    bounded(|| {
        let scene = Scene::new(exact());
        assert!(scene.api.refresh_ended(Duration::ZERO), "none was");
        let handle = CancelHandle::new();
        let leader = scene.request_of(Request::new(Idempotency::Idempotent).cancelled_by(&handle));
        eventually(|| scene.desk.begun() == 1);
        handle.cancel();
        assert_eq!(leader.join().unwrap(), Err(FailureKind::Cancelled));
        let begun = Instant::now();
        assert!(!scene.api.refresh_ended(ms(20)));
        assert!(begun.elapsed() >= ms(20));
        let waits = {
            let api = scene.api.clone();
            thread::spawn(move || api.refresh_ended(Duration::MAX))
        };
        scene.desk.finish(0, Ok(token("new")));
        assert!(waits.join().unwrap());
        assert_eq!(scene.api.token().unwrap().0, "new");
    });
}

/// Limits the process to its present threads.
#[test]
fn k11_a_refresh_whose_thread_cannot_be_made_counts_as_abandoned() {
    const CHILD: &str = "RETRY_MACHINE_WITHOUT_THREADS";
    if std::env::var_os(CHILD).is_some() {
        let clock = TestClock::default();
        let begun = Arc::new(AtomicU32::new(0));
        let count = begun.clone();
        let api = threads(exact(), &clock).with_login(Some(token("old")), move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(token("new"))
        });
        let server = Server::accepting("new");
        for _ in 0..5 {
            assert_eq!(call(&api, &server, Idempotency::Idempotent), NO_TOKEN);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        assert_eq!(api.login_state().lease, None, "the lease is free");
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let name = "threads::k11_a_refresh_whose_thread_cannot_be_made_counts_as_abandoned";
    // No address space has room for such a stack. With one thread, the harness makes none for the test.
    child.args(["--exact", name, "--test-threads=1"]).env(CHILD, "1").env("RUST_MIN_STACK", (1_u64 << 62).to_string());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

// ---- Cancelling ----

#[test]
fn s6_a_request_that_is_cancelled_before_it_begins_is_not_sent() {
    let scene = Scene::new(exact());
    let handle = CancelHandle::new();
    handle.cancel();
    let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
    assert_eq!(call(&scene.api, &scene.server, request), Err(FailureKind::Cancelled));
    assert_eq!(scene.server.calls(), 0);
}

#[test]
fn s6_a_cancel_from_another_thread_ends_all_waits_at_once() {
    bounded(|| {
        let scene = Scene::new(exact());
        let handle = CancelHandle::new();
        let waiting = Arc::new(AtomicU32::new(0));
        let requests: Vec<_> = (0..12)
            .map(|number| {
                let (api, handle, waiting) = (scene.api.clone(), handle.clone(), waiting.clone());
                thread::spawn(move || {
                    let mut observer = |step: &Step| {
                        if !step.action.is_terminal() && !step.action.short().starts_with("send") {
                            waiting.fetch_add(1, Ordering::SeqCst);
                        }
                    };
                    let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
                    let call = api.call(request.observed_by(&mut observer), |attempt| {
                        // In a back-off, at the gate and in the wait for a token.
                        let status = [503, 429, 401][number % 3];
                        Ok::<_, (_, ())>((attempt.read(status, [("Retry-After", "100")]), status))
                    });
                    call.unwrap_err().failure.kind()
                })
            })
            .collect();
        eventually(|| waiting.load(Ordering::SeqCst) == 12);
        handle.cancel();
        for request in requests {
            assert_eq!(request.join().unwrap(), FailureKind::Cancelled);
        }
        assert_eq!(scene.clock.time(), Timestamp::ZERO);
        if scene.desk.begun() > 0 {
            scene.desk.finish(0, Ok(token("new")));
        }
    });
}

#[test]
fn s6_a_cancel_ends_the_wait_for_a_refresh_and_not_the_refresh() {
    bounded(|| {
        let scene = Scene::new(exact());
        let handle = CancelHandle::new();
        let request = || scene.request_of(Request::new(Idempotency::Idempotent).cancelled_by(&handle));
        let leader = request();
        eventually(|| scene.desk.begun() == 1);
        let follower = request();
        let patient = scene.request();
        thread::sleep(ms(2));
        handle.cancel();
        assert_eq!(leader.join().unwrap(), Err(FailureKind::Cancelled));
        assert_eq!(follower.join().unwrap(), Err(FailureKind::Cancelled));
        scene.desk.finish(0, Ok(token("new")));
        assert_eq!(patient.join().unwrap(), ok("new"));
        assert_eq!(scene.desk.begun(), 1);
    });
}

#[test]
fn s6_a_cancel_in_a_send_lets_it_end_and_keeps_its_answer() {
    for (status, expected) in [(200, Ok(1)), (503, Err(FailureKind::Cancelled)), (404, Err(FailureKind::NotFound))] {
        let api = threads(exact(), &TestClock::default());
        let handle = CancelHandle::new();
        let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
        let result = api.call(request, |attempt| {
            handle.cancel();
            Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("", "")]), attempt.number()))
        });
        assert_eq!(result.map(|answer| answer.response).map_err(|error| error.failure.kind()), expected);
    }
}

#[test]
fn s6_a_cancelled_thread_sends_no_further_attempt() {
    // The next attempt would be sent at once: the repetition of D13, and that of K4.
    for is_401 in [false, true] {
        let scene = Scene::new(exact());
        let handle = CancelHandle::new();
        let mut sends = 0;
        let request = Request::new(Idempotency::NonIdempotent).cancelled_by(&handle);
        let result = scene.api.call(request, |attempt| {
            sends += 1;
            handle.cancel();
            if is_401 {
                scene.api.token_replaced(token("new"));
                scene.server.answer(&attempt)
            } else {
                Err((TransportErrorKind::Unprocessed, String::new()))
            }
        });
        let failure = result.unwrap_err().failure;
        assert_eq!((failure.kind(), failure.attempts(), sends), (FailureKind::Cancelled, 1, 1), "is_401: {is_401}");
    }
}

// ---- Sending ----

#[test]
fn s6_a_panic_in_the_send_gives_the_probe_back() {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(1) };
    let clock = TestClock::default();
    clock.let_sleepers_move(true);
    let api = threads(exact().breaker(Some(breaker)), &clock);
    let failing = api.call(Idempotency::Idempotent, |_| Ok::<_, (_, ())>((Reply::new(503), ())));
    failing.unwrap_err();
    clock.advance_to(api.next_probe().expect("the breaker is open"));
    let panics = || api.call(Idempotency::Idempotent, |_| -> SendResult<(), ()> { panic!("the send panics") }).is_ok();
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    let probe = api.call(Idempotency::Idempotent, |_| Ok::<_, (_, ())>((Reply::new(200), ())));
    assert_eq!(probe.unwrap().attempts, 1);
    assert_eq!(api.next_probe(), None);
}

#[test]
fn s4_the_timeout_of_an_attempt_is_in_real_time() {
    let clock = TestClock::default();
    let api = threads(exact().attempt_timeout(Some(secs(20))).deadline(Some(secs(30))), &clock);
    let mut timeouts = Vec::new();
    let result = api.call(Idempotency::Idempotent, |attempt| {
        timeouts.push(attempt.timeout());
        clock.advance(secs(12));
        timeouts.push(attempt.timeout());
        clock.advance(secs(12));
        timeouts.push(attempt.timeout());
        Ok::<_, (TransportErrorKind, ())>((attempt.read(200, [("", "")]), ()))
    });
    result.unwrap();
    assert_eq!(timeouts, [Some(secs(20) / SCALE), Some(secs(8) / SCALE), Some(Duration::ZERO)]);
    let without = threads(exact(), &clock).call(Idempotency::Idempotent, |attempt| {
        Ok::<_, (TransportErrorKind, ())>((Reply::new(200), attempt.timeout()))
    });
    assert_eq!(without.unwrap().response, None);
}

#[test]
fn t4_a_sender_keeps_what_it_needs_and_need_not_be_send() {
    struct Counting(Rc<std::cell::Cell<u32>>);
    impl<T> Sender<T> for Counting {
        type Response = Rc<u32>;
        type Error = Rc<str>;
        fn send(&mut self, attempt: Attempt<T>) -> SendResult<Rc<u32>, Rc<str>> {
            self.0.set(self.0.get() + 1);
            if attempt.number() < 3 {
                return Err((TransportErrorKind::NotSent, "unplugged".into()));
            }
            Ok((Reply::new(200), Rc::new(self.0.get())))
        }
    }
    let clock = TestClock::default();
    clock.let_sleepers_move(true);
    let answer = threads(exact(), &clock).send(Idempotency::Idempotent, Counting(Rc::default())).unwrap();
    assert_eq!((*answer.response, answer.attempts, answer.waited), (3, 3, secs(3)));
}

// ---- Real time ----

/// The system's clock, which counts how often it is asked.
struct Asked(SystemClock, Arc<AtomicU32>);

impl Clock for Asked {
    fn now(&self) -> Timestamp {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.now()
    }

    fn unix_time(&self) -> Option<Duration> {
        self.0.unix_time()
    }
}

#[test]
fn t4_a_thread_sleeps_in_real_time_and_does_not_spin() {
    bounded(|| {
        let asked = Arc::new(AtomicU32::new(0));
        let policy = exact().initial_backoff(ms(40)).build().unwrap();
        let api = Api::with_upstream(Upstream::new(policy), Asked(SystemClock::new(), asked.clone()));
        let begun = Instant::now();
        let answer = api.call(Idempotency::Idempotent, |attempt| {
            let status = if attempt.number() == 1 { 503 } else { 200 };
            Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("", "")]), ()))
        });
        assert!(begun.elapsed() >= ms(40));
        let answer = answer.unwrap();
        assert!(answer.waited >= ms(40) && answer.waited <= begun.elapsed());
        assert!(asked.load(Ordering::SeqCst) < 20, "it looked at the clock {} times", asked.load(Ordering::SeqCst));
    });
}

#[test]
fn k8_threads_that_wait_for_a_token_are_woken_in_real_time() {
    bounded(|| {
        let desk = Desk::default();
        let api = Api::new(exact().build().unwrap()).with_login(Some(token("old")), desk.refresh());
        let server = Server::accepting("new");
        let begun = Instant::now();
        let requests: Vec<_> = (0..4)
            .map(|_| {
                let (api, server) = (api.clone(), server.clone());
                thread::spawn(move || call(&api, &server, Idempotency::Idempotent))
            })
            .collect();
        eventually(|| desk.begun() == 1);
        thread::sleep(ms(20));
        desk.finish(0, Ok(token("new")));
        for request in requests {
            assert_eq!(request.join().unwrap(), ok("new"));
        }
        // Else they look again when the lease ends, after 30 s.
        assert!(begun.elapsed() < secs(15));
    });
}

#[test]
fn t2_a_wait_beyond_all_time_can_be_cancelled() {
    bounded(|| {
        let api = Api::new(exact().max_server_wait(Duration::MAX).build().unwrap());
        api.close_gate(Duration::MAX);
        let handle = CancelHandle::new();
        let (waits, is_waiting) = mpsc::channel();
        let request = {
            let handle = handle.clone();
            thread::spawn(move || {
                let mut observer = |step: &Step| waits.send(step.action.is_terminal()).unwrap();
                let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
                let request = request.observed_by(&mut observer);
                let call = api.call(request, |_| Ok::<_, (TransportErrorKind, ())>((Reply::new(200), ())));
                call.unwrap_err().failure.kind()
            })
        };
        assert!(!is_waiting.recv().unwrap());
        thread::sleep(ms(2));
        handle.cancel();
        assert_eq!(request.join().unwrap(), FailureKind::Cancelled);
    });
}

#[test]
fn h4_a_date_in_a_response_is_judged_by_the_handles_wall_clock() {
    struct Wall(TestClock);
    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            self.0.now()
        }
        fn unix_time(&self) -> Option<Duration> {
            Some(secs(784_111_777))
        }
        fn real_time(&self, wait: Duration) -> Duration {
            self.0.real_time(wait)
        }
    }
    let clock = TestClock::default();
    clock.let_sleepers_move(true);
    let policy = exact().build().unwrap();
    let api = Api::with_upstream(Upstream::new(policy), Wall(clock.clone()));
    let answer = api.call(Idempotency::Idempotent, |attempt| {
        let status = if attempt.number() == 1 { 429 } else { 200 };
        let headers = [("Retry-After", "Sun, 06 Nov 1994 08:50:07 GMT")];
        Ok::<_, (TransportErrorKind, ())>((attempt.read(status, headers), ()))
    });
    assert_eq!((answer.unwrap().waited, clock.time()), (secs(30), at(30_000)));
}
