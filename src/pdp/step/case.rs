//! From evidence to the next question, or to the end: what each answer leads to.

use std::sync::Arc;

use bytes::Bytes;

use super::{Ask, Evidence, Pending, Step, Trail, Waiting};
use crate::pdp::authorize;
use crate::pdp::claims;
use crate::pdp::content::Content;
use crate::pdp::jwt::{Candidate, is_jwt};
use crate::pdp::keys::KeySet;
use crate::pdp::metadata;
use crate::pdp::policy::{Asking, Issuer, Policy};
use crate::pdp::route::Routed;
use crate::pdp::sender::Sender;
use crate::pdp::time::UnixTime;
use crate::pdp::token::{AccessToken, SharedToken};
use crate::refusal::{Challenge, Reason, Refusal, Scheme};

/// A request on its way to a decision: its route, the policy in force there, and what its sender
/// brought beside the token.
#[derive(Debug)]
pub(super) struct Case<B> {
    pub(super) routed: Routed<B>,
    pub(super) policy: Arc<Policy>,
    pub(super) sender: Sender,
    /// The body, once it was read.
    pub(super) content: Option<Box<Content>>,
}

impl<B> Case<B> {
    pub(super) fn ask(self, ask: Ask, evidence: Evidence) -> Step<B> {
        Step::Ask(Pending {
            route: Arc::clone(&self.routed.route),
            ask,
            waiting: Waiting::Token(self, evidence),
        })
    }

    /// The token is not remembered: its own words say whose keys to ask for.
    pub(super) fn unknown(
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
        let candidate = match Candidate::new(token, issuers, &mut trail.issuer) {
            Ok(candidate) => candidate,
            Err(refusal) => {
                if refusal.reason() == Reason::IssuerUnknown {
                    let taken = self.policy.issuers.iter();
                    let taken = taken.filter_map(|id| self.routed.snapshot.issuer(*id));
                    trail.accepted = taken.map(|issuer| issuer.issuer.clone()).collect();
                }
                return self.refused(refusal, now);
            }
        };
        let ask = Ask::Keys {
            issuer: Arc::clone(candidate.issuer()),
            key_id: candidate.key_id().map(Into::into),
            algorithm: candidate.algorithm(),
        };
        Ok(self.ask(ask, Evidence::Candidate(Box::new(candidate))))
    }

    /// The token is opaque: the one issuer of the policy that introspects is asked. What no answer
    /// could save is refused before, so that it costs no call (INT-13).
    pub(super) fn opaque(
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
        if let Err(refusal) =
            authorize::could_pass(&self.routed, &self.policy, self.sender.scheme(), now)
        {
            return self.refused(refusal, now);
        }
        let digest = token.digest();
        trail.digest = Some(digest);
        let ask = Ask::Introspect {
            issuer,
            token,
            remembered: self.policy.introspection != Asking::Uncached,
        };
        self.proven(now, |case| {
            trail.proven();
            Ok(case.ask(ask, Evidence::Opaque(digest)))
        })
    }

