//! Our certificate and key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use x509_parser::parse_x509_certificate;

use super::{Profile, certificate, pem, provider, strength};
use crate::pdp::UnixTime;

/// A certificate chain with its key: they match, and both are strong enough (TLS-07).
pub struct Identity {
    certified: Arc<CertifiedKey>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Identity {
    /// Reads a chain (leaf first) and its key, PEM.
    ///
    /// # Errors
    /// What is wrong: no or several keys, key of another certificate, RSA below 2048 bits, EC
    /// below 224, a SHA-1 signature, a chain out of order, unreadable PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain = pem::certificates(chain).map_err(|error| format!("certificate {error}"))?;
        let key = pem::private_key(key).map_err(|error| format!("private_key {error}"))?;
        check_chain(&chain)?;
        let (not_before, not_after) = chain
            .first()
            .and_then(|leaf| certificate::dates(leaf))
            .ok_or("certificate cannot be read")?;
        let key = provider(Profile::Fapi2)
            .key_provider
            .load_private_key(key)
            .map_err(|error| format!("private_key cannot be used: {error}"))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                "private_key is not the key of certificate (the first one of its file)".to_owned()
            }
            error => format!("certificate and private_key cannot be compared: {error}"),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            not_before,
            not_after,
        })
    }

    /// Whether the leaf is good for this host name or address (RFC 9525).
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let Ok(name) = ServerName::try_from(bare) else {
            return false;
        };
        self.certified
            .end_entity_cert()
            .and_then(ParsedCertificate::try_from)
            .is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
    }

    /// Whether the key is RSA, as profile `fapi1` needs.
    #[must_use]
    pub fn is_rsa(&self) -> bool {
        self.certified.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// How long the leaf is still good at `now`; zero once it ran out.
    #[must_use]
    pub fn remaining(&self, now: UnixTime) -> Duration {
        self.not_after.since(now)
    }

    /// From when the leaf is good: `notBefore`.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The chain, leaf first, DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.certified.cert.iter().map(AsRef::as_ref)
    }

    /// Whether both show the same chain. The key is the leaf's, so it is the same too.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }

    /// What rustls needs.
    pub(crate) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.certified.cert.len())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Each certificate is strong enough and issued by the next.
fn check_chain(chain: &[CertificateDer<'static>]) -> Result<(), String> {
    let mut wanted_issuer: Option<Vec<u8>> = None;
    for (position, der) in (1..).zip(chain) {
        let Ok(([], certificate)) = parse_x509_certificate(der) else {
            return Err(format!(
                "certificate: number {position} of the file is no certificate"
            ));
        };
        strength::key(&certificate)
            .and_then(|()| strength::signature(&certificate))
            .map_err(|weak| format!("certificate: number {position} of the file {weak}"))?;
        if wanted_issuer.is_some_and(|wanted| wanted != certificate.subject().as_raw()) {
            return Err(format!(
                "certificate: number {position} of the file did not issue the one before it: \
                 the order is leaf, its issuer, and so on"
            ));
        }
        wanted_issuer = Some(certificate.issuer().as_raw().to_vec());
    }
    Ok(())
}
