//! The core alone: time and allocations of one decision, with the token remembered and without.
//!
//! `cargo bench --bench decide`
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at what it did not expect"
)]

#[path = "../tests/decisions/world.rs"]
#[expect(dead_code, reason = "the cases use the rest of it")]
mod world;

use portcullis::pdp::SharedToken;
use world::{Case, Prepared, World};

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// A token signed with a key of this kind, by the good client.
fn signed(key: &str) -> Case {
    let alg = match key {
        "ps" => "PS256",
        "ed" => "EdDSA",
        _ => "ES256",
    };
    Case {
        key: key.to_owned(),
        header: toml::Table::from_iter([
            ("alg".to_owned(), alg.into()),
            ("kid".to_owned(), key.into()),
        ]),
        ..Case::default()
    }
}

fn forwarding(case: Case) -> Case {
    let headers = [
        ("x-auth-subject", "token.sub"),
        ("x-auth-client-id", "token.client_id"),
        ("x-auth-cert-thumbprint", "certificate.x5t#S256"),
    ];
    Case {
        forward: headers
            .iter()
            .map(|(name, fact)| ((*name).to_owned(), (*fact).to_owned()))
            .collect(),
        ..case
    }
}

/// What is known of the token before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    /// It was verified.
    Somewhere,
    /// The last request of the connection had it.
    Here,
}

fn run(bencher: divan::Bencher<'_, '_>, case: &Case, seen: Seen) {
    let world = World::new();
    let prepared: Prepared = world.prepare(case);
    let known: Option<SharedToken> = (seen != Seen::Never).then(|| world.verified(case, &prepared));
    let presented = (seen == Seen::Here).then(|| {
        let (routed, mut trail) = world.routed(&prepared);
        let mut traces = world::Traces::default();
        let permit = world.finish(case, routed, known.as_ref(), &mut trail, &mut traces);
        drop(permit.expect("a permit"));
        trail.presented.expect("what was presented")
    });
    bencher
        .with_inputs(|| {
            let (routed, mut trail) = world.routed(&prepared);
            trail.presented.clone_from(&presented);
            (routed, trail)
        })
        .bench_values(|(routed, mut trail)| {
            let permit = world.finish(
                case,
                routed,
                known.as_ref(),
                &mut trail,
                &mut world::Traces::default(),
            );
            (permit.expect("a permit"), trail)
        });
}

/// The token of the connection's last request, as nearly all are.
#[divan::bench]
fn presented_again(bencher: divan::Bencher<'_, '_>) {
    run(bencher, &signed("es"), Seen::Here);
}

/// A token that was verified before, on another connection.
#[divan::bench]
fn remembered(bencher: divan::Bencher<'_, '_>) {
    run(bencher, &signed("es"), Seen::Somewhere);
}

/// The same with three identity headers.
#[divan::bench]
fn remembered_and_forwarded(bencher: divan::Bencher<'_, '_>) {
    run(bencher, &forwarding(signed("es")), Seen::Somewhere);
}

/// A token never seen, by kind of key: the signature is nearly all of it.
#[divan::bench(args = ["es", "ps", "ed"])]
fn verified(bencher: divan::Bencher<'_, '_>, key: &str) {
    run(bencher, &signed(key), Seen::Never);
}
