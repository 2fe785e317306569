//! A client that follows a script, for both drivers.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use retry_machine::drive::{Answer, Attempt, CallResult, Fresh, RefreshError, Request, RequestError, SendResult, Step};
use retry_machine::drive::{blocking, future};
use retry_machine::{Action, Idempotency, PolicyBuilder, TransportErrorKind};

use super::support::{Answer as _, ms};
use super::world::{Alive, BoxRefresh, Living, SCALE, Sleeper, Task, TestClock, Token, run, threads, token};

/// The end of an attempt.
#[derive(Clone, Copy)]
pub enum Send {
    /// It is answered after some milliseconds, with this status.
    Answer(u64, u16),
    /// It is answered at once, with this status and a `Retry-After`.
    Hinted(u16, &'static str),
    /// It fails after some milliseconds.
    Fail(u64, TransportErrorKind),
    /// Nothing ever comes. A blocking client gives up after the attempt's timeout.
    Nothing,
}

/// A refresh: it takes some milliseconds.
pub type Refresh = (u64, Result<&'static str, RefreshError>);

/// A response, which tells whether it is still alive.
pub struct Body {
    pub text: String,
    _living: Living,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Unplugged(pub String);

impl std::fmt::Display for Unplugged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unplugged {}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.text.fmt(f)
    }
}

pub type Ended = CallResult<Body, Unplugged>;

/// The script of a request.
pub struct Script {
    pub sends: Vec<Send>,
    pub refreshes: Vec<Refresh>,
    pub policy: PolicyBuilder,
    pub idempotency: Idempotency,
    pub keeps_response: bool,
    pub is_hasty: bool,
}

impl Script {
    pub fn new(policy: PolicyBuilder, sends: &[Send]) -> Script {
        Script {
            sends: sends.to_vec(),
            refreshes: Vec::new(),
            policy,
            idempotency: Idempotency::Idempotent,
            keeps_response: false,
            is_hasty: false,
        }
    }

    pub fn refreshes(mut self, refreshes: &[Refresh]) -> Script {
        self.refreshes = refreshes.to_vec();
        self
    }
}

/// The result.
pub struct Played {
    pub ended: Ended,
    /// Each step, in few words.
    pub log: Vec<String>,
    /// The time at the end.
    pub end: Duration,
    /// The greatest number of responses that were alive during a wait.
    pub held: u32,
    /// The number of responses that are alive at the end, and of sends that were not dropped.
    pub left: (u32, u32),
    pub timeouts: Vec<Option<Duration>>,
}

impl Played {
    /// Returns the text of the answer.
    #[track_caller]
    pub fn answer(&self) -> (&str, u32, Duration) {
        let Answer { response, attempts, waited, .. } = self.ended.as_ref().unwrap();
        (&response.text, *attempts, *waited)
    }

    /// Returns the error with the texts of its last response and of the client's own error.
    #[track_caller]
    pub fn error(&self) -> (&RequestError<Body, Unplugged>, Option<&str>, Option<&str>) {
        let error = self.ended.as_ref().unwrap_err();
        (error, error.response.as_ref().map(|body| &*body.text), error.error.as_ref().map(|error| &*error.0))
    }
}

/// Plays a script with one of the drivers.
pub type Play = fn(Script) -> Played;

pub const BOTH: [Play; 2] = [with_threads, with_tasks];

/// The state that a script's sends and refreshes share with its test.
struct Stage {
    clock: TestClock,
    sends: Mutex<VecDeque<Send>>,
    refreshes: Mutex<VecDeque<Refresh>>,
    log: Mutex<Vec<String>>,
    bodies: Alive,
    under_way: Alive,
    held: Mutex<u32>,
    timeouts: Mutex<Vec<Option<Duration>>>,
}

impl Stage {
    fn new(script: &Script) -> Arc<Stage> {
        let stage = Arc::new(Stage {
            clock: TestClock::default(),
            sends: Mutex::new(script.sends.iter().copied().collect()),
            refreshes: Mutex::new(script.refreshes.iter().copied().collect()),
            log: Mutex::default(),
            bodies: Alive::default(),
            under_way: Alive::default(),
            held: Mutex::default(),
            timeouts: Mutex::default(),
        });
        let weak = Arc::downgrade(&stage);
        stage.clock.on_each_sleep(move || weak.upgrade().iter().for_each(|stage| stage.glance()));
        stage
    }

    fn observe(&self, step: &Step) {
        self.log.lock().unwrap().push(step.action.short());
    }

    /// Counts the responses that are held while the request waits.
    fn glance(&self) {
        if self.log.lock().unwrap().last().is_some_and(|action| action.starts_with("wait")) {
            let mut held = self.held.lock().unwrap();
            *held = (*held).max(self.bodies.count());
        }
    }

