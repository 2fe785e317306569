//! What happened when a plan was played: events and actions, and what can be told from them alone. The judges in
//! `invariants.rs` see nothing of the machine but this.
#![allow(unreachable_pub, clippy::expect_used, clippy::indexing_slicing)]

use retry_machine::{
    Action, Event, HintSource, Idempotency, RefreshOutcome, Reply, ResetFormat, RetryMachine, Timestamp,
    TransportErrorKind, Upstream, derive_seed,
};

use crate::plans::{HeaderTime, Plan, PlannedStep, RecordKind, Response, Which};
use crate::strategies::Settings;

/// A plan that was played.
pub struct History {
    pub requests: Vec<Idempotency>,
    pub steps: Vec<Step>,
    /// How the machines and the upstream stood in the end.
    pub end: (Vec<RetryMachine>, Upstream),
}

/// One event and its answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The latest time that the upstream has seen, in nanoseconds (T2).
    pub at: u64,
    pub request: usize,
    pub told: RequestEvent,
    /// None where the event is no request's.
    pub action: Option<Action>,
    /// What the request had shown before the event.
    pub before: Seen,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RequestEvent {
    Start,
    Tick,
    Reply(u32, Response),
    Error(u32, TransportErrorKind),
    Token(RefreshOutcome),
    Cancel,
    TokenReplaced,
    OpenGate,
}

/// What a request has shown in its actions.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Seen {
    pub started: Option<u64>,
    pub sends: u32,
    pub in_flight: Option<Flight>,
    pub last: Option<Action>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Flight {
    pub attempt: u32,
    pub generation: u32,
    pub limit: Option<u64>,
}

/// How the attempt in flight ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ended {
    Answered(Response),
    Failed(TransportErrorKind),
    /// A tick found it past its limit.
    GivenUp,
}

impl Step {
    /// The attempt that this event ended, and how.
    pub fn ended(&self) -> Option<(Flight, Ended)> {
        let flight = self.before.in_flight?;
        let ended = match self.told {
            RequestEvent::Reply(attempt, response) if attempt == flight.attempt => Ended::Answered(response),
            RequestEvent::Error(attempt, error) if attempt == flight.attempt => Ended::Failed(error),
            // F5: in flight no outcome counts, unless for the lease of before; then nothing is given up.
            RequestEvent::Tick | RequestEvent::Token(_) if flight.limit.is_some_and(|limit| self.at >= limit) => {
                Ended::GivenUp
            }
            _ => return None,
        };
        // An outcome that counted is no tick.
        match (self.told, self.action) {
            (RequestEvent::Token(_), Some(Action::InFlight { .. })) => None,
            _ => Some((flight, ended)),
        }
    }

    /// How the attempt in flight failed, a 401 aside: what a retry may follow (B3).
    pub fn failure(&self) -> Option<Ended> {
        let (_, ended) = self.ended()?;
        (!matches!(ended, Ended::Answered(response) if response.status == 401)).then_some(ended)
    }

    /// The response that came with this event, if anybody listened: before the first send nobody does (T3).
    pub fn heard(&self) -> Option<Response> {
        match self.told {
            RequestEvent::Reply(_, response) if self.before.sends > 0 => Some(response),
            _ => None,
        }
    }

    /// The attempt of this request that succeeded.
    pub fn success(&self) -> Option<u32> {
        match self.told {
            RequestEvent::Reply(attempt, response) => {
                (response.is_success() && (1..=self.before.sends).contains(&attempt)).then_some(attempt)
            }
            _ => None,
        }
    }

    /// The attempt that the action sends.
    pub fn sent(&self) -> Option<Flight> {
        match self.action? {
            Action::Send { attempt, generation, until, .. } => {
                Some(Flight { attempt, generation, limit: until.map(Timestamp::as_nanos) })
            }
            _ => None,
        }
    }

    pub fn was_over(&self) -> bool {
        self.before.last.is_some_and(|last| last.is_terminal())
    }
}

impl Response {
    /// H6, with resets in seconds from now.
    pub fn hint(&self) -> Option<(u64, HintSource)> {
        let millis = self.retry_after_ms.map(|ms| (ms.saturating_mul(1_000_000), HintSource::RetryAfterMs));
        let seconds = self.retry_after.map(|s| (s.saturating_mul(1_000_000_000), HintSource::RetryAfter));
        let reset = self.exhausted_for().map(|nanos| (nanos, HintSource::RateLimitReset));
        millis.or(seconds).or(reset)
    }

    /// Nanoseconds until the limit with nothing left is reset.
    pub fn exhausted_for(&self) -> Option<u64> {
        self.limit.filter(|(remaining, _)| *remaining == 0).map(|(_, reset)| reset.saturating_mul(1_000_000_000))
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn reply(&self) -> Reply {
        let number = |name, value: Option<u64>| value.map(|value| (name, value.to_string()));
        let headers = [
            number("Retry-After", self.retry_after),
            number("retry-after-ms", self.retry_after_ms),
            number("X-RateLimit-Remaining", self.limit.map(|limit| limit.0)),
            number("X-RateLimit-Reset", self.limit.map(|limit| limit.1)),
        ];
        Policy::flextell().read(self.status, headers.into_iter().flatten())
    }
}

impl Settings {
    pub fn retries(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }

    /// H10.
    pub fn hint_counts(&self, status: u16) -> bool {
        status == 429 || self.retries(status)
    }
}

impl Plan {
    pub fn play(&self) -> History {
        self.play_with(false)
    }

