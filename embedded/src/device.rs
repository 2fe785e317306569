//! Tells the script on a Cortex-M3, without an allocator, to whoever debugs it.

#![no_std]
#![no_main]

mod script;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hio};
use panic_semihosting as _;

#[entry]
fn main() -> ! {
    let told = hio::hstdout().is_ok_and(|mut out| script::tell(&mut out).is_ok());
    debug::exit(if told { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}
