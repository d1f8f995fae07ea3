//! Whether the sender of a token is the one that it was issued to (RFC 8705 s3).

use super::peer::Peer;
use super::policy::Binding;
use super::time::UnixTime;
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal};

/// Judges the binding of a token on this connection.
///
/// A token that names a confirmation must prove each that it names, whatever the policy asks for:
/// a certificate that happens to be there never stands in for a proof that the token wants
/// (MTLS-11, MTLS-13), and a `cnf` in which nothing is known is a binding that failed (MTLS-12).
/// What the policy says decides on tokens without `cnf` alone.
///
/// # Errors
/// `certificate_required`, `binding_mismatch`, `binding_missing`.
pub(super) fn prove(token: &VerifiedToken, peer: &Peer, policy: Binding) -> Result<(), Refusal> {
    let Some(confirmation) = &token.confirmation else {
        return if policy.none {
            Ok(())
        } else {
            Err(Refusal::because(
                Reason::BindingMissing,
                "the token has no cnf",
            ))
        };
    };
    if confirmation.key {
        return Err(Refusal::because(
            Reason::BindingMismatch,
            "cnf names a DPoP key (jkt), which nothing here can prove",
        ));
    }
    let Some(expected) = &confirmation.certificate else {
        return Err(Refusal::because(
            Reason::BindingMissing,
            "cnf has no x5t#S256",
        ));
    };
    let Some(expected) = expected else {
        return Err(Refusal::because(
            Reason::BindingMismatch,
            "x5t#S256 of cnf is no SHA-256 in base64url",
        ));
    };
    let Some(certificate) = &peer.certificate else {
        return Err(Refusal::new(Reason::CertificateRequired));
    };
    if !certificate.thumbprint.matches(expected) {
        return Err(Refusal::because(
            Reason::BindingMismatch,
            format!(
                "the token is bound to {}, the connection's certificate is {}",
                expected.to_base64url(),
                certificate.thumbprint_text
            ),
        ));
    }
    if policy.mtls || policy.none {
        Ok(())
    } else {
        Err(Refusal::because(
            Reason::BindingMissing,
            "the policy takes no certificate-bound token",
        ))
    }
}

/// Trust does not outlive its evidence: a certificate must be inside its dates at each request,
/// not at the handshake alone. `notAfter` is the last good second (RFC 5280 s4.1.2.5).
///
/// # Errors
/// `certificate_expired`.
pub(super) fn dates(peer: &Peer, now: UnixTime) -> Result<(), Refusal> {
    match &peer.certificate {
        Some(certificate) if now > certificate.not_after || now < certificate.not_before => {
            Err(Refusal::because(
                Reason::CertificateExpired,
                format!(
                    "the certificate is good from {} to {}",
                    certificate.not_before, certificate.not_after
                ),
            ))
        }
        Some(_) | None => Ok(()),
    }
}