    fn next_send(&self, timeout: Option<Duration>) -> Send {
        self.timeouts.lock().unwrap().push(timeout);
        self.sends.lock().unwrap().pop_front().expect("the script has another send")
    }

    fn next_refresh(&self) -> (Duration, Result<Fresh<Token>, RefreshError>) {
        let (millis, result) = self.refreshes.lock().unwrap().pop_front().expect("the script has another refresh");
        (ms(millis), result.map(token))
    }

    fn result(&self, send: Send, attempt: &Attempt<Token>) -> SendResult<Body, Unplugged> {
        let text = |what: &dyn std::fmt::Display| {
            format!("{}: {what} {}", attempt.number(), attempt.token().map_or("-", |token| &token.0))
        };
        let body = |status: u16| Body { text: text(&status), _living: self.bodies.one() };
        let header = |name, value: &'static str| [(name, value)];
        match send {
            Send::Answer(_, status) => Ok((attempt.read(status, header("X-Other", "1")), body(status))),
            Send::Hinted(status, hint) => Ok((attempt.read(status, header("Retry-After", hint)), body(status))),
            Send::Fail(_, kind) => Err((kind, Unplugged(text(&format_args!("{kind:?}"))))),
            Send::Nothing => unreachable!("nothing ever comes"),
        }
    }

    fn played(&self, ended: Ended) -> Played {
        Played {
            ended,
            log: self.log.lock().unwrap().clone(),
            end: self.clock.time().saturating_duration_since(retry_machine::Timestamp::ZERO),
            held: *self.held.lock().unwrap(),
            left: (self.bodies.count(), self.under_way.count()),
            timeouts: self.timeouts.lock().unwrap().clone(),
        }
    }
}

impl Send {
    fn takes(self) -> Option<Duration> {
        match self {
            Send::Answer(millis, _) | Send::Fail(millis, _) => Some(ms(millis)),
            Send::Hinted(..) => Some(Duration::ZERO),
            Send::Nothing => None,
        }
    }
}

fn state<'a>(idempotency: Idempotency, keeps_response: bool) -> Request<'a> {
    let request = Request::new(idempotency);
    if keeps_response { request.keep_last_response() } else { request }
}

pub fn with_threads(script: Script) -> Played {
    let stage = Stage::new(&script);
    let of = stage.clone();
    let refresh = move |_: blocking::Refresh<Token>| {
        let (takes, result) = of.next_refresh();
        of.clock.advance(takes);
        result
    };
    let api = threads(script.policy, &stage.clock).with_login(Some(token("a")), refresh);
    let mut observer = |step: &Step| {
        // Threads move the clock in their waits, and nowhere else.
        stage.clock.let_sleepers_move(matches!(step.action, Action::Wait { .. }));
        stage.observe(step);
    };
    let request = state(script.idempotency, script.keeps_response).observed_by(&mut observer);
    let ended = api.call(request, |attempt| {
        let timeout = attempt.timeout().map(|timeout| timeout * SCALE);
        let send = stage.next_send(timeout);
        match (send.takes(), timeout) {
            (Some(takes), timeout) if timeout.is_none_or(|timeout| takes < timeout) => {
                stage.clock.advance(takes);
                stage.result(send, &attempt)
            }
            (_, timeout) => {
                stage.clock.advance(timeout.expect("a send without an end has a limit"));
                Err((TransportErrorKind::TimedOut, Unplugged(format!("{}: gave up", attempt.number()))))
            }
        }
    });
    stage.played(ended)
}

pub fn with_tasks(script: Script) -> Played {
    let stage = Stage::new(&script);
    let of = stage.clone();
    let refresh: BoxRefresh = Box::new(move |_| {
        let (takes, result) = of.next_refresh();
        let wait = of.clock.sleep(takes);
        Box::pin(async move {
            wait.await;
            result
        })
    });
    let policy = script.policy.clone().build().unwrap();
    let sleep = Sleeper { clock: stage.clock.clone(), is_hasty: script.is_hasty };
    let upstream = retry_machine::Upstream::new(policy);
    let api = future::Api::with_upstream(upstream, sleep, stage.clock.clone()).with_login(Some(token("a")), refresh);
    let on_stage = stage.clone();
    let mut task = Task::new(async move {
        let mut observer = |step: &Step| on_stage.observe(step);
        let request = state(script.idempotency, script.keeps_response).observed_by(&mut observer);
        let stage = &on_stage;
        api.call(request, |attempt| {
            let (stage, send) = (stage.clone(), stage.next_send(attempt.timeout()));
            async move {
                let _under_way = stage.under_way.one();
                match send.takes() {
                    Some(takes) => stage.clock.sleep(takes).await,
                    None => pending().await,
                }
                stage.result(send, &attempt)
            }
        })
        .await
    });
    run(&stage.clock, &mut [&mut task]);
    let ended = task.take();
    stage.played(ended)
}
