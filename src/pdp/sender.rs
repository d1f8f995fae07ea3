//! How a request shows that it comes from whom its token was issued to: by the connection's
//! certificate alone, or by a DPoP proof too.

use std::sync::Arc;

use super::dpop::{Expected, KeyThumbprint, Proof, ProofFacts, Proven, Target, single};
use super::policy::Policy;
use super::route::Routed;
use super::step::Trail;
use super::time::UnixTime;
use super::token::AccessToken;
use crate::refusal::{Reason, Refusal, Scheme};

/// What a sender shows, as far as bindings look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'s> {
    /// The scheme under which the token came.
    pub(super) scheme: Scheme,
    /// The key of which possession is proven.
    pub(super) key: Option<&'s KeyThumbprint>,
}

/// What came beside the token. What must come is the token's to say ([`super::binding`]): the
/// scheme that a client chose never makes a binding go away.
#[derive(Debug)]
pub(super) enum Sender {
    /// The scheme `Bearer`: a proof that came all the same is not looked at.
    Bearer,
    /// The scheme `DPoP` with a proof that is of this request, its signature still to be checked.
    Claimed(Box<Proof>),
    /// The same with a good signature.
    Proven(Box<Proven>),
}

impl Sender {
    /// Looks at what came beside a token of this scheme. A proof must be of this request and of now
    /// (RFC 9449 s4.3); its signature costs most and is checked once the token is known to be good.
    ///
    /// # Errors
    /// The reasons of proofs but `proof_signature_invalid` and `proof_replayed`; `nonce_required`,
    /// `nonce_invalid`.
    pub(super) fn read<B>(
        scheme: Scheme,
        token: &AccessToken,
        routed: &Routed<B>,
        policy: &Policy,
        (now, trail): (UnixTime, &mut Trail),
    ) -> Result<Self, Refusal> {
        match scheme {
            Scheme::Bearer => return Ok(Self::Bearer),
            Scheme::Dpop => {}
        }
        let head = &routed.inbound.head;
        let values = head.headers().get_all("dpop").iter();
        let value = single(values.map(http::HeaderValue::as_bytes))?.ok_or(Reason::ProofMissing)?;
        let known = trail.proof_header.as_ref();
        let proof = Proof::read_after(value, &policy.proofs.algorithms, known)?;
        trail.proof_header = Some(Arc::clone(proof.header()));
        let table = routed.snapshot.table(&routed.inbound.peer.listener);
        let origins = table
            .and_then(|table| table.origins.as_ref())
            .ok_or_else(|| Refusal::because(Reason::Internal, "the listener has no origin"))?;
        let expected = Expected {
            method: head.method().as_str(),
            target: Target {
                origins,
                path: head.path(),
            },
            access_token: token.digest(),
            rules: &policy.proofs,
        };
        let fits = proof.fits(&expected, routed.snapshot.nonces.as_deref(), now);
        if trail.recording {
            let became = fits.as_ref().err().map(Refusal::reason);
            let by = (expected.target, &policy.proofs);
            trail.proof = Some(ProofFacts::of(&proof, by, became));
        }
        fits.map(|()| Self::Claimed(Box::new(proof)))
    }

    /// Checks the signature of the proof, where there is one.
    ///
    /// # Errors
    /// `proof_signature_invalid`.
    pub(super) fn prove(&mut self) -> Result<(), Refusal> {
        if let Self::Claimed(proof) = self {
            *self = Self::Proven(Box::new(proof.verify()?));
        }
        Ok(())
    }

    /// The scheme.
    pub(super) const fn scheme(&self) -> Scheme {
        match self {
            Self::Bearer => Scheme::Bearer,
            Self::Claimed(_) | Self::Proven(_) => Scheme::Dpop,
        }
    }

    /// What bindings look at.
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown {
            scheme: self.scheme(),
            key: self.proof().map(Proven::thumbprint),
        }
    }

    /// The proof, once its signature was found good.
    pub(super) const fn proof(&self) -> Option<&Proven> {
        match self {
            Self::Proven(proven) => Some(proven),
            Self::Bearer | Self::Claimed(_) => None,
        }
    }
}
