//! Decisions on the status alone.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;

use retry_machine::{Action, Event, Reply};

bytes::program!(run);

fn run() -> ! {
    let mut upstream = bytes::upstream();
    let mut machine = bytes::request();
    let mut event = Event::Start;
    loop {
        let action = machine.handle(bytes::now(), event, &mut upstream);
        event = match black_box(&action) {
            Action::Send { attempt, .. } => Event::Reply { attempt: *attempt, reply: Reply::new(bytes::any()) },
            Action::Done { .. } | Action::Fail(_) => {
                machine = bytes::request();
                Event::Start
            }
            _ => Event::Tick,
        };
    }
}
