//! The policy information point: what a decision needs from outside. Keys of issuers, and what is
//! remembered of tokens.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::pdp::Issuer;

/// Where and how the keys of one issuer are had.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The issuer, as decisions know it.
    pub issuer: Arc<Issuer>,
    /// Where its keys are.
    pub source: KeySource,
    /// TLS towards it; used for https addresses.
    pub tls: crate::outbound::Tls,
    /// `http://host:port` of a proxy through which it is reached.
    pub proxy: Option<Box<str>>,
    /// Hosts, beside the issuer's own, that addresses learned from discovery may name (KEY-10).
    pub hosts: Vec<Box<str>>,
    /// For one fetch as a whole.
    pub timeout: Duration,
    /// At most one fetch in this time, whatever the tokens' `kid` say.
    pub refresh_cooldown: Duration,
    /// Ahead of need, with jitter.
    pub refresh_every: Duration,
    /// How long the last good set is used when no fetch succeeds.
    pub keep_last_good_for: Duration,
    /// Where the last good set is kept for a cold start.
    pub snapshot: Option<PathBuf>,
    /// Whether `/readyz` waits for it.
    pub required: bool,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Metadata (RFC 8414, OpenID Connect Discovery) that names `jwks_uri`.
    Discovery(Box<str>),
    /// The key set itself.
    Uri(Box<str>),
    /// A file, with its content as `config` read it; read again at a reload.
    File(PathBuf, Arc<[u8]>),
}
