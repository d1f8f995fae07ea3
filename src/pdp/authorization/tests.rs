//! The walk of such a request through the machine, changed in one thing at a time.

mod assertion;
mod object;
mod registry;
mod walk;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use super::client::Clients;
use super::*;
use crate::pdp::head::tests::head;
use crate::pdp::policy::{
    Access, ForwardRules, MethodSet, Route, RouteLimits, Snapshot, UpstreamName,
};
use crate::pdp::step::{Answer, Ask, Step, Trail};
use crate::pdp::{Inbound, Peer, PeerCertificate, Routed, Standing, Thumbprint, UnixTime};
use crate::refusal::{Reason, Refusal};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://as.bank.example";
const CALLBACK: &str = "https://tpp.example/cb";
const URN: &str = "urn:ietf:params:oauth:request_uri:";
/// SHA-256 of a verifier.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    stranger: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
});

struct Keys {
    ec: EcdsaKeyPair,
    stranger: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

/// A JWS of these, signed by the key of its `kid`, whatever `alg` says.
fn signed(header: &Value, claims: &Value) -> String {
    let parts = [header, claims].map(|part| BASE64.encode(part.to_string()));
    let message = parts.join(".");
    let random = SystemRandom::new();
    let ec = |key: &EcdsaKeyPair| {
        key.sign(&random, message.as_bytes())
            .unwrap()
            .as_ref()
            .to_vec()
    };
    let rsa = |padding: &'static dyn RsaEncoding| {
        let mut bytes = vec![0; KEYS.rsa.public_modulus_len()];
        KEYS.rsa
            .sign(padding, &random, message.as_bytes(), &mut bytes)
            .unwrap();
        bytes
    };
    let signature = match (header["kid"].as_str(), header["alg"].as_str()) {
        (_, Some("none")) => Vec::new(),
        (Some("rsa"), Some("RS256")) => rsa(&RSA_PKCS1_SHA256),
        (Some("rsa"), _) => rsa(&RSA_PSS_SHA256),
        (Some("stranger"), _) => ec(&KEYS.stranger),
        _ => ec(&KEYS.ec),
    };
    format!("{message}.{}", BASE64.encode(signature))
}

fn jwks() -> Value {
    let point = KEYS.ec.public_key().as_ref();
    let rsa: PublicKeyComponents<Vec<u8>> = KEYS.rsa.public_key().into();
    json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "ec",
         "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])},
        {"kty": "RSA", "kid": "rsa", "n": BASE64.encode(rsa.n), "e": BASE64.encode(rsa.e)},
    ]})
}

/// The entry of the registry, with these changes; `null` takes a member away.
fn entry(changes: &Value) -> Value {
    with(
        json!({
            "client_id": "tpp", "status": "active", "redirect_uris": [CALLBACK], "jwks": jwks(),
            "token_endpoint_auth_method": "private_key_jwt",
        }),
        changes,
    )
}

fn with(mut of: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        let members = of.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    of
}

fn server(profile: Profile) -> Server {
    Server {
        name: "main".into(),
        issuer: ISSUER.into(),
        audience: vec![ISSUER.into()],
        assertion_audience: vec![ISSUER.into()],
        profile,
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        max_object_age: Duration::from_secs(1800),
        max_object_lifetime: Duration::from_secs(3600),
        max_assertion_lifetime: Duration::from_secs(3600),
        clock_skew: Duration::from_secs(10),
        request_uri_prefix: URN.into(),
    }
}

/// Claims of a good request object.
fn claims() -> Value {
    json!({
        "iss": "tpp", "client_id": "tpp", "aud": ISSUER, "nbf": NOW - 5, "iat": NOW - 5, "exp": NOW + 300,
        "response_type": "code", "redirect_uri": CALLBACK, "scope": "accounts", "state": "s t",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256", "max_age": 60,
    })
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "ec", "typ": "oauth-authz-req+jwt"})
}

fn object(header_changes: &Value, changes: &Value) -> String {
    signed(&with(header(), header_changes), &with(claims(), changes))
}

