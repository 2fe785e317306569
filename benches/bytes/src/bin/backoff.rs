//! A back-off with jitter and nothing else: the crate backon.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;

use backon::{BackoffBuilder, ExponentialBuilder};

bytes::program!(run);

fn run() -> ! {
    let builder = black_box(ExponentialBuilder::default().with_jitter().with_jitter_seed(bytes::any()));
    let mut waits = builder.build();
    loop {
        match black_box(waits.next()) {
            Some(_) => {}
            None => waits = builder.build(),
        }
    }
}
