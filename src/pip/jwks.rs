//! The keys of one issuer: held as an unchanging picture, replaced whole.
//!
//! The quick way reads the picture through one atomic pointer. The slow way is a token whose key
//! is not in it: [`Schedule`] says whether to fetch, to wait for the fetch under way, or to answer
//! at once. A fetch is a task of its own on the control runtime, and no client's: none can take it
//! along by leaving, and all that wait are told its end. Key sets are few and must be replaced
//! whole, never one by one and never for want of room, so they live here and not in a cache.

mod flight;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::fetch::Failure;
use super::learned::Learned;
use super::schedule::{Client, Demand, Moment, Pace, Schedule};
use super::{IssuerStatus, KeySource, Settings, snapshot};
use crate::pdp::keys::Found;
use crate::pdp::policy::Algorithm;
use crate::pdp::token::KeyGeneration;
use crate::pdp::{IssuerId, KeySet, Peer, Unavailable, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::metrics::{FetchResult, IssuerMetrics};
use crate::telemetry::redact::clean;

/// A picture of keys. One type in the program; tests have another, for they test when keys are
/// fetched, not what keys are.
pub(super) trait Keys: Sized + Send + Sync + 'static {
    fn read(
        jwks: &[u8],
        generation: KeyGeneration,
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<String>), String>;
    /// Whether a fetch could not tell more about this key.
    fn knows(&self, key_id: Option<&str>, algorithm: Algorithm) -> bool;
    fn generation(&self) -> KeyGeneration;
    fn same(&self, other: &Self) -> bool;
    fn names(&self) -> Vec<String>;
}

impl Keys for KeySet {
    fn read(
        jwks: &[u8],
        generation: KeyGeneration,
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<String>), String> {
        Self::parse(jwks, generation, algorithms)
    }

    fn knows(&self, key_id: Option<&str>, algorithm: Algorithm) -> bool {
        !matches!(self.find(key_id, algorithm), Found::Missing)
    }

    fn generation(&self) -> KeyGeneration {
        self.generation()
    }

    fn same(&self, other: &Self) -> bool {
        self.same_keys(other)
    }

    fn names(&self) -> Vec<String> {
        self.key_ids().map(str::to_owned).collect()
    }
}

/// Keys that are held.
#[derive(Debug)]
struct Held<K> {
    keys: Arc<K>,
    /// Until when they are used if no fetch succeeds; `None` for those of a file.
    good_until: Option<Instant>,
    /// When the issuer was last seen to publish them.
    published: UnixTime,
}

impl<K> Held<K> {
    fn is_good(&self) -> bool {
        self.good_until.is_none_or(|until| Instant::now() < until)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plane<K = KeySet> {
    settings: ArcSwap<Settings>,
    held: ArcSwapOption<Held<K>>,
    schedule: Mutex<Schedule>,
    /// Counts the fetches that ended.
    ended: watch::Sender<u64>,
    /// The background looks at the schedule again.
    wake: Notify,
    began: Instant,
    control: tokio::runtime::Handle,
    /// Numbers pictures over all issuers, so that no two are ever taken for one.
    generations: Arc<AtomicU64>,
    metrics: Arc<IssuerMetrics>,
    last_error: ArcSwapOption<String>,
    learned: Learned,
}

impl<K: Keys> Plane<K> {
    /// With the keys of its file, or those of its snapshot, if there are any.
    pub(super) fn new(
        settings: Settings,
        control: tokio::runtime::Handle,
        generations: Arc<AtomicU64>,
        metrics: Arc<IssuerMetrics>,
    ) -> Arc<Self> {
        let plane = Arc::new(Self {
            schedule: Mutex::new(Schedule::new(pace(&settings))),
            settings: ArcSwap::from_pointee(settings),
            held: ArcSwapOption::empty(),
            ended: watch::Sender::new(0),
            wake: Notify::new(),
            began: Instant::now(),
            control,
            generations,
            metrics,
            last_error: ArcSwapOption::empty(),
            learned: Learned::default(),
        });
        plane.start();
        plane
    }

    fn start(&self) {
        let settings = self.settings.load_full();
        if let KeySource::File(path, content) = &settings.source {
            match self.hold(&settings, content, crate::clock::now(), None) {
                Ok(()) => self.metrics.fetched(FetchResult::Ok),
                Err(error) => {
                    let error = format!("{}: {error}", path.display());
                    self.failed(&settings, &Failure::new(FetchResult::Unusable, error));
                }
            }
            return;
        }
        let Some(path) = &settings.snapshot else {
            return;
        };
        let name = &*settings.issuer.name;
        let now = crate::clock::now();
        let (jwks, published) = match snapshot::read(path, &settings.issuer.issuer, now) {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(issuer = name, %error, "the snapshot of the keys is not used");
                return;
            }
        };
        let age = now.since(published);
        let left = settings.keep_last_good_for.saturating_sub(age);
        if left.is_zero() {
            tracing::warn!(issuer = name, "the snapshot of the keys is too old");
            return;
        }
        match self.hold(&settings, &jwks, published, Some(left)) {
            Ok(()) => tracing::info!(
                issuer = name,
                age_seconds = age.as_secs(),
                "keys of the snapshot are used until fresh ones come"
            ),
            Err(error) => {
                tracing::warn!(issuer = name, %error, "the snapshot of the keys is not used");
            }
        }
    }

    /// Whether this plane can go on under these settings: the source is the same.
    pub(super) fn fits(&self, settings: &Settings) -> bool {
        self.settings.load().source == settings.source
    }

    /// Whether keys come from a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.settings.load().source, KeySource::File(..))
    }

