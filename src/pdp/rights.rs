//! Whether a valid token gives the right that the route asks for.

use serde_json::{Map, Value};

use super::RequestHead;
use super::content::Content;
use super::json::same;
use super::linking;
use super::peer::Peer;
use super::policy::{CertificateRule, ClaimRule, Clients, DetailsRule, Issuer, Policy};
use super::step_up;
use super::time::UnixTime;
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal};

/// Judges the rules of a policy, in this order: who the client is (a client that may not pass is
/// never sent to authenticate its user again), how the user was authenticated together with the
/// scopes (RFC 9470 s3 wants both in one challenge), and then what exactly was granted.
///
/// `content`: `None` while the body was not read: what depends on it is left open.
///
/// # Errors
/// Any reason of class `Permission`; `body_unfit`.
pub(super) fn judge(
    (token, issuer): (&VerifiedToken, &Issuer),
    (head, peer): (&RequestHead, &Peer),
    policy: &Policy,
    content: Option<&Content>,
    now: UnixTime,
) -> Result<(), Refusal> {
    client(token, &policy.clients)?;
    certificate(peer, &policy.certificate)?;
    let lacking = lacks_scope(token, policy);
    let method = head.method();
    if let Err(refusal) = step_up::judge((token, issuer), policy, (method, content), now) {
        return Err(refusal.advise(|advice| {
            if lacking {
                advice.scope = wanted_scope(token, policy);
            }
        }));
    }
    if lacking {
        return Err(Refusal::because(
            Reason::ScopeInsufficient,
            "scope lacks what the policy asks for",
        )
        .advise(|advice| advice.scope = wanted_scope(token, policy)));
    }
    if let Some(rule) = &policy.authorization_details {
        details(token, rule)?;
    }
    for (name, rule) in &policy.claims {
        claim(&token.claims, name, rule)?;
    }
    if let (Some(linking), Some(content)) = (&policy.linking, content)
        && linking.is_about(method)
    {
        let rule = policy.authorization_details.as_ref();
        linking::judge(token, (linking, rule), content)?;
    }
    Ok(())
}

/// Names of one issuer are not those of another (AUTHZ-07).
fn client(token: &VerifiedToken, clients: &Clients) -> Result<(), Refusal> {
    let may = match clients {
        Clients::Any => true,
        Clients::These(lists) => lists
            .iter()
            .any(|(issuer, names)| *issuer == token.issuer && names.contains(&token.client_id)),
    };
    if may {
        return Ok(());
    }
    Err(Refusal::because(
        Reason::ClientNotAllowed,
        "the client is not among clients of the policy",
    ))
}

/// Whether the connection's certificate says what a rule asks for.
///
/// # Errors
/// `certificate_denied`.
pub(super) fn certificate(peer: &Peer, rule: &CertificateRule) -> Result<(), Refusal> {
    if rule.is_empty() {
        return Ok(());
    }
    let denied = |why: &str| Refusal::because(Reason::CertificateDenied, why);
    let Some(certificate) = &peer.certificate else {
        return Err(denied("no certificate came"));
    };
    if let Some(role) = rule.psd2_role
        && !certificate.psd2_roles.contains(&role)
    {
        return Err(Refusal::because(
            Reason::CertificateDenied,
            format!("the certificate has no role {}", role.name()),
        ));
    }
    let among = |names: &[Box<str>], name: Option<&str>| {
        names.is_empty() || name.is_some_and(|name| names.iter().any(|one| &**one == name))
    };
    if !among(
        &rule.organization_id,
        certificate.organization_id.as_deref(),
    ) {
        return Err(denied("organization_id is none of the policy's"));
    }
    if !among(&rule.subject, Some(&certificate.subject)) {
        return Err(denied("the subject is none of the policy's"));
    }
    if !among(&rule.issuer, Some(&certificate.issuer)) {
        return Err(denied("the issuer is none of the policy's"));
    }
    Ok(())
}

/// Whole scopes, letter by letter (AUTHZ-02).
fn lacks_scope(token: &VerifiedToken, policy: &Policy) -> bool {
    let has_all = policy.scopes.iter().all(|s| token.scopes.contains(s));
    let has_one = policy.any_scope.iter().any(|s| token.scopes.contains(s));
    !(has_all && (has_one || policy.any_scope.is_empty()))
}

/// A set of scopes that would do: of `any_scope` the one that the token has, else the first.
fn wanted_scope(token: &VerifiedToken, policy: &Policy) -> Vec<Box<str>> {
    let held = policy
        .any_scope
        .iter()
        .find(|scope| token.scopes.contains(scope));
    let one = held.or_else(|| policy.any_scope.first());
    let one = one.filter(|scope| !policy.scopes.contains(scope));
    policy.scopes.iter().chain(one).cloned().collect()
}

/// RFC 9396 s9: one entry of the type must have all that the rule names; entries of other types
/// grant nothing (AUTHZ-08, AUTHZ-09).
fn details(token: &VerifiedToken, rule: &DetailsRule) -> Result<(), Refusal> {
    if entries(token, &rule.kind).any(|entry| covered(entry, rule)) {
        return Ok(());
    }
    Err(Refusal::because(
        Reason::AuthorizationDetailsInsufficient,
        format!(
            "no entry of type {:?} has what the policy asks for",
            rule.kind
        ),
    ))
}

/// The entries of one type.
pub(super) fn entries<'t>(
    token: &'t VerifiedToken,
    kind: &'t str,
) -> impl Iterator<Item = &'t Value> {
    let entries = match token.claims.get("authorization_details") {
        Some(Value::Array(entries)) => entries.as_slice(),
        _ => &[],
    };
    let is = move |entry: &&Value| entry.get("type").and_then(Value::as_str) == Some(kind);
    entries.iter().filter(is)
}

/// Whether an entry has all that the rule names.
pub(super) fn covered(entry: &Value, rule: &DetailsRule) -> bool {
    rule.members.iter().all(|(name, expected)| {
        entry
            .get(&**name)
            .is_some_and(|found| covers(found, expected))
    })
}

/// Whether a member of an entry covers what the policy asks for: it is equal, or a list that has
/// it; of a list every one must be covered, of an object every member.
fn covers(found: &Value, expected: &Value) -> bool {
    match expected {
        Value::Array(all) => all.iter().all(|one| covers(found, one)),
        Value::Object(members) => members
            .iter()
            .all(|(name, expected)| found.get(name).is_some_and(|found| covers(found, expected))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => match found {
            Value::Array(items) => items.iter().any(|item| same(item, expected)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => same(found, expected),
        },
    }
}

/// A claim that is `null` counts as absent.
fn claim(claims: &Map<String, Value>, name: &str, rule: &ClaimRule) -> Result<(), Refusal> {
    let found = claims.get(name).filter(|value| !value.is_null());
    let fits = match rule {
        ClaimRule::Present(wanted) => found.is_some() == *wanted,
        ClaimRule::Equals(expected) => found.is_some_and(|found| same(found, expected)),
        ClaimRule::OneOf(list) => {
            found.is_some_and(|found| list.iter().any(|expected| same(found, expected)))
        }
        ClaimRule::Contains(expected) => found.is_some_and(|found| contains(found, expected)),
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::because(
        Reason::ClaimDenied,
        format!("{name} is not what the policy asks for"),
    ))
}

fn contains(found: &Value, expected: &Value) -> bool {
    match found {
        Value::Array(items) => items.iter().any(|item| same(item, expected)),
        Value::String(text) => expected
            .as_str()
            .is_some_and(|word| !word.is_empty() && text.split(' ').any(|one| one == word)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}
