//! Snapshots: a request and an upstream that are saved, written, read and restored under another clock go on as if nothing
//! had happened (T7, I13). A snapshot that nobody saved is refused, or the restored machine follows the rules.

mod clocks;
#[path = "../reference"]
mod reference {
    pub mod generator;
}

use std::collections::BTreeMap;
use std::time::Duration;

use reference::generator::Generator;
use retry_machine::replay::{EventRecord, RecordKind, RequestEvent, Settings};
use retry_machine::snapshot::{
    GateSnapshot, LoginSnapshot, MachineSnapshot, ServiceSnapshot, SnapshotError, UpstreamSnapshot,
};
use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, ErrorBody, Event, FailureKind, Gate, Idempotency, Jitter, Login, Policy,
    RefreshOutcome, Reply, RetryMachine, Scope, Service, Timestamp, Upstream, derive_seed,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The second world's clock has its origin 100 days before that of the first.
const OFFSET_MS: u64 = 100 * 86_400_000;

/// One service, its logins and gates, and its requests.
struct World {
    service: Service,
    fresh_login: Login,
    logins: BTreeMap<u64, Login>,
    gates: BTreeMap<u64, Gate>,
    requests: BTreeMap<u64, Request>,
    /// The latest instant: a snapshot from an earlier one would let time go backwards.
    latest_ms: u64,
    offset_ms: u64,
}

struct Request {
    machine: RetryMachine,
    login: u64,
    gate: u64,
}

/// Writes a snapshot and reads it again.
fn written<T: Serialize + DeserializeOwned>(snapshot: &T) -> T {
    serde_json::from_str(&serde_json::to_string(snapshot).unwrap()).unwrap()
}

impl World {
    fn new(setting: &Settings) -> World {
        let mut fresh_login = if setting.token { Login::new() } else { Login::without_token() };
        if let Some(lifetime) = setting.token_expires_in_ms {
            fresh_login.token_expires_in(Timestamp::ZERO, Duration::from_millis(lifetime));
        }
        World {
            service: Service::new(setting.policy().unwrap()),
            fresh_login,
            logins: BTreeMap::new(),
            gates: BTreeMap::new(),
            requests: BTreeMap::new(),
            latest_ms: 0,
            offset_ms: 0,
        }
    }

    fn time(&self, at_ms: u64) -> Timestamp {
        Timestamp::from_millis(at_ms + self.offset_ms)
    }

    /// Saves the world, and restores it from its written form under another clock.
    fn restored(&self, offset_ms: u64) -> World {
        let (now, there) = (self.time(self.latest_ms), Timestamp::from_millis(self.latest_ms + offset_ms));
        let policy = self.service.policy();
        let login = |login| written(&LoginSnapshot::new(login, now)).restore(policy, there).unwrap();
        let gate = |gate| written(&GateSnapshot::new(gate, now)).restore(policy, there).unwrap();
        let request = |request: &Request| {
            let machine = written(&MachineSnapshot::new(&request.machine, now)).restore(there).unwrap();
            Request { machine, ..*request }
        };
        World {
            service: written(&ServiceSnapshot::new(&self.service, now)).restore(policy.clone(), there).unwrap(),
            fresh_login: login(&self.fresh_login),
            logins: self.logins.iter().map(|(number, part)| (*number, login(part))).collect(),
            gates: self.gates.iter().map(|(number, part)| (*number, gate(part))).collect(),
            requests: self.requests.iter().map(|(number, own)| (*number, request(own))).collect(),
            latest_ms: self.latest_ms,
            offset_ms,
        }
    }

    fn login(&mut self, number: u64) -> &mut Login {
        self.logins.entry(number).or_insert_with(|| self.fresh_login.clone())
    }