    /// Goes on under these settings.
    pub(super) fn set(&self, settings: Settings) {
        self.schedule().set_pace(self.now(), pace(&settings));
        self.settings.store(Arc::new(settings));
        self.wake.notify_one();
    }

    /// Whether tokens verified with this picture still stand.
    pub(super) fn stands(&self, generation: KeyGeneration) -> bool {
        let held = self.held.load();
        held.as_ref()
            .is_some_and(|held| held.keys.generation() == generation && held.is_good())
    }

    /// Whether there are keys.
    pub(super) fn has_keys(&self) -> bool {
        self.held.load().is_some()
    }

    /// The keys, as fresh as the bounds allow where the one named is not among those held.
    pub(super) async fn keys(
        self: &Arc<Self>,
        key_id: Option<&str>,
        algorithm: Algorithm,
        client: &Peer,
    ) -> Result<Arc<K>, Unavailable> {
        if let Some(keys) = self.known(key_id, algorithm) {
            return Ok(keys);
        }
        self.keys_for(key_id, algorithm, &Client::of(client)).await
    }

    /// The same, charged to this client.
    pub(super) async fn keys_for(
        self: &Arc<Self>,
        key_id: Option<&str>,
        algorithm: Algorithm,
        client: &Client,
    ) -> Result<Arc<K>, Unavailable> {
        if let Some(keys) = self.known(key_id, algorithm) {
            return Ok(keys);
        }
        if self.is_file() {
            return self.good().ok_or_else(|| self.unavailable(None));
        }
        let (demand, mut ended) = {
            let mut schedule = self.schedule();
            // A fetch may have ended since; under the lock none ends.
            if let Some(keys) = self.known(key_id, algorithm) {
                return Ok(keys);
            }
            let held = self.good().is_some();
            let demand = schedule.demand(self.now(), client, held);
            (demand, self.ended.subscribe())
        };
        match demand {
            Demand::Held => {
                self.metrics.unknown_keys.add_one();
                return self.good().ok_or_else(|| self.unavailable(None));
            }
            Demand::Later(wait) => return Err(self.unavailable(Some(wait))),
            Demand::Fetch => self.launch(),
            Demand::Wait => {}
        }
        // It does not wait for ever: the fetch is bounded in time, and says its end whatever ends
        // it. The sender lives as long as we do.
        if ended.changed().await.is_err() {
            return Err(self.unavailable(None));
        }
        if let Some(keys) = self.known(key_id, algorithm) {
            if demand == Demand::Fetch {
                self.schedule().refund(client);
            }
            return Ok(keys);
        }
        self.metrics.unknown_keys.add_one();
        let failing = self.schedule().is_failing();
        self.good()
            .filter(|_| !failing)
            .ok_or_else(|| self.unavailable(None))
    }

