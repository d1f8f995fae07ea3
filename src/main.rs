//! The program: flags in, exit code out; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis::app::main()
}
