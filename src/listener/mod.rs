//! Sockets: bind, accept, count, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod accept;
mod balance;
mod drain;
mod log;
mod permits;
pub mod proxy_protocol;
#[cfg(test)]
mod tests;
mod turns;

pub use accept::{Accepted, accept_loop, bind};
pub use balance::{Balance, Place};
pub use drain::{Drain, Open};
pub use permits::{Handshakes, Live, Permit, Serving, Shared};
pub use proxy_protocol::Settings as ProxyProtocol;

/// One listener. Several may share an address: the TLS server name chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Hosts that it answers to, lower case: of `public_url`, then of `aliases`.
    pub hosts: Vec<Box<str>>,
    /// Ports that an authority may name: of `public_url` and `aliases`.
    pub ports: Vec<u16>,
    /// Takes clients that send no server name.
    pub default: bool,
    /// Whether reason codes stand in bodies (laboratory).
    pub disclose_reasons: bool,
    /// TLS.
    pub tls: crate::tls::Settings,
    /// Bounds of its HTTP.
    pub limits: crate::http::Limits,
    /// Connections at once.
    pub connections: usize,
    /// For the whole TLS handshake, a PROXY protocol header in front included.
    pub handshake_timeout: Duration,
    /// Whose PROXY protocol headers are taken; `None` where none may come. The same for all listeners
    /// of an address.
    pub proxy_protocol: Option<Arc<ProxyProtocol>>,
}
