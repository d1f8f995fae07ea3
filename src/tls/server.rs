//! TLS of one listener, ready for connections.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::sign::SingleCertAndKey;
use rustls::{Error, ServerConfig};

use super::front::FrontTls;
use super::verifier::ClientVerifier;
use super::{ClientCertificate, ClientTrust, Profile, Settings, provider};
use crate::pdp::UnixTime;
use crate::pdp::client_cert::Form;

/// Sessions remembered for TLS 1.2 clients that cannot hold tickets.
const SESSIONS: usize = 1024;

/// TLS of one listener under one generation of its trust.
///
/// Resumption skips the verification of the client: rustls restores the certificate from the
/// ticket or the store, and enforces no policy. So the ticketer and the session store belong to
/// this value alone. Another listener, or the same one after any change, has others, and a
/// session that began elsewhere begins anew.
pub struct ServerTls {
    settings: Settings,
    generation: u64,
    config: Arc<ServerConfig>,
    /// `None` where clients are not asked for certificates.
    verifier: Option<Arc<ClientVerifier>>,
    /// For connections of the proxies in front.
    front: Option<FrontTls>,
}

impl ServerTls {
    /// Builds it. Gives back `previous`, with its sessions and generation, only if listener,
    /// `client_certificate`, trust, profile, resumption, `behind` and identity are all the same.
    ///
    /// # Errors
    /// What cannot be: profile `fapi1` without an RSA certificate, a failing random source.
    pub fn build(settings: &Settings, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, String> {
        if let Some(previous) = previous
            && same(settings, &previous.settings)
        {
            return Ok(Arc::clone(previous));
        }
        if settings.profile == Profile::Fapi1 && !settings.identity.is_rsa() {
            return Err(
                "profile fapi1 needs an RSA certificate: its two suites under TLS 1.2 \
                        are ECDHE_RSA (FAPI 1.0 Part 2 s8.5)"
                    .to_owned(),
            );
        }
        let verifier = match settings.client_certificate {
            ClientCertificate::None => None,
            ClientCertificate::Optional => Some(false),
            ClientCertificate::Required => Some(true),
        }
        .map(|mandatory| {
            Arc::new(ClientVerifier::new(
                settings.client_trust.clone(),
                mandatory,
            ))
        });
        let front = match &settings.behind {
            None => None,
            Some(behind) => {
                let verifier = behind.proxy_certificate.as_ref();
                let verifier = verifier.map(|rule| Arc::new(ClientVerifier::of_proxy(rule)));
                Some(FrontTls {
                    config: Arc::new(config(settings, verifier.as_ref())?),
                    verifier,
                })
            }
        };
        Ok(Arc::new(Self {
            generation: next_generation(),
            config: Arc::new(config(settings, verifier.as_ref())?),
            settings: settings.clone(),
            verifier,
            front,
        }))
    }

    /// Unique in the process; grows when trust, identity or profile changed.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The listener's name in the configuration.
    #[must_use]
    pub const fn listener(&self) -> &Arc<str> {
        &self.settings.listener
    }

    /// What it was built from.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What rustls needs.
    pub(super) const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether a connection must have a certificate.
    pub(super) fn demands_certificate(&self) -> bool {
        self.verifier
            .as_ref()
            .is_some_and(|verifier| verifier.mandatory)
    }

    /// Judges a chain by this trust as of `now`, as a handshake would.
    pub(super) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match &self.verifier {
            Some(verifier) => verifier.judge(leaf, intermediates, now),
            // Nobody is trusted here.
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    /// For connections from this address, if it is that of a proxy in front; and how that writes
    /// certificates down.
    pub(super) fn front(&self, transport: IpAddr) -> Option<(&FrontTls, Form)> {
        let behind = self.settings.behind.as_ref()?;
        let front = self.front.as_ref().filter(|_| behind.lists(transport))?;
        Some((front, behind.form))
    }

    /// Judges a connection of a proxy in front: by its address, and by its certificate where that is
    /// asked for.
    pub(super) fn judge_proxy(
        &self,
        transport: IpAddr,
        leaf: Option<&CertificateDer<'_>>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match (self.front(transport), leaf) {
            // No proxy of ours, or no longer.
            (None, _) => Err(rustls::CertificateError::UnknownIssuer.into()),
            (Some((FrontTls { verifier: None, .. }, _)), _) => Ok(()),
            (Some(_), None) => Err(Error::NoCertificatesPresented),
            (
                Some((
                    FrontTls {
                        verifier: Some(verifier),
                        ..
                    },
                    _,
                )),
                Some(leaf),
            ) => verifier.judge(leaf, intermediates, now),
        }
    }

    /// The first moment after `now` at which trust in proxies in front may judge otherwise.
    pub(super) fn next_proxy_boundary(&self, now: UnixTime) -> Option<UnixTime> {
        let rule = self.settings.behind.as_ref()?.proxy_certificate.as_ref()?;
        rule.authorities.next_boundary(now)
    }

    /// The mistake that this room exists to prevent: sessions of one trust under another.
    #[cfg(test)]
    pub(super) fn with_sessions_of(&self, other: &Self) -> Arc<Self> {
        let mut config = self.config.as_ref().clone();
        config.ticketer = Arc::clone(&other.config.ticketer);
        config.session_storage = Arc::clone(&other.config.session_storage);
        Arc::new(Self {
            settings: self.settings.clone(),
            generation: self.generation,
            config: Arc::new(config),
            verifier: self.verifier.clone(),
            front: None,
        })
    }

    /// The first moment after `now` at which this trust may judge otherwise.
    pub(super) fn next_boundary(&self, now: UnixTime) -> Option<UnixTime> {
        match &self.verifier.as_ref()?.trust {
            ClientTrust::Any => None,
            ClientTrust::Ca(authorities) => authorities.next_boundary(now),
        }
    }
}

impl fmt::Debug for ServerTls {
    /// Without the keys that rustls holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("listener", &self.settings.listener)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Number of a generation. It only tells one from another, like a `ThreadId`; a counter of each
/// listener would begin anew where a listener is taken out and put back, while connections of
/// the first are still open.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn same(a: &Settings, b: &Settings) -> bool {
    let trust = match (&a.client_trust, &b.client_trust) {
        (ClientTrust::Any, ClientTrust::Any) => true,
        (ClientTrust::Ca(a), ClientTrust::Ca(b)) => a.same_as(b),
        (ClientTrust::Any, ClientTrust::Ca(_)) | (ClientTrust::Ca(_), ClientTrust::Any) => false,
    };
    let behind = match (&a.behind, &b.behind) {
        (Some(a), Some(b)) => a.same_as(b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    trust
        && behind
        && a.listener == b.listener
        && a.profile == b.profile
        && a.client_certificate == b.client_certificate
        && a.resumption == b.resumption
        && a.identity.same_as(&b.identity)
}

fn config(
    settings: &Settings,
    verifier: Option<&Arc<ClientVerifier>>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider(settings.profile))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| format!("TLS 1.2 and 1.3 cannot be had: {error}"))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
        None => builder.with_no_client_auth(),
    };
    let certified = settings.identity.certified().as_ref().clone();
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // RFC 9325 s3.5. Renegotiation and compression rustls does not have at all (TLS-08).
    config.require_ems = true;
    // No early data: it can be replayed (TLS-09). The default, said here because it must stay.
    config.max_early_data_size = 0;
    if settings.resumption {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer =
            Ticketer::new().map_err(|error| format!("no key for session tickets: {error}"))?;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}
