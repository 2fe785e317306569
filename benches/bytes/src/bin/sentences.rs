//! The same, with each action as a sentence.

#![cfg_attr(target_os = "none", no_std, no_main)]

use core::fmt::{Result, Write};
use core::hint::black_box;

bytes::program!(run);

fn run() -> ! {
    bytes::everything(|action| {
        let _ = black_box(write!(Line, "{action}"));
    })
}

/// A line to a log.
struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> Result {
        black_box(text);
        Ok(())
    }
}
