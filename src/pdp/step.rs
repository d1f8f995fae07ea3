//! The machine between a routed request and an authorized one. It asks, the shell answers; it
//! asks each kind of question at most once, so it ends. It never waits and never asks the time.

use std::sync::Arc;

use super::authorize::{self, Authorized, Gate};
use super::claims;
use super::credential::{credential, looks_signed};
use super::introspection::Introspected;
use super::jwt::{Candidate, is_jwt};
use super::keys::KeySet;
use super::policy::{Algorithm, Asking, Issuer, Policy, Route};
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
    /// What an issuer says about a token (RFC 7662).
    Introspect {
        /// Who is asked: the issuer of the policy that takes opaque tokens, or the one that
        /// signed this token.
        issuer: Arc<Issuer>,
        /// The token, to be sent there and nowhere else.
        token: AccessToken,
        /// Whether an answer given before this request will do.
        remembered: bool,
    },
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
    /// What the issuer says.
    Introspected(Arc<Introspected>),
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
    Verified(SharedToken, AccessToken),
    /// It is opaque.
    Opaque(TokenDigest),
    /// Its signature and claims are good, and it would pass if its issuer still stands by it.
    Permitted(SharedToken),
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
                        verified(routed, policy, (known, token), now, trail)
                    }
                    Some(_) => Err(misanswered("another token was recalled")),
                    None => unknown(routed, policy, token, now, trail),
                }
            }
            (Ask::Keys { .. }, Evidence::Candidate(candidate), Answer::Keys(keys)) => {
                match read(&candidate, &keys) {
                    Ok(token) => {
                        let known = (token, candidate.into_token());
                        remember(routed, policy, known, now, trail)
                    }
                    Err(refusal) => refused(routed, refusal, now),
                }
            }
            (Ask::Remember(..), Evidence::Verified(token, text), Answer::Remembered) => {
                verified(routed, policy, (token, text), now, trail)
            }
            (Ask::Introspect { issuer, .. }, evidence, Answer::Introspected(said)) => {
                let digest = match &evidence {
                    Evidence::Opaque(digest) => Some(*digest),
                    Evidence::Permitted(token) => Some(token.digest()),
                    Evidence::Presented(_) | Evidence::Candidate(_) | Evidence::Verified(..) => {
                        None
                    }
                };
                if digest != Some(said.digest()) || said.issuer() != issuer.id {
                    return Err(misanswered("the answer is about another token"));
                }
                let told = match said.token() {
                    Ok(told) => told,
                    Err(refusal) => return refused(routed, refusal, now),
                };
                match evidence {
                    Evidence::Permitted(token) => {
                        confirmed(routed, &policy, (&token, told), now, trail)
                    }
                    Evidence::Opaque(_)
                    | Evidence::Presented(_)
                    | Evidence::Candidate(_)
                    | Evidence::Verified(..) => decided(routed, &policy, told, now, trail),
                }
            }
            (
                Ask::Recall(_) | Ask::Keys { .. } | Ask::Remember(..) | Ask::Introspect { .. },
                _,
                _,
            ) => Err(misanswered("the answer is to another question")),
        }
    }

    /// Goes on without an answer. A memory that does not work costs time and no more; without
    /// keys, or what the issuer says, the request is refused as undecided, but on a route that is only observed.
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
            Ask::Keys { .. } | Ask::Introspect { .. } => {
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
        Ok(token) if !looks_signed(&token) => opaque(routed, policy, token, now, trail),
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
    if policy.opaque.is_some() && !is_jwt(token.expose()) {
        return opaque(routed, policy, token, now, trail);
    }
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

/// The token is opaque: the one issuer of the policy that introspects is asked. What no answer
/// could save is refused before, so that it costs no call (INT-13).
fn opaque<B>(
    routed: Routed<B>,
    policy: Arc<Policy>,
    token: AccessToken,
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    let asked = policy.opaque.and_then(|id| {
        let issuer = routed.snapshot.issuer(id)?;
        Some((Arc::clone(issuer), issuer.introspection?))
    });
    let Some((issuer, rules)) = asked else {
        let why = "the token is not three parts of base64url (RFC 7515 s3.1), and no issuer of the policy takes opaque ones";
        return refused(routed, Refusal::because(Reason::TokenMalformed, why), now);
    };
    trail.issuer = Some(Arc::clone(&issuer));
    let length = token.expose().len();
    if length > rules.token_bytes {
        let why = format!(
            "the opaque token has {length} bytes of at most {} for issuer {}",
            rules.token_bytes, issuer.name
        );
        return refused(routed, Refusal::because(Reason::TokenTooLarge, why), now);
    }
    if let Err(refusal) = authorize::sender(&routed, &policy, now) {
        return refused(routed, refusal, now);
    }
    Ok(Step::Ask(Box::new(Pending {
        evidence: Evidence::Opaque(token.digest()),
        ask: Ask::Introspect {
            issuer,
            token,
            remembered: policy.introspection != Asking::Uncached,
        },
        routed,
        policy,
    })))
}

fn read(candidate: &Candidate, keys: &KeySet) -> Result<SharedToken, Refusal> {
    let signed = candidate.verify(keys)?;
    claims::read(&signed, candidate.issuer(), candidate.digest()).map(Arc::new)
}

/// A token that ran out is not worth a place in the memory.
fn remember<B>(
    routed: Routed<B>,
    policy: Arc<Policy>,
    (token, text): (SharedToken, AccessToken),
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    if now >= token.expires() {
        return decided(routed, &policy, &token, now, trail);
    }
    Ok(Step::Ask(Box::new(Pending {
        ask: Ask::Remember(token.digest(), Arc::clone(&token)),
        evidence: Evidence::Verified(token, text),
        routed,
        policy,
    })))
}

/// The token is good by itself. Where the policy or the issuer's settings say so, its issuer is
/// asked whether it still stands by it, if the request would pass otherwise: both must permit
/// (INT-14).
fn verified<B>(
    routed: Routed<B>,
    policy: Arc<Policy>,
    (token, text): (SharedToken, AccessToken),
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    let issuer = routed.snapshot.issuer(token.issuer());
    let always = || {
        let rules = issuer.and_then(|issuer| issuer.introspection);
        rules.is_some_and(|rules| rules.always)
    };
    let asked = policy.introspection != Asking::AsIssuer || always();
    let Some(issuer) = issuer.filter(|_| asked).map(Arc::clone) else {
        return decided(routed, &policy, &token, now, trail);
    };
    if authorize::passes(&routed, &policy, &token, now).is_err() {
        return decided(routed, &policy, &token, now, trail);
    }
    trail.issuer = Some(Arc::clone(&issuer));
    trail.token = Some(Arc::clone(&token));
    Ok(Step::Ask(Box::new(Pending {
        ask: Ask::Introspect {
            issuer,
            token: text,
            remembered: policy.introspection != Asking::Uncached,
        },
        evidence: Evidence::Permitted(token),
        routed,
        policy,
    })))
}

/// A JWT about which its issuer was asked: the answer must permit as well, and be about the same
/// client and user.
fn confirmed<B>(
    routed: Routed<B>,
    policy: &Policy,
    (token, told): (&SharedToken, &SharedToken),
    now: UnixTime,
    trail: &mut Trail,
) -> Result<Step<B>, Refusal> {
    let other_user = match (token.subject(), told.subject()) {
        (Some(ours), Some(theirs)) => ours != theirs,
        (None, _) | (_, None) => false,
    };
    if token.client_id() != told.client_id() || other_user {
        let why = "the issuer's answer names another client or user than the token itself";
        return refused(
            routed,
            Refusal::because(Reason::IntrospectionUnfit, why),
            now,
        );
    }
    match authorize::passes(&routed, policy, told, now) {
        Ok(()) => decided(routed, policy, token, now, trail),
        Err(refusal) => refused(routed, refusal, now),
    }
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
