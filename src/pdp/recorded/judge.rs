//! Recorded facts, judged by another configuration: the same steps in the same order, with the
//! same functions, as far as the facts reach.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::claims::{CORE, ClaimFacts};
use super::facts::{CertificateFacts, Facts, PeerFacts, body_rules, claim_names};
use super::head;
use crate::pdp::authorize::{self, Evidence};
use crate::pdp::claims;
use crate::pdp::credential::{Credential, credential, looks_signed, none_in_query};
use crate::pdp::dpop::{KeyThumbprint, ReplayRule, Target, Unfit};
use crate::pdp::jwt;
use crate::pdp::policy::{Access, Fact, Issuer, Policy, Route, Snapshot};
use crate::pdp::route::{Routed, route};
use crate::pdp::sender::Shown;
use crate::pdp::time::UnixTime;
use crate::pdp::token::{TokenDigest, VerifiedToken};
use crate::pdp::{Inbound, InteractionId, Peer, PeerCertificate, Psd2Role, Thumbprint, Trail};
use crate::refusal::{Class, Reason, Refusal, Scheme};

/// A decision as it is recorded.
#[derive(Debug)]
pub struct Recorded {
    /// What it looked at.
    pub facts: Facts,
    /// Why it was not "authorized"; `None` where it was.
    pub reason: Option<Reason>,
}

/// What another configuration makes of a recorded decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It would pass.
    Passes,
    /// It would pass since its route is only observed; what it would be refused for else.
    Observed(Reason),
    /// It would be refused.
    Refused(Reason),
    /// The facts do not say; what is missing.
    Unknown(Box<str>),
}

/// A judgement, and the route that it is about.
#[derive(Debug)]
pub struct Judged {
    /// The judgement.
    pub judgement: Judgement,
    /// The route under the other configuration, where there is one.
    pub route: Option<Arc<Route>>,
}

/// Why a walk ends before it passes.
enum Stop {
    Refused(Refusal),
    Unknown(Box<str>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<Unfit> for Stop {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(refusal) => Self::Refused(refusal),
            Unfit::Unknown(why) => Self::Unknown(why.into()),
        }
    }
}

fn unknown(why: impl Into<Box<str>>) -> Stop {
    Stop::Unknown(why.into())
}

/// Judges a recorded decision by a configuration, at the time at which it was made.
///
/// Trust in certificates, signatures of tokens and proofs, and what issuers said are as they were:
/// no configuration of policies changes them.
#[must_use]
pub fn judge(recorded: &Recorded, snapshot: &Arc<Snapshot>) -> Judged {
    let mut trail = Trail::default();
    let judgement = walk(recorded, snapshot, &mut trail);
    Judged {
        judgement,
        route: trail.route,
    }
}

fn walk(recorded: &Recorded, snapshot: &Arc<Snapshot>, trail: &mut Trail) -> Judgement {
    let facts = &recorded.facts;
    let Some(request) = &facts.request else {
        // What has no canonical form has none under any configuration.
        return Judgement::Refused(recorded.reason.unwrap_or(Reason::RequestMalformed));
    };
    if request.cut {
        return Judgement::Unknown("the path is not recorded whole".into());
    }
    let id = InteractionId::from_random([0; 16]);
    let Some(head) = head::stand_in(request, id) else {
        return Judgement::Unknown("the request cannot be read from its record".into());
    };
    let Some(peer) = peer(&facts.peer) else {
        return Judgement::Unknown("the certificate cannot be read from its record".into());
    };
    let inbound = Inbound {
        head,
        peer: Arc::new(peer),
        standing: facts.peer.standing.map(Into::into),
        body: (),
    };
    let routed = match route(inbound, snapshot, trail) {
        Ok(routed) => routed,
        Err(refusal) => return Judgement::Refused(refusal.reason()),
    };
    if let Err(refusal) = none_in_query(&routed.inbound.head) {
        return Judgement::Refused(refusal.reason());
    }
    let policy = match &routed.route.access {
        Access::Open => return Judgement::Passes,
        Access::Policy(policy) => Arc::clone(policy),
        Access::Authorization(_) => {
            let why = "what a client sends to an authorization server is not recorded";
            return Judgement::Unknown(why.into());
        }
    };
    let case = Case {
        recorded,
        routed: &routed,
        policy: &policy,
        judged: UnixTime::from_secs(facts.judged),
    };
    match case.passes() {
        Ok(()) => Judgement::Passes,
        Err(Stop::Unknown(why)) => Judgement::Unknown(why),
        Err(Stop::Refused(refusal)) => {
            if authorize::excused(&routed.route, &refusal, case.judged) {
                Judgement::Observed(refusal.reason())
            } else {
                Judgement::Refused(refusal.reason())
            }
        }
    }
}

/// A token made of what is recorded of one. It never leaves this file: there is nothing that it
/// could be used for but to be looked at.
struct RecordedToken {
    token: VerifiedToken,
    /// Claims that were not recorded, and that were taken at their best.
    unknown: Vec<Box<str>>,
}

struct Case<'c> {
    recorded: &'c Recorded,
    routed: &'c Routed<()>,
    policy: &'c Policy,
    judged: UnixTime,
}

impl Case<'_> {
    fn passes(&self) -> Result<(), Stop> {
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
    const fn became(&self) -> Option<Reason> {
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

    fn token(
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
    fn permitted(&self, token: &RecordedToken, scheme: Scheme) -> Result<(), Stop> {
        let proof = self.recorded.facts.proof.as_ref();
        let key = proof.filter(|proof| scheme == Scheme::Dpop && proof.verified);
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
    fn rest(&self, token: &RecordedToken, scheme: Scheme) -> Result<(), Stop> {
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

fn known(token: &RecordedToken) -> Result<(), Stop> {
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

/// The other end, as far as it is recorded.
fn peer(facts: &PeerFacts) -> Option<Peer> {
    let certificate = match &facts.certificate {
        None => None,
        Some(found) => Some(certificate(found)?),
    };
    Some(Peer {
        remote: facts.remote,
        local: facts.remote,
        listener: (&*facts.listener).into(),
        certificate,
    })
}

fn certificate(found: &CertificateFacts) -> Option<PeerCertificate> {
    let role = |name: &str| Psd2Role::ALL.into_iter().find(|role| role.name() == name);
    Some(PeerCertificate {
        thumbprint: Thumbprint::parse(&found.thumbprint)?,
        thumbprint_text: found.thumbprint.clone(),
        der: Box::default(),
        not_before: UnixTime::from_secs(found.not_before),
        not_after: UnixTime::from_secs(found.not_after),
        subject: found.subject.clone(),
        issuer: found.issuer.clone(),
        serial: found.serial.clone(),
        organization_id: found.organization_id.clone(),
        psd2_roles: found.roles.iter().filter_map(|name| role(name)).collect(),
        psd2_authority: None,
    })
}

impl Judgement {
    /// Whether a request so judged reaches the API; `None` where that cannot be told.
    #[must_use]
    pub const fn reaches(&self) -> Option<bool> {
        match self {
            Self::Passes | Self::Observed(_) => Some(true),
            Self::Refused(_) => Some(false),
            Self::Unknown(_) => None,
        }
    }

    /// Whether it is refused since something did not answer, which is nobody's rule.
    #[must_use]
    pub fn undecided(&self) -> bool {
        match self {
            Self::Refused(reason) => reason.spec().class == Class::Undecided,
            Self::Passes | Self::Observed(_) | Self::Unknown(_) => false,
        }
    }
}