    fn step(&mut self, event: &EventRecord) -> Option<Action> {
        self.latest_ms = self.latest_ms.max(event.at_ms);
        // T2: a part takes `now` as it comes.
        let now = self.time(self.latest_ms);
        let (number, event) = match &event.kind {
            RecordKind::TokenReplaced { login, expires_in_ms } => {
                self.login(*login).token_replaced(now, expires_in_ms.map(Duration::from_millis));
                return None;
            }
            RecordKind::OpenGate { gate } => {
                self.gates.entry(*gate).or_default().open(now);
                return None;
            }
            RecordKind::CloseGate { gate, until_ms } => {
                let until = self.time(*until_ms);
                self.gates.entry(*gate).or_default().close(now, until);
                return None;
            }
            RecordKind::Request { number, event } => (*number, event),
        };
        if let RequestEvent::Start { idempotency, limits, login, gate } = event {
            let machine = RetryMachine::new(*idempotency, derive_seed(7, number)).with_limits(*limits);
            self.requests.insert(number, Request { machine, login: *login, gate: *gate });
        }
        let Request { login, gate, .. } = self.requests.get(&number)?;
        let (login, gate) = (*login, *gate);
        if let RequestEvent::Refreshed { lease, outcome } = event {
            let newest = self.login(login).state(now).lease.map(|(lease, _)| lease);
            let _ = self.login(login).report_refresh(now, lease.or(newest).unwrap_or_default(), *outcome);
        }
        let _ = self.login(login);
        let machine = &mut self.requests.get_mut(&number)?.machine;
        let newest = machine.attempts();
        let event = match event {
            RequestEvent::Start { .. } => Event::Start,
            RequestEvent::Refreshed { .. } if machine.lease().is_none() => Event::Start,
            RequestEvent::Tick | RequestEvent::Refreshed { .. } => Event::Tick,
            RequestEvent::Cancel => Event::Cancel,
            RequestEvent::TransportError { attempt, kind } => {
                Event::TransportError { attempt: attempt.unwrap_or(newest), kind: *kind }
            }
            RequestEvent::Reply { attempt, status, headers, body, verdict, hint_ms } => {
                let headers = headers.iter().map(|(name, value)| (name, value));
                let reply = self.service.policy().read(*status, headers);
                let reply = verdict.map_or(reply, |verdict| reply.with_verdict(verdict));
                let reply = hint_ms.map_or(reply, |ms| reply.with_hint(Duration::from_millis(ms)));
                let class = body.as_deref().and_then(|body| ErrorBody::parse(body).ok()).map(|body| body.class());
                Event::Reply { attempt: attempt.unwrap_or(newest), reply: reply.with_code(class.unwrap_or_default()) }
            }
        };
        let login = self.logins.get_mut(&login)?;
        let gate = self.gates.entry(gate).or_default();
        Some(machine.handle(now, event, Scope { service: &mut self.service, login, gate }))
    }

    /// Returns the action in words and instants, with the instants counted from the trace's origin.
    fn describe(&self, action: &Action) -> String {
        let offset = Duration::from_millis(self.offset_ms);
        let until = match action {
            Action::Send { until, .. } | Action::InFlight { until, .. } => *until,
            Action::Wait { until, .. } | Action::RefreshToken { until, .. } | Action::AwaitRefresh { until, .. } => {
                Some(*until)
            }
            Action::Fail(failure) => failure.not_before(),
            Action::Done { .. } => None,
        };
        let until = until.map(|until| until.saturating_duration_since(Timestamp::ZERO.saturating_add(offset)));
        format!("{action}; attempt {}, until {until:?}", action.attempt())
    }
}

/// Returns whether an instant of the action is near the end of time. Sums beyond it saturate at different instants under two
/// clocks.
fn is_at_the_end_of_time(action: &Action) -> bool {
    let far = |until: Timestamp| until > Timestamp::from_millis(1 << 43);
    match action {
        Action::Wait { until, .. } => far(*until),
        Action::Fail(failure) => failure.not_before().is_some_and(far),
        _ => false,
    }
}

