//! The refresh of a login, as tasks see it: whatever becomes of the requests, it is begun once and never lost (K5–K11).

use std::future::{pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use retry_machine::drive::{Fresh, RefreshError, Request, Step};
use retry_machine::{Action, BearerErrorCode, FailureKind, Idempotency, RequestLimits, TransportErrorKind};

use super::support::{at, exact, ms, secs};
use super::world::{
    BoxRefresh, Called, Endpoint, Run, Scene, Server, Sleeper, Task, Tasks, TestClock, Token, UNAVAILABLE, bounded,
    request_of, run, run_until, tasks, token, token_for,
};

fn ok(token: &str) -> Called {
    Ok(format!("200 {token}"))
}

const NO_TOKEN: Called = Err(FailureKind::TokenUnavailable);

/// Returns the tasks as an executor takes them.
fn all<R>(tasks: &mut [Task<R>]) -> Vec<&mut dyn Run> {
    tasks.iter_mut().map(|task| task as &mut dyn Run).collect()
}

// ---- Losing requests ----

#[test]
fn k11_a_refresh_goes_on_if_its_request_is_lost_before_it_waits() {
    let scene = Scene::new(exact());
    let (api, server) = (scene.api.clone(), scene.server.clone());
    let mut leader = Task::new(async move {
        let mut observer = |step: &Step| assert!(!matches!(step.action, Action::RefreshToken { .. }), "a panic");
        let request = Request::new(Idempotency::Idempotent).observed_by(&mut observer);
        drop(api.call(request, |attempt| ready(server.answer(&attempt))).await);
    });
    catch_unwind(AssertUnwindSafe(|| leader.poll().has_ended())).unwrap_err();
    assert_eq!((scene.endpoint.begun(), scene.endpoint.polls()), (1, 0));
    let mut next = scene.waiting();
    assert_eq!((scene.endpoint.begun(), scene.endpoint.polls()), (1, 1));
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(1, &mut [&mut next]);
    assert_eq!(next.take(), ok("new"));
    assert_eq!(scene.endpoint.begun(), 1);
}

#[test]
fn k11_a_refresh_goes_on_if_its_request_is_dropped_during_it() {
    let scene = Scene::new(exact());
    let mut leader = scene.waiting();
    let mut follower = scene.waiting();
    leader.cancel();
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(1, &mut [&mut follower]);
    assert_eq!(follower.take(), ok("new"));
    assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (1, 0));
}

#[test]
fn k11_a_refresh_that_has_ended_is_not_lost_with_the_request_that_was_woken() {
    let scene = Scene::new(exact());
    let mut leader = scene.waiting();
    let mut follower = scene.waiting();
    scene.endpoint.finish(0, Ok(token("new")));
    // It was woken for the outcome, and is dropped before it looks.
    leader.cancel();
    scene.run_until(1, &mut [&mut follower]);
    assert_eq!(follower.take(), ok("new"));
}

#[test]
fn k11_a_refresh_that_nobody_waits_for_is_kept_for_the_next_request() {
    let scene = Scene::new(exact());
    for mut lost in [scene.waiting(), scene.waiting(), scene.waiting()] {
        lost.cancel();
    }
    assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (1, 1));
    scene.endpoint.finish(0, Ok(token("new")));
    let calls = scene.server.calls();
    let mut next = scene.request();
    scene.run_until(1, &mut [&mut next]);
    assert_eq!(next.take(), ok("new"));
    assert_eq!(scene.server.calls(), calls + 1, "it has the new token from the start");
    assert_eq!(scene.endpoint.begun(), 1);
}

#[test]
fn k11_a_request_that_begins_polls_the_refresh_once() {
    let scene = Scene::new(exact());
    scene.waiting().cancel();
    let polls = scene.endpoint.polls();
    scene.endpoint.wake(0);
    let mut next = scene.waiting();
    assert_eq!(scene.endpoint.polls(), polls + 1);
    // Nothing has woken the refresh since.
    next.poll();
    assert_eq!(scene.endpoint.polls(), polls + 1);
}

#[test]
fn k11_an_outcome_after_the_lease_still_counts() {
    let scene = Scene::new(exact());
    let mut leader = scene.waiting();
    scene.run_until(40_000, &mut [&mut leader]);
    assert_eq!(leader.take(), NO_TOKEN);
    scene.endpoint.finish(0, Ok(token("new")));
    let mut next = scene.request();
    scene.run_until(40_001, &mut [&mut next]);
    assert_eq!(next.take(), ok("new"));
    assert_eq!(scene.endpoint.begun(), 1);
}

