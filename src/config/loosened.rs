//! What a policy takes back of what it stands on. It may, and `check` says so (CFG-03, CFG-04).

use super::policies::Chain;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::raw_policy::{BindingKind, Clients, Introspection};

/// Reports every rule of the most derived layer that is weaker than what it inherits.
pub(super) fn report(chain: &Chain, merged: &raw::Policy, out: &mut Findings) {
    let Some((at, _)) = chain.layers.first() else {
        return;
    };
    if chain.layers.len() > 1 || merged.binding.is_some() {
        unbound(chain, merged, out);
    }
    if chain.layers.len() < 2 {
        return;
    }
    let base = chain.merged(1);
    let mut weaker = |key: &str, text: String| {
        if at.key(key).written() {
            at.key(key).report(out, ReportKind::Weaker, text);
        }
    };
    let asked = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    for (key, own, inherited) in [
        ("scopes", &merged.scopes, &base.scopes),
        (
            "require_headers",
            &merged.require_headers,
            &base.require_headers,
        ),
        ("amr", &merged.amr, &base.amr),
    ] {
        let own = asked(own);
        let lost: Vec<_> = asked(inherited)
            .into_iter()
            .filter(|one| !own.contains(one))
            .collect();
        if !lost.is_empty() {
            weaker(
                key,
                format!("no longer asks for {}, which it inherits", lost.join(", ")),
            );
        }
    }
    for (key, own, inherited) in [
        ("any_scope", &merged.any_scope, &base.any_scope),
        ("audience", &merged.audience, &base.audience),
    ] {
        let inherited = asked(inherited);
        let gained: Vec<_> = asked(own)
            .into_iter()
            .filter(|one| !inherited.contains(one))
            .collect();
        if !inherited.is_empty() && !gained.is_empty() {
            weaker(
                key,
                format!(
                    "takes {} too, which the inherited rule does not",
                    gained.join(", ")
                ),
            );
        }
    }
    for (key, own, inherited) in [
        ("max_age", &merged.max_age, &base.max_age),
        ("max_lifetime", &merged.max_lifetime, &base.max_lifetime),
    ] {
        let read = |text: &Option<String>| {
            text.as_deref()
                .and_then(|text| humantime::parse_duration(text).ok())
        };
        if let (Some(own), Some(inherited)) = (read(own), read(inherited))
            && own > inherited
        {
            let inherited = humantime::format_duration(inherited);
            weaker(
                key,
                format!("is longer than the {inherited} that it inherits"),
            );
        }
    }
    if let (Some(own), Some(inherited)) = (&merged.clients, &base.clients)
        && !within(own, inherited)
    {
        weaker(
            "clients",
            "allows clients that the inherited list does not".to_owned(),
        );
    }
    if base.step_up.is_some() && json(&base.step_up) != json(&merged.step_up) {
        weaker("step_up", "replaces the inherited rules".to_owned());
    }
    let (own, inherited) = (contexts(merged), contexts(&base));
    let gained: Vec<_> = own.iter().filter(|one| !inherited.contains(one)).collect();
    if !inherited.is_empty() && !gained.is_empty() {
        let gained = gained.iter().map(|one| one.as_str()).collect::<Vec<_>>();
        for key in ["acr", "acr_at_least", "acr_ranks"] {
            weaker(
                key,
                format!(
                    "takes {} too, which the inherited rule does not",
                    gained.join(", ")
                ),
            );
        }
    }
    if (base.introspection, merged.introspection)
        == (Some(Introspection::Uncached), Some(Introspection::Always))
    {
        let text = "takes remembered answers, where the inherited rule asks at every request";
        weaker("introspection", text.to_owned());
    }
    for (key, own, inherited) in [
        ("claims", json(&merged.claims), json(&base.claims)),
        (
            "certificate",
            json(&merged.certificate),
            json(&base.certificate),
        ),
        (
            "authorization_details",
            json(&merged.authorization_details),
            json(&base.authorization_details),
        ),
        (
            "dynamic_linking",
            json(&merged.dynamic_linking),
            json(&base.dynamic_linking),
        ),
    ] {
        for (member, value) in inherited.as_object().into_iter().flatten() {
            if own.get(member) != Some(value) {
                weaker(key, format!("replaces the inherited rule for {member}"));
            }
        }
    }
}

/// The authentication contexts that will do.
fn contexts(policy: &raw::Policy) -> Vec<String> {
    match (&policy.acr_at_least, &policy.acr_ranks) {
        (Some(least), Some(ranks)) => {
            let enough = ranks.iter().skip_while(|rank| *rank != least);
            enough.cloned().collect()
        }
        _ => policy.acr.clone().unwrap_or_default(),
    }
}

/// An unbound token is a bearer token, whoever allowed it: each policy that takes one is named.
fn unbound(chain: &Chain, merged: &raw::Policy, out: &mut Findings) {
    let none = merged
        .binding
        .iter()
        .flatten()
        .any(|kind| *kind == BindingKind::None);
    let Some((at, own)) = chain.layers.first().filter(|_| none) else {
        return;
    };
    if own.binding.is_some() {
        let text = "unbound tokens pass: whoever has such a token can use it";
        at.key("binding").report(out, ReportKind::Weaker, text);
    } else {
        let text = "unbound tokens pass, by the policy that this one extends";
        at.report(out, ReportKind::Weaker, text);
    }
}

fn within(own: &Clients, inherited: &Clients) -> bool {
    match (own, inherited) {
        (Clients::These(own), Clients::These(inherited)) => {
            own.iter().all(|client| inherited.contains(client))
        }
        (Clients::ByIssuer(own), Clients::ByIssuer(inherited)) => {
            own.iter().all(|(issuer, own)| {
                let inherited = inherited.get(issuer).map(Vec::as_slice).unwrap_or_default();
                own.iter().all(|client| inherited.contains(client))
            })
        }
        (Clients::These(_), Clients::ByIssuer(_)) | (Clients::ByIssuer(_), Clients::These(_)) => {
            false
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
