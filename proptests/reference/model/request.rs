//! One request: its state, and the facts that it has learned.

use super::action::{Action, Reason};
use super::span::{Ns, Span};

#[derive(Clone, Debug)]
pub struct Request {
    pub id: u64,
    /// D14: whether the request is idempotent.
    pub idempotent: bool,
    pub started: Ns,
    /// S4.
    pub deadline: Option<Ns>,
    pub state: State,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// B3: retries granted.
    pub retries: u64,
    /// K2: recoveries from a 401.
    pub recoveries: u64,
    /// F2: the longest that the previous wait can have been.
    pub previous_wait: Option<Ns>,
    /// L1: the latest hint that counts, and its source.
    pub not_before: Option<(Ns, Reason)>,
    /// S1, F3: time actually waited at the gate.
    pub gate_waited: Ns,
    /// F5: the expiry check is skipped for the next send.
    pub skip_expiry: bool,
    /// E1: the last reply in flight.
    pub status: Option<u64>,
    pub code: Option<String>,
    pub message: Option<String>,
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

/// Why a request wants a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// K1: after a 401.
    Recovery,
    /// K7: the token expires soon.
    Proactive,
}

#[derive(Clone, Debug)]
pub struct Attempt {
    pub generation: u64,
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
    /// It failed, or was given up, or was answered other than by a 2xx.
    Over,
    /// It was answered by a 2xx, perhaps late.
    Succeeded,
}

impl Request {
    pub fn new(id: u64, idempotent: bool, started: Ns, deadline: Option<Ns>) -> Request {
        Request {
            id,
            idempotent,
            started,
            deadline,
            state: State::Starting,
            attempts: Vec::new(),
            retries: 0,
            recoveries: 0,
            previous_wait: None,
            not_before: None,
            gate_waited: 0,
            skip_expiry: false,
            status: None,
            code: None,
            message: None,
            cause: None,
        }
    }

    pub fn past_deadline(&self, now: Ns) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
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
