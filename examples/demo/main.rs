//! The newcomer's first command: a bank on loopback, with the gate in front of it.

mod lab;

fn main() {}
