//! The registered clients of authorization servers: one document, held as an unchanging picture
//! and replaced whole.
//!
//! A request reads the picture through one atomic pointer and never waits for a fetch of it: who
//! was registered a moment ago is known after the next refresh, and who was taken out is gone by
//! then. When no fetch succeeds, the last good picture is used for a while, and then it cannot be
//! known who a client is.

mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::keys::KeySets;
use super::address::Address;
use super::fetch::{self, Aborted, Failure, Way};
use crate::outbound::Tls;
use crate::pdp::authorization::client::REGISTRY_BYTES;
use crate::pdp::authorization::{Client, Clients, Wanted};
use crate::pdp::{KeySet, Peer, Unavailable, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{FetchResult, IssuerMetrics};
use crate::telemetry::redact::clean;

/// Warnings of one document that are logged.
const WARNINGS: usize = 20;
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pauses after failures do not grow beyond this, nor beyond `refresh_every`.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// `[registry]`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the clients are.
    pub source: Source,
    /// TLS towards it and towards `jwks_hosts`; used for https addresses.
    pub tls: Tls,
    /// `http://host:port` of a proxy through which they are reached.
    pub proxy: Option<Box<str>>,
    /// Hosts that `jwks_uri` of clients may name; lower case.
    pub jwks_hosts: Vec<Box<str>>,
    /// For one fetch as a whole.
    pub timeout: Duration,
    /// How often the document is fetched, or the file read.
    pub refresh_every: Duration,
    /// How long the last good clients are used when no fetch succeeds.
    pub keep_last_good_for: Duration,
    /// Whether `/readyz` waits for it.
    pub required: bool,
}

/// Where the clients are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, with its content as `config` read it; read again every `refresh_every`.
    File(PathBuf, Arc<[u8]>),
    /// An https address.
    Url(Box<str>),
}

impl Settings {
    /// Reads a document of clients by these settings.
    ///
    /// # Errors
    /// As [`Clients::parse`].
    pub fn read(&self, document: &[u8]) -> Result<(Clients, Vec<String>), String> {
        Clients::parse(document, &|uri| {
            let address = Address::configured(uri)?;
            if !address.tls {
                return Err("jwks_uri does not begin with https://".to_owned());
            }
            if self.jwks_hosts.contains(&address.host) {
                Ok(())
            } else {
                Err("jwks_uri names a host that is not under jwks_hosts".to_owned())
            }
        })
    }
}

/// How the registry stands.
#[derive(Debug, Clone)]
pub struct RegistryStatus {
    /// Whether `/readyz` waits for it.
    pub required: bool,
    /// Whether there have been clients; once true it stays so.
    pub ready: bool,
    /// The last fetch failed, or no clients are held that may still be used.
    pub degraded: bool,
    /// How many clients are held.
    pub clients: usize,
    /// How long ago they were fetched.
    pub age: Option<Duration>,
    /// Why the last fetch failed.
    pub last_error: Option<String>,
}

/// A picture of the clients.
#[derive(Debug)]
struct Held {
    clients: Arc<Clients>,
    /// Of the document.
    digest: [u8; 32],
    good_until: Option<Instant>,
    fetched: UnixTime,
}

impl Held {
    fn is_good(&self) -> bool {
        self.good_until.is_none_or(|until| Instant::now() < until)
    }
}

/// See the module.
pub(super) struct Registry {
    settings: ArcSwap<Settings>,
    held: ArcSwapOption<Held>,
    last_error: ArcSwapOption<String>,
    wake: Notify,
    keys: KeySets,
    metrics: Arc<IssuerMetrics>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// A registry, and what keeps it fresh as long as somebody holds this.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) registry: Arc<Registry>,
    _background: Arc<Aborted>,
}

