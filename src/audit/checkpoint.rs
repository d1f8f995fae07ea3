//! Signed lines: what ties the chain to a key that is not the one of its HMACs.
//!
//! A signed line's last members before `hmac` are `alg`, `key_id` and `signature`; the signature is
//! over all of the line before `,"signature"`, with a text of ours in front so that it can be taken
//! for nothing else. Among what is signed is `prev`, the HMAC of the line before, and with it all
//! that stands before.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// In front of what is signed.
const CONTEXT: &[u8] = b"portcullis audit v1 signed line\n";
/// Between what is signed and the signature.
const BEFORE: &[u8] = b",\"signature\":\"";

/// The key that signs.
pub struct SigningKey {
    pair: Pair,
    key_id: Box<str>,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key of a PEM file: PKCS#8 (RFC 5958), EC P-256 or Ed25519. Without a `key_id`, the key is
    /// named by a digest of its public half.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(text: &[u8], key_id: Option<&str>) -> Result<Self, String> {
        use aws_lc_rs::signature::KeyPair as _;
        let der = pem(text, "PRIVATE KEY")?;
        let pair =
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der) {
                Pair::Es256(pair)
            } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
                Pair::EdDsa(pair)
            } else {
                return Err("is neither an EC key on P-256 nor an Ed25519 key".to_owned());
            };
        let public = match &pair {
            Pair::Es256(pair) => pair.public_key().as_ref(),
            Pair::EdDsa(pair) => pair.public_key().as_ref(),
        };
        let own = || {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public);
            URL_SAFE_NO_PAD.encode(digest.as_ref().get(..9).unwrap_or_default())
        };
        let key_id = key_id.map_or_else(own, str::to_owned).into();
        Ok(Self { pair, key_id })
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }

    /// Adds algorithm, key id and signature to a body, which is an object without its closing brace.
    ///
    /// # Errors
    /// Where the signature cannot be made, for want of randomness.
    pub(super) fn sign(&self, body: &mut Vec<u8>) -> Result<(), String> {
        let key_id = serde_json::Value::from(&*self.key_id);
        let members = format!(",\"alg\":\"{}\",\"key_id\":{key_id}", self.algorithm());
        body.extend_from_slice(members.as_bytes());
        let message = [CONTEXT, body].concat();
        let signature = match &self.pair {
            Pair::Es256(pair) => pair
                .sign(&SystemRandom::new(), &message)
                .map_err(|_unspecified| "a signature could not be made")?
                .as_ref()
                .to_vec(),
            Pair::EdDsa(pair) => pair.sign(&message).as_ref().to_vec(),
        };
        body.extend_from_slice(BEFORE);
        body.extend_from_slice(URL_SAFE_NO_PAD.encode(signature).as_bytes());
        body.push(b'"');
        Ok(())
    }
}

/// The public half, for those who verify.
#[derive(Debug)]
pub struct PublicKey(ParsedPublicKey);

impl PublicKey {
    /// The key of a PEM file as `openssl pkey -pubout` writes it (RFC 5280 s4.1.2.7).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let der = pem(text, "PUBLIC KEY")?;
        let unfit = || "is neither an EC key on P-256 nor an Ed25519 key".to_owned();
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &der)
            .or_else(|_rejected| ParsedPublicKey::new(&ED25519, &der))
            .map(Self)
            .map_err(|_rejected| unfit())
    }

    /// Whether the signature in the body of a line is good. `body` is as [`super::chain::open`]
    /// gives it.
    #[must_use]
    pub fn verifies(&self, body: &[u8]) -> bool {
        self.check(body).is_some()
    }

    fn check(&self, body: &[u8]) -> Option<()> {
        let body = body.strip_suffix(b"\"")?;
        // From the end: what a stranger wrote stands in decisions only, but who knows.
        let at = body
            .windows(BEFORE.len())
            .rposition(|part| part == BEFORE)?;
        let (signed, rest) = body.split_at_checked(at)?;
        let signature = URL_SAFE_NO_PAD.decode(rest.strip_prefix(BEFORE)?).ok()?;
        let message = [CONTEXT, signed].concat();
        self.0.verify_sig(&message, &signature).ok()
    }
}

/// The one block of this label in a PEM file (RFC 7468).
fn pem(text: &[u8], label: &str) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(text).map_err(|_not_text| "is no PEM".to_owned())?;
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let block = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end));
    let Some((inside, rest)) = block else {
        return Err(format!("has no block {label} (RFC 7468)"));
    };
    if rest.contains(&begin) {
        return Err(format!("has more than one block {label}"));
    }
    let letters: String = inside.split_ascii_whitespace().collect();
    STANDARD
        .decode(letters)
        .map_err(|_rejected| format!("has a block {label} that is no base64"))
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    #[test]
    fn what_is_signed_verifies_and_nothing_else() {
        for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let key = SigningKey::from_pem(pair.serialize_pem().as_bytes(), Some("a\"b")).unwrap();
            let public = PublicKey::from_pem(pair.public_key_pem().as_bytes()).unwrap();
            let mut body = br#"{"seq":1"#.to_vec();
            key.sign(&mut body).unwrap();
            assert!(public.verifies(&body));
            let whole = [body.as_slice(), b"}"].concat();
            let read: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            assert_eq!(read["key_id"], "a\"b");
            for at in 0..body.len() {
                let mut other = body.clone();
                other[at] ^= 1;
                assert!(!public.verifies(&other), "byte {at}");
            }
            let other = KeyPair::generate_for(kind).unwrap();
            let other = PublicKey::from_pem(other.public_key_pem().as_bytes()).unwrap();
            assert!(!other.verifies(&body), "made anew with another key");
        }
    }

    #[test]
    fn other_keys_and_files_are_refused() {
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(SigningKey::from_pem(p384.serialize_pem().as_bytes(), None).is_err());
        assert!(PublicKey::from_pem(p384.public_key_pem().as_bytes()).is_err());
        let good = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let twice = format!("{0}\n{0}", good.serialize_pem());
        for (text, why) in [
            ("", "no block"),
            (
                "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
                "base64",
            ),
            (&*good.public_key_pem(), "no block"),
            (&*twice, "more than one"),
        ] {
            let wrong = SigningKey::from_pem(text.as_bytes(), None).unwrap_err();
            assert!(wrong.contains(why), "{wrong}");
        }
        assert!(
            !format!(
                "{:?}",
                SigningKey::from_pem(good.serialize_pem().as_bytes(), None)
            )
            .contains("PRIVATE")
        );
    }
}
