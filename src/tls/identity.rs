//! Our certificate and key.

use std::time::Duration;

/// A certificate chain with its key: they match, and both are strong enough (TLS-07).
#[derive(Debug)]
pub struct Identity {}

impl Identity {
    /// Reads a chain (leaf first) and its key, PEM.
    ///
    /// # Errors
    /// What is wrong: no or several keys, key of another certificate, RSA below 2048 bits, EC
    /// below 224, a SHA-1 signature, unreadable PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let _ = (chain, key);
        Err("not read".to_owned())
    }

    /// Whether the leaf is good for this host name or address (RFC 9525).
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        host.is_empty()
    }

    /// Whether the key is RSA, as profile `fapi1` needs.
    #[must_use]
    pub const fn is_rsa(&self) -> bool {
        false
    }

    /// How long the leaf is still good at `now`; zero once it ran out.
    #[must_use]
    pub fn remaining(&self, now: crate::pdp::UnixTime) -> Duration {
        let _ = now;
        Duration::ZERO
    }
}
