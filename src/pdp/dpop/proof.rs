//! The proof itself: a JWT that the client signs for one request (RFC 9449 s4).

mod claims;
mod header;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(super) use claims::Claims;
pub use claims::JTI_BYTES;
pub use header::ProofHeader;

use self::header::Begun;
use super::{KeyThumbprint, NonceKeys, Target, sha256};
use crate::pdp::jwt::{base64url, parts};
use crate::pdp::policy::Algorithm;
use crate::pdp::time::UnixTime;
use crate::pdp::token::TokenDigest;
use crate::refusal::{Reason, Refusal};

/// Bytes of a proof that are looked at. One with a 4096-bit RSA key and its signature has about two
/// thousand.
pub const PROOF_BYTES: usize = 8 * 1024;

/// A digest in base64url, as `ath` is written.
const ATH_BYTES: usize = 43;

/// How a route takes proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How long after `iat` a proof is taken; whole seconds.
    pub age: Duration,
    /// How far ahead of our clock the client's may be; whole seconds, and never above 60.
    pub ahead: Duration,
    /// What becomes of nonces.
    pub nonce: NonceRule,
    /// What holds while it cannot be known whether a proof was used before.
    pub replay_unavailable: ReplayRule,
    /// Algorithms that proofs may be signed with. RS256 is none, should it stand here
    /// (FAPI 2.0 Security Profile s5.4.1).
    pub algorithms: Vec<Algorithm>,
}

/// Whether a proof must carry a nonce that we gave out (RFC 9449 s9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceRule {
    /// One without is refused (RFC 9449 s11.3).
    Required,
    /// One without passes; one with must have a good one.
    Accepted,
    /// None is given out and none is looked at.
    Off,
}

/// What holds while the store of used proofs that replicas share is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReplayRule {
    /// No proof is taken.
    #[default]
    Refuse,
    /// What this process has seen decides: a proof may then pass once at each replica.
    Local,
}

/// What a request must be for a proof to be of it.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// What it was sent to.
    pub target: Target<'a>,
    /// Of the token that came with it: what `ath` must be.
    pub access_token: TokenDigest,
    /// What the route asks for.
    pub rules: &'a Rules,
}

impl fmt::Debug for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// The one value among those of the `DPoP` fields of a request; `None` where there is no field. Two
/// fields that somebody on the way made into one, with a comma between, are still two
/// (RFC 9110 s5.3; DPOP-01): a proof itself has no comma.
///
/// # Errors
/// `proof_repeated`.
pub fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, Refusal> {
    let first = values.next();
    if values.next().is_some() || first.is_some_and(|value| memchr::memchr(b',', value).is_some()) {
        return Err(Refusal::new(Reason::ProofRepeated));
    }
    Ok(first)
}

/// A proof, read: it has its form, header and claims have their types, and its key is a good public
/// one. Nothing is proven yet.
pub struct Proof {
    /// What is signed: header and payload with the dot between.
    signed: Box<[u8]>,
    signature: Vec<u8>,
    header: Arc<ProofHeader>,
    claims: Claims,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(not shown)")
    }
}

impl Proof {
    /// Reads the value of the one `DPoP` field: size, form, header, claims, key, in this order. No
    /// signature is computed.
    ///
    /// Members and claims that are not known are ignored (DPOP-30), but for `crit` and `b64`, which
    /// would change how the proof must be read (RFC 7515 s4.1.11, RFC 7797 s7).
    ///
    /// # Errors
    /// `proof_too_large`, `proof_malformed`, `proof_algorithm_forbidden`, `proof_key_invalid`.
    pub fn read(value: &[u8], algorithms: &[Algorithm]) -> Result<Self, Refusal> {
        Self::read_after(value, algorithms, None)
    }

    /// The same, where this header may be the one that the proof has: it is not read again then, and
    /// the outcome is the same.
    ///
    /// # Errors
    /// As [`Proof::read`].
    pub fn read_after(
        value: &[u8],
        algorithms: &[Algorithm],
        known: Option<&Arc<ProofHeader>>,
    ) -> Result<Self, Refusal> {
        if value.len() > PROOF_BYTES {
            return Err(Refusal::because(
                Reason::ProofTooLarge,
                format!("the proof has {} bytes of {PROOF_BYTES}", value.len()),
            ));
        }
        let (header, payload, signature) =
            parts(value).ok_or_else(|| malformed("the proof has not exactly three parts"))?;
        let signed = header.len().saturating_add(payload.len()).saturating_add(1);
        let signed = value.get(..signed).ok_or(Reason::Internal)?.into();
        let header = Begun::read(header, algorithms, known)?;
        let claims = Claims::read(&decoded("payload", payload)?)?;
        let signature = decoded("signature", signature)?;
        Ok(Self {
            signed,
            signature,
            header: header.whole()?,
            claims,
        })
    }