impl Running {
    /// Starts one. What is held goes on where the source is the same.
    pub(super) fn renewed(
        before: Option<&Self>,
        settings: Settings,
        metrics: &Metrics,
        generations: &Arc<AtomicU64>,
        control: &tokio::runtime::Handle,
    ) -> Self {
        if let Some(before) = before
            && before.registry.settings.load().fits(&settings)
        {
            before.registry.set(settings);
            return before.clone();
        }
        let registry = Arc::new(Registry {
            keys: KeySets::new(Arc::clone(generations), metrics.client_keys(), control),
            settings: ArcSwap::from_pointee(settings),
            held: ArcSwapOption::empty(),
            last_error: ArcSwapOption::empty(),
            wake: Notify::new(),
            metrics: metrics.registry(),
        });
        let first = registry.start();
        let background = control.spawn(Arc::clone(&registry).keep_fresh(first));
        Self {
            registry,
            _background: Arc::new(Aborted(background.abort_handle())),
        }
    }
}

impl Settings {
    /// Whether what is held under these settings goes on under others: all that the picture was
    /// made by is the same.
    fn fits(&self, other: &Self) -> bool {
        let place = match (&self.source, &other.source) {
            (Source::File(one, _), Source::File(other, _)) => one == other,
            (Source::Url(one), Source::Url(other)) => one == other,
            (Source::File(..), Source::Url(_)) | (Source::Url(_), Source::File(..)) => false,
        };
        place && self.jwks_hosts == other.jwks_hosts
    }
}

impl Registry {
    /// The clients of the file. Gives the pause before the first refresh.
    fn start(&self) -> Duration {
        let settings = self.settings.load_full();
        let Source::File(path, content) = &settings.source else {
            return Duration::ZERO;
        };
        match self.hold(&settings, content) {
            Ok(()) => self.metrics.fetched(FetchResult::Ok),
            Err(error) => {
                let error = format!("{}: {error}", path.display());
                self.failed(&Failure::new(FetchResult::Unusable, error));
            }
        }
        settings.refresh_every
    }

    fn set(&self, settings: Settings) {
        self.keys.set(&settings);
        if let Source::File(path, content) = &settings.source
            && let Err(error) = self.hold(&settings, content)
        {
            let error = format!("{}: {error}", path.display());
            self.failed(&Failure::new(FetchResult::Unusable, error));
        }
        self.settings.store(Arc::new(settings));
        self.wake.notify_one();
    }

    /// The client of this id at an authorization server.
    ///
    /// # Errors
    /// `registry_unavailable` where nothing is held that may still be used.
    pub(super) fn client(
        &self,
        issuer: &str,
        id: &str,
    ) -> Result<Option<Arc<Client>>, Unavailable> {
        let held = self.held.load();
        match held.as_ref().filter(|held| held.is_good()) {
            Some(held) => Ok(held.clients.find(issuer, id).cloned()),
            None => {
                let last = self.last_error.load();
                let last = last
                    .as_ref()
                    .map_or("no clients were fetched yet", |error| error.as_str());
                Err(unavailable(last))
            }
        }
    }

    /// Keys of a client from its `jwks_uri`.
    ///
    /// # Errors
    /// `registry_unavailable` where they cannot be known.
    pub(super) async fn keys(
        &self,
        client: &Client,
        wanted: &[Wanted],
        peer: &Peer,
    ) -> Result<Arc<KeySet>, Unavailable> {
        let settings = self.settings.load_full();
        self.keys.of(client, wanted, peer, &settings).await
    }

    pub(super) fn status(&self, now: UnixTime) -> RegistryStatus {
        let held = self.held.load();
        let last_error = self.last_error.load();
        RegistryStatus {
            required: self.settings.load().required,
            ready: held.is_some(),
            degraded: last_error.is_some() || !held.as_ref().is_some_and(|held| held.is_good()),
            clients: held.as_ref().map_or(0, |held| held.clients.len()),
            age: held.as_ref().map(|held| now.since(held.fetched)),
            last_error: last_error.as_deref().cloned(),
        }
    }

