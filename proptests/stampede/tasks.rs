//! A round of tokio tasks.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use retry_machine::drive::{Attempt, Request, Step, future};
use retry_machine::{Action, Idempotency, TransportErrorKind};

use crate::REQUESTS;
use crate::account::{Account, Chaos, Deed, STORM, policy};
use crate::flextell::server::{Grant, Server};

type Sleep = fn(Duration) -> tokio::time::Sleep;
type Api = future::Api<Sleep, Grant>;

pub fn round(server: &Server, seed: u64, chaos: Chaos) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(storm(server, Arc::new(Account::new(server, seed, chaos))));
}

async fn storm(server: &Server, account: Arc<Account>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (leads, mut leaders) = tokio::sync::mpsc::unbounded_channel();
    let (overtakes, mut overtaken) = tokio::sync::mpsc::unbounded_channel();
    let api = login(server, &account, &http, overtakes);
    let tasks: Vec<_> = (0..REQUESTS)
        .map(|n| {
            let (api, account, http, leads) = (api.clone(), account.clone(), http.clone(), leads.clone());
            tokio::spawn(Nosy::new(api.clone(), async move { request(n, &api, &account, &http, &leads).await }))
        })
        .collect();
    drop(leads);
    // Some leaders are dropped: before, in, or after their refresh. K11: nobody notices.
    let killer = tokio::spawn({
        let (account, handles) = (account.clone(), tasks.iter().map(|task| task.abort_handle()).collect::<Vec<_>>());
        async move {
            while let Some(n) = leaders.recv().await {
                if account.chance(40) {
                    let handle = handles[usize::try_from(n).unwrap()].clone();
                    let wait = account.millis(60);
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        handle.abort();
                    });
                }
            }
        }
    });
    let begun = Instant::now();
    while account.chaos == Chaos::All && begun.elapsed() < STORM {
        let deed = match tokio::time::timeout(account.calm(), overtaken.recv()).await {
            Ok(Some(())) => Deed::LogIn,
            _ => account.deed(),
        };
        match deed {
            Deed::LogIn => api.token_replaced(account.log_in(server)),
            Deed::LogOut => api.token_removed(),
            Deed::Expire => account.expire_newest(server),
        }
    }
    killer.await.unwrap();
    for task in tasks {
        match task.await {
            Ok(()) => {}
            Err(error) => assert!(error.is_cancelled(), "a request panicked"),
        }
    }
    // The login works still.
    if account.chaos == Chaos::All {
        api.token_replaced(account.log_in(server));
        let answer = api.call(Idempotency::Idempotent, |attempt| send(attempt, account.clone(), http.clone())).await;
        assert!(matches!(answer.map(|answer| answer.response), Ok(200) | Err(_)));
    }
    account.settle(server);
}

fn login(
    server: &Server,
    account: &Arc<Account>,
    http: &reqwest::Client,
    overtakes: tokio::sync::mpsc::UnboundedSender<()>,
) -> Api {
    let (keeper, http) = (account.clone(), http.clone());
    let refresh = move |refresh: future::Refresh<Sleep, Grant>| {
        let (account, http, overtakes) = (keeper.clone(), http.clone(), overtakes.clone());
        async move {
            let fate = account.fate();
            account.begins(refresh.generation(), refresh.token());
            tokio::time::sleep(fate.before).await;
            assert!(!fate.panics, "a refresh panics on purpose");
            let form = Account::form(refresh.token());
            account.calls(refresh.generation());
            // K9: the refresh calls through its own handle.
            let answer = refresh.api().call(Idempotency::NonIdempotent, |attempt| {
                let request = http.post(format!("{}/oauth/token", account.url)).body(form.clone());
                async move {
                    let answer = request.send().await.map_err(|error| (TransportErrorKind::Broken, error))?;
                    let reply = attempt.read(answer.status().as_u16(), answer.headers());
                    Ok((reply, answer))
                }
            });
            let answer = match answer.await {
                Ok(answer) => answer.response,
                Err(error) => {
                    account.gives_up(refresh.token());
                    error.response.unwrap()
                }
            };
            let answer = answer.bytes().await.unwrap();
            if fate.is_overtaken {
                let _ = overtakes.send(());
            }
            tokio::time::sleep(fate.after).await;
            Account::token_of(&answer)
        }
    };
    let api = future::Api::new(policy(), tokio::time::sleep as Sleep);
    api.with_login(Some(account.log_in(server)), refresh)
}

async fn request(
    n: u64,
    api: &Api,
    account: &Arc<Account>,
    http: &reqwest::Client,
    leads: &tokio::sync::mpsc::UnboundedSender<u64>,
) {
    if account.chaos == Chaos::All {
        tokio::time::sleep(account.millis(1_800)).await;
    }
    let mut observer = |step: &Step| {
        if let Action::RefreshToken { .. } = step.action {
            let _ = leads.send(n);
        }
    };
    let request = Request::new(Idempotency::Idempotent).limits(account.limits()).observed_by(&mut observer);
    let result = api.call(request, |attempt| send(attempt, account.clone(), http.clone())).await;
    account.judge(&result);
}

async fn send(
    attempt: Attempt<Grant>,
    account: Arc<Account>,
    http: reqwest::Client,
) -> retry_machine::drive::SendResult<u16, reqwest::Error> {
    let bearer = account.bearer(attempt.generation(), attempt.token());
    let request = http.get(format!("{}/stampede/tasks", account.url)).header("Authorization", bearer);
    let response = request.send().await.map_err(|error| (TransportErrorKind::Broken, error))?;
    let status = response.status().as_u16();
    Ok((attempt.read(status, response.headers()), status))
}

/// A task whose waker asks the handle for its state: it would hang if it were woken, cloned or dropped under a lock.
struct Nosy<F> {
    api: Api,
    task: Pin<Box<F>>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl<F> Nosy<F> {
    fn new(api: Api, task: F) -> Nosy<F> {
        Nosy { api, task: Box::pin(task), waker: Arc::default() }
    }
}

impl<F: Future<Output = ()>> Future for Nosy<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *self.waker.lock().unwrap() = Some(context.waker().clone());
        let waker = Waker::from(Arc::new(NosyWaker { api: self.api.clone(), waker: Arc::downgrade(&self.waker) }));
        self.task.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

struct NosyWaker {
    api: Api,
    waker: Weak<Mutex<Option<Waker>>>,
}

impl Wake for NosyWaker {
    fn wake(self: Arc<Self>) {
        let _ = self.api.login_state();
        let waker = self.waker.upgrade().and_then(|waker| waker.lock().unwrap().clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for NosyWaker {
    fn drop(&mut self) {
        let _ = self.api.login_state();
    }
}
