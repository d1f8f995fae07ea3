//! What rustls asks about a client certificate.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{self, CertificateDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::front::has_name;
use super::{ClientTrust, Profile, ProxyCertificate, provider};
use crate::pdp::UnixTime;

/// Certificates in a chain, the leaf included (MTLS-17).
const CHAIN_LENGTH: usize = 10;
/// Octets of one certificate (MTLS-17). Those of this field have one to four thousand.
const CERTIFICATE_BYTES: usize = 16 * 1024;

/// A chain beyond a bound of ours, or not of whom we asked for.
#[derive(Debug, thiserror::Error)]
enum Excess {
    #[error("the chain has {0} certificates, at most {CHAIN_LENGTH} are taken")]
    Chain(usize),
    #[error("a certificate has {0} octets, at most {CERTIFICATE_BYTES} are taken")]
    Certificate(usize),
    #[error("the certificate has none of the names under proxy_certificate.san")]
    Name,
}

/// Judges what clients present. That the client holds the key is proved by the signature on the
/// handshake, under every trust.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) trust: ClientTrust,
    /// Whether the handshake fails without a certificate. A bad one always fails it.
    pub(super) mandatory: bool,
    /// Subject alternative names of which the leaf must have one.
    names: Option<Vec<Box<str>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    pub(super) fn new(trust: ClientTrust, mandatory: bool) -> Self {
        let algorithms = provider(Profile::Fapi2).signature_verification_algorithms;
        Self {
            trust,
            mandatory,
            names: None,
            algorithms,
        }
    }

    /// Of a proxy in front: a certificate of these authorities, with one of these names.
    pub(super) fn of_proxy(rule: &ProxyCertificate) -> Self {
        let trust = ClientTrust::Ca(Arc::clone(&rule.authorities));
        Self {
            names: Some(rule.names.clone()),
            ..Self::new(trust, true)
        }
    }

    /// Judges a chain as of `now`, at the handshake and whenever it must be judged again.
    ///
    /// Under [`ClientTrust::Any`] only the bounds count: possession is all that this trust is
    /// about, and dates are judged at each request.
    pub(super) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let length = intermediates.len().saturating_add(1);
        if length > CHAIN_LENGTH {
            return Err(excess(Excess::Chain(length)));
        }
        for der in std::iter::once(leaf).chain(intermediates) {
            if der.len() > CERTIFICATE_BYTES {
                return Err(excess(Excess::Certificate(der.len())));
            }
        }
        match &self.trust {
            ClientTrust::Any => {}
            ClientTrust::Ca(authorities) => {
                authorities.judge(leaf, intermediates, now)?;
            }
        }
        match &self.names {
            Some(names) if !has_name(leaf, names) => Err(excess(Excess::Name)),
            Some(_) | None => Ok(()),
        }
    }
}

fn excess(excess: Excess) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(excess))))
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.trust {
            ClientTrust::Any => &[],
            ClientTrust::Ca(authorities) => authorities.hints(),
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: pki_types::UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(
            end_entity,
            intermediates,
            UnixTime::from_secs(now.as_secs()),
        )
        .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
