//! An upstream and its requests, restored or not, and the checks for both.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use retry_machine::snapshot::{GateSnapshot, LoginSnapshot, MachineSnapshot, UpstreamSnapshot};
use retry_machine::{
    Action, Event, FailureKind, Gate, HintSource, Idempotency, Login, RequestLimits, RetryMachine, Scope, Timestamp,
    TransportErrorKind, Upstream, WaitReason, YoungToken,
};
use serde_json::Value;

use super::super::common::history::instant_of;
use super::super::common::response::{Numbers, Response, Taken};
use super::super::common::settings::{Kind, Settings, nanos};
use super::super::events::script::{self, answer, numbers, outcome, transport_error};
use super::super::events::settings::duration;

/// The origin that instants in a snapshot are relative to.
pub const ORIGIN: Timestamp = Timestamp::from_nanos(1 << 62);

/// The flags of a stored request that the checks look at.
const NON_IDEMPOTENT: u64 = 1;
const REPEATED: u64 = 64;

pub struct Session {
    upstream: Upstream,
    /// A second login and a second gate, which are not restored (S8).
    other: (Login, Gate),
    settings: Settings,
    /// The latest instant that was told (T2).
    now: Timestamp,
    requests: Vec<Request>,
}

struct Request {
    machine: RetryMachine,
    idempotency: Idempotency,
    /// Whether it has the second login and the second gate.
    others: (bool, bool),
    /// The instant at which it was started or restored.
    begun: Option<Timestamp>,
    last: Option<Action>,
    sent: u64,
    recoveries: u32,
    /// D17, as far as they are known: those of a stored form can be tighter.
    limits: RequestLimits,
    /// Whether an attempt was unprocessed (D13).
    repeated: bool,
    /// The number of throttled retries that a stored form has, which nobody may have made (B5).
    throttled: u32,
    /// The latest end of a hint that was heard since (L1).
    hint: Timestamp,
}

/// Returns the parts of a request (S8).
fn scope<'a>(upstream: &'a mut Upstream, other: &'a mut (Login, Gate), others: (bool, bool)) -> Scope<'a> {
    let Upstream { service, login, gate } = upstream;
    let login = if others.0 { &mut other.0 } else { login };
    Scope { service, login, gate: if others.1 { &mut other.1 } else { gate } }
}

impl Session {
    pub fn new(
        upstream: Upstream,
        settings: Settings,
        machines: Vec<(RetryMachine, Idempotency, RequestLimits)>,
    ) -> Session {
        let request = |(machine, idempotency, limits)| Request {
            machine,
            idempotency,
            others: (false, false),
            begun: None,
            last: None,
            sent: 0,
            recoveries: 0,
            limits,
            repeated: false,
            throttled: 0,
            hint: Timestamp::ZERO,
        };
        let requests = machines.into_iter().map(request).collect();
        Session { upstream, other: (Login::new(), Gate::new()), settings, now: Timestamp::ZERO, requests }
    }

    /// Takes the state, the requests with their written form if they have one.
    pub fn restored(
        upstream: Upstream,
        settings: Settings,
        machines: Vec<(RetryMachine, Value)>,
        now: Timestamp,
    ) -> Session {
        let flag = |written: &Value, flag: u64| written["machine"]["flags"].as_u64().unwrap_or_default() & flag != 0;
        let known = |(machine, written): (RetryMachine, Value)| {
            let is_unsafe = flag(&written, NON_IDEMPOTENT);
            let idempotency = if is_unsafe { Idempotency::NonIdempotent } else { Idempotency::Idempotent };
            ((machine, idempotency, RequestLimits::default()), written)
        };
        let (machines, stored): (_, Vec<_>) = machines.into_iter().map(known).unzip();
        let mut session = Session::new(upstream, settings, machines);
        session.now = now;
        let open = session.settings.breaker.map_or(0, |breaker| nanos(breaker.open_for));
        let closed = after(after(now, open), open / 2);
        let action =
            RetryMachine::new(Idempotency::Idempotent, 9).handle(closed, Event::Start, &mut session.upstream.clone());
        assert_ne!(kind(&action), Some(FailureKind::BreakerOpen), "S3: open for too long");
        for (request, written) in session.requests.iter_mut().zip(stored) {
            let recoveries = written["machine"]["recoveries"].as_u64().unwrap_or_default();
            request.recoveries = u32::try_from(recoveries).expect("at most 255");
            let throttled = written["machine"]["throttled_retries"].as_u64().unwrap_or_default();
            request.throttled = u32::try_from(throttled).expect("at most 65,535");
            request.repeated = flag(&written, REPEATED);
            request.begun = Some(now);
            // A start is not new for a request that has begun, so the pending action comes back.
            request.last = Some(request.machine.handle(now, Event::Start, &mut session.upstream));
            request.sent = u64::from(matches!(request.last, Some(Action::Send { .. })));
        }
        session
    }

