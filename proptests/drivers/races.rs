//! Windows between two steps of a driver: what a client's own code does there loses no refresh and begins none twice.

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use retry_machine::drive::{CancelHandle, Clock, Request, Step, blocking, future};
use retry_machine::{Action, FailureKind, Idempotency, Reply, Timestamp, TransportErrorKind, Upstream};

use super::support::{at, exact, secs};
use super::world::{Called, Endpoint, Scene, Task, TestClock, bounded, eventually, run, run_until, tasks, token};

#[test]
fn k11_a_result_that_is_being_reported_still_belongs_to_its_refresh() {
    // The future is dropped between its end and its report, and its drop takes its time: another request leads.
    let late: Arc<Mutex<Option<Task<Called>>>> = Arc::default();
    let endpoint = Endpoint::new();
    let (at_endpoint, in_drop) = (endpoint.clone(), late.clone());
    let scene = Scene::with_refresh(exact(), endpoint, |clock| {
        let clock = clock.clone();
        Box::new(move |refresh| {
            let mut exchange = at_endpoint.begin(&refresh);
            let (clock, in_drop) = (clock.clone(), in_drop.clone());
            exchange.on_drop = Some(Box::new(move || {
                clock.advance(secs(31));
                if let Some(task) = &mut *in_drop.lock().unwrap() {
                    task.poll();
                }
            }));
            Box::pin(exchange)
        })
    });
    let mut leader = scene.waiting();
    *late.lock().unwrap() = Some(scene.waiting());
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(10_000, &mut [&mut leader]);
    assert_eq!(leader.take(), Ok("200 new".into()));
    assert_eq!(scene.endpoint.begun(), 1, "the refresh token was sent twice");
    let mut late = late.lock().unwrap().take().unwrap();
    scene.run(&mut [&mut late]);
    assert_eq!(late.take(), Ok("200 new".into()));
}

#[test]
fn k11_a_lease_whose_token_came_before_its_refresh_begins_none() {
    let scene = Scene::new(exact());
    let leader = scene.waiting();
    let mut second = scene.waiting();
    scene.clock.advance(secs(31));
    // The refresh ends after the second request was given a lease, and before it begins a refresh.
    let endpoint = scene.endpoint.clone();
    let leader = Arc::new(Mutex::new(leader));
    let of_hook = leader.clone();
    scene.clock.on_real_time(move || {
        endpoint.finish(0, Ok(token("new")));
        of_hook.lock().unwrap().poll();
    });
    scene.run(&mut [&mut second]);
    assert_eq!(second.take(), Ok("200 new".into()));
    assert_eq!(scene.endpoint.begun(), 1, "the refresh token was sent twice");
    assert_eq!(leader.lock().unwrap().take(), Ok("200 new".into()));
}

#[test]
fn k11_a_token_from_outside_before_the_refresh_begins_leaves_none_under_way() {
    for remove in [false, true] {
        let scene = Scene::new(exact());
        let api = scene.api.clone();
        scene.clock.on_real_time(move || if remove { api.token_removed() } else { api.token_replaced(token("new")) });
        let mut leader = scene.request();
        scene.run(&mut [&mut leader]);
        let expected = if remove { Err(FailureKind::TokenRejected) } else { Ok("200 new".into()) };
        assert_eq!(leader.take(), expected);
        assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (0, 0), "remove: {remove}");
    }
}

#[test]
fn k11_a_follower_that_came_before_the_refresh_began_goes_on_with_it() {
    let scene = Scene::new(exact());
    let follower = Arc::new(Mutex::new(scene.request()));
    let of_hook = follower.clone();
    scene.clock.on_real_time(move || {
        of_hook.lock().unwrap().poll();
    });
    let (api, server) = (scene.api.clone(), scene.server.clone());
    let mut leader = Task::new(async move {
        let mut observer = |step: &Step| assert!(!matches!(step.action, Action::RefreshToken { .. }), "a panic");
        let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
        drop(api.call(request, |attempt| ready(server.answer(&attempt))).await);
    });
    catch_unwind(AssertUnwindSafe(|| leader.poll().has_ended())).unwrap_err();
    let mut follower = Arc::into_inner(follower).unwrap().into_inner().unwrap();
    scene.run_until(1_000, &mut [&mut follower]);
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(2_000, &mut [&mut follower]);
    assert_eq!(follower.take(), Ok("200 new".into()));
}

#[test]
fn k5_a_panic_of_the_clock_does_not_come_between_a_lease_and_its_refresh() {
    let scene = Scene::new(exact());
    scene.clock.on_real_time(|| panic!("the clock panics"));
    let mut leader = scene.request();
    catch_unwind(AssertUnwindSafe(|| leader.poll().has_ended())).unwrap_err();
    // Either the refresh is under way, or its lease is free.
    let mut next = scene.waiting();
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(1_000, &mut [&mut next]);
    assert_eq!(next.take(), Ok("200 new".into()));
}

