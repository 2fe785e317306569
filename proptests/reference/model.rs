//! A second implementation of the retry machine's rules, slow and obvious, to check the crate.
//!
//! It keeps every lease and every attempt. Where the rules leave an instant to chance, the model knows
//! the bounds, accepts each value within them, and continues with the observed one. It draws one number
//! itself: the length of a brake (C11), which no line need show. Every decision names its rule. The
//! rules are those of `docs/rules.md`, the lines those of `docs/trace_format.md`.
//!
//! # Readings
//!
//! Where two rules conflict, or the rules are silent, the model reads them as follows.
//!
//! 1. S8, T2: `token_replaced`, `open_gate` and `close_gate` are told directly: their `now` counts as it comes, and the
//!    latest `now` stays.
//! 2. An event before the `start` of its request is an error in the trace. So is a second `start`.
//! 3. T3: an attempt that was never sent (0, or above the newest) is late like any other, but breaker
//!    and budget ignore it. A newest attempt that has already failed is late like any other.
//! 4. T3, H10: a late reply closes the gate wherever one in time would, before and after the terminal action.
//!    A late `remaining` of 0 does not move a wait under way; the gate is looked at when that wait ends. A late hint
//!    that does not bind the request may be part of `not_before` (T3: it changes nothing; H10: the last reply's).
//! 5. T3, F6: an attempt succeeds at most once for breaker and budget: they
//!    ignore a second 2xx of one attempt, and a late one with a verdict. An attempt that was in flight when its request
//!    ended (cancel, a late 2xx of another attempt) can still report its one result.
//! 6. T4, S4: a deadline has passed when `now >= deadline`; the same for attempt limits and lease
//!    ends.
//! 7. F4: a late hint is checked against L3 at once only while a wait is under way. In flight, or
//!    while a token is awaited, it raises the not-before; the next send or wait is checked (L1, L3).
//!    There its reason is the hint's source, and a jitter of 0 to the spread is allowed.
//! 8. F4: the late hint is checked against what is left of the longest server wait first (C13), whether it moves the
//!    end or not, then, if it moves it, against the deadline. It moves the end only if it is later. The place in the
//!    queue stays.
//! 9. F8: `status`, `code` and `message` are those of the last reply that came in flight, also if
//!    the last attempt failed in transport. `cause` is absent before the first failure; after a 401, or a reply that a
//!    verdict made a failure, it is `status`.
//! 10. P2, F1: a retryable failure past the deadline with no retries left is `deadline`. A failure
//!     that would not be retried keeps its kind, also a status that is retried if safe (`ambiguous`). `other` of a
//!     request that is not idempotent is `ambiguous` at or after its limit, and `transport` before. So is `permanent`.
//! 11. P2: a 401 that would be recovered from is `deadline` past the deadline; one that would not
//!     (K9, D12, K10, K2) stays `unauthorized`. After an outcome that would end the request anyway
//!     (`token_rejected`, `token_unavailable`) that kind wins over the deadline. So it does where there is a newer token
//!     that is rejected already, and for a leader after *abandoned*.
//! 12. K1, P1: a 401 leads to its refresh at once, whatever the gate and the breaker say; they are
//!     looked at before the send that follows.
//! 13. K2: a K4 recovery goes before the check of `rejected`, and both after the count of recoveries.
//! 14. K3: a reply to the attempt in flight says that the token is dead, a late one does not (T3). It says so also where
//!     the request then fails since its recoveries are used up or its deadline has passed. A verdict of *token expired*
//!     is such a reply. Without an open lease a dead token is sent on.
//! 15. K3: who follows since a 401 has come for the token needs a new one, as after a 401 of its own. One that follows since it
//!     has expired is ahead of expiry: F5 holds for it. If both are the case, it is the 401. The `challenge` is null
//!     unless the 401 was the leader's own.
//! 16. K10: a token that `token_replaced` brought can be young, also as a login's first. D15 overrides D12's codes, so
//!     a *token expired* is not exempt. A reply that K10 retries has its hints (H10) and its pushback (H11), but closes the gate no
//!     more than any 401 (S1), and is neutral (D18).
//! 17. K7, F5: a request that gave up a refresh ahead of expiry skips that refresh until its next send, as long as
//!     `now < expiry`, also where a newer token has come while it waited at the gate. After one that brought a token, or met a replaced one, expiry is not checked until the next send.
//!     A token has expired at its expiry, and is due then, whatever its margin.
//! 18. K8: the three waits count each lease followed, per need (one 401, or one check before a send).
//! 19. K6: the newest outcome since a lease began may be that of a later lease. It shares *unavailable* and *abandoned*
//!     with the leader and the followers of the earlier one.
//! 20. Cancel after the terminal action changes nothing.
//! 21. C13: the limit is checked where a wait begins and where it is prolonged, against the later of hint and place at
//!     the gate. Where the gate is closed and the request has no turn, the time until which it was asked to be closed
//!     is checked before (C12). That time counts only while the gate is closed, for F8, too.
//! 22. C13: a wait is one for the server if its reason is not the back-off. It counts whole, from its beginning to the
//!     tick that ended it or the late hint that moved it (not to the end in the action).
//! 23. C6: the gate never opens earlier because of a later reply. A hint of zero does not close it.
//! 24. D11, H6: a 429 that the policy surfaces is not a throttle: only a remaining of 0 closes the gate then. A 429 with
//!     the verdict *transient* is taken as *retry*.
//! 25. C2: a free retry has the price 0, which still needs the floor. Whether the gate was closed is looked at before
//!     the reply does anything. A budget given in part has the default for the rest.
//! 26. S3: attempts of the same instant are before or after the opening by the order of events.
//!     While a probe is under way the next probe's instant is the expiry of its permit. An expired
//!     probe's late result counts as sent after the opening. A request that ends while its probe is
//!     in flight frees the permit, however it ends.
//! 27. S3, P2: the breaker fails a request only if the wait would end before the next probe.
//! 28. D18: a pushback that means stop leaves the reply what it was taken as: a 503 is bad, and a failure that is
//!     charged. A verdict of *final* does not.
//! 29. F2: decorrelated jitter: the previous wait is the back-off that was drawn for the previous retry. The lower
//!     bound never exceeds the upper.
//! 30. C8: the age of a measurement that has not begun is 0. After an opening by hand the guess counts as corrected.
//! 31. `common` differs from `flextell` in the meanings of statuses and in `young_token` only.
//! 32. P1, K6: `rejected` is checked where the token is: after deadline and breaker, and before the gate.
//! 33. P1: a hint that still binds a send (reading 7) is waited for where the gate is checked; there
//!     `server_wait_too_long` goes before `deadline`, as in P2, also where a wait at the gate is prolonged.
//! 34. F7: an event other than a tick, after a limit or lease end has passed, answers as before it.
//! 35. A key that is `null` and one that is absent are the same (`code`, `message`).
//! 36. H11, D15: whether a pushback stops a reply does not depend on who said that it would be retried, field or driver.
//! 37. H11, H10: a reply that is retried if safe would not be retried for a request that is not idempotent: neither its
//!     pushback nor its late hint counts.
//! 38. D11: the pushback decides whether a reply is hinted, also where the meaning of a hinted one is *surface*.
//! 39. E1: what the budget refused is the whole wait, with its jitter.
//! 40. D12: `challenge` is the word that was said, by the challenge or the code: scope or claims, then a revoked token,
//!     then whatever the challenge said. A reply that names a revoked token is never answered by a refresh, but by the
//!     verdict *token expired*.
//! 41. C3: where failures are charged, a request has paid what its failures took from the balance. With `last_cost` a
//!     free retry leaves nothing to give back, and a second good answer gives back the fixed amount.
//! 42. D17: a limit of more than 49 days is 49 days.
//! 43. C9: a request whose turn has come keeps its slot, however it ends. One that ends since its turn is too far away
//!     gives it back, if it is the last one given.
//! 44. C10: a brake makes no head: the request queues, unless it has queued before. A hint that only prolongs a closing
//!     does not make one either.
//! 45. C11: with `max_retries` used up the brake is drawn, too. It is drawn before the charge and the judgment.
//! 46. C14: the queue is too long by the longest server wait, whatever this request has waited already. The quarter is
//!     one of the time until its deadline.
//! 47. C9, F3: with several ends of one wait the jitter of a hint is the same on top of hint and opening.
//!
//! `reading.rs` has the readings of headers and bodies.