#[test]
fn k11_an_early_refresh_that_nobody_waits_for_is_gone_on_with() {
    // The old token is valid for another 20 s: only the leader waits (K3).
    let endpoint = Endpoint::new();
    let clock = TestClock::default();
    let api = tasks(exact(), &clock).with_login(Some(token_for("old", 100)), endpoint.refresh());
    let server = Server::accepting("old");
    clock.advance(secs(80));
    let call = || request_of(&api, &server, Idempotency::Idempotent);
    let (mut leader, mut other) = (call(), call());
    assert!(!leader.poll().has_ended());
    assert_eq!(other.poll().take(), ok("old"));
    leader.cancel();
    endpoint.finish(0, Ok(token("new")));
    server.accept("new");
    assert_eq!(call().poll().take(), ok("new"));
    assert_eq!(endpoint.begun(), 1);
}

#[test]
fn k7_an_early_refresh_in_vain_leaves_the_old_token() {
    for outcome in [Err(UNAVAILABLE), Err(RefreshError::Abandoned)] {
        let endpoint = Endpoint::new();
        let clock = TestClock::default();
        let api = tasks(exact(), &clock).with_login(Some(token_for("old", 100)), endpoint.refresh());
        let server = Server::accepting("old");
        clock.advance(secs(80));
        let mut leader = request_of(&api, &server, Idempotency::Idempotent);
        leader.poll();
        endpoint.finish(0, outcome);
        assert_eq!(leader.poll().take(), ok("old"));
    }
}

// ---- One refresh ----

#[test]
fn k3_k11_of_many_requests_one_refreshes() {
    let scene = Scene::new(exact());
    let mut requests: Vec<_> = (0..50).map(|_| scene.waiting()).collect();
    assert_eq!(scene.endpoint.begun(), 1);
    scene.clock.advance(ms(700));
    scene.endpoint.finish(0, Ok(token("new")));
    run_until(&scene.clock, at(701), &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == ok("new")));
    // K3: after the first 401 the others wait before they are sent.
    assert_eq!((scene.endpoint.begun(), scene.server.calls()), (1, 51));
}

#[test]
fn k11_spurious_wake_ups_do_not_reach_the_refresh() {
    let scene = Scene::new(exact());
    let mut requests = [scene.waiting(), scene.waiting(), scene.waiting()];
    for _ in 0..10 {
        for request in &mut requests {
            request.poll();
        }
    }
    assert_eq!(scene.endpoint.polls(), 1);
    scene.endpoint.wake(0);
    for request in &mut requests {
        request.poll();
    }
    assert_eq!(scene.endpoint.polls(), 2);
}

#[test]
fn k11_a_refresh_that_wakes_itself_gives_the_runtime_its_turn() {
    let polls = Arc::new(AtomicU32::new(0));
    let counted = polls.clone();
    let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
        Box::new(move |_| {
            let polls = counted.clone();
            Box::pin(std::future::poll_fn(move |context| {
                context.waker().wake_by_ref();
                let is_last = polls.fetch_add(1, Ordering::SeqCst) == 9;
                if is_last { std::task::Poll::Ready(Ok(token("new"))) } else { std::task::Poll::Pending }
            }))
        })
    });
    let mut request = scene.waiting();
    assert_eq!(polls.load(Ordering::SeqCst), 1);
    for _ in 0..8 {
        assert!(request.is_woken());
        assert!(!request.poll().has_ended());
    }
    assert_eq!(request.poll().take(), ok("new"));
    assert_eq!(polls.load(Ordering::SeqCst), 10);
}

/// An act of a test on requests that wait for a refresh.
#[derive(Clone, Copy, Debug)]
enum Move {
    Poll(usize),
    Drop(usize),
    Wake,
    Begin,
}

const MOVES: [Move; 8] =
    [Move::Poll(0), Move::Poll(1), Move::Poll(2), Move::Drop(0), Move::Drop(1), Move::Drop(2), Move::Wake, Move::Begin];

