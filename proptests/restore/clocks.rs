//! A snapshot under any clock: T7.

use std::time::Duration;

use retry_machine::snapshot::{
    GateSnapshot, LoginSnapshot, MachineSnapshot, ServiceSnapshot, SnapshotError, UpstreamSnapshot,
};
use retry_machine::{
    Action, BreakerPolicy, Event, FailureKind, Gate, GateReason, Idempotency, Jitter, Login, Policy, PolicyBuilder,
    RefreshOutcome, Reply, RetryMachine, Scope, Service, Timestamp, Upstream, YoungToken,
};
use serde_json::Value;

/// The clocks of a process that has run for an hour, and of others: one that has just begun, one that is younger, one that is
/// older.
const HOUR: u64 = 3_600_000;
const CLOCKS: [u64; 5] = [0, 5_000, HOUR, 2 * HOUR, 1 << 42];

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn exact() -> PolicyBuilder {
    Policy::flextell().into_builder().jitter(Jitter::None)
}

fn policy() -> Policy {
    exact().build().unwrap()
}

fn start(upstream: &mut Upstream, seed: u64, now: u64) -> (RetryMachine, Action) {
    let mut machine = RetryMachine::new(Idempotency::Idempotent, seed);
    let action = machine.handle(at(now), Event::Start, upstream);
    (machine, action)
}

fn reply(machine: &mut RetryMachine, upstream: &mut Upstream, now: u64, reply: Reply) -> Action {
    machine.handle(at(now), Event::Reply { attempt: machine.attempts(), reply }, upstream)
}

/// Returns an upstream with a request that refreshes the token from an hour on, until half a minute later.
fn leading() -> (Upstream, RetryMachine) {
    let mut upstream = Upstream::new(policy());
    let (mut machine, _) = start(&mut upstream, 7, HOUR);
    let action = reply(&mut machine, &mut upstream, HOUR, Reply::new(401));
    assert!(matches!(action, Action::RefreshToken { .. }), "{action}");
    (upstream, machine)
}

#[test]
fn t7_an_upstream_that_nobody_has_used_restores_under_any_clock() {
    for (saved, restored) in CLOCKS.into_iter().flat_map(|saved| CLOCKS.map(|restored| (saved, restored))) {
        let snapshot = UpstreamSnapshot::new(&Upstream::new(policy()), at(saved));
        let mut upstream = snapshot.restore(policy(), at(restored)).unwrap();
        assert_eq!(upstream.service.budget_balance(at(restored)), Some(25));
        assert_eq!(upstream.gate.state(at(restored)).closed, None, "{saved} to {restored}");
        let (_, action) = start(&mut upstream, 7, restored);
        assert!(matches!(action, Action::Send { attempt: 1, .. }), "{saved} to {restored}: {action}");
    }
}

#[test]
fn t7_a_request_that_waits_restores_under_any_clock() {
    for restored in CLOCKS {
        let mut upstream = Upstream::new(policy());
        let (mut machine, _) = start(&mut upstream, 7, HOUR - 60_000);
        let unavailable = upstream.policy().read(503, [("Retry-After", "9")]);
        let action = reply(&mut machine, &mut upstream, HOUR, unavailable);
        assert!(matches!(action, Action::Wait { until, .. } if until == at(HOUR + 9_000)), "{action}");
        let saved =
            (UpstreamSnapshot::new(&upstream, at(HOUR + 2_000)), MachineSnapshot::new(&machine, at(HOUR + 2_000)));
        let mut upstream = saved.0.restore(policy(), at(restored)).unwrap();
        let mut machine = saved.1.restore(at(restored)).unwrap();
        assert_eq!(machine.next_tick(upstream.policy()), Some(at(restored + 7_000)));
        let action = machine.handle(at(restored + 6_999), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Wait { until, .. } if until == at(restored + 7_000)), "L1: {action}");
        let action = machine.handle(at(restored + 7_000), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Send { attempt: 2, .. }), "{action}");
    }
}

#[test]
fn t7_an_age_that_the_clock_cannot_express_ends_at_its_origin() {
    // The request has run for a minute, and the clock is five seconds old.
    let mut upstream = Upstream::new(policy());
    let (machine, _) = start(&mut upstream, 7, HOUR);
    let snapshot = MachineSnapshot::new(&machine, at(HOUR + 60_000));
    for (clock, elapsed) in [(5_000, 5_000), (60_000, 60_000), (2 * HOUR, 60_000)] {
        let mut machine = snapshot.restore(at(clock)).unwrap();
        let mut upstream = UpstreamSnapshot::new(&upstream, at(HOUR + 60_000)).restore(policy(), at(clock)).unwrap();
        let Action::Fail(failure) = reply(&mut machine, &mut upstream, clock, Reply::new(404)) else { panic!("404") };
        assert_eq!(failure.elapsed(), Duration::from_millis(elapsed), "at {clock}");
    }
}