    /// Gives a request that has not begun the second login or the second gate.
    pub fn give_others(&mut self, n: usize, others: (bool, bool)) {
        self.requests[n].others = others;
    }

    /// Returns the login of a request.
    fn login(&mut self, n: usize) -> &mut Login {
        if self.requests[n].others.0 { &mut self.other.0 } else { &mut self.upstream.login }
    }

    /// Returns the gate of a request.
    fn gate(&mut self, n: usize) -> &mut Gate {
        if self.requests[n].others.1 { &mut self.other.1 } else { &mut self.upstream.gate }
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn stored(&self) -> (Vec<MachineSnapshot>, UpstreamSnapshot) {
        let machine = |request: &Request| MachineSnapshot::new(&request.machine, self.now);
        (self.requests.iter().map(machine).collect(), UpstreamSnapshot::new(&self.upstream, self.now))
    }

    /// Plays the script, and then asserts that drivers that do what they are told come to an end (I7).
    pub fn run(mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let habit: u8 = u.arbitrary()?;
        while !u.is_empty() && self.step(u).is_ok() {}
        let throttles = self.settings.throttle_retries.unwrap_or(0);
        let few_retries = self.settings.max_retries <= 8 && throttles <= 8;
        let retries = u32::from(self.settings.max_retries.min(8)) + u32::from(throttles.min(8));
        // D13: one more, which is not a retry.
        let longest = 16 * (3 + retries + u32::from(self.settings.max_token_recoveries));
        for n in 0..self.requests.len() {
            let mut steps = 0;
            while !self.requests[n].last.is_some_and(|action| action.is_terminal()) {
                let Request { last, machine, .. } = &self.requests[n];
                let (last, lease, in_flight) = (*last, machine.lease(), machine.in_flight());
                let (now, event) = match machine.next_tick(self.upstream.policy()) {
                    // An outcome that does not count is not an answer, so the lease ends.
                    Some(end) if steps % 2 == 1 && in_flight.is_none() => (self.now.max(end), Event::Tick),
                    _ => answer(last, self.now, in_flight, few_retries, habit),
                };
                if let (Some(Action::RefreshToken { .. } | Action::InFlight { .. }), Some(lease)) = (last, lease) {
                    let now = self.now;
                    let _ = self.login(n).report_refresh(now, lease, script::habit(habit).1);
                }
                self.tell(n, now, event);
                steps += 1;
                assert!(steps <= longest, "I7: {:?}, {:?}", self.requests[n].last, self.requests[n].machine);
            }
        }
        Ok(())
    }

    pub fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let n = u.choose_index(self.requests.len())?;
        let Request { machine, last, .. } = &self.requests[n];
        let (last, newest, next) =
            (*last, machine.attempts(), machine.next_tick(self.upstream.policy()).unwrap_or(self.now));
        let now = match u.int_in_range(0..=7)? {
            0 => self.now,
            1 => after(self.now, u64::from(u.arbitrary::<u16>()?) * 1_000_000),
            2 => Timestamp::from_nanos(next.as_nanos().saturating_sub(1)),
            3 => after(next, nanos(duration(u)?)),
            4 if u.ratio(1, 8)? => instant(u)?,
            _ => next,
        };
        let event = match u.int_in_range(0..=11)? {
            0 => Event::Start,
            1 if u.ratio(1, 2)? => Event::Cancel,
            2 => {
                let lease = machine.lease().unwrap_or(u.arbitrary::<u8>()?.into());
                let outcome = outcome(u)?;
                let now = self.advance(now);
                let _ = self.login(n).report_refresh(now, lease, outcome);
                Event::Tick
            }
            3 if u.arbitrary()? => {
                let now = self.advance(now);
                match u.ratio(1, 8)? {
                    true => self.login(n).token_removed(),
                    false => self.login(n).token_replaced(now, Some(duration(u)?)),
                }
                return Ok(());
            }
            3 => {
                let now = self.advance(now);
                match u.arbitrary()? {
                    true => self.gate(n).open(now),
                    false => self.gate(n).close(now, after(now, nanos(duration(u)?))),
                }
                return Ok(());
            }
            4 => Event::TransportError { attempt: newest, kind: transport_error(u)? },
            5 => return self.reply(n, now, u.arbitrary::<u8>()?.into(), u),
            6 | 7 => Event::Tick,
            8 => answer(last, self.now, machine.in_flight(), true, u.arbitrary()?).1,
            _ => return self.reply(n, now, newest, u),
        };
        self.tell(n, now, event);
        Ok(())
    }