/// Models a runtime by hand, in every order: no wake-up is lost, whoever is polled or dropped.
#[test]
fn k11_no_order_of_polls_drops_and_wake_ups_loses_a_wake_up() {
    for order in 0..8_usize.pow(5) {
        let moves: Vec<Move> = (0..5).map(|place| MOVES[order / 8_usize.pow(place) % 8]).collect();
        // The refresh ends before, within, or after the moves.
        for ends_after in [1, 3, 5] {
            let scene = Scene::new(exact());
            let mut requests: Vec<_> = (0..3).map(|_| scene.waiting()).collect();
            for (place, one) in moves.iter().enumerate() {
                if place == ends_after {
                    scene.endpoint.finish(0, Ok(token("new")));
                }
                match *one {
                    Move::Poll(index) if !requests[index].is_over() => drop(requests[index].poll().is_woken()),
                    Move::Drop(index) => requests[index].cancel(),
                    Move::Wake => scene.endpoint.wake(0),
                    Move::Begin => requests.push(scene.request()),
                    Move::Poll(_) => {}
                }
            }
            if ends_after == 5 {
                scene.endpoint.finish(0, Ok(token("new")));
            }
            requests.push(scene.request());
            run_until(&scene.clock, at(0), &mut all(&mut requests));
            let what = || format!("{moves:?}, ended after {ends_after}");
            for request in &requests {
                assert!(request.is_over(), "{}: a request hangs", what());
                assert!(request.result.as_ref().is_none_or(|result| *result == ok("new")), "{}", what());
            }
            assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (1, 0), "{}", what());
        }
    }
}

// ---- A token from outside ----

#[test]
fn k11_a_token_from_outside_ends_the_refresh_of_the_old_one() {
    let scene = Scene::new(exact());
    let mut requests = [scene.waiting(), scene.waiting()];
    scene.server.accept("outside");
    scene.api.token_replaced(token("outside"));
    assert_eq!(scene.endpoint.under_way(), 0, "its future was dropped");
    run_until(&scene.clock, at(0), &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == ok("outside")));
    // Its outcome finds nobody.
    scene.endpoint.finish(0, Ok(token("new")));
    assert_eq!(scene.request().poll().take(), ok("outside"));
    assert_eq!((scene.api.token().unwrap().0.as_str(), scene.api.login_state().generation), ("outside", Some(1)));
}

#[test]
fn k9_k11_removing_the_token_ends_its_refresh_and_those_who_wait() {
    let scene = Scene::new(exact());
    let mut requests = [scene.waiting(), scene.waiting()];
    scene.api.token_removed();
    assert_eq!(scene.endpoint.under_way(), 0);
    run_until(&scene.clock, at(0), &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == Err(FailureKind::TokenRejected)));
    scene.endpoint.finish(0, Ok(token("new")));
    // Later ones are sent without a token.
    assert_eq!(scene.request().poll().take(), Err(FailureKind::Unauthorized));
    assert!(scene.api.token().is_none());
    scene.api.token_replaced(token("new"));
    assert_eq!(scene.request().poll().take(), ok("new"));
    assert_eq!(scene.endpoint.begun(), 1);
}

#[test]
fn k11_a_token_from_outside_wins_over_the_refresh_that_is_ending() {
    // The refresh brings its token in the same poll in which the user has logged in again.
    for remove in [false, true] {
        let own: Arc<OnceLock<Tasks>> = Arc::default();
        let handle = own.clone();
        let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
            Box::new(move |_| {
                let api = handle.clone();
                Box::pin(async move {
                    let api = api.get().unwrap();
                    if remove {
                        api.token_removed()
                    } else {
                        api.token_replaced(token("new"))
                    }
                    Ok(token("stale"))
                })
            })
        });
        own.set(scene.api.clone()).ok().unwrap();
        let mut request = scene.request();
        scene.run_until(0, &mut [&mut request]);
        let (result, stored) =
            if remove { (Err(FailureKind::TokenRejected), None) } else { (ok("new"), Some(String::from("new"))) };
        assert_eq!(request.take(), result);
        assert_eq!(scene.api.token().map(|token| token.0.clone()), stored);
    }
}

#[test]
fn k11_the_sync_part_of_a_refresh_may_replace_the_token() {
    let own: Arc<OnceLock<Tasks>> = Arc::default();
    let handle = own.clone();
    let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
        Box::new(move |_| {
            handle.get().unwrap().token_replaced(token("new"));
            Box::pin(pending())
        })
    });
    own.set(scene.api.clone()).ok().unwrap();
    let mut request = scene.request();
    scene.run_until(0, &mut [&mut request]);
    assert_eq!(request.take(), ok("new"));
}

#[test]
fn k5_the_token_and_its_generation_never_disagree() {
    let scene = Scene::new(exact());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (api, noted) = (scene.api.clone(), seen.clone());
    let mut request = scene.waiting();
    // Whoever is woken for the outcome sees it complete.
    request.on_wake(move || {
        let name = api.token().map(|token| token.0.clone());
        noted.lock().unwrap().push((api.login_state().generation, name));
    });
    scene.endpoint.wake(0);
    request.poll();
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(0, &mut [&mut request]);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.first().unwrap(), &(Some(0), Some(String::from("old"))));
    for one in &seen {
        assert!([(Some(0), Some("old".into())), (Some(1), Some("new".into()))].contains(one), "{one:?}");
    }
}