mod action;
mod decide;
mod draw;
mod event;
mod events;
mod gate;
mod guesses;
mod json;
mod login;
mod meaning;
mod record;
mod request;
pub mod settings;
mod span;
mod token;
mod upstream;
mod wait;

use super::reading::{self, Facts};
use action::Action;
use decide::Turn;
use event::{Event, Line};
use gate::Why;
use guesses::Guesses;
use request::{Request, State};
use serde_json::{Map, Value};
use settings::Settings;
use span::{Ns, from_ms};
use std::collections::BTreeMap;
use upstream::Upstream;

/// One service with its logins and gates, and all requests.
#[derive(Clone, Debug)]
pub struct Model {
    settings: Settings,
    upstream: Upstream,
    requests: BTreeMap<u64, Request>,
    /// T2: the latest `now` that the service has seen.
    now: Ns,
    /// C2: whether the request's gate was closed before the current event.
    was_closed: bool,
    /// C10: whether the current event has closed the open gate by a hint.
    has_closed: bool,
    guesses: Guesses,
    /// The rules that decided the current event, for the message.
    rules: Vec<&'static str>,
}

/// The expected answer to one event line.
struct Prediction {
    line: Line,
    action: Option<(usize, Action)>,
    /// K5: whether an outcome counts.
    counted: Option<bool>,
    facts: Option<Facts>,
}