fn assertion(header_changes: &Value, changes: &Value) -> String {
    let claims = json!({
        "iss": "tpp", "sub": "tpp", "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "jti": "one",
    });
    signed(
        &with(json!({"alg": "PS256", "kid": "rsa"}), header_changes),
        &with(claims, changes),
    )
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a client sends.
struct Sent {
    endpoint: Endpoint,
    profile: Profile,
    method: &'static str,
    query: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    certificate: Option<[u8; 32]>,
    entry: Value,
    encrypted: bool,
    vouched: bool,
    used: bool,
}

impl Sent {
    /// A good push, but for these parameters.
    fn par(pairs: &[(&str, &str)]) -> Self {
        Self {
            endpoint: Endpoint::Par,
            profile: Profile::Fapi2,
            method: "POST",
            query: String::new(),
            headers: vec![("content-type", "application/x-www-form-urlencoded")],
            body: form(pairs),
            certificate: None,
            entry: entry(&json!({})),
            encrypted: false,
            vouched: true,
            used: false,
        }
    }

    /// A good push with this request object.
    fn object(object: &str) -> Self {
        Self::par(&[
            ("client_id", "tpp"),
            ("request", object),
            ("client_assertion_type", KIND),
            ("client_assertion", &assertion(&json!({}), &json!({}))),
        ])
    }

    fn token(pairs: &[(&str, &str)]) -> Self {
        let mut all = vec![("grant_type", "authorization_code"), ("code", "c")];
        all.extend(pairs);
        Self {
            endpoint: Endpoint::Token,
            ..Self::par(&all)
        }
    }

    /// A good token request with this assertion.
    fn assertion(assertion: &str) -> Self {
        Self::token(&[
            ("client_assertion_type", KIND),
            ("client_assertion", assertion),
        ])
    }

    fn authorize(profile: Profile, pairs: &[(&str, &str)]) -> Self {
        Self {
            endpoint: Endpoint::Authorize,
            profile,
            method: "GET",
            query: form(pairs),
            headers: Vec::new(),
            body: String::new(),
            ..Self::par(&[])
        }
    }

    /// The end of its walk: why not, or what was asked on the way.
    fn walk(&self) -> Result<Vec<&'static str>, Refusal> {
        let registry = json!({ "clients": [self.entry] }).to_string();
        let (clients, _) = Clients::parse(registry.as_bytes(), &|_| Ok(())).unwrap();
        let now = UnixTime::from_secs(NOW);
        let mut trail = Trail::default();
        let mut step = begin(self.routed(), &self.guard()).map(Step::from)?;
        let mut asked = Vec::new();
        loop {
            let pending = match step {
                Step::Done(authorized) => {
                    assert_eq!(authorized.into_parts().body, self.body, "JAR-17");
                    return Ok(asked);
                }
                Step::Ask(pending) => pending,
            };
            let (name, answer) = match pending.ask() {
                Ask::Body { limit } => {
                    assert_eq!(*limit == 0, self.method == "GET");
                    ("body", Answer::Body(Bytes::from(self.body.clone())))
                }
                Ask::Client { server, client_id } => {
                    let found = clients.find(&server.issuer, client_id);
                    ("client", Answer::Client(found.cloned()))
                }
                Ask::ClientKeys { wanted, .. } => {
                    assert!(!wanted.is_empty());
                    let keys = jwks().to_string();
                    let keys = crate::pdp::KeySet::parse(
                        keys.as_bytes(),
                        crate::pdp::token::KeyGeneration(0),
                        &[Algorithm::Es256, Algorithm::Ps256],
                    );
                    ("keys", Answer::Keys(Arc::new(keys.unwrap().0)))
                }
                Ask::FirstUse { until, .. } => {
                    assert!(*until >= now, "remembered as long as it could come again");
                    ("first use", Answer::FirstUse(!self.used))
                }
                Ask::Recall(_) | Ask::Keys { .. } | Ask::Remember(..) | Ask::Introspect { .. } => {
                    panic!("nothing here is about a token")
                }
            };
            asked.push(name);
            step = pending.resume(answer, now, &mut trail)?;
        }
    }

    fn reason(&self) -> Option<Reason> {
        self.walk().err().map(|refusal| refusal.reason())
    }

    fn guard(&self) -> Arc<Guard> {
        Arc::new(Guard {
            server: Arc::new(server(self.profile)),
            endpoint: self.endpoint,
            form_bytes: 64 * 1024,
            vouched: self.vouched,
            encrypted: self.encrypted,
        })
    }

    fn routed(&self) -> Routed<String> {
        let mut headers = vec![("host", "as.bank.example")];
        headers.extend(&self.headers);
        let target = if self.query.is_empty() {
            "/as".to_owned()
        } else {
            format!("/as?{}", self.query)
        };
        let route = Route {
            index: 0,
            name: "as".into(),
            methods: MethodSet::Any,
            access: Access::Authorization(self.guard()),
            upstream: UpstreamName("as".into()),
            path_allow: crate::pdp::Ambiguities::default(),
            case_insensitive: false,
            websocket: false,
            rewrite: None,
            limits: RouteLimits::default(),
            forward: Arc::new(ForwardRules {
                authorization: false,
                host: None,
                strip: Vec::new(),
                headers: Vec::new(),
            }),
            shadow: None,
            observe_until: None,
        };
        Routed {
            inbound: Box::new(Inbound {
                head: head(self.method, &target, &headers).unwrap(),
                peer: Arc::new(peer(self.certificate)),
                standing: self.certificate.map(|_| Standing::Trusted),
                body: self.body.clone(),
            }),
            snapshot: Arc::new(Snapshot::default()),
            route: Arc::new(route),
            token_bytes: 100,
        }
    }
}

fn peer(thumbprint: Option<[u8; 32]>) -> Peer {
    let certificate = thumbprint.map(|bytes| PeerCertificate {
        thumbprint: Thumbprint::from_bytes(bytes),
        thumbprint_text: Thumbprint::from_bytes(bytes).to_base64url().into(),
        der: Box::default(),
        not_before: UnixTime::from_secs(0),
        not_after: UnixTime::from_secs(NOW * 2),
        subject: "CN=tpp".into(),
        issuer: "CN=ca".into(),
        serial: "1".into(),
        organization_id: Some("PSDGB-FCA-1".into()),
        psd2_roles: Vec::new(),
        psd2_authority: None,
    });
    Peer {
        remote: "192.0.2.1:1".parse().unwrap(),
        local: "192.0.2.2:443".parse().unwrap(),
        listener: "bank".into(),
        certificate,
    }
}