#[test]
fn i13_a_restored_world_goes_on_as_if_nothing_had_happened() {
    for seed in 0..1_500 {
        let mut generator = Generator::new(seed);
        let setting = Settings::parse(&generator.setting.to_string()).unwrap();
        let mut world = World::new(&setting);
        let mut restored = world.restored(OFFSET_MS);
        for n in 0.. {
            let Some(line) = generator.next_event() else { break };
            let event = EventRecord::parse(&line.to_string()).unwrap();
            if event.at_ms >= 1 << 42 {
                break;
            }
            let action = world.step(&event);
            let again = restored.step(&event);
            if action.as_ref().is_some_and(is_at_the_end_of_time) {
                break;
            }
            assert_eq!(
                action.map(|action| world.describe(&action)),
                again.map(|action| restored.describe(&action)),
                "seed {seed}, event {n}: {line}"
            );
            // After every third event the world is saved and restored again, under yet another clock.
            if n % 3 == 0 {
                restored = restored.restored(OFFSET_MS + n * 1_000);
            }
            generator.answered(&line, action.map(|action| to_line(&action)));
        }
    }
}

/// Returns the keys of an action line that the generator reads.
fn to_line(action: &Action) -> Value {
    let ms = |until: Timestamp| until.as_millis_ceil();
    let (name, until) = match *action {
        Action::Send { until, .. } => ("send", until.map(ms)),
        Action::Wait { until, .. } => ("wait", Some(ms(until))),
        Action::RefreshToken { until, .. } => ("refresh_token", Some(ms(until))),
        Action::AwaitRefresh { until, .. } => ("await_token", Some(ms(until))),
        Action::InFlight { until, .. } => ("in_flight", until.map(ms)),
        Action::Done { .. } => ("done", None),
        Action::Fail(_) => ("surface", None),
    };
    serde_json::json!({"action": name, "until_ms": until, "attempt": action.attempt()})
}

fn saved() -> (Upstream, RetryMachine) {
    let mut upstream = Upstream::new(Policy::flextell());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
    let _ = machine.handle(Timestamp::from_millis(1_000), Event::Start, &mut upstream);
    let _ = machine.handle(
        Timestamp::from_millis(1_100),
        Event::Reply { attempt: 1, reply: Reply::new(503) },
        &mut upstream,
    );
    (upstream, machine)
}

#[test]
fn t7_another_version_is_refused() {
    let (upstream, machine) = saved();
    let mut machine = serde_json::to_value(MachineSnapshot::new(&machine, Timestamp::from_millis(1_100))).unwrap();
    let upstream = serde_json::to_value(UpstreamSnapshot::new(&upstream, Timestamp::from_millis(1_100))).unwrap();
    let part = |part: &str| upstream[part]["version"].clone();
    let versions = ["service", "login", "gate"].map(part);
    assert_eq!((machine["version"].clone(), versions), (1.into(), [1, 1, 1].map(Value::from)));
    for version in [0, 2, u32::MAX] {
        machine["version"] = version.into();
        let machine: MachineSnapshot = serde_json::from_value(machine.clone()).unwrap();
        let error = machine.restore(Timestamp::MAX).unwrap_err();
        assert_eq!(error, SnapshotError::Version { version });
        assert_eq!(error.to_string(), format!("the snapshot has version {version}, but only version 1 can be read"));
        for part in ["service", "login", "gate"] {
            let mut upstream = upstream.clone();
            upstream[part]["version"] = version.into();
            let upstream: UpstreamSnapshot = serde_json::from_value(upstream).unwrap();
            assert_eq!(upstream.restore(Policy::flextell(), Timestamp::MAX), Err(SnapshotError::Version { version }));
        }
    }
}

#[test]
fn t7_a_clock_close_to_its_origin_takes_a_snapshot() {
    // The request began at 1 s, and its wait ends 900 ms after the snapshot.
    let (upstream, machine) = saved();
    let now = Timestamp::from_millis(1_100);
    let (upstream, snapshot) = (UpstreamSnapshot::new(&upstream, now), MachineSnapshot::new(&machine, now));
    for young in [0, 5, 99, 100, 3_600_000] {
        let young = Timestamp::from_millis(young);
        let mut upstream = upstream.restore(Policy::flextell(), young).unwrap();
        let mut machine = snapshot.restore(young).unwrap();
        let until = machine.next_tick(upstream.policy()).unwrap();
        assert!(until > young, "{until:?} at {young:?}");
        let action = machine.handle(until, Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Send { attempt: 2, .. }), "{action}");
    }
}

