//! A client that makes proofs, good and bad, without any code of ours.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};

enum Key {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

pub(super) struct Signer(Key);

impl Signer {
    pub(super) fn ec() -> Self {
        Self(Key::Ec(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        ))
    }

    pub(super) fn ed() -> Self {
        Self(Key::Ed(Ed25519KeyPair::generate().unwrap()))
    }

    pub(super) fn rsa() -> Self {
        Self(Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(super) fn jwk(&self) -> Value {
        match &self.0 {
            Key::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256",
                       "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])})
            }
            Key::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key())})
            }
            Key::Rsa(key) => {
                let parts: PublicKeyComponents<Vec<u8>> = key.public_key().into();
                json!({"kty": "RSA", "n": BASE64.encode(parts.n), "e": BASE64.encode(parts.e)})
            }
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match &self.0 {
            Key::Ec(_) => "ES256",
            Key::Ed(_) => "EdDSA",
            Key::Rsa(_) => "PS256",
        }
    }

    /// The JWS of texts, whatever they say; `alg` of RS256 signs so.
    pub(super) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.0 {
            Key::Ec(key) => key
                .sign(&random, signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Key::Ed(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
            Key::Rsa(key) => {
                let mut bytes = vec![0; key.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if header.contains("RS256") {
                        &RSA_PKCS1_SHA256
                    } else {
                        &RSA_PSS_SHA256
                    };
                key.sign(padding, &random, signed.as_bytes(), &mut bytes)
                    .unwrap();
                bytes
            }
        };
        format!("{signed}.{}", BASE64.encode(signature))
    }

    /// A good proof, but for these changes; `null` removes a member.
    pub(super) fn proof(&self, header: &Value, claims: &Value) -> String {
        let mut head = json!({"typ": "dpop+jwt", "alg": self.algorithm(), "jwk": self.jwk()});
        let mut body = json!({
            "jti": "e1j3V_bKic8-LAEB", "htm": "GET", "htu": "https://api.bank.example/accounts",
            "iat": super::NOW, "ath": super::ath(super::TOKEN),
        });
        change(&mut head, header);
        change(&mut body, claims);
        self.sign(&head.to_string(), &body.to_string())
    }
}

fn change(value: &mut Value, changes: &Value) {
    let members = value.as_object_mut().unwrap();
    for (name, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
}
