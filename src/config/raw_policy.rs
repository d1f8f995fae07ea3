//! A policy as it is written, in a file of its own or inline in a route, and how one inherits.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A policy's name, or its keys in line.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum PolicyRef {
    /// A file of the policies folder, or a built-in one.
    Name(String),
    /// The keys.
    Inline(Box<Policy>),
}

/// A policy. Whatever is not given is inherited from the policy that it extends.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Portcullis policy")]
pub(super) struct Policy {
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<String>,
    /// The policy that this one starts from: fapi2 (default), fapi1-advanced, fapi1-baseline, or a
    /// file of the policies folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extends: Option<String>,
    /// Issuers whose tokens it takes. Default: default_issuers, or the only issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<Vec<String>>,
    /// One of these must be in `aud`, in place of the issuer's own list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<Vec<String>>,
    /// How the token must be bound to its sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) binding: Option<Vec<BindingKind>>,
    /// Scopes, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<Vec<String>>,
    /// Scopes, one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) any_scope: Option<Vec<String>>,
    /// Authentication contexts, one of them; else the challenge of RFC 9470.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr: Option<Vec<String>>,
    /// The least of `acr_ranks` that will do; in place of `acr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr_at_least: Option<String>,
    /// Authentication contexts, the weakest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr_ranks: Option<Vec<String>>,
    /// Authentication methods (RFC 8176), all of them; else the challenge of RFC 9470.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amr: Option<Vec<String>>,
    /// Longest time since the user authenticated; else the challenge of RFC 9470.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<String>,
    /// What more is asked of the user's authentication, by method and amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step_up: Option<Vec<StepUp>>,
    /// Values of the body that must be those of the approved authorization_details entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dynamic_linking: Option<DynamicLinking>,
    /// Whether the issuer is asked about JWTs that were verified here. Default: as `use` of its
    /// introspection says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) introspection: Option<Introspection>,
    /// How DPoP proofs are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dpop: Option<PolicyDpop>,
    /// An entry of this `type` and with these members must be in the token (RFC 9396).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authorization_details: Option<BTreeMap<String, Value>>,
    /// Claims, and what each must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<BTreeMap<String, ClaimRule>>,
    /// Clients that may pass; with several issuers a table of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) clients: Option<Clients>,
    /// What the client's certificate must say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<Certificate>,
    /// Headers that must be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) require_headers: Option<Vec<String>>,
    /// Longest `exp` - `iat`; narrows the issuer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_lifetime: Option<String>,
    /// How refusals are written, in place of this program's own JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_format: Option<ErrorFormat>,
    /// Duties of a profile below that nothing enforces, accepted as such, by their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accept_gaps: Option<Vec<String>>,
    /// What the profile demands, and who sees to it. In force for every policy that extends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duty: Option<Vec<Arc<Duty>>>,
}

/// One duty of a profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Duty {
    /// Id in the catalogue of requirements, such as "MTLS-05".
    pub(super) id: String,
    /// The clause of the profile.
    pub(super) clause: String,
    /// The duty in words.
    pub(super) text: String,
    /// Default "must".
    #[serde(default)]
    pub(super) level: Level,
    /// All who see to it together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<Vec<Sees>>,
    /// Why nothing enforces it; in place of `by`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_enforced: Option<String>,
}

/// `level` of a duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// The profile demands it.
    #[default]
    Must,
    /// The profile recommends it.
    Should,
}

/// Who sees to a duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sees {
    /// The gate itself: no key takes it back.
    Gate,
    /// `binding` without "none".
    Binding,
    /// `algorithms` of the issuers without RS256.
    Algorithms,
    /// `token_types` of the issuers with at+jwt alone.
    TokenTypes,
    /// `exp_leeway` of the issuers at zero.
    ExpLeeway,
    /// Introspection of tokens, or a `max_lifetime` that somebody chose.
    Revocation,
    /// `client_trust = "ca"` of the listeners.
    ClientTrust,
    /// `client_crl` of the listeners.
    CertificateRevocation,
}

/// `introspection` of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Introspection {
    /// Always; answers are remembered for `cache.active` of the issuer.
    Always,
    /// At every request, opaque tokens included.
    Uncached,
}