#[test]
fn i10_a_snapshot_that_would_repeat_an_ambiguous_attempt_is_refused() {
    let mut upstream = Upstream::new(Policy::flextell());
    let mut machine = RetryMachine::new(Idempotency::NonIdempotent, 7);
    let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
    let _ = machine.handle(
        Timestamp::ZERO,
        Event::TransportError { attempt: 1, kind: retry_machine::TransportErrorKind::NotSent },
        &mut upstream,
    );
    let mut snapshot = serde_json::to_value(MachineSnapshot::new(&machine, Timestamp::ZERO)).unwrap();
    // The cause of the last failure is in the three highest bits of the flags: not sent is 4, timed out is 2.
    let flags = snapshot["machine"]["flags"].as_u64().unwrap();
    assert_eq!(flags >> 13, 4);
    snapshot["machine"]["flags"] = (flags & !(7 << 13) | 2 << 13).into();
    let snapshot: MachineSnapshot = serde_json::from_value(snapshot).unwrap();
    let error = snapshot.restore(Timestamp::ZERO).unwrap_err();
    assert_eq!(error, SnapshotError::Impossible);
    assert_eq!(error.to_string(), "the snapshot describes an impossible state");
}

/// Returns a snapshot of a request, with some fields changed.
fn changed(machine: &RetryMachine, now: Timestamp, fields: &[(&str, Value)]) -> MachineSnapshot {
    let mut snapshot = serde_json::to_value(MachineSnapshot::new(machine, now)).unwrap();
    for (field, value) in fields {
        snapshot["machine"][field] = value.clone();
    }
    serde_json::from_value(snapshot).unwrap()
}

#[test]
fn i2_a_snapshot_with_a_recovery_for_each_attempt_in_flight_is_refused() {
    let mut upstream = Upstream::new(Policy::flextell());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
    let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
    for (recoveries, verdict) in [(0, Ok(machine.clone())), (1, Err(SnapshotError::Impossible))] {
        assert_eq!(
            changed(&machine, Timestamp::ZERO, &[("recoveries", recoveries.into())]).restore(Timestamp::ZERO),
            verdict
        );
    }
}

#[test]
fn t7_an_impossible_state_is_refused() {
    let mut upstream = Upstream::new(Policy::flextell());
    let mut waiting = RetryMachine::new(Idempotency::Idempotent, 7);
    let mut done = waiting.clone();
    for (machine, status) in [(&mut waiting, 503), (&mut done, 200)] {
        let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
        let _ = machine.handle(Timestamp::ZERO, Event::Reply { attempt: 1, reply: Reply::new(status) }, &mut upstream);
        assert_eq!(changed(machine, Timestamp::ZERO, &[]).restore(Timestamp::ZERO).as_ref(), Ok(&*machine));
    }
    let mut leading = RetryMachine::new(Idempotency::Idempotent, 7);
    upstream.login.token_expires_in(Timestamp::ZERO, Duration::from_nanos(1));
    let _ = leading.handle(Timestamp::from_nanos(1), Event::Start, &mut upstream);
    let mut refused = RetryMachine::new(Idempotency::Idempotent, 8);
    upstream.login.token_replaced(Timestamp::from_nanos(1), None);
    let _ = refused.handle(Timestamp::from_nanos(1), Event::Start, &mut upstream);
    let _ =
        refused.handle(Timestamp::from_nanos(1), Event::Reply { attempt: 1, reply: Reply::new(401) }, &mut upstream);
    let impossible: [(&RetryMachine, &[(&str, Value)]); 5] = [
        // B5: no attempt that was throttled.
        (&leading, &[("throttled_retries", 1.into())]),
        (&refused, &[("throttled_retries", 1.into())]),
        (&waiting, &[("recoveries", 2.into())]),
        (&waiting, &[("first_since_opening", 2.into())]),
        (&done, &[("attempts", 0.into()), ("first_since_opening", 0.into())]),
    ];
    for (machine, fields) in impossible {
        let snapshot = changed(machine, Timestamp::ZERO, fields);
        assert_eq!(snapshot.restore(Timestamp::ZERO), Err(SnapshotError::Impossible), "{fields:?}");
    }
}

