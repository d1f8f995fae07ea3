//! Why a request did not pass: one table, and the value that carries a row of it.
//!
//! Every answer that Portcullis makes itself comes from a [`Reason`]; its row ([`Reason::spec`])
//! says what the client is told, what the operator is told, and who must act. There is no other
//! way to refuse: no `From<String>`, no `Other`.
#![deny(clippy::disallowed_types)]
#![deny(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

mod challenge;
pub mod format;
mod reason;
pub mod table;

pub use challenge::{PROOF_ALGORITHMS, Scheme, Schemes, challenges};
pub use reason::{Challenge, Class, CloseReason, ErrorStatus, Reason, Spec};

use std::time::Duration;

/// A request that does not pass: a row of the table, and what only this request can add to it.
///
/// `detail` goes to the log alone and never to the client. It must not hold a token, a proof or a
/// secret: say what was expected and, of what was found, only what a log may keep.
#[must_use]
#[derive(Debug, Clone)]
pub struct Refusal {
    reason: Reason,
    detail: Option<Box<str>>,
    advice: Option<Box<Advice>>,
}

/// What a client can act on, beside the fixed text of the row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// Schemes that the route accepts, each offered in a challenge of its own (RFC 9449 s7.2).
    pub schemes: Schemes,
    /// The scheme that the client used: the error stands in this one's challenge only.
    pub used: Option<Scheme>,
    /// Scopes that would do (RFC 6750 s3, `scope`).
    pub scope: Vec<Box<str>>,
    /// Authentication contexts that would do, preferred first (RFC 9470 s3, `acr_values`).
    pub acr_values: Vec<Box<str>>,
    /// How fresh the authentication must be (RFC 9470 s3, `max_age`, whole seconds).
    pub max_age: Option<Duration>,
    /// The methods that the path has (`Allow`, RFC 9110 s10.2.1), for 405 only.
    pub allow: Vec<Box<str>>,
    /// Where the metadata of this resource are (RFC 9728 s5.1).
    pub resource_metadata: Option<std::sync::Arc<str>>,
    /// When to come back (`Retry-After`, RFC 9110 s10.2.3); rows of class `Undecided` have a default.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that has nothing to add to its row.
    pub const fn new(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
            advice: None,
        }
    }

    /// A refusal with a note for the log.
    pub fn because(reason: Reason, detail: impl Into<Box<str>>) -> Self {
        Self {
            reason,
            detail: Some(detail.into()),
            advice: None,
        }
    }

    /// The same refusal with something that the client can act on.
    pub fn advise(mut self, change: impl FnOnce(&mut Advice)) -> Self {
        change(self.advice.get_or_insert_default());
        self
    }

    /// The row.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The note for the log.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What the client can act on.
    #[must_use]
    pub fn advice(&self) -> Option<&Advice> {
        self.advice.as_deref()
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}
