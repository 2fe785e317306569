//! Decisions on the status and a time to wait that the program reads itself.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;
use core::time::Duration;

use retry_machine::{Action, Event, Reply};

bytes::program!(run);

fn run() -> ! {
    let mut upstream = bytes::upstream();
    let mut machine = bytes::request();
    let mut event = Event::Start;
    loop {
        let action = machine.handle(bytes::now(), event, &mut upstream);
        event = match black_box(&action) {
            Action::Send { attempt, .. } => {
                let mut reply = Reply::new(bytes::any());
                if bytes::any() {
                    reply = reply.with_hint(Duration::from_secs(bytes::any()));
                }
                Event::Reply { attempt: *attempt, reply }
            }
            Action::Done { .. } | Action::Fail(_) => {
                machine = bytes::request();
                Event::Start
            }
            _ => Event::Tick,
        };
    }
}
