//! The rules of one policy, from what is written to what decisions are made by.

use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use super::document::At;
use super::policies::{Chain, Policies};
use super::problem::{Findings, ReportKind};
use super::raw;
use super::raw_policy::{
    BindingKind, Certificate, ClaimRule, Clients, NonceRule, OneOrMore, Psd2Role, ReplayUnavailable,
};
use super::values;
use super::{authentication, error_format, linking};
use crate::pdp::dpop;
use crate::pdp::policy::{self, Algorithm, Binding, CertificateRule, DetailsRule};
use crate::pdp::{IssuerId, Policy};

/// Compiles what a chain comes to; `None` where its layers are missing.
pub(super) fn compile(
    name: &str,
    chain: &Chain,
    merged: &raw::Policy,
    policies: &Policies<'_>,
    out: &mut Findings,
) -> Option<Policy> {
    let issuers = policies.issuers(chain, merged, out);
    let introspection = policies.introspection(chain, merged, &issuers, out)?;
    let max_lifetime = time(chain, "max_lifetime", merged.max_lifetime.as_deref(), out)?;
    if let (Some(own), Some(longest)) = (max_lifetime, policies.longest_lifetime(&issuers))
        && own > longest
    {
        chain.origin(&["max_lifetime"])?.report(
            out,
            ReportKind::Note,
            "this has no effect: the issuer's max_lifetime is shorter",
        );
    }
    for (key, value) in [("summary", &merged.summary), ("extends", &merged.extends)] {
        if let Some(value) = value {
            values::text(&chain.origin(&[key])?, value, out);
        }
    }
    Some(Policy {
        name: name.into(),
        opaque: introspection.opaque,
        introspection: introspection.asking,
        audience: match &merged.audience {
            Some(audience) => Some(self::audience(chain, audience, (policies, &issuers), out)?),
            None => None,
        },
        binding: binding(chain, merged, out)?,
        proofs: proofs(merged, policies),
        scopes: words(chain, "scopes", merged.scopes.as_deref(), out)?,
        any_scope: words(chain, "any_scope", merged.any_scope.as_deref(), out)?,
        strength: authentication::strength(chain, merged, out)?,
        step_up: authentication::step_up(chain, merged, out)?,
        linking: linking::compile(chain, merged, out)?,
        authorization_details: details(chain, merged, out)?,
        claims: claims(chain, merged, out)?,
        clients: clients(chain, merged, (policies, &issuers), out)?,
        certificate: certificate(chain, merged.certificate.as_ref(), out)?,
        require_headers: require_headers(chain, merged, out)?,
        max_lifetime,
        error_format: error_format::compile(chain, merged, out)?,
        issuers,
    })
}

