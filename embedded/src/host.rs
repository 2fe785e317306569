//! Runs the script on a computer.

mod script;

fn main() {
    let mut out = String::new();
    script::run(&mut out).expect("writing to a string does not fail");
    print!("{out}");
}