    /// Keeps the keys fresh. Ends only when it is dropped.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        if self.is_file() {
            return;
        }
        loop {
            // Not under the lock: a flight that cannot even start ends at once, and takes it.
            let turn = self.schedule().take_turn(self.now());
            if turn {
                self.launch();
            }
            let due = self.schedule().due();
            match due {
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(self.began + due) => {}
                    () = self.wake.notified() => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// How it stands.
    pub(super) fn status(&self, now: UnixTime) -> IssuerStatus {
        let settings = self.settings.load();
        let held = self.held.load();
        let good = held.as_ref().is_some_and(|held| held.is_good());
        let failing = self.schedule().is_failing();
        IssuerStatus {
            name: Arc::clone(&settings.issuer.name),
            issuer: settings.issuer.issuer.clone(),
            required: settings.required,
            ready: held.is_some(),
            degraded: !good || failing,
            key_ids: held
                .as_ref()
                .map_or_else(Vec::new, |held| held.keys.names()),
            age: held.as_ref().map(|held| now.since(held.published)),
            last_error: self.last_error.load().as_deref().cloned(),
            introspection: None,
        }
    }

    /// The number of its issuer.
    pub(super) fn id(&self) -> IssuerId {
        self.settings.load().issuer.id
    }

    /// Whether its issuer has this name in the configuration.
    pub(super) fn is_named(&self, name: &str) -> bool {
        &*self.settings.load().issuer.name == name
    }

    fn known(&self, key_id: Option<&str>, algorithm: Algorithm) -> Option<Arc<K>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        (held.keys.knows(key_id, algorithm) && held.is_good()).then(|| Arc::clone(&held.keys))
    }

    fn good(&self) -> Option<Arc<K>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        held.is_good().then(|| Arc::clone(&held.keys))
    }

    fn unavailable(&self, wait: Option<Duration>) -> Unavailable {
        let last = self.last_error.load();
        let last = last
            .as_ref()
            .map_or("no keys were fetched yet", |e| e.as_str());
        let settings = self.settings.load();
        let wait = wait.unwrap_or(settings.refresh_cooldown);
        Unavailable {
            reason: Reason::KeysUnavailable,
            detail: format!("issuer {}: {last}", settings.issuer.name).into(),
            // Whole seconds are what a client can be told, and zero would say "at once".
            retry_after: Some(Duration::from_secs(
                wait.as_millis().div_ceil(1000).max(1) as u64
            )),
        }
    }

    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // Each change of the schedule is whole before anything could panic.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a key set as the one that is held.
    fn hold(
        &self,
        settings: &Settings,
        jwks: &[u8],
        published: UnixTime,
        good_for: Option<Duration>,
    ) -> Result<(), String> {
        let generation = KeyGeneration(self.generations.fetch_add(1, Relaxed));
        let (keys, warnings) = K::read(jwks, generation, &settings.issuer.algorithms)?;
        let held = self.held.load_full();
        let name = &*settings.issuer.name;
        let same = held.filter(|held| held.keys.same(&keys));
        let keys = match same {
            // The number stays, so that what is remembered of tokens goes on.
            Some(held) => Arc::clone(&held.keys),
            None => {
                for warning in &warnings {
                    let warning = clean(warning, 300);
                    tracing::warn!(issuer = name, ?warning, "a key is left out");
                }
                let names = keys.names().join(" ");
                tracing::info!(issuer = name, keys = ?clean(&names, 300), "keys changed");
                Arc::new(keys)
            }
        };
        self.metrics.held(keys.names().len(), published);
        self.held.store(Some(Arc::new(Held {
            keys,
            // A time beyond what the clock can say is no limit.
            good_until: good_for.and_then(|left| Instant::now().checked_add(left)),
            published,
        })));
        Ok(())
    }

    fn failed(&self, settings: &Settings, failure: &Failure) {
        self.metrics.fetched(failure.result);
        let detail = clean(&failure.detail, 500).into_owned();
        tracing::warn!(
            issuer = &*settings.issuer.name,
            result = failure.result.name(),
            error = detail,
            holding = self.good().is_some(),
            "keys could not be fetched"
        );
        self.last_error.store(Some(Arc::new(detail)));
    }
}

fn pace(settings: &Settings) -> Pace {
    Pace {
        cooldown: settings.refresh_cooldown,
        every: settings.refresh_every,
    }
}

#[cfg(test)]
pub(super) mod tests;