#[test]
fn k8_a_token_whose_drop_panics_keeps_nobody_waiting() {
    struct Brittle(&'static str);
    impl Drop for Brittle {
        fn drop(&mut self) {
            assert!(self.0 != "old", "the token panics");
        }
    }
    let clock = TestClock::default();
    let fresh = |name| retry_machine::drive::Fresh { token: Brittle(name), expires_in: None };
    for replaced in [true, false] {
        let rest = clock.clone();
        let api = tasks(exact(), &clock).with_login(Some(fresh("old")), move |_| {
            let wait = rest.sleep(secs(1));
            async move {
                wait.await;
                Ok(fresh("new"))
            }
        });
        let call = || {
            let api = api.clone();
            Task::new(async move {
                let call = api.call(Idempotency::Idempotent, |attempt| {
                    let status = if attempt.token().unwrap().0 == "new" { 200 } else { 401 };
                    ready(Ok::<_, (_, ())>((attempt.read(status, [("", "")]), status)))
                });
                call.await.map(|answer| answer.response).map_err(|error| error.failure.kind())
            })
        };
        let (mut leader, mut follower) = (call(), call());
        leader.poll();
        follower.poll();
        // Else it keeps the old token alive.
        leader.cancel();
        if replaced {
            let replace = || api.token_replaced(fresh("new"));
            let _ = catch_unwind(AssertUnwindSafe(replace));
        } else {
            clock.advance(secs(1));
            let mut passer_by = call();
            let _ = catch_unwind(AssertUnwindSafe(|| passer_by.poll().has_ended()));
        }
        assert!(follower.is_woken(), "replaced: {replaced}");
        follower.poll();
        assert_eq!(follower.take(), Ok(200));
    }
}

#[test]
fn s6_a_cancelled_request_sends_no_further_attempt() {
    // The cancel comes while the first attempt is under way. The next attempt would be sent at once.
    let clock = TestClock::default();
    let handle = CancelHandle::new();
    let api = tasks(exact(), &clock);
    let (sent, cancel) = (Arc::new(Mutex::new(0)), handle.clone());
    let sends = sent.clone();
    let mut task = Task::new(async move {
        let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
        let call = api.call(request, |_| {
            *sends.lock().unwrap() += 1;
            cancel.cancel();
            ready(Err::<(_, ()), _>((TransportErrorKind::Unprocessed, "unprocessed")))
        });
        call.await.map_err(|error| error.failure.kind())
    });
    run(&clock, &mut [&mut task]);
    assert_eq!(task.take().unwrap_err(), FailureKind::Cancelled);
    assert_eq!(*sent.lock().unwrap(), 1);
}

#[test]
fn k11_a_woken_task_that_is_not_polled_does_not_keep_the_others_waiting() {
    let scene = Scene::new(exact());
    // It stays alive, but its task does something else, such as a stream whose consumer is slow.
    let idle = scene.waiting();
    let mut other = scene.waiting();
    scene.endpoint.finish(0, Ok(token("new")));
    assert!(idle.is_woken() || other.is_woken());
    scene.run_until(1_000, &mut [&mut other]);
    assert!(other.has_ended(), "the other waits for a task that is not polled");
}

#[test]
fn e1_a_request_that_is_cancelled_in_an_attempt_does_not_bring_back_an_older_error() {
    let clock = TestClock::default();
    let handle = CancelHandle::new();
    let api = tasks(exact(), &clock);
    let cancel = handle.clone();
    let mut task = Task::new(async move {
        let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
        let call = api.call(request, |attempt| async move {
            if attempt.number() == 1 {
                return Err::<(_, ()), _>((TransportErrorKind::NotSent, "of the first attempt"));
            }
            pending().await
        });
        call.await.map_err(|error| (error.failure.kind(), error.error))
    });
    run_until(&clock, at(2_000), &mut [&mut task]);
    cancel.cancel();
    run(&clock, &mut [&mut task]);
    assert_eq!(task.take().unwrap_err(), (FailureKind::Cancelled, None));
}

#[test]
fn k11_what_a_refresh_brings_while_it_is_given_up_counts_like_that_of_a_thread() {
    // It is being polled while its fourth lease begins: with its token in hand it is not as lost as one that hangs.
    let fourth: Arc<Mutex<Option<Task<Called>>>> = Arc::default();
    let (in_poll, begun) = (fourth.clone(), Arc::new(Mutex::new(0)));
    let count = begun.clone();
    let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
        Box::new(move |_| {
            *count.lock().unwrap() += 1;
            let (fourth, is_first) = (in_poll.clone(), *count.lock().unwrap() == 1);
            Box::pin(std::future::poll_fn(move |context| {
                if !is_first || fourth.lock().unwrap().is_none() {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                fourth.lock().unwrap().as_mut().unwrap().poll();
                Poll::Ready(Ok(token("new")))
            }))
        })
    });
    for _ in 0..3 {
        scene.waiting().cancel();
        scene.clock.advance(secs(31));
    }
    *fourth.lock().unwrap() = Some(scene.request());
    let mut passer_by = scene.request();
    passer_by.poll();
    assert_eq!(*begun.lock().unwrap(), 2);
    assert_eq!(scene.api.token().unwrap().0, "new");
}

