//! The client's own code runs without a lock: wakers, tokens, observers, clocks and closures may call the handle, and may
//! panic.

use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{RawWaker, RawWakerVTable, Waker};

use retry_machine::drive::{CancelHandle, Fresh, Request, Step, future};
use retry_machine::{BreakerPolicy, FailureKind, Idempotency, Reply, TransportErrorKind};

use super::support::{exact, secs};
use super::world::{Endpoint, Scene, Sleeper, Task, Tasks, TestClock, bounded, request_of, run, tasks, token};

// ---- Wakers ----

/// The call of a waker, and the number of calls of each of its functions.
struct Curious {
    look: Box<dyn Fn() + Send + Sync>,
    clones: AtomicU32,
    wakes: AtomicU32,
    drops: AtomicU32,
}

impl Curious {
    fn new(look: impl Fn() + Send + Sync + 'static) -> Arc<Curious> {
        let (clones, wakes, drops) = Default::default();
        Arc::new(Curious { look: Box::new(look), clones, wakes, drops })
    }

    fn waker(self: &Arc<Self>) -> Waker {
        // SAFETY: the pointer comes from an `Arc`, as the functions of the table expect.
        unsafe { Waker::from_raw(RawWaker::new(Arc::into_raw(self.clone()).cast(), &CURIOUS)) }
    }

    fn counts(&self) -> [u32; 3] {
        [&self.clones, &self.wakes, &self.drops].map(|count| count.load(Ordering::SeqCst))
    }
}

fn note(curious: &Curious, count: &AtomicU32) {
    count.fetch_add(1, Ordering::SeqCst);
    (curious.look)();
}

/// A runtime's waker, each of whose functions calls something.
const CURIOUS: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: each waker owns one count of the `Arc`.
        let curious = unsafe {
            Arc::increment_strong_count(data.cast::<Curious>());
            &*data.cast::<Curious>()
        };
        note(curious, &curious.clones);
        RawWaker::new(data, &CURIOUS)
    },
    |data| {
        // SAFETY: as above; the waker ends here.
        let curious = unsafe { Arc::from_raw(data.cast::<Curious>()) };
        note(&curious, &curious.wakes);
    },
    |data| {
        // SAFETY: as above; the waker lives on.
        let curious = unsafe { &*data.cast::<Curious>() };
        note(curious, &curious.wakes);
    },
    |data| {
        // SAFETY: as above; the waker ends here.
        let curious = unsafe { Arc::from_raw(data.cast::<Curious>()) };
        note(&curious, &curious.drops);
    },
);

/// Looks at everything that is behind a lock of the handle.
fn look(api: &Tasks) {
    assert!(api.login_state().generation.is_some());
    assert!(api.token().is_some());
    assert!(api.upstream().login.generation().is_some());
    assert!(!format!("{api:?}").is_empty());
    let _ = (api.gate_state(), api.budget_balance(), api.next_probe(), api.now());
}

#[test]
fn k8_no_waker_is_called_under_a_lock() {
    bounded(|| {
        let scene = Scene::new(exact());
        let api = scene.api.clone();
        let curious = Curious::new(move || look(&api));
        let (waker, other) = (curious.waker(), Arc::new(Waker::noop().clone()));
        let mut requests = [scene.request(), scene.request(), scene.request()];
        for request in &mut requests {
            request.poll_with(&waker);
            // The registered waker is replaced, twice.
            request.poll_with(&other).poll_with(&waker);
        }
        scene.endpoint.wake(0);
        requests[0].poll_with(&waker);
        requests[1].cancel();
        scene.endpoint.finish(0, Ok(token("new")));
        scene.clock.advance(secs(1));
        assert_eq!(requests[0].poll_with(&waker).take(), Ok("200 new".into()));
        assert_eq!(requests[2].poll_with(&waker).take(), Ok("200 new".into()));
        assert!(curious.counts().iter().all(|count| *count > 0), "{:?}", curious.counts());
        drop(waker);
        // Nothing has kept a waker.
        assert_eq!(Arc::strong_count(&curious), 1);
    });
}

#[test]
fn k8_a_waker_may_install_a_token() {
    bounded(|| {
        let scene = Scene::new(exact());
        let api = scene.api.clone();
        let is_first = AtomicU32::new(1);
        let curious = Curious::new(move || {
            if is_first.swap(0, Ordering::SeqCst) == 0 {
                api.token_replaced(token("new"));
            }
        });
        let mut request = scene.request();
        request.poll_with(&curious.waker());
        scene.endpoint.wake(0);
        for _ in 0..2 {
            if !request.has_ended() {
                request.poll_with(&curious.waker());
            }
        }
        assert_eq!(request.take(), Ok("200 new".into()));
    });
}