    /// T2: tells the service the time of what its parts are told directly, and returns the latest one.
    fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        let _ = RetryMachine::new(Idempotency::Idempotent, 0).handle(self.now, Event::Cancel, &mut self.upstream);
        self.now
    }

    fn reply(&mut self, n: usize, now: Timestamp, attempt: u32, u: &mut Unstructured<'_>) -> Result<()> {
        let response = numbers(u)?.facts(&self.settings, self.upstream.policy());
        self.tell_of(n, now, Event::Reply { attempt, reply: response.reply }, Some(response));
        Ok(())
    }

    fn tell(&mut self, n: usize, now: Timestamp, event: Event) {
        let response = match event {
            Event::Reply { reply, .. } => {
                Some(Numbers::of(reply.status()).facts(&self.settings, self.upstream.policy()))
            }
            _ => None,
        };
        self.tell_of(n, now, event, response);
    }

    fn tell_of(&mut self, n: usize, now: Timestamp, event: Event, response: Option<Response>) {
        self.now = self.now.max(now);
        let restored = self.restored_again(n);
        self.hear(n, response);
        let latest = self.now;
        let lease = self.login(n).state(latest).lease;
        let request = &mut self.requests[n];
        let (in_flight, others) = (request.machine.in_flight(), request.others);
        let action = request.machine.handle(now, event, scope(&mut self.upstream, &mut self.other, others));
        if let Some((mut machine, mut upstream, mut other)) = restored.filter(|_| instant_of(&action) < ORIGIN) {
            assert_eq!(machine.handle(now, event, scope(&mut upstream, &mut other, others)), action, "I13");
        }
        self.check(n, event, response, (in_flight, lease), &action);
        self.requests[n].begun.get_or_insert(self.now);
        self.requests[n].last = Some(action);
    }

    /// Stores and restores a request and its upstream. A snapshot cannot tell centuries apart.
    fn restored_again(&self, n: usize) -> Option<(RetryMachine, Upstream, (Login, Gate))> {
        let machine = &self.requests[n].machine;
        let next = machine.next_tick(self.upstream.policy()).unwrap_or_default();
        if self.now.max(next) >= ORIGIN {
            return None;
        }
        let upstream = UpstreamSnapshot::new(&self.upstream, self.now);
        let upstream = upstream.restore(self.upstream.policy().clone(), self.now);
        let machine_again = MachineSnapshot::new(machine, self.now).restore(self.now);
        let policy = self.upstream.policy();
        let login = LoginSnapshot::new(&self.other.0, self.now).restore(policy, self.now);
        let gate = GateSnapshot::new(&self.other.1, self.now).restore(policy, self.now);
        let (Ok(machine), Ok(upstream), Ok(login), Ok(gate)) = (machine_again, upstream, login, gate) else {
            panic!("T7: refused at {:?}: {machine:?} {:?}", self.now, self.upstream)
        };
        Some((machine, upstream, (login, gate)))
    }

    fn hear(&mut self, n: usize, response: Option<Response>) {
        let request = &mut self.requests[n];
        let Some(response) = response else { return };
        let after = |hint: Option<(u64, HintSource)>| hint.map_or(self.now, |(nanos, _)| after(self.now, nanos));
        let over = request.last.is_some_and(|action| action.is_terminal());
        let hint = response.binding_hint(&self.settings, request.idempotency);
        if hint.is_some() && !over && request.machine.attempts() > 0 {
            request.hint = request.hint.max(after(hint));
        }
    }

    fn check(
        &mut self,
        n: usize,
        event: Event,
        response: Option<Response>,
        (in_flight, lease_before): (Option<u32>, Option<(u32, Timestamp)>),
        action: &Action,
    ) {
        let latest = self.now;
        let login = self.login(n).state(latest);
        let Self { settings, now, requests, .. } = self;
        let (request, now) = (&mut requests[n], *now);
        let last = request.last;
        if let Some(last) = last.filter(Action::is_terminal) {
            assert_eq!(*action, last, "I3");
            return;
        }
        let is_result = match event {
            Event::Reply { attempt, .. } | Event::TransportError { attempt, .. } => in_flight == Some(attempt),
            _ => false,
        };
        let taken = response.filter(|_| is_result).map(|response| response.taken(settings, request.idempotency));
        if taken == Some(Taken::Token) && kind(action) != Some(FailureKind::Unauthorized) {
            request.recoveries += 1;
        }
        let is_unprocessed =
            matches!(event, Event::TransportError { kind: TransportErrorKind::Unprocessed, .. }) && is_result;
        if is_unprocessed && !request.repeated {
            // D13: the first one has no back-off.
            assert!(!matches!(action, Action::Wait { reason: WaitReason::Backoff, .. }), "D13");
            request.repeated = true;
        }
        assert_eq!(action.attempt(), request.machine.attempts());
        let deadline = settings.deadline_of(request.limits).map(|limit| after(request.begun.unwrap_or(now), limit));
        let in_time = |until: Timestamp| deadline.is_none_or(|deadline| until < deadline);
        // F7: only a tick ends a wait.
        let goes_on = |before: Timestamp| event != Event::Tick || now < before;
        match (*action, last) {
            (Action::Send { generation, .. }, _) => {
                assert_eq!(generation, login.generation, "K4");
                assert!(generation.is_none() || !login.is_rejected, "K6");
                request.sent += 1;
                let most = settings.max_attempts(request.limits) + u64::from(request.repeated);
                assert!(request.sent <= most, "I2");
                assert!(now >= request.hint, "I1");
                assert!(in_time(now), "P1");
            }
            (Action::Wait { until, .. }, Some(Action::Wait { until: before, .. })) if goes_on(before) => {
                assert!(until >= before, "T4");
            }
            (Action::Wait { until, reason, .. }, _) => {
                assert!(in_time(until), "L3");
                let (low, high) = match reason {
                    WaitReason::Backoff if in_flight.is_some() => {
                        let throttled = taken == Some(Taken::Retried(Kind::Throttle));
                        let kind = if throttled { Kind::Throttle } else { Kind::Other };
                        let others = request.recoveries + u32::from(request.repeated);
                        let retry = request.machine.attempts() - others;
                        // B5: counted apart, it is the nth of its kind or an earlier one.
                        let (first, retry) = match (settings.throttle_retries, settings.young_token) {
                            (Some(_), _) => (1, request.machine.attempts().saturating_add(request.throttled)),
                            // K10: a 401 may be a recovery or a retry.
                            (None, YoungToken::Retry) => (1, request.machine.attempts()),
                            (None, _) => (retry, retry),
                        };
                        let (first, last) = (settings.back_off(kind, first), settings.back_off(kind, retry));
                        (after(now, first.0.min(last.0)), after(now, first.1.max(last.1)))
                    }
                    WaitReason::Backoff => {
                        let own = settings.throttle_backoff.map_or(0, |own| nanos(own.max_backoff));
                        (now, after(now, settings.max_backoff.max(own)))
                    }
                    // C13: in all, so that no wait is longer.
                    WaitReason::Hint(_) | WaitReason::Gate => (now, after(now, settings.max_server_wait)),
                };
                assert!((low..=high).contains(&until), "I8: {reason:?} until {until:?}, not {low:?} to {high:?}");
            }
            (Action::RefreshToken { lease, until, .. }, _) => {
                assert_eq!(until, after(now, settings.refresh_timeout), "K5");
                assert_eq!((lease_before, login.lease), (None, Some((lease, until)).filter(|_| now < until)), "I6");
            }
            (Action::AwaitRefresh { until, .. }, before) if !matches!(before, Some(Action::AwaitRefresh { .. })) => {
                assert!(until <= after(now, settings.refresh_timeout), "K5: {until:?}");
            }
            _ => {}
        }
        assert!(!action.to_string().is_empty(), "E2");
    }
}

/// Chooses an instant of any clock, often of one that is neither young nor old.
pub fn instant(u: &mut Unstructured<'_>) -> Result<Timestamp> {
    Ok(match u.int_in_range(0..=5)? {
        0 => Timestamp::from_nanos(u.arbitrary()?),
        1 => *u.choose(&[Timestamp::ZERO, Timestamp::MAX, ORIGIN])?,
        2 => Timestamp::from_millis(u.arbitrary::<u16>()?.into()),
        _ => Timestamp::from_millis(1 << 40),
    })
}

fn kind(action: &Action) -> Option<FailureKind> {
    if let Action::Fail(failure) = action { Some(failure.kind()) } else { None }
}

fn after(time: Timestamp, nanos: u64) -> Timestamp {
    time.saturating_add(Duration::from_nanos(nanos))
}