#[test]
fn k4_an_attempt_has_the_token_of_its_generation() {
    let scene = Scene::new(exact());
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (api, server, noted) = (scene.api.clone(), scene.server.clone(), sent.clone());
    let mut request = Task::new(async move {
        let call = api.call(Idempotency::Idempotent, |attempt| {
            noted.lock().unwrap().push((attempt.number(), attempt.generation(), attempt.token().unwrap().0.clone()));
            ready(server.answer(&attempt))
        });
        call.await.is_ok()
    });
    request.poll();
    scene.endpoint.finish(0, Ok(token("new")));
    assert!(request.poll().take());
    assert_eq!(*sent.lock().unwrap(), [(1, Some(0), "old".into()), (2, Some(1), "new".into())]);
}

// ---- Refreshes that fail ----

#[test]
fn k6_unavailable_ends_all_who_wait_and_the_next_begins_another() {
    let scene = Scene::new(exact());
    let mut requests = [scene.waiting(), scene.waiting()];
    scene.endpoint.finish(0, Err(UNAVAILABLE));
    run_until(&scene.clock, at(0), &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == NO_TOKEN));
    let mut next = scene.waiting();
    assert_eq!(scene.endpoint.begun(), 2);
    scene.endpoint.finish(1, Ok(token("new")));
    assert_eq!(next.poll().take(), ok("new"));
}

#[test]
fn k6_rejected_ends_all_until_there_is_a_token_from_outside() {
    let scene = Scene::new(exact());
    let mut requests = [scene.waiting(), scene.waiting()];
    scene.endpoint.finish(0, Err(RefreshError::Rejected));
    run_until(&scene.clock, at(0), &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == Err(FailureKind::TokenRejected)));
    let calls = scene.server.calls();
    assert_eq!(scene.request().poll().take(), Err(FailureKind::TokenRejected));
    assert_eq!(scene.server.calls(), calls, "it was not sent");
    scene.api.token_replaced(token("new"));
    assert_eq!(scene.request().poll().take(), ok("new"));
}

#[test]
fn k6_after_abandoned_the_first_follower_leads() {
    let scene = Scene::new(exact());
    let mut leader = scene.waiting();
    let mut followers = [scene.waiting(), scene.waiting()];
    scene.endpoint.finish(0, Err(RefreshError::Abandoned));
    assert_eq!(leader.poll().take(), NO_TOKEN);
    run_until(&scene.clock, at(0), &mut all(&mut followers));
    assert_eq!(scene.endpoint.begun(), 2);
    scene.endpoint.finish(1, Ok(token("new")));
    run_until(&scene.clock, at(0), &mut all(&mut followers));
    assert!(followers.iter_mut().all(|request| request.take() == ok("new")));
}

#[test]
fn k11_a_refresh_that_panics_counts_as_abandoned() {
    // In its synchronous part, and in a poll.
    let panics_at_once = Arc::new(AtomicU32::new(1));
    let endpoint = Endpoint::new();
    let (left, at_endpoint) = (panics_at_once.clone(), endpoint.clone());
    let scene = Scene::with_refresh(exact(), endpoint, |_| {
        Box::new(move |refresh| {
            let panics = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            assert!(panics.is_err(), "the refresh panics at once");
            Box::pin(at_endpoint.begin(&refresh))
        })
    });
    let mut leader = scene.request();
    assert_eq!(leader.poll().take(), NO_TOKEN, "the panic is not its own");
    let mut leader = scene.waiting();
    let mut follower = scene.waiting();
    assert_eq!(scene.endpoint.begun(), 1);
    scene.endpoint.panic(0);
    assert_eq!(leader.poll().take(), NO_TOKEN);
    assert!(!follower.poll().has_ended(), "it leads");
    assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (2, 1));
    scene.endpoint.finish(1, Ok(token("new")));
    assert_eq!(follower.poll().take(), ok("new"));
}

#[test]
fn k11_a_refresh_that_panics_when_it_is_dropped_hurts_nobody() {
    for ends in [true, false] {
        let endpoint = Endpoint::new();
        let at_endpoint = endpoint.clone();
        let scene = Scene::with_refresh(exact(), endpoint, |_| {
            Box::new(move |refresh| {
                let mut exchange = at_endpoint.begin(&refresh);
                exchange.on_drop = Some(Box::new(|| panic!("the refresh panics when it is dropped")));
                Box::pin(exchange)
            })
        });
        let mut requests = [scene.waiting(), scene.waiting()];
        if ends {
            scene.endpoint.finish(0, Ok(token("new")));
        } else {
            scene.api.token_replaced(token("new"));
        }
        run_until(&scene.clock, at(0), &mut all(&mut requests));
        assert!(requests.iter_mut().all(|request| request.take() == ok("new")));
        assert_eq!(scene.api.token().unwrap().0, "new");
    }
}