#[test]
fn s6_no_waker_of_a_cancel_handle_is_called_under_a_lock() {
    bounded(|| {
        let scene = Scene::new(exact());
        let handle = CancelHandle::new();
        let (api, of) = (scene.api.clone(), handle.clone());
        let curious = Curious::new(move || {
            look(&api);
            assert!(!format!("{of:?}").is_empty());
            if of.is_cancelled() {
                of.cancel();
            }
        });
        let cancelled = || {
            let request = Request::new(Idempotency::Idempotent).cancelled_by(&handle);
            request_of(&scene.api, &scene.server, request)
        };
        let mut requests = [cancelled(), cancelled(), cancelled()];
        for request in &mut requests {
            request.poll_with(&curious.waker()).poll_with(&curious.waker());
        }
        requests[1].cancel();
        handle.cancel();
        for index in [0, 2] {
            assert_eq!(requests[index].poll_with(&curious.waker()).take(), Err(FailureKind::Cancelled));
        }
        assert_eq!(Arc::strong_count(&curious), 1);
    });
}

// ---- Tokens ----

/// A token whose drop calls its handle.
struct Nosy(u32, Arc<OnceLock<future::Api<Sleeper, Nosy>>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(api) = self.1.get() {
            let _ = (api.login_state(), api.token(), api.upstream(), api.gate_state());
            if self.0 == 0 {
                // The first one replaces whatever comes after it.
                api.token_replaced(Fresh { token: Nosy(9, self.1.clone()), expires_in: None });
            }
        }
    }
}

#[test]
fn h9_no_token_is_dropped_under_a_lock() {
    for by_hand in [false, true] {
        bounded(move || {
            let clock = TestClock::default();
            let own: Arc<OnceLock<future::Api<Sleeper, Nosy>>> = Arc::default();
            let fresh = |number, own: &Arc<_>| Fresh { token: Nosy(number, Arc::clone(own)), expires_in: None };
            let of = own.clone();
            let api = tasks(exact(), &clock).with_login(Some(fresh(0, &own)), move |_| ready(Ok(fresh(1, &of))));
            own.set(api.clone()).ok().unwrap();
            if by_hand {
                api.token_replaced(fresh(1, &own));
            }
            let call = api.clone();
            let mut request = Task::new(async move {
                let call = call.call(Idempotency::Idempotent, |attempt| {
                    let status = if attempt.token().unwrap().0 == 0 { 401 } else { 200 };
                    ready(Ok::<_, (_, ())>((attempt.read(status, [("", "")]), attempt.token().unwrap().0)))
                });
                call.await.map(|answer| answer.response).map_err(|error| error.failure.kind())
            });
            run(&clock, &mut [&mut request]);
            assert!(matches!(request.take(), Ok(1 | 9)));
            assert_eq!(api.token().unwrap().0, 9);
            assert_eq!(api.login_state().generation, Some(2));
            api.token_removed();
            assert!(api.token().is_none());
        });
    }
}

// ---- Observers, clocks and closures ----

#[test]
fn t4_an_observer_may_use_the_handle() {
    bounded(|| {
        let scene = Scene::new(exact());
        let (api, server) = (scene.api.clone(), scene.server.clone());
        let mut request = Task::new(async move {
            let seen = api.clone();
            let mut observer = |step: &Step| {
                look(&seen);
                if matches!(step.action, retry_machine::Action::RefreshToken { .. }) {
                    seen.token_replaced(token("new"));
                }
            };
            let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
            api.call(request, |attempt| ready(server.answer(&attempt))).await.is_ok()
        });
        scene.run(&mut [&mut request]);
        assert!(request.take());
    });
}

#[test]
fn t4_the_closures_may_use_the_handle() {
    bounded(|| {
        let own: Arc<OnceLock<Tasks>> = Arc::default();
        let handle = own.clone();
        let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
            Box::new(move |_| {
                let api = handle.get().unwrap().clone();
                look(&api);
                Box::pin(async move {
                    look(&api);
                    Ok(token("new"))
                })
            })
        });
        own.set(scene.api.clone()).ok().unwrap();
        let (api, server) = (scene.api.clone(), scene.server.clone());
        let mut request = Task::new(async move {
            let call = api.call(Idempotency::Idempotent, |attempt| {
                look(&api);
                let (api, server) = (api.clone(), server.clone());
                async move {
                    look(&api);
                    // Another request inside of this one.
                    let inner = api.call(Idempotency::Idempotent, |_| {
                        ready(Ok::<_, (TransportErrorKind, ())>((Reply::new(200), ())))
                    });
                    if attempt.number() == 1 {
                        inner.await.unwrap();
                    }
                    server.answer(&attempt)
                }
            });
            call.await.is_ok()
        });
        scene.run(&mut [&mut request]);
        assert!(request.take());
    });
}

#[test]
fn t2_the_clock_may_use_the_handle() {
    bounded(|| {
        // In every call of the clock, one after the other.
        for call in 0..12 {
            let scene = Scene::new(exact());
            let api = scene.api.clone();
            let mut request = scene.request();
            scene.clock.on_now_after(call, move || look(&api));
            request.poll();
            if scene.endpoint.begun() > 0 {
                scene.endpoint.finish(0, Ok(token("new")));
            }
            scene.run(&mut [&mut request]);
            assert_eq!(request.take(), Ok("200 new".into()));
        }
    });
}

