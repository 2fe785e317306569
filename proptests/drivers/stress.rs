//! Both drivers on real threads, with leases that run out, requests that are dropped and tokens from outside: a server that
//! rotates refresh tokens is never shown one twice.

use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use retry_machine::drive::future::RefreshResult;
use retry_machine::drive::{Attempt, CancelHandle, Fresh, RefreshError, Request, SendResult};
use retry_machine::{FailureKind, Idempotency, Login};

use super::support::{exact, secs};
use super::world::{TestClock, bounded, tasks, threads};

/// A token: the login that it comes from, its number within that, and whether anybody sees that it is dropped.
struct Rotating {
    family: u32,
    number: u32,
}

/// A server that rotates refresh tokens.
#[derive(Default)]
struct Account {
    /// Which refresh tokens it was shown.
    shown: Mutex<BTreeSet<(u32, u32)>>,
    /// The newest access token.
    newest: Mutex<(u32, u32)>,
    replays: AtomicU32,
    refreshes: AtomicU32,
    answered: AtomicU32,
    over: AtomicBool,
}

impl Account {
    /// Takes a refresh token.
    fn show(&self, token: &Rotating) {
        self.refreshes.fetch_add(1, Ordering::SeqCst);
        if !self.shown.lock().unwrap().insert((token.family, token.number)) {
            self.replays.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Gives out the next token. A refresh of an older family no longer counts.
    fn rotate(&self, token: &Rotating, fails: bool) -> RefreshResult<Rotating> {
        if fails {
            // The token was not used: the same one may be shown again.
            self.shown.lock().unwrap().remove(&(token.family, token.number));
            return Err(RefreshError::Abandoned);
        }
        let next = Rotating { family: token.family, number: token.number + 1 };
        let mut newest = self.newest.lock().unwrap();
        *newest = (*newest).max((next.family, next.number));
        Ok(Fresh { token: next, expires_in: None })
    }

    /// Logs in from outside.
    fn log_in(&self) -> Fresh<Rotating> {
        let mut newest = self.newest.lock().unwrap();
        *newest = (newest.0 + 1, 0);
        Fresh { token: Rotating { family: newest.0, number: 0 }, expires_in: None }
    }

    /// Makes the newest token a bad one, for a request whose number says so.
    fn answer(&self, attempt: &Attempt<Rotating>, chance: u64) -> SendResult<(), ()> {
        let token = attempt.token().expect("it is never removed");
        let is_good = (token.family, token.number) == *self.newest.lock().unwrap() && chance % 4 != 0;
        self.answered.fetch_add(1, Ordering::SeqCst);
        let status = match (is_good, chance % 16) {
            (false, _) => 401,
            (true, 5) => 503,
            (true, _) => 200,
        };
        Ok((attempt.read(status, [("", "")]), ()))
    }

    /// Lets time pass until `ended`, but no refresh runs through three leases.
    fn let_time_pass(
        &self,
        clock: &TestClock,
        login: impl Fn() -> Login,
        replace: impl Fn(Fresh<Rotating>),
        ended: impl Fn() -> bool,
    ) {
        let end = Instant::now() + Duration::from_millis(1_500);
        let (mut rounds, mut seen, mut since) = (0_u32, 0, None);
        while !ended() {
            let (login, now) = (login(), clock.time());
            if seen != login.wakeups() {
                (seen, since) = (login.wakeups(), None);
            }
            if login.state(now).lease.is_some() {
                since = since.or(Some(now));
            }
            let next = now.saturating_add(secs(7));
            if since.is_none_or(|since| next < since.saturating_add(secs(60))) {
                clock.advance_to(next);
            }
            rounds += 1;
            if rounds % 64 == 0 {
                replace(self.log_in());
            }
            if Instant::now() >= end {
                self.over.store(true, Ordering::SeqCst);
            }
            thread::sleep(Duration::from_micros(100));
        }
    }

    #[track_caller]
    fn check(&self) {
        let [refreshes, replays, answered] =
            [&self.refreshes, &self.replays, &self.answered].map(|count| count.load(Ordering::SeqCst));
        assert!(refreshes > 20 && answered > 100, "{refreshes} refreshes, {answered} attempts");
        assert_eq!(replays, 0, "of {refreshes} refreshes");
    }
}

/// Draws a number.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Returns the policy of a service that asks for much: without a breaker and a budget, which would end the test.
fn policy() -> retry_machine::PolicyBuilder {
    exact().breaker(None).budget(None).deadline(Some(secs(200)))
}

#[test]
fn k11_i6_threads_never_show_a_refresh_token_twice() {
    bounded(|| {
        let (clock, account) = (TestClock::default(), Arc::new(Account::default()));
        let first = Fresh { token: Rotating { family: 0, number: 0 }, expires_in: None };
        let of = account.clone();
        let api = threads(policy(), &clock).with_login(Some(first), move |refresh| {
            of.show(refresh.token());
            let pause = u64::from(refresh.token().number % 5) * 300;
            thread::sleep(Duration::from_micros(pause));
            of.rotate(refresh.token(), pause == 900)
        });
        let callers: Vec<_> = (0..6_u64)
            .map(|number| {
                let (api, account) = (api.clone(), account.clone());
                thread::spawn(move || {
                    let mut seed = number;
                    while !account.over.load(Ordering::SeqCst) {
                        let handle = CancelHandle::new();
                        if draw(&mut seed) % 4 == 0 {
                            handle.cancel();
                        }
                        let request = Request::new(Idempotency::Idempotent);
                        let request = if number == 0 { request.cancelled_by(&handle) } else { request };
                        let result = api.call(request, |attempt| account.answer(&attempt, draw(&mut seed)));
                        if let Err(error) = result {
                            let kind = error.failure.kind();
                            assert!(!matches!(kind, FailureKind::TokenRejected), "{error}");
                        }
                    }
                })
            })
            .collect();
        let ended = || callers.iter().all(thread::JoinHandle::is_finished);
        account.let_time_pass(&clock, || api.upstream().login, |token| api.token_replaced(token), ended);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        account.check();
    });
}

/// Polls a future some times, then drops it.
struct Impatient<F> {
    future: Pin<Box<F>>,
    polls: u64,
}

impl<F: Future> Future for Impatient<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

#[test]
fn k11_i6_tasks_never_show_a_refresh_token_twice() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
        let (clock, account) = (TestClock::default(), Arc::new(Account::default()));
        let first = Fresh { token: Rotating { family: 0, number: 0 }, expires_in: None };
        let of = account.clone();
        let api = tasks(policy(), &clock).with_login(Some(first), move |refresh| {
            let account = of.clone();
            account.show(refresh.token());
            let pause = Duration::from_micros(u64::from(refresh.token().number % 5) * 300);
            async move {
                tokio::time::sleep(pause).await;
                tokio::task::yield_now().await;
                account.rotate(refresh.token(), pause.as_micros() == 900)
            }
        });
        let callers: Vec<_> = (0..64_u64)
            .map(|number| {
                let (api, account) = (api.clone(), account.clone());
                runtime.spawn(async move {
                    let mut seed = number;
                    while !account.over.load(Ordering::SeqCst) {
                        let polls = if draw(&mut seed) % 3 == 0 { draw(&mut seed) % 5 } else { u64::MAX };
                        let mut chances = seed;
                        let call = api.call(Idempotency::Idempotent, |attempt| {
                            ready(account.answer(&attempt, draw(&mut chances)))
                        });
                        if let Some(Err(error)) = (Impatient { future: Box::pin(call), polls }).await {
                            let kind = error.failure.kind();
                            assert!(!matches!(kind, FailureKind::TokenRejected), "{error}");
                        }
                        seed = chances;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let ended = || callers.iter().all(tokio::task::JoinHandle::is_finished);
        account.let_time_pass(&clock, || api.upstream().login, |token| api.token_replaced(token), ended);
        callers.into_iter().for_each(|caller| runtime.block_on(caller).unwrap());
        runtime.block_on(api.refresh_ended());
        account.check();
    });
}
