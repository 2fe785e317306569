//! Decisions on the status and a time to wait that the program reads itself.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::time::Duration;

use retry_machine::Reply;

bytes::program!(run);

fn run() -> ! {
    bytes::decisions(|_| {
        let reply = Reply::new(bytes::any());
        if bytes::any() { reply.with_hint(Duration::from_secs(bytes::any())) } else { reply }
    })
}
