//! Work that no other crate does: a token refresh, the gate, and many requests to one service.

use std::hint::black_box;
use std::time::Duration;

use retry_machine::{Action, Event, Idempotency, Reply, RetryMachine, Timestamp, Upstream, WaitReason};

use crate::measure::Contender;

/// The header of a 401 for an expired token.
const CHALLENGE: [(&str, &str); 1] = [("www-authenticate", "Bearer error=\"invalid_token\"")];

/// The time between two requests: the policy takes a 401 for a token of less than 30 s as final.
const APART: Duration = Duration::from_secs(60);

/// Returns the work of a 401 with its refresh, and of the admission at a closed gate.
pub fn recovery() -> Vec<Contender> {
    let mut upstream = workloads::upstream();
    let mut now = Timestamp::ZERO;
    vec![
        Contender::new(
            "a 401 with its refresh",
            "start, 401, refresh, its report, the second attempt, 200",
            move || {
                now = now.saturating_add(APART);
                refresh(now, &mut upstream)
            },
            |action| matches!(action, Action::Done { status: 200, .. }) && action.attempt() == 2,
        ),
        Contender::on_fresh(
            "admission at a closed gate",
            "a request starts and takes its place in the queue",
            closed,
            |upstream| {
                let mut machine = RetryMachine::new(Idempotency::Idempotent, black_box(8));
                machine.handle(Timestamp::from_millis(90), Event::Start, upstream)
            },
            |action| matches!(action, Action::Wait { reason: WaitReason::Gate, .. }),
        ),
    ]
}

fn refresh(now: Timestamp, upstream: &mut Upstream) -> Action {
    use retry_machine::RefreshOutcome::Refreshed;
    let mut machine = RetryMachine::new(Idempotency::Idempotent, black_box(7));
    let _ = black_box(machine.handle(now, Event::Start, &mut *upstream));
    let reply = upstream.policy().read(401, black_box(CHALLENGE));
    let action = machine.handle(now, Event::Reply { attempt: 1, reply }, &mut *upstream);
    if let Action::RefreshToken { lease, .. } = action {
        black_box(upstream.login.report_refresh(now, lease, Refreshed { expires_in: None }));
    }
    let _ = black_box(machine.handle(now, Event::Tick, &mut *upstream));
    machine.handle(now, Event::Reply { attempt: 2, reply: Reply::new(black_box(200)) }, upstream)
}

/// Returns an upstream whose gate a 429 has closed.
fn closed() -> Upstream {
    let (mut upstream, mut machine) = crate::decide::sent();
    let reply = upstream.policy().read(429, [("retry-after", "30")]);
    let action = machine.handle(Timestamp::from_millis(80), Event::Reply { attempt: 1, reply }, &mut upstream);
    assert!(matches!(action, Action::Wait { .. }), "{action}");
    upstream
}

/// The numbers of machines that share an upstream.
pub const FLEETS: [(usize, &str); 4] =
    [(1_000, "1,000"), (10_000, "10,000"), (100_000, "100,000"), (1_000_000, "1,000,000")];

/// The number of events of each machine in a fleet.
pub const EVENTS: usize = 2;

/// Returns fleets of all sizes: every machine starts, then every machine gets its answer. Both happen in an order that
/// has nothing to do with the order in memory.
pub fn fleets() -> Vec<Contender> {
    FLEETS.iter().map(|&(size, name)| fleet(size, name)).collect()
}

fn fleet(size: usize, name: &'static str) -> Contender {
    let mut random = fastrand::Rng::with_seed(7);
    let mut order: Vec<usize> = (0..size).collect();
    let mut machines = vec![RetryMachine::new(Idempotency::Idempotent, 7); size];
    let mut upstream = workloads::upstream();
    random.shuffle(&mut order);
    let mut answered = order.clone();
    random.shuffle(&mut answered);
    let mut now = Timestamp::ZERO;
    let pass = move || {
        let mut done = 0;
        for &index in &order {
            machines[index] = RetryMachine::new(Idempotency::Idempotent, index as u64);
            let _ = black_box(machines[index].handle(now, Event::Start, &mut upstream));
        }
        now = now.saturating_add(Duration::from_millis(80));
        for &index in &answered {
            let event = Event::Reply { attempt: 1, reply: Reply::new(black_box(200)) };
            let action = machines[index].handle(now, event, &mut upstream);
            done += usize::from(matches!(action, Action::Done { .. }));
        }
        done
    };
    Contender::new(name, "", pass, move |done| *done == size)
}