#[test]
fn i2_a_snapshot_with_more_attempts_than_any_policy_allows_is_refused() {
    let mut upstream = Upstream::new(Policy::flextell());
    let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
    let _ = machine.handle(Timestamp::ZERO, Event::Start, &mut upstream);
    // The first attempt, 65,535 retries of each count (B5), 255 recoveries, and one repetition (D13).
    for (attempts, is_possible) in [(131_327_u32, true), (131_328, false), (u32::MAX, false)] {
        let snapshot = changed(&machine, Timestamp::ZERO, &[("attempts", attempts.into())]);
        assert_eq!(snapshot.restore(Timestamp::ZERO).is_ok(), is_possible, "{attempts}");
    }
}

#[test]
fn t7_a_request_that_has_not_begun_equals_a_new_one_or_is_refused() {
    let now = Timestamp::from_millis(5_000);
    for idempotency in [Idempotency::Idempotent, Idempotency::NonIdempotent] {
        let machine = RetryMachine::new(idempotency, 7);
        assert_eq!(changed(&machine, now, &[]).restore(now), Ok(machine.clone()));
        // The flag 32 says that an attempt is under way.
        for (field, value) in [("flags", 32_u64), ("not_before", 1), ("recoveries", 1), ("first_since_opening", 1)] {
            let snapshot = changed(&machine, now, &[(field, value.into())]);
            assert_eq!(snapshot.restore(now), Err(SnapshotError::Impossible), "{field}");
        }
    }
}

#[test]
fn t7_a_request_that_was_stored_before_it_began_begins_when_it_is_restored() {
    let policy = Policy::flextell().into_builder().deadline(Some(Duration::from_secs(10))).build().unwrap();
    let mut upstream = Upstream::new(policy);
    let now = Timestamp::from_millis(5_000);
    // In a snapshot the present is at 2^62.
    for started in [Timestamp::from_nanos((1 << 62) + 1), Timestamp::MAX] {
        let mut machine = RetryMachine::new(Idempotency::Idempotent, 7);
        let _ = machine.handle(now, Event::Start, &mut upstream);
        let fields = [("started", serde_json::json!(started)), ("until", serde_json::json!(Timestamp::MAX))];
        let mut machine = changed(&machine, now, &fields).restore(now).unwrap();
        let _ = machine.handle(now, Event::Reply { attempt: 1, reply: Reply::new(503) }, &mut upstream);
        assert!(MachineSnapshot::new(&machine, now).restore(now).is_ok());
        let action = machine.handle(Timestamp::from_millis(15_000), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::Deadline), "{action}");
    }
}

/// Returns the first action of a new request on an upstream that was stored with this field.
fn first_action(field: &str, value: Value, now: Timestamp) -> Action {
    let breaker = BreakerPolicy { failure_threshold: 1, open_for: Duration::from_secs(10) };
    let policy = Policy::flextell().into_builder().breaker(Some(breaker)).build().unwrap();
    let mut upstream = Upstream::new(policy.clone());
    upstream.login.token_expires_in(Timestamp::ZERO, Duration::from_nanos(1));
    let _ = RetryMachine::new(Idempotency::Idempotent, 7).handle(Timestamp::from_nanos(1), Event::Start, &mut upstream);
    let mut snapshot = serde_json::to_value(UpstreamSnapshot::new(&upstream, Timestamp::from_nanos(1))).unwrap();
    *snapshot.pointer_mut(field).unwrap() = value;
    let snapshot: UpstreamSnapshot = serde_json::from_value(snapshot).unwrap();
    let mut upstream = snapshot.restore(policy, Timestamp::from_nanos(1)).unwrap();
    RetryMachine::new(Idempotency::Idempotent, 8).handle(now, Event::Start, &mut upstream)
}

