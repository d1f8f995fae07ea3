//! Whether the sender of a token is the one that it was issued to (RFC 8705 s3, RFC 9449 s7).

use super::dpop::KeyThumbprint;
use super::peer::{Peer, Thumbprint};
use super::policy::Binding;
use super::sender::Shown;
use super::time::UnixTime;
use super::token::VerifiedToken;
use crate::refusal::{Reason, Refusal, Scheme};

/// Judges the binding of a token on this connection.
///
/// A token that names a confirmation must prove each that it names, whatever the policy asks for
/// and whatever scheme the client chose: a certificate or a proof that happens to be there never
/// stands in for what the token wants (MTLS-11, MTLS-13, DPOP-19), both are proven where both are
/// named, and a `cnf` in which nothing is known is a binding that failed (MTLS-12). What the policy
/// says decides which of the proven bindings is enough, and on tokens without `cnf`.
///
/// # Errors
/// `certificate_required`, `binding_mismatch`, `binding_missing`.
pub(super) fn prove(
    token: &VerifiedToken,
    peer: &Peer,
    policy: Binding,
    sender: Shown<'_>,
) -> Result<(), Refusal> {
    let Some(confirmation) = &token.confirmation else {
        return match sender.scheme {
            Scheme::Bearer if policy.none => Ok(()),
            Scheme::Bearer => Err(missing("the token has no cnf")),
            // RFC 9449 s7.1, DPOP-20.
            Scheme::Dpop => Err(missing("the token came as DPoP and has no cnf")),
        };
    };
    match (&confirmation.key, sender.scheme) {
        (Some(expected), Scheme::Dpop) => key(expected.as_ref(), sender.key)?,
        // RFC 9449 s7.2: with a proof or without, a bound token is no bearer token.
        (Some(_), Scheme::Bearer) => {
            return Err(mismatch(
                "the token is bound to a DPoP key and came as Bearer",
            ));
        }
        // DPOP-21.
        (None, Scheme::Dpop) => {
            return Err(missing("the token came as DPoP and cnf has no jkt"));
        }
        (None, Scheme::Bearer) => {}
    }
    if let Some(expected) = &confirmation.certificate {
        certificate(expected.as_ref(), peer)?;
    }
    let (by_key, by_certificate) = (
        confirmation.key.is_some(),
        confirmation.certificate.is_some(),
    );
    if !by_key && !by_certificate {
        return Err(missing("cnf has neither x5t#S256 nor jkt"));
    }
    if (policy.mtls && by_certificate) || (policy.dpop && by_key) || policy.none {
        Ok(())
    } else if by_certificate {
        Err(missing("the policy takes no certificate-bound token"))
    } else {
        Err(missing("the policy takes no token bound to a DPoP key"))
    }
}

/// RFC 9449 s4.3, last check; s6.
fn key(expected: Option<&KeyThumbprint>, proven: Option<&KeyThumbprint>) -> Result<(), Refusal> {
    let Some(expected) = expected else {
        return Err(mismatch("jkt of cnf is no SHA-256 in base64url"));
    };
    match proven {
        Some(proven) if proven.matches(expected) => Ok(()),
        Some(proven) => Err(Refusal::because(
            Reason::BindingMismatch,
            format!(
                "the token is bound to key {}, the proof is of key {}",
                expected.to_base64url(),
                proven.to_base64url()
            ),
        )),
        None => Err(mismatch("no key is proven")),
    }
}

/// RFC 8705 s3.
fn certificate(expected: Option<&Thumbprint>, peer: &Peer) -> Result<(), Refusal> {
    let Some(expected) = expected else {
        return Err(mismatch("x5t#S256 of cnf is no SHA-256 in base64url"));
    };
    let Some(certificate) = &peer.certificate else {
        return Err(Refusal::new(Reason::CertificateRequired));
    };
    if certificate.thumbprint.matches(expected) {
        return Ok(());
    }
    Err(Refusal::because(
        Reason::BindingMismatch,
        format!(
            "the token is bound to {}, the connection's certificate is {}",
            expected.to_base64url(),
            certificate.thumbprint_text
        ),
    ))
}

fn missing(why: &str) -> Refusal {
    Refusal::because(Reason::BindingMissing, why)
}

fn mismatch(why: &str) -> Refusal {
    Refusal::because(Reason::BindingMismatch, why)
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
