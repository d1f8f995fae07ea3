//! The header of a proof: how it is signed, and with which key (RFC 9449 s4.2).
//!
//! A client writes the same header over each of its proofs, so that one that was read is worth
//! keeping: what it says depends on its bytes alone.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{decoded, malformed};
use crate::pdp::dpop::KeyThumbprint;
use crate::pdp::json;
use crate::pdp::jwt::base64url;
use crate::pdp::keys::VerificationKey;
use crate::pdp::policy::Algorithm;
use crate::refusal::{Reason, Refusal};

/// Bytes of an RSA modulus: 4096 bits, so that nobody can choose how long we compute (DPOP-34).
const MODULUS_BYTES: usize = 512;

/// A header that was read: its form is right, and its key is a good public one for its algorithm.
/// It says nothing of whose the key is.
pub struct ProofHeader {
    /// As it stood in the proof, in base64url.
    text: Box<[u8]>,
    pub(super) algorithm: Algorithm,
    pub(super) key: VerificationKey,
    pub(super) thumbprint: KeyThumbprint,
}

impl fmt::Debug for ProofHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofHeader")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A header whose algorithm may be used, its key not looked at yet unless it was before.
pub(super) enum Begun<'a> {
    Known(Arc<ProofHeader>),
    New {
        text: &'a [u8],
        members: Map<String, Value>,
        algorithm: Algorithm,
    },
}

impl<'a> Begun<'a> {
    /// Reads `typ` and `alg`, and sees that there is nothing that would change how the rest is read;
    /// of one that is `known` by its very bytes, that another policy has no other algorithms.
    pub(super) fn read(
        text: &'a [u8],
        algorithms: &[Algorithm],
        known: Option<&Arc<ProofHeader>>,
    ) -> Result<Self, Refusal> {
        if let Some(known) = known.filter(|known| *known.text == *text) {
            permitted(Some(known.algorithm), algorithms)?;
            return Ok(Self::Known(Arc::clone(known)));
        }
        let members = json::object(&decoded("header", text)?)
            .map_err(|why| malformed(format!("the header is {why}")))?;
        let algorithm = algorithm_of(&members, algorithms)?;
        Ok(Self::New {
            text,
            members,
            algorithm,
        })
    }

    /// Reads the key.
    pub(super) fn whole(self) -> Result<Arc<ProofHeader>, Refusal> {
        let (text, mut members, algorithm) = match self {
            Self::Known(known) => return Ok(known),
            Self::New {
                text,
                members,
                algorithm,
            } => (text, members, algorithm),
        };
        let jwk = members
            .remove("jwk")
            .ok_or_else(|| malformed("the header has no jwk"))?;
        let (key, thumbprint) = key_of(jwk, algorithm)
            .map_err(|why| Refusal::because(Reason::ProofKeyInvalid, format!("jwk: {why}")))?;
        Ok(Arc::new(ProofHeader {
            text: text.into(),
            algorithm,
            key,
            thumbprint,
        }))
    }
}

fn algorithm_of(
    header: &Map<String, Value>,
    algorithms: &[Algorithm],
) -> Result<Algorithm, Refusal> {
    match header.get("typ") {
        Some(Value::String(kind)) if kind == "dpop+jwt" => {}
        Some(_) => return Err(malformed("typ is not dpop+jwt")),
        None => return Err(malformed("the header has no typ")),
    }
    if let Some(name) = ["crit", "b64"]
        .into_iter()
        .find(|name| header.contains_key(*name))
    {
        return Err(malformed(format!("the header has {name}")));
    }
    match header.get("alg") {
        Some(Value::String(name)) => permitted(Algorithm::named(name), algorithms),
        Some(_) => Err(malformed("alg is not a string")),
        None => Err(malformed("the header has no alg")),
    }
}

/// An algorithm that proofs may be signed with. RS256 is none, should it stand among them
/// (FAPI 2.0 Security Profile s5.4.1).
fn permitted(algorithm: Option<Algorithm>, algorithms: &[Algorithm]) -> Result<Algorithm, Refusal> {
    algorithm
        .filter(|one| *one != Algorithm::Rs256 && algorithms.contains(one))
        .ok_or_else(|| {
            Refusal::because(
                Reason::ProofAlgorithmForbidden,
                "alg is not among those for proofs",
            )
        })
}

/// The key of a proof, by the rules for keys of an issuer, and its thumbprint.
fn key_of(jwk: Value, algorithm: Algorithm) -> Result<(VerificationKey, KeyThumbprint), String> {
    let Value::Object(members) = &jwk else {
        return Err("not an object (RFC 7517 s4)".to_owned());
    };
    let modulus = members.get("n").and_then(Value::as_str).and_then(base64url);
    if modulus.is_some_and(|n| n.iter().skip_while(|byte| **byte == 0).count() > MODULUS_BYTES) {
        return Err("n has more than 4096 bits".to_owned());
    }
    let thumbprint = KeyThumbprint::of(members);
    let key = VerificationKey::embedded(jwk, algorithm)?;
    let thumbprint = thumbprint.ok_or("a member that kty requires is not base64url")?;
    Ok((key, thumbprint))
}