#[test]
fn t7_a_failure_keeps_its_times_apart_as_far_as_the_clock_can_express_them() {
    let mut upstream = Upstream::new(policy());
    let (mut machine, _) = start(&mut upstream, 7, HOUR);
    let not_found = upstream.policy().read(404, [("Retry-After", "60")]);
    let _ = reply(&mut machine, &mut upstream, HOUR + 3_000, not_found);
    let snapshot = MachineSnapshot::new(&machine, at(HOUR + 5_000));
    let mut machine = snapshot.restore(at(100_000)).unwrap();
    let Action::Fail(failure) = machine.handle(at(100_000), Event::Tick, &mut upstream) else { panic!("404") };
    assert_eq!((failure.elapsed(), failure.not_before()), (secs(3), Some(at(158_000))));
    // Two seconds old: the failure counts as the origin.
    let mut machine = snapshot.restore(at(1_000)).unwrap();
    let Action::Fail(failure) = machine.handle(at(1_000), Event::Tick, &mut upstream) else { panic!("404") };
    assert_eq!((failure.kind(), failure.not_before()), (FailureKind::NotFound, Some(at(59_000))));
}

#[test]
fn t7_after_a_reboot_all_goes_on() {
    // A device has a closed gate, a queue behind it, an open lease and a request that follows, and reboots.
    let mut upstream = Upstream::new(policy());
    let (mut held, _) = start(&mut upstream, 1, HOUR);
    let (mut leader, _) = start(&mut upstream, 2, HOUR);
    let (mut follower, _) = start(&mut upstream, 3, HOUR);
    let throttled = upstream.policy().read(429, [("Retry-After", "20")]);
    let _ = reply(&mut held, &mut upstream, HOUR, throttled);
    let _ = reply(&mut leader, &mut upstream, HOUR, Reply::new(401));
    let _ = reply(&mut follower, &mut upstream, HOUR, Reply::new(401));
    let saved_at = at(HOUR + 4_000);
    let saved = UpstreamSnapshot::new(&upstream, saved_at);
    let requests = [&held, &leader, &follower].map(|machine| MachineSnapshot::new(machine, saved_at));
    for boot in [0, 30, 700] {
        let mut upstream = saved.restore(policy(), at(boot)).unwrap();
        let [mut held, mut leader, mut follower] = requests.clone().map(|stored| stored.restore(at(boot)).unwrap());
        assert_eq!(upstream.gate.state(at(boot)).closed, Some((at(boot + 16_000), GateReason::Throttle)));
        assert_eq!(upstream.login.state(at(boot)).lease, Some((1, at(boot + 26_000))));
        let refreshed = RefreshOutcome::Refreshed { expires_in: None };
        assert!(upstream.login.report_refresh(at(boot + 10), 1, refreshed));
        for machine in [&mut leader, &mut follower] {
            let action = machine.handle(at(boot + 20), Event::Tick, &mut upstream);
            assert!(matches!(action, Action::Wait { until, .. } if until >= at(boot + 16_000)), "{action}");
        }
        let action = held.handle(at(boot + 16_000), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Send { attempt: 2, generation: Some(1), .. }), "{action}");
    }
}