#[test]
fn k11_a_clock_that_panics_at_the_end_of_a_refresh_does_not_lose_its_token() {
    let scene = Scene::new(exact());
    let mut leader = scene.waiting();
    scene.waiting();
    scene.endpoint.finish(0, Ok(token("new")));
    scene.clock.on_now(|| panic!("the clock panics"));
    let _ = catch_unwind(AssertUnwindSafe(|| leader.poll().has_ended()));
    let mut next = scene.request();
    scene.run_until(0, &mut [&mut next]);
    assert_eq!(next.take(), Ok("200 new".into()));
}

#[test]
fn k8_a_waker_that_panics_keeps_nobody_else_waiting() {
    let scene = Scene::new(exact());
    let (first, mut second) = (scene.waiting(), scene.waiting());
    first.on_wake(|| panic!("the waker panics"));
    let finish = || scene.endpoint.finish(0, Ok(token("new")));
    let _ = catch_unwind(AssertUnwindSafe(finish));
    scene.run_until(0, &mut [&mut second]);
    assert_eq!(second.take(), Ok("200 new".into()));
}

/// A clock that panics from some call on, also in the drop of the request that it has broken.
struct Broken(AtomicU32);

impl Clock for Broken {
    fn now(&self) -> Timestamp {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_ok(), "the clock panics");
        Timestamp::ZERO
    }

    fn unix_time(&self) -> Option<Duration> {
        None
    }
}

#[test]
fn s6_a_clock_that_panics_for_good_does_not_abort_the_process() {
    const CHILD: &str = "RETRY_MACHINE_WITH_A_BROKEN_CLOCK";
    if std::env::var_os(CHILD).is_some() {
        for calls in 0..3 {
            let upstream = Upstream::new(exact().build().unwrap());
            let api = blocking::Api::with_upstream(upstream, Broken(AtomicU32::new(calls)));
            let call = || api.call(Idempotency::Idempotent, |_| Ok::<_, (_, ())>((Reply::new(503), ()))).is_ok();
            catch_unwind(AssertUnwindSafe(call)).unwrap_err();
        }
        return;
    }
    let name = "races::s6_a_clock_that_panics_for_good_does_not_abort_the_process";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{}\n{said}", output.status);
}

#[test]
fn b4_a_sleep_that_is_over_at_once_gives_the_runtime_its_turn() {
    #[derive(Clone)]
    struct Sleepless;
    impl future::Sleep for Sleepless {
        type Future = std::future::Ready<()>;
        fn sleep(&self, _: Duration) -> Self::Future {
            ready(())
        }
    }
    bounded(|| {
        let clock = TestClock::default();
        let upstream = Upstream::new(exact().build().unwrap());
        let api = future::Api::with_upstream(upstream, Sleepless, clock.clone());
        let (handle, cancel) = (CancelHandle::new(), CancelHandle::new());
        let call = |handle: &CancelHandle| {
            let (api, handle) = (api.clone(), handle.clone());
            Task::new(async move {
                let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
                let call = api.call(request, |attempt| {
                    let status = if attempt.number() == 1 { 503 } else { 200 };
                    ready(Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("", "")]), ())))
                });
                call.await.map_err(|error| error.failure.kind())
            })
        };
        let (mut one, mut other) = (call(&handle), call(&cancel));
        assert!(!one.poll().has_ended() && !other.poll().has_ended());
        assert!(one.is_woken() && other.is_woken(), "they look again");
        cancel.cancel();
        assert_eq!(other.poll().take().unwrap_err(), FailureKind::Cancelled);
        clock.advance(secs(1));
        assert!(one.poll().take().is_ok());
    });
}

#[test]
fn k11_a_refresh_that_hangs_before_its_future_is_made_hangs_nobody_else() {
    bounded(|| {
        let begun = Arc::new(AtomicU32::new(0));
        let (go, gone) = mpsc::channel::<()>();
        let count = begun.clone();
        let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
            Box::new(move |_| {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    // By mistake it blocks.
                    let _ = gone.recv();
                }
                Box::pin(ready(Ok(token("new"))))
            })
        });
        let mut first = scene.request();
        let hangs = std::thread::spawn(move || first.poll().has_ended());
        eventually(|| begun.load(Ordering::SeqCst) == 1);
        for _ in 0..2 {
            scene.clock.advance(secs(31));
            scene.waiting().cancel();
        }
        scene.clock.advance(secs(31));
        let mut fourth = scene.request();
        let (done, is_done) = mpsc::channel();
        let goes_on = std::thread::spawn(move || {
            fourth.poll();
            done.send(fourth).unwrap();
        });
        let fourth = is_done.recv_timeout(secs(5));
        go.send(()).unwrap();
        goes_on.join().unwrap();
        hangs.join().unwrap();
        assert!(fourth.is_ok(), "its thread hangs, too");
    });
}