/// Opens the breaker, and lets its open time pass: the next attempt is the probe.
fn half_open(api: &future::Api<Sleeper>, clock: &TestClock) {
    let call = api.clone();
    let mut request = Task::new(async move {
        let call = call.call(Idempotency::Idempotent, |_| ready(Ok::<_, (_, ())>((Reply::new(503), ()))));
        call.await.map_err(|error| error.failure.kind()).unwrap_err()
    });
    run(clock, &mut [&mut request]);
    request.take();
    let probe = api.next_probe().expect("the breaker is open");
    clock.advance_to(probe);
}

/// Sends a probe that ends in a panic or is dropped, in one of several places, then asks whether the next one passes.
#[test]
fn s6_a_panic_or_a_drop_gives_the_probe_back() {
    let breaker = BreakerPolicy { failure_threshold: 2, open_for: secs(1) };
    for place in 0..4 {
        let clock = TestClock::default();
        let api = tasks(exact().breaker(Some(breaker)), &clock);
        half_open(&api, &clock);
        let call = api.clone();
        let mut probe = Task::new(async move {
            let mut observer = |_: &Step| assert!(place != 0, "the observer panics");
            let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
            let call = call.call(request, |_| {
                assert!(place != 1, "the closure panics");
                async move {
                    assert!(place != 2, "the send panics");
                    std::future::pending::<Result<(Reply, ()), (_, ())>>().await
                }
            });
            drop(call.await);
        });
        let panics = catch_unwind(AssertUnwindSafe(|| probe.poll().has_ended())).is_err();
        assert_eq!(panics, place < 3);
        drop(probe);
        let sent = Arc::new(Mutex::new(0));
        let (call, count) = (api.clone(), sent.clone());
        let mut next = Task::new(async move {
            let call = call.call(Idempotency::Idempotent, |_| {
                *count.lock().unwrap() += 1;
                ready(Ok::<_, (_, ())>((Reply::new(200), ())))
            });
            call.await.is_ok()
        });
        run(&clock, &mut [&mut next]);
        assert!(next.take(), "place {place}");
        assert_eq!(*sent.lock().unwrap(), 1, "the probe was not lost");
    }
}

#[test]
fn s6_a_request_that_is_dropped_at_the_gate_gives_its_slot_back() {
    // Returns when the last of four requests has ended; the third one is dropped at the gate, or is not.
    let last_end = |drops: bool| {
        let clock = TestClock::default();
        let api = tasks(exact(), &clock);
        let call = |answers: &'static [u16]| {
            let api = api.clone();
            let mut task = Task::new(async move {
                let call = api.call(Idempotency::Idempotent, |attempt| {
                    let status = answers[attempt.number() as usize - 1];
                    ready(Ok::<_, (_, ())>((attempt.read(status, [("Retry-After", "10")]), ())))
                });
                call.await.is_ok()
            });
            task.poll();
            task
        };
        let (mut throttled, mut second, mut third) = (call(&[429, 200]), call(&[200]), call(&[200]));
        if drops {
            third.cancel();
        }
        let mut last = call(&[200]);
        run(&clock, &mut [&mut throttled, &mut second, &mut last]);
        assert!(throttled.take() && second.take() && last.take());
        clock.time()
    };
    assert!(last_end(true) < last_end(false));
}

#[test]
fn s6_nothing_is_poisoned_by_a_panic() {
    let scene = Scene::new(exact());
    for panics in 0..3 {
        let (api, server) = (scene.api.clone(), scene.server.clone());
        let mut broken = Task::new(async move {
            let call = api.call(Idempotency::Idempotent, |attempt| {
                assert!(panics != 0, "the closure panics");
                let server = server.clone();
                async move {
                    assert!(panics != 1, "the send panics");
                    server.answer(&attempt)
                }
            });
            call.await.is_ok()
        });
        if panics == 2 {
            scene.clock.on_now(|| panic!("the clock panics"));
        }
        catch_unwind(AssertUnwindSafe(|| broken.poll().has_ended())).unwrap_err();
        look(&scene.api);
    }
    let mut request = scene.waiting();
    scene.endpoint.finish(0, Ok(token("new")));
    assert_eq!(request.poll().take(), Ok("200 new".into()));
}

#[test]
fn s6_a_sleep_that_panics_hurts_its_own_request_alone() {
    #[derive(Clone)]
    struct Restless;
    impl future::Sleep for Restless {
        type Future = std::future::Ready<()>;
        fn sleep(&self, _: std::time::Duration) -> Self::Future {
            panic!("the sleep panics")
        }
    }
    let upstream = retry_machine::Upstream::new(exact().build().unwrap());
    let api = future::Api::with_upstream(upstream, Restless, TestClock::default());
    let call = |status| {
        let api = api.clone();
        Task::new(async move {
            let call = api.call(Idempotency::Idempotent, |attempt| {
                ready(Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("Retry-After", "5")]), ())))
            });
            call.await.is_ok()
        })
    };
    catch_unwind(AssertUnwindSafe(|| call(503).poll().has_ended())).unwrap_err();
    assert!(call(200).poll().take());
}
