//! Reading and deciding allocate nothing (H1, I11). The bugs in `proptests/planted/` show that these tests can fail.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::measure;
use retry_machine::{
    Action, BreakerPolicy, BudgetPolicy, Event, Idempotency, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp,
    TransportErrorKind, Upstream, derive_seed,
};

const HEADERS: [(&str, &str); 12] = [
    ("Date", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ("Retry-After", "Tue, 14 Nov 2023 22:13:50 GMT"),
    ("Retry-After", "Tuesday, 14-Nov-23 22:13:50 GMT"),
    ("Retry-After", "99999999999999999999999999"),
    ("retry-after-ms", "soon"),
    ("X-RateLimit-Limit", "60"),
    ("X-RateLimit-Remaining", "0"),
    ("X-RateLimit-Reset", "1700000030"),
    ("RateLimit", r#""default";r=0;t=30, (a b);x=:AAAA:, "#),
    ("RateLimit-Policy", r#""default";q=100;w=60"#),
    ("WWW-Authenticate", r#"Negotiate dG9rZW4=, Bearer realm="a\"b", error="invalid_token""#),
    ("WWW-Authenticate", "Bearer error="),
];

#[track_caller]
fn allocates_nothing(work: impl FnOnce()) {
    let counted = measure(work);
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}

#[test]
fn i11_the_counter_counts() {
    assert_eq!(measure(|| drop(black_box(Box::new(7)))).count_total, 1);
}

#[test]
fn h1_i11_reading_allocates_nothing() {
    allocates_nothing(|| {
        for status in [200, 401, 429, 503] {
            let reply = Policy::flextell().read(status, HEADERS);
            assert!(reply.hint().is_some() && !reply.rejected().is_empty());
            let mut reader = Policy::flextell().reader(None, status);
            for (name, value) in HEADERS {
                reader.feed(name.as_bytes(), value.as_bytes());
                reader.feed(value.as_bytes(), name.as_bytes());
            }
            black_box(reader.finish());
        }
    });
}

#[test]
fn i11_deciding_allocates_nothing() {
    let breaker = BreakerPolicy { failure_threshold: 50, ..BreakerPolicy::DEFAULT };
    let budget = BudgetPolicy { capacity: 500, ..BudgetPolicy::DEFAULT };
    let policy = Policy::common().into_builder().breaker(Some(breaker)).budget(Some(budget));
    let policy = policy.deadline(Some(Duration::from_secs(1_000))).build().unwrap();
    allocates_nothing(|| {
        let mut upstream = Upstream::new(policy);
        let hinted = Policy::flextell().read(429, [("Retry-After", "1")]);
        let mut sends = 0;
        for request in 0..200 {
            let idempotency = if request % 2 == 0 { Idempotency::Idempotent } else { Idempotency::NonIdempotent };
            let mut machine = RetryMachine::new(idempotency, derive_seed(1, request));
            for n in 0..40_u32 {
                let attempt = machine.attempts().saturating_sub(n % 3 / 2);
                let event = match (u64::from(n) * 7 + request) % 11 {
                    0 => Event::Start,
                    1 | 2 => Event::Reply { attempt, reply: Reply::new(503) },
                    3 => Event::Reply { attempt, reply: hinted },
                    4 => Event::Reply { attempt, reply: Reply::new(401) },
                    5 | 6 => {
                        let outcomes = [
                            RefreshOutcome::Refreshed { expires_in: None },
                            RefreshOutcome::Unavailable { retry_after: None },
                            RefreshOutcome::Abandoned,
                        ];
                        let lease = machine.lease().unwrap_or_default();
                        let _ = upstream.login.report_refresh(Timestamp::ZERO, lease, outcomes[n as usize % 3]);
                        Event::Tick
                    }
                    7 => Event::TransportError { attempt, kind: TransportErrorKind::Broken },
                    8 if n > 30 => Event::Reply { attempt, reply: Reply::new(200) },
                    _ => Event::Tick,
                };
                // T2: zero counts as the latest instant.
                let tick = machine.next_tick(upstream.policy()).filter(|_| event == Event::Tick);
                let now = tick.unwrap_or(Timestamp::ZERO);
                let action = machine.handle(now, event, &mut upstream);
                sends += u32::from(matches!(action, Action::Send { .. }));
            }
        }
        upstream.login.token_replaced(Timestamp::ZERO, None);
        upstream.login.token_removed();
        upstream.gate.open(Timestamp::ZERO);
        assert!(sends > 200, "{sends}");
    });
}
