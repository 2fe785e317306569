//! One request: its state, and the facts that it has learned.

use super::action::{Action, Reason};
use super::event::Limits;
use super::span::{Ns, Span};

#[derive(Clone, Debug)]
pub struct Request {
    pub id: u64,
    /// S8.
    pub login: u64,
    pub gate: u64,
    /// D14: whether the request is idempotent.
    pub idempotent: bool,
    pub started: Ns,
    /// S4.
    pub deadline: Option<Ns>,
    pub state: State,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// D17.
    pub limits: Limits,
    /// B3: retries granted, without the throttled ones if they are counted apart (B5).
    pub retries: u64,
    /// B5: throttled retries granted, if they are counted apart.
    pub throttled_retries: u64,
    /// C3: what the request has paid for retries, or its last retry, and not got back.
    pub paid: u64,
    /// D13: an attempt was unprocessed.
    pub was_unprocessed: bool,
    /// K2: recoveries from a 401.
    pub recoveries: u64,
    /// F2: the longest that the previous back-off can have been, of each growth or count (B1, B5): throttles' own
    /// is the second.
    pub previous: [Option<Ns>; 2],
    /// The one of the two that the wait under way was drawn from.
    pub drawn_from: usize,
    /// L1: the latest hint that counts, and its source.
    pub not_before: Option<(Ns, Reason)>,
    /// H10, E1: the hint of the last reply in flight, whatever its status.
    pub last_hint: Option<Ns>,
    /// The hints of the late replies since then.
    pub late_hints: Vec<Option<Ns>>,
    /// E1: the end of the wait that the budget refused.
    pub refused: Option<Span>,
    /// C13: the time really spent in waits for hints and at the gate that are over.
    pub server_waited: Ns,
    /// The place at the gate of the wait under way.
    pub place: Option<Place>,
    /// C10: the request has queued.
    pub has_queued: bool,
    /// C11: the back-off that the brake has drawn for the next retry.
    pub drawn: Option<Ns>,
    /// F5: expiry is not checked for the next send: a refresh ahead of it has brought a token.
    pub skip_expiry: bool,
    /// K7: the next send uses the token that there is while it is valid: a refresh ahead of expiry has brought nothing.
    pub uses_old_token: bool,
    /// E1: the last reply in flight.
    pub status: Option<u64>,
    pub code: Option<String>,
    pub message: Option<String>,
    /// F8: the scope or claims that the last reply named.
    pub insufficient: Option<&'static str>,
    /// D12: the word of the last 401 that a refresh answers.
    pub challenge: Option<&'static str>,
    /// F8: why the last attempt failed.
    pub cause: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub enum State {
    Starting,
    Waiting { begun: Ns, until: Span, reason: Reason },
    InFlight,
    Leading { lease: usize, need: Need },
    Following { lease: usize, need: Need, waits: u32 },
    Ended(Action),
}

/// C9, C10.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// With this slot.
    Queue(Ns),
    Head,
}

/// Why a request wants a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// K1: after its own 401.
    Recovery,
    /// K3: another request got a 401, and its refresh is under way.
    Shared,
    /// K7: the token expires soon, or has expired.
    Ahead,
}

#[derive(Clone, Debug)]
pub struct Attempt {
    /// K4, K9.
    pub generation: Option<u64>,
    /// F1: the earlier of attempt limit and deadline.
    pub limit: Option<Ns>,
    /// Number of openings of the breaker before the send.
    pub openings: u64,
    pub result: AttemptResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// It has neither a result nor been given up.
    Open,
    /// It failed, or was given up, or was answered other than by a good 2xx (D18).
    Over,
    /// It was answered by a good 2xx, perhaps late.
    Succeeded,
}

impl Request {
    /// `parts`: the login and the gate (S8).
    pub fn new(
        id: u64,
        parts: (u64, u64),
        idempotent: bool,
        limits: Limits,
        started: Ns,
        deadline: Option<Ns>,
    ) -> Request {
        let (login, gate) = parts;
        Request {
            id,
            login,
            gate,
            idempotent,
            started,
            deadline,
            state: State::Starting,
            attempts: Vec::new(),
            limits,
            retries: 0,
            throttled_retries: 0,
            paid: 0,
            was_unprocessed: false,
            recoveries: 0,
            previous: [None; 2],
            drawn_from: 0,
            not_before: None,
            last_hint: None,
            late_hints: Vec::new(),
            refused: None,
            server_waited: 0,
            place: None,
            has_queued: false,
            drawn: None,
            skip_expiry: false,
            uses_old_token: false,
            status: None,
            code: None,
            message: None,
            insufficient: None,
            challenge: None,
            cause: None,
        }
    }

    pub fn past_deadline(&self, now: Ns) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// C13: returns the time spent until now in waits for hints and at the gate.
    pub fn server_waited(&self, now: Ns) -> Ns {
        match self.state {
            State::Waiting { begun, reason, .. } if reason != Reason::Backoff => self.server_waited + (now - begun),
            _ => self.server_waited,
        }
    }

    /// L1: returns the latest hint that counts, if it lies ahead.
    pub fn binding_hint(&self, now: Ns) -> Option<(Ns, Reason)> {
        self.not_before.filter(|(until, _)| *until > now)
    }

    /// Returns the earlier of `t` and the deadline.
    pub fn or_deadline(&self, t: Ns) -> Ns {
        self.deadline.map_or(t, |deadline| deadline.min(t))
    }

    /// L1: an effective hint that counts raises the not-before.
    pub fn raise_not_before(&mut self, until: Ns, reason: Reason) {
        if self.not_before.is_none_or(|(old, _)| until > old) {
            self.not_before = Some((until, reason));
        }
    }
}
