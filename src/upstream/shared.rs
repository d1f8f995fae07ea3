//! What all threads know of an upstream: which of its servers take requests, and how many
//! connections are open. Atomics and a semaphore; a request takes no lock here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Server, Settings};
use crate::refusal::Reason;
use crate::telemetry::metrics::{Metrics, UpstreamMetrics};

/// One upstream, as all threads share it.
#[derive(Debug)]
pub struct Shared {
    settings: Settings,
    pub(super) servers: Vec<Arc<ServerState>>,
    /// Where the next thread starts its round.
    offset: AtomicUsize,
}

/// One server of an upstream, as all threads share it.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) server: Server,
    /// `host:port`, the host in brackets where it is an IPv6 address.
    pub(super) authority: Arc<str>,
    /// One permit a connection.
    permits: Arc<Semaphore>,
    /// Requests, of all threads, that wait for a connection.
    pub(super) waiting: AtomicUsize,
    /// Told when one begins to wait: threads give up idle connections.
    pub(super) starved: Notify,
    /// Failures in a row.
    failures: AtomicU32,
    /// Milliseconds after `epoch` until which it is left out; 0: it is not.
    ejected_until: AtomicU64,
    /// By the last active check.
    healthy: AtomicBool,
    epoch: Instant,
    pub(super) metrics: Arc<UpstreamMetrics>,
}

/// How a server stands, for `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// `host:port`.
    pub server: Arc<str>,
    /// What the last active check said; true where there are none.
    pub healthy: bool,
    /// Whether it is left out for its failures.
    pub ejected: bool,
    /// Connections open, over all threads.
    pub connections: usize,
}

/// A connection's place among those that a server may have. It lives in the connection.
#[derive(Debug)]
pub(super) struct Open {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<UpstreamMetrics>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.open.fall();
    }
}

impl Shared {
    /// The shared part of an upstream; nothing is connected yet.
    #[must_use]
    pub fn new(settings: Settings, metrics: &Metrics) -> Arc<Self> {
        let epoch = Instant::now();
        let servers = settings
            .servers
            .iter()
            .map(|server| {
                let authority = authority(server);
                let metrics = metrics.upstream(&settings.name, &authority);
                metrics.set_up(true);
                Arc::new(ServerState {
                    server: server.clone(),
                    authority,
                    permits: Arc::new(Semaphore::new(limit(&settings))),
                    waiting: AtomicUsize::new(0),
                    starved: Notify::new(),
                    failures: AtomicU32::new(0),
                    ejected_until: AtomicU64::new(0),
                    healthy: AtomicBool::new(true),
                    epoch,
                    metrics,
                })
            })
            .collect();
        Arc::new(Self {
            settings,
            servers,
            offset: AtomicUsize::new(0),
        })
    }

    /// Whether these settings are the ones this was made of, so that it may stay at a reload, with
    /// its connections and what it knows of its servers. TLS that was built anew counts as other
    /// TLS: its files may have changed.
    #[must_use]
    pub fn is_of(&self, settings: &Settings) -> bool {
        let Settings {
            name,
            servers,
            protocol,
            tls,
            connect_timeout,
            response_timeout,
            idle_timeout,
            retries,
            max_connections,
            health,
            eject,
        } = &self.settings;
        let same_tls = match (tls, &settings.tls) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(&a.config, &b.config) && a.server_name == b.server_name
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        same_tls
            && *name == settings.name
            && *servers == settings.servers
            && *protocol == settings.protocol
            && *connect_timeout == settings.connect_timeout
            && *response_timeout == settings.response_timeout
            && *idle_timeout == settings.idle_timeout
            && *retries == settings.retries
            && *max_connections == settings.max_connections
            && *health == settings.health
            && *eject == settings.eject
    }

    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How its servers stand, for `/status`.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.servers
            .iter()
            .map(|server| ServerStatus {
                server: server.authority.clone(),
                healthy: server.healthy.load(Ordering::Relaxed),
                ejected: server.is_ejected(),
                connections: limit(&self.settings)
                    .saturating_sub(server.permits.available_permits()),
            })
            .collect()
    }

    /// Another start for each thread, so that they do not all begin with the first server.
    pub(super) fn start(&self) -> usize {
        self.offset.fetch_add(1, Ordering::Relaxed)
    }

    /// A try at a server failed for its own fault.
    pub(super) fn failed(&self, server: &ServerState, reason: Reason) {
        server.metrics.failed(reason);
        self.counts_against(server);
    }

    /// One more failure in a row; too many leave the server out.
    pub(super) fn counts_against(&self, server: &ServerState) {
        let Some(eject) = self.settings.eject else {
            return;
        };
        let failures = server.failures.fetch_add(1, Ordering::Relaxed);
        if failures.saturating_add(1) < eject.failures {
            return;
        }
        server.failures.store(0, Ordering::Relaxed);
        let until = server.now().saturating_add(millis(eject.duration)).max(1);
        server.ejected_until.store(until, Ordering::Relaxed);
        server.metrics.ejections.add_one();
        server.metrics.set_up(false);
        tracing::warn!(
            upstream = &*self.settings.name,
            server = &*server.authority,
            "the server is left out for {:?} after {} failures in a row",
            eject.duration,
            eject.failures
        );
    }

    /// A server answered.
    pub(super) fn succeeded(&self, server: &ServerState) {
        // Read first: a store at each answer would pass the cache line between all threads.
        if self.settings.eject.is_some() && server.failures.load(Ordering::Relaxed) != 0 {
            server.failures.store(0, Ordering::Relaxed);
        }
    }

    /// What an active check said.
    pub(super) fn checked(&self, server: &ServerState, verdict: Result<(), String>) {
        let healthy = verdict.is_ok();
        let before = server.healthy.swap(healthy, Ordering::Relaxed);
        server.metrics.set_up(healthy && !server.is_ejected());
        match verdict {
            Err(why) if before => tracing::warn!(
                upstream = &*self.settings.name,
                server = &*server.authority,
                "the server is unhealthy: {why}"
            ),
            Ok(()) if !before => tracing::info!(
                upstream = &*self.settings.name,
                server = &*server.authority,
                "the server is healthy again"
            ),
            Ok(()) | Err(_) => {}
        }
    }
}

impl ServerState {
    /// Whether requests should go there while others are worse.
    pub(super) fn is_available(&self) -> bool {
        !self.is_ejected() && self.healthy.load(Ordering::Relaxed)
    }

    fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        if self.now() < until {
            return true;
        }
        // Its time is over: one thread says so.
        let first = self
            .ejected_until
            .compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if first {
            self.metrics.set_up(self.healthy.load(Ordering::Relaxed));
        }
        false
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }

    /// Whether one more connection may be made.
    pub(super) fn has_place(&self) -> bool {
        self.permits.available_permits() > 0
    }

    /// A place for one more connection, if there is one.
    pub(super) fn open(&self) -> Option<Open> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(self.opened(permit))
    }

    /// A place for one more connection, as soon as there is one.
    pub(super) async fn open_later(&self) -> Option<Open> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(self.opened(permit))
    }

    fn opened(&self, permit: OwnedSemaphorePermit) -> Open {
        self.metrics.open.rise();
        Open {
            _permit: permit,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

fn limit(settings: &Settings) -> usize {
    settings.max_connections.clamp(1, Semaphore::MAX_PERMITS)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn authority(server: &Server) -> Arc<str> {
    if server.host.contains(':') {
        format!("[{}]:{}", server.host, server.port).into()
    } else {
        format!("{}:{}", server.host, server.port).into()
    }
}
