//! `portcullis explain`: one request, decided offline.

use crate::cli::{EXIT_START, Explain};

/// Decides and prints; gives the exit code.
pub(super) fn run(_arguments: &Explain) -> u8 {
    EXIT_START
}
