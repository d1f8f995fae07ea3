//! Profiles as lists of duties: what each demands, who sees to it, and what of it a policy that
//! stands on the profile takes back (CFG-04).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::issuers;
use super::listeners::Listener;
use super::policies::{Compiled, Policies};
use super::problem::{Findings, ReportKind};
use super::raw;
use super::raw_policy::{Duty, Level, PolicyRef, Sees};
use crate::pdp::policy::Asking;
use crate::tls::ClientTrust;

/// What duties are judged by, beside the policy itself.
pub(super) struct Around<'c> {
    pub(super) file: &'c raw::File,
    pub(super) issuers: &'c BTreeMap<String, issuers::Found>,
    pub(super) listeners: &'c BTreeMap<String, Listener>,
}

/// Checks every duty of every profile in use; reports how many are enforced.
pub(super) fn judge(policies: &Policies<'_>, around: &Around<'_>, out: &mut Findings) {
    let mut whole: BTreeMap<&str, (&Compiled, usize)> = BTreeMap::new();
    for (name, compiled) in &policies.all {
        let duties = &compiled.duties;
        if duties.is_empty() {
            continue;
        }
        gaps(name, compiled, out);
        let mut missing = Vec::new();
        for duty in duties {
            if let Some(why) = &duty.not_enforced {
                missing.push(format!("{} ({why})", duty.id));
            } else if let Some(why) = lost(duty, name, compiled, around) {
                missing.push(format!("{} ({why})", duty.id));
            }
        }
        if missing.is_empty() {
            whole
                .entry(&compiled.base)
                .or_insert((compiled, duties.len()));
            continue;
        }
        let enforced = duties.len().saturating_sub(missing.len());
        let text = format!(
            "policy {name}: {}: {enforced} of {} duties enforced; not {}",
            compiled.base,
            duties.len(),
            missing.join(", ")
        );
        compiled.at.report(out, ReportKind::Duties, text);
    }
    for (base, (compiled, duties)) in whole {
        let text = format!("{base}: {duties} of {duties} duties enforced");
        compiled.at.report(out, ReportKind::Duties, text);
    }
}

/// A demand of a profile that nothing enforces must be accepted by name: nobody believes then that
/// it is.
fn gaps(name: &str, compiled: &Compiled, out: &mut Findings) {
    let open = |duty: &&Arc<Duty>| duty.not_enforced.is_some();
    let accepted = &compiled.accepted_gaps;
    for duty in compiled.duties.iter().filter(open) {
        if duty.level == Level::Must && !accepted.iter().any(|(_, id)| *id == duty.id) {
            let why = duty.not_enforced.as_deref().unwrap_or_default();
            compiled.at.refuse(
                out,
                format!(
                    "policy {name} stands on a profile that demands {} ({}), and nothing here enforces it: {why}",
                    duty.id, duty.text
                ),
                format!("see to it elsewhere and write accept_gaps = [\"{}\"], or extend another profile", duty.id),
            );
        }
    }
    for (at, id) in accepted {
        if !compiled
            .duties
            .iter()
            .filter(open)
            .any(|duty| duty.id == *id)
        {
            at.refuse(
                out,
                format!("{id} is no gap of a profile that this policy extends"),
                "remove it: a gap that is accepted in advance would hide one that opens later",
            );
        }
    }
}

/// Why a duty is not enforced where this policy is in force; `None` if it is.
fn lost(duty: &Duty, name: &str, compiled: &Compiled, around: &Around<'_>) -> Option<String> {
    duty.by
        .iter()
        .flatten()
        .find_map(|sees| unseen(*sees, name, compiled, around))
}

fn unseen(sees: Sees, name: &str, compiled: &Compiled, around: &Around<'_>) -> Option<String> {
    let policy = &compiled.policy;
    let issuers = || {
        around
            .issuers
            .iter()
            .filter(|(_, found)| policy.issuers.contains(&found.id))
    };
    match sees {
        Sees::Gate => None,
        Sees::Binding => policy
            .binding
            .none
            .then(|| "binding: unbound tokens pass".to_owned()),
        Sees::Algorithms => issuers()
            .find(|(_, found)| found.rs256)
            .map(|(issuer, _)| format!("algorithms of issuer {issuer} have RS256")),
        Sees::TokenTypes => issuers().find_map(|(issuer, found)| {
            let settings = found.settings.as_ref()?;
            let types = &settings.issuer.token_types;
            let other = types.iter().any(|kind| &**kind != "application/at+jwt");
            other.then(|| format!("token_types of issuer {issuer}"))
        }),
        Sees::ExpLeeway => issuers().find_map(|(issuer, found)| {
            let leeway = found.settings.as_ref()?.issuer.exp_leeway;
            (leeway > Duration::ZERO).then(|| format!("exp_leeway of issuer {issuer}"))
        }),
        Sees::Revocation => {
            let asked = policy.introspection != Asking::AsIssuer;
            let narrowed = policy.max_lifetime.is_some();
            let blind = issuers().find(|(_, found)| {
                let always = found.introspection.as_ref().is_some_and(|one| one.always);
                !always && !found.at.key("max_lifetime").written()
            });
            let (issuer, _) = blind.filter(|_| !asked && !narrowed)?;
            Some(format!(
                "JWTs of issuer {issuer} are not asked about, and no max_lifetime says that this is accepted"
            ))
        }
        Sees::ClientTrust => on_listeners(name, compiled, around, |listener| {
            (listener.asks && !listener.vouched).then_some("client_trust = \"any\"")
        }),
        Sees::CertificateRevocation => on_listeners(name, compiled, around, |listener| {
            let settings = listener.settings.as_ref()?;
            match &settings.tls.client_trust {
                ClientTrust::Ca(authorities) if !authorities.checks_revocation() => {
                    Some("revocation = \"none\"")
                }
                ClientTrust::Ca(_) | ClientTrust::Any => None,
            }
        }),
    }
}

/// What is found first on a listener where the policy is in force.
fn on_listeners(
    name: &str,
    compiled: &Compiled,
    around: &Around<'_>,
    wrong: impl Fn(&Listener) -> Option<&'static str>,
) -> Option<String> {
    if !compiled.policy.binding.mtls {
        return None;
    }
    let of_policy = |route: &&raw::Route| match &route.policy {
        Some(PolicyRef::Name(of)) => of == name,
        Some(PolicyRef::Inline(_)) => route.name == name,
        None => false,
    };
    let listeners = around.file.route.iter().filter(of_policy);
    let listeners = listeners
        .filter_map(|route| route.listener.as_ref())
        .flatten();
    listeners
        .filter_map(|listener| Some((listener, around.listeners.get(listener)?)))
        .find_map(|(listener, settings)| {
            Some(format!("{} of listener {listener}", wrong(settings)?))
        })
}