    /// A token that ran out is not worth a place in the memory.
    pub(super) fn remember(
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
    pub(super) fn verified(
        self,
        (token, text): (SharedToken, AccessToken),
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        self.proven(now, |case| {
            trail.proven();
            let issuer = case.routed.snapshot.issuer(token.issuer());
            let asked = |issuer: &&Arc<Issuer>| case.policy.asks(issuer);
            let Some(issuer) = issuer.filter(asked).map(Arc::clone) else {
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
    pub(super) fn confirmed(
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

    /// All is known of the token. Where a rule is about the body, and the request would pass
    /// otherwise, it is read now: not a byte of it for anybody else.
    pub(super) fn permitted(
        self,
        token: &SharedToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let Some(limit) = self.policy.reads_body(self.routed.inbound.head.method()) else {
            return self.whole(token, now, trail);
        };
        if self.passes(token, now).is_err() {
            return self.decided(token, now, trail);
        }
        self.note(token, trail);
        trail.asked_body = true;
        Ok(self.ask(Ask::Body { limit }, Evidence::Unread(Arc::clone(token))))
    }

    /// The body is here.
    pub(super) fn read(
        mut self,
        token: &SharedToken,
        body: Bytes,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        match Content::read(self.routed.inbound.head.headers(), body) {
            Ok(content) => {
                self.content = Some(Box::new(content));
                self.whole(token, now, trail)
            }
            Err(refusal) => self.refused(refusal, now),
        }
    }

    /// All that the policy looks at is here. A proof that would pass is used up now.
    fn whole(
        self,
        token: &SharedToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        let Some(proof) = self.sender.proof() else {
            return self.decided(token, now, trail);
        };
        let rules = &self.policy.proofs;
        let ask = Ask::FirstUse {
            life: rules.age.saturating_add(rules.ahead),
            key: proof.replay_key(),
            until: proof.until(&self.policy.proofs),
            rule: self.policy.proofs.replay_unavailable,
        };
        if self.passes(token, now).is_err() {
            return self.decided(token, now, trail);
        }
        self.note(token, trail);
        Ok(self.ask(ask, Evidence::Unused(Arc::clone(token))))
    }

    fn note(&self, token: &SharedToken, trail: &mut Trail) {
        trail.issuer = self.routed.snapshot.issuer(token.issuer()).map(Arc::clone);
        trail.token = Some(Arc::clone(token));
    }

    pub(super) fn decided(
        self,
        token: &SharedToken,
        now: UnixTime,
        trail: &mut Trail,
    ) -> Result<Step<B>, Refusal> {
        self.note(token, trail);
        let Self {
            routed,
            policy,
            sender,
            content,
        } = self;
        let evidence = authorize::Evidence {
            token,
            sender: sender.shown(),
            content: content.as_deref(),
        };
        match authorize::decide(routed, &policy, evidence, now, trail) {
            Ok(authorized) => Ok(Step::Done(authorized)),
            Err((routed, refusal)) => {
                observed(routed, challenged(refusal, &policy, sender.scheme()), now)
            }
        }
    }

    pub(super) fn passes(&self, token: &SharedToken, now: UnixTime) -> Result<(), Refusal> {
        let evidence = authorize::Evidence {
            token,
            sender: self.sender.shown(),
            content: self.content.as_deref(),
        };
        authorize::passes(&self.routed, &self.policy, evidence, now)
    }

    /// Goes on once the signature of the proof, where there is one, was found good.
    pub(super) fn proven(
        mut self,
        now: UnixTime,
        then: impl FnOnce(Self) -> Result<Step<B>, Refusal>,
    ) -> Result<Step<B>, Refusal> {
        match self.sender.prove() {
            Ok(()) => then(self),
            Err(refusal) => self.refused(refusal, now),
        }
    }

    /// The end of a request that its policy does not let pass.
    pub(super) fn refused(self, refusal: Refusal, now: UnixTime) -> Result<Step<B>, Refusal> {
        let refusal = challenged(refusal, &self.policy, self.sender.scheme());
        observed(self.routed, refusal, now)
    }
}

pub(super) fn read(candidate: &Candidate, keys: &KeySet) -> Result<SharedToken, Refusal> {
    let signed = candidate.verify(keys)?;
    claims::read(&signed, candidate.issuer(), candidate.digest()).map(Arc::new)
}

/// A refusal, but on a route that is only observed.
pub(super) fn observed<B>(
    routed: Routed<B>,
    refusal: Refusal,
    now: UnixTime,
) -> Result<Step<B>, Refusal> {
    let refusal = match refusal.reason().spec().challenge {
        Challenge::None => refusal,
        // RFC 9728 s5.1.
        Challenge::Bare | Challenge::Error(_) => match metadata::location(&routed) {
            Some(at) => refusal.advise(|advice| advice.resource_metadata = Some(at)),
            None => refusal,
        },
    };
    authorize::observe(routed, refusal, now).map(|authorized| Step::Done(authorized))
}

/// Says which schemes the route takes, and that the error is of the one that the client used.
pub(super) fn challenged(refusal: Refusal, policy: &Policy, used: Scheme) -> Refusal {
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
