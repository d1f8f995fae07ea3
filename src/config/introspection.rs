//! `[issuer.<name>.introspection]`: whether, how and as whom an issuer is asked about tokens.

use super::document::At;
use super::files::Files;
use super::problem::{Findings, ReportKind};
use super::raw;
use super::upstreams::{self, Contents};
use super::values::{self, count, duration, memory, ms, secs};
use crate::outbound::Tls;
use crate::pdp::UnixTime;
use crate::pdp::policy::{Algorithm, Introspection};
use crate::pip::introspect::{self, AssertionKey, BreakerRule, ClientAuthentication, Endpoint};
use crate::telemetry::Secret;

/// Introspection of one issuer, and what it is made of.
pub(super) struct Found {
    pub(super) rules: Introspection,
    /// Whether it is asked without a policy that says so.
    pub(super) used: bool,
    /// Whether it was named as the one that gets opaque tokens.
    pub(super) opaque: bool,
    /// Missing where a problem was found.
    pub(super) settings: Option<introspect::Settings>,
    /// Files and secrets, for the number of the issuer.
    pub(super) read: Contents,
}

/// Checks what is written; `tls` is the issuer's own.
pub(super) fn check(
    issuer: &raw::Issuer,
    raw: &raw::Introspection,
    at: &At,
    (files, tls): (&mut Files, Option<&Tls>),
    now: UnixTime,
    out: &mut Findings,
) -> Found {
    let mut read = Contents::new();
    let client_id = values::text(&at.key("client_id"), &raw.client_id, out);
    let endpoint = endpoint(issuer, raw, at, out);
    let authentication = authentication(issuer, raw, at, files, (now, &mut read), out);
    let rules = Introspection {
        always: raw.about == Some(raw::IntrospectionUse::Always),
        token_bytes: memory(
            at,
            "token_bytes",
            raw.token_bytes.as_deref(),
            64..=65_536,
            out,
        ),
    };
    let cache = at.key("cache");
    let mut time = |at: &At, key: &str, value: &Option<String>, range| {
        duration(at, key, value.as_deref(), range, out)
    };
    let active_for = time(&cache, "active", &raw.cache.active, secs(0)..=secs(600));
    let inactive_for = time(&cache, "inactive", &raw.cache.inactive, secs(0)..=secs(60));
    let timeout = time(at, "timeout", &raw.timeout, ms(100)..=secs(30));
    let breaker = at.key("breaker");
    let open_for = time(
        &breaker,
        "open_for",
        &raw.breaker.open_for,
        ms(100)..=secs(300),
    );
    let failures = count(&breaker, "failures", raw.breaker.failures, 1..=1000, out);
    if active_for > secs(60) {
        let text = "a revoked token passes for as long as its answer is remembered";
        cache.key("active").report(out, ReportKind::Weaker, text);
    }
    let settings = || {
        let (authentication, own_tls) = authentication?;
        Some(introspect::Settings {
            endpoint: endpoint?,
            client_id,
            authentication,
            tls: own_tls.or_else(|| tls.cloned())?,
            signed: raw.response == Some(raw::IntrospectionResponse::Jwt),
            active_for,
            inactive_for,
            timeout,
            breaker: BreakerRule { failures, open_for },
        })
    };
    Found {
        rules,
        used: raw.about != Some(raw::IntrospectionUse::Never),
        opaque: raw.opaque == Some(true),
        settings: settings(),
        read,
    }
}

fn endpoint(
    issuer: &raw::Issuer,
    raw: &raw::Introspection,
    at: &At,
    out: &mut Findings,
) -> Option<Endpoint> {
    match (&raw.endpoint, &issuer.discovery) {
        (Some(endpoint), _) => {
            values::https(&at.key("endpoint"), endpoint, out)?;
            Some(Endpoint::At(endpoint.as_str().into()))
        }
        // Its own check says what is wrong with it.
        (None, Some(discovery)) => Some(Endpoint::Discovery(discovery.as_str().into())),
        (None, None) => {
            at.refuse_key(
                out,
                "nothing says where this issuer is asked about tokens",
                "add endpoint here, or discovery to the issuer",
            );
            None
        }
    }
}

