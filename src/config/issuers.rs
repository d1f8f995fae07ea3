//! `[issuer.<name>]`: whose tokens are taken, and where their keys are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::At;
use super::files::{Files, digest};
use super::interner::Interner;
use super::introspection;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::values::{self, YEAR, duration, hours, ms, secs};
use crate::outbound::Tls;
use crate::pdp::policy::Algorithm;
use crate::pdp::token::KeyGeneration;
use crate::pdp::{Issuer, IssuerId, KeySet, UnixTime};
use crate::pip::{self, KeySource};

/// An issuer, as far as policies must know it; the settings are missing where a problem was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: IssuerId,
    pub(super) at: At,
    pub(super) rs256: bool,
    pub(super) max_lifetime: std::time::Duration,
    pub(super) introspection: Option<Introspects>,
    pub(super) settings: Option<pip::Settings>,
}

/// What policies must know of an issuer's introspection.
#[derive(Debug)]
pub(super) struct Introspects {
    /// Whether it is asked without a policy that says so.
    pub(super) used: bool,
    /// Whether it was named as the one that gets opaque tokens.
    pub(super) opaque: bool,
    /// Whether it is asked about JWTs too.
    pub(super) always: bool,
}

/// Checks every issuer, and them beside each other.
pub(super) fn check(
    file: &raw::File,
    at: &At,
    files: &mut Files,
    (now, previous): (UnixTime, &Interner),
    out: &mut Findings,
) -> (BTreeMap<String, Found>, Interner) {
    let at = at.key("issuer");
    let mut interner = previous.successor();
    let mut found = BTreeMap::new();
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, raw) in &file.issuer {
        let here = at.key(name);
        values::name(&here, name, out);
        if let Some(other) = taken.insert(&raw.issuer, name) {
            here.key("issuer").refuse(
                out,
                format!("issuer {other} has the same value"),
                "write it as one issuer: its tokens could not be told apart",
            );
        }
        let issuer = one(name, raw, &here, files, (now, previous, &mut interner), out);
        found.insert(name.clone(), issuer);
    }
    (found, interner)
}

fn one(
    name: &str,
    raw: &raw::Issuer,
    at: &At,
    files: &mut Files,
    (now, previous, interner): (UnixTime, &Interner, &mut Interner),
    out: &mut Findings,
) -> Found {
    identifier(raw, at, out);
    let algorithms = algorithms(raw, at, out);
    let material = material(raw, at, files, now, out);
    let source = source(raw, at, files, &algorithms, out);
    let introspection = raw.introspection.as_ref().map(|written| {
        let here = at.key("introspection");
        introspection::check(
            raw,
            written,
            &here,
            (files, material.tls.as_ref()),
            now,
            out,
        )
    });
    // Whatever the settings are made of, in one text: as written, and what is in the files.
    let mut whole = format!("{name}\n{raw:?}\n");
    let read = introspection.iter().flat_map(|found| &found.read);
    for (name, bytes) in material.read.iter().chain(read) {
        whole.push_str(&format!("{name} {:?}\n", digest(bytes)));
    }
    if let Some(KeySource::File(_, bytes)) = &source {
        whole.push_str(&format!("{:?}\n", digest(bytes)));
    }
    let id = previous.number(digest(whole.as_bytes()), interner);
    let mut issuer = issuer(name, raw, at, (id, algorithms), out);
    issuer.introspection = introspection.as_ref().map(|found| found.rules);
    let introspects = introspection.as_ref().map(|found| Introspects {
        used: found.used,
        opaque: found.opaque,
        always: found.rules.always,
    });
    let max_lifetime = issuer.max_lifetime;
    let rs256 = issuer.algorithms.contains(&Algorithm::Rs256);
    let settings = settings(raw, at, files, (issuer, material.tls, source), out);
    // Introspection that has a problem takes the issuer with it: nothing loads.
    let settings = settings.and_then(|settings| match introspection {
        None => Some(settings),
        Some(found) => Some(pip::Settings {
            introspection: Some(found.settings?),
            ..settings
        }),
    });
    Found {
        introspection: introspects,
        id,
        at: at.clone(),
        rs256,
        max_lifetime,
        settings,
    }
}

/// `issuer`: a URL of scheme https without query and fragment (RFC 8414 s2).
fn identifier(raw: &raw::Issuer, at: &At, out: &mut Findings) {
    let here = at.key("issuer");
    if let Some(address) = values::https(&here, &raw.issuer, out)
        && address.query
    {
        let right = "write it exactly as it stands in `iss` of its tokens (RFC 8414 s2)";
        here.refuse(out, "an issuer has no query", right);
    }
}

