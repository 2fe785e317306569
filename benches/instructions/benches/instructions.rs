//! The instructions that each piece of work takes, counted by valgrind: exact, and the same on a busy machine.
//!
//! `benches/instructions/measure` runs this, and compares the counts with the committed table.

use core::hint::black_box;
use core::time::Duration;

use gungraun::prelude::*;
use http::HeaderMap;
use retry_machine::{Action, Event, Idempotency, RefreshOutcome, Reply, RetryMachine};
use workloads::{Header, OK, RATE_LIMIT, RETRY_AFTER, UNAVAILABLE, World, header_map};

// ---- Decisions ----

#[library_benchmark]
#[bench::a_503_with_ten_headers_in_a_slice(workloads::sent(), &UNAVAILABLE)]
fn unavailable(mut world: Box<World>, headers: &[Header]) -> (Action, Box<World>) {
    let reply = world.upstream.policy().read(503, headers.iter().copied());
    let action = world.handle(Event::Reply { attempt: 1, reply });
    (action, world)
}

#[library_benchmark]
#[bench::a_503_with_ten_headers_in_a_header_map(workloads::sent(), header_map(&UNAVAILABLE))]
fn unavailable_map(mut world: Box<World>, headers: HeaderMap) -> (Action, Box<World>, HeaderMap) {
    let reply = world.upstream.policy().read(503, &headers);
    let action = world.handle(Event::Reply { attempt: 1, reply });
    (action, world, headers)
}

#[library_benchmark]
#[bench::a_200_with_ten_headers_from_new_to_done(workloads::idle(), &OK)]
fn success(mut world: Box<World>, headers: &[Header]) -> (Action, Box<World>) {
    world.machine = RetryMachine::new(Idempotency::Idempotent, black_box(7));
    let _ = black_box(world.handle(Event::Start));
    let reply = world.upstream.policy().read(200, headers.iter().copied());
    let action = world.handle(Event::Reply { attempt: 1, reply });
    (action, world)
}

#[library_benchmark]
#[bench::a_503_alone(workloads::sent(), 503)]
#[bench::a_404_alone(workloads::sent(), 404)]
fn status_alone(mut world: Box<World>, status: u16) -> (Action, Box<World>) {
    let action = world.handle(Event::Reply { attempt: 1, reply: Reply::new(status) });
    (action, world)
}

#[library_benchmark]
#[bench::five_retries_from_new_to_failed(workloads::idle())]
fn five_retries(mut world: Box<World>) -> (Action, Box<World>) {
    world.machine = RetryMachine::new(Idempotency::Idempotent, black_box(7));
    let mut action = world.handle(Event::Start);
    while let Action::Send { attempt, .. } = action {
        let answer = world.handle(Event::Reply { attempt, reply: Reply::new(503) });
        let Action::Wait { until, .. } = answer else { return (answer, world) };
        world.now = until;
        action = world.handle(Event::Tick);
    }
    (action, world)
}

#[library_benchmark]
#[bench::a_401_and_its_refresh(workloads::sent())]
fn refresh(mut world: Box<World>) -> (Action, Box<World>) {
    let action = world.handle(Event::Reply { attempt: 1, reply: Reply::new(401) });
    let Action::RefreshToken { lease, .. } = action else { return (action, world) };
    let outcome = RefreshOutcome::Refreshed { expires_in: Some(Duration::from_secs(3_600)) };
    let _ = black_box(world.upstream.login.report_refresh(world.now, lease, outcome));
    let action = world.handle(Event::Tick);
    (action, world)
}

#[library_benchmark]
#[bench::a_start_at_a_closed_gate(workloads::closed())]
fn closed_gate(mut world: Box<World>) -> (Action, Box<World>) {
    world.machine = RetryMachine::new(Idempotency::Idempotent, black_box(8));
    let action = world.handle(Event::Start);
    (action, world)
}

// ---- Reading ----

#[library_benchmark]
#[bench::a_reader_made_and_finished(workloads::idle())]
fn reader(world: Box<World>) -> (Reply, Box<World>) {
    (world.upstream.policy().reader(None, 503).finish(), world)
}

#[library_benchmark]
#[bench::retry_after_in_seconds(workloads::idle(), RETRY_AFTER[0].1)]
#[bench::retry_after_as_an_imf_fixdate(workloads::idle(), RETRY_AFTER[1].1)]
#[bench::retry_after_as_an_rfc_850_date(workloads::idle(), RETRY_AFTER[2].1)]
#[bench::retry_after_as_an_asctime_date(workloads::idle(), RETRY_AFTER[3].1)]
fn retry_after(world: Box<World>, value: &str) -> (Reply, Box<World>) {
    let wall_clock = Some(Duration::from_secs(1_445_412_480));
    (world.upstream.policy().read_at(wall_clock, 503, [("retry-after", value)]), world)
}

#[library_benchmark]
#[bench::a_rate_limit_field(workloads::idle(), RATE_LIMIT)]
fn rate_limit(world: Box<World>, value: &str) -> (Reply, Box<World>) {
    (world.upstream.policy().read(200, [("ratelimit", value)]), world)
}

#[library_benchmark]
#[bench::ten_headers_of_a_503_in_a_slice(workloads::idle(), &UNAVAILABLE)]
#[bench::ten_headers_of_a_200_in_a_slice(workloads::idle(), &OK)]
fn ten_headers(world: Box<World>, headers: &[Header]) -> (Reply, Box<World>) {
    (world.upstream.policy().read(503, headers.iter().copied()), world)
}

#[library_benchmark]
#[bench::ten_headers_of_a_503_in_a_header_map(workloads::idle(), header_map(&UNAVAILABLE))]
fn ten_headers_map(world: Box<World>, headers: HeaderMap) -> (Reply, Box<World>, HeaderMap) {
    (world.upstream.policy().read(503, &headers), world, headers)
}

library_benchmark_group!(
    name = decisions,
    benchmarks = [unavailable, unavailable_map, success, status_alone, five_retries, refresh, closed_gate]
);
library_benchmark_group!(name = reading, benchmarks = [reader, retry_after, rate_limit, ten_headers, ten_headers_map]);

main!(library_benchmark_groups = [decisions, reading]);
