//! A proxy in front that ends TLS and passes on the certificate of its client.
//!
//! Whether a connection is such a proxy's is known before its first request, by its address and its
//! own certificate, and is asked again whenever trust changed. Which client a request is of is in
//! its headers: each request is read by itself, and nothing of it is left for the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::certificate;
use super::current::{ConnectionTrust, Current};
use super::server::ServerTls;
use super::trust::Authorities;
use super::verifier::ClientVerifier;
use crate::pdp::client_cert::{self, Form};
use crate::pdp::{Peer, Standing, UnixTime};
use crate::refusal::{Reason, Refusal};

/// Certificates of clients that are remembered for a proxy's connection, so that the next request of
/// one costs a comparison. A proxy has many clients; those of one connection take turns.
const REMEMBERED: usize = 8;
/// Octets of headers above which they are read anew each time.
const REMEMBERED_BYTES: usize = 32 * 1024;

/// `behind` of a listener: which proxies speak for their clients, and how.
#[derive(Debug, Clone)]
pub struct Behind {
    /// Addresses of TCP peers that are such proxies.
    pub proxies: Vec<IpNet>,
    /// What a proxy must prove beside its address; `None` where the address is enough.
    pub proxy_certificate: Option<ProxyCertificate>,
    /// How the client's certificate is written down.
    pub form: Form,
}

/// The certificate that a proxy presents for itself.
#[derive(Debug, Clone)]
pub struct ProxyCertificate {
    /// Who issues it; clients' authorities have no say here.
    pub authorities: Arc<Authorities>,
    /// Subject alternative names of which it must have one.
    pub names: Vec<Box<str>>,
}

impl Behind {
    /// Whether a TCP peer's address is that of a proxy. An IPv4 address is the same on a socket for
    /// both.
    #[must_use]
    pub fn lists(&self, transport: IpAddr) -> bool {
        let transport = transport.to_canonical();
        self.proxies
            .iter()
            .any(|network| network.contains(&transport))
    }

    /// Whether both judge every connection alike.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let certificates = match (&self.proxy_certificate, &other.proxy_certificate) {
            (Some(a), Some(b)) => a.authorities.same_as(&b.authorities) && a.names == b.names,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        certificates && self.proxies == other.proxies && self.form == other.form
    }
}

/// What a listener needs for connections of proxies: tickets of their own too, so that no session
/// of a client goes on as a proxy's.
pub(super) struct FrontTls {
    pub(super) config: Arc<ServerConfig>,
    /// `None` where proxies are not asked for certificates.
    pub(super) verifier: Option<Arc<ClientVerifier>>,
}

/// Whether a certificate has one of these names: host names without case, addresses, URIs octet for
/// octet. A wildcard in it stands for nothing but itself.
pub(super) fn has_name(der: &[u8], names: &[Box<str>]) -> bool {
    let Ok((_, certificate)) = parse_x509_certificate(der) else {
        return false;
    };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return false;
    };
    let mut alternatives = alternatives.value.general_names.iter();
    alternatives.any(|alternative| {
        names.iter().any(|name| match alternative {
            GeneralName::DNSName(host) => host.eq_ignore_ascii_case(name),
            GeneralName::URI(uri) => *uri == &**name,
            GeneralName::IPAddress(bytes) => name.parse().is_ok_and(|address| match address {
                IpAddr::V4(v4) => v4.octets().as_slice() == *bytes,
                IpAddr::V6(v6) => v6.octets().as_slice() == *bytes,
            }),
            _ => false,
        })
    })
}

/// The clients of one connection of a proxy. Lives on the thread of its connection.
pub struct FrontProxy {
    current: Arc<Current>,
    /// The connection without any client's certificate; the proxy's own is never in it.
    bare: Arc<Peer>,
    rules: Cell<Rules>,
    known: RefCell<VecDeque<Known>>,
}

/// What the listener says of such requests, as of one version of its TLS.
#[derive(Debug, Clone, Copy)]
struct Rules {
    version: u64,
    form: Form,
    required: bool,
}