impl Model {
    /// Makes a model with the settings of a trace; `{}` is all defaults.
    ///
    /// # Errors
    ///
    /// One sentence that names the invalid field.
    pub fn new(settings: &Value) -> Result<Model, String> {
        let settings = Settings::read(settings)?;
        Ok(Model {
            upstream: Upstream::new(&settings),
            settings,
            requests: BTreeMap::new(),
            now: 0,
            was_closed: false,
            has_closed: false,
            guesses: Guesses::default(),
            rules: Vec::new(),
        })
    }

    /// Applies an event line and compares the answer of an implementation: `observed` is its action
    /// line, `None` if the event has none (`token_replaced`, `open_gate`).
    ///
    /// # Errors
    ///
    /// `trace: …` if the event line is invalid (the model does not change); else the expected line, the
    /// observed line, and the rules that decided.
    pub fn check(&mut self, event: &Value, observed: Option<&Value>) -> Result<(), String> {
        let mut guesses = Guesses::default();
        let mut disagreements: Vec<String> = Vec::new();
        loop {
            let mut model = self.clone();
            model.guesses = guesses;
            let prediction = model.apply(event)?;
            match model.compare(&prediction, observed) {
                Ok(()) => {
                    model.adopt(&prediction, observed);
                    *self = model;
                    return Ok(());
                }
                Err(message) if disagreements.contains(&message) => {}
                Err(message) => disagreements.push(message),
            }
            match model.guesses.next() {
                Some(next) => guesses = next,
                None => break,
            }
        }
        let seen = observed.map_or("no action line".to_string(), Value::to_string);
        Err(format!("event {event}\n  observed {seen}\n  {}", disagreements.join("\n  or ")))
    }

