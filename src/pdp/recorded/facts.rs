//! The facts of a decision: what is written down, and how it is taken from what was looked at.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::claims::ClaimFacts;
use super::head::CredentialFact;
use crate::pdp::credential::none_in_query;
use crate::pdp::dpop::{ProofFacts, ReplayRule};
use crate::pdp::policy::{Access, Issuer, Policy, Snapshot};
use crate::pdp::time::UnixTime;
use crate::pdp::{Peer, RequestHead, Standing, Trail, interaction_id};
use crate::refusal::Reason;

/// Bytes of a path that are recorded.
const PATH_BYTES: usize = 4096;
/// Names of headers that are recorded, and letters of one.
const NAMES: usize = 64;
const NAME_LETTERS: usize = 64;
/// Letters of a name in a certificate that are recorded.
const DN_LETTERS: usize = 1024;
/// Letters of a member of a token's header that are recorded.
const JOSE_LETTERS: usize = 128;

/// How values that are nobody's business are written down.
pub trait Private {
    /// A digest under a key, in place of a value.
    fn digest(&self, kind: &str, parts: &[&[u8]]) -> String;
    /// Whether subjects stand as they are.
    fn plain_subject(&self) -> bool;
    /// The text, at most about so long, with nothing in it that looks like a token.
    fn clean<'t>(&self, text: &'t str, longest: usize) -> Cow<'t, str>;
    /// Whether something in the text looks like a token.
    fn is_token(&self, text: &str) -> bool {
        *self.clean(text, usize::MAX) != *text
    }
}

/// What was seen of a head, before it was given away. Taken for each request: cheap.
#[derive(Debug)]
pub struct Seen {
    method: Method,
    host: Box<str>,
    port: Option<u16>,
    path: Box<str>,
    token_in_query: bool,
    names: Vec<(HeaderName, Presence)>,
    more: usize,
    interaction_id: bool,
    credential: CredentialFact,
    /// First part of a token that looks like a JWT.
    jose: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Once,
    Empty,
    Repeated,
}

impl Seen {
    /// Looks at a head.
    #[must_use]
    pub fn of(head: &RequestHead) -> Self {
        let headers = head.headers();
        let mut names = Vec::with_capacity(headers.keys_len().min(NAMES));
        let mut more: usize = 0;
        for name in headers.keys() {
            if names.len() >= NAMES || name.as_str().len() > NAME_LETTERS {
                more = more.saturating_add(1);
                continue;
            }
            let mut values = headers.get_all(name).iter();
            let presence = match (values.next(), values.next()) {
                (Some(value), None) if value.as_bytes().trim_ascii().is_empty() => Presence::Empty,
                (_, None) => Presence::Once,
                (_, Some(_)) => Presence::Repeated,
            };
            names.push((name.clone(), presence));
        }
        let (credential, jose) = CredentialFact::of(head);
        Self {
            method: head.method().clone(),
            host: head.host().into(),
            port: head.port(),
            path: head.path().into(),
            token_in_query: none_in_query(head).is_err(),
            names,
            more,
            interaction_id: interaction_id(headers).is_some(),
            credential,
            jose,
        }
    }

    fn facts(&self, private: &dyn Private) -> RequestFacts {
        let named = |wanted: Presence| {
            let names = self
                .names
                .iter()
                .filter(|(_, presence)| *presence == wanted);
            let names = names.filter(|(name, _)| !private.is_token(name.as_str()));
            names.map(|(name, _)| name.as_str().into()).collect()
        };
        let hidden = self
            .names
            .iter()
            .filter(|(name, _)| private.is_token(name.as_str()))
            .count();
        let path = private.clean(&self.path, PATH_BYTES);
        RequestFacts {
            method: self
                .method
                .as_str()
                .chars()
                .take(32)
                .collect::<String>()
                .into(),
            host: self.host.clone(),
            port: self.port,
            cut: *path != *self.path,
            path: path.into(),
            token_in_query: self.token_in_query,
            headers: named(Presence::Once),
            empty: named(Presence::Empty),
            repeated: named(Presence::Repeated),
            more: self.more.saturating_add(hidden),
            interaction_id: self.interaction_id,
            credential: self.credential.clone(),
        }
    }

    fn jose(&self, private: &dyn Private) -> Option<JoseFacts> {
        let bytes = URL_SAFE_NO_PAD.decode(self.jose.as_deref()?).ok()?;
        let Ok(Value::Object(members)) = serde_json::from_slice(&bytes) else {
            return None;
        };
        if !members.contains_key("alg") {
            return None;
        }
        let text = |name: &str| {
            let text = members.get(name)?.as_str()?;
            let clean = private.clean(text, JOSE_LETTERS);
            (*clean == *text).then(|| Box::from(text))
        };
        Some(JoseFacts {
            alg: text("alg"),
            typ: text("typ"),
            kid: text("kid"),
        })
    }
}

