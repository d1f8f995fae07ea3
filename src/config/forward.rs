//! `[forward]` and `forward` of a route: what the API behind is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use super::document::At;
use super::problem::Findings;
use super::raw;
use crate::pdp::policy::{Fact, ForwardRules};

/// Headers that are framing, or that we set ourselves: no fact can stand in them.
const OURS: [&str; 21] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dpop",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Headers without which a request cannot be understood or traced.
const KEPT: [&str; 7] = [
    "connection",
    "content-length",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-fapi-interaction-id",
];

/// A name as it is compared when headers are removed: lower case, everything that is no letter or
/// digit a `-`, since servers that make variables of names fold them so.
fn fold(name: &str) -> String {
    let fold = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    name.chars().map(fold).collect()
}

/// What the API behind is told, and what that asks of a listener.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) rules: Arc<ForwardRules>,
    /// Facts that only a certificate under `client_ca` can vouch for, where they stand.
    pub(super) vouched: Vec<(At, String)>,
}

/// Headers with their facts, and those of the facts that a certificate must vouch for.
type Headers = (Vec<(HeaderName, Fact)>, Vec<(At, String)>);

/// The rules of `raw`, where they stand, over those of `base`: a key given replaces the inherited
/// one whole. Headers that carry identity by the base are removed from what clients send even
/// where a route sets others: a client must never fill them.
pub(super) fn check(
    raw: &raw::Forward,
    at: &At,
    base: Option<&Rules>,
    out: &mut Findings,
) -> Rules {
    let inherited = base.map(|base| &*base.rules);
    let authorization = raw
        .authorization
        .or(inherited.map(|rules| rules.authorization))
        .unwrap_or(false);
    let host = match raw.host.as_deref() {
        Some("preserve") => None,
        Some(host) => {
            host_value(&at.key("host"), host, out);
            Some(host.into())
        }
        None => inherited.and_then(|rules| rules.host.clone()),
    };
    let mut strip: Vec<Box<str>> = match &raw.strip {
        Some(written) => {
            let at = at.key("strip");
            // In a route an empty list takes back what [forward] strips.
            if written.is_empty() && base.is_none() {
                at.refuse(out, "this list is empty", "leave the key out");
            }
            patterns(&at, written, out)
        }
        None => inherited
            .map(|rules| rules.strip.clone())
            .unwrap_or_default(),
    };
    let (headers, vouched) = match &raw.headers {
        Some(written) => headers(&at.key("headers"), written, out),
        None => (
            inherited
                .map(|rules| rules.headers.clone())
                .unwrap_or_default(),
            base.map(|base| base.vouched.clone()).unwrap_or_default(),
        ),
    };
    for (name, _) in inherited.iter().flat_map(|rules| &rules.headers) {
        let name = fold(name.as_str()).into_boxed_str();
        let set = headers
            .iter()
            .any(|(header, _)| fold(header.as_str()) == *name);
        if !set && !strip.contains(&name) {
            strip.push(name);
        }
    }
    Rules {
        rules: Arc::new(ForwardRules {
            authorization,
            host,
            strip,
            headers,
        }),
        vouched,
    }
}

fn host_value(at: &At, host: &str, out: &mut Findings) {
    let valid = host
        .parse::<http::uri::Authority>()
        .is_ok_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    if !valid {
        at.refuse(
            out,
            format!("{host:?} is no host"),
            "write \"preserve\", or a host name with or without a port",
        );
    }
}

/// Names to remove, folded.
fn patterns(at: &At, written: &[String], out: &mut Findings) -> Vec<Box<str>> {
    let mut folded = Vec::new();
    for (index, pattern) in written.iter().enumerate() {
        let here = at.item(index);
        let (name, star) = match pattern.strip_suffix('*') {
            Some(name) => (name, true),
            None => (pattern.as_str(), false),
        };
        if name.is_empty() || HeaderName::from_bytes(name.as_bytes()).is_err() {
            here.refuse(
                out,
                format!("{pattern:?} is no header name"),
                "write a name such as \"x-internal-user\", or its beginning as in \"x-internal-*\"",
            );
            continue;
        }
        let name = fold(name);
        let kept = KEPT.iter().find(|kept| {
            if star {
                kept.starts_with(&name)
            } else {
                **kept == name
            }
        });
        if let Some(kept) = kept {
            here.refuse(
                out,
                format!("this would remove {kept}, which every request needs"),
                "write a longer beginning, or whole names",
            );
        }
        let name = if star { format!("{name}*") } else { name };
        folded.push(name.into_boxed_str());
    }
    folded
}

/// `headers`: names and facts.
fn headers(at: &At, written: &BTreeMap<String, String>, out: &mut Findings) -> Headers {
    let mut headers: Vec<(HeaderName, Fact)> = Vec::new();
    let mut vouched = Vec::new();
    for (name, fact) in written {
        let here = at.key(name);
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            let right = "write a name such as \"x-auth-subject\"";
            here.refuse_key(out, format!("{name:?} is no header name"), right);
            continue;
        };
        let folded = fold(name);
        if OURS.contains(&&*folded) || folded == "x-fapi-interaction-id" {
            here.refuse_key(
                out,
                "this header is always set or removed by rules of its own",
                "choose another name for the fact, such as \"x-auth-subject\"",
            );
        }
        if headers
            .iter()
            .any(|(other, _)| fold(other.as_str()) == folded)
        {
            here.refuse_key(
                out,
                "another header has the same name but for case and punctuation",
                "choose names that servers cannot confuse",
            );
        }
        let Some(parsed) = parse_fact(fact) else {
            here.refuse(
                out,
                format!("{fact:?} is no fact"),
                "use token.<claim>, certificate.x5t#S256, certificate.subject, \
                 certificate.organization_id, certificate.serial, certificate.der, issuer.name, \
                 route.name or interaction_id",
            );
            continue;
        };
        let says_more = matches!(
            parsed,
            Fact::CertificateSubject
                | Fact::CertificateOrganizationId
                | Fact::CertificateSerial
                | Fact::CertificateDer
        );
        if says_more {
            vouched.push((here, fact.clone()));
        }
        headers.push((header, parsed));
    }
    (headers, vouched)
}

fn parse_fact(text: &str) -> Option<Fact> {
    if let Some(claim) = text.strip_prefix("token.") {
        let named = !claim.is_empty() && !claim.chars().any(|c| c.is_control() || c == ' ');
        return named.then(|| Fact::Claim(claim.into()));
    }
    Some(match text {
        "certificate.x5t#S256" => Fact::CertificateThumbprint,
        "certificate.subject" => Fact::CertificateSubject,
        "certificate.organization_id" => Fact::CertificateOrganizationId,
        "certificate.serial" => Fact::CertificateSerial,
        "certificate.der" => Fact::CertificateDer,
        "issuer.name" => Fact::IssuerName,
        "route.name" => Fact::RouteName,
        "interaction_id" => Fact::InteractionId,
        _ => return None,
    })
}
