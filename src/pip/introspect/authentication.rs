//! How we authenticate ourselves to an introspection endpoint (RFC 7662 s2.1).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use form_urlencoded::Serializer;
use http::HeaderValue;

use crate::outbound::{self, PrivateKeyDer};
use crate::pdp::UnixTime;
use crate::pdp::policy::Algorithm;
use crate::telemetry::Secret;

/// How we authenticate ourselves to an authorization server.
#[derive(Debug, Clone)]
pub enum ClientAuthentication {
    /// `private_key_jwt` (RFC 7523 s2.2, OpenID Connect Core s9).
    PrivateKeyJwt(Arc<AssertionKey>),
    /// `tls_client_auth` or `self_signed_tls_client_auth` (RFC 8705 s2): the connection's own
    /// certificate, and `client_id` in the form.
    MutualTls,
    /// `client_secret_basic` (RFC 6749 s2.3.1).
    SecretBasic(Secret<Box<str>>),
}

/// The form that is sent, and the `Authorization` that goes with it, if any.
pub(super) struct Form {
    pub(super) body: String,
    pub(super) authorization: Option<HeaderValue>,
}

impl ClientAuthentication {
    /// The request about a token. An assertion is made for each: its `jti` may be used once.
    pub(super) fn form(
        &self,
        client_id: &str,
        issuer: &str,
        token: &str,
        now: UnixTime,
    ) -> Result<Form, String> {
        let mut form = Serializer::new(String::with_capacity(token.len() + 512));
        form.append_pair("token", token);
        form.append_pair("token_type_hint", "access_token");
        let mut authorization = None;
        match self {
            Self::PrivateKeyJwt(key) => {
                let assertion = key.assertion(client_id, issuer, now)?;
                form.append_pair("client_id", client_id);
                form.append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                );
                form.append_pair("client_assertion", &assertion);
            }
            Self::MutualTls => {
                form.append_pair("client_id", client_id);
            }
            Self::SecretBasic(secret) => authorization = Some(basic(client_id, secret.expose())?),
        }
        Ok(Form {
            body: form.finish(),
            authorization,
        })
    }
}

