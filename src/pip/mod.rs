//! The policy information point: what a decision needs from outside. Keys of issuers, what issuers
//! say about tokens, and what is remembered of either.
//!
//! It judges nothing: what it cannot tell it says so ([`Unavailable`]), and the core refuses.

mod address;
mod cache;
mod discovery;
mod fetch;
pub mod introspect;
mod jwks;
mod learned;
pub mod registry;
mod schedule;
mod snapshot;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use self::cache::{Answers, Tokens};
use self::fetch::Aborted;
use self::introspect::{IntrospectionStatus, Introspector, Revoked};
use self::jwks::Plane;
use crate::pdp::dpop::ReplayRule;
use crate::pdp::{Answer, Ask, Issuer, IssuerId, Peer, Unavailable, UnixTime};
use crate::refusal::Reason;
use crate::replay::{self, Replay};
use crate::telemetry::Metrics;

/// Where and how the keys of one issuer are had.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The issuer, as decisions know it.
    pub issuer: Arc<Issuer>,
    /// Where its keys are.
    pub source: KeySource,
    /// TLS towards it; used for https addresses.
    pub tls: crate::outbound::Tls,
    /// `http://host:port` of a proxy through which it is reached.
    pub proxy: Option<Box<str>>,
    /// Hosts, beside the issuer's own, that addresses learned from discovery may name (KEY-10).
    pub hosts: Vec<Box<str>>,
    /// For one fetch as a whole.
    pub timeout: Duration,
    /// At most one fetch in this time, whatever the tokens' `kid` say.
    pub refresh_cooldown: Duration,
    /// Ahead of need, with jitter.
    pub refresh_every: Duration,
    /// How long the last good set is used when no fetch succeeds.
    pub keep_last_good_for: Duration,
    /// Where the last good set is kept for a cold start.
    pub snapshot: Option<PathBuf>,
    /// Whether `/readyz` waits for it.
    pub required: bool,
    /// How and where it is asked about tokens, where the file says so.
    pub introspection: Option<introspect::Settings>,
}

impl Settings {
    /// The key set that is had without asking anybody, and where from: of the file, or of the
    /// snapshot of the last good one, if it is not too old.
    ///
    /// # Errors
    /// Why the snapshot cannot be used.
    pub fn at_hand(&self, now: UnixTime) -> Result<Option<(Vec<u8>, String)>, String> {
        if let KeySource::File(path, content) = &self.source {
            return Ok(Some((content.to_vec(), path.display().to_string())));
        }
        let Some(path) = &self.snapshot else {
            return Ok(None);
        };
        let held = snapshot::read(path, &self.issuer.issuer, now)?;
        let held = held.filter(|(_, fetched)| now.since(*fetched) <= self.keep_last_good_for);
        Ok(held.map(|(keys, _)| (keys, path.display().to_string())))
    }
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Metadata (RFC 8414, OpenID Connect Discovery) that names `jwks_uri`.
    Discovery(Box<str>),
    /// The key set itself.
    Uri(Box<str>),
    /// A file, with its content as `config` read it; read again at a reload.
    File(PathBuf, Arc<[u8]>),
}

/// How the keys of an issuer stand.
#[derive(Debug, Clone)]
pub struct IssuerStatus {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// `iss`.
    pub issuer: Box<str>,
    /// Whether `/readyz` waits for it.
    pub required: bool,
    /// Whether there have been keys: fetched, of a file or of a snapshot. Once true it stays so,
    /// for a later loss must not take every replica out of service at once.
    pub ready: bool,
    /// The last fetch failed, or no keys are held that may still be used.
    pub degraded: bool,
    /// Names of the keys held.
    pub key_ids: Vec<String>,
    /// How long ago the issuer was last seen to publish them.
    pub age: Option<Duration>,
    /// Why the last fetch failed.
    pub last_error: Option<String>,
    /// How introspection stands, where there is one.
    pub introspection: Option<IntrospectionStatus>,
}

/// Everything that decisions are told: one for all threads.
pub struct Pip {
    planes: ArcSwap<HashMap<IssuerId, Running>>,
    registry: ArcSwapOption<registry::Running>,
    tokens: Tokens,
    generations: Arc<AtomicU64>,
    introspection: introspect::Common,
    replay: ArcSwapOption<Replay>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Pip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pip").finish_non_exhaustive()
    }
}

/// An issuer's keys, and what keeps them fresh as long as somebody holds this.
#[derive(Clone)]
struct Running {
    plane: Arc<Plane>,
    introspector: Option<Arc<Introspector>>,
    _background: Arc<Aborted>,
}