/// A canonical request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// Its method.
    pub method: Box<str>,
    /// The host that it named.
    pub host: Box<str>,
    /// The port that it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its path.
    pub path: Box<str>,
    /// Whether the path is not all of it as it came.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
    /// Whether a token stood in the query.
    #[serde(default, skip_serializing_if = "is_false")]
    pub token_in_query: bool,
    /// Names of headers that came once, with a value.
    pub headers: Vec<Box<str>>,
    /// Of those that came once, without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<Box<str>>,
    /// Of those that came more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeated: Vec<Box<str>>,
    /// How many more there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
    /// Whether it brought an interaction id that is one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub interaction_id: bool,
    /// What came as credential.
    pub credential: CredentialFact,
}

/// The header of a token that looks like a JWT, verified or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoseFacts {
    /// `alg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<Box<str>>,
    /// `typ`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typ: Option<Box<str>>,
    /// `kid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<Box<str>>,
}

/// The other end of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFacts {
    /// Its address.
    pub remote: std::net::SocketAddr,
    /// The listener.
    pub listener: Box<str>,
    /// What the listener's trust said of the certificate at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<StandingFact>,
    /// The certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFacts>,
}

/// [`Standing`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StandingFact {
    /// It verified.
    Trusted,
    /// A CRL named it.
    Revoked,
    /// It was outside its dates.
    Expired,
    /// It did not verify.
    Untrusted,
}

impl From<Standing> for StandingFact {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Trusted => Self::Trusted,
            Standing::Revoked => Self::Revoked,
            Standing::Expired => Self::Expired,
            Standing::Untrusted => Self::Untrusted,
        }
    }
}

impl From<StandingFact> for Standing {
    fn from(standing: StandingFact) -> Self {
        match standing {
            StandingFact::Trusted => Self::Trusted,
            StandingFact::Revoked => Self::Revoked,
            StandingFact::Expired => Self::Expired,
            StandingFact::Untrusted => Self::Untrusted,
        }
    }
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// `x5t#S256`.
    pub thumbprint: Box<str>,
    /// Subject.
    pub subject: Box<str>,
    /// Issuer.
    pub issuer: Box<str>,
    /// Serial number.
    pub serial: Box<str>,
    /// `organizationIdentifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Box<str>>,
    /// PSD2 roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Box<str>>,
    /// `notBefore`.
    pub not_before: u64,
    /// `notAfter`.
    pub not_after: u64,
    /// Whether one of the names is not all of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// A token that was found good by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// Whether its issuer told what it says, because it is opaque; else it was verified here.
    pub introspected: bool,
    /// Its claims.
    #[serde(flatten)]
    pub claims: ClaimFacts,
}

/// What a policy found in a body that it looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyFacts {
    /// Names the rules about the body: other rules, another name.
    pub rules: Box<str>,
    /// The reason for which it did not fit; nothing where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

/// All that a decision looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The time when the decision began, seconds since 1970.
    pub began: u64,
    /// The time by which the token was judged.
    pub judged: u64,
    /// The request; missing where it had no canonical form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestFacts>,
    /// The other end.
    pub peer: PeerFacts,
    /// A digest of the token that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_digest: Option<Box<str>>,
    /// The header of the token that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jose: Option<JoseFacts>,
    /// `iss` of the issuer that it named, or that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Box<str>>,
    /// `iss` of those that the policy took, where the token's was none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Box<str>>,
    /// Names under which client and scopes were looked for, where the claims could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_names: Vec<Box<str>>,
    /// The proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofFacts>,
    /// Whether what this process had seen of proofs would have done, without the shared store.
    #[serde(default, skip_serializing_if = "is_false")]
    pub used_locally: bool,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenFacts>,
    /// What its issuer says of a token that was verified here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<ClaimFacts>,
    /// How the issuer's word was come by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Box<str>>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyFacts>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A decision, as it was made.
#[derive(Debug, Clone, Copy)]
pub struct Decided<'d> {
    /// The time when it began.
    pub began: UnixTime,
    /// The time by which it was made.
    pub judged: UnixTime,
    /// What was seen of the head; `None` where it had no canonical form.
    pub seen: Option<&'d Seen>,
    /// The other end.
    pub peer: &'d Peer,
    /// What the listener's trust said of the certificate.
    pub standing: Option<Standing>,
    /// What was looked at on the way.
    pub trail: &'d Trail,
    /// The reason, where there is one.
    pub reason: Option<Reason>,
}

