//! A decision about the token of the connection's last request allocates nothing, from `begin` to
//! `Authorized`: most decisions are that one. (What a request is made of, its head and its body, was
//! allocated before.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "decisions/world.rs"]
#[expect(dead_code, reason = "the cases use the rest of it")]
mod world;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use world::{Case, Traces, World};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Without a harness: its threads would be counted.
fn main() {
    let world = World::new();
    let case = Case::default();
    let prepared = world.prepare(&case);
    let known = world.verified(&case, &prepared);
    let mut presented = None;
    for (request, most) in [("the first", 3), ("the second", 0), ("the third", 0)] {
        let (routed, mut trail) = world.routed(&prepared);
        trail.presented = presented;
        let mut traces = Traces::default();
        let counted = Region::new(ALLOCATOR);
        let permit = world.finish(&case, routed, Some(&known), &mut trail, &mut traces);
        let count = counted.change().allocations;
        let _permit = permit.expect("a permit");
        presented = trail.presented.take();
        assert!(
            count <= most,
            "{request} decision of a connection allocates {count} times, at most {most}"
        );
        println!("{request} decision of a connection allocates {count} times");
    }
}
