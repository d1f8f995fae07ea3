//! The credential of a recorded decision under the other configuration: its proof, and a token that
//! was verified, was not, or that its issuer was asked about.

use std::sync::Arc;

use serde_json::Value;

use super::rights::{RecordedToken, known};
use super::{Case, Stop, unknown};
use crate::pdp::authorize;
use crate::pdp::credential::{Credential, credential, looks_signed};
use crate::pdp::dpop::Target;
use crate::pdp::jwt;
use crate::pdp::policy::Issuer;
use crate::pdp::recorded::facts::claim_names;
use crate::pdp::time::UnixTime;
use crate::refusal::{Reason, Refusal, Scheme};

impl Case<'_> {
    /// Whether the request would pass.
    pub(super) fn passes(&self) -> Result<(), Stop> {
        let (facts, routed) = (&self.recorded.facts, self.routed);
        let Credential { scheme, token } = credential(
            &routed.inbound.head,
            routed.token_bytes,
            self.policy.binding.schemes(),
        )?;
        if scheme == Scheme::Dpop {
            self.proof()?;
        }
        // As a request chooses between the two.
        if looks_signed(&token) && (facts.jose.is_some() || self.policy.opaque.is_none()) {
            self.signed(scheme)
        } else {
            self.opaque(scheme, token.expose().len())
        }
    }

    /// The reason for which the recorded decision stopped.
    pub(super) const fn became(&self) -> Option<Reason> {
        self.recorded.reason
    }

    /// Whether the proof fits, but for its signature.
    fn proof(&self) -> Result<(), Stop> {
        let Some(proof) = &self.recorded.facts.proof else {
            // It did not come, or could not be read, by no rule that a configuration has.
            return Err(match self.became() {
                Some(
                    reason @ (Reason::ProofMissing
                    | Reason::ProofRepeated
                    | Reason::ProofMalformed
                    | Reason::ProofTooLarge
                    | Reason::ProofAlgorithmForbidden
                    | Reason::ProofKeyInvalid),
                ) => reason.into(),
                _ => unknown("the proof was not looked at"),
            });
        };
        let table = self
            .routed
            .snapshot
            .table(&self.routed.inbound.peer.listener);
        let origins = table.and_then(|table| table.origins.as_ref());
        let origins = origins.ok_or(Reason::Internal)?;
        let target = Target {
            origins,
            path: self.routed.inbound.head.path(),
        };
        let began = UnixTime::from_secs(self.recorded.facts.began);
        proof.fits((target, &self.policy.proofs), self.became(), began)?;
        Ok(())
    }

    /// Whether its signature is good.
    fn proven(&self, scheme: Scheme) -> Result<(), Stop> {
        let verified = self
            .recorded
            .facts
            .proof
            .as_ref()
            .is_some_and(|proof| proof.verified);
        match (scheme, self.became()) {
            (Scheme::Bearer, _) => Ok(()),
            (Scheme::Dpop, _) if verified => Ok(()),
            (Scheme::Dpop, Some(Reason::ProofSignatureInvalid)) => {
                Err(Reason::ProofSignatureInvalid.into())
            }
            (Scheme::Dpop, _) => Err(unknown("the signature of the proof was not looked at")),
        }
    }

    /// A token that is refused for its times or audience is refused whatever its proof is, which
    /// then was not looked at.
    fn unproven(&self, token: &RecordedToken, scheme: Scheme, stop: Stop) -> Stop {
        match (stop, self.permitted(token, scheme)) {
            (Stop::Unknown(_), Err(Stop::Refused(refusal)))
                if matches!(
                    refusal.reason(),
                    Reason::IssuerUnknown
                        | Reason::TokenExpired
                        | Reason::TokenNotYetValid
                        | Reason::LifetimeExcessive
                        | Reason::AudienceMismatch
                        | Reason::CertificateExpired
                ) =>
            {
                refusal.into()
            }
            (stop, _) => stop,
        }
    }

    fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        let ids = self.policy.issuers.iter();
        ids.filter_map(|id| self.routed.snapshot.issuer(*id))
    }

    /// A JWT.
    fn signed(&self, scheme: Scheme) -> Result<(), Stop> {
        let facts = &self.recorded.facts;
        if facts.jose.is_none() {
            // Its header is none: opaque where such tokens are taken, and broken elsewhere.
            return Err(Reason::TokenMalformed.into());
        }
        let Some(found) = facts.token.as_ref().filter(|token| !token.introspected) else {
            return Err(self.unverified());
        };
        let named = found.claims.claims.get("iss").and_then(Value::as_str);
        let issuer = self
            .issuers()
            .find(|issuer| named == Some(&*issuer.issuer))
            .ok_or(Reason::IssuerUnknown)?;
        self.header_fits(issuer)?;
        let token = self.token(&found.claims, issuer, false)?;
        if let Err(stop) = self.proven(scheme) {
            return Err(self.unproven(&token, scheme, stop));
        }
        self.permitted(&token, scheme)?;
        if self.policy.asks(issuer) {
            self.confirmed(&token, issuer, scheme)?;
        }
        self.rest(&token, scheme)
    }

    fn header_fits(&self, issuer: &Issuer) -> Result<(), Refusal> {
        let jose = self.recorded.facts.jose.as_ref();
        let (algorithm, kind) = jose.map_or((None, None), |jose| {
            (jose.alg.as_deref(), jose.typ.as_deref())
        });
        jwt::taken(issuer, algorithm, kind)
    }

    /// A token that was not found good, or not looked at.
    fn unverified(&self) -> Stop {
        let facts = &self.recorded.facts;
        let named = match &facts.issuer {
            None => None,
            Some(iss) => match self.issuers().find(|issuer| issuer.issuer == *iss) {
                None => return Reason::IssuerUnknown.into(),
                found => found,
            },
        };
        if let Some(Err(refusal)) = named.map(|issuer| self.header_fits(issuer)) {
            return refusal.into();
        }
        match (self.became(), named) {
            (
                Some(
                    reason @ (Reason::TokenMalformed
                    | Reason::TokenExtensionUnknown
                    | Reason::KeyUnknown
                    | Reason::KeyMismatch
                    | Reason::SignatureInvalid
                    | Reason::KeysUnavailable
                    | Reason::ProofSignatureInvalid),
                ),
                _,
            )
            // Without an issuer, it is iss itself, or an algorithm that nobody could allow.
            | (
                Some(
                    reason @ (Reason::AlgorithmForbidden
                    | Reason::ClaimMissing
                    | Reason::ClaimMalformed),
                ),
                None,
            ) => reason.into(),
            (Some(reason @ (Reason::ClaimMissing | Reason::ClaimMalformed)), Some(issuer)) => {
                self.unread(issuer, reason)
            }
            (Some(Reason::IssuerUnknown), None) => {
                let mut taken = self.issuers();
                if taken.all(|issuer| facts.issuers.contains(&issuer.issuer)) {
                    Reason::IssuerUnknown.into()
                } else {
                    unknown("the issuer that the token names is not recorded")
                }
            }
            (Some(Reason::AlgorithmForbidden | Reason::TokenTypeWrong), Some(_)) => {
                unknown("the token was not verified")
            }
            _ => unknown("the token was not looked at"),
        }
    }

    /// Claims that could not be read: the same wherever they have the same names.
    fn unread(&self, issuer: &Issuer, reason: Reason) -> Stop {
        if claim_names(issuer) == self.recorded.facts.claim_names {
            reason.into()
        } else {
            unknown("the claims of the token are not recorded")
        }
    }

    /// An opaque token.
    fn opaque(&self, scheme: Scheme, length: usize) -> Result<(), Stop> {
        let facts = &self.recorded.facts;
        let asked = self.policy.opaque.and_then(|id| {
            let issuer = self.routed.snapshot.issuer(id)?;
            Some((issuer, issuer.introspection?))
        });
        let (issuer, rules) = asked.ok_or(Reason::TokenMalformed)?;
        if length > rules.token_bytes {
            return Err(Reason::TokenTooLarge.into());
        }
        authorize::could_pass(self.routed, self.policy, scheme, self.judged)?;
        self.proven(scheme)?;
        if facts.issuer.as_ref() != Some(&issuer.issuer) {
            return Err(unknown(format!(
                "issuer {} was not asked about the token",
                issuer.name
            )));
        }
        let Some(found) = facts.token.as_ref().filter(|token| token.introspected) else {
            return Err(self.unsaid(issuer));
        };
        let token = self.token(&found.claims, issuer, true)?;
        self.permitted(&token, scheme)?;
        self.rest(&token, scheme)
    }

    /// The issuer has not said that the token is active.
    fn unsaid(&self, issuer: &Issuer) -> Stop {
        match self.became() {
            Some(
                reason @ (Reason::TokenInactive
                | Reason::IssuerUnknown
                | Reason::TokenTypeWrong
                | Reason::IntrospectionUnavailable
                | Reason::IntrospectionUnfit),
            ) => reason.into(),
            Some(reason @ (Reason::ClaimMissing | Reason::ClaimMalformed)) => {
                self.unread(issuer, reason)
            }
            _ => unknown(format!(
                "issuer {} was not asked about the token",
                issuer.name
            )),
        }
    }

    /// What the issuer says of a token that was verified here.
    fn confirmed(
        &self,
        token: &RecordedToken,
        issuer: &Issuer,
        scheme: Scheme,
    ) -> Result<(), Stop> {
        let Some(said) = &self.recorded.facts.told else {
            return Err(self.unsaid(issuer));
        };
        let told = self.token(said, issuer, true)?;
        let (ours, theirs) = (&token.token, &told.token);
        let other_user = match (ours.subject(), theirs.subject()) {
            (Some(ours), Some(theirs)) => ours != theirs,
            (None, _) | (_, None) => false,
        };
        if ours.client_id() != theirs.client_id() || other_user {
            return Err(Reason::IntrospectionUnfit.into());
        }
        self.permitted(&told, scheme)?;
        known(&told)
    }
}
