//! Waits: their ends (L2, F3, C9, C10, C13, C14), and the turn at the gate.

use super::Model;
use super::action::{Action, Reason};
use super::decide::Turn;
use super::draw::{Purpose, derive_seed, draw};
use super::request::{Place, Request, State};
use super::settings::Jitter;
use super::span::{Ns, Span, after};

/// The end of a wait without the gate. The jitter on top of a hint is apart: the gate does not count it (C9, C13).
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub end: Span,
    pub jitter: Span,
    pub reason: Reason,
}

/// Whether a request waits at the gate, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    No,
    /// C9.
    InQueue,
    /// C10.
    AsHead,
}

/// The retry that follows a wait.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pub throttled: bool,
    /// S2.
    pub price: u64,
}

impl Model {
    /// B1, B2, L2: returns the end of the wait before the next retry, without the gate.
    pub(super) fn own_wait(&mut self, r: &mut Request, throttled: bool, hint: Option<(Ns, Reason)>) -> Own {
        let s = &self.settings;
        let n = self.retry_number(r, throttled);
        let apart = s.throttle_retries.is_some();
        let chain = usize::from(throttled && (apart || s.throttled.is_some()));
        let backoff = s.backoff(s.growth(throttled), n, r.previous[chain]);
        let backoff = r.drawn.take().map_or(backoff, Span::exactly); // C11: the brake has shown it
        if !apart && s.throttled.is_some() {
            // F2: the earlier waits are worked out again with the parameters of the retry.
            let other = s.backoff(s.growth(!throttled), n, r.previous[1 - chain]);
            r.previous[1 - chain] = Some(other.hi);
        }
        r.previous[chain] = Some(backoff.hi);
        r.drawn_from = chain;
        let none = Span::exactly(0);
        let mut backoff = Own { end: backoff.after(self.now), jitter: none, reason: Reason::Backoff };
        let Some((wait, reason)) = hint else {
            return backoff;
        };
        let end = after(self.now, wait);
        if reason == Reason::Pushback {
            // L2: a pushback is exact, also one of zero.
            return Own { end: Span::exactly(end), jitter: none, reason };
        }
        if wait == 0 {
            return backoff;
        }
        let mut jitter = Span::new(0, self.settings.hint_jitter());
        // L2, F3: the longer one, and of equal ones the back-off.
        if !throttled {
            if !self.guesses.ask(after(end, jitter.hi) > backoff.end.lo, end <= backoff.end.hi) {
                backoff.end.lo = backoff.end.lo.max(end);
                return backoff;
            }
            jitter.lo = (backoff.end.lo + 1 - end).clamp(0, jitter.hi);
        }
        Own { end: Span::exactly(end), jitter, reason }
    }

    /// B1, B5: returns the number of the next retry of its kind.
    fn retry_number(&self, r: &Request, throttled: bool) -> u64 {
        let apart = throttled && self.settings.throttle_retries.is_some();
        1 + if apart { r.throttled_retries } else { r.retries }
    }

    /// C11, T1: draws the back-off of the request's next retry.
    pub(super) fn draw_backoff(&self, r: &Request, throttled: bool) -> Ns {
        let s = &self.settings;
        let apart = throttled && s.throttle_retries.is_some();
        let purpose = if apart { Purpose::ThrottledRetry } else { Purpose::Retry };
        let seed = derive_seed(s.seed, r.id);
        let growth = s.growth(throttled);
        let n = self.retry_number(r, throttled);
        if s.jitter != Jitter::Decorrelated {
            return draw(seed, purpose, n, s.backoff(growth, n, None));
        }
        // F2: from the first one on.
        let mut previous = None;
        for n in 1..=n {
            previous = Some(draw(seed, purpose, n, s.backoff(growth, n, previous)));
        }
        previous.expect("the first retry has the number 1")
    }

    /// C13: returns how long the request may still wait for hints and at the gate.
    pub(super) fn server_wait_left(&self, r: &Request) -> Ns {
        (self.settings.max_server_wait - r.server_waited(self.now)).max(0)
    }