    /// Applies an event line and returns the expected action line, with each jittered instant at its
    /// earliest. Returns `None` if the event has no action line.
    ///
    /// # Errors
    ///
    /// `trace: …` if the event line is invalid.
    pub fn predict(&mut self, event: &Value) -> Result<Option<Value>, String> {
        let mut model = self.clone();
        model.guesses = Guesses::default();
        let prediction = model.apply(event)?;
        let line = prediction.keys(|span| span.lo).map(|mut line| {
            if let Some(facts) = &prediction.facts {
                line.insert("facts".into(), facts.line());
            }
            Value::Object(line)
        });
        model.adopt(&prediction, line.as_ref());
        *self = model;
        Ok(line)
    }

    fn apply(&mut self, event: &Value) -> Result<Prediction, String> {
        let line = Line::read(event).map_err(|why| format!("trace: {why}"))?;
        self.rules.clear();
        let named = self.requests.contains_key(&line.request);
        match line.event {
            Event::TokenReplaced { .. } | Event::OpenGate { .. } | Event::CloseGate { .. } => {}
            Event::Start { .. } if named => return Err("trace: a second start".into()),
            Event::Start { .. } => {}
            _ if !named => return Err("trace: the request has not started".into()),
            _ => {}
        }
        let at = from_ms(line.at_ms);
        let mut prediction = Prediction { action: None, counted: None, facts: None, line };
        // S8: told directly, a login and a gate take the time as it comes.
        match prediction.line.event {
            Event::TokenReplaced { login, expires_in } => {
                self.upstream.login(login, &self.settings).install(at, expires_in);
                return Ok(prediction);
            }
            Event::OpenGate { gate } => {
                if let Some(gate) = self.upstream.gate(gate, &self.settings) {
                    gate.open(at); // S1; F3: waits under way keep their end
                }
                return Ok(prediction);
            }
            Event::CloseGate { gate, until } => {
                if let Some(gate) = self.upstream.gate(gate, &self.settings) {
                    gate.close(at, until, Why::Operator); // S1
                }
                return Ok(prediction);
            }
            _ => {}
        }
        self.now = self.now.max(at); // T2
        let line = &prediction.line;
        let mut r = match &line.event {
            Event::Start { idempotent, limits, login, gate } => {
                self.upstream.login(*login, &self.settings);
                self.upstream.gate(*gate, &self.settings);
                let tighter = [self.settings.deadline, limits.deadline].into_iter().flatten().min(); // D17
                let deadline = tighter.map(|limit| span::after(self.now, limit));
                Request::new(line.request, (*login, *gate), *idempotent, *limits, self.now, deadline)
            }
            _ => self.requests.remove(&line.request).expect("named above"),
        };
        self.was_closed = self.upstream.closed_gate(r.gate, self.now).is_some();
        self.has_closed = false;
        let action = match &line.event {
            Event::Start { .. } => self.try_send(&mut r, Turn::None),
            Event::Tick => self.on_tick(&mut r),
            Event::Reply { attempt, response } => {
                let wall = self.settings.unix_ms.map(|unix| i128::from(unix) + i128::from(line.at_ms));
                let body = response.body.as_deref();
                let read = reading::read(response.status, &response.headers, body, wall, &self.settings.dialect);
                let action = self.on_reply(&mut r, *attempt, response, &read);
                prediction.facts = Some(read);
                action
            }
            Event::TransportError { attempt, error } => self.on_transport_error(&mut r, *attempt, *error),
            Event::Token { outcome, lease } => {
                let (counts, action) = self.on_outcome(&mut r, *lease, *outcome);
                prediction.counted = Some(counts);
                action
            }
            _ => self.on_cancel(&mut r),
        };
        prediction.action = Some((r.attempts.len(), action));
        self.requests.insert(r.id, r);
        Ok(prediction)
    }

