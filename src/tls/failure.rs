//! Why a handshake failed, in the words of the table.

use std::io;

use rustls::{CertificateError, Error};

use crate::pdp::Standing;
use crate::refusal::CloseReason;

/// The reason and the detail of an error of the handshake.
pub(super) fn reason(error: &io::Error) -> (CloseReason, String) {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
    {
        Some(tls) => (of_tls(tls), detail(tls)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => (
            CloseReason::HandshakeFailed,
            "the client closed during the handshake".to_owned(),
        ),
        None => (CloseReason::HandshakeFailed, error.to_string()),
    }
}

/// The row of a TLS error.
pub(super) fn of_tls(error: &Error) -> CloseReason {
    match error {
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        // A CRL that does not fit the certificate's issuer says nothing about it.
        Error::InvalidCertRevocationList(_) => CloseReason::RevocationUnknown,
        Error::NoCertificatesPresented => CloseReason::ClientCertificateMissing,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            CloseReason::ProtocolUnsupported
        }
        _ => CloseReason::HandshakeFailed,
    }
}

fn of_certificate(error: &CertificateError) -> CloseReason {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => CloseReason::ClientCertificateExpired,
        CertificateError::Revoked => CloseReason::ClientCertificateRevoked,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => CloseReason::RevocationUnknown,
        _ => CloseReason::ClientCertificateUntrusted,
    }
}

/// The same of a proxy in front: its certificate is not judged by what the rows of clients speak of.
pub(super) const fn of_proxy(reason: CloseReason) -> CloseReason {
    match reason {
        CloseReason::ClientCertificateMissing
        | CloseReason::ClientCertificateUntrusted
        | CloseReason::ClientCertificateExpired
        | CloseReason::ClientCertificateRevoked
        | CloseReason::RevocationUnknown => CloseReason::ProxyCertificateUnfit,
        other => other,
    }
}

/// The standing of a certificate that did not verify.
pub(super) fn standing(error: &Error) -> Standing {
    match of_tls(error) {
        CloseReason::ClientCertificateExpired => Standing::Expired,
        CloseReason::ClientCertificateRevoked => Standing::Revoked,
        _ => Standing::Untrusted,
    }
}

/// rustls words some errors as a dump of DER; a line of the log has better use.
pub(super) fn detail(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate leads to none of the authorities".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.to_string(),
        Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => "the certificate is signed with an algorithm that is not supported".to_owned(),
        Error::AlertReceived(alert) => format!("the client sent the alert {alert:?}"),
        error => error.to_string(),
    }
}
