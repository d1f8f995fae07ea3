//! DPoP proofs (RFC 9449): what a request must bring beside a token that is bound to a key.
//!
//! A proof walks [`single`] → [`Proof::read`] → [`Proof::fits`] → [`Proof::verify`] → [`Proven`],
//! cheapest check first (DPOP-35): its form, then whether its claims are of this request, then the
//! signature. Whether its key is the token's ([`Proven::thumbprint`]) and whether it was used
//! before ([`Proven::replay_key`]) is judged by those who hold the token and the store; the store
//! is asked last, so that a proof that fails can never use up another's `jti` (DPOP-40).

mod nonce;
mod proof;
mod recorded;
mod target;
mod thumbprint;

pub use nonce::NonceKeys;
pub use proof::{
    Expected, JTI_BYTES, NonceRule, PROOF_BYTES, Proof, ProofHeader, Proven, ReplayKey, ReplayRule,
    Rules, single,
};
pub(in crate::pdp) use recorded::Unfit;
pub use recorded::{NonceFact, ProofFacts};
pub use target::{Origins, Target, TargetUri};
pub use thumbprint::KeyThumbprint;

/// SHA-256 over parts, one after the other.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        digest.update(part);
    }
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(digest.finish().as_ref()) {
        *to = *from;
    }
    bytes
}
