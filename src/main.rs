//! The program: flags in, exit code out; everything else is the library's.

use std::process::ExitCode;

/// Threads of glibc's allocator take new memory page by page, with a system call for each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::app::main()
}
