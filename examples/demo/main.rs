//! The newcomer's first command: a whole bank on loopback, with the gate in front of its API.
//!
//! ```text
//! cargo run --release --example demo            # shows itself, then stays for you to try
//! cargo run --release --example demo -- --once  # shows itself and ends; 0 if all went as it should
//! ```
//!
//! Nothing else has to be installed. Everything is made anew at each run and listens on loopback
//! only: certificates, an authorization server, an API of the old kind, and Portcullis between them.
//! None of it is in the production binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for a terminal, which says what it does; what fails here should fail loudly"
)]

mod lab;
mod scenes;
mod show;
mod world;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
Shows what Portcullis does: starts a bank on loopback, sends it good and bad requests, and says
what became of each.

Usage: cargo run --release --example demo [-- OPTIONS]

Options:
  --once   end after the table; exit status 0 only if every line went as it should
  --help   print this";

fn main() -> ExitCode {
    let mut once = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--once" => once = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("unknown option {other}\n\n{USAGE}");
                return ExitCode::from(64);
            }
        }
    }
    let world = match world::World::make() {
        Ok(world) => world,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    show::introduce(&world);
    let outcomes = scenes::play(&world);
    show::table(&outcomes);
    let as_it_should = outcomes.iter().all(scenes::Outcome::as_expected);
    if once {
        world.end();
        return if as_it_should {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    show::invite(&world);
    world.log.show();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
