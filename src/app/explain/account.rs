//! What each step of a decision looked at.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, header};
use serde_json::{Map, Value, json};

use super::evidence::Evidence;
use crate::pdp::json;
use crate::pdp::policy::{Access, Algorithm, Asking, ClaimRule, Clients, Policy};
use crate::pdp::{AccessToken, Issuer, RequestHead, Standing, Trail, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::redact::clean;

/// The steps, in the order in which a request takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Request,
    Connection,
    Route,
    Credential,
    Proof,
    Token,
    Keys,
    Signature,
    Introspection,
    Validity,
    Binding,
    Rights,
    Headers,
    Body,
    Replay,
}

impl Stage {
    const ALL: &'static [Self] = &[
        Self::Request,
        Self::Connection,
        Self::Route,
        Self::Credential,
        Self::Proof,
        Self::Token,
        Self::Keys,
        Self::Signature,
        Self::Introspection,
        Self::Validity,
        Self::Binding,
        Self::Rights,
        Self::Headers,
        Self::Body,
        Self::Replay,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Connection => "connection",
            Self::Route => "route",
            Self::Credential => "credential",
            Self::Proof => "proof",
            Self::Token => "token",
            Self::Keys => "keys",
            Self::Signature => "signature",
            Self::Introspection => "introspection",
            Self::Validity => "validity",
            Self::Binding => "binding",
            Self::Rights => "rights",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::Replay => "replay",
        }
    }

    /// The step that ends with this reason.
    pub(super) const fn of(reason: Reason) -> Self {
        match reason {
            Reason::RequestMalformed
            | Reason::FieldRepeated
            | Reason::RequestTooSlow
            | Reason::TargetTooLong
            | Reason::FieldsTooLarge => Self::Request,
            Reason::AuthorityMismatch
            | Reason::CertificateRevoked
            | Reason::CertificateExpired
            | Reason::CertificateUntrusted => Self::Connection,
            Reason::TargetAmbiguous | Reason::RouteNotFound | Reason::MethodNotAllowed => {
                Self::Route
            }
            Reason::TokenInQuery
            | Reason::TokenRepeated
            | Reason::CredentialsMalformed
            | Reason::TokenMissing
            | Reason::SchemeUnsupported
            | Reason::TokenTooLarge => Self::Credential,
            Reason::ProofMissing
            | Reason::ProofRepeated
            | Reason::ProofMalformed
            | Reason::ProofTooLarge
            | Reason::ProofAlgorithmForbidden
            | Reason::ProofKeyInvalid
            | Reason::ProofMethodMismatch
            | Reason::ProofTargetMismatch
            | Reason::ProofTokenMismatch
            | Reason::ProofExpired
            | Reason::ProofNotYetValid
            | Reason::NonceRequired
            | Reason::NonceInvalid => Self::Proof,
            Reason::TokenMalformed
            | Reason::TokenTypeWrong
            | Reason::AlgorithmForbidden
            | Reason::TokenExtensionUnknown
            | Reason::IssuerUnknown => Self::Token,
            Reason::KeyUnknown | Reason::KeyMismatch | Reason::KeysUnavailable => Self::Keys,
            Reason::SignatureInvalid | Reason::ClaimMissing | Reason::ClaimMalformed => {
                Self::Signature
            }
            Reason::TokenInactive
            | Reason::IntrospectionUnavailable
            | Reason::IntrospectionUnfit => Self::Introspection,
            Reason::AudienceMismatch
            | Reason::TokenExpired
            | Reason::TokenNotYetValid
            | Reason::LifetimeExcessive => Self::Validity,
            Reason::CertificateRequired
            | Reason::BindingMissing
            | Reason::BindingMismatch
            | Reason::ProofSignatureInvalid => Self::Binding,
            Reason::AuthenticationTooWeak
            | Reason::ScopeInsufficient
            | Reason::ClientNotAllowed
            | Reason::AuthorizationDetailsInsufficient
            | Reason::ClaimDenied
            | Reason::CertificateDenied => Self::Rights,
            Reason::HeaderRequired | Reason::ClaimUnprintable => Self::Headers,
            Reason::BodyUnfit | Reason::BodyTooLarge | Reason::NotAsApproved => Self::Body,
            Reason::ProofReplayed | Reason::ReplayUnavailable => Self::Replay,
            Reason::UpstreamUnreachable
            | Reason::UpstreamUntrusted
            | Reason::UpstreamProtocol
            | Reason::UpstreamTimeout
            | Reason::LoopDetected
            | Reason::Overloaded
            | Reason::AuditUnavailable
            | Reason::Internal => Self::Replay,
        }
    }
}

/// Steps and what each looked at, as far as the decision came.
#[derive(Debug, Default)]
pub(super) struct Account(BTreeMap<Stage, Map<String, Value>>);

impl Account {
    pub(super) fn note(&mut self, stage: Stage, name: &str, value: Value) {
        if !value.is_null() {
            self.0.entry(stage).or_default().insert(name.into(), value);
        }
    }