// ---- Refreshes that hang ----

/// Sends a request that leads, and lets its lease end.
fn lease_runs_out(scene: &Scene) {
    let mut leader = scene.waiting();
    let end = scene.clock.time().saturating_add(secs(30));
    run_until(&scene.clock, end, &mut [&mut leader]);
    assert_eq!(leader.take(), NO_TOKEN);
}

#[test]
fn k11_a_refresh_that_hangs_is_dropped_after_three_leases() {
    let scene = Scene::new(exact());
    for _ in 0..3 {
        lease_runs_out(&scene);
        assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (1, 1));
    }
    let mut fourth = scene.waiting();
    assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (2, 1), "the first one was dropped");
    // Nobody waits for the outcome of the first one.
    scene.endpoint.finish(0, Ok(token("stale")));
    assert!(!fourth.poll().has_ended());
    scene.endpoint.finish(1, Ok(token("new")));
    assert_eq!(fourth.poll().take(), ok("new"));
}

#[test]
fn k11_a_refresh_that_goes_on_is_reported_for_the_newest_lease() {
    for (outcome, result) in [
        (Ok(token("new")), ok("new")),
        (Err(UNAVAILABLE), NO_TOKEN),
        (Err(RefreshError::Rejected), Err(FailureKind::TokenRejected)),
    ] {
        let scene = Scene::new(exact());
        lease_runs_out(&scene);
        lease_runs_out(&scene);
        let mut third = scene.waiting();
        assert_eq!(scene.api.login_state().lease.map(|(lease, _)| lease), Some(3));
        scene.endpoint.finish(0, outcome);
        assert_eq!(third.poll().take(), result);
        assert_eq!(scene.endpoint.begun(), 1);
    }
}

#[test]
fn k8_followers_of_a_refresh_that_hangs_take_turns_and_end() {
    let scene = Scene::new(exact());
    let mut requests: Vec<_> = (0..8).map(|_| scene.waiting()).collect();
    run(&scene.clock, &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == NO_TOKEN));
    // Leases of 30 s each: the fourth and last one that they wait for ends after 120 s.
    assert!(scene.clock.time() <= at(120_000), "{:?}", scene.clock.time());
    assert_eq!(scene.endpoint.begun(), 2);
}

#[test]
fn k11_a_hanging_refresh_of_the_old_token_does_not_count_for_the_new_one() {
    let scene = Scene::new(exact());
    lease_runs_out(&scene);
    lease_runs_out(&scene);
    scene.api.token_replaced(token("second"));
    let mut leader = scene.waiting();
    assert_eq!((scene.endpoint.begun(), scene.endpoint.under_way()), (2, 1));
    let refreshing = scene.endpoint.refreshing(1);
    assert_eq!((refreshing.token.as_str(), refreshing.generation), ("second", 1));
    scene.endpoint.finish(1, Ok(token("new")));
    assert_eq!(leader.poll().take(), ok("new"));
}

#[test]
fn s4_k11_the_deadline_of_the_leader_does_not_end_its_refresh() {
    let scene = Scene::new(exact());
    let limits = RequestLimits { deadline: Some(secs(5)), ..RequestLimits::default() };
    let mut leader = request_of(&scene.api, &scene.server, Request::new(Idempotency::Idempotent).limits(limits));
    leader.poll();
    let mut follower = scene.waiting();
    scene.run_until(6_000, &mut [&mut leader]);
    assert_eq!(leader.take(), Err(FailureKind::Deadline));
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(6_000, &mut [&mut follower]);
    assert_eq!(follower.take(), ok("new"));
    assert_eq!(scene.endpoint.begun(), 1);
}

// ---- What a refresh is given ----