impl Facts {
    /// The facts of a decision. `named`: claims that rules look at, see [`claims_looked_at`].
    #[must_use]
    pub fn of(decided: Decided<'_>, named: &BTreeSet<Box<str>>, private: &dyn Private) -> Self {
        let Decided {
            seen, peer, trail, ..
        } = decided;
        let claims = |token: &Arc<_>| ClaimFacts::of(token, named, private);
        let policy = trail.policy.as_deref();
        let opaque = trail
            .token
            .as_ref()
            .zip(seen)
            .is_some_and(|(_, seen)| seen.jose(private).is_none());
        let unread = matches!(
            decided.reason,
            Some(Reason::ClaimMissing | Reason::ClaimMalformed)
        );
        let taken = policy.filter(|_| decided.reason == Some(Reason::IssuerUnknown));
        Self {
            began: decided.began.as_secs(),
            judged: decided.judged.as_secs(),
            request: seen.map(|seen| seen.facts(private)),
            peer: PeerFacts::of(peer, decided.standing),
            token_digest: trail
                .digest
                .map(|digest| private.digest("token", &[&digest.0]).into()),
            jose: seen.and_then(|seen| seen.jose(private)),
            issuer: trail.issuer.as_ref().map(|issuer| issuer.issuer.clone()),
            issuers: taken.map_or_else(Vec::new, |_| trail.accepted.to_vec()),
            claim_names: trail
                .issuer
                .as_ref()
                .filter(|_| unread)
                .map_or_else(Vec::new, |issuer| claim_names(issuer)),
            proof: trail.proof.clone(),
            used_locally: trail.proof.is_some()
                && policy
                    .is_some_and(|policy| policy.proofs.replay_unavailable == ReplayRule::Local),
            token: trail.token.as_ref().map(|token| TokenFacts {
                introspected: opaque,
                claims: claims(token),
            }),
            told: trail.told.as_ref().map(claims),
            introspection: trail.introspection.map(|how| how.name().into()),
            body: policy
                .filter(|_| trail.asked_body)
                .map(|policy| BodyFacts::of(policy, decided.reason)),
        }
    }
}

impl PeerFacts {
    fn of(peer: &Peer, standing: Option<Standing>) -> Self {
        let certificate = peer.certificate.as_ref().map(|found| {
            let mut cut = false;
            let mut name = |text: &str| -> Box<str> {
                if text.len() <= DN_LETTERS {
                    return text.into();
                }
                cut = true;
                text.chars().take(DN_LETTERS / 4).collect::<String>().into()
            };
            CertificateFacts {
                thumbprint: found.thumbprint_text.clone(),
                subject: name(&found.subject),
                issuer: name(&found.issuer),
                serial: name(&found.serial),
                organization_id: found.organization_id.as_deref().map(&mut name),
                roles: found
                    .psd2_roles
                    .iter()
                    .map(|role| role.name().into())
                    .collect(),
                not_before: found.not_before.as_secs(),
                not_after: found.not_after.as_secs(),
                cut,
            }
        });
        Self {
            remote: peer.remote,
            listener: (&*peer.listener).into(),
            standing: standing.map(Into::into),
            certificate,
        }
    }
}

impl BodyFacts {
    fn of(policy: &Policy, reason: Option<Reason>) -> Self {
        // After the body only the proof's use is asked about.
        let reason = reason
            .filter(|reason| !matches!(reason, Reason::ProofReplayed | Reason::ReplayUnavailable));
        Self {
            rules: body_rules(policy),
            reason: reason.map(|reason| reason.spec().code.into()),
        }
    }
}

/// Under which names an issuer has client and scopes.
pub(super) fn claim_names(issuer: &Issuer) -> Vec<Box<str>> {
    let names = issuer.client_id_claims.iter().chain(&issuer.scope_claims);
    names.cloned().collect()
}

/// Names the rules of a policy about bodies.
pub(super) fn body_rules(policy: &Policy) -> Box<str> {
    let rules = (
        &policy.linking,
        &policy.step_up,
        &policy.authorization_details,
    );
    let text = format!("{rules:?}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    URL_SAFE_NO_PAD
        .encode(digest.as_ref().get(..12).unwrap_or_default())
        .into()
}

/// Claims that the rules of a configuration look at, beside those of the core.
#[must_use]
pub fn claims_looked_at(snapshot: &Snapshot) -> BTreeSet<Box<str>> {
    let mut names = BTreeSet::new();
    for issuer in &snapshot.issuers {
        names.extend(issuer.client_id_claims.iter().cloned());
        names.extend(issuer.scope_claims.iter().cloned());
    }
    for route in snapshot.tables.iter().flat_map(|table| table.routes()) {
        let enforced = match &route.access {
            Access::Open | Access::Authorization(_) => None,
            Access::Policy(policy) => Some(policy),
        };
        for policy in enforced.into_iter().chain(&route.shadow) {
            names.extend(policy.claims.iter().map(|(name, _)| name.clone()));
        }
    }
    names
}

#[cfg(test)]
mod tests;
