//! An unchanging picture of one issuer's keys.

use super::policy::Algorithm;
use super::token::KeyGeneration;

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
    /// never spoils the others.
    ///
    /// # Errors
    /// What is wrong, where the text is no JWKS or no key in it can be used (KEY-07).
    pub fn parse(
        jwks: &[u8],
        generation: KeyGeneration,
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<String>), String> {
        let _ = (jwks, algorithms);
        Ok((
            Self {
                generation,
                keys: Vec::new(),
            },
            Vec::new(),
        ))
    }

    /// The key for a token (TOK-05).
    #[must_use]
    pub fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let found = self
            .keys
            .iter()
            .find(|k| k.key_id.as_deref() == key_id && k.algorithm == algorithm);
        found.map_or(Found::Missing, Found::Key)
    }

    /// Which picture this is.
    #[must_use]
    pub const fn generation(&self) -> KeyGeneration {
        self.generation
    }

    /// The same keys under another number.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len()
    }

    /// Names of the keys, for `/status`.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.key_id.as_deref())
    }
}
