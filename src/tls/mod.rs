//! TLS towards clients: who we are, whom we trust, the handshake, and trust that does not outlive
//! its evidence.

use std::sync::Arc;

/// TLS of one listener, as checked by `config`. Everything in it was read from files once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the listener in the configuration.
    pub listener: Arc<str>,
    /// Our certificate chain and key.
    pub identity: Arc<identity::Identity>,
    /// Which versions and suites.
    pub profile: Profile,
    /// Whether clients are asked for a certificate (MTLS-01).
    pub client_certificate: ClientCertificate,
    /// Whose certificates are good (MTLS-06).
    pub client_trust: ClientTrust,
    /// Whether sessions resume. Tickets belong to this listener and this generation of its trust.
    pub resumption: bool,
    /// Proxies in front that end TLS and pass certificates on.
    pub behind: Option<Behind>,
}

/// Versions and suites: TLS-03 to TLS-06.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// TLS 1.3, and 1.2 with the four ECDHE AES-GCM suites of RFC 9325 s4.2.
    Fapi2,
    /// TLS 1.3, and 1.2 with the two ECDHE_RSA AES-GCM suites; needs an RSA certificate.
    Fapi1,
}

/// `client_certificate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Not asked for.
    None,
    /// Asked for; absence is judged at HTTP, a bad one fails the handshake.
    Optional,
    /// The handshake fails without one.
    Required,
}

/// `client_trust`.
#[derive(Debug, Clone)]
pub enum ClientTrust {
    /// Possession of the key only; self-signed allowed (RFC 8705 s2.2).
    Any,
    /// A path to one of these authorities, and the rules for revocation.
    Ca(Arc<trust::Authorities>),
}

mod certificate;
mod current;
mod directory;
mod failure;
mod front;
mod handshake;
pub mod identity;
mod known;
mod name;
mod paths;
pub mod pem;
mod provider;
mod server;
mod signature;
mod strength;
#[cfg(test)]
mod tests;
pub mod trust;
mod verifier;

pub use certificate::read as read_certificate;
pub use current::presented;
pub use current::{ConnectionTrust, Current};
pub use directory::{Directory, DirectoryEntry};
pub use front::{Behind, FrontProxy, ProxyCertificate};
pub use handshake::{Alpn, Ends, Failed, Greeted, Secured, greet, handshake};
pub use provider::provider;
pub use server::ServerTls;
