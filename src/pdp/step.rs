//! The machine between a routed request and an authorized one. It asks, the shell answers; it
//! asks each kind of question at most once, so it ends. It never waits and never asks the time.

use std::sync::Arc;

use super::authorize::Authorized;
use super::keys::KeySet;
use super::policy::{Algorithm, Issuer, Policy, Route};
use super::route::Routed;
use super::time::UnixTime;
use super::token::{SharedToken, TokenDigest};
use crate::refusal::{Reason, Refusal};

/// What a decision needs from outside.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Was this very token verified before, with keys that its issuer still has?
    Recall(TokenDigest),
    /// The keys of an issuer, as fresh as its bounds allow if the one named is not among those held.
    Keys {
        /// The issuer that the token names, after it was found among the policy's.
        issuer: Arc<Issuer>,
        /// `kid` of the token, unverified.
        key_id: Option<Box<str>>,
        /// `alg` of the token, found among the issuer's.
        algorithm: Algorithm,
    },
    /// Remember that this token was verified.
    Remember(TokenDigest, SharedToken),
}

/// The answer to an [`Ask`] of the same name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The token, if it is remembered and its keys still stand.
    Recalled(Option<SharedToken>),
    /// The issuer's keys.
    Keys(Arc<KeySet>),
    /// Taken note.
    Remembered,
}

/// Why there is no answer. Always a reason of class `Undecided` or `Local`: what we cannot know is
/// refused as such, never as a fault of the token.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// The row.
    pub reason: Reason,
    /// For the log.
    pub detail: Box<str>,
    /// When to come back.
    pub retry_after: Option<std::time::Duration>,
}

/// What the decision looked at, for the log line, `explain` and the metrics. Filled on the way, so
/// that a refusal leaves as much as a permit does.
#[derive(Debug, Default)]
pub struct Trail {
    /// The route, once found.
    pub route: Option<Arc<Route>>,
    /// The policy, where the route has one.
    pub policy: Option<Arc<Policy>>,
    /// The issuer, once the token names one that the policy takes.
    pub issuer: Option<Arc<Issuer>>,
    /// The verified token, once there is one.
    pub token: Option<SharedToken>,
    /// What the shadow policy would have said: `Some(None)` is "authorized".
    pub shadow: Option<Option<Reason>>,
}

/// Where the machine stands.
#[must_use]
#[derive(Debug)]
pub enum Step<B> {
    /// It needs an answer.
    Ask(Box<Pending<B>>),
    /// It is done.
    Done(Box<Authorized<B>>),
}

/// A request whose decision waits for an answer.
#[must_use]
#[derive(Debug)]
pub struct Pending<B> {
    pub(super) routed: Routed<B>,
    pub(super) ask: Ask,
}

impl<B> Pending<B> {
    /// The question.
    #[must_use]
    pub const fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Goes on with the answer.
    ///
    /// # Errors
    /// Any reason of class `Credential` or `Permission`; `internal` if the answer is to another
    /// question.
    pub fn resume(
        self,
        answer: Answer,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let _ = (answer, now, trail);
        Err(Refusal::new(Reason::Internal))
    }

    /// Goes on without one: refuses, but on a route that is only observed.
    ///
    /// # Errors
    /// The reason of `why`.
    pub fn unanswered(
        self,
        why: &Unavailable,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let _ = (now, trail);
        Err(Refusal::because(why.reason, why.detail.clone()))
    }
}

/// Starts the decision.
///
/// # Errors
/// Any reason of class `Request` or `Credential` that can be known before a question.
pub fn begin<B>(routed: Routed<B>, now: UnixTime, trail: &mut Trail) -> Result<Step<B>, Refusal> {
    let _ = (routed, now, trail);
    Err(Refusal::new(Reason::Internal))
}
