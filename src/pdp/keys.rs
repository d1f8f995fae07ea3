//! An unchanging picture of one issuer's keys.

mod jwk;

use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::Value;

use super::json;
use super::policy::Algorithm;
use super::token::KeyGeneration;

/// Bytes of a key set that are read at all (KEY-06).
pub const JWKS_BYTES: usize = 512 * 1024;
/// Members of `keys` that are looked at (KEY-06).
pub const JWKS_KEYS: usize = 100;
/// Characters of a `kid`, in a key set and in a token.
pub const KEY_ID_BYTES: usize = 256;

/// The keys of one issuer at one moment. Never pooled with another issuer's (TOK-23).
#[derive(Debug)]
pub struct KeySet {
    generation: KeyGeneration,
    keys: Vec<VerificationKey>,
}

/// A public key that may verify tokens: parsed, strong enough, with what the set says of it.
#[derive(Debug)]
pub struct VerificationKey {
    key_id: Option<Box<str>>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

/// What a look for a key found.
#[derive(Debug)]
pub enum Found<'a> {
    /// The one that fits.
    Key(&'a VerificationKey),
    /// None of that name, or without a name not exactly one that fits.
    Missing,
    /// One of that name, but for another algorithm.
    Mismatch,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517 s5). A member that cannot be used is left out with a warning and
    /// never spoils the others: one that is symmetric, holds private members, is not for
    /// signatures (KEY-08), is too weak (TOK-18) or is of a kind that `algorithms` has no use for.
    ///
    /// A key with `alg` serves that algorithm alone; an RSA key without serves those of RSA among
    /// `algorithms` (TOK-03). Keys of one `kid` are kept if their algorithms differ (TOK-05).
    ///
    /// # Errors
    /// What is wrong, where the text is no JWKS, is larger than [`JWKS_BYTES`] or [`JWKS_KEYS`],
    /// or no key in it can be used (KEY-07).
    pub fn parse(
        jwks: &[u8],
        generation: KeyGeneration,
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<String>), String> {
        if jwks.len() > JWKS_BYTES {
            return Err(format!("the key set is larger than {JWKS_BYTES} bytes"));
        }
        let mut set = json::object_of_objects(jwks)
            .map_err(|error| format!("the key set is no JWKS (RFC 7517 s5): {error}"))?;
        let Some(Value::Array(members)) = set.remove("keys") else {
            return Err("the key set has no array `keys` (RFC 7517 s5.1)".to_owned());
        };
        if members.len() > JWKS_KEYS {
            return Err(format!("the key set has more than {JWKS_KEYS} keys"));
        }
        let mut keys: Vec<VerificationKey> = Vec::new();
        let mut warnings = Vec::new();
        for (index, value) in members.into_iter().enumerate() {
            match jwk::read(value, algorithms) {
                Ok(usable) => {
                    for (algorithm, key) in usable.keys {
                        let key = VerificationKey {
                            key_id: usable.key_id.clone(),
                            algorithm,
                            key,
                        };
                        if keys.iter().any(|other| other.is_named_like(&key)) {
                            warnings.push(format!(
                                "keys[{index}] is left out: an earlier key has its kid and algorithm"
                            ));
                        } else {
                            keys.push(key);
                        }
                    }
                }
                Err(why) => warnings.push(format!("keys[{index}] is left out: {why}")),
            }
        }
        if keys.is_empty() {
            let mut text = "no key of the set can be used".to_owned();
            if let Some(first) = warnings.first() {
                text.push_str("; ");
                text.push_str(first);
            }
            return Err(text);
        }
        Ok((Self { generation, keys }, warnings))
    }

    /// The key for a token (TOK-05): by `kid` and algorithm; without `kid` only where exactly one
    /// key is for the algorithm.
    #[must_use]
    pub fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm)
            .filter(|key| key_id.is_none() || key.key_id.as_deref() == key_id);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(key),
            (None, _) if key_id.is_some() && self.key_ids().any(|id| Some(id) == key_id) => {
                Found::Mismatch
            }
            _ => Found::Missing,
        }
    }

    /// Which picture this is.
    #[must_use]
    pub const fn generation(&self) -> KeyGeneration {
        self.generation
    }

    /// Whether both hold the same keys for the same names and algorithms, in whatever order: then
    /// what was verified with one stands under the other, and the older number can be kept.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().all(|mine| {
                other.keys.iter().any(|theirs| {
                    mine.key_id == theirs.key_id
                        && mine.algorithm == theirs.algorithm
                        && mine.key.as_ref() == theirs.key.as_ref()
                })
            })
    }

    /// Names of the keys, for `/status`. A key that serves two algorithms is named twice.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.key_id.as_deref())
    }
}

impl VerificationKey {
    /// The key that a DPoP proof brings itself (RFC 9449 s4.2), by the rules for a member of a key
    /// set: it says nothing of whose it is, but a weak one could be anybody's (DPOP-07, DPOP-34).
    ///
    /// # Errors
    /// Why it cannot be used for this algorithm.
    pub(super) fn embedded(jwk: Value, algorithm: Algorithm) -> Result<Self, String> {
        const ANY: [Algorithm; 4] = [
            Algorithm::Es256,
            Algorithm::Ps256,
            Algorithm::EdDsa,
            Algorithm::Rs256,
        ];
        let usable = jwk::read(jwk, &ANY)?;
        let mut keys = usable.keys.into_iter();
        let fitting = keys.find(|(serves, _)| *serves == algorithm);
        let (_, key) = fitting
            .ok_or_else(|| format!("kty, crv or alg does not go with {}", algorithm.name()))?;
        Ok(Self {
            key_id: usable.key_id,
            algorithm,
            key,
        })
    }

    fn is_named_like(&self, other: &Self) -> bool {
        self.key_id.is_some() && self.key_id == other.key_id && self.algorithm == other.algorithm
    }

    /// Whether `signature` is this key's over `message`. ES256 takes the 64 bytes of R and S alone
    /// (RFC 7518 s3.4), PS256 a salt as long as the hash (RFC 7518 s3.5; TOK-19).
    #[must_use]
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self.algorithm {
            Algorithm::Es256 => match signature_value(signature) {
                Some(value) => self.key.verify_sig(message, &value),
                None => return false,
            },
            Algorithm::Ps256 | Algorithm::EdDsa | Algorithm::Rs256 => {
                self.key.verify_sig(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// `ECDSA-Sig-Value` (RFC 5480 appendix A) of R and S. The library takes the other form too and makes
/// this one of it, by way of big numbers in a dozen pieces of memory, which each proof would pay for.
fn signature_value(signature: &[u8]) -> Option<Vec<u8>> {
    /// Octets of R, and of S, on P-256 (RFC 7518 s3.4).
    const NUMBER: usize = 32;
    let (r, s) = signature.split_at_checked(NUMBER)?;
    (s.len() == NUMBER).then(|| {
        yasna::construct_der(|writer| {
            writer.write_sequence(|numbers| {
                numbers.next().write_bigint_bytes(r, true);
                numbers.next().write_bigint_bytes(s, true);
            });
        })
    })
}

#[cfg(test)]
mod tests;