    pub(super) fn request(&mut self, request: &Request<()>) {
        let stage = Stage::Request;
        self.note(stage, "method", json!(request.method().as_str()));
        self.note(stage, "target", json!(request.uri().to_string()));
        let mut names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        self.note(stage, "headers", json!(names));
    }

    pub(super) fn head(&mut self, head: &RequestHead) {
        self.note(Stage::Request, "host", json!(head.host()));
        self.note(Stage::Request, "path", json!(head.path()));
        let credentials = head.headers().get(header::AUTHORIZATION);
        let Some(text) = credentials.and_then(|value| value.to_str().ok()) else {
            return;
        };
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        let stage = Stage::Credential;
        self.note(stage, "scheme", json!(scheme));
        self.note(stage, "bytes", json!(token.len()));
        let digest = AccessToken::new(token).digest().0;
        self.note(stage, "sha256", json!(URL_SAFE_NO_PAD.encode(digest)));
        if let Some([header, claims]) = parts(token) {
            self.note(stage, "kind", json!("JWT"));
            self.note(Stage::Token, "header", header);
            self.note(Stage::Token, "claims (as they stand there)", claims);
        } else {
            self.note(stage, "kind", json!("opaque"));
        }
        let proof = head.headers().get("dpop");
        if let Some([header, claims]) = proof.and_then(|proof| parts(proof.to_str().ok()?)) {
            self.note(Stage::Proof, "header", header);
            self.note(Stage::Proof, "claims", claims);
        }
    }

    pub(super) fn connection(&mut self, evidence: &Evidence) {
        let stage = Stage::Connection;
        self.note(stage, "listener", json!(&*evidence.peer.listener));
        let Some(certificate) = &evidence.peer.certificate else {
            self.note(stage, "certificate", json!("none"));
            return;
        };
        self.note(stage, "x5t#S256", json!(&*certificate.thumbprint_text));
        self.note(stage, "subject", json!(&*certificate.subject));
        self.note(stage, "issuer", json!(&*certificate.issuer));
        self.note(stage, "serial", json!(&*certificate.serial));
        self.note(stage, "organization_id", json!(certificate.organization_id));
        let roles: Vec<&str> = certificate
            .psd2_roles
            .iter()
            .map(|role| role.name())
            .collect();
        if !roles.is_empty() {
            self.note(stage, "psd2_roles", json!(roles));
        }
        self.note(stage, "not_before", time(certificate.not_before));
        self.note(stage, "not_after", time(certificate.not_after));
        let standing = match evidence.standing {
            None => "not judged",
            Some(Standing::Trusted) => "trusted",
            Some(Standing::Expired) => "outside its dates",
            Some(Standing::Revoked) => "revoked",
            Some(Standing::Untrusted) => "not trusted",
        };
        self.note(stage, "standing", json!(standing));
    }

    pub(super) fn asked_for_key(&mut self, issuer: &Issuer, kid: Option<&str>, of: Algorithm) {
        self.note(Stage::Keys, "issuer", json!(&*issuer.name));
        self.note(Stage::Keys, "kid", json!(kid));
        self.note(Stage::Keys, "alg", json!(of.name()));
    }

    /// What the walk left behind, beside what the policy asks for.
    pub(super) fn trail(&mut self, trail: &Trail, evidence: &Evidence, now: UnixTime) {
        let Some(route) = &trail.route else {
            return;
        };
        self.note(Stage::Route, "name", json!(&*route.name));
        self.note(Stage::Route, "upstream", json!(&*route.upstream.0));
        let access = match &route.access {
            Access::Open => "open to everybody",
            Access::Policy(policy) => &*policy.name,
        };
        self.note(Stage::Route, "policy", json!(access));
        if let Some(shadow) = &trail.shadow {
            let said = shadow.map_or("authorized", |reason| reason.spec().code);
            self.note(Stage::Route, "shadow_policy says", json!(said));
        }
        let Some(policy) = &trail.policy else {
            return;
        };
        if let Some(issuer) = &trail.issuer {
            self.note(Stage::Token, "issuer", json!(&*issuer.name));
            let audience = policy.audience.as_ref().unwrap_or(&issuer.audience);
            self.note(Stage::Validity, "audience, one of", json!(audience));
            let skew = humantime::format_duration(issuer.clock_skew).to_string();
            self.note(Stage::Validity, "clock_skew", json!(skew));
        }
        self.note(Stage::Validity, "now", time(now));
        if let Some(token) = &trail.token {
            self.note(Stage::Signature, "client_id", json!(token.client_id()));
            self.note(Stage::Signature, "sub", json!(token.subject()));
            self.note(Stage::Validity, "exp", time(token.expires()));
        }
        self.binding(policy, evidence);
        self.rights(policy);
        if !policy.require_headers.is_empty() {
            let names = policy.require_headers.iter().map(|name| name.as_str());
            self.note(Stage::Headers, "required", names.collect());
        }
        if let Some(linking) = &policy.linking {
            let links = linking.links.iter();
            let links = links.map(|link| format!("{} = {}", link.requested, link.approved));
            self.note(Stage::Body, "as approved", links.collect());
        }
    }

