//! Nothing: what every program costs.

#![cfg_attr(target_os = "none", no_std, no_main)]

bytes::program!(run);

fn run() -> ! {
    loop {
        core::hint::black_box(());
    }
}