#[test]
fn i9_a_stored_budget_is_clamped_to_the_capacity() {
    let now = Timestamp::ZERO;
    let snapshot = UpstreamSnapshot::new(&Upstream::new(Policy::flextell()), now);
    let budget =
        BudgetPolicy { capacity: 5, retry_cost: 5, throttle_cost: 0, success_refund: 0, ..BudgetPolicy::DEFAULT };
    let policy = Policy::flextell().into_builder().budget(Some(budget)).build().unwrap();
    let mut upstream = snapshot.restore(policy, now).unwrap();
    let granted = [7, 8].map(|seed| {
        let mut machine = RetryMachine::new(Idempotency::Idempotent, seed);
        let _ = machine.handle(now, Event::Start, &mut upstream);
        !machine.handle(now, Event::Reply { attempt: 1, reply: Reply::new(503) }, &mut upstream).is_terminal()
    });
    assert_eq!(granted, [true, false]);
}

#[test]
fn k5_a_stored_lease_lasts_no_longer_than_the_policys_timeout() {
    let end = Timestamp::from_nanos(30_000_000_001);
    let action = first_action("/login/login/lease_end", u64::MAX.into(), Timestamp::from_nanos(2));
    assert!(matches!(action, Action::AwaitRefresh { until, .. } if until == end), "{action:?}");
    let action = first_action("/login/login/lease_end", u64::MAX.into(), end);
    assert!(matches!(action, Action::RefreshToken { .. }), "{action:?}");
}

#[test]
fn f6_a_stored_breaker_is_open_for_at_most_one_and_a_half_times_the_policys_time() {
    let open = || serde_json::json!({"Open": {"until": u64::MAX}});
    let action = first_action("/service/breaker/state", open(), Timestamp::from_nanos(15_000_000_000));
    assert!(matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::BreakerOpen), "{action:?}");
    let action = first_action("/service/breaker/state", open(), Timestamp::from_nanos(15_000_000_001));
    assert!(!action.is_terminal(), "{action:?}");
}

#[test]
fn s1_a_stored_gate_that_nobody_asked_to_close_is_open() {
    // No server has asked to wait.
    let action = first_action("/gate/gate/opens_at", u64::MAX.into(), Timestamp::from_nanos(2));
    assert!(!matches!(action, Action::Wait { .. }), "{action:?}");
}

#[test]
fn t7_s7_a_queue_goes_on_under_a_clock_that_is_younger_than_its_opening() {
    let policy = || Policy::flextell().into_builder().jitter(Jitter::None).build().unwrap();
    let mut upstream = Upstream::new(policy());
    let mut machines: Vec<_> = (0..4).map(|seed| RetryMachine::new(Idempotency::Idempotent, seed)).collect();
    let at = Timestamp::from_millis;
    let _ = machines[0].handle(at(0), Event::Start, &mut upstream);
    let reply = upstream.policy().read(429, [("Retry-After", "10")]);
    let _ = machines[0].handle(at(0), Event::Reply { attempt: 1, reply }, &mut upstream);
    for machine in &mut machines[1..] {
        let _ = machine.handle(at(0), Event::Start, &mut upstream);
    }
    // The guess of 2.5 s becomes 0.625 s: the third in the queue passes at 11.875 s.
    let action = machines[3].handle(at(10_000), Event::Tick, &mut upstream);
    assert!(matches!(action, Action::Wait { until, .. } if until == at(11_875)), "{action}");

    let saved = (UpstreamSnapshot::new(&upstream, at(11_000)), MachineSnapshot::new(&machines[3], at(11_000)));
    for young in [100, 500, 50_000] {
        let mut upstream = saved.0.restore(policy(), at(young)).unwrap();
        let mut machine = saved.1.restore(at(young)).unwrap();
        assert_eq!(upstream.gate.state(at(young)).next_free, at(young + 1_500), "{young}");
        let action = machine.handle(at(young + 875), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Send { attempt: 1, .. }), "{young}: {action}");
    }
}

