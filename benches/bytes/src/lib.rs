//! The parts that the measured programs share: the frame of a program on bare metal, and the inputs that no compiler can foresee.

#![no_std]

use core::hint::black_box;
use core::time::Duration;

use retry_machine::{
    Action, Event, Idempotency, Policy, RefreshOutcome, Reply, RetryMachine, Timestamp, TransportErrorKind, Upstream,
};

/// Makes a program of a function that never returns. It has no start-up code, so that only what the function needs counts.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn _start() -> ! {
            $run()
        }

        // For lints: nobody runs it.
        #[cfg(not(target_os = "none"))]
        fn main() {
            $run()
        }
    };
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Returns a value that the compiler must take for any value of its type.
#[must_use]
pub fn any<T: Default>() -> T {
    black_box(T::default())
}

/// Returns the time on the device's clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_nanos(any())
}

/// Returns an upstream of common practice. Any other policy could be in its place.
#[must_use]
pub fn upstream() -> Upstream {
    let mut upstream = Upstream::new(Policy::common());
    black_box(&mut upstream);
    upstream
}

/// Returns a request that has not begun.
#[must_use]
pub fn request() -> RetryMachine {
    RetryMachine::new(if any() { Idempotency::Idempotent } else { Idempotency::NonIdempotent }, any())
}

/// Drives requests without tokens, whose attempts get the replies that `respond` returns.
pub fn decisions(respond: impl Fn(&Policy) -> Reply) -> ! {
    let mut upstream = upstream();
    let mut machine = request();
    let mut event = Event::Start;
    loop {
        let action = machine.handle(now(), event, &mut upstream);
        event = match black_box(&action) {
            Action::Send { attempt, .. } => Event::Reply { attempt: *attempt, reply: respond(upstream.policy()) },
            Action::Done { .. } | Action::Fail(_) => {
                machine = request();
                Event::Start
            }
            _ => Event::Tick,
        };
    }
}

/// Drives requests with all facts that the crate reads, and tells each action.
pub fn everything(tell: impl Fn(&Action)) -> ! {
    let mut upstream = upstream();
    let mut machine = request();
    let mut event = Event::Start;
    loop {
        let action = machine.handle(now(), event, &mut upstream);
        tell(&action);
        event = match action {
            Action::Send { attempt, .. } => attempted(attempt, upstream.policy()),
            Action::RefreshToken { lease, .. } => {
                let _ = black_box(upstream.login.report_refresh(now(), lease, outcome()));
                Event::Tick
            }
            Action::Wait { .. } | Action::AwaitRefresh { .. } | Action::InFlight { .. } => {
                if any() {
                    Event::Cancel
                } else {
                    Event::Tick
                }
            }
            Action::Done { .. } | Action::Fail(_) => {
                machine = request();
                Event::Start
            }
        };
    }
}

fn attempted(attempt: u32, policy: &Policy) -> Event {
    let kind = match any() {
        0 => TransportErrorKind::NotSent,
        1 => TransportErrorKind::TimedOut,
        2 => TransportErrorKind::Broken,
        3 => TransportErrorKind::Unprocessed,
        4 => TransportErrorKind::Permanent,
        5 => TransportErrorKind::Other,
        _ => {
            let mut reader = policy.reader(any::<Option<u64>>().map(Duration::from_secs), any());
            while any() {
                reader.feed(any(), any());
            }
            return Event::Reply { attempt, reply: reader.finish() };
        }
    };
    Event::TransportError { attempt, kind }
}

fn outcome() -> RefreshOutcome {
    let time = any::<Option<u64>>().map(Duration::from_secs);
    match any() {
        0 => RefreshOutcome::Refreshed { expires_in: time },
        1 => RefreshOutcome::Unavailable { retry_after: time },
        2 => RefreshOutcome::Rejected,
        _ => RefreshOutcome::Abandoned,
    }
}
