//! Decisions on the status alone.

#![cfg_attr(target_os = "none", no_std, no_main)]

use retry_machine::Reply;

bytes::program!(run);

fn run() -> ! {
    bytes::decisions(|_| Reply::new(bytes::any()))
}