#[test]
fn k8_a_follower_waits_for_a_lease_stored_before_or_after_it() {
    let policy = Policy::flextell();
    let mut upstream = Upstream::new(policy.clone());
    upstream.login.token_expires_in(Timestamp::ZERO, Duration::from_nanos(1));
    let now = Timestamp::from_nanos(1);
    let [mut leader, mut follower] = [7, 8].map(|seed| RetryMachine::new(Idempotency::Idempotent, seed));
    assert!(matches!(leader.handle(now, Event::Start, &mut upstream), Action::RefreshToken { .. }));
    assert!(matches!(follower.handle(now, Event::Start, &mut upstream), Action::AwaitRefresh { .. }));
    let origin = Timestamp::from_millis(1 << 30);
    for stored_at in [Timestamp::from_millis(0), Timestamp::from_millis(10_000)] {
        let mut upstream = UpstreamSnapshot::new(&upstream, stored_at).restore(policy.clone(), origin).unwrap();
        let mut follower = MachineSnapshot::new(&follower, Timestamp::from_millis(5_000)).restore(origin).unwrap();
        for _ in 0..3 {
            let now = follower.next_tick(upstream.policy()).unwrap();
            match follower.handle(now, Event::Tick, &mut upstream) {
                Action::AwaitRefresh { until, .. } => assert!(until > now),
                action => {
                    assert!(matches!(action, Action::RefreshToken { .. }), "{action}");
                    break;
                }
            }
        }
    }
}

/// Replaces each number of a snapshot with hostile ones, one at a time and two at a time.
#[test]
fn i11_a_hostile_snapshot_is_refused_or_follows_the_rules() {
    let (upstream, machine) = saved();
    let now = Timestamp::from_millis(1_100);
    let upstream = serde_json::to_value(UpstreamSnapshot::new(&upstream, now)).unwrap();
    let machine = serde_json::to_value(MachineSnapshot::new(&machine, now)).unwrap();
    let policy = || Policy::flextell().into_builder().breaker(Some(BreakerPolicy::DEFAULT)).build().unwrap();
    let (mut refused, mut restored) = (0, 0);
    let hostile = [0, 1, 2, 255, 65_535, u32::MAX.into(), 1 << 62, u64::MAX];
    let states = ["Ready", "InFlight", "Leading", "Done"];
    let mut machines = Vec::new();
    for field in machine["machine"].as_object().unwrap().keys() {
        for value in hostile {
            for phase in states {
                let mut other = machine.clone();
                other["machine"]["phase"] = phase.into();
                if field != "phase" {
                    other["machine"][field] = value.into();
                }
                machines.push(other);
            }
        }
    }
    for machine in machines {
        let Ok(snapshot) = serde_json::from_value::<MachineSnapshot>(machine) else {
            refused += 1;
            continue;
        };
        let Ok(mut machine) = snapshot.restore(now) else {
            refused += 1;
            continue;
        };
        for value in hostile {
            let mut other = upstream.clone();
            other["service"]["budget"]["balance"] = value.into();
            other["service"]["breaker"]["newest"] = value.into();
            other["login"]["login"]["lease"] = value.into();
            let Ok(snapshot) = serde_json::from_value::<UpstreamSnapshot>(other) else { continue };
            let mut upstream = snapshot.restore(policy(), now).unwrap();
            assert_follows_the_rules(&mut machine, &mut upstream);
            restored += 1;
        }
    }
    assert!(refused > 50 && restored > 500, "{refused} refused, {restored} restored");
}

/// I3, I7: asserts that the request ends, and repeats its last action.
fn assert_follows_the_rules(machine: &mut RetryMachine, upstream: &mut Upstream) {
    let mut now = Timestamp::from_millis(1_100);
    let mut last: Option<Action> = None;
    for n in 0..60 {
        if n % 3 == 2 {
            let unavailable = RefreshOutcome::Unavailable { retry_after: None };
            let _ = upstream.login.report_refresh(now, machine.lease().unwrap_or_default(), unavailable);
        }
        let events = [Event::Tick, Event::Reply { attempt: machine.attempts(), reply: Reply::new(503) }, Event::Tick];
        let action = machine.handle(now, events[n % 3], &mut *upstream);
        if let Some(last) = last.filter(Action::is_terminal) {
            assert_eq!(last, action);
        }
        now = machine.next_tick(upstream.policy()).unwrap_or(now).max(now);
        last = Some(action);
    }
    assert!(last.is_some_and(|last| last.is_terminal()), "{last:?}");
}
