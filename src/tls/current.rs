//! Trust that does not outlive its evidence: each open connection is judged anew when the trust
//! of its listener changed or a date passed.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use super::Settings;
use super::certificate;
use super::failure;
use super::pem;
use super::server::ServerTls;
use super::trust::after;
use crate::pdp::{Peer, Standing, UnixTime};

/// The TLS in force of each listener, by its name. Shared by all threads, replaced whole.
pub struct Current {
    by_listener: ArcSwap<HashMap<Arc<str>, Arc<ServerTls>>>,
    /// Grows after each replacement, so a connection sees in one load that nothing changed.
    version: AtomicU64,
}

impl Current {
    /// The TLS of these listeners.
    #[must_use]
    pub fn new(listeners: impl IntoIterator<Item = Arc<ServerTls>>) -> Arc<Self> {
        Arc::new(Self {
            by_listener: ArcSwap::from_pointee(by_name(listeners)),
            version: AtomicU64::new(1),
        })
    }

    /// Puts these listeners in the place of all that were. Connections of one that is gone are
    /// trusted no longer.
    pub fn replace(&self, listeners: impl IntoIterator<Item = Arc<ServerTls>>) {
        self.by_listener.store(Arc::new(by_name(listeners)));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The TLS in force of one listener, to hand to [`ServerTls::build`] at a reload.
    #[must_use]
    pub fn of(&self, listener: &str) -> Option<Arc<ServerTls>> {
        self.by_listener.load().get(listener).cloned()
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.by_listener.load().iter())
            .finish()
    }
}

/// A peer with a certificate (PEM, the leaf first), and what a listener with these settings says
/// of it at `now`, as it would in a handshake.
///
/// # Errors
/// The chain cannot be read, or TLS cannot be built.
pub fn presented(
    settings: &Settings,
    chain: &[u8],
    (remote, local): (SocketAddr, SocketAddr),
    now: UnixTime,
) -> Result<(Arc<Peer>, Standing), String> {
    let chain = pem::certificates(chain)?;
    let leaf = chain.first().ok_or("there is no certificate in it")?;
    let certificate = certificate::read(leaf)?;
    let tls = ServerTls::build(settings, None)?;
    let peer = Arc::new(Peer {
        remote,
        local,
        listener: Arc::clone(&settings.listener),
        certificate: Some(certificate),
    });
    let trust = ConnectionTrust::new(&Current::new([Arc::clone(&tls)]), &tls, &peer, &chain, now);
    let standing = trust.judge(Some(&tls), now);
    Ok((peer, standing.unwrap_or(Standing::Untrusted)))
}

fn by_name(
    listeners: impl IntoIterator<Item = Arc<ServerTls>>,
) -> HashMap<Arc<str>, Arc<ServerTls>> {
    listeners
        .into_iter()
        .map(|tls| (Arc::clone(tls.listener()), tls))
        .collect()
}

/// The trust in one connection's certificate. Lives on the thread of its connection.
pub struct ConnectionTrust {
    current: Arc<Current>,
    peer: Arc<Peer>,
    /// What the client presented beside the leaf.
    intermediates: Box<[CertificateDer<'static>]>,
    /// Moments at which the dates of the presented certificates change something.
    dates: Box<[UnixTime]>,
    judged: Cell<Judged>,
}

/// The last judgement, good for `from..until` under one generation.
#[derive(Debug, Clone, Copy)]
struct Judged {
    version: u64,
    /// `None`: the listener is gone.
    generation: Option<u64>,
    from: UnixTime,
    until: UnixTime,
    standing: Option<Standing>,
}

impl ConnectionTrust {
    /// The trust in a connection that `tls` has just let in, at `now`.
    pub(super) fn new(
        current: &Arc<Current>,
        tls: &ServerTls,
        peer: &Arc<Peer>,
        presented: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Self {
        let dates = presented
            .iter()
            .filter_map(|der| certificate::dates(der))
            .flat_map(|(not_before, not_after)| [not_before, after(not_after)])
            .collect();
        let trust = Self {
            current: Arc::clone(current),
            peer: Arc::clone(peer),
            intermediates: presented.iter().skip(1).cloned().collect(),
            dates,
            judged: Cell::new(Judged {
                // Below every version: the first request compares the generation, which may
                // have changed during the handshake.
                version: 0,
                generation: Some(tls.generation()),
                from: now,
                until: now,
                standing: None,
            }),
        };
        trust.judged.set(Judged {
            until: trust.until(Some(tls), now),
            standing: trust
                .in_dates(now)
                .or(peer.certificate.as_ref().map(|_| Standing::Trusted)),
            ..trust.judged.get()
        });
        trust
    }

    /// What the listener's present trust says of the connection's certificate.
    ///
    /// `None`: the client presented none. Where the listener has come to require one since the
    /// handshake, such a connection is [`Standing::Untrusted`].
    ///
    /// Cheap while nothing changed: one atomic load and two comparisons. Else the presented
    /// chain is verified as in a handshake.
    #[must_use]
    pub fn standing(&self, now: UnixTime) -> Option<Standing> {
        let judged = self.judged.get();
        let version = self.current.version();
        let in_time = judged.from <= now && now < judged.until;
        if in_time && judged.version == version {
            return judged.standing;
        }
        let tls = self.current.of(&self.peer.listener);
        let generation = tls.as_ref().map(|tls| tls.generation());
        let judged = if in_time && judged.generation == generation {
            Judged { version, ..judged }
        } else {
            Judged {
                version,
                generation,
                from: now,
                until: self.until(tls.as_deref(), now),
                standing: self.judge(tls.as_deref(), now),
            }
        };
        self.judged.set(judged);
        judged.standing
    }

    fn judge(&self, tls: Option<&ServerTls>, now: UnixTime) -> Option<Standing> {
        let Some(certificate) = &self.peer.certificate else {
            return tls
                .is_none_or(ServerTls::demands_certificate)
                .then_some(Standing::Untrusted);
        };
        let Some(tls) = tls else {
            return Some(Standing::Untrusted);
        };
        if let Some(outside) = self.in_dates(now) {
            return Some(outside);
        }
        let leaf = CertificateDer::from(certificate.der.as_ref());
        Some(match tls.judge(&leaf, &self.intermediates, now) {
            Ok(()) => Standing::Trusted,
            Err(error) => failure::standing(&error),
        })
    }

    /// `Expired` if the leaf is outside its dates, whatever the trust.
    fn in_dates(&self, now: UnixTime) -> Option<Standing> {
        let certificate = self.peer.certificate.as_ref()?;
        (now < certificate.not_before || now > certificate.not_after).then_some(Standing::Expired)
    }

    /// The first moment after `now` at which a judgement may change by itself.
    fn until(&self, tls: Option<&ServerTls>, now: UnixTime) -> UnixTime {
        self.dates
            .iter()
            .copied()
            .filter(|date| *date > now)
            .chain(tls.and_then(|tls| tls.next_boundary(now)))
            .min()
            .unwrap_or(UnixTime::from_secs(u64::MAX))
    }
}

impl fmt::Debug for ConnectionTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTrust")
            .field("judged", &self.judged)
            .finish_non_exhaustive()
    }
}
