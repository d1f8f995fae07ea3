//! The machine between a routed request and an authorized one. It asks, the shell answers; it
//! asks each kind of question at most once, so it ends. It never waits and never asks the time.

mod case;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::case::{Case, challenged, observed, read};
use super::authorization::{self, Client, Server, Wanted};
use super::authorize::{self, Authorized, Gate};
use super::credential::{Credential, Presented, presented};
use super::dpop::{ProofFacts, ProofHeader, ReplayKey, ReplayRule};
use super::introspection::{How, Introspected};
use super::jwt::Candidate;
use super::keys::KeySet;
use super::policy::{Algorithm, Issuer, Policy, Route};
use super::route::Routed;
use super::sender::Sender;
use super::time::UnixTime;
use super::token::{AccessToken, SharedToken, TokenDigest};
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
    /// The body of the request, where a rule is about it: of what would pass otherwise.
    Body {
        /// Bytes that are read at most.
        limit: usize,
    },
    /// The client that is registered under this id at an authorization server.
    Client {
        /// The server.
        server: Arc<Server>,
        /// `client_id`, unproven.
        client_id: Box<str>,
    },
    /// Keys of a client that are published elsewhere, as fresh as the bounds allow if one wanted is
    /// not among those held.
    ClientKeys {
        /// The client, whose entry names the place.
        client: Arc<Client>,
        /// The ones that are wanted.
        wanted: Vec<Wanted>,
    },
    /// Is this the first use of a proof (RFC 9449 s11.1)? Asked last, and taken note of by the
    /// asking: a proof that fails in any other way uses nothing up (DPOP-40).
    FirstUse {
        /// What its use is remembered under.
        key: ReplayKey,
        /// The longest that one can be taken, from its first moment to its last.
        life: Duration,
        /// The last second in which it could be taken again.
        until: UnixTime,
        /// What the policy wants where the store that replicas share cannot tell.
        rule: ReplayRule,
    },
}

/// The answer to an [`Ask`] of the same name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The token, if it is remembered and its keys still stand.
    Recalled(Option<SharedToken>),
    /// The issuer's or the client's keys.
    Keys(Arc<KeySet>),
    /// Taken note.
    Remembered,
    /// What the issuer says.
    Introspected(Arc<Introspected>, How),
    /// All of the body.
    Body(Bytes),
    /// The client, if the registry has it.
    Client(Option<Arc<Client>>),
    /// Whether it is the first.
    FirstUse(bool),
}

/// Why there is no answer. A reason of class `Undecided` or `Local`: what we cannot know is
/// refused as such, never as a fault of the token. For a body that the client did not send whole or
/// in time, one of class `Request`.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// The row.
    pub reason: Reason,
    /// For the log.
    pub detail: Box<str>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

/// What the decision looked at, for the log line, `explain` and the metrics. Filled on the way, so
/// that a refusal leaves as much as a permit does.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// The route, once found.
    pub route: Option<Arc<Route>>,
    /// The policy, where the route has one.
    pub policy: Option<Arc<Policy>>,
    /// The issuer, once the token names one that the policy takes.
    pub issuer: Option<Arc<Issuer>>,
    /// The verified token, once there is one.
    pub token: Option<SharedToken>,
    /// Of the token that came, verified or not.
    pub digest: Option<TokenDigest>,
    /// `iss` of the issuers that were not the token's.
    pub accepted: Arc<[Box<str>]>,
    /// Whether what only a record wants is worked out too.
    pub recording: bool,
    /// The credential, once its field was read. Before that, the one that the sender used last, if it
    /// is known: what is the same is not read again.
    pub presented: Option<Arc<Presented>>,
    /// What is recorded of the proof, once it could be read, where it is wanted.
    pub proof: Option<ProofFacts>,
    /// The header of the proof, once it was read. Before that, one that the sender used earlier, if
    /// there is one: what is the same is not read again.
    pub proof_header: Option<Arc<ProofHeader>>,
    /// What the issuer says of a token that was verified here.
    pub told: Option<SharedToken>,
    /// Whether the body was asked for.
    pub asked_body: bool,
    /// The client of a request to an authorization server, once the registry had it.
    pub client: Option<Arc<Client>>,
    /// How the issuer's word about the token was come by, where it was wanted.
    pub introspection: Option<How>,
    /// What the shadow policy would have said: `Some(None)` is "authorized".
    pub shadow: Option<Option<Reason>>,
}

impl Trail {
    /// The signature of the proof, where there is one, was found good.
    fn proven(&mut self) {
        if let Some(proof) = &mut self.proof {
            proof.verified = true;
        }
    }
}

