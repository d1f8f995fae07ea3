//! Key sets of clients that publish them themselves (`jwks_uri`): each kept fresh by the same
//! machinery as an issuer's, from the first time that it is wanted, and of a bounded number.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Settings, unavailable};
use crate::pdp::authorization::{Client, ClientKeys, Clients, Wanted};
use crate::pdp::policy::Algorithm;
use crate::pdp::{Issuer, IssuerId, KeySet, Peer, Unavailable};
use crate::pip::fetch::Aborted;
use crate::pip::jwks::Plane;
use crate::pip::{self, KeySource};
use crate::refusal::Reason;
use crate::telemetry::metrics::IssuerMetrics;

/// Key sets held at once. Beyond them the one that was not wanted for the longest time goes.
const SETS: usize = 2048;
/// At most one fetch of one set in this time, whatever `kid` is wanted.
const COOLDOWN: Duration = Duration::from_secs(5);
/// How often a set is fetched ahead of need.
const EVERY: Duration = Duration::from_secs(300);

pub(super) struct KeySets {
    sets: Mutex<HashMap<Box<str>, Set>>,
    generations: Arc<AtomicU64>,
    metrics: Arc<IssuerMetrics>,
    control: Handle,
}

struct Set {
    plane: Arc<Plane>,
    wanted: Instant,
    _background: Aborted,
}

impl KeySets {
    pub(super) fn new(
        generations: Arc<AtomicU64>,
        metrics: Arc<IssuerMetrics>,
        control: &Handle,
    ) -> Self {
        Self {
            sets: Mutex::default(),
            generations,
            metrics,
            control: control.clone(),
        }
    }

    /// The keys of a client, as fresh as the bounds allow where one wanted is not among them.
    pub(super) async fn of(
        &self,
        client: &Client,
        wanted: &[Wanted],
        peer: &Peer,
        settings: &Settings,
    ) -> Result<Arc<KeySet>, Unavailable> {
        let ClientKeys::At(uri) = &client.keys else {
            return Err(unavailable("the client has no jwks_uri"));
        };
        let plane = self.plane(uri, settings);
        let mut keys = None;
        for one in wanted {
            let found = plane.keys(one.key_id.as_deref(), one.algorithm, peer).await;
            keys = Some(found.map_err(|why| Unavailable {
                reason: Reason::RegistryUnavailable,
                ..why
            })?);
        }
        keys.ok_or_else(|| unavailable("no key was wanted"))
    }

    fn plane(&self, uri: &str, settings: &Settings) -> Arc<Plane> {
        let mut sets = self.sets();
        if let Some(set) = sets.get_mut(uri) {
            set.wanted = Instant::now();
            return Arc::clone(&set.plane);
        }
        if sets.len() >= SETS {
            let oldest = sets.iter().min_by_key(|(_, set)| set.wanted);
            if let Some(oldest) = oldest.map(|(uri, _)| uri.clone()) {
                sets.remove(&oldest);
            }
        }
        let plane = Plane::new(
            published(uri, settings),
            self.control.clone(),
            Arc::clone(&self.generations),
            Arc::clone(&self.metrics),
        );
        let background = self.control.spawn(Arc::clone(&plane).keep_fresh());
        let set = Set {
            plane: Arc::clone(&plane),
            wanted: Instant::now(),
            _background: Aborted(background.abort_handle()),
        };
        sets.insert(uri.into(), set);
        plane
    }

    /// Other settings from now on; what is held stays.
    pub(super) fn set(&self, settings: &Settings) {
        for (uri, set) in self.sets().iter() {
            set.plane.set(published(uri, settings));
        }
    }

    /// Forgets the sets that no client names any more.
    pub(super) fn keep_only(&self, clients: &Clients) {
        let named: std::collections::HashSet<&str> = clients
            .all()
            .filter_map(|client| match &client.keys {
                ClientKeys::At(uri) => Some(&**uri),
                ClientKeys::None | ClientKeys::Held(_) => None,
            })
            .collect();
        self.sets().retain(|uri, _| named.contains(&**uri));
    }

    fn sets(&self) -> MutexGuard<'_, HashMap<Box<str>, Set>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client in the place of an issuer: it publishes keys, and nothing else of it is looked at.
fn published(uri: &str, settings: &Settings) -> pip::Settings {
    let nobody = Issuer {
        id: IssuerId(u32::MAX),
        name: format!("client at {uri}").into(),
        issuer: uri.into(),
        audience: Vec::new(),
        algorithms: vec![Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        token_types: Vec::new(),
        clock_skew: Duration::ZERO,
        exp_leeway: Duration::ZERO,
        max_lifetime: Duration::ZERO,
        client_id_claims: Vec::new(),
        scope_claims: Vec::new(),
        introspection: None,
    };
    pip::Settings {
        issuer: Arc::new(nobody),
        source: KeySource::Uri(uri.into()),
        tls: settings.tls.clone(),
        proxy: settings.proxy.clone(),
        hosts: Vec::new(),
        timeout: settings.timeout,
        refresh_cooldown: COOLDOWN,
        refresh_every: EVERY,
        keep_last_good_for: settings.keep_last_good_for,
        snapshot: None,
        required: false,
        introspection: None,
    }
}