#[test]
fn k11_h9_a_refresh_gets_the_challenge_of_the_401_that_it_answers() {
    let clock = TestClock::default();
    let endpoint = Endpoint::new();
    let facts = Arc::new(Mutex::new(Vec::new()));
    let (noted, mut refresh) = (facts.clone(), endpoint.refresh());
    let api: Tasks = tasks(exact().refresh_on_insufficient(true), &clock).with_login(
        Some(token("old")),
        move |facts: retry_machine::drive::future::Refresh<Sleeper, Token>| {
            let debug = format!("{facts:?}");
            noted.lock().unwrap().push((facts.challenge(), facts.timeout(), debug));
            refresh(facts)
        },
    );
    let call = api.clone();
    let mut request = Task::new(async move {
        let headers = [
            ("WWW-Authenticate", "Bearer error=\"insufficient_claims\", claims=\"secret\""),
            ("Content-Type", "text/plain"),
            ("www-authenticate", "Basic realm=\"other\""),
        ];
        let call = call.call(Idempotency::Idempotent, |attempt| {
            let status = if attempt.generation() == Some(0) { 401 } else { 200 };
            ready(Ok::<_, (_, ())>((attempt.read(status, headers), status)))
        });
        call.await.is_ok()
    });
    clock.advance(secs(1));
    request.poll();
    let challenges = "Bearer error=\"insufficient_claims\", claims=\"secret\", Basic realm=\"other\"";
    assert_eq!(endpoint.refreshing(0).www_authenticate, challenges);
    assert_eq!(endpoint.refreshing(0).token, "old");
    let facts = facts.lock().unwrap();
    let (challenge, timeout, debug) = &facts[0];
    assert_eq!((*challenge, *timeout), (Some(BearerErrorCode::InsufficientClaims), secs(30)));
    assert!(!debug.contains("secret") && !debug.contains("old") && debug.contains("lease: 1"), "{debug}");
    endpoint.finish(0, Ok(token("new")));
    assert!(request.poll().take());
}

#[test]
fn k7_a_refresh_ahead_of_expiry_gets_no_challenge() {
    let endpoint = Endpoint::new();
    let clock = TestClock::default();
    let api = tasks(exact(), &clock).with_login(Some(token_for("old", 100)), endpoint.refresh());
    clock.advance(secs(80));
    let mut leader = request_of(&api, &Server::accepting("new"), Idempotency::Idempotent);
    leader.poll();
    assert_eq!(endpoint.refreshing(0).www_authenticate, "");
}

/// Returns a request whose answer takes its time: several can be under way before the first 401 comes.
fn slow(scene: &Scene, millis: u64) -> Task<Called> {
    let (api, server, clock) = (scene.api.clone(), scene.server.clone(), scene.clock.clone());
    let mut request = Task::new(async move {
        let call = api.call(Idempotency::Idempotent, |attempt| {
            let (wait, server) = (clock.sleep(ms(millis)), server.clone());
            async move {
                wait.await;
                server.answer(&attempt)
            }
        });
        call.await.map(|answer| answer.response).map_err(|error| error.failure.kind())
    });
    request.poll();
    request
}

#[test]
fn k3_k11_of_many_401s_one_leads_to_a_refresh() {
    let scene = Scene::new(exact());
    let mut requests: Vec<_> = (0..50).map(|number| slow(&scene, 100 + number)).collect();
    run_until(&scene.clock, at(200), &mut all(&mut requests));
    assert_eq!((scene.endpoint.begun(), scene.server.calls()), (1, 50));
    scene.endpoint.finish(0, Ok(token("new")));
    run(&scene.clock, &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == ok("new")));
    assert_eq!((scene.endpoint.begun(), scene.server.calls()), (1, 100));
}

#[test]
fn k4_a_401_of_an_older_token_leads_to_no_refresh() {
    let scene = Scene::new(exact());
    let mut late = slow(&scene, 5_000);
    let mut leader = scene.waiting();
    scene.endpoint.finish(0, Ok(token("new")));
    assert_eq!(leader.poll().take(), ok("new"));
    scene.run(&mut [&mut late]);
    assert_eq!(late.take(), ok("new"));
    assert_eq!(scene.endpoint.begun(), 1);
}

#[test]
fn k11_a_follower_that_leads_later_has_its_own_challenge() {
    let scene = Scene::new(exact());
    let mut requests = [slow(&scene, 100), slow(&scene, 200)];
    run_until(&scene.clock, at(200), &mut all(&mut requests));
    scene.endpoint.finish(0, Err(RefreshError::Abandoned));
    run_until(&scene.clock, at(200), &mut all(&mut requests));
    assert_eq!(requests[0].take(), NO_TOKEN);
    assert_eq!(scene.endpoint.refreshing(1).www_authenticate, "Bearer error=\"invalid_token\", realm=\"old\"");
}