    /// Begins a wait before a retry, or before a send.
    pub(super) fn wait(&mut self, r: &mut Request, mut own: Own, held: Held, retry: Option<Retry>) -> Action {
        let now = self.now;
        let left = self.server_wait_left(r);

        // L1: an earlier hint that still binds.
        let bound = r.binding_hint(now);
        let mut own_end = Span::new(after(own.end.lo, own.jitter.lo), after(own.end.hi, own.jitter.hi));
        let mut reason = own.reason;
        let mut earlier = false;
        if let Some((until, why)) = bound {
            earlier = self.guesses.ask(until > own_end.lo, until <= own_end.hi);
            if earlier {
                (own_end, reason) = (Span::exactly(until), why);
            } else {
                own_end.lo = own_end.lo.max(until);
                if own.reason == Reason::Backoff {
                    own.end = own_end;
                } else {
                    own.jitter.lo = own.jitter.lo.max(until - own.end.lo);
                }
            }
        }

        // S7: the gate. `turn` is what the request was told, `gate_end` has the jitter on top.
        let (held, turn) = match (held, self.upstream.gates.get_mut(&r.gate)) {
            (Held::InQueue, Some(gate)) => {
                let is_open = !gate.is_closed(now);
                let free = gate.next_free(now);
                // C9: it asks again after its own wait.
                if self.guesses.ask(free < own.end.hi, free >= own.end.lo) {
                    if own.end.lo < own.end.hi {
                        own.end.lo = own.end.lo.max(free + 1);
                    }
                    (At::Nowhere, now)
                } else {
                    if own.end.lo < own.end.hi {
                        own.end.hi = own.end.hi.min(free - 1).max(own.end.lo);
                    }
                    (At::Slot { is_open }, free)
                }
            }
            (Held::AsHead, Some(gate)) => (At::Head, gate.opens),
            _ => (At::Nowhere, now),
        };
        if !earlier && own.reason == Reason::Backoff {
            own_end = own.end;
        }
        let (mut end, reason) = match held {
            At::Nowhere => (own_end, reason),
            At::Slot { .. } => self.later((own_end, reason), (Span::exactly(turn), Reason::Gate)),
            At::Head => {
                // C10, L2
                let is_throttled = retry.is_none_or(|retry| retry.throttled);
                let is_hint = retry.is_some() && own.reason != Reason::Backoff;
                let jitter = match (is_hint, is_throttled) {
                    (true, _) => own.jitter,
                    (false, true) => Span::new(0, self.settings.hint_jitter()),
                    (false, false) => Span::exactly(0),
                };
                let gate_end = jitter.after(turn);
                if is_hint && !earlier {
                    // The same jitter is on top of both.
                    if turn > own.end.hi { (gate_end, Reason::Gate) } else { (own_end, reason) }
                } else {
                    self.later((own_end, reason), (gate_end, Reason::Gate))
                }
            }
        };

        // L3, C13: without the draw on top.
        let asked = turn.max(bound.map_or(now, |(until, _)| until));
        if asked - now > left {
            self.rule("L3 C13: too long a wait");
            r.refused = Some(Span::exactly(asked));
            return self.fail(r, "server_wait_too_long");
        }
        if reason != Reason::Backoff {
            end = end.at_most(after(now, left)); // F3
        }
        if let Some(deadline) = r.deadline {
            let mut least = match reason {
                Reason::Backoff => end,
                _ => Span::new(asked.max(own.end.lo), asked.max(own.end.hi)),
            };
            if let At::Slot { is_open: true } = held {
                let rest = (deadline - now) / 4; // C14
                least = Span::new(least.lo + rest, least.hi + rest);
            }
            if self.guesses.ask(least.hi >= deadline, least.lo < deadline) {
                self.rule("P2 L3 C14: would end at or after the deadline");
                return self.fail(r, "deadline");
            }
            end = end.at_most(deadline - 1); // F3
        }

        // C10: the slot is taken before breaker and budget are asked.
        let place = match (held, self.upstream.gates.get_mut(&r.gate)) {
            (At::Slot { .. }, Some(gate)) => Some(Place::Queue(gate.take_slot())),
            (At::Head, Some(gate)) => {
                gate.take_head();
                Some(Place::Head)
            }
            _ => None,
        };
        r.has_queued |= place.is_some();
        if let Some(probe) = self.upstream.breaker.next_probe(now) {
            if self.guesses.ask(end.lo < probe.hi, end.hi >= probe.lo) {
                self.rule("P2 S3: the wait would end before the next probe");
                return self.fail(r, "breaker_open");
            }
        }
        if let Some(Retry { throttled, price }) = retry {
            if let Some(balance) = &mut self.upstream.balance {
                if !balance.try_withdraw(now, price, &mut r.paid) {
                    self.rule("P2 P3 S2");
                    r.refused = Some(end);
                    return self.fail(r, "budget");
                }
            }
            if throttled && self.settings.throttle_retries.is_some() {
                r.throttled_retries += 1;
            } else {
                r.retries += 1;
            }
        }
        self.rule("the wait is granted");
        r.place = place;
        r.state = State::Waiting { begun: now, until: end, reason };
        Action::Wait { until: end, reason }
    }

    /// C9: at the end of a wait at the gate, looks at the turn again.
    pub(super) fn look_at_turn(&mut self, r: &mut Request, place: Place) -> Action {
        // P1: the checks before the gate come first.
        if r.past_deadline(self.now) {
            self.rule("P1: the deadline has passed in the queue");
            return self.fail(r, "deadline");
        }
        if self.breaker_blocks() {
            self.rule("P1 S3: the breaker opened meanwhile");
            r.place = None; // C10: the slot stays empty
            return self.fail(r, "breaker_open");
        }
        let gate = self.upstream.gates.get_mut(&r.gate).expect("nobody waits where there is none");
        let turn = match place {
            Place::Queue(slot) => gate.turn(slot, self.now),
            Place::Head => gate.opens,
        };
        let (due, reason) = match r.binding_hint(self.now) {
            Some((until, why)) if until > turn => (until, why),
            _ => (turn, Reason::Gate),
        };
        if due <= self.now {
            r.place = None;
            return self.try_send(r, Turn::Now);
        }
        if due - self.now > self.server_wait_left(r) {
            self.rule("C13: prolonged too far");
            r.refused = Some(Span::exactly(due));
            return self.fail(r, "server_wait_too_long");
        }
        if r.past_deadline(due) {
            self.rule("C9: prolonged beyond the deadline");
            return self.fail(r, "deadline");
        }
        self.rule("C9: waits on");
        r.state = State::Waiting { begun: self.now, until: Span::exactly(due), reason };
        self.pending_action(r)
    }
}

/// Where a request waits at the gate.
#[derive(Clone, Copy, Debug)]
enum At {
    Nowhere,
    Slot { is_open: bool },
    Head,
}
