//! HTTP towards clients, and the header rules of both directions.

pub mod fields;

use std::time::Duration;

/// Bounds of a listener's HTTP; each has a reason code when it is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams of one HTTP/2 connection at once.
    pub streams: u32,
    /// Bytes of a header section.
    pub header_bytes: usize,
    /// Bytes of an access token.
    pub token_bytes: usize,
    /// Bytes of a request body.
    pub body_bytes: u64,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between two pieces of a body, both directions.
    pub body_timeout: Duration,
    /// A connection without a request.
    pub idle_timeout: Duration,
    /// From the head of a request to the head of its answer.
    pub request_timeout: Duration,
}

impl Default for Limits {
    /// The defaults of the configuration file.
    fn default() -> Self {
        Self {
            streams: 100,
            header_bytes: 32 * 1024,
            token_bytes: 16 * 1024,
            body_bytes: 16 * 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60),
        }
    }
}

pub mod body;
pub mod connection;
mod gather;
pub mod interaction;
mod io;
mod raw;
pub mod respond;
mod seldom;
mod track;
mod watch;
