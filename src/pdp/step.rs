//! The machine between a routed request and an authorized one. It asks, the shell answers; it
//! asks each kind of question at most once, so it ends. It never waits and never asks the time.

use std::sync::Arc;

use super::authorize::{self, Authorized, Gate};
use super::claims;
use super::credential::{Credential, credential, looks_signed};
use super::dpop::ReplayKey;
use super::introspection::{How, Introspected};
use super::jwt::{Candidate, is_jwt};
use super::keys::KeySet;
use super::metadata;
use super::policy::{Algorithm, Asking, Issuer, Policy, Route};
use super::route::Routed;
use super::sender::Sender;
use super::time::UnixTime;
use super::token::{AccessToken, SharedToken, TokenDigest};
use crate::refusal::{Challenge, Reason, Refusal, Scheme};

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
    /// Is this the first use of a proof (RFC 9449 s11.1)? Asked last, and taken note of by the
    /// asking: a proof that fails in any other way uses nothing up (DPOP-40).
    FirstUse {
        /// What its use is remembered under.
        key: ReplayKey,
        /// The last second in which it could be taken again.
        until: UnixTime,
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
    Introspected(Arc<Introspected>, How),
    /// Whether it is the first.
    FirstUse(bool),
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
    /// How the issuer's word about the token was come by, where it was wanted.
    pub introspection: Option<How>,
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
    case: Case<B>,
    ask: Ask,
    evidence: Evidence,
}

/// A request on its way to a decision: its route, the policy in force there, and what its sender
/// brought beside the token.
#[derive(Debug)]
struct Case<B> {
    routed: Routed<B>,
    policy: Arc<Policy>,
    sender: Sender,
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
    /// It would pass if its proof is new.
    Unused(SharedToken),
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
            case,
            ask,
            evidence,
        } = self;
        match (ask, evidence, answer) {
            (Ask::Recall(digest), Evidence::Presented(token), Answer::Recalled(known)) => {
                match known {
                    Some(known) if known.digest() == digest => {
                        case.verified((known, token), now, trail)
                    }
                    Some(_) => Err(misanswered("another token was recalled")),
                    None => case.unknown(token, now, trail),
                }
            }
            (Ask::Keys { .. }, Evidence::Candidate(candidate), Answer::Keys(keys)) => {
                match read(&candidate, &keys) {
                    Ok(token) => case.remember((token, candidate.into_token()), now, trail),
                    Err(refusal) => case.refused(refusal, now),
                }
            }
            (Ask::Remember(..), Evidence::Verified(token, text), Answer::Remembered) => {
                case.verified((token, text), now, trail)
            }
            (
                Ask::Introspect { issuer, .. },
                Evidence::Opaque(digest),
                Answer::Introspected(said, how),
            ) if said.digest() == digest && said.issuer() == issuer.id => {
                trail.introspection = Some(how);
                match said.token() {
                    Ok(told) => case.permitted(told, now, trail),
                    Err(refusal) => case.refused(refusal, now),
                }
            }
            (
                Ask::Introspect { issuer, .. },
                Evidence::Permitted(token),
                Answer::Introspected(said, how),
            ) if said.digest() == token.digest() && said.issuer() == issuer.id => {
                trail.introspection = Some(how);
                match said.token() {
                    Ok(told) => case.confirmed((&token, told), now, trail),
                    Err(refusal) => case.refused(refusal, now),
                }
            }
            (Ask::FirstUse { .. }, Evidence::Unused(token), Answer::FirstUse(first)) => {
                if first {
                    case.decided(&token, now, trail)
                } else {
                    case.refused(Reason::ProofReplayed.into(), now)
                }
            }
            (
                Ask::Recall(_)
                | Ask::Keys { .. }
                | Ask::Remember(..)
                | Ask::Introspect { .. }
                | Ask::FirstUse { .. },
                _,
                _,
            ) => Err(misanswered("the answer is to another question")),
        }
    }

    /// Goes on without an answer. A memory that does not work costs time and no more; without
    /// keys, what the issuer says or whether a proof is new, the request is refused as undecided,
    /// but on a route that is only observed.
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
            Ask::Keys { .. } | Ask::Introspect { .. } | Ask::FirstUse { .. } => {
                let mut refusal = Refusal::because(why.reason, why.detail.clone());
                if why.retry_after.is_some() {
                    refusal = refusal.advise(|advice| advice.retry_after = why.retry_after);
                }
                return self.case.refused(refusal, now);
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
    let presented = credential(
        &routed.inbound.head,
        routed.token_bytes,
        policy.binding.schemes(),
    );
    let Credential { scheme, token } = match presented {
        Ok(credential) => credential,
        Err(refusal) => return observed(routed, refusal, now),
    };
    let sender = match Sender::read(scheme, &token, &routed, &policy, now) {
        Ok(sender) => sender,
        Err(refusal) => {
            return observed(routed, challenged(refusal, &policy, scheme), now);
        }
    };
    let case = Case {
        routed,
        policy,
        sender,
    };
    if looks_signed(&token) {
        Ok(case.ask(Ask::Recall(token.digest()), Evidence::Presented(token)))
    } else {
        case.opaque(token, now, trail)
    }
}

