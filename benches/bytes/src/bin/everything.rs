//! Decisions on all facts: headers, dates, failed connections, tokens, cancellation.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;

bytes::program!(run);

fn run() -> ! {
    bytes::everything(|action| {
        black_box(action);
    })
}
