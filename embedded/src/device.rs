//! Runs the script on a Cortex-M3, without an allocator, and prints to the debugger.

#![no_std]
#![no_main]

mod script;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use panic_semihosting as _;

#[entry]
fn main() -> ! {
    let printed = hio::hstdout().is_ok_and(|mut out| script::run(&mut out).is_ok());
    debug::exit(if printed { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}
