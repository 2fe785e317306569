//! The sizes of the public types. On a computer it prints them. On a device each is the size of a symbol.

#![cfg_attr(target_os = "none", no_std, no_main)]

use retry_machine::{
    Action, Event, Explanation, Failure, Gate, Hint, Login, Policy, Reader, RejectedFields, Reply, RetryMachine, Scope,
    Service, Timestamp, Upstream,
};

macro_rules! sizes {
    ($($of:ident)*) => {
        #[cfg(target_os = "none")]
        bytes::program!(run);

        #[cfg(target_os = "none")]
        fn run() -> ! {
            $({
                #[unsafe(export_name = concat!("size_of_", stringify!($of)))]
                static SIZE: [u8; size_of::<$of>()] = [1; size_of::<$of>()];
                core::hint::black_box(&SIZE);
            })*
            loop {}
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            $(println!("{} {}", stringify!($of), size_of::<$of>());)*
        }
    };
}

sizes! {
    RetryMachine Upstream Service Login Gate Policy Scope
    Event Reply Hint RejectedFields Timestamp
    Action Explanation Failure
    Reader
}
