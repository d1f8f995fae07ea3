//! See `../README.md`.
#![no_main]
#![allow(
    unsafe_code,
    reason = "a mutator's buffer comes from C: the macro makes a slice of it"
)]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target uses one of the checks")]
mod checks;
#[path = "../mutate.rs"]
mod mutate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::config(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::configuration(data, size, max_size, seed)
});
