//! The machine between a routed request and an authorized one. It asks, the shell answers; it
//! asks each kind of question at most once, so it ends. It never waits and never asks the time.

use std::sync::Arc;

use super::authorize::{self, Authorized, Gate};
use super::claims;
use super::credential::credential;
use super::jwt::Candidate;
use super::keys::KeySet;
use super::policy::{Algorithm, Issuer, Policy, Route};
use super::route::Routed;
use super::time::UnixTime;
use super::token::{AccessToken, SharedToken, TokenDigest};
use crate::refusal::{Challenge, Reason, Refusal, Scheme, Schemes};

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
    routed: Routed<B>,
    policy: Arc<Policy>,
    ask: Ask,
    evidence: Evidence,
}

/// What is known of the token so far.
#[derive(Debug)]
enum Evidence {
    /// It came.
    Presented(AccessToken),
    /// It names an issuer of the policy, in a form that the issuer's settings take.
    Candidate(Box<Candidate>),
    /// Its signature and claims are good.
    Verified(SharedToken),
}

impl<B> Pending<B> {
    /// The question.
    #[must_use]
    pub const fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Goes on with the answer. `now` is the time after the answer came, so that a slow one cannot
    /// stretch a token's life.
    ///
    /// # Errors
    /// Any reason of class `Credential` or `Permission`, `header_required`; `internal` if the
    /// answer is to another question.
    pub fn resume(
        self,
        answer: Answer,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let Self {
            routed,
            policy,
            ask,
            evidence,
        } = self;
        match (ask, evidence, answer) {
            (Ask::Recall(digest), Evidence::Presented(token), Answer::Recalled(known)) => {
                match known {
                    Some(known) if known.digest() == digest => {
                        decided(routed, &policy, &known, now, trail)
                    }
                    Some(_) => Err(misanswered("another token was recalled")),
                    None => unknown(routed, policy, token, now, trail),
                }
            }
            (Ask::Keys { .. }, Evidence::Candidate(candidate), Answer::Keys(keys)) => {
                match verified(&candidate, &keys) {
                    Ok(token) => remember(routed, policy, token, now, trail),
                    Err(refusal) => refused(routed, refusal, now),
                }
            }
            (Ask::Remember(..), Evidence::Verified(token), Answer::Remembered) => {
                decided(routed, &policy, &token, now, trail)
            }
            (Ask::Recall(_) | Ask::Keys { .. } | Ask::Remember(..), _, _) => {
                Err(misanswered("the answer is to another question"))
            }
        }
    }

    /// Goes on without an answer. A memory that does not work costs time and no more; without
    /// keys the request is refused as undecided, but on a route that is only observed.
    ///
    /// # Errors
    /// The reason of `why`, or as [`Pending::resume`].
    pub fn unanswered(
        self,
        why: &Unavailable,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let answer = match &self.ask {
            Ask::Recall(_) => Answer::Recalled(None),
            Ask::Remember(..) => Answer::Remembered,
            Ask::Keys { .. } => {
                let mut refusal = Refusal::because(why.reason, why.detail.clone());
                if why.retry_after.is_some() {
                    refusal = refusal.advise(|advice| advice.retry_after = why.retry_after);
                }
                return refused(self.routed, refusal, now);
            }
        };
        self.resume(answer, now, trail)
    }
}

/// Starts the decision: an open route is done at once, any other asks whether its token is known.
///
/// # Errors
/// Any reason of class `Credential` that can be known before a question.
pub fn begin<B>(routed: Routed<B>, now: UnixTime, trail: &mut Trail) -> Result<Step<B>, Refusal> {
    let (routed, policy) = match authorize::gate(routed)? {
        Gate::Open(authorized) => return Ok(Step::Done(Box::new(authorized))),
        Gate::Guarded(routed, policy) => (routed, policy),
    };
    trail.policy = Some(Arc::clone(&policy));
    match credential(&routed.inbound.head, routed.token_bytes) {
        Ok(token) => Ok(Step::Ask(Box::new(Pending {
            ask: Ask::Recall(token.digest()),
            evidence: Evidence::Presented(token),
            routed,
            policy,
        }))),
        Err(refusal) => refused(routed, refusal, now),
    }
}

/// The token is not remembered: its own words say whose keys to ask for.
fn unknown<B>(
    routed: Routed<B>,
    policy: Arc<Policy>,
    token: AccessToken,
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    let issuers = policy
        .issuers
        .iter()
        .filter_map(|id| routed.snapshot.issuer(*id));
    let candidate = match Candidate::new(token, issuers) {
        Ok(candidate) => candidate,
        Err(refusal) => return refused(routed, refusal, now),
    };
    trail.issuer = Some(Arc::clone(candidate.issuer()));
    Ok(Step::Ask(Box::new(Pending {
        ask: Ask::Keys {
            issuer: Arc::clone(candidate.issuer()),
            key_id: candidate.key_id().map(Into::into),
            algorithm: candidate.algorithm(),
        },
        evidence: Evidence::Candidate(Box::new(candidate)),
        routed,
        policy,
    })))
}

fn verified(candidate: &Candidate, keys: &KeySet) -> Result<SharedToken, Refusal> {
    let signed = candidate.verify(keys)?;
    claims::read(&signed, candidate.issuer(), candidate.digest()).map(Arc::new)
}

/// A token that ran out is not worth a place in the memory.
fn remember<B>(
    routed: Routed<B>,
    policy: Arc<Policy>,
    token: SharedToken,
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    if now >= token.expires() {
        return decided(routed, &policy, &token, now, trail);
    }
    Ok(Step::Ask(Box::new(Pending {
        ask: Ask::Remember(token.digest(), Arc::clone(&token)),
        evidence: Evidence::Verified(token),
        routed,
        policy,
    })))
}

fn decided<B>(
    routed: Routed<B>,
    policy: &Policy,
    token: &SharedToken,
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    trail.issuer = routed.snapshot.issuer(token.issuer()).map(Arc::clone);
    trail.token = Some(Arc::clone(token));
    match authorize::decide(routed, policy, token, now, trail) {
        Ok(authorized) => Ok(Step::Done(Box::new(authorized))),
        Err((routed, refusal)) => refused(routed, refusal, now),
    }
}

/// The end of a request that its policy does not let pass.
fn refused<B>(routed: Routed<B>, refusal: Refusal, now: UnixTime) -> Result<Step<B>, Refusal> {
    authorize::observe(routed, challenged(refusal), now)
        .map(|authorized| Step::Done(Box::new(authorized)))
}

/// Says which schemes the route takes, and that the error is of the one that the client used.
fn challenged(refusal: Refusal) -> Refusal {
    let silent = refusal
        .advice()
        .is_none_or(|advice| advice.schemes.is_empty());
    if matches!(refusal.reason().spec().challenge, Challenge::Error(_)) && silent {
        refusal.advise(|advice| {
            advice.schemes = Schemes::BEARER;
            advice.used = Some(Scheme::Bearer);
        })
    } else {
        refusal
    }
}

fn misanswered(why: &str) -> Refusal {
    Refusal::because(Reason::Internal, why)
}
