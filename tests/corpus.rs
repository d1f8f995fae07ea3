//! Every file that a fuzzer ever found worth keeping, as an ordinary test.
#![expect(
    clippy::expect_used,
    reason = "a test that reads files of ours; if it breaks, it has failed"
)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks.rs"]
#[expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "shared with the fuzz targets"
)]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0_usize;
    for entry in fs::read_dir(folder).expect("the corpus is part of the repository") {
        check(&fs::read(entry.expect("a corpus file").path()).expect("a corpus file can be read"));
        count = count.saturating_add(1);
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn requests() {
    replay("request", checks::request);
}

#[test]
fn patterns() {
    replay("pattern", checks::pattern);
}

#[test]
fn answers() {
    replay("answer", checks::answer);
}

#[test]
fn proofs() {
    replay("proof", checks::proof);
}

#[test]
fn introspection_answers() {
    replay("introspection", checks::introspection);
}

#[test]
fn key_sets() {
    replay("jwks", checks::jwks);
}

#[test]
fn forms() {
    replay("form", checks::form);
}

#[test]
fn requests_before_an_authorization_server() {
    replay("authorization", checks::authorization);
}

#[test]
fn client_certificates() {
    replay("client_cert", checks::client_cert);
}

#[test]
fn proxy_protocol_headers() {
    replay("proxy_protocol", checks::proxy_protocol);
}

#[test]
fn targets() {
    replay("target", checks::target);
}

#[test]
fn configurations() {
    replay("config", checks::config);
}
