//! Before an authorization server: what a registered client may push, ask and redeem there. The
//! server counts what reaches it and keeps every byte.

mod good;
mod registry;
mod wrong;

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::lab::client::{Answer, Request};
use crate::lab::jose::{Draft, SigningKey};
use crate::lab::{self};
use crate::support::stage::Playing;
use crate::support::{Config, Stage};

pub(crate) const ISSUER: &str = "https://as.bank.test";
const CALLBACK: &str = "https://tpp.test/cb";
const URN: &str = "urn:ietf:params:oauth:request_uri:";
const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FORM: &str = "application/x-www-form-urlencoded";
/// SHA-256 of a verifier (RFC 7636 appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Keys of the client.
struct Keys {
    es: SigningKey,
    ps: SigningKey,
    rs: SigningKey,
    stranger: SigningKey,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        es: SigningKey::new("es", "ES256"),
        ps: SigningKey::new("ps", "PS256"),
        rs: SigningKey::new("rs", "RS256"),
        stranger: SigningKey::new("es", "ES256"),
    })
}

/// The entry of `tpp`, with these changes.
fn entry(changes: &Value) -> Value {
    let mut rs = keys().rs.jwk();
    rs.as_object_mut().unwrap().remove("alg");
    let mut entry = json!({
        "client_id": "tpp", "status": "active", "organisation": "TPP Ltd",
        "redirect_uris": [CALLBACK, "https://tpp.test/other"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [keys().es.jwk(), keys().ps.jwk(), rs]},
    });
    for (name, value) in changes.as_object().unwrap() {
        entry[name] = value.clone();
    }
    entry
}

fn clients(stage: &Stage) -> Value {
    json!({"clients": [
        entry(&json!({})),
        entry(&json!({"client_id": "gone", "status": "suspended"})),
        entry(&json!({"client_id": "elsewhere", "issuer": "https://other.test"})),
        {
            "client_id": "tls", "status": "active", "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "tls_client_auth",
            "jwks": {"keys": [keys().es.jwk()]},
            "certificate": {"x5t#S256": stage.a.thumbprint},
        },
    ]})
}

/// The three endpoints of one server under a folder.
pub(crate) fn routes(config: Config, server: &str) -> Config {
    let endpoint = |config: Config, name: &str, methods: &str, more: &str| {
        let lines = format!(
            "kind = \"authorization\"\nmethods = {methods}\nauthorization = {{ server = {server:?}, endpoint = {name:?}{more} }}"
        );
        config.route(
            &format!("{server}-{name}"),
            &format!("/{server}/{name}"),
            &lines,
        )
    };
    let config = endpoint(config, "par", "[\"POST\"]", ", form_bytes = \"16KiB\"");
    let config = endpoint(config, "authorize", "[\"GET\", \"POST\"]", "");
    endpoint(config, "token", "[\"POST\"]", "")
}

/// Tables of the servers, with a registry of this source.
pub(crate) fn servers(config: &mut Config, registry: &str) {
    config.more.push_str(&format!(
        "\n[registry]\n{registry}\n\n[authorization_server.main]\nissuer = {ISSUER:?}\n\n\
         [authorization_server.old]\nissuer = {ISSUER:?}\nprofile = \"fapi1-advanced\"\n"
    ));
}

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, mut config| {
            std::fs::write(stage.path("clients.json"), clients(stage).to_string()).unwrap();
            servers(&mut config, "source = { file = \"clients.json\" }");
            let config = routes(routes(config, "main"), "old");
            config.route(
                "sealed-par",
                "/sealed/par",
                "kind = \"authorization\"\nmethods = [\"POST\"]\nauthorization = { server = \"main\", endpoint = \"par\", encrypted = true }",
            )
        })
    })
}

/// A sound request object in the making.
fn object() -> Draft {
    let now = lab::now();
    let claims = json!({
        "iss": "tpp", "client_id": "tpp", "aud": ISSUER,
        "iat": now, "nbf": now, "exp": now + 300, "jti": lab::uuid(),
        "response_type": "code", "redirect_uri": CALLBACK, "scope": "accounts", "state": "s t",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    });
    Draft {
        header: json!({"typ": "oauth-authz-req+jwt"})
            .as_object()
            .unwrap()
            .clone(),
        claims: claims.as_object().unwrap().clone(),
    }
}

/// A sound client assertion in the making.
fn assertion() -> Draft {
    let now = lab::now();
    let claims = json!({
        "iss": "tpp", "sub": "tpp", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": lab::uuid(),
    });
    Draft {
        header: json!({}).as_object().unwrap().clone(),
        claims: claims.as_object().unwrap().clone(),
    }
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        })
        .collect()
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A form to an endpoint.
fn post(path: &str, pairs: &[(&str, &str)]) -> Request {
    Request::post(path, form(pairs)).field("Content-Type", FORM)
}

/// A push of this request object, with a sound assertion and these further parameters.
fn push(object: &str, more: &[(&str, &str)]) -> Request {
    let assertion = assertion().sign(&keys().ps);
    let mut pairs = vec![
        ("request", object),
        ("client_assertion_type", KIND),
        ("client_assertion", &assertion),
    ];
    pairs.extend(more);
    post("/main/par", &pairs)
}

/// A code redeemed with this assertion.
fn redeem(assertion: &str) -> Request {
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", "c o/d+e"),
        ("client_assertion_type", KIND),
        ("client_assertion", assertion),
    ];
    post("/main/token", &pairs)
}

fn get(path: &str, pairs: &[(&str, &str)]) -> Request {
    Request::get(&format!("{path}?{}", form(pairs)))
}

/// Calls without a certificate, as most clients and every browser do.
fn call(request: &Request) -> Answer {
    playing().anonymous().call(request).unwrap()
}