/// Where the machine stands.
#[must_use]
#[derive(Debug)]
pub enum Step<B> {
    /// It needs an answer.
    Ask(Pending<B>),
    /// It is done.
    Done(Authorized<B>),
}

/// A request whose decision waits for an answer.
#[must_use]
#[derive(Debug)]
pub struct Pending<B> {
    route: Arc<Route>,
    ask: Ask,
    waiting: Waiting<B>,
}

/// Which machine waits.
#[derive(Debug)]
enum Waiting<B> {
    /// For what is about a token.
    Token(Case<B>, Evidence),
    /// For what is about a request to an authorization server.
    Authorization(authorization::Pending<B>),
}

impl<B> From<authorization::Next<B>> for Step<B> {
    fn from(next: authorization::Next<B>) -> Self {
        match next {
            authorization::Next::Done(authorized) => Self::Done(authorized),
            authorization::Next::Ask(route, ask, pending) => Self::Ask(Pending {
                route,
                ask,
                waiting: Waiting::Authorization(pending),
            }),
        }
    }
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
    /// It would pass if what the body says may be.
    Unread(SharedToken),
    /// It would pass if its proof is new.
    Unused(SharedToken),
}

impl<B> Pending<B> {
    /// The question.
    #[must_use]
    pub const fn ask(&self) -> &Ask {
        &self.ask
    }

    /// The route that was found.
    #[must_use]
    pub const fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The body, of which the shell reads what [`Ask::Body`] asks for; `None` where nothing of it is
    /// asked for any more.
    pub const fn body_mut(&mut self) -> Option<&mut B> {
        let routed = match &mut self.waiting {
            Waiting::Token(case, _) => &mut case.routed,
            Waiting::Authorization(pending) => match pending.routed_mut() {
                Some(routed) => routed,
                None => return None,
            },
        };
        Some(&mut routed.inbound.body)
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
        let Self { ask, waiting, .. } = self;
        let (case, evidence) = match waiting {
            Waiting::Token(case, evidence) => (case, evidence),
            Waiting::Authorization(pending) => {
                return pending.resume(ask, answer, now, trail).map(Step::from);
            }
        };
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
                    Ok(told) => {
                        trail.told = Some(Arc::clone(told));
                        case.confirmed((&token, told), now, trail)
                    }
                    Err(refusal) => case.refused(refusal, now),
                }
            }
            (Ask::Body { limit }, Evidence::Unread(token), Answer::Body(body))
                if body.len() <= limit =>
            {
                case.read(&token, body, now, trail)
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
                | Ask::Body { .. }
                | Ask::Client { .. }
                | Ask::ClientKeys { .. }
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
            Ask::Keys { .. }
            | Ask::Introspect { .. }
            | Ask::Body { .. }
            | Ask::Client { .. }
            | Ask::ClientKeys { .. }
            | Ask::FirstUse { .. } => {
                let mut refusal = Refusal::because(why.reason, why.detail.clone());
                if why.retry_after.is_some() {
                    refusal = refusal.advise(|advice| advice.retry_after = why.retry_after);
                }
                return match self.waiting {
                    Waiting::Token(case, _) => case.refused(refusal, now),
                    // Such a route is never only observed.
                    Waiting::Authorization(_) => Err(refusal),
                };
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
        Gate::Open(authorized) => return Ok(Step::Done(authorized)),
        Gate::Guarded(routed, policy) => (routed, policy),
        Gate::Authorization(routed, guard) => {
            return authorization::begin(routed, &guard).map(Step::from);
        }
    };
    trail.policy = Some(Arc::clone(&policy));
    let presented = presented(
        &routed.inbound.head,
        routed.token_bytes,
        policy.binding.schemes(),
        trail.presented.as_ref(),
    );
    let presented = match presented {
        Ok(presented) => presented,
        Err(refusal) => return observed(routed, refusal, now),
    };
    let Credential { scheme, token } = presented.credential();
    let read = Sender::read(*scheme, token, &routed, &policy, (now, trail));
    let sender = match read {
        Ok(sender) => sender,
        Err(refusal) => {
            return observed(routed, challenged(refusal, &policy, *scheme), now);
        }
    };
    let case = Case {
        routed,
        policy,
        sender,
        content: None,
    };
    let token = token.clone();
    let signed = presented.looks_signed();
    trail.presented = Some(presented);
    if signed {
        let digest = token.digest();
        trail.digest = Some(digest);
        Ok(case.ask(Ask::Recall(digest), Evidence::Presented(token)))
    } else {
        case.opaque(token, now, trail)
    }
}

fn misanswered(why: &str) -> Refusal {
    Refusal::because(Reason::Internal, why)
}