#[test]
fn t7_s8_each_part_has_a_snapshot_of_its_own() {
    let (mut upstream, mut machine) = leading();
    upstream.gate.close(at(HOUR), at(HOUR + 60_000));
    let now = at(HOUR + 1_000);
    let written = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let service = serde_json::to_string(&ServiceSnapshot::new(&upstream.service, now)).unwrap();
    let login = serde_json::to_string(&LoginSnapshot::new(&upstream.login, now)).unwrap();
    let gate = serde_json::to_string(&GateSnapshot::new(&upstream.gate, now)).unwrap();
    // An upstream's snapshot is the three of them.
    let whole = serde_json::to_value(UpstreamSnapshot::new(&upstream, now)).unwrap();
    let parts = [("service", &service), ("login", &login), ("gate", &gate)];
    for (part, text) in parts {
        assert_eq!(whole[part], written(text), "{part}");
        assert_eq!(whole[part]["version"], 1);
    }
    let clock = at(5_000);
    let service: ServiceSnapshot = serde_json::from_str(&service).unwrap();
    let login: LoginSnapshot = serde_json::from_str(&login).unwrap();
    let gate: GateSnapshot = serde_json::from_str(&gate).unwrap();
    let mut service: Service = service.restore(policy(), clock).unwrap();
    let mut login: Login = login.restore(&policy(), clock).unwrap();
    let mut gate: Gate = gate.restore(&policy(), clock).unwrap();
    machine = MachineSnapshot::new(&machine, now).restore(clock).unwrap();
    assert_eq!(login.state(clock).lease, Some((1, at(34_000))));
    assert_eq!(gate.state(clock).closed, Some((at(64_000), GateReason::Operator)));
    assert!(login.report_refresh(clock, 1, RefreshOutcome::Refreshed { expires_in: None }));
    let scope = Scope { service: &mut service, login: &mut login, gate: &mut gate };
    let action = machine.handle(clock, Event::Tick, scope);
    assert!(matches!(action, Action::Wait { until, .. } if until == at(64_000)), "{action}");
}

#[test]
fn t7_another_version_of_a_part_is_refused() {
    let upstream = Upstream::new(policy());
    let whole = serde_json::to_value(UpstreamSnapshot::new(&upstream, at(0))).unwrap();
    for version in [0, 2, u32::MAX] {
        let part = |name: &str| {
            let mut part = whole[name].clone();
            part["version"] = version.into();
            part
        };
        let refused = SnapshotError::Version { version };
        let service: ServiceSnapshot = serde_json::from_value(part("service")).unwrap();
        let login: LoginSnapshot = serde_json::from_value(part("login")).unwrap();
        let gate: GateSnapshot = serde_json::from_value(part("gate")).unwrap();
        assert_eq!(service.restore(policy(), at(0)), Err(refused));
        assert_eq!(login.restore(&policy(), at(0)), Err(refused));
        assert_eq!(gate.restore(&policy(), at(0)), Err(refused));
    }
}

#[test]
fn t7_the_breaker_and_the_budget_keep_what_is_left() {
    let breaker = BreakerPolicy { failure_threshold: 1, open_for: Duration::ZERO };
    let policy = || exact().breaker(Some(breaker)).build().unwrap();
    let mut upstream = Upstream::new(policy());
    let (mut machine, _) = start(&mut upstream, 7, HOUR);
    let _ = reply(&mut machine, &mut upstream, HOUR, Reply::new(503));
    let balance = upstream.service.budget_balance(at(HOUR + 20_000)).unwrap();
    let snapshot = ServiceSnapshot::new(&upstream.service, at(HOUR + 20_000));
    for clock in [60_000, HOUR] {
        let service = snapshot.restore(policy(), at(clock)).unwrap();
        assert_eq!(service.budget_balance(at(clock)), Some(balance));
        // C4: the next minute is over forty seconds later.
        assert_eq!(service.budget_balance(at(clock + 39_999)), Some(balance));
        assert_eq!(service.budget_balance(at(clock + 40_000)), Some(balance + 1));
    }
}

/// Returns the login as it is restored under another clock.
fn login_under(login: &Login, saved: u64, clock: u64) -> Login {
    LoginSnapshot::new(login, at(saved)).restore(&policy(), at(clock)).unwrap()
}

#[test]
fn t7_k7_an_expiry_keeps_what_is_left() {
    let mut login = Login::new();
    login.token_expires_in(at(HOUR), secs(100));
    for clock in CLOCKS {
        let restored = login_under(&login, HOUR + 30_000, clock);
        assert_eq!(restored.state(at(clock)).expires, Some(at(clock + 70_000)));
        let mut upstream = Upstream { login: restored, ..Upstream::new(policy()) };
        let (_, action) = start(&mut upstream, 7, clock + 40_000);
        assert!(matches!(action, Action::Send { .. }), "{action}");
        let (_, action) = start(&mut upstream, 8, clock + 40_001);
        assert!(matches!(action, Action::RefreshToken { .. }), "{action}");
        // It has expired while it was stored.
        let mut upstream = Upstream { login: login_under(&login, HOUR + 200_000, clock), ..Upstream::new(policy()) };
        let (_, action) = start(&mut upstream, 9, clock);
        assert!(matches!(action, Action::RefreshToken { .. }), "{action}");
    }
}

