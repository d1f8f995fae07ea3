//! A bank on loopback, made from nothing: what the demo shows itself with and what the end-to-end
//! tests measure against.
//!
//! - [`pki`]: throw-away certificate authorities, certificates sound and flawed, revocation lists
//! - [`jose`]: signing keys and access tokens, sound and flawed
//! - [`authserver`]: an authorization server that can be told to fail
//! - [`legacy`]: the API behind the gate, which answers with what reached it, or misbehaves
//! - [`client`], [`h2`]: clients that can send anything
//! - [`http1`]: the HTTP/1.1 grammar, read strictly, that both sides share
//!
//! Nothing here is in the program, and nothing here shares code with it: a mistake must not be
//! able to cancel itself out.
#![allow(
    dead_code,
    reason = "shared by the demo and the tests; neither uses all of it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::let_underscore_must_use,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "a bench: what fails here should fail loudly, and it may ask the time"
)]

pub(crate) mod authserver;
pub(crate) mod client;
pub(crate) mod h2;
pub(crate) mod http1;
pub(crate) mod jose;
pub(crate) mod legacy;
pub(crate) mod pki;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Base64url without padding (RFC 7515 s2).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The one cryptographic provider of the bench.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// `n` random bytes as hexadecimal digits.
pub(crate) fn random_hex(n: usize) -> String {
    use std::fmt::Write as _;
    let mut bytes = vec![0; n];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A version 4 UUID (RFC 9562 s5.4).
pub(crate) fn uuid() -> String {
    let hex = random_hex(16);
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}
