//! Decisions on the status and `Retry-After`, which the crate reads in all its forms.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;

use retry_machine::{Action, Event};

bytes::program!(run);

fn run() -> ! {
    let mut upstream = bytes::upstream();
    let mut machine = bytes::request();
    let mut event = Event::Start;
    loop {
        let action = machine.handle(bytes::now(), event, &mut upstream);
        event = match black_box(&action) {
            Action::Send { attempt, .. } => {
                let mut reader = upstream.policy().reader(None, bytes::any());
                if bytes::any() {
                    reader.feed(b"retry-after", bytes::any());
                }
                Event::Reply { attempt: *attempt, reply: reader.finish() }
            }
            Action::Done { .. } | Action::Fail(_) => {
                machine = bytes::request();
                Event::Start
            }
            _ => Event::Tick,
        };
    }
}
