//! The API behind: connections to its servers, and the one place that sends a request on.

mod answer;
mod balance;
mod connect;
mod exchange;
mod forward;
pub mod health;
pub mod http1;
mod local;
mod multiplex;
mod outgoing;
mod pool;
mod shared;
#[cfg(test)]
mod tests;
mod upload;
mod websocket;

pub use answer::{BodyFailure, UpstreamBody};
pub use forward::{Failed, ForwardFacts, Forwarded, forward};
pub use pool::Pool;
pub use shared::{ServerStatus, Shared};
pub use websocket::Drained;

use std::sync::Arc;
use std::time::Duration;

/// Any error, as bodies have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One upstream.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Its servers.
    pub servers: Vec<Server>,
    /// How it speaks.
    pub protocol: Protocol,
    /// TLS towards it; `None` for `plaintext = true`.
    pub tls: Option<crate::outbound::Tls>,
    /// For a TCP connection and its TLS handshake.
    pub connect_timeout: Duration,
    /// From the end of the request head to the head of the answer.
    pub response_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Further tries of an idempotent request on a connection that gave no byte.
    pub retries: u32,
    /// Connections to one server at once, over all threads.
    pub max_connections: usize,
    /// `health`: path and interval of an active check.
    pub health: Option<Health>,
    /// `eject`: failures in a row after which a server is left out, and for how long.
    pub eject: Option<Eject>,
}

/// A server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Host name or address (no brackets).
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// Path in front of every request's, without a slash at the end; empty in most cases.
    pub prefix: Box<str>,
}

/// `protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in plain text.
    Http2,
}

/// `health = { path, every }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Asked for with GET; any 2xx or 3xx is healthy.
    pub path: Box<str>,
    /// Interval.
    pub every: Duration,
}

/// `eject = { failures, for }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eject {
    /// Failed connections or answers in a row.
    pub failures: u32,
    /// How long the server is left out.
    pub duration: Duration,
}