    fn binding(&mut self, policy: &Policy, evidence: &Evidence) {
        let binding = policy.binding;
        let kinds = [
            ("mtls", binding.mtls),
            ("dpop", binding.dpop),
            ("none", binding.none),
        ];
        let kinds = kinds
            .iter()
            .filter(|(_, taken)| *taken)
            .map(|(kind, _)| *kind);
        self.note(Stage::Binding, "policy takes", kinds.collect());
        let thumbprint = evidence.peer.certificate.as_ref();
        let thumbprint = thumbprint.map(|certificate| &*certificate.thumbprint_text);
        self.note(Stage::Binding, "certificate", json!(thumbprint));
        let asking = match policy.introspection {
            Asking::AsIssuer => None,
            Asking::Always => Some("always"),
            Asking::Uncached => Some("uncached"),
        };
        self.note(Stage::Introspection, "policy", json!(asking));
    }

    fn rights(&mut self, policy: &Policy) {
        let stage = Stage::Rights;
        let mut list = |name: &str, values: &[Box<str>]| {
            if !values.is_empty() {
                self.note(stage, name, json!(values));
            }
        };
        list("scopes, all of", &policy.scopes);
        list("scopes, one of", &policy.any_scope);
        list("acr, one of", &policy.strength.acr);
        list("amr, all of", &policy.strength.amr);
        let age = policy.strength.max_age;
        let age = age.map(|age| humantime::format_duration(age).to_string());
        self.note(stage, "max_age", json!(age));
        if !policy.step_up.is_empty() {
            self.note(stage, "step_up rules", json!(policy.step_up.len()));
        }
        if let Some(details) = &policy.authorization_details {
            self.note(stage, "authorization_details", json!(&*details.kind));
        }
        for (name, rule) in &policy.claims {
            let rule = match rule {
                ClaimRule::Present(true) => json!("present"),
                ClaimRule::Present(false) => json!("absent"),
                ClaimRule::Equals(value) => json!({ "equals": value }),
                ClaimRule::OneOf(values) => json!({ "one_of": values }),
                ClaimRule::Contains(value) => json!({ "contains": value }),
            };
            self.note(stage, &format!("claim {name}"), rule);
        }
        match &policy.clients {
            Clients::Any => {}
            Clients::These(lists) => {
                let names: Vec<&str> = lists
                    .iter()
                    .flat_map(|(_, names)| names)
                    .map(|n| &**n)
                    .collect();
                self.note(stage, "clients", json!(names));
            }
        }
        let certificate = &policy.certificate;
        let role = certificate.psd2_role.map(|role| role.name());
        self.note(stage, "certificate psd2_role", json!(role));
        for (name, values) in [
            ("certificate organization_id", &certificate.organization_id),
            ("certificate subject", &certificate.subject),
            ("certificate issuer", &certificate.issuer),
        ] {
            if !values.is_empty() {
                self.note(stage, name, json!(values));
            }
        }
    }

    /// Each step with what came of it, up to the one that failed.
    fn steps(
        &self,
        failed: Option<Stage>,
    ) -> impl Iterator<Item = (Stage, &'static str, Option<&Map<String, Value>>)> {
        Stage::ALL.iter().filter_map(move |stage| {
            let facts = self.0.get(stage);
            match failed {
                Some(failed) if *stage == failed => Some((*stage, "refused", facts)),
                Some(failed) if *stage > failed => None,
                _ => facts.map(|_| (*stage, "passed", facts)),
            }
        })
    }

    pub(super) fn to_json(&self, failed: Option<Stage>) -> Value {
        self.steps(failed)
            .map(|(stage, outcome, facts)| {
                json!({ "step": stage.name(), "outcome": outcome, "looked_at": facts })
            })
            .collect()
    }

    pub(super) fn to_text(&self, failed: Option<Stage>) -> String {
        let mut text = String::new();
        for (stage, outcome, facts) in self.steps(failed) {
            text.push_str(&format!("{} {outcome}\n", stage.name()));
            for (name, value) in facts.into_iter().flatten() {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Array(items) if items.iter().all(Value::is_string) => {
                        let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                        items.join(", ")
                    }
                    other => other.to_string(),
                };
                text.push_str(&format!("  {name}: {}\n", clean(&value, 2000)));
            }
        }
        text.push('\n');
        text
    }
}

/// Header and claims of a compact JWS, for show.
fn parts(token: &str) -> Option<[Value; 2]> {
    let mut parts = token.split('.');
    let mut object = || {
        let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        json::object(&bytes).ok().map(Value::Object)
    };
    Some([object()?, object()?])
}

fn time(at: UnixTime) -> Value {
    let since = std::time::Duration::from_secs(at.as_secs());
    let time = std::time::UNIX_EPOCH.checked_add(since);
    let text = time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    // Beyond what a calendar shows.
    json!(text.unwrap_or_else(|| at.to_string()))
}