    /// Fetches again and again. Ends only when it is dropped.
    async fn keep_fresh(self: Arc<Self>, first: Duration) {
        let mut pause = first;
        let mut failures = 0_u32;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
            }
            let settings = self.settings.load_full();
            let every = settings.refresh_every;
            pause = match self.refresh(&settings).await {
                Ok(()) => {
                    failures = 0;
                    every
                }
                Err(failure) => {
                    self.failed(&failure);
                    failures = failures.saturating_add(1);
                    let grown = FIRST_PAUSE.saturating_mul(1 << failures.min(6).saturating_sub(1));
                    grown.min(LONGEST_PAUSE).min(every)
                }
            };
        }
    }

    async fn refresh(self: &Arc<Self>, settings: &Arc<Settings>) -> Result<(), Failure> {
        let timeout = settings.timeout;
        let fetched = tokio::time::timeout(timeout, document(settings)).await;
        let document = fetched.map_err(|_elapsed| Failure::timeout(timeout))??;
        // Thousands of keys take a while to parse: not on the runtime that fetches.
        let (registry, of) = (Arc::clone(self), Arc::clone(settings));
        let held = tokio::task::spawn_blocking(move || registry.hold(&of, &document)).await;
        let held = held.unwrap_or_else(|error| Err(error.to_string()));
        held.map_err(|error| Failure::new(FetchResult::Unusable, error))?;
        self.metrics.fetched(FetchResult::Ok);
        self.last_error.store(None);
        Ok(())
    }

    /// Takes a document as the one that is held. One that did not change is not read again.
    fn hold(&self, settings: &Settings, document: &[u8]) -> Result<(), String> {
        let digest = sha256(document);
        let before = self.held.load_full();
        let same = before.filter(|held| held.digest == digest);
        let clients = match same {
            Some(held) => Arc::clone(&held.clients),
            None => {
                let (clients, warnings) = settings.read(document)?;
                tracing::info!(clients = clients.len(), "registered clients changed");
                for warning in warnings.iter().take(WARNINGS) {
                    let warning = clean(warning, 300);
                    tracing::warn!(?warning, "an entry of the registry");
                }
                if warnings.len() > WARNINGS {
                    let further = warnings.len() - WARNINGS;
                    tracing::warn!(further, "entries of the registry have problems");
                }
                self.keys.keep_only(&clients);
                Arc::new(clients)
            }
        };
        let now = crate::clock::now();
        self.metrics.held(clients.len(), now);
        self.held.store(Some(Arc::new(Held {
            clients,
            digest,
            // A time beyond what the clock can say is no limit.
            good_until: Instant::now().checked_add(settings.keep_last_good_for),
            fetched: now,
        })));
        Ok(())
    }

    fn failed(&self, failure: &Failure) {
        self.metrics.fetched(failure.result);
        let detail = clean(&failure.detail, 500).into_owned();
        let held = self.held.load();
        tracing::warn!(
            result = failure.result.name(),
            error = detail,
            holding = held.as_ref().is_some_and(|held| held.is_good()),
            "registered clients could not be fetched"
        );
        self.last_error.store(Some(Arc::new(detail)));
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut array = [0; 32];
    for (to, from) in array.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    array
}

/// The document as it is now.
async fn document(settings: &Settings) -> Result<bytes::Bytes, Failure> {
    match &settings.source {
        Source::File(path, _) => {
            let unreadable = |error: std::io::Error| {
                Failure::new(
                    FetchResult::Unreachable,
                    format!("{}: {error}", path.display()),
                )
            };
            let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
            if size > REGISTRY_BYTES as u64 {
                let why = format!("{} is larger than {REGISTRY_BYTES} bytes", path.display());
                return Err(Failure::new(FetchResult::TooLarge, why));
            }
            Ok(tokio::fs::read(path).await.map_err(unreadable)?.into())
        }
        Source::Url(url) => {
            let address = Address::configured(url)
                .map_err(|error| Failure::new(FetchResult::Unreachable, error))?;
            let way = Way {
                tls: &settings.tls,
                proxy: settings.proxy.as_deref(),
            };
            fetch::get_at_most(REGISTRY_BYTES, &address, way).await
        }
    }
}

fn unavailable(why: &str) -> Unavailable {
    Unavailable {
        reason: Reason::RegistryUnavailable,
        detail: format!("the client registry: {why}").into(),
        retry_after: None,
    }
}

/// A request that began before a reload took the registry away.
pub(super) fn gone() -> Unavailable {
    unavailable("it is no longer in the configuration")
}
