//! K3, K5, K8: a thousand requests at once on one upstream, against the loopback server of the example `flextell`, with an
//! expired token. Real threads and tokio tasks, real HTTP: one call reaches the token endpoint, and every request succeeds.
//!
//! `STAMPEDES=100 cargo test --release --test stampede` repeats it a hundred times.

#[allow(dead_code, unused_imports, reason = "the example uses more of it")]
#[path = "../../examples/flextell"]
mod flextell {
    pub mod server;
}

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flextell::server::{Clock, Grant, Server};
use retry_machine::drive::{Attempt, SharedUpstream, blocking, future};
use retry_machine::{
    Idempotency, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind, derive_seed,
};
use serde_json::Value;

const REQUESTS: u64 = 1_000;

fn rounds() -> u64 {
    std::env::var("STAMPEDES").map_or(1, |rounds| rounds.parse().unwrap())
}

/// An account whose token has expired, and its requests, which all get a 401 at once.
struct Account {
    url: String,
    grant: Mutex<Grant>,
    upstream: SharedUpstream,
    epoch: Instant,
    /// Whether the first leader never returns from its refresh.
    leader_vanishes: AtomicBool,
    sent: AtomicU64,
}

impl Account {
    fn expired(server: &Server, leader_vanishes: bool) -> Arc<Account> {
        let grant = server.grant(Duration::from_secs(3_600));
        server.expire(&grant.access_token);
        Arc::new(Account {
            url: format!("http://{}", server.addr()),
            grant: Mutex::new(grant),
            // A request that waits for the end of a lease exceeds the time limit of the test.
            upstream: SharedUpstream::new(
                Policy::flextell().into_builder().refresh_timeout(Duration::from_secs(600)).build().unwrap(),
            ),
            epoch: Instant::now(),
            leader_vanishes: AtomicBool::new(leader_vanishes),
            sent: AtomicU64::new(0),
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_elapsed(self.epoch.elapsed())
    }

    fn bearer(&self) -> String {
        self.sent.fetch_add(1, Ordering::Relaxed);
        format!("Bearer {}", self.grant.lock().unwrap().access_token)
    }

    fn machine(n: u64) -> RetryMachine {
        RetryMachine::new(Idempotency::Idempotent, derive_seed(7, n))
    }

    fn form(&self) -> String {
        format!("grant_type=refresh_token&refresh_token={}", self.grant.lock().unwrap().refresh_token)
    }

    /// Stores the new token, then reports it (K5).
    fn store(&self, answer: &[u8]) -> RefreshOutcome {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        let Some(access_token) = answer["access_token"].as_str() else { return RefreshOutcome::Rejected };
        let refresh_token = answer["refresh_token"].as_str().unwrap().into();
        *self.grant.lock().unwrap() = Grant { access_token: access_token.into(), refresh_token };
        RefreshOutcome::Refreshed { expires_in: None }
    }

    /// Asserts that there was one refresh, and that each request was sent once before and once after it.
    fn assert_single_flight(&self, server: &Server, old: &Grant, done: u64) {
        assert_eq!(server.refreshes(old), 1, "calls of the token endpoint");
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(sent <= 2 * REQUESTS, "{sent} attempts");
        assert!(done <= sent, "{sent} attempts for {done} answers");
    }
}

fn reply(status: u16) -> Reply {
    Policy::flextell().read(status, [("", ""); 0])
}

// ---- Threads ----

struct Thread<'a> {
    account: &'a Account,
    agent: &'a ureq::Agent,
}

impl blocking::Client for Thread<'_> {
    type Response = u16;
    type Error = ureq::Error;

    fn now(&self) -> Timestamp {
        self.account.now()
    }

    fn sleep(&self, wait: Duration) {
        thread::sleep(wait);
    }

    fn send(&self, _: Attempt) -> Result<(Reply, u16), (TransportErrorKind, ureq::Error)> {
        let url = format!("{}/stampede/threads", self.account.url);
        let request = self.agent.get(url).header("Authorization", self.account.bearer());
        let status = request.call().map_err(|error| (TransportErrorKind::Broken, error))?.status().as_u16();
        Ok((reply(status), status))
    }

    fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        assert!(!self.account.leader_vanishes.swap(false, Ordering::Relaxed), "the leader panics on purpose");
        let url = format!("{}/oauth/token", self.account.url);
        let request = self.agent.post(url).content_type("application/x-www-form-urlencoded");
        self.account.store(&request.send(self.account.form()).unwrap().body_mut().read_to_vec().unwrap())
    }
}

/// Returns how many requests were answered with 200.
fn stampede_of_threads(account: &Account) -> u64 {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let client = Thread { account, agent: &agent };
    let request = |n| matches!(blocking::run(Account::machine(n), &account.upstream, &client), Ok(200));
    thread::scope(|scope| {
        let start = |n| {
            let builder = thread::Builder::new().stack_size(128 * 1024);
            builder.spawn_scoped(scope, move || request(n)).unwrap()
        };
        let threads: Vec<_> = (0..REQUESTS).map(start).collect();
        threads.into_iter().map(|thread| u64::from(thread.join().unwrap_or(false))).sum()
    })
}

// ---- Tasks ----

struct Task {
    account: Arc<Account>,
    http: reqwest::Client,
    leads: tokio::sync::mpsc::Sender<u64>,
    n: u64,
}

impl future::Client for Task {
    type Response = u16;
    type Error = reqwest::Error;

    fn now(&self) -> Timestamp {
        self.account.now()
    }

    async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }

    async fn send(&self, _: Attempt) -> Result<(Reply, u16), (TransportErrorKind, reqwest::Error)> {
        let url = format!("{}/stampede/tasks", self.account.url);
        let request = self.http.get(url).header("Authorization", self.account.bearer());
        let status = request.send().await.map_err(|error| (TransportErrorKind::Broken, error))?.status().as_u16();
        Ok((reply(status), status))
    }

    async fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        if self.account.leader_vanishes.swap(false, Ordering::Relaxed) {
            self.leads.send(self.n).await.unwrap();
            std::future::pending::<()>().await;
        }
        let url = format!("{}/oauth/token", self.account.url);
        let request = self.http.post(url).header("Content-Type", "application/x-www-form-urlencoded");
        let answer = request.body(self.account.form()).send().await.unwrap();
        self.account.store(&answer.bytes().await.unwrap())
    }
}

/// Returns how many requests were answered with 200. Drops the leader that never returns.
fn stampede_of_tasks(account: &Arc<Account>) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (leads, mut leader) = tokio::sync::mpsc::channel(1);
        let start = |n| {
            let task = Task { account: account.clone(), http: http.clone(), leads: leads.clone(), n };
            tokio::spawn(async move {
                let answer = future::run(Account::machine(n), &task.account.upstream, &task).await;
                matches!(answer, Ok(200))
            })
        };
        let tasks: Vec<_> = (0..REQUESTS).map(start).collect();
        drop(leads);
        if let Some(leader) = leader.recv().await {
            tasks[usize::try_from(leader).unwrap()].abort();
        }
        let mut done = 0;
        for task in tasks {
            done += u64::from(task.await.unwrap_or(false));
        }
        done
    })
}

fn server() -> Server {
    Server::start(Clock { origin: Instant::now(), unix_origin_ms: 1_700_000_000_000, factor: 1 })
}

fn stampede(leader_vanishes: bool, run: impl Fn(&Arc<Account>) -> u64) {
    let server = server();
    for _ in 0..rounds() {
        let account = Account::expired(&server, leader_vanishes);
        let old = account.grant.lock().unwrap().clone();
        let done = run(&account);
        assert_eq!(done, REQUESTS - u64::from(leader_vanishes));
        account.assert_single_flight(&server, &old, done);
    }
}

#[test]
fn k3_a_thousand_threads_refresh_once() {
    stampede(false, |account| stampede_of_threads(account));
}

#[test]
fn k3_a_thousand_tasks_refresh_once() {
    stampede(false, stampede_of_tasks);
}

#[test]
fn k5_a_thousand_threads_refresh_once_though_the_leader_dies() {
    stampede(true, |account| stampede_of_threads(account));
}

#[test]
fn k5_a_thousand_tasks_refresh_once_though_the_leader_is_dropped() {
    stampede(true, stampede_of_tasks);
}
