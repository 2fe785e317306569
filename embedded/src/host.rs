//! Tells the script on a computer.

mod script;

fn main() {
    let mut out = String::new();
    script::tell(&mut out).expect("a string takes everything");
    print!("{out}");
}