#[test]
fn t7_k5_a_lease_keeps_what_is_left() {
    let (upstream, machine) = leading();
    for clock in CLOCKS {
        let login = login_under(&upstream.login, HOUR + 10_000, clock);
        assert_eq!(login.state(at(clock)).lease, Some((1, at(clock + 20_000))));
        let mut machine = MachineSnapshot::new(&machine, at(HOUR + 10_000)).restore(at(clock)).unwrap();
        let mut upstream = Upstream { login, ..Upstream::new(policy()) };
        assert_eq!(machine.next_tick(upstream.policy()), Some(at(clock + 20_000)));
        let action = machine.handle(at(clock + 20_000), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::Fail(failure) if failure.kind() == FailureKind::TokenUnavailable), "{action}");
        // A lease that is over stays so, and its late outcome is as welcome as before.
        let mut login = login_under(&upstream.login, clock + 100_000, 3);
        assert_eq!(login.state(at(3)).lease, None);
        assert!(login.report_refresh(at(3), 1, RefreshOutcome::Refreshed { expires_in: None }));
    }
}

#[test]
fn t7_k6_k7_the_throttle_and_the_rest_after_a_vain_refresh_keep_what_is_left() {
    let mut upstream = Upstream::new(policy());
    upstream.login.token_expires_in(at(HOUR), secs(100));
    let (_, action) = start(&mut upstream, 7, HOUR + 80_000);
    assert!(matches!(action, Action::RefreshToken { lease: 1, .. }), "{action}");
    let unavailable = RefreshOutcome::Unavailable { retry_after: Some(secs(6)) };
    assert!(upstream.login.report_refresh(at(HOUR + 80_000), 1, unavailable));
    for clock in CLOCKS {
        // 5 s of the throttle are left, and 9 s of the rest (K7).
        let login = login_under(&upstream.login, HOUR + 81_000, clock);
        let fresh = || Upstream { login: login.clone(), ..Upstream::new(policy()) };
        let (_, action) = start(&mut fresh(), 8, clock + 8_999);
        assert!(matches!(action, Action::Send { .. }), "{action}");
        let (_, action) = start(&mut fresh(), 8, clock + 9_000);
        assert!(matches!(action, Action::RefreshToken { .. }), "{action}");
        let mut upstream = fresh();
        let (mut machine, _) = start(&mut upstream, 9, clock);
        let Action::Fail(failure) = reply(&mut machine, &mut upstream, clock, Reply::new(401)) else { panic!("401") };
        assert_eq!(failure.not_before(), Some(at(clock + 5_000)));
    }
}

#[test]
fn t7_k10_the_age_of_a_token_is_kept_as_far_as_the_clock_can_express_it() {
    let policy = || exact().young_token(YoungToken::Surface).build().unwrap();
    let mut login = Login::new();
    login.token_replaced(at(HOUR), None);
    let is_young = |clock: u64, later: u64| {
        let login = LoginSnapshot::new(&login, at(HOUR + 20_000)).restore(&policy(), at(clock)).unwrap();
        let mut upstream = Upstream { login, ..Upstream::new(policy()) };
        let (mut machine, _) = start(&mut upstream, 7, clock + later);
        reply(&mut machine, &mut upstream, clock + later, Reply::new(401)).is_terminal()
    };
    for clock in [HOUR, 2 * HOUR, 20_000] {
        assert!(is_young(clock, 9_999) && !is_young(clock, 10_000), "at {clock}");
    }
    // Five seconds of its age are all that this clock can say.
    assert!(is_young(5_000, 24_999) && !is_young(5_000, 25_000));
}

#[test]
fn t7_a_longer_wait_than_the_policy_allows_is_clamped() {
    let mut gate = Gate::new();
    gate.close(at(0), at(90_000));
    let mut upstream = Upstream::new(policy());
    let (mut machine, _) = start(&mut upstream, 7, 0);
    let throttled = upstream.policy().read(429, [("Retry-After", "200")]);
    let _ = reply(&mut machine, &mut upstream, 0, throttled);
    let short = exact().max_server_wait(secs(10)).refresh_timeout(secs(2)).build().unwrap();
    let restored = GateSnapshot::new(&upstream.gate, at(0)).restore(&short, at(77)).unwrap();
    assert_eq!(restored.state(at(77)).closed, Some((at(10_077), GateReason::Throttle)));
    // C12: an operator has no such limit.
    let restored = GateSnapshot::new(&gate, at(0)).restore(&short, at(77)).unwrap();
    assert_eq!(restored.state(at(77)).closed, Some((at(90_077), GateReason::Operator)));
    let (upstream, _) = leading();
    let restored = LoginSnapshot::new(&upstream.login, at(HOUR)).restore(&short, at(77)).unwrap();
    assert_eq!(restored.state(at(77)).lease, Some((1, at(2_077))));
}

