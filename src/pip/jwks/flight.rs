//! One fetch: from the address to the keys, on the control runtime, and its end for all that wait.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use bytes::Bytes;

use super::{Keys, Plane};
use crate::pdp::UnixTime;
use crate::pip::fetch::{self, Failure, Way};
use crate::pip::learned::configured;
use crate::pip::{KeySource, Settings, discovery, snapshot};
use crate::telemetry::metrics::FetchResult;

impl<K: Keys> Plane<K> {
    /// Starts the fetch that the schedule noted.
    pub(super) fn launch(self: &Arc<Self>) {
        let flight = Flight {
            plane: Arc::clone(self),
            good: false,
        };
        self.control.spawn(flight.run());
    }

    async fn fetch(&self, settings: &Settings) -> Result<Bytes, Failure> {
        let way = Way {
            tls: &settings.tls,
            proxy: settings.proxy.as_deref(),
        };
        let address = match &settings.source {
            KeySource::Uri(uri) => configured(uri)?,
            KeySource::Discovery(uri) => {
                let issuer = &settings.issuer.issuer;
                let read =
                    |metadata: &[u8]| discovery::keys_address(metadata, issuer, &settings.hosts);
                self.learned.or_read(uri, way, read).await?
            }
            KeySource::File(_, content) => return Ok(Bytes::copy_from_slice(content)),
        };
        let fetched = fetch::get(&address, way).await;
        if fetched.is_err() {
            // The keys may have moved: the next fetch asks where they are.
            self.learned.forget();
        }
        fetched
    }
}

/// A fetch under way. Whatever ends it, those who wait are told: its destructor does so.
struct Flight<K: Keys> {
    plane: Arc<Plane<K>>,
    good: bool,
}

impl<K: Keys> Flight<K> {
    async fn run(mut self) {
        let plane = Arc::clone(&self.plane);
        let settings = plane.settings.load_full();
        let timeout = settings.timeout;
        let fetched = match tokio::time::timeout(timeout, plane.fetch(&settings)).await {
            Ok(fetched) => fetched,
            Err(_) => {
                plane.learned.forget();
                Err(Failure::timeout(timeout))
            }
        };
        let now = crate::clock::now();
        let keep = Some(settings.keep_last_good_for);
        let held = fetched.and_then(|jwks| match plane.hold(&settings, &jwks, now, keep) {
            Ok(()) => Ok(jwks),
            Err(error) => Err(Failure::new(FetchResult::Unusable, error)),
        });
        match held {
            Ok(jwks) => {
                plane.metrics.fetched(FetchResult::Ok);
                plane.last_error.store(None);
                self.good = true;
                // Those who wait need not wait for the disk.
                drop(self);
                keep_snapshot(&settings, jwks, now).await;
            }
            Err(failure) => plane.failed(&settings, &failure),
        }
    }
}

impl<K: Keys> Drop for Flight<K> {
    fn drop(&mut self) {
        let plane = &self.plane;
        #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
        let jitter = RandomState::new().build_hasher().finish() as u32;
        {
            let mut schedule = plane.schedule();
            schedule.end(plane.now(), self.good, jitter);
            plane
                .ended
                .send_modify(|ended| *ended = ended.wrapping_add(1));
        }
        plane.wake.notify_one();
    }
}

async fn keep_snapshot(settings: &Arc<Settings>, jwks: Bytes, now: UnixTime) {
    if settings.snapshot.is_none() {
        return;
    }
    let of = Arc::clone(settings);
    let written = tokio::task::spawn_blocking(move || match &of.snapshot {
        Some(path) => snapshot::write(path, &of.issuer.issuer, &jwks, now),
        None => Ok(()),
    });
    let error = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(error) => error.to_string(),
    };
    let name = &*settings.issuer.name;
    tracing::warn!(issuer = name, %error, "the snapshot of the keys cannot be written");
}