/// RFC 6749 s2.3.1: both are form-encoded before they are joined by a colon.
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, String> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(secret)));
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("Basic {joined}")))
        .map_err(|_invalid| "the secret cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// How long an assertion may be used: it is sent at once.
const ASSERTION_SECONDS: u64 = 60;

/// A key for client assertions.
pub struct AssertionKey {
    pair: Pair,
    key_id: Option<Box<str>>,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Ps256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionKey")
            .field("algorithm", &self.algorithm().name())
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl AssertionKey {
    /// The one private key of a PEM file, for this algorithm.
    ///
    /// # Errors
    /// What is wrong: as [`Self::new`]; no key, several, encrypted, broken PEM.
    pub fn from_pem(
        text: &[u8],
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<Self, String> {
        Self::new(&outbound::private_key(text)?, algorithm, key_id)
    }

    /// A private key (PKCS#8, PKCS#1 or SEC1) for this algorithm.
    ///
    /// # Errors
    /// What is wrong: a key of another kind, RSA below 2048 bits, RS256.
    pub fn new(
        key: &PrivateKeyDer<'_>,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<Self, String> {
        let der = key.secret_der();
        let unfit = |kind: &str| format!("is no {kind} key, as {} needs", algorithm.name());
        let pair = match algorithm {
            Algorithm::Es256 => Pair::Es256(
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                    .map_err(|_rejected| unfit("P-256"))?,
            ),
            Algorithm::Ps256 => {
                let pair = match key {
                    PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(der),
                    _ => RsaKeyPair::from_pkcs8(der),
                };
                let pair = pair.map_err(|_rejected| unfit("RSA"))?;
                if pair.public_modulus_len() < 2048 / 8 {
                    return Err("is an RSA key of less than 2048 bits".to_owned());
                }
                Pair::Ps256(pair)
            }
            Algorithm::EdDsa => Pair::EdDsa(
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
                    .map_err(|_rejected| unfit("Ed25519"))?,
            ),
            Algorithm::Rs256 => {
                return Err(
                    "cannot be used with RS256, which FAPI forbids: write ES256, PS256 or EdDSA"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            pair,
            key_id: key_id.map(Into::into),
        })
    }

    const fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Es256(_) => Algorithm::Es256,
            Pair::Ps256(_) => Algorithm::Ps256,
            Pair::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    /// A client assertion for this issuer alone: `aud` is its identifier, the one value that FAPI
    /// 2.0 s5.3.3.1 lets a server take.
    fn assertion(&self, client_id: &str, issuer: &str, now: UnixTime) -> Result<String, String> {
        let failed = |_unspecified| "the client assertion could not be made".to_owned();
        let mut id = [0_u8; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(failed)?;
        let mut header = serde_json::json!({"alg": self.algorithm().name()});
        if let (Some(members), Some(key_id)) = (header.as_object_mut(), &self.key_id) {
            members.insert("kid".to_owned(), key_id.as_ref().into());
        }
        let claims = serde_json::json!({
            "iss": client_id, "sub": client_id, "aud": issuer,
            "jti": URL_SAFE_NO_PAD.encode(id),
            "iat": now.as_secs(), "exp": now.as_secs().saturating_add(ASSERTION_SECONDS),
        });
        let encoded = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut text = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = self.sign(text.as_bytes()).map_err(failed)?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Es256(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Pair::Ps256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::EdDsa(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The public half, for tests and for whoever registers it: SEC1 point, RSA public key
    /// (PKCS#1) or the 32 bytes of Ed25519.
    #[cfg(test)]
    fn public(&self) -> &[u8] {
        use aws_lc_rs::signature::KeyPair as _;
        match &self.pair {
            Pair::Es256(pair) => pair.public_key().as_ref(),
            Pair::Ps256(pair) => pair.public_key().as_ref(),
            Pair::EdDsa(pair) => pair.public_key().as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn key(kind: &'static rcgen::SignatureAlgorithm) -> PrivateKeyDer<'static> {
        let pair = KeyPair::generate_for(kind).unwrap();
        PrivateKeyDer::try_from(pair.serialize_der()).unwrap()
    }

    fn fields(form: &Form) -> Vec<(String, String)> {
        form_urlencoded::parse(form.body.as_bytes())
            .into_owned()
            .collect()
    }

    fn field(form: &Form, name: &str) -> Option<String> {
        let mut all = fields(form).into_iter().filter(|(key, _)| key == name);
        let found = all.next().map(|(_, value)| value);
        assert!(all.next().is_none(), "{name} stands once");
        found
    }

    #[test]
    fn assertions_are_signed_for_this_issuer_and_once() {
        // INT-01
        let cases: [(_, _, &'static dyn VerificationAlgorithm); 3] = [
            (
                Algorithm::Es256,
                &PKCS_ECDSA_P256_SHA256,
                &ECDSA_P256_SHA256_FIXED,
            ),
            (
                Algorithm::Ps256,
                &PKCS_RSA_SHA256,
                &RSA_PSS_2048_8192_SHA256,
            ),
            (Algorithm::EdDsa, &PKCS_ED25519, &ED25519),
        ];
        for (algorithm, kind, verifier) in cases {
            let key = AssertionKey::new(&key(kind), algorithm, Some("pep-1")).unwrap();
            let key = Arc::new(key);
            let auth = ClientAuthentication::PrivateKeyJwt(Arc::clone(&key));
            let mut ids = Vec::new();
            for _ in 0..2 {
                let form = auth
                    .form("pep", "https://as.example", "t+/=&x", NOW)
                    .unwrap();
                assert!(form.authorization.is_none());
                assert_eq!(field(&form, "token").unwrap(), "t+/=&x");
                assert_eq!(field(&form, "client_id").unwrap(), "pep");
                let assertion = field(&form, "client_assertion").unwrap();
                let (message, signature) = assertion.rsplit_once('.').unwrap();
                let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
                UnparsedPublicKey::new(verifier, key.public())
                    .verify(message.as_bytes(), &signature)
                    .unwrap();
                let (header, claims) = message.split_once('.').unwrap();
                let json = |part: &str| -> serde_json::Value {
                    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
                };
                let (header, claims) = (json(header), json(claims));
                assert_eq!(header["alg"], algorithm.name());
                assert_eq!(header["kid"], "pep-1");
                assert_eq!(
                    (&claims["iss"], &claims["sub"]),
                    (&"pep".into(), &"pep".into())
                );
                assert_eq!(claims["aud"], "https://as.example");
                assert_eq!(
                    (&claims["iat"], &claims["exp"]),
                    (&1_000_000.into(), &1_000_060.into())
                );
                ids.push(claims["jti"].as_str().unwrap().to_owned());
            }
            assert_ne!(ids[0], ids[1]);
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let (p256, ed25519) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ED25519));
        for (key, algorithm) in [
            (&p256, Algorithm::Ps256),
            (&p256, Algorithm::EdDsa),
            (&ed25519, Algorithm::Es256),
            (&p256, Algorithm::Rs256),
        ] {
            let wrong = AssertionKey::new(key, algorithm, None).unwrap_err();
            assert!(
                wrong.starts_with("is no ") || wrong.contains("RS256"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_secret_is_encoded_before_it_is_joined_and_never_shown() {
        // RFC 6749 s2.3.1
        let auth = ClientAuthentication::SecretBasic(Secret::new("p:ä ss".into()));
        let form = auth.form("a:b", "https://as.example", "t", NOW).unwrap();
        let value = form.authorization.unwrap();
        assert!(value.is_sensitive());
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap(), b"a%3Ab:p%3A%C3%A4+ss");
        assert!(
            !form.body.contains("client_id"),
            "one way of authentication alone"
        );
        assert!(!format!("{auth:?}").contains("ss\""), "{auth:?}");
    }
}
