//! A client for both drivers that plays a script in virtual time: nothing sleeps.
#![allow(unreachable_pub, clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use retry_machine::drive::{Attempt, blocking, future};
use retry_machine::{Action, Event, Policy, RefreshOutcome, Reply, Timestamp, TransportErrorKind};

use crate::support::Answer;

/// The end of a send, and the number of milliseconds until then: `None` for never.
#[derive(Clone, Copy, Debug)]
pub enum Send {
    Answer(Option<u64>, u16),
    Hinted(u16, &'static str),
    Fail(u64, TransportErrorKind),
}

/// The clock and its timers.
#[derive(Default)]
pub struct Clock {
    now: Cell<Timestamp>,
    timers: RefCell<Vec<(Timestamp, Waker)>>,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn advance(&self, to: Timestamp) {
        self.now.set(to.max(self.now.get()));
    }

    async fn sleep_until(&self, until: Timestamp) {
        poll_fn(|context| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().push((until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// A client of one request.
pub struct Client {
    pub clock: Rc<Clock>,
    /// The results of the sends, in order.
    pub sends: RefCell<VecDeque<Send>>,
    /// The duration of each refresh in milliseconds, and its outcome.
    pub refreshes: RefCell<VecDeque<(u64, RefreshOutcome)>>,
    /// Whether timers end after half of their time.
    pub hasty: bool,
    /// The actions that the driver got.
    pub log: RefCell<Vec<String>>,
    /// Number of sends that have begun and neither ended nor been dropped.
    pub under_way: Cell<u32>,
}

impl Client {
    pub fn new(sends: &[Send], refreshes: &[(u64, RefreshOutcome)]) -> Client {
        Client {
            clock: Rc::default(),
            sends: RefCell::new(sends.iter().copied().collect()),
            refreshes: RefCell::new(refreshes.iter().copied().collect()),
            hasty: false,
            log: RefCell::default(),
            under_way: Cell::new(0),
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    fn next_send(&self) -> Send {
        self.sends.borrow_mut().pop_front().expect("the script has another answer")
    }

    fn length(&self, wait: Duration) -> Duration {
        if self.hasty { (wait + Duration::from_nanos(1)) / 2 } else { wait }
    }

    fn note(&self, action: &Action) {
        self.log.borrow_mut().push(action.short());
    }
}

impl Send {
    fn takes(self) -> Option<Duration> {
        match self {
            Send::Answer(millis, _) => millis.map(Duration::from_millis),
            Send::Hinted(..) => Some(Duration::ZERO),
            Send::Fail(millis, _) => Some(Duration::from_millis(millis)),
        }
    }

    /// Returns the result; its response is the number of the attempt and the status.
    fn result(self, attempt: u32) -> Sent {
        let read = |status, headers: Option<(&str, &str)>| {
            let reply = Policy::flextell().read(status, headers);
            Ok((reply, format!("{attempt}: {status}")))
        };
        match self {
            Send::Answer(_, status) => read(status, None),
            Send::Hinted(status, seconds) => read(status, Some(("Retry-After", seconds))),
            Send::Fail(_, error) => Err((error, format!("{attempt}: {error:?}"))),
        }
    }
}

type Sent = Result<(Reply, String), (TransportErrorKind, String)>;

impl blocking::Client for Client {
    type Response = String;
    type Error = String;

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn sleep(&self, wait: Duration) {
        self.clock.advance(self.clock.now().saturating_add(self.length(wait)));
    }

    fn send(&self, attempt: Attempt) -> Sent {
        let send = self.next_send();
        let end = send.takes().map(|takes| self.clock.now().saturating_add(takes));
        match (end, attempt.until) {
            (Some(end), until) if until.is_none_or(|until| end < until) => {
                self.clock.advance(end);
                send.result(attempt.number)
            }
            (_, until) => {
                self.clock.advance(until.expect("a send without an end has a limit"));
                Err((TransportErrorKind::TimedOut, format!("{}: gave up", attempt.number)))
            }
        }
    }

    fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        let (millis, outcome) = self.refreshes.borrow_mut().pop_front().expect("the script has another outcome");
        self.clock.advance(self.clock.now().saturating_add(Duration::from_millis(millis)));
        outcome
    }

    fn observe(&self, _: Timestamp, _: &Event, action: &Action) {
        self.note(action);
    }
}

/// Counts a send down when it is dropped.
struct UnderWay<'a>(&'a Cell<u32>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl future::Client for Client {
    type Response = String;
    type Error = String;

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn sleep(&self, wait: Duration) {
        self.clock.sleep_until(self.clock.now().saturating_add(self.length(wait))).await;
    }

    async fn send(&self, attempt: Attempt) -> Sent {
        self.under_way.set(self.under_way.get() + 1);
        let _under_way = UnderWay(&self.under_way);
        let send = self.next_send();
        match send.takes() {
            Some(takes) => self.clock.sleep_until(self.clock.now().saturating_add(takes)).await,
            None => std::future::pending().await,
        }
        send.result(attempt.number)
    }

    async fn refresh(&self, _: Timestamp) -> RefreshOutcome {
        let (millis, outcome) = self.refreshes.borrow_mut().pop_front().expect("the script has another outcome");
        self.clock.sleep_until(self.clock.now().saturating_add(Duration::from_millis(millis))).await;
        outcome
    }

    fn observe(&self, _: Timestamp, _: &Event, action: &Action) {
        self.note(action);
    }
}

/// Whether a task was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs tasks until none can continue before `end`. Polls a task only after it was woken.
pub fn run_until(clock: &Clock, end: Timestamp, tasks: &mut [Pin<&mut dyn Future<Output = ()>>]) {
    let woken: Vec<_> = tasks.iter().map(|_| Arc::new(Woken(AtomicBool::new(true)))).collect();
    let mut ended = vec![false; tasks.len()];
    loop {
        for ((task, woken), ended) in tasks.iter_mut().zip(&woken).zip(&mut ended) {
            while !*ended && woken.0.swap(false, Ordering::SeqCst) {
                let waker = Waker::from(woken.clone());
                *ended = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            }
        }
        if woken.iter().zip(&ended).any(|(woken, ended)| !ended && woken.0.load(Ordering::SeqCst)) {
            continue;
        }
        if !ended.contains(&false) {
            return;
        }
        let mut timers = clock.timers.borrow_mut();
        let Some(next) = timers.iter().map(|(at, _)| *at).min().filter(|at| *at <= end) else { return };
        clock.advance(next);
        timers.retain(|(at, waker)| {
            if *at <= next {
                waker.wake_by_ref();
            }
            *at > next
        });
    }
}