    /// Plays it, with an early tick after every event if `nervous`, which is left out of the history (T4).
    pub fn play_with(&self, nervous: bool) -> History {
        let mut upstream = Upstream::new(self.settings.builder().build().expect("these settings are accepted"));
        if let Some(lifetime) = self.token_expires_in {
            upstream.token_expires_in(Timestamp::ZERO, std::time::Duration::from_nanos(lifetime));
        }
        let seeds = (0..).map(|n| derive_seed(self.seed, n));
        let machines =
            self.requests.iter().zip(seeds).map(|(idempotency, seed)| RetryMachine::new(*idempotency, seed)).collect();
        let seen = vec![Seen::default(); self.requests.len()];
        let mut player = Player { upstream, machines, seen, now: 0, latest: 0 };
        let mut steps = Vec::new();
        for planned in &self.steps {
            let step = player.play(planned);
            if nervous {
                player.tick_early(step.request);
            }
            steps.push(step);
        }
        let Player { upstream, machines, .. } = player;
        History { requests: self.requests.clone(), steps, end: (machines, upstream) }
    }
}

struct Player {
    upstream: Upstream,
    machines: Vec<RetryMachine>,
    seen: Vec<Seen>,
    now: u64,
    latest: u64,
}

impl Player {
    fn play(&mut self, planned: &PlannedStep) -> Step {
        let request = usize::try_from(planned.request).expect("it is small") % self.machines.len();
        let tick = self.machines[request].next_tick(&self.upstream).map_or(self.now, Timestamp::as_nanos);
        self.now = match planned.when {
            HeaderTime::AtTick => tick,
            HeaderTime::OneBeforeTick => tick.saturating_sub(1),
            HeaderTime::After(nanos) => self.now.saturating_add(nanos),
            HeaderTime::Back(nanos) => self.now.saturating_sub(nanos),
            HeaderTime::FarLater => tick.saturating_add(3_600_000_000_000),
        };
        self.latest = self.latest.max(self.now);
        let before = self.seen[request];
        let told = self.tell(planned.what, request);
        let action = self.hear(told, planned.what, request);
        if let Some(action) = action {
            self.seen[request] = before.after(action, self.latest);
        }
        Step { at: self.latest, request, told, action, before }
    }

    /// What is told to the request, concretely.
    fn tell(&self, what: RecordKind, request: usize) -> RequestEvent {
        let newest = self.seen[request].sends;
        let number = |which| match which {
            Which::Newest => newest,
            Which::Earlier(by) => newest.saturating_sub(by),
            Which::Numbered(number) => number,
        };
        match what {
            RecordKind::Start => RequestEvent::Start,
            RecordKind::Tick => RequestEvent::Tick,
            RecordKind::Reply(attempt, response) => RequestEvent::Reply(number(attempt), response),
            RecordKind::Error(attempt, error) => RequestEvent::Error(number(attempt), error),
            RecordKind::Token(outcome) => RequestEvent::Token(outcome),
            RecordKind::Cancel => RequestEvent::Cancel,
            RecordKind::TokenReplaced(_) => RequestEvent::TokenReplaced,
            RecordKind::OpenGate => RequestEvent::OpenGate,
            RecordKind::Obey(result, outcome) => match (self.seen[request].last, self.seen[request].in_flight) {
                (None, _) => RequestEvent::Start,
                (Some(_), Some(_)) => match result {
                    Ok(response) => RequestEvent::Reply(newest, response),
                    Err(error) => RequestEvent::Error(newest, error),
                },
                (Some(Action::RefreshToken { .. } | Action::InFlight { .. }), None) => RequestEvent::Token(outcome),
                (Some(_), None) => RequestEvent::Tick,
            },
        }
    }

    fn hear(&mut self, told: RequestEvent, what: RecordKind, request: usize) -> Option<Action> {
        let now = Timestamp::from_nanos(self.now);
        let event = match told {
            RequestEvent::Start => Event::Start,
            RequestEvent::Tick => Event::Tick,
            RequestEvent::Reply(attempt, response) => Event::Reply { attempt, reply: response.reply() },
            RequestEvent::Error(attempt, error) => Event::TransportError { attempt, kind: error },
            RequestEvent::Token(outcome) => Event::Refreshed(outcome),
            RequestEvent::Cancel => Event::Cancel,
            RequestEvent::TokenReplaced => {
                let RecordKind::TokenReplaced(lifetime) = what else { unreachable!("told as planned") };
                self.upstream.token_replaced(now, lifetime.map(std::time::Duration::from_nanos));
                return None;
            }
            RequestEvent::OpenGate => {
                self.upstream.open_gate(now);
                return None;
            }
        };
        Some(self.machines[request].handle(now, event, &mut self.upstream))
    }

    /// A tick too early to matter.
    fn tick_early(&mut self, request: usize) {
        let follows = matches!(self.seen[request].last, None | Some(Action::AwaitRefresh { .. }));
        let due = self.machines[request].next_tick(&self.upstream).is_some_and(|tick| tick.as_nanos() <= self.latest);
        if !follows && !due {
            let action =
                self.machines[request].handle(Timestamp::from_nanos(self.now), Event::Tick, &mut self.upstream);
            assert!(!matches!(action, Action::Send { .. } | Action::RefreshToken { .. }), "an early tick: {action:?}");
        }
    }
}

impl Seen {
    fn after(self, action: Action, at: u64) -> Seen {
        let (sends, in_flight) = match action {
            Action::Send { attempt, generation, until, .. } => {
                let limit = until.map(Timestamp::as_nanos);
                (self.sends + 1, Some(Flight { attempt, generation, limit }))
            }
            Action::InFlight { .. } => (self.sends, self.in_flight),
            _ => (self.sends, None),
        };
        Seen { started: self.started.or(Some(at)), sends, in_flight, last: Some(action) }
    }
}