impl Pip {
    /// One that knows no issuer yet. Issuers are asked about tokens on `introspection`, a runtime
    /// apart from those that serve requests and from the one that fetches keys.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, introspection: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            planes: ArcSwap::from_pointee(HashMap::new()),
            registry: ArcSwapOption::empty(),
            tokens: Tokens::new(),
            generations: Arc::new(AtomicU64::new(1)),
            replay: ArcSwapOption::empty(),
            introspection: introspect::Common {
                runtime: introspection,
                answers: Arc::new(Answers::new()),
                dropped: Arc::new(AtomicU64::new(0)),
            },
            metrics,
        })
    }

    /// The issuers from now on. What is held of an issuer stays if its id and its source are the
    /// same; timeouts, TLS and the like may change. Fetches run on `control`.
    ///
    /// Call it from one task at a time: at the start, before the listeners, and at a reload before
    /// the snapshot is published that names new issuers.
    pub fn replace(&self, settings: Vec<Settings>, control: &tokio::runtime::Handle) {
        let old = self.planes.load_full();
        let mut planes = HashMap::with_capacity(settings.len());
        for settings in settings {
            let id = settings.issuer.id;
            let running = match old.get(&id) {
                Some(running) if running.plane.fits(&settings) => {
                    running.plane.set(settings);
                    running.clone()
                }
                before => self.run(&settings, before, control),
            };
            planes.insert(id, running);
        }
        self.planes.store(Arc::new(planes));
    }

    /// The registry of clients from now on, if there is one. What is held of it stays if its source
    /// is the same. To be called as [`Self::replace`].
    pub fn register(&self, settings: Option<registry::Settings>, control: &tokio::runtime::Handle) {
        let before = self.registry.load_full();
        let running = settings.map(|settings| {
            let (metrics, generations) = (&self.metrics, &self.generations);
            let before = before.as_deref();
            Arc::new(registry::Running::renewed(
                before,
                settings,
                metrics,
                generations,
                control,
            ))
        });
        self.registry.store(running);
    }

    /// How the registry of clients stands, if there is one.
    #[must_use]
    pub fn registry(&self, now: UnixTime) -> Option<registry::RegistryStatus> {
        let running = self.registry.load();
        running.as_ref().map(|running| running.registry.status(now))
    }

    fn run(
        &self,
        settings: &Settings,
        before: Option<&Running>,
        control: &tokio::runtime::Handle,
    ) -> Running {
        let metrics = self.metrics.issuer(&settings.issuer.name);
        let generations = Arc::clone(&self.generations);
        let plane = Plane::new(settings.clone(), control.clone(), generations, metrics);
        // A file that cannot be read any more is no reason to throw away what was read before.
        if let Some(before) = before
            && plane.is_file()
            && !plane.has_keys()
            && before.plane.is_file()
        {
            return before.clone();
        }
        let background = control.spawn(Arc::clone(&plane).keep_fresh());
        let introspector = settings.introspection.clone().map(|introspection| {
            let metrics = self.metrics.introspection(&settings.issuer.name);
            let (keys, common) = (Arc::clone(&plane), self.introspection.clone());
            Introspector::new(settings, introspection, keys, common, metrics)
        });
        Running {
            plane,
            introspector,
            _background: Arc::new(Aborted(background.abort_handle())),
        }
    }

    /// Answers a question. Does not wait and takes no lock when the token, the key or the issuer's
    /// word is held; else it waits for one fetch or call at most, which is bounded by the issuer's
    /// `timeout`.
    ///
    /// `client`: whom a fetch on demand is charged to.
    ///
    /// # Errors
    /// `keys_unavailable`, `introspection_unavailable`, `introspection_unfit`,
    /// `registry_unavailable`, `replay_unavailable`
    /// where it cannot be known at present.
    pub async fn answer(
        &self,
        ask: &Ask,
        client: &Peer,
        now: UnixTime,
    ) -> Result<Answer, Unavailable> {
        match ask {
            Ask::Recall(digest) => {
                let planes = self.planes.load();
                let found = self.tokens.recall(digest, now, |issuer, generation| {
                    let running = planes.get(&issuer);
                    running.is_some_and(|running| running.plane.stands(generation))
                });
                let counts = self.metrics.token_cache();
                match &found {
                    Some(_) => counts.hits.add_one(),
                    None => counts.misses.add_one(),
                }
                Ok(Answer::Recalled(found))
            }
            Ask::Keys {
                issuer,
                key_id,
                algorithm,
            } => {
                let plane = {
                    let planes = self.planes.load();
                    planes
                        .get(&issuer.id)
                        .map(|running| Arc::clone(&running.plane))
                };
                let Some(plane) = plane else {
                    return Err(gone(issuer, Reason::KeysUnavailable));
                };
                let keys = plane.keys(key_id.as_deref(), *algorithm, client).await?;
                Ok(Answer::Keys(keys))
            }
            Ask::Remember(digest, token) => {
                self.tokens.remember(digest, Arc::clone(token), now);
                Ok(Answer::Remembered)
            }
            Ask::Body { .. } => Err(Unavailable {
                reason: Reason::Internal,
                detail: "the body is the request's own, and nobody else has it".into(),
                retry_after: None,
            }),
            Ask::Client { server, client_id } => {
                let running = self.registry.load();
                let running = running.as_ref().ok_or_else(registry::gone)?;
                let client = running.registry.client(&server.issuer, client_id)?;
                Ok(Answer::Client(client))
            }
            Ask::ClientKeys { client: of, wanted } => {
                let running = self.registry.load_full().ok_or_else(registry::gone)?;
                let keys = running.registry.keys(of, wanted, client).await?;
                Ok(Answer::Keys(keys))
            }
            Ask::FirstUse {
                key,
                until,
                life,
                rule,
            } => {
                let used = (*key.as_bytes(), (*until, now), *life);
                let first = match self.first_use_here(used) {
                    Some(first) => first?,
                    // Boxed: else every request's future would carry the whole talk with the store.
                    None => Box::pin(self.first_use(used, *rule)).await?,
                };
                Ok(Answer::FirstUse(first))
            }
            Ask::Introspect {
                issuer,
                token,
                remembered,
            } => {
                let introspector = {
                    let planes = self.planes.load();
                    planes
                        .get(&issuer.id)
                        .and_then(|running| running.introspector.clone())
                };
                let Some(introspector) = introspector else {
                    return Err(gone(issuer, Reason::IntrospectionUnavailable));
                };
                let (said, how) = introspector.ask(token, *remembered, client, now).await?;
                Ok(Answer::Introspected(said, how))
            }
        }
    }

    /// Drops remembered answers of an issuer, by its name in the configuration, or of all: the next
    /// request asks again. An answer that was asked for before and comes later is not remembered.
    /// Returns how many were dropped.
    pub fn revoke(&self, issuer: Option<&str>, what: &Revoked) -> u64 {
        introspect::note_dropped(&self.introspection.dropped);
        let of: Vec<IssuerId> = {
            let planes = self.planes.load();
            planes
                .values()
                .filter(|running| issuer.is_none_or(|name| running.plane.is_named(name)))
                .map(|running| running.plane.id())
                .collect()
        };
        let answers = &self.introspection.answers;
        let dropped = answers.forget_all(|said| of.contains(&said.issuer()) && what.takes(said));
        self.metrics.introspection_cache().dropped.add(dropped);
        dropped
    }

    /// Where the use of proofs is remembered, from now on. What was remembered stays so, and where
    /// settings that changed leave something unknown it is refused (see [`Replay::renew`]). A shared
    /// store is connected to on `control`.
    ///
    /// Call it from one task at a time.
    pub fn set_replay(
        &self,
        settings: replay::Settings,
        control: &tokio::runtime::Handle,
        now: UnixTime,
    ) {
        let next = match self.replay.load_full() {
            Some(before) => before.renew(settings, control, now),
            None => Replay::start(settings, control, Arc::clone(self.metrics.replay())),
        };
        self.replay.store(Some(next));
    }

    /// The use of proofs, once there are settings.
    #[must_use]
    pub fn replay(&self) -> Option<Arc<Replay>> {
        self.replay.load_full()
    }

    /// Where the answer is with this process; `None` where it is not.
    fn first_use_here(
        &self,
        (key, times, life): (replay::Key, (UnixTime, UnixTime), Duration),
    ) -> Option<Result<bool, Unavailable>> {
        let replay = self.replay.load();
        let answer = replay.as_ref()?.first_use_here(key, times, life)?;
        Some(first(answer))
    }

    async fn first_use(
        &self,
        (key, times, life): (replay::Key, (UnixTime, UnixTime), Duration),
        rule: ReplayRule,
    ) -> Result<bool, Unavailable> {
        let Some(replay) = self.replay.load_full() else {
            let detail = "nothing is configured yet".into();
            return Err(replay_unavailable(detail, None));
        };
        first(replay.first_use_of(key, times, life, rule).await)
    }

    /// How each issuer stands, by name.
    #[must_use]
    pub fn status(&self, now: UnixTime) -> Vec<IssuerStatus> {
        let held = i64::try_from(self.tokens.len()).unwrap_or(i64::MAX);
        self.metrics.token_cache().entries.set(held);
        let (active, inactive) = self.introspection.answers.len();
        let answers = self.metrics.introspection_cache();
        answers
            .active
            .set(i64::try_from(active).unwrap_or(i64::MAX));
        answers
            .inactive
            .set(i64::try_from(inactive).unwrap_or(i64::MAX));
        let planes = self.planes.load();
        let mut all: Vec<_> = planes
            .values()
            .map(|running| IssuerStatus {
                introspection: running
                    .introspector
                    .as_ref()
                    .map(|introspector| introspector.status()),
                ..running.plane.status(now)
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The answer of the store of used proofs, in the words of the core.
fn first(answer: Result<replay::Use, replay::Unavailable>) -> Result<bool, Unavailable> {
    match answer {
        Ok(found) => Ok(found == replay::Use::First),
        Err(why) => Err(replay_unavailable(why.detail, why.retry_after)),
    }
}

fn replay_unavailable(detail: Box<str>, retry_after: Option<Duration>) -> Unavailable {
    Unavailable {
        reason: Reason::ReplayUnavailable,
        detail,
        retry_after,
    }
}

/// A request that began before a reload took its issuer away.
fn gone(issuer: &Issuer, reason: Reason) -> Unavailable {
    Unavailable {
        reason,
        detail: format!("issuer {} is no longer configured", issuer.name).into(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::jwks::tests::{peer, settings};
    use super::*;
    use crate::pdp::TokenDigest;
    use crate::pdp::policy::Algorithm;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn closed(path: &str) -> Settings {
        // Port 1 of this machine: refused at once.
        settings(KeySource::Uri(format!("http://127.0.0.1:1/{path}").into()))
    }

    fn planes(pip: &Pip) -> Vec<Arc<Plane>> {
        let planes = pip.planes.load();
        planes
            .values()
            .map(|running| Arc::clone(&running.plane))
            .collect()
    }

    #[tokio::test]
    async fn a_reload_keeps_what_did_not_change() {
        let pip = Pip::new(Metrics::new(NOW), tokio::runtime::Handle::current());
        let control = tokio::runtime::Handle::current();
        pip.replace(vec![closed("a")], &control);
        let first = planes(&pip);
        let mut slower = closed("a");
        slower.timeout = Duration::from_secs(9);
        pip.replace(vec![slower], &control);
        let second = planes(&pip);
        assert!(
            Arc::ptr_eq(&first[0], &second[0]),
            "other timeouts, the same keys"
        );
        pip.replace(vec![closed("b")], &control);
        let third = planes(&pip);
        assert!(
            !Arc::ptr_eq(&first[0], &third[0]),
            "another source, nothing is kept"
        );
        pip.replace(Vec::new(), &control);
        assert!(pip.status(NOW).is_empty());
        drop((second, third));
        // The background and the last fetch let go of it.
        let began = std::time::Instant::now();
        while Arc::strong_count(&first[0]) > 1 {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "something still holds it"
            );
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_not_known_is_said_to_be_unknown() {
        let metrics = Metrics::new(NOW);
        let pip = Pip::new(Arc::clone(&metrics), tokio::runtime::Handle::current());
        let client = peer("192.0.2.1:1");
        let recall = Ask::Recall(TokenDigest([1; 32]));
        let answer = pip.answer(&recall, &client, NOW).await;
        assert!(matches!(answer, Ok(Answer::Recalled(None))));
        assert_eq!(metrics.token_cache().misses.value(), 1);
        let settings = closed("a");
        let keys = Ask::Keys {
            issuer: Arc::clone(&settings.issuer),
            key_id: Some("a".into()),
            algorithm: Algorithm::Es256,
        };
        let gone = pip.answer(&keys, &client, NOW).await.unwrap_err();
        assert_eq!(gone.reason, Reason::KeysUnavailable);
        pip.replace(vec![settings], &tokio::runtime::Handle::current());
        let down = pip.answer(&keys, &client, NOW).await.unwrap_err();
        assert_eq!(down.reason, Reason::KeysUnavailable);
        assert!(down.detail.contains("127.0.0.1:1"), "{}", down.detail);
        let status = pip.status(NOW);
        assert_eq!(status.len(), 1);
        assert!(status[0].required && !status[0].ready && status[0].degraded);
        let text = metrics.render(NOW);
        let line = "portcullis_issuer_fetches_total{issuer=\"main\",result=\"unreachable\"} ";
        assert!(text.contains(line), "{text}");
    }
}