    /// Its header, worth keeping for the client's next proof.
    #[must_use]
    pub const fn header(&self) -> &Arc<ProofHeader> {
        &self.header
    }

    /// What is recorded of it.
    pub(super) fn recorded(&self) -> (&KeyThumbprint, &Claims) {
        (&self.header.thumbprint, &self.claims)
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.header.algorithm
    }

    /// Whether its claims are of this request and of now: `htm`, `htu`, `ath`, then `iat`, `nbf`
    /// and `exp`, then the nonce, so that a client is asked for another nonce only where nothing
    /// else is wrong. `iat` is judged beside a good nonce too.
    ///
    /// `nonces` are the keys of this gate; `None` where [`NonceRule::Off`] is the only rule.
    ///
    /// # Errors
    /// `proof_method_mismatch`, `proof_target_mismatch`, `proof_token_mismatch`, `proof_expired`,
    /// `proof_not_yet_valid`, `nonce_required`, `nonce_invalid`; `internal` where the rule needs
    /// keys that are not there.
    pub fn fits(
        &self,
        expected: &Expected<'_>,
        nonces: Option<&NonceKeys>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        // RFC 9110 s9.1: methods have case. The claim is not quoted: logs hold no part of a proof.
        if *self.claims.htm != *expected.method {
            return Err(Refusal::because(
                Reason::ProofMethodMismatch,
                format!("htm is not {}", expected.method),
            ));
        }
        expected
            .target
            .is_named_by(&self.claims.htu)
            .map_err(|why| Refusal::because(Reason::ProofTargetMismatch, why))?;
        let mut ath = [0; ATH_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(expected.access_token.0, &mut ath);
        let same = verify_slices_are_equal(&ath, self.claims.ath.as_bytes());
        if written != Ok(ATH_BYTES) || same.is_err() {
            return Err(Refusal::new(Reason::ProofTokenMismatch));
        }
        self.claims.timely(expected.rules, now)?;
        self.claims.nonce(expected.rules.nonce, nonces, now)
    }

    /// Checks the signature with the key that the proof brings (RFC 9449 s4.3).
    ///
    /// # Errors
    /// `proof_signature_invalid`.
    pub fn verify(&self) -> Result<Proven, Refusal> {
        if !self.header.key.verifies(&self.signed, &self.signature) {
            return Err(Refusal::new(Reason::ProofSignatureInvalid));
        }
        let jti = sha256(&[self.claims.jti.as_bytes()]);
        Ok(Proven {
            replay: ReplayKey(sha256(&[self.header.thumbprint.as_bytes(), &jti])),
            thumbprint: self.header.thumbprint,
            issued: self.claims.issued,
        })
    }
}

/// A proof whose signature was found good. Only [`Proof::verify`] makes it.
#[must_use]
#[derive(Debug)]
pub struct Proven {
    thumbprint: KeyThumbprint,
    replay: ReplayKey,
    issued: UnixTime,
}

impl Proven {
    /// Of the key that signed: `cnf.jkt` of the token must be the same (RFC 9449 s7.1).
    #[must_use]
    pub const fn thumbprint(&self) -> &KeyThumbprint {
        &self.thumbprint
    }

    /// What its single use is remembered under.
    #[must_use]
    pub const fn replay_key(&self) -> ReplayKey {
        self.replay
    }

    /// The last second in which it could be taken again, and until which its use is remembered.
    #[must_use]
    pub const fn until(&self, rules: &Rules) -> UnixTime {
        self.issued.later(rules.age)
    }
}

/// SHA-256 over the thumbprint of a proof's key and the digest of its `jti`: of one size however
/// long the `jti` (DPOP-23), and no client can use up another's (DPOP-24). Also of a client
/// assertion, over more, so that no proof has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplayKey([u8; 32]);

impl ReplayKey {
    /// What the single use of a client assertion is remembered under (RFC 7523 s3, `jti`): apart
    /// from all proofs, and no client can use up another's.
    pub(in crate::pdp) fn of_assertion(issuer: &str, client: &str, id: &str) -> Self {
        let [issuer, client, id] = [issuer, client, id].map(|part| sha256(&[part.as_bytes()]));
        Self(sha256(&[b"client_assertion", &issuer, &client, &id]))
    }

    /// The 32 bytes, for a store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn decoded(name: &str, part: &[u8]) -> Result<Vec<u8>, Refusal> {
    base64url(part).ok_or_else(|| malformed(format!("the {name} is not base64url")))
}

fn malformed(detail: impl Into<Box<str>>) -> Refusal {
    Refusal::because(Reason::ProofMalformed, detail)
}

#[cfg(test)]
mod tests;
