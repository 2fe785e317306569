//! Stored forms that nobody stored: each is refused with a typed error, or restored to a state that behaves (T7, I11).

mod change;
mod session;

use arbitrary::{Result, Unstructured};
use retry_machine::snapshot::{
    GateSnapshot, LoginSnapshot, MachineSnapshot, ServiceSnapshot, SnapshotError, UpstreamSnapshot,
};
use retry_machine::{Idempotency, Policy, RetryMachine, Timestamp, Upstream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::common::settings::Settings;
use super::events::script::limits;
use super::events::settings::settings;

use self::session::Session;

/// Checks a stored form. `data` has a line for a request, a line for the upstream, and then the events. Or it chooses events,
/// changes of their stored form, and the events after that.
pub fn check(data: &[u8]) {
    let _ = if data.first() == Some(&b'{') { written(data) } else { changed(data) };
}

fn written(data: &[u8]) -> Result<()> {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (machine, upstream) = (read(line()), read(line()));
    let mut script = Unstructured::new(line());
    let settings = settings(&mut script)?;
    let now = session::instant(&mut script)?;
    restored(&[machine], upstream, settings, now).run(&mut script)
}

fn changed(data: &[u8]) -> Result<()> {
    let mut script = Unstructured::new(data);
    let first = settings(&mut script)?;
    let idempotency = if script.arbitrary()? { Idempotency::Idempotent } else { Idempotency::NonIdempotent };
    let mut machines = Vec::new();
    for (idempotency, seed) in [(Idempotency::Idempotent, 7), (idempotency, 8)] {
        let limits = limits(&mut script)?;
        machines.push((RetryMachine::new(idempotency, seed).with_limits(limits), idempotency, limits));
    }
    let mut session = Session::new(Upstream::new(first.policy()), first.clone(), machines);
    session.give_others(1, (script.ratio(1, 4)?, script.ratio(1, 4)?));
    for _ in 0..script.int_in_range(0..=12)? {
        session.step(&mut script)?;
    }
    let (machines, upstream) = session.stored();
    let upstream = change(&mut script, &upstream)?;
    let machines: Result<Vec<_>> = machines.iter().map(|machine| change(&mut script, machine)).collect();
    let second = if script.arbitrary()? { first } else { settings(&mut script)? };
    let now = if script.arbitrary()? { session.now() } else { session::instant(&mut script)? };
    restored(&machines?, upstream, second, now).run(&mut script)
}

/// Changes the written form, and returns it if it can still be read.
fn change<T: Serialize + DeserializeOwned>(script: &mut Unstructured<'_>, stored: &T) -> Result<Option<T>> {
    let mut written = to_value(stored);
    for _ in 0..script.int_in_range(0..=3)? {
        change::one(script, &mut written)?;
    }
    Ok(serde_json::from_value(written).ok())
}

/// Reads a stored form, and asserts that it survives being written (T7).
fn read<T: Serialize + DeserializeOwned + PartialEq>(text: &[u8]) -> Option<T> {
    let stored: T = serde_json::from_slice(text).ok()?;
    assert!(serde_json::from_value(to_value(&stored)).is_ok_and(|again: T| again == stored), "T7");
    Some(stored)
}

/// Restores a session. A state that cannot be read or is refused begins anew.
fn restored(
    machines: &[Option<MachineSnapshot>],
    upstream: Option<UpstreamSnapshot>,
    settings: Settings,
    now: Timestamp,
) -> Session {
    let policy = settings.policy();
    let upstream = upstream.and_then(|stored| verdict(&stored, stored.restore(policy.clone(), now)));
    let machine = |stored: &Option<MachineSnapshot>| {
        let machine = stored.as_ref().and_then(|stored| verdict(stored, stored.restore(now)));
        machine.unwrap_or_else(|| (RetryMachine::new(Idempotency::Idempotent, 7), Value::Null))
    };
    let machines = machines.iter().map(machine).collect();
    if let Some((upstream, written)) = &upstream {
        parts_agree(upstream, written, &policy, now);
    }
    let upstream = upstream.map_or_else(|| Upstream::new(policy), |(upstream, _)| upstream);
    Session::restored(upstream, settings, machines, now)
}

/// T7, S8: each part of a stored upstream is restored alone as it is with the others.
fn parts_agree(upstream: &Upstream, written: &Value, policy: &Policy, now: Timestamp) {
    fn part<T: DeserializeOwned>(written: &Value) -> T {
        serde_json::from_value(written.clone()).expect("a part of what could be read")
    }
    let service: ServiceSnapshot = part(&written["service"]);
    let login: LoginSnapshot = part(&written["login"]);
    let gate: GateSnapshot = part(&written["gate"]);
    assert_eq!(service.restore(policy.clone(), now).as_ref(), Ok(&upstream.service), "T7");
    assert_eq!(login.restore(policy, now).as_ref(), Ok(&upstream.login), "T7");
    assert_eq!(gate.restore(policy, now).as_ref(), Ok(&upstream.gate), "T7");
}

/// T7: refused for a reason, or restored; with how it is written.
fn verdict<T>(stored: &impl Serialize, restored: std::result::Result<T, SnapshotError>) -> Option<(T, Value)> {
    let written = to_value(stored);
    // An upstream has three parts, each with a version.
    let parts = [&written, &written["service"], &written["login"], &written["gate"]];
    let versions: Vec<_> = parts.into_iter().filter_map(|part| part["version"].as_u64()).collect();
    let is_refused = versions.iter().any(|version| *version != 1);
    assert_eq!(is_refused, matches!(restored, Err(SnapshotError::Version { .. })), "T7");
    match restored {
        Ok(state) => return Some((state, written)),
        Err(SnapshotError::Version { version }) => assert!(versions.contains(&u64::from(version)), "T7"),
        Err(error) => assert_eq!(error, SnapshotError::Impossible, "T7"),
    }
    None
}

fn to_value(stored: &impl Serialize) -> Value {
    serde_json::to_value(stored).expect("numbers, names, lists and objects")
}