/// What a policy names stands in place of the issuers' lists: it is meant to be a resource below
/// the API, and reported where it is another.
fn audience(
    chain: &Chain,
    written: &[String],
    (policies, issuers): (&Policies<'_>, &[IssuerId]),
    out: &mut Findings,
) -> Option<Vec<Box<str>>> {
    let at = chain.origin(&["audience"])?;
    for (index, one) in written.iter().enumerate() {
        if !one.is_empty() && !issuers.is_empty() && !policies.is_ours(one, issuers) {
            let text =
                format!("{one} is neither in audience of an issuer of the policy nor below one");
            at.item(index).report(out, ReportKind::Weaker, text);
        }
    }
    Some(values::list(&at, written, out))
}

fn binding(chain: &Chain, merged: &raw::Policy, out: &mut Findings) -> Option<Binding> {
    let at = chain.origin(&["binding"])?;
    let kinds = merged.binding.as_deref().unwrap_or_default();
    if kinds.is_empty() {
        let right = "write binding = [\"mtls\"], or leave the key out";
        at.refuse(out, "this list is empty", right);
    }
    let dpop = kinds.contains(&BindingKind::Dpop);
    if chain.origin(&["dpop"]).is_some_and(|at| at.written()) && !dpop {
        chain.origin(&["dpop"])?.report(
            out,
            ReportKind::Note,
            "this has no effect: binding of the policy has no \"dpop\"",
        );
    }
    Some(Binding {
        mtls: kinds.contains(&BindingKind::Mtls),
        dpop,
        none: kinds.contains(&BindingKind::None),
    })
}

/// How proofs are taken: RFC 9449 s4.3 with the bounds of `[dpop]`.
fn proofs(merged: &raw::Policy, policies: &Policies<'_>) -> dpop::Rules {
    let written = merged.dpop.unwrap_or_default();
    dpop::Rules {
        age: policies.proofs.age,
        ahead: policies.proofs.ahead,
        nonce: match written.nonce {
            Some(NonceRule::Required) => dpop::NonceRule::Required,
            Some(NonceRule::Accepted) => dpop::NonceRule::Accepted,
            Some(NonceRule::Off) | None => dpop::NonceRule::Off,
        },
        replay_unavailable: match written.replay_unavailable {
            Some(ReplayUnavailable::Local) => dpop::ReplayRule::Local,
            Some(ReplayUnavailable::Refuse) | None => dpop::ReplayRule::Refuse,
        },
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
    }
}

pub(super) fn words(
    chain: &Chain,
    key: &str,
    values: Option<&[String]>,
    out: &mut Findings,
) -> Option<Vec<Box<str>>> {
    let Some(values) = values else {
        return Some(Vec::new());
    };
    Some(authentication::words(&chain.origin(&[key])?, values, out))
}

pub(super) fn time(
    chain: &Chain,
    key: &str,
    value: Option<&str>,
    out: &mut Findings,
) -> Option<Option<Duration>> {
    let Some(value) = value else {
        return Some(None);
    };
    let mut layers = chain.layers.iter().map(|(at, _)| at);
    let at = layers.find(|at| at.key(key).written())?;
    Some(Some(authentication::seconds(at, key, value, out)))
}

/// A date has no form in JSON, and so cannot be what a claim is compared with.
fn json(at: &At, value: &Value, out: &mut Findings) -> Value {
    fn dated(value: &Value) -> bool {
        match value {
            Value::Object(members) => {
                members.keys().any(|key| key.starts_with("$__")) || members.values().any(dated)
            }
            Value::Array(items) => items.iter().any(dated),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    if dated(value) {
        at.refuse(out, "a date cannot be in a token", "write it as a string");
    }
    value.clone()
}

fn details(chain: &Chain, merged: &raw::Policy, out: &mut Findings) -> Option<Option<DetailsRule>> {
    let Some(written) = &merged.authorization_details else {
        return Some(None);
    };
    let mut kind = Box::default();
    let mut members = Vec::new();
    for (name, value) in written {
        let at = chain.origin(&["authorization_details", name])?;
        match (name.as_str(), value) {
            ("type", Value::String(text)) => kind = values::text(&at, text, out),
            ("type", _) => at.refuse(out, "the type is no string", "write the type of the entry"),
            (_, Value::Object(_)) => {
                let right = "compare single members: a string, number, boolean or a list of them";
                at.refuse(out, "a table cannot be compared", right);
            }
            (_, value) => members.push((name.as_str().into(), json(&at, value, out))),
        }
    }
    if !written.contains_key("type") {
        chain.origin(&["authorization_details"])?.refuse(
            out,
            "`type` is missing",
            "say which type of authorization detail (RFC 9396 s2)",
        );
    }
    Some(Some(DetailsRule { kind, members }))
}

fn claims(
    chain: &Chain,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Option<Vec<(Box<str>, policy::ClaimRule)>> {
    let mut rules = Vec::new();
    for (name, rule) in merged.claims.iter().flatten() {
        let at = chain.origin(&["claims", name])?;
        let ClaimRule {
            present,
            equals,
            one_of,
            contains,
        } = rule;
        let compiled = match (present, equals, one_of, contains) {
            (Some(present), None, None, None) => policy::ClaimRule::Present(*present),
            (None, Some(value), None, None) => {
                policy::ClaimRule::Equals(json(&at.key("equals"), value, out))
            }
            (None, None, Some(values), None) => {
                let at = at.key("one_of");
                if values.is_empty() {
                    at.refuse(out, "this list is empty", "write at least one value");
                }
                let values = values.iter().map(|value| json(&at, value, out));
                policy::ClaimRule::OneOf(values.collect())
            }
            (None, None, None, Some(value)) => {
                policy::ClaimRule::Contains(json(&at.key("contains"), value, out))
            }
            _ => {
                at.refuse(
                    out,
                    "a rule for a claim has exactly one member",
                    "write one of present, equals, one_of and contains",
                );
                continue;
            }
        };
        if name.is_empty() {
            at.refuse_key(out, "a claim without a name", "write its name");
        }
        rules.push((name.as_str().into(), compiled));
    }
    if merged
        .claims
        .as_ref()
        .is_some_and(std::collections::BTreeMap::is_empty)
    {
        let right = "write a rule, or leave the key out";
        chain
            .origin(&["claims"])?
            .refuse(out, "this table is empty", right);
    }
    Some(rules)
}

fn clients(
    chain: &Chain,
    merged: &raw::Policy,
    (policies, issuers): (&Policies<'_>, &[IssuerId]),
    out: &mut Findings,
) -> Option<policy::Clients> {
    let at = chain.origin(&["clients"])?;
    Some(match &merged.clients {
        None => policy::Clients::Any,
        Some(Clients::These(names)) => {
            let names = values::list(&at, names, out);
            if issuers.len() > 1 {
                at.refuse(
                    out,
                    "the policy has several issuers, and a client id means something under one only",
                    "write a table such as { main = [\"tpp-1\"] }",
                );
            }
            policy::Clients::These(issuers.iter().map(|id| (*id, names.clone())).collect())
        }
        Some(Clients::ByIssuer(tables)) => {
            if tables.is_empty() {
                at.refuse(
                    out,
                    "this table is empty",
                    "name an issuer, or leave the key out",
                );
            }
            let mut these = Vec::new();
            for (issuer, names) in tables {
                let at = chain.origin(&["clients", issuer])?;
                let names = values::list(&at, names, out);
                let Some(id) = policies.issuer(issuer, &at, out) else {
                    continue;
                };
                if !issuers.contains(&id) {
                    let right = "add it to issuer of the policy, or remove it here";
                    at.refuse(
                        out,
                        format!("the policy does not take tokens of {issuer}"),
                        right,
                    );
                }
                these.push((id, names));
            }
            policy::Clients::These(these)
        }
    })
}

fn certificate(
    chain: &Chain,
    written: Option<&Certificate>,
    out: &mut Findings,
) -> Option<CertificateRule> {
    let Some(written) = written else {
        return Some(CertificateRule::default());
    };
    let mut one_of = |key: &str, value: &Option<OneOrMore>| {
        let Some(value) = value else {
            return Some(Vec::new());
        };
        let at = chain.origin(&["certificate", key])?;
        Some(match value {
            OneOrMore::One(one) => vec![values::text(&at, one, out)],
            OneOrMore::More(_) => values::list(&at, value.values(), out),
        })
    };
    let rule = CertificateRule {
        organization_id: one_of("organization_id", &written.organization_id)?,
        subject: one_of("subject", &written.subject)?,
        issuer: one_of("issuer", &written.issuer)?,
        psd2_role: written.psd2_role.map(|role| match role {
            Psd2Role::AccountServicing => crate::pdp::Psd2Role::AccountServicing,
            Psd2Role::PaymentInitiation => crate::pdp::Psd2Role::PaymentInitiation,
            Psd2Role::AccountInformation => crate::pdp::Psd2Role::AccountInformation,
            Psd2Role::CardIssuing => crate::pdp::Psd2Role::CardIssuing,
        }),
    };
    if rule.is_empty() {
        let right = "say what the certificate must have, or leave the key out";
        chain
            .origin(&["certificate"])?
            .refuse(out, "this table is empty", right);
    }
    Some(rule)
}

fn require_headers(
    chain: &Chain,
    merged: &raw::Policy,
    out: &mut Findings,
) -> Option<Vec<HeaderName>> {
    let Some(written) = &merged.require_headers else {
        return Some(Vec::new());
    };
    let at = chain.origin(&["require_headers"])?;
    values::list(&at, written, out);
    let mut names = Vec::new();
    for (index, name) in written.iter().enumerate() {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => names.push(name),
            Err(_) => at.item(index).refuse(
                out,
                format!("{name:?} is no header name"),
                "write a name such as \"x-fapi-interaction-id\"",
            ),
        }
    }
    Some(names)
}