fn algorithms(raw: &raw::Issuer, at: &At, out: &mut Findings) -> Vec<Algorithm> {
    let here = at.key("algorithms");
    let mut algorithms = Vec::new();
    for written in raw.algorithms.iter().flatten() {
        let algorithm = match written {
            raw::Algorithm::Ps256 => Algorithm::Ps256,
            raw::Algorithm::Es256 => Algorithm::Es256,
            raw::Algorithm::EdDsa | raw::Algorithm::Ed25519 => Algorithm::EdDsa,
            raw::Algorithm::Rs256 => Algorithm::Rs256,
        };
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    if algorithms.is_empty() {
        here.refuse(
            out,
            "this list is empty",
            "leave the key out, or name an algorithm",
        );
    }
    if algorithms.contains(&Algorithm::Rs256) {
        let text = "RS256 is taken, which FAPI 1.0 Advanced and FAPI 2.0 forbid";
        here.report(out, ReportKind::Weaker, text);
    }
    algorithms
}

/// The issuer as decisions know it.
fn issuer(
    name: &str,
    raw: &raw::Issuer,
    at: &At,
    (id, algorithms): (IssuerId, Vec<Algorithm>),
    out: &mut Findings,
) -> Issuer {
    let mut time =
        |key: &str, value: &Option<String>, range| duration(at, key, value.as_deref(), range, out);
    let clock_skew = time("clock_skew", &raw.clock_skew, secs(10)..=secs(60));
    let exp_leeway = time("exp_leeway", &raw.exp_leeway, secs(0)..=secs(60));
    let max_lifetime = time("max_lifetime", &raw.max_lifetime, secs(1)..=YEAR);
    if !exp_leeway.is_zero() {
        let text = "tokens are taken for a while after they expired";
        at.key("exp_leeway").report(out, ReportKind::Weaker, text);
    }
    let claims = at.key("claims");
    let mut claim = |key: &str, names: &Option<Vec<String>>| {
        let here = claims.key(key);
        let names = values::list(&here, names.as_deref().unwrap_or_default(), out);
        if names.iter().any(|name| **name != *key) {
            let text = format!(
                "{key} is read from other claims too: see that the issuer alone fills them"
            );
            here.report(out, ReportKind::Weaker, text);
        }
        names
    };
    let client_id_claims = claim("client_id", &raw.claims.client_id);
    let scope_claims = claim("scope", &raw.claims.scope);
    Issuer {
        id,
        name: name.into(),
        issuer: raw.issuer.as_str().into(),
        audience: values::list(&at.key("audience"), &raw.audience, out),
        algorithms,
        token_types: token_types(raw, at, out),
        clock_skew,
        exp_leeway,
        max_lifetime,
        client_id_claims,
        scope_claims,
        introspection: None,
    }
}

/// `token_types` in the form in which `typ` is compared: RFC 7515 s4.1.9.
fn token_types(raw: &raw::Issuer, at: &At, out: &mut Findings) -> Vec<Box<str>> {
    let here = at.key("token_types");
    let written = values::list(&here, raw.token_types.as_deref().unwrap_or_default(), out);
    let full = |written: &str| {
        let lower = written.to_ascii_lowercase();
        if lower.contains('/') {
            lower
        } else {
            format!("application/{lower}")
        }
    };
    let types: Vec<Box<str>> = written.iter().map(|one| full(one).into()).collect();
    if types.iter().any(|one| **one != *"application/at+jwt") {
        let text = "JWTs of other types than at+jwt are taken for access tokens (RFC 9068 s4): an ID token must not be one of them";
        here.report(out, ReportKind::Weaker, text);
    }
    types
}

/// TLS towards the issuer, and the files that it is made of.
struct Material {
    tls: Option<Tls>,
    read: super::upstreams::Contents,
}

fn material(
    raw: &raw::Issuer,
    at: &At,
    files: &mut Files,
    now: UnixTime,
    out: &mut Findings,
) -> Material {
    let written = super::upstreams::Material {
        ca: raw.ca.as_deref(),
        certificate: raw.certificate.as_deref(),
        private_key: raw.private_key.as_deref(),
        private_key_name: "private_key",
        server_name: None,
        http2: false,
    };
    // Keys in a file need no connection, so not even the platform's authorities must exist.
    let offline = raw.jwks_file.is_some() && raw.introspection.is_none();
    super::upstreams::client_tls(&written, at, files, (now, offline), out).map_or_else(
        || Material {
            tls: None,
            read: Vec::new(),
        },
        |(tls, read)| Material {
            tls: Some(tls),
            read,
        },
    )
}

/// Where the keys are: exactly one of three keys says so.
fn source(
    raw: &raw::Issuer,
    at: &At,
    files: &mut Files,
    algorithms: &[Algorithm],
    out: &mut Findings,
) -> Option<KeySource> {
    let given = [
        ("discovery", &raw.discovery),
        ("jwks_uri", &raw.jwks_uri),
        ("jwks_file", &raw.jwks_file),
    ];
    let mut given = given
        .iter()
        .filter_map(|(key, value)| value.as_deref().map(|value| (*key, value)));
    let Some((key, value)) = given.next() else {
        at.refuse_key(
            out,
            "nothing says where the keys of this issuer are",
            "add discovery, jwks_uri or jwks_file",
        );
        return None;
    };
    if let Some((other, _)) = given.next() {
        at.key(other).refuse_key(
            out,
            format!("there is {key} too"),
            "keep one of discovery, jwks_uri and jwks_file",
        );
        return None;
    }
    let here = at.key(key);
    if key != "jwks_file" {
        values::https(&here, value, out)?;
        return Some(match key {
            "discovery" => KeySource::Discovery(value.into()),
            _ => KeySource::Uri(value.into()),
        });
    }
    for key in ["ca", "certificate", "private_key", "proxy", "hosts"] {
        if at.key(key).written() && raw.introspection.is_none() {
            let wrong = "this has no effect with jwks_file";
            at.key(key).refuse_key(out, wrong, "remove it");
        }
    }
    let content = files.named(&here, value, out)?;
    match KeySet::parse(&content.bytes, KeyGeneration(0), algorithms) {
        Ok((_, warnings)) => {
            for warning in warnings {
                here.report(
                    out,
                    ReportKind::Material,
                    format!("{}: {warning}", content.name),
                );
            }
            Some(KeySource::File(content.path, content.bytes))
        }
        Err(wrong) => {
            here.refuse(
                out,
                format!("{}: {wrong}", content.name),
                "give a JSON Web Key Set (RFC 7517 s5) with a public key for one of algorithms",
            );
            None
        }
    }
}

fn settings(
    raw: &raw::Issuer,
    at: &At,
    files: &Files,
    (issuer, tls, source): (Issuer, Option<Tls>, Option<KeySource>),
    out: &mut Findings,
) -> Option<pip::Settings> {
    if let Some(proxy) = &raw.proxy {
        let here = at.key("proxy");
        if let Some(address) = values::address(&here, proxy, out)
            && (address.https || &*address.path != "/" || address.query)
        {
            let right = "write it like \"http://egress.bank.internal:3128\"";
            here.refuse(out, "this is no address of an HTTP proxy", right);
        }
    }
    let hosts = match &raw.hosts {
        None => Vec::new(),
        Some(hosts) => values::list(&at.key("hosts"), hosts, out),
    };
    for (index, host) in hosts.iter().enumerate() {
        if !host_name(host) {
            let right = "write a host name alone, such as \"mtls.as.bank.example\"";
            at.key("hosts")
                .item(index)
                .refuse(out, format!("{host:?} is no host name"), right);
        }
    }
    let jwks = at.key("jwks");
    let mut time = |key: &str, value: &Option<String>, range| {
        duration(&jwks, key, value.as_deref(), range, out)
    };
    let timeout = time("timeout", &raw.jwks.timeout, ms(100)..=secs(60));
    let refresh_cooldown = time(
        "refresh_cooldown",
        &raw.jwks.refresh_cooldown,
        secs(1)..=secs(300),
    );
    let refresh_every = time(
        "refresh_every",
        &raw.jwks.refresh_every,
        secs(10)..=hours(24),
    );
    let keep = time(
        "keep_last_good_for",
        &raw.jwks.keep_last_good_for,
        secs(0)..=hours(24 * 30),
    );
    if refresh_every < refresh_cooldown {
        let right = "let refresh_every be the longer one";
        jwks.key("refresh_every")
            .refuse(out, "this is shorter than refresh_cooldown", right);
    }
    if !keep.is_zero() && keep < refresh_every {
        let right = "let keep_last_good_for be the longer one, or keys run out between two fetches";
        jwks.key("keep_last_good_for")
            .refuse(out, "this is shorter than refresh_every", right);
    }
    let snapshot = raw.jwks.snapshot.as_deref().map(|path| {
        let path = values::text(&jwks.key("snapshot"), path, out);
        files.resolve(&path)
    });
    Some(pip::Settings {
        issuer: Arc::new(issuer),
        source: source?,
        tls: tls?,
        proxy: raw.proxy.as_deref().map(Into::into),
        hosts: hosts
            .iter()
            .map(|host| host.to_ascii_lowercase().into())
            .collect(),
        timeout,
        refresh_cooldown,
        refresh_every,
        keep_last_good_for: keep,
        snapshot,
        required: raw.required != Some(false),
        introspection: None,
    })
}

/// A host without scheme, port or path.
pub(super) fn host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}