/// How we authenticate, and TLS of its own where that is how.
fn authentication(
    issuer: &raw::Issuer,
    raw: &raw::Introspection,
    at: &At,
    files: &mut Files,
    (now, read): (UnixTime, &mut Contents),
    out: &mut Findings,
) -> Option<(ClientAuthentication, Option<Tls>)> {
    use raw::ClientAuthMethod::{
        ClientSecretBasic, PrivateKeyJwt, SelfSignedTlsClientAuth, TlsClientAuth,
    };
    let at = at.key("client_auth");
    let auth = &raw.client_auth;
    let (needed, taken): (&[&str], &[&str]) = match auth.method {
        PrivateKeyJwt => (&["key", "algorithm"], &["key", "algorithm", "key_id"]),
        TlsClientAuth | SelfSignedTlsClientAuth => {
            (&["certificate", "key"], &["certificate", "key"])
        }
        ClientSecretBasic => (&["secret"], &["secret"]),
    };
    let mut whole = true;
    for key in ["key", "algorithm", "key_id", "certificate", "secret"] {
        let written = at.key(key).written();
        if written && !taken.contains(&key) {
            whole = false;
            at.key(key).refuse_key(
                out,
                "this has no effect with the method",
                format!("remove it: the method takes {}", taken.join(", ")),
            );
        }
        if !written && needed.contains(&key) {
            whole = false;
            at.refuse_key(out, format!("there is no {key}"), format!("add {key}"));
        }
    }
    if !whole {
        return None;
    }
    match auth.method {
        PrivateKeyJwt => {
            let algorithm = match auth.algorithm? {
                raw::Algorithm::Ps256 => Algorithm::Ps256,
                raw::Algorithm::Es256 => Algorithm::Es256,
                raw::Algorithm::EdDsa | raw::Algorithm::Ed25519 => Algorithm::EdDsa,
                raw::Algorithm::Rs256 => Algorithm::Rs256,
            };
            let here = at.key("key");
            let content = files.secret(&here, auth.key.as_deref()?, out)?;
            let key_id = auth
                .key_id
                .as_deref()
                .map(|id| values::text(&at.key("key_id"), id, out));
            let made = AssertionKey::from_pem(&content.bytes, algorithm, key_id.as_deref());
            read.push((content.name.clone(), content.bytes.to_vec()));
            match made {
                Ok(key) => Some((ClientAuthentication::PrivateKeyJwt(key.into()), None)),
                Err(wrong) => {
                    here.refuse(
                        out,
                        format!("{}: {wrong}", content.name),
                        "give a PEM file with the private key whose public half the server knows: P-256 for ES256, RSA for PS256, Ed25519 for EdDSA",
                    );
                    None
                }
            }
        }
        TlsClientAuth | SelfSignedTlsClientAuth => {
            let written = upstreams::Material {
                ca: issuer.ca.as_deref(),
                certificate: auth.certificate.as_deref(),
                private_key: auth.key.as_deref(),
                private_key_name: "key",
                server_name: None,
                http2: false,
            };
            let (tls, contents) = upstreams::client_tls(&written, &at, files, (now, false), out)?;
            read.extend(contents);
            Some((ClientAuthentication::MutualTls, Some(tls)))
        }
        ClientSecretBasic => {
            let text = "a shared secret authenticates us, which FAPI 2.0 s5.3.2.1 does not take: prefer private_key_jwt or tls_client_auth";
            at.key("method").report(out, ReportKind::Weaker, text);
            let secret = secret(auth.secret.as_ref()?, &at.key("secret"), files, out)?;
            read.push(("secret".to_owned(), secret.as_bytes().to_vec()));
            Some((
                ClientAuthentication::SecretBasic(Secret::new(secret.into())),
                None,
            ))
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the file names the variable, and nothing else is read"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A secret of a file or of the environment, without the line end that editors add.
pub(super) fn secret(
    raw: &raw::SecretRef,
    at: &At,
    files: &mut Files,
    out: &mut Findings,
) -> Option<String> {
    let right = "write { file = \"…\" } or { env = \"…\" }, with a text of printable ASCII";
    let found = match (&raw.file, &raw.env) {
        (Some(file), None) => {
            let content = files.secret(&at.key("file"), file, out)?;
            String::from_utf8(content.bytes.to_vec()).ok()
        }
        (None, Some(name)) => match environment(name) {
            Some(value) => Some(value),
            None => {
                at.key("env").refuse(
                    out,
                    format!("the environment has no variable {name:?} with a text"),
                    right,
                );
                return None;
            }
        },
        _ => {
            at.refuse(out, "a secret is in exactly one place", right);
            return None;
        }
    };
    let secret = found.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    let secret = secret
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    if secret.is_none() {
        at.refuse(out, "the secret is empty, or no printable ASCII", right);
    }
    secret
}
