//! Signing keys and access tokens: a sound one by default, and each part of it can be changed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use serde_json::{Map, Value, json};

use super::base64url;

enum Secret {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// A signing key with its name.
pub(crate) struct SigningKey {
    /// `kid`
    pub(crate) kid: String,
    /// `alg`
    pub(crate) alg: &'static str,
    secret: Secret,
}

impl SigningKey {
    /// A new key for `ES256`, `PS256`, `RS256` or `EdDSA`.
    pub(crate) fn new(kid: &str, alg: &'static str) -> Self {
        let secret = match alg {
            "ES256" => {
                Secret::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "EdDSA" => Secret::Ed(Ed25519KeyPair::generate().unwrap()),
            "PS256" | "RS256" => Secret::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            other => panic!("no keys for {other} here"),
        };
        Self {
            kid: kid.to_owned(),
            alg,
            secret,
        }
    }

    /// The public key as a member of a key set (RFC 7517).
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.secret {
            Secret::Ec(key) => {
                // Uncompressed point: 0x04, x, y.
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..])})
            }
            Secret::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key().as_ref())})
            }
            Secret::Rsa(key) => {
                let (n, e) = rsa_numbers(key.public_key().as_ref());
                json!({"kty": "RSA", "n": base64url(&n), "e": base64url(&e)})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The RSA modulus, or the raw public key: what a confused verifier might take for a MAC key.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match &self.secret {
            Secret::Ec(key) => key.public_key().as_ref().to_vec(),
            Secret::Ed(key) => key.public_key().as_ref().to_vec(),
            Secret::Rsa(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// Signs as the key's own algorithm says.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_as(self.alg, message)
    }

    fn sign_as(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Secret::Ed(key) => key.sign(message).as_ref().to_vec(),
            Secret::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let padding: &dyn aws_lc_rs::signature::RsaEncoding = if alg == "RS256" {
                    &RSA_PKCS1_SHA256
                } else {
                    &RSA_PSS_SHA256
                };
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// Modulus and exponent out of `RSAPublicKey` (RFC 8017 A.1.1).
fn rsa_numbers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    yasna::parse_der(der, |reader| {
        reader.read_sequence(|reader| {
            let n = reader.next().read_bigint_bytes()?.0;
            let e = reader.next().read_bigint_bytes()?.0;
            Ok((n, e))
        })
    })
    .map(|(n, e)| (unpadded(n), unpadded(e)))
    .unwrap()
}

fn unpadded(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

/// A compact JWS of any header and payload text.
pub(crate) fn sign(key: &SigningKey, header: &str, payload: &str) -> String {
    let input = format!(
        "{}.{}",
        base64url(header.as_bytes()),
        base64url(payload.as_bytes())
    );
    let alg = serde_json::from_str::<Value>(header).ok();
    let alg = alg.as_ref().and_then(|header| header["alg"].as_str());
    let signature = key.sign_as(alg.unwrap_or(key.alg), input.as_bytes());
    format!("{input}.{}", base64url(&signature))
}

/// A compact JWS with HMAC-SHA256 over a secret of the caller's.
pub(crate) fn sign_hs256(secret: &[u8], header: &str, payload: &str) -> String {
    let input = format!(
        "{}.{}",
        base64url(header.as_bytes()),
        base64url(payload.as_bytes())
    );
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    format!("{input}.{}", base64url(tag.as_ref()))
}

/// An access token in the making (RFC 9068): sound until it is changed.
#[derive(Clone)]
pub(crate) struct Draft {
    /// The JOSE header, without `alg` and `kid`, which come from the key unless set here.
    pub(crate) header: Map<String, Value>,
    /// The claims.
    pub(crate) claims: Map<String, Value>,
}

impl Draft {
    /// A token of this issuer for this audience, good for five minutes, not bound to anybody.
    pub(crate) fn new(issuer: &str, audience: &str) -> Self {
        let now = super::now();
        let claims = json!({
            "iss": issuer,
            "aud": audience,
            "sub": "customer-7",
            "client_id": "tpp-1",
            "scope": "accounts payments",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": super::uuid(),
        });
        let header = json!({"typ": "at+jwt"});
        Self {
            header: header.as_object().unwrap().clone(),
            claims: claims.as_object().unwrap().clone(),
        }
    }

    /// Bound to a certificate (RFC 8705 s3.1).
    pub(crate) fn bound_to(self, thumbprint: &str) -> Self {
        self.claim("cnf", json!({"x5t#S256": thumbprint}))
    }

    /// With this claim.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without this claim.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// With this header parameter.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Without this header parameter.
    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Issued so many seconds from now (negative: ago), for as long as `Draft::new` says.
    pub(crate) fn issued(self, seconds: i64) -> Self {
        let at = super::now() + seconds;
        self.claim("iat", at)
            .claim("nbf", at)
            .claim("exp", at + 300)
    }

    /// Run out a minute ago.
    pub(crate) fn expired(self) -> Self {
        self.issued(-360)
    }

    /// The header's text, for this key.
    pub(crate) fn header_text(&self, key: &SigningKey) -> String {
        let mut header = self.header.clone();
        header.entry("alg").or_insert_with(|| json!(key.alg));
        header.entry("kid").or_insert_with(|| json!(key.kid));
        Value::Object(header).to_string()
    }

    /// The claims' text.
    pub(crate) fn claims_text(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    /// The token.
    pub(crate) fn sign(&self, key: &SigningKey) -> String {
        sign(key, &self.header_text(key), &self.claims_text())
    }
}

/// Thumbprint of a key (RFC 7638 s3): `jkt` of a token that is bound to it.
pub(crate) fn thumbprint(key: &SigningKey) -> String {
    let mut jwk = key.jwk();
    let members = jwk.as_object_mut().unwrap();
    members.retain(|name, _| matches!(name.as_str(), "crv" | "e" | "kty" | "n" | "x" | "y"));
    // Members are sorted by name, as the thumbprint wants them.
    sha256(jwk.to_string().as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    base64url(digest.as_ref())
}

/// A DPoP proof in the making (RFC 9449 s4.2): sound until it is changed.
#[derive(Clone)]
pub(crate) struct Proof {
    /// The JOSE header, its key included.
    pub(crate) header: Map<String, Value>,
    /// The claims.
    pub(crate) claims: Map<String, Value>,
}

impl Proof {
    /// A proof of this key for this request and token.
    pub(crate) fn new(key: &SigningKey, method: &str, url: &str, token: &str) -> Self {
        let mut jwk = key.jwk();
        let members = jwk.as_object_mut().unwrap();
        for name in ["kid", "alg", "use"] {
            members.remove(name);
        }
        let header = json!({"typ": "dpop+jwt", "alg": key.alg, "jwk": jwk});
        let claims = json!({
            "jti": super::uuid(),
            "htm": method,
            "htu": url,
            "iat": super::now(),
            "ath": sha256(token.as_bytes()),
        });
        Self {
            header: header.as_object().unwrap().clone(),
            claims: claims.as_object().unwrap().clone(),
        }
    }

    /// With this header parameter.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// With this claim.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without this header parameter or claim.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.header.remove(name);
        self.claims.remove(name);
        self
    }

    /// The proof.
    pub(crate) fn sign(&self, key: &SigningKey) -> String {
        let header = Value::Object(self.header.clone()).to_string();
        sign(
            key,
            &header,
            &Value::Object(self.claims.clone()).to_string(),
        )
    }
}