    fn compare(&self, prediction: &Prediction, observed: Option<&Value>) -> Result<(), String> {
        let Some(earliest) = prediction.keys(|span| span.lo) else {
            return if observed.is_none() { Ok(()) } else { Err("expected no action line".into()) };
        };
        let latest = || prediction.keys(|span| span.hi).expect("a prediction with an earliest line has a latest");
        let wrong = |what: String| {
            let rules = self.rules.join("; ");
            let (earliest, latest) = (Value::Object(earliest.clone()), Value::Object(latest()));
            let upto = if earliest == latest { String::new() } else { format!(" up to {latest}") };
            format!("expected {earliest}{upto} [{rules}]: {what}")
        };
        let Some(observed) = observed.and_then(Value::as_object) else {
            return Err(wrong("there is no action line".into()));
        };
        for (key, lo) in &earliest {
            let seen = observed.get(key).unwrap_or(&Value::Null);
            if lo != seen && !between(lo, seen, &latest()[key]) {
                return Err(wrong(format!("{key} differs")));
            }
        }
        if let Some(key) =
            observed.keys().find(|k| !earliest.contains_key(*k) && !matches!(k.as_str(), "explain" | "facts"))
        {
            return Err(wrong(format!("{key} is not expected")));
        }
        if let (Some(facts), Some(seen)) = (&prediction.facts, observed.get("facts")) {
            facts.compare(seen).map_err(|what| wrong(format!("facts: {what}, expected {}", facts.line())))?;
        }
        Ok(())
    }

    /// Continues with the observed instant, if the expected one is jittered.
    fn adopt(&mut self, prediction: &Prediction, observed: Option<&Value>) {
        let (Some((_, action)), Some(observed)) = (&prediction.action, observed) else {
            return;
        };
        let Some(r) = self.requests.get_mut(&prediction.line.request) else {
            return;
        };
        let seen = |key: &str| observed.get(key).and_then(Value::as_u64);
        match (action, &mut r.state) {
            (Action::Wait { .. }, State::Waiting { until, begun, reason }) => {
                if let Some(ms) = seen("until_ms") {
                    *until = until.seen_as(ms);
                }
                if *reason == action::Reason::Backoff {
                    r.previous[r.drawn_from] = Some(until.hi - *begun); // F2: decorrelated
                }
            }
            (Action::Fail(_), State::Ended(Action::Fail(failure))) => {
                let (Some(ms), Some(span)) = (seen("not_before_ms"), failure.not_before) else {
                    return;
                };
                let seen = span.seen_as(ms);
                failure.not_before = Some(seen);
                // The breaker's next probe, if that is the latest instant known.
                if r.refused.is_some() {
                    return;
                }
                if let Some(open) = &mut self.upstream.breaker.open {
                    if span.lo < span.hi && open.hi == span.hi && open.lo <= seen.hi && seen.lo > span.lo {
                        *open = span::Span::new(open.lo.max(seen.lo), seen.hi);
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns the rules that decided the latest event.
    #[allow(dead_code, reason = "the fuzz targets do not ask")]
    pub fn rules(&self) -> &[&'static str] {
        &self.rules
    }

    fn rule(&mut self, rule: &'static str) {
        self.rules.push(rule);
    }
}

impl Prediction {
    fn keys(&self, pick: fn(span::Span) -> Ns) -> Option<Map<String, Value>> {
        let (attempts, action) = self.action.as_ref()?;
        let mut line = action.keys(pick);
        line.insert("at_ms".into(), self.line.at_ms.into()); // F7: the event's own
        line.insert("request".into(), self.line.request.into());
        line.insert("attempt".into(), (*attempts).into());
        if let Some(counted) = self.counted {
            line.insert("counted".into(), counted.into());
        }
        Some(line)
    }
}

/// Returns whether `seen` is a number between the two.
fn between(lo: &Value, seen: &Value, hi: &Value) -> bool {
    match (lo.as_u64(), seen.as_u64(), hi.as_u64()) {
        (Some(lo), Some(seen), Some(hi)) => (lo..=hi).contains(&seen),
        _ => false,
    }
}