#[test]
fn k11_a_challenge_that_was_answered_otherwise_is_not_given_to_a_later_refresh() {
    // K4: the first attempt's 401 is about a token that was replaced since then. Then the new one is due (K7).
    let endpoint = Endpoint::new();
    let clock = TestClock::default();
    let api = tasks(exact(), &clock).with_login(Some(token("old")), endpoint.refresh());
    let (call, moved) = (api.clone(), clock.clone());
    let mut request = Task::new(async move {
        let call_again = call.clone();
        let call = call.call(Idempotency::Idempotent, |attempt| {
            let is_first = attempt.number() == 1;
            if is_first {
                call_again.token_replaced(token_for("second", 100));
                moved.advance(secs(80));
            }
            let status = if is_first { 401 } else { 200 };
            let headers = [("WWW-Authenticate", "Bearer realm=\"of the first token\"")];
            ready(Ok::<_, (_, ())>((attempt.read(status, headers), status)))
        });
        call.await.is_ok()
    });
    request.poll();
    let refreshing = endpoint.refreshing(0);
    assert_eq!((refreshing.token.as_str(), refreshing.www_authenticate.as_str()), ("second", ""));
}

// ---- The refresh's own calls ----

#[test]
fn k9_a_refresh_calls_its_own_service_without_a_token() {
    // The token endpoint is behind the same gate, and is retried by the same policy.
    let sent = Arc::new(Mutex::new(Vec::new()));
    let noted = sent.clone();
    let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| -> BoxRefresh {
        Box::new(move |refresh| {
            let sent = noted.clone();
            Box::pin(async move {
                let api = refresh.api().clone();
                let answer = api.call(Idempotency::Idempotent, |attempt| {
                    sent.lock().unwrap().push((attempt.number(), attempt.generation(), attempt.token().is_some()));
                    let status = if attempt.number() == 1 { 503 } else { 200 };
                    ready(Ok::<_, (TransportErrorKind, ())>((attempt.read(status, [("", "")]), status)))
                });
                answer.await.map(|_| token("new")).map_err(|_| UNAVAILABLE)
            })
        })
    });
    let before = scene.api.budget_balance();
    let mut requests = [scene.waiting(), scene.waiting()];
    assert!(scene.api.budget_balance() < before, "the budget is shared");
    run(&scene.clock, &mut all(&mut requests));
    assert!(requests.iter_mut().all(|request| request.take() == ok("new")));
    assert_eq!(*sent.lock().unwrap(), [(1, None, false), (2, None, false)]);
    assert_eq!(scene.clock.time(), at(1_000));
}

#[test]
fn k9_a_401_of_the_token_endpoint_fails_its_call_alone() {
    let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
        Box::new(move |refresh| {
            Box::pin(async move {
                let call = refresh.api().call(Idempotency::NonIdempotent, |attempt| {
                    ready(Ok::<_, (TransportErrorKind, ())>((attempt.read(401, [("", "")]), ())))
                });
                match call.await {
                    Err(error) if error.failure.kind() == FailureKind::Unauthorized => Err(RefreshError::Rejected),
                    _ => Err(UNAVAILABLE),
                }
            })
        })
    });
    let mut request = scene.request();
    scene.run_until(0, &mut [&mut request]);
    assert_eq!(request.take(), Err(FailureKind::TokenRejected));
}

#[test]
fn k9_a_refresh_that_waits_for_itself_ends_with_its_leases() {
    bounded(|| {
        let own: Arc<OnceLock<Tasks>> = Arc::default();
        let server = Server::accepting("new");
        let inner = Arc::new(Mutex::new(None));
        let (handle, of, noted) = (own.clone(), server.clone(), inner.clone());
        let scene = Scene::with_refresh(exact(), Endpoint::new(), |_| {
            Box::new(move |_| {
                let (api, server, noted) = (handle.get().unwrap().clone(), of.clone(), noted.clone());
                Box::pin(async move {
                    // By mistake: this handle waits for the refresh itself.
                    let answer = api.call(Idempotency::Idempotent, |attempt| ready(server.answer(&attempt))).await;
                    let failure = answer.as_ref().err().map(|error| error.failure.kind());
                    *noted.lock().unwrap() = failure;
                    answer.map(|answer| token(&answer.response)).map_err(|_| UNAVAILABLE)
                })
            })
        });
        own.set(scene.api.clone()).ok().unwrap();
        let mut request = scene.request();
        scene.run_until(30_000, &mut [&mut request]);
        assert_eq!(request.take(), NO_TOKEN);
        // The call inside leads the next lease, which goes on with the refresh, and ends with it.
        let mut next = scene.request();
        scene.run_until(60_000, &mut [&mut next]);
        assert_eq!(*inner.lock().unwrap(), Some(FailureKind::TokenUnavailable));
        assert_eq!(next.take(), NO_TOKEN);
    });
}

// ---- The end of the handle ----

#[test]
fn k11_the_last_handle_takes_the_refresh_with_it() {
    let scene = Scene::new(exact());
    let mut request = scene.waiting();
    let Scene { api, endpoint, .. } = scene;
    drop(api);
    assert_eq!(endpoint.under_way(), 1, "the request has a handle, too");
    request.cancel();
    assert_eq!(endpoint.under_way(), 0);
}