impl<B> Case<B> {
    fn ask(self, ask: Ask, evidence: Evidence) -> Step<B> {
        Step::Ask(Box::new(Pending {
            case: self,
            ask,
            evidence,
        }))
    }

    /// The token is not remembered: its own words say whose keys to ask for.
    fn unknown(
        self,
        token: AccessToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        if self.policy.opaque.is_some() && !is_jwt(token.expose()) {
            return self.opaque(token, now, trail);
        }
        let issuers = self.policy.issuers.iter();
        let issuers = issuers.filter_map(|id| self.routed.snapshot.issuer(*id));
        let candidate = match Candidate::new(token, issuers) {
            Ok(candidate) => candidate,
            Err(refusal) => return self.refused(refusal, now),
        };
        trail.issuer = Some(Arc::clone(candidate.issuer()));
        let ask = Ask::Keys {
            issuer: Arc::clone(candidate.issuer()),
            key_id: candidate.key_id().map(Into::into),
            algorithm: candidate.algorithm(),
        };
        Ok(self.ask(ask, Evidence::Candidate(Box::new(candidate))))
    }

    /// The token is opaque: the one issuer of the policy that introspects is asked. What no answer
    /// could save is refused before, so that it costs no call (INT-13).
    fn opaque(
        self,
        token: AccessToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let asked = self.policy.opaque.and_then(|id| {
            let issuer = self.routed.snapshot.issuer(id)?;
            Some((Arc::clone(issuer), issuer.introspection?))
        });
        let Some((issuer, rules)) = asked else {
            let why = "the token is not three parts of base64url (RFC 7515 s3.1), and no issuer of the policy takes opaque ones";
            return self.refused(Refusal::because(Reason::TokenMalformed, why), now);
        };
        trail.issuer = Some(Arc::clone(&issuer));
        let length = token.expose().len();
        if length > rules.token_bytes {
            let why = format!(
                "the opaque token has {length} bytes of at most {} for issuer {}",
                rules.token_bytes, issuer.name
            );
            return self.refused(Refusal::because(Reason::TokenTooLarge, why), now);
        }
        if let Err(refusal) = authorize::could_pass(&self.routed, &self.policy, &self.sender, now) {
            return self.refused(refusal, now);
        }
        let digest = token.digest();
        let ask = Ask::Introspect {
            issuer,
            token,
            remembered: self.policy.introspection != Asking::Uncached,
        };
        self.proven(now, |case| Ok(case.ask(ask, Evidence::Opaque(digest))))
    }

    /// A token that ran out is not worth a place in the memory.
    fn remember(
        self,
        (token, text): (SharedToken, AccessToken),
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        if now >= token.expires() {
            return self.decided(&token, now, trail);
        }
        let ask = Ask::Remember(token.digest(), Arc::clone(&token));
        Ok(self.ask(ask, Evidence::Verified(token, text)))
    }

    /// The token is good by itself. Where the policy or the issuer's settings say so, its issuer is
    /// asked whether it still stands by it, if the request would pass otherwise: both must permit
    /// (INT-14).
    fn verified(
        self,
        (token, text): (SharedToken, AccessToken),
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        self.proven(now, |case| {
            let issuer = case.routed.snapshot.issuer(token.issuer());
            let always = || {
                let rules = issuer.and_then(|issuer| issuer.introspection);
                rules.is_some_and(|rules| rules.always)
            };
            let asked = case.policy.introspection != Asking::AsIssuer || always();
            let Some(issuer) = issuer.filter(|_| asked).map(Arc::clone) else {
                return case.permitted(&token, now, trail);
            };
            if case.passes(&token, now).is_err() {
                return case.decided(&token, now, trail);
            }
            trail.issuer = Some(Arc::clone(&issuer));
            trail.token = Some(Arc::clone(&token));
            let ask = Ask::Introspect {
                issuer,
                token: text,
                remembered: case.policy.introspection != Asking::Uncached,
            };
            Ok(case.ask(ask, Evidence::Permitted(token)))
        })
    }

