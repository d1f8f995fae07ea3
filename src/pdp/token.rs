//! A token whose signature and unchanging claims were found good. Time, audience, binding and
//! rights are judged at each request ([`super::authorize`]): proofs about a token may be
//! remembered, decisions about a request may not.

use std::fmt;
use std::sync::Arc;

use super::dpop::KeyThumbprint;
use super::peer::Thumbprint;
use super::policy::IssuerId;
use super::time::UnixTime;

/// An access token as it came; clones share the text. `Debug` does not show it and there is no
/// `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    text: Arc<str>,
    digest: TokenDigest,
}

impl AccessToken {
    /// Takes the text of a token. It is hashed here, once: all that becomes of it needs that.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        let digest = TokenDigest(bytes);
        Self { text, digest }
    }

    /// The text, for parsing and for sending it on. Never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// SHA-256 over the whole token: what it is remembered under, and what `ath` of a proof is
    /// (RFC 9449 s4.2).
    #[must_use]
    pub const fn digest(&self) -> TokenDigest {
        self.digest
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(not shown)")
    }
}

/// SHA-256 over a whole token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(pub [u8; 32]);

/// `cnf` (RFC 7800 s3.1), as far as we can prove it.
#[derive(Debug, Clone, Default)]
pub struct Confirmation {
    /// `x5t#S256`: the sender's certificate (RFC 8705 s3.1). `Some(None)` is a member that is no
    /// thumbprint, which no certificate can match.
    pub certificate: Option<Option<Thumbprint>>,
    /// `jkt`: the sender's DPoP key (RFC 9449 s6.1). `Some(None)` is a member that is no
    /// thumbprint, which no key can match.
    pub key: Option<Option<KeyThumbprint>>,
    /// Whether any other member stands there.
    pub other: bool,
}

/// A token whose signature, type and claim types were found good.
///
/// There is no public constructor: `claims` makes it, of claims whose signature `jwt` has checked.
#[derive(Debug)]
pub struct VerifiedToken {
    pub(super) issuer: IssuerId,
    /// Of the whole token: an answer that brings another token's evidence is seen as such.
    pub(super) digest: TokenDigest,
    pub(super) key_generation: KeyGeneration,
    pub(super) client_id: Box<str>,
    pub(super) subject: Option<Box<str>>,
    pub(super) audience: Vec<Box<str>>,
    pub(super) expires: UnixTime,
    pub(super) issued: Option<UnixTime>,
    pub(super) not_before: Option<UnixTime>,
    pub(super) scopes: Vec<Box<str>>,
    pub(super) acr: Option<Box<str>>,
    pub(super) auth_time: Option<UnixTime>,
    /// `None`: the token has no `cnf` and is unbound.
    pub(super) confirmation: Option<Confirmation>,
    /// Every claim as it came, for policies and for the upstream.
    pub(super) claims: serde_json::Map<String, serde_json::Value>,
}

impl VerifiedToken {
    /// The issuer whose key signed it.
    #[must_use]
    pub const fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// What it is remembered under.
    #[must_use]
    pub const fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// The picture of the issuer's keys with which it was verified. What is remembered of the
    /// token is void once the issuer has another.
    #[must_use]
    pub const fn key_generation(&self) -> KeyGeneration {
        self.key_generation
    }

    /// `client_id`.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// `sub`: never the client in place of the user (TOK-22), for they are kept apart.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `exp`.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// Counts the pictures of one issuer's keys: another number, other keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGeneration(pub u64);

/// A verified token, shared between the cache and the requests under way.
pub type SharedToken = Arc<VerifiedToken>;
