//! Routes before an authorization server: whether a request for an authorization, or for a token,
//! is what a registered client may send (RFC 9101, RFC 9126, RFC 7523; FAPI 2.0 Message Signing
//! s5.3.1).
//!
//! A request walks [`form`] → what it brings (`request`) → the client that it names
//! ([`client`]) → `judge`. Nothing is rewritten: the bytes that were judged are those that the
//! server gets (JAR-17), so whatever another reader could take for something else is refused.

mod assertion;
pub mod client;
pub mod form;
mod judge;
mod jws;
mod object;
mod outside;
mod parameters;
mod request;
mod step;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientKeys, Clients};
pub use form::Form;
pub(super) use judge::Judged;
pub use step::Wanted;
pub(super) use step::{Next, Pending, begin};

use std::sync::Arc;
use std::time::Duration;

use super::policy::Algorithm;

/// Bytes of a `jti` (as for proofs, DPOP-23).
pub const JTI_BYTES: usize = 256;

/// An authorization server behind, as its routes judge for it.
#[derive(Debug)]
pub struct Server {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Its issuer identifier (RFC 8414 s2), byte by byte.
    pub issuer: Box<str>,
    /// One of which `aud` of a request object must be or hold (JAR-04).
    pub audience: Vec<Box<str>>,
    /// One of which `aud` of a client assertion must be or hold; under FAPI 2.0 the issuer alone,
    /// as a string (FAPI 2.0 Security Profile s5.3.2.1).
    pub assertion_audience: Vec<Box<str>>,
    /// Which rules are in force.
    pub profile: Profile,
    /// Algorithms of request objects and assertions; RS256 is never one (JAR-03).
    pub algorithms: Vec<Algorithm>,
    /// How long ago `nbf` of a request object may lie (JAR-05).
    pub max_object_age: Duration,
    /// Longest `exp - nbf` of a request object (JAR-05).
    pub max_object_lifetime: Duration,
    /// How far ahead `exp` of an assertion may lie, for its `jti` is remembered until then.
    pub max_assertion_lifetime: Duration,
    /// How far ahead `nbf` and `iat` may lie (JAR-06).
    pub clock_skew: Duration,
    /// How every `request_uri` begins that the server gives (RFC 9126 s2.2).
    pub request_uri_prefix: Box<str>,
}

/// The profile of an authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// FAPI 2.0 Security Profile with Message Signing: everything by PAR.
    Fapi2,
    /// FAPI 1.0 Part 2: request objects at `/authorize` too, and `code id_token`.
    Fapi1Advanced,
}

/// An endpoint of an authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Pushed authorization requests (RFC 9126).
    Par,
    /// The authorization endpoint (RFC 6749 s3.1).
    Authorize,
    /// The token endpoint (RFC 6749 s3.2).
    Token,
}

impl Endpoint {
    /// The word in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Par => "par",
            Self::Authorize => "authorize",
            Self::Token => "token",
        }
    }
}

/// What a route of `kind = "authorization"` asks for.
#[derive(Debug)]
pub struct Guard {
    /// The server behind.
    pub server: Arc<Server>,
    /// Which of its endpoints.
    pub endpoint: Endpoint,
    /// Bytes of a form that are read.
    pub form_bytes: usize,
    /// Whether somebody vouches for the names in client certificates on every listener of the
    /// route: not with `client_trust = "any"`.
    pub vouched: bool,
    /// Whether an encrypted request object passes, which nobody here can look into (JAR-16).
    pub encrypted: bool,
}