    /// A JWT about which its issuer was asked: the answer must permit as well, and be about the
    /// same client and user.
    fn confirmed(
        self,
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
            return self.refused(Refusal::because(Reason::IntrospectionUnfit, why), now);
        }
        match self.passes(told, now) {
            Ok(()) => self.permitted(token, now, trail),
            Err(refusal) => self.refused(refusal, now),
        }
    }

    /// All is known of the token. A proof that would pass is used up now.
    fn permitted(
        self,
        token: &SharedToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let Some(proof) = self.sender.proof() else {
            return self.decided(token, now, trail);
        };
        let ask = Ask::FirstUse {
            key: proof.replay_key(),
            until: proof.until(&self.policy.proofs),
        };
        if self.passes(token, now).is_err() {
            return self.decided(token, now, trail);
        }
        trail.issuer = self.routed.snapshot.issuer(token.issuer()).map(Arc::clone);
        trail.token = Some(Arc::clone(token));
        Ok(self.ask(ask, Evidence::Unused(Arc::clone(token))))
    }

    fn decided(
        self,
        token: &SharedToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let Self {
            routed,
            policy,
            sender,
        } = self;
        trail.issuer = routed.snapshot.issuer(token.issuer()).map(Arc::clone);
        trail.token = Some(Arc::clone(token));
        match authorize::decide(routed, &policy, (token, &sender), now, trail) {
            Ok(authorized) => Ok(Step::Done(Box::new(authorized))),
            Err((routed, refusal)) => {
                observed(routed, challenged(refusal, &policy, sender.scheme()), now)
            }
        }
    }

    fn passes(&self, token: &SharedToken, now: UnixTime) -> Result<(), Refusal> {
        authorize::passes(&self.routed, &self.policy, (token, &self.sender), now)
    }

    /// Goes on once the signature of the proof, where there is one, was found good.
    fn proven(
        self,
        now: UnixTime,
        then: impl FnOnce(Self) -> Result<Step<B>, Refusal>,
    ) -> Result<Step<B>, Refusal> {
        let Self {
            routed,
            policy,
            sender,
        } = self;
        let scheme = sender.scheme();
        match sender.proven() {
            Ok(sender) => then(Self {
                routed,
                policy,
                sender,
            }),
            Err(refusal) => observed(routed, challenged(refusal, &policy, scheme), now),
        }
    }

    /// The end of a request that its policy does not let pass.
    fn refused(self, refusal: Refusal, now: UnixTime) -> Result<Step<B>, Refusal> {
        let refusal = challenged(refusal, &self.policy, self.sender.scheme());
        observed(self.routed, refusal, now)
    }
}

fn read(candidate: &Candidate, keys: &KeySet) -> Result<SharedToken, Refusal> {
    let signed = candidate.verify(keys)?;
    claims::read(&signed, candidate.issuer(), candidate.digest()).map(Arc::new)
}

/// A refusal, but on a route that is only observed.
fn observed<B>(routed: Routed<B>, refusal: Refusal, now: UnixTime) -> Result<Step<B>, Refusal> {
    let refusal = match refusal.reason().spec().challenge {
        Challenge::None => refusal,
        // RFC 9728 s5.1.
        Challenge::Bare | Challenge::Error(_) => match metadata::location(&routed) {
            Some(at) => refusal.advise(|advice| advice.resource_metadata = Some(at)),
            None => refusal,
        },
    };
    authorize::observe(routed, refusal, now).map(|authorized| Step::Done(Box::new(authorized)))
}

/// Says which schemes the route takes, and that the error is of the one that the client used.
fn challenged(refusal: Refusal, policy: &Policy, used: Scheme) -> Refusal {
    let silent = refusal
        .advice()
        .is_none_or(|advice| advice.schemes.is_empty());
    if matches!(refusal.reason().spec().challenge, Challenge::Error(_)) && silent {
        refusal.advise(|advice| {
            advice.schemes = policy.binding.schemes();
            advice.used = Some(used);
        })
    } else {
        refusal
    }
}

fn misanswered(why: &str) -> Refusal {
    Refusal::because(Reason::Internal, why)
}
