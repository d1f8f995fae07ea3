//! How many connections there are, and how many there may be.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::balance::Seat;
use super::drain::{Drain, Open};
use super::{ProxyProtocol, Settings};
use crate::pdp::UnixTime;
use crate::refusal::CloseReason;
use crate::tls::{Current, Directory, DirectoryEntry, ServerTls};

/// Takes the result of each handshake; the telemetry of a process.
pub trait Handshakes: Send + Sync {
    /// One handshake is over: whether the session was resumed and how long it took, or why there
    /// is no connection. The listener is `None` where the client named none.
    fn over(&self, listener: Option<&Arc<str>>, result: Result<(bool, Duration), CloseReason>);
}

/// Takes no note.
impl Handshakes for () {
    fn over(&self, _: Option<&Arc<str>>, _: Result<(bool, Duration), CloseReason>) {}
}

/// One listener as it is now. A reload makes another one that goes on counting.
#[derive(Debug)]
pub struct Live {
    /// What the configuration says.
    pub settings: Settings,
    open: Arc<AtomicUsize>,
}

impl Live {
    /// A listener; `previous` is the one of this name before a reload, whose open connections
    /// still count.
    #[must_use]
    pub fn new(settings: Settings, previous: Option<&Arc<Self>>) -> Arc<Self> {
        let open = previous
            .map(|previous| Arc::clone(&previous.open))
            .unwrap_or_default();
        Arc::new(Self { settings, open })
    }

    /// Connections open at present, those in the handshake included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

/// One address: which listeners it has, swapped whole at reload, and what is counted across all
/// workers.
pub struct Shared {
    address: SocketAddr,
    serving: ArcSwap<Serving>,
    current: Arc<Current>,
    /// Connections that have not named their listener.
    nameless: AtomicUsize,
    now: fn() -> UnixTime,
    handshakes: Arc<dyn Handshakes>,
}

/// The listeners of an address at one time.
#[derive(Debug, Default)]
pub struct Serving {
    /// Which name is of which.
    pub(super) directory: Directory,
    live: HashMap<Arc<str>, Arc<Live>>,
    /// Bound of connections that have not named their listener.
    nameless: usize,
    /// Whether a PROXY protocol header comes first, and from whom.
    pub(super) proxy_protocol: Option<Arc<ProxyProtocol>>,
}

impl Serving {
    /// Puts each listener of an address together with its TLS.
    #[must_use]
    pub fn new(listeners: Vec<(Arc<Live>, Arc<ServerTls>)>) -> Self {
        // As many as may be open: a flood of silent clients is held in the memory that the
        // operator planned for.
        let nameless = listeners.iter().fold(0_usize, |sum, (live, _)| {
            sum.saturating_add(live.settings.connections)
        });
        let proxy_protocol = listeners
            .iter()
            .find_map(|(live, _)| live.settings.proxy_protocol.clone());
        let live = listeners
            .iter()
            .map(|(live, _)| (Arc::clone(&live.settings.name), Arc::clone(live)))
            .collect();
        let entries = listeners
            .into_iter()
            .map(|(live, tls)| DirectoryEntry {
                hosts: live.settings.hosts.clone(),
                default: live.settings.default,
                tls,
                handshake_timeout: live.settings.handshake_timeout,
            })
            .collect();
        Self {
            directory: Directory::new(entries),
            live,
            nameless,
            proxy_protocol,
        }
    }
}

impl Shared {
    /// An address as it was bound. Certificates are judged as of `now`.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        serving: Serving,
        current: Arc<Current>,
        now: fn() -> UnixTime,
        handshakes: Arc<dyn Handshakes>,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            serving: ArcSwap::from_pointee(serving),
            current,
            nameless: AtomicUsize::new(0),
            now,
            handshakes,
        })
    }

    /// Puts other listeners in place, for the connections that come from now on.
    pub fn replace(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }

    /// The bound address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A listener of this address as it is now.
    #[must_use]
    pub fn live(&self, listener: &str) -> Option<Arc<Live>> {
        self.serving.load().live.get(listener).cloned()
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    pub(super) const fn current(&self) -> &Arc<Current> {
        &self.current
    }

    pub(super) const fn now(&self) -> fn() -> UnixTime {
        self.now
    }

    pub(super) fn over(
        &self,
        listener: Option<&Arc<str>>,
        result: Result<(bool, Duration), CloseReason>,
    ) {
        self.handshakes.over(listener, result);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("address", &self.address)
            .field("serving", &self.serving)
            .finish_non_exhaustive()
    }
}

/// A place among the connections that have not named their listener.
#[derive(Debug)]
pub(super) struct Nameless {
    shared: Arc<Shared>,
    open: Open,
}

impl Nameless {
    pub(super) fn take(shared: &Arc<Shared>, serving: &Serving, drain: &Drain) -> Option<Self> {
        take(&shared.nameless, serving.nameless).then(|| Self {
            shared: Arc::clone(shared),
            open: drain.open(),
        })
    }

    /// The place at the listener that the client named; `None` where all are taken.
    pub(super) fn named(
        self,
        serving: &Serving,
        listener: &str,
        seat: Seat,
    ) -> Option<(Arc<Live>, Permit)> {
        let live = serving.live.get(listener)?;
        if !take(&live.open, live.settings.connections) {
            return None;
        }
        let permit = Permit {
            open: Arc::clone(&live.open),
            _drain: self.open.drain().open(),
            _seat: seat,
        };
        Some((Arc::clone(live), permit))
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        self.shared.nameless.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection's place at its listener; free again when dropped.
#[derive(Debug)]
pub struct Permit {
    open: Arc<AtomicUsize>,
    _drain: Open,
    /// Among the connections of its worker.
    _seat: Seat,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One more, if that is within the limit.
fn take(count: &AtomicUsize, limit: usize) -> bool {
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < limit).then(|| count.saturating_add(1))
        })
        .is_ok()
}