/// `binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BindingKind {
    /// Bound to the client's certificate (RFC 8705).
    Mtls,
    /// Bound to a DPoP key (RFC 9449).
    Dpop,
    /// An unbound token passes too; reported.
    None,
}

/// One of `step_up`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUp {
    /// Requests that it is about.
    pub(super) methods: Vec<String>,
    /// Only those above this amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amount: Option<StepUpAmount>,
    /// As `acr` of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr: Option<Vec<String>>,
    /// As `acr_at_least` of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr_at_least: Option<String>,
    /// As `amr` of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amr: Option<Vec<String>>,
    /// As `max_age` of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<String>,
}

/// `amount` of `step_up`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUpAmount {
    /// JSON pointer to the amount in the request's body (RFC 6901).
    pub(super) at: String,
    /// The most that is let go, such as "30.00".
    pub(super) above: String,
    /// Currency of `above`, such as "EUR".
    pub(super) currency: String,
    /// JSON pointer to the currency in the request's body.
    pub(super) currency_at: String,
    /// Bytes of a body that is looked at. Default "64KiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes: Option<String>,
}

/// `dynamic_linking`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DynamicLinking {
    /// `type` of the entry. Default: that of authorization_details.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    /// Requests that it is about. Default: of every method but GET, HEAD and OPTIONS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) methods: Option<Vec<String>>,
    /// Amounts: JSON pointer into the body = JSON pointer into the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amounts: Option<BTreeMap<String, String>>,
    /// Other values, compared as they are written: as `amounts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) values: Option<BTreeMap<String, String>>,
    /// Bytes of a body that is looked at. Default "64KiB".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes: Option<String>,
}

/// `error_format`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorFormat {
    /// Default "application/json".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    /// A JSON object with placeholders in its strings: {code}, {error}, {description}, {status},
    /// {status_number} (the whole string; becomes a number), {status_text}, {interaction_id}, {time}.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    /// What stands in place of {code}: by reason, error or status, or "default".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) codes: Option<BTreeMap<String, String>>,
    /// Refusals without a body: reasons, errors or statuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) without_body: Option<Vec<String>>,
}

/// `dpop` of a policy.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyDpop {
    /// Whether a proof must carry a nonce of ours. Default "off".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nonce: Option<NonceRule>,
    /// What holds while it cannot be known whether a proof was used. Default "refuse".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replay_unavailable: Option<ReplayUnavailable>,
}

/// `nonce` of `dpop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum NonceRule {
    /// One without is refused.
    Required,
    /// One without passes; one with must have a good one.
    Accepted,
    /// None is given out and none is looked at.
    Off,
}

/// `replay_unavailable` of `dpop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReplayUnavailable {
    /// Nothing passes.
    Refuse,
    /// What this process has seen decides: with a shared store only.
    Local,
}

/// What a claim must be: one of the four.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimRule {
    /// There, or not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) present: Option<bool>,
    /// Equal to this, type and all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) equals: Option<Value>,
    /// Equal to one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_of: Option<Vec<Value>>,
    /// A list that has this, or a string that has it between spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contains: Option<Value>,
}

/// `clients`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Clients {
    /// Of the only issuer.
    These(Vec<String>),
    /// Of each issuer.
    ByIssuer(BTreeMap<String, Vec<String>>),
}

/// One value or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn values(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(several) => several,
        }
    }
}

/// `certificate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    /// Role of a payment service provider (ETSI TS 119 495).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) psd2_role: Option<Psd2Role>,
    /// Organization identifier of the subject, one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) organization_id: Option<OneOrMore>,
    /// Subject in the form of RFC 4514, one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<OneOrMore>,
    /// Issuer in the form of RFC 4514, one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<OneOrMore>,
}

/// `psd2_role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Psd2Role {
    /// Account servicing.
    #[serde(rename = "PSP_AS")]
    AccountServicing,
    /// Payment initiation.
    #[serde(rename = "PSP_PI")]
    PaymentInitiation,
    /// Account information.
    #[serde(rename = "PSP_AI")]
    AccountInformation,
    /// Issuing of card-based payment instruments.
    #[serde(rename = "PSP_IC")]
    CardIssuing,
}

