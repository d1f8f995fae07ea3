//! What a recorded token gives under the other configuration: the token that its facts make, the
//! rules that it must meet, and what comes after it.

use serde_json::{Map, Value};

use super::{Case, Stop, unknown};
use crate::pdp::authorize::{self, Evidence};
use crate::pdp::claims;
use crate::pdp::dpop::{KeyThumbprint, ReplayRule};
use crate::pdp::policy::{Fact, Issuer};
use crate::pdp::recorded::claims::{CORE, ClaimFacts};
use crate::pdp::recorded::facts::body_rules;
use crate::pdp::sender::Shown;
use crate::pdp::token::{TokenDigest, VerifiedToken};
use crate::refusal::{Reason, Refusal, Scheme};

/// A token made of what is recorded of one. It never leaves this file: there is nothing that it
/// could be used for but to be looked at.
pub(super) struct RecordedToken {
    pub(super) token: VerifiedToken,
    /// Claims that were not recorded, and that were taken at their best.
    unknown: Vec<Box<str>>,
}

impl Case<'_> {
    pub(super) fn token(
        &self,
        found: &ClaimFacts,
        issuer: &Issuer,
        introspected: bool,
    ) -> Result<RecordedToken, Stop> {
        let own = issuer.client_id_claims.iter().chain(&issuer.scope_claims);
        // The first of these names that is there counts, so one that is hidden may be the one.
        let looked_at = CORE
            .into_iter()
            .filter(|name| *name != "authorization_details");
        if let Some(name) = found.first_hidden(own.map(|name| &**name).chain(looked_at)) {
            return Err(unknown(format!("claim {name} was not recorded")));
        }
        let (members, unknown) = found.at_best(self.policy);
        let token = read(members, issuer, introspected)?;
        Ok(RecordedToken { token, unknown })
    }

    /// As a request with this token would be judged.
    pub(super) fn permitted(&self, token: &RecordedToken, scheme: Scheme) -> Result<(), Stop> {
        let proof = self.recorded.facts.proof.as_ref();
        let key = proof.filter(|proof| proof.verified);
        let key = key.and_then(|proof| KeyThumbprint::parse(&proof.jkt));
        let evidence = Evidence {
            token: &token.token,
            sender: Shown {
                scheme,
                key: key.as_ref(),
            },
            content: None,
        };
        let cut = self
            .recorded
            .facts
            .peer
            .certificate
            .as_ref()
            .is_some_and(|one| one.cut);
        if cut && !self.policy.certificate.is_empty() {
            return Err(unknown(
                "the names in the certificate are not recorded whole",
            ));
        }
        let said = authorize::passes(self.routed, self.policy, evidence, self.judged);
        match said {
            Err(refusal) if refusal.reason() == Reason::HeaderRequired && self.header_hidden() => {
                Err(unknown("not all names of headers are recorded"))
            }
            said => Ok(said?),
        }
    }

    /// Whether a header that the policy asks for may have been there all the same.
    fn header_hidden(&self) -> bool {
        let request = self.recorded.facts.request.as_ref();
        let headers = self.routed.inbound.head.headers();
        let mut asked = self.policy.require_headers.iter();
        request.is_some_and(|request| request.more > 0)
            && asked.any(|name| !headers.contains_key(name))
    }

    /// What comes after the token: what was not recorded of it, facts that go upstream, the body,
    /// and whether the proof was new.
    pub(super) fn rest(&self, token: &RecordedToken, scheme: Scheme) -> Result<(), Stop> {
        known(token)?;
        let facts = &self.recorded.facts;
        let unprintable = facts.token.as_ref().map(|token| &token.claims.unprintable);
        let sent = &self.routed.route.forward.headers;
        let bad = unprintable.is_some_and(|names| {
            sent.iter().any(|(_, fact)| match fact {
                Fact::Claim(claim) => names.iter().any(|name| **name == **claim),
                Fact::CertificateThumbprint
                | Fact::CertificateSubject
                | Fact::CertificateOrganizationId
                | Fact::CertificateSerial
                | Fact::CertificateDer
                | Fact::IssuerName
                | Fact::RouteName
                | Fact::InteractionId => false,
            })
        });
        if bad {
            return Err(Reason::ClaimUnprintable.into());
        }
        self.body()?;
        match (scheme, self.became()) {
            (Scheme::Bearer, _) => Ok(()),
            (Scheme::Dpop, None) => {
                let rule = self.policy.proofs.replay_unavailable;
                if self.recorded.facts.used_locally && rule == ReplayRule::Refuse {
                    return Err(unknown(
                        "whether the shared store was asked is not recorded",
                    ));
                }
                Ok(())
            }
            (Scheme::Dpop, Some(Reason::ProofReplayed)) => Err(Reason::ProofReplayed.into()),
            (Scheme::Dpop, Some(Reason::ReplayUnavailable)) => {
                match self.policy.proofs.replay_unavailable {
                    ReplayRule::Refuse => Err(Reason::ReplayUnavailable.into()),
                    ReplayRule::Local => Err(unknown("what this process had seen is not recorded")),
                }
            }
            (Scheme::Dpop, Some(_)) => Err(unknown("whether the proof was new was not asked")),
        }
    }

    /// The body is not recorded; what the same rules made of it is.
    fn body(&self) -> Result<(), Stop> {
        let method = self.routed.inbound.head.method();
        if self.policy.reads_body(method).is_none() {
            return Ok(());
        }
        let found = self.recorded.facts.body.as_ref();
        let Some(found) = found.filter(|found| found.rules == body_rules(self.policy)) else {
            return Err(unknown(
                "the body is not recorded, and these rules about it were not asked",
            ));
        };
        let Some(code) = &found.reason else {
            return Ok(());
        };
        let reason = Reason::ALL
            .iter()
            .find(|reason| reason.spec().code == &**code);
        Err(reason.map_or_else(
            || unknown("the reason is not known here"),
            |reason| (*reason).into(),
        ))
    }
}

/// Whether all that was looked at of a token is recorded.
pub(super) fn known(token: &RecordedToken) -> Result<(), Stop> {
    match token.unknown.first() {
        None => Ok(()),
        Some(name) => Err(unknown(format!("claim {name} was not recorded"))),
    }
}

fn read(
    members: Map<String, Value>,
    issuer: &Issuer,
    introspected: bool,
) -> Result<VerifiedToken, Refusal> {
    claims::recorded(members, issuer, TokenDigest([0; 32]), introspected)
}