/// A certificate that came before, by the very octets it was written in.
struct Known {
    fields: Vec<(bool, Box<[u8]>)>,
    peer: Arc<Peer>,
    trust: ConnectionTrust,
}

impl FrontProxy {
    pub(super) fn new(
        current: &Arc<Current>,
        tls: &ServerTls,
        form: Form,
        bare: &Arc<Peer>,
    ) -> Self {
        Self {
            current: Arc::clone(current),
            bare: Arc::clone(bare),
            rules: Cell::new(Rules {
                // Below every version: the first request looks.
                version: 0,
                form,
                required: tls.demands_certificate(),
            }),
            known: RefCell::default(),
        }
    }

    /// The client of a request with these headers, and what the listener's present trust says of its
    /// certificate. Whether the proxy itself still may speak is for its [`ConnectionTrust`] to say,
    /// and must be asked first.
    ///
    /// # Errors
    /// `field_repeated`, `client_cert_malformed`; `certificate_required` where the listener demands
    /// a certificate and the headers have none.
    pub fn client(
        &self,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<(Arc<Peer>, Option<Standing>), Refusal> {
        let rules = self.rules();
        let mut known = self.known.borrow_mut();
        let same = |one: &Known| {
            let fields = one.fields.iter().map(|(beside, value)| (*beside, &**value));
            fields.eq(written(rules.form, headers))
        };
        if let Some(at) = known.iter().position(same) {
            if at > 0
                && let Some(one) = known.remove(at)
            {
                known.push_front(one);
            }
            if let Some(one) = known.front() {
                return Ok((Arc::clone(&one.peer), one.trust.standing(now)));
            }
        }
        let Some(presented) = client_cert::presented(rules.form, headers)? else {
            if rules.required {
                return Err(Refusal::because(
                    Reason::CertificateRequired,
                    "client_certificate is required, and the front proxy passed none on",
                ));
            }
            return Ok((Arc::clone(&self.bare), None));
        };
        let certificate = certificate::read(&presented.leaf)
            .map_err(|why| Refusal::because(Reason::ClientCertMalformed, why))?;
        let peer = Arc::new(Peer {
            remote: self.bare.remote,
            local: self.bare.local,
            listener: Arc::clone(&self.bare.listener),
            certificate: Some(certificate),
        });
        let chain: Vec<_> = std::iter::once(presented.leaf)
            .chain(presented.intermediates)
            .map(CertificateDer::from)
            .collect();
        let trust = ConnectionTrust::of_header(&self.current, &peer, &chain, now);
        let standing = trust.standing(now);
        let fields: Vec<(bool, Box<[u8]>)> = written(rules.form, headers)
            .map(|(beside, value)| (beside, value.into()))
            .collect();
        if fields.iter().map(|(_, value)| value.len()).sum::<usize>() <= REMEMBERED_BYTES {
            known.truncate(REMEMBERED.saturating_sub(1));
            known.push_front(Known {
                fields,
                peer: Arc::clone(&peer),
                trust,
            });
        }
        Ok((peer, standing))
    }

    /// The listener's rules in force; those of before where it is gone, which its connections learn
    /// from their trust.
    fn rules(&self) -> Rules {
        let mut rules = self.rules.get();
        let version = self.current.version();
        if rules.version != version {
            rules.version = version;
            if let Some(tls) = self.current.of(&self.bare.listener)
                && let Some(behind) = &tls.settings().behind
            {
                rules.form = behind.form;
                rules.required = tls.demands_certificate();
            }
            self.rules.set(rules);
        }
        rules
    }
}

/// The octets of the fields that count, each with whether it is the one beside the certificate's.
fn written(form: Form, headers: &HeaderMap) -> impl Iterator<Item = (bool, &[u8])> {
    let (name, beside) = form.fields();
    let values = headers.get_all(name).into_iter();
    let beside = beside.into_iter().flat_map(|name| headers.get_all(name));
    values
        .map(|value| (false, value.as_bytes()))
        .chain(beside.map(|value| (true, value.as_bytes())))
}

impl fmt::Debug for FrontProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontProxy")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