impl Policy {
    /// What this policy comes to on top of the one that it extends: a key given replaces the
    /// inherited one whole, tables member by member.
    pub(super) fn over(&self, base: &Self) -> Self {
        Self {
            summary: self.summary.clone(),
            extends: self.extends.clone(),
            issuer: replaced(&self.issuer, &base.issuer),
            audience: replaced(&self.audience, &base.audience),
            binding: replaced(&self.binding, &base.binding),
            scopes: replaced(&self.scopes, &base.scopes),
            any_scope: replaced(&self.any_scope, &base.any_scope),
            // Two ways to say one thing: the one given replaces either.
            acr: match &self.acr_at_least {
                Some(_) => self.acr.clone(),
                None => replaced(&self.acr, &base.acr),
            },
            acr_at_least: match &self.acr {
                Some(_) => self.acr_at_least.clone(),
                None => replaced(&self.acr_at_least, &base.acr_at_least),
            },
            acr_ranks: replaced(&self.acr_ranks, &base.acr_ranks),
            amr: replaced(&self.amr, &base.amr),
            max_age: replaced(&self.max_age, &base.max_age),
            step_up: replaced(&self.step_up, &base.step_up),
            dynamic_linking: match (&self.dynamic_linking, &base.dynamic_linking) {
                (Some(own), Some(inherited)) => Some(DynamicLinking {
                    kind: replaced(&own.kind, &inherited.kind),
                    methods: replaced(&own.methods, &inherited.methods),
                    amounts: joined(&own.amounts, &inherited.amounts),
                    values: joined(&own.values, &inherited.values),
                    body_bytes: replaced(&own.body_bytes, &inherited.body_bytes),
                }),
                (own, inherited) => replaced(own, inherited),
            },
            introspection: replaced(&self.introspection, &base.introspection),
            dpop: match (&self.dpop, &base.dpop) {
                (Some(own), Some(inherited)) => Some(PolicyDpop {
                    nonce: own.nonce.or(inherited.nonce),
                    replay_unavailable: own.replay_unavailable.or(inherited.replay_unavailable),
                }),
                (own, inherited) => replaced(own, inherited),
            },
            authorization_details: joined(&self.authorization_details, &base.authorization_details),
            claims: joined(&self.claims, &base.claims),
            clients: match (&self.clients, &base.clients) {
                (Some(Clients::ByIssuer(own)), Some(Clients::ByIssuer(inherited))) => {
                    let mut all = inherited.clone();
                    all.extend(own.clone());
                    Some(Clients::ByIssuer(all))
                }
                (own, inherited) => replaced(own, inherited),
            },
            certificate: match (&self.certificate, &base.certificate) {
                (Some(own), Some(inherited)) => Some(Certificate {
                    psd2_role: own.psd2_role.or(inherited.psd2_role),
                    organization_id: replaced(&own.organization_id, &inherited.organization_id),
                    subject: replaced(&own.subject, &inherited.subject),
                    issuer: replaced(&own.issuer, &inherited.issuer),
                }),
                (own, inherited) => replaced(own, inherited),
            },
            require_headers: replaced(&self.require_headers, &base.require_headers),
            max_lifetime: replaced(&self.max_lifetime, &base.max_lifetime),
            error_format: match (&self.error_format, &base.error_format) {
                (Some(own), Some(inherited)) => Some(ErrorFormat {
                    content_type: replaced(&own.content_type, &inherited.content_type),
                    body: replaced(&own.body, &inherited.body),
                    codes: joined(&own.codes, &inherited.codes),
                    without_body: replaced(&own.without_body, &inherited.without_body),
                }),
                (own, inherited) => replaced(own, inherited),
            },
            // Of each layer by itself: see `duties`.
            accept_gaps: None,
            duty: None,
        }
    }
}

fn replaced<T: Clone>(own: &Option<T>, inherited: &Option<T>) -> Option<T> {
    own.as_ref().or(inherited.as_ref()).cloned()
}

fn joined<T: Clone>(
    own: &Option<BTreeMap<String, T>>,
    inherited: &Option<BTreeMap<String, T>>,
) -> Option<BTreeMap<String, T>> {
    match (own, inherited) {
        (Some(own), Some(inherited)) => {
            let mut all = inherited.clone();
            all.extend(own.clone());
            Some(all)
        }
        (own, inherited) => replaced(own, inherited),
    }
}
