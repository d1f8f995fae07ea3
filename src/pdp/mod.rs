//! The policy decision point: pure.
//!
//! No input or output, no lock, no task, no log, no clock: what a decision needs comes in as an
//! argument, and what it found goes out as a value. A request walks
//! [`route()`] → [`begin`] → ([`Pending::resume`])* → [`Authorized`], each step taking the last
//! one's value, and only the last one can reach an upstream.
#![deny(clippy::disallowed_types)]
#![deny(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod authority;
pub mod authorization;
pub mod authorize;
mod binding;
pub mod claims;
pub mod client_cert;
pub mod content;
pub mod credential;
pub mod decimal;
pub mod dpop;
mod facts;
pub mod head;
mod interaction;
pub mod introspection;
pub mod json;
pub mod jwt;
pub mod keys;
pub mod linking;
pub mod metadata;
mod overlap;
mod path;
pub mod pattern;
pub mod peer;
pub mod policy;
pub mod recorded;
mod rewrite;
mod rights;
pub mod route;
mod sender;
pub mod step;
pub mod step_up;
pub mod time;
pub mod token;
mod tree;
mod validity;
mod weight;

pub use authorize::Authorized;
pub use credential::{Credential, Presented, credential};
pub use head::{Ambiguities, HeadParts, RequestHead};
pub use interaction::{INTERACTION_ID, InteractionId, interaction_id};
pub use introspection::Introspected;
pub use keys::KeySet;
pub use metadata::metadata;
pub use overlap::{Hidden, RouteConflict};
pub use pattern::{Pattern, PatternError};
pub use peer::{Peer, PeerCertificate, Psd2Role, Standing, Thumbprint};
pub use policy::{Issuer, IssuerId, Policy, Route, Snapshot};
pub use route::{RouteTable, Routed, route};
pub use step::{Answer, Ask, Pending, Step, Trail, Unavailable, begin};
pub use time::UnixTime;
pub use token::{AccessToken, SharedToken, TokenDigest, VerifiedToken};

use std::sync::Arc;

/// A request as it arrived: its canonical head, who sent it, and its body, which the core looks at
/// only where a rule is about it, and then asks for its bytes.
#[derive(Debug)]
pub struct Inbound<B> {
    /// The canonical request.
    pub head: RequestHead,
    /// The other end of the connection.
    pub peer: Arc<Peer>,
    /// What the listener's present trust says of the peer's certificate; `None` without one.
    pub standing: Option<Standing>,
    /// The body, passed through untouched.
    pub body: B,
}