#[test]
fn k11_a_request_goes_on_without_the_callers_handle() {
    let Scene { clock, server, endpoint, api } = Scene::new(exact());
    let mut request = super::world::request(&api, &server);
    drop(api);
    request.poll();
    endpoint.finish(0, Ok(token("new")));
    run(&clock, &mut [&mut request]);
    assert_eq!(request.take(), ok("new"));
}

#[test]
fn k9_a_login_that_begins_without_a_token_can_get_one() {
    let clock = TestClock::default();
    let endpoint = Endpoint::new();
    let api = tasks(exact(), &clock).with_login(None::<Fresh<Token>>, endpoint.refresh());
    let server = Server::accepting("new");
    let call = || request_of(&api, &server, Idempotency::Idempotent);
    assert_eq!(call().poll().take(), Err(FailureKind::Unauthorized));
    assert_eq!(endpoint.begun(), 0);
    api.token_replaced(token("first"));
    assert_eq!(api.login_state().generation, Some(0));
    let mut request = call();
    request.poll();
    endpoint.finish(0, Ok(token("new")));
    assert_eq!(request.poll().take(), ok("new"));
}

#[test]
fn k7_a_token_that_has_expired_is_refreshed_first() {
    let clock = TestClock::default();
    let endpoint = Endpoint::new();
    let api = tasks(exact(), &clock).with_login(Some(Fresh::expired(Token("none".into()))), endpoint.refresh());
    let server = Server::accepting("new");
    let mut request = request_of(&api, &server, Idempotency::Idempotent);
    request.poll();
    assert_eq!((endpoint.begun(), server.calls()), (1, 0), "it was not sent");
    endpoint.finish(0, Ok(token("new")));
    assert_eq!(request.poll().take(), ok("new"));
    assert_eq!(server.calls(), 1);
}

// ---- The end of a program ----

/// Returns a task that waits until no refresh is under way.
fn ended(api: &Tasks) -> Task<()> {
    let mut task = Task::new(api.refresh_ended());
    task.poll();
    task
}

#[test]
fn k11_a_program_ends_when_no_refresh_is_under_way() {
    let scene = Scene::new(exact());
    assert!(ended(&scene.api).has_ended(), "none was");
    // One that nobody waits for is gone on with.
    scene.waiting().cancel();
    let mut end = ended(&scene.api);
    assert!(!end.has_ended());
    scene.endpoint.wake(0);
    scene.run_until(100_000, &mut [&mut end]);
    assert!(!end.has_ended(), "the end of a lease is not the end of its refresh");
    scene.endpoint.finish(0, Ok(token("new")));
    scene.run_until(100_000, &mut [&mut end]);
    assert!(end.has_ended());
    assert_eq!(scene.api.token().unwrap().0, "new");
}

#[test]
fn k11_a_program_ends_whatever_becomes_of_the_refresh() {
    for way in 0..6 {
        let scene = Scene::new(exact());
        let mut request = scene.waiting();
        let mut end = ended(&scene.api);
        match way {
            0 => scene.endpoint.finish(0, Err(UNAVAILABLE)),
            1 => scene.endpoint.finish(0, Err(RefreshError::Rejected)),
            2 => scene.endpoint.panic(0),
            3 => scene.api.token_replaced(token("new")),
            4 => scene.api.token_removed(),
            _ => {
                // The next lease goes on with it.
                scene.run_until(31_000, &mut [&mut request]);
                request = scene.waiting();
                scene.endpoint.finish(0, Err(UNAVAILABLE));
            }
        }
        request.cancel();
        scene.run_until(31_000, &mut [&mut end]);
        assert!(end.has_ended(), "way {way}");
        assert_eq!(scene.endpoint.under_way(), 0);
    }
}

#[test]
fn k11_a_program_ends_though_the_last_lease_was_given_up() {
    let scene = Scene::new(exact());
    scene.waiting().cancel();
    scene.clock.advance(secs(31));
    // The next lease is given up: its request breaks before it goes on with the refresh.
    scene.clock.on_real_time(|| panic!("the clock panics"));
    let mut broken = scene.request();
    catch_unwind(AssertUnwindSafe(|| broken.poll().has_ended())).unwrap_err();
    drop(broken);
    let mut end = ended(&scene.api);
    // Of no lease that counts.
    scene.endpoint.finish(0, Err(UNAVAILABLE));
    scene.run_until(31_000, &mut [&mut end]);
    assert!(end.has_ended());
}