#[test]
fn t7_k5_a_lease_that_was_not_given_is_neither_settled_nor_has_an_outcome() {
    for field in ["settled", "outcome_of"] {
        let (upstream, _) = leading();
        let mut stored = serde_json::to_value(LoginSnapshot::new(&upstream.login, at(HOUR))).unwrap();
        stored["login"][field] = 200.into();
        let stored: LoginSnapshot = serde_json::from_value(stored).unwrap();
        let mut upstream = Upstream { login: stored.restore(&policy(), at(0)).unwrap(), ..Upstream::new(policy()) };
        // The lease runs out, the next request leads, and its outcome counts.
        let (mut machine, _) = start(&mut upstream, 8, 30_000);
        let action = reply(&mut machine, &mut upstream, 30_000, Reply::new(401));
        assert!(matches!(action, Action::RefreshToken { lease: 2, .. }), "{field}: {action}");
        let action = machine.handle(at(30_010), Event::Tick, &mut upstream);
        assert!(matches!(action, Action::InFlight { .. }), "{field}: {action}");
        assert!(upstream.login.report_refresh(at(30_020), 2, RefreshOutcome::Refreshed { expires_in: None }));
    }
}

/// Replaces each number and each flag of a login's stored form with hostile ones. Any form that can be read does no harm: requests end,
/// and no second lease is open (I6, I7).
#[test]
fn t7_i11_hostile_forms_of_a_login_do_no_harm() {
    let (mut upstream, _) = leading();
    upstream.login.token_expires_in(at(HOUR), secs(100));
    let stored = serde_json::to_value(LoginSnapshot::new(&upstream.login, at(HOUR))).unwrap();
    let values: Vec<Value> = [0, 1, 2, 255, u64::from(u32::MAX), 1 << 62, u64::MAX].map(Value::from).into();
    let values =
        [values, vec![true.into(), false.into(), Value::Null, "Abandoned".into(), "unavailable".into()]].concat();
    let mut fields: Vec<String> =
        stored["login"].as_object().unwrap().keys().map(|key| format!("/login/{key}")).collect();
    fields.extend(["/login/expiry/expires", "/login/expiry/lifetime"].map(String::from));
    fields.extend(["/login/throttle/told_at", "/login/throttle/until"].map(String::from));
    let mut read = 0;
    for (field, other) in fields.iter().flat_map(|field| fields.iter().map(move |other| (field, other))) {
        for value in &values {
            let mut stored = stored.clone();
            for field in [field, other] {
                if let Some(place) = stored.pointer_mut(field) {
                    *place = value.clone();
                }
            }
            let Ok(snapshot) = serde_json::from_value::<LoginSnapshot>(stored) else { continue };
            read += 1;
            for clock in [0, HOUR, 1 << 43] {
                let login = snapshot.restore(&policy(), at(clock)).unwrap();
                let mut upstream = Upstream { login, ..Upstream::new(policy()) };
                two_requests_end(&mut upstream, clock);
            }
        }
    }
    assert!(read > 500, "{read}");
}

/// Lets two requests get a 401 each, and report nothing. Both end, and a lease is given only when none is open.
fn two_requests_end(upstream: &mut Upstream, clock: u64) {
    let mut machines = [7, 8].map(|seed| start(upstream, seed, clock));
    let mut now = at(clock);
    for n in 0.. {
        assert!(n < 60, "I7: {machines:?}");
        let open = machines.iter_mut().find(|(_, action)| !action.is_terminal());
        let Some((machine, action)) = open else { return };
        let attempt = machine.attempts();
        let lease = upstream.login.state(now).lease;
        *action = match machine.in_flight() {
            Some(_) => machine.handle(now, Event::Reply { attempt, reply: Reply::new(401) }, &mut *upstream),
            None => {
                now = machine.next_tick(upstream.policy()).unwrap_or(now).max(now);
                machine.handle(now, Event::Tick, &mut *upstream)
            }
        };
        let is_second = matches!(action, Action::RefreshToken { .. }) && lease.is_some_and(|(_, end)| now < end);
        assert!(!is_second, "I6: {action}");
    }
}
