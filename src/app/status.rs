//! What the admin endpoints say of the whole process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::pdp::UnixTime;
use crate::pip::Pip;
use crate::pip::introspect::BreakerState;
use crate::pipeline::Shared;
use crate::telemetry::Metrics;
use crate::{admin, clock, replay, upstream};

/// What only the control side knows: written at start and at each reload.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts {
    pub(super) generation: u64,
    pub(super) loaded: Option<UnixTime>,
    /// Why the last reload changed nothing; `None` if it did, or if there was none.
    pub(super) reload_error: Option<String>,
    pub(super) listeners: Vec<(Arc<str>, SocketAddr)>,
    pub(super) upstreams: Vec<Arc<upstream::Shared>>,
    pub(super) shared: Option<Arc<Shared>>,
}

/// See [`admin::State`].
#[derive(Debug)]
pub(super) struct Status {
    metrics: Arc<Metrics>,
    pip: Arc<Pip>,
    draining: AtomicBool,
    bound: AtomicBool,
    facts: ArcSwap<Facts>,
}

impl Status {
    pub(super) fn new(metrics: Arc<Metrics>, pip: Arc<Pip>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            pip,
            draining: AtomicBool::new(false),
            bound: AtomicBool::new(false),
            facts: ArcSwap::default(),
        })
    }

    /// Listeners are bound.
    pub(super) fn bound(&self) {
        self.bound.store(true, Ordering::Release);
    }

    /// Load balancers are to look elsewhere; what comes is still served.
    pub(super) fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Another configuration is in force.
    pub(super) fn publish(&self, facts: Facts) {
        self.facts.store(Arc::new(facts));
    }

    /// Another one was refused.
    pub(super) fn refused(&self, why: &str) {
        self.facts.rcu(|facts| Facts {
            reload_error: Some(why.to_owned()),
            ..Facts::clone(facts)
        });
    }
}

impl admin::State for Status {
    fn ready(&self) -> Result<(), Vec<String>> {
        let mut missing = Vec::new();
        if !self.bound.load(Ordering::Acquire) {
            missing.push("listeners are not bound yet".to_owned());
        }
        if self.draining.load(Ordering::Acquire) {
            missing.push("draining".to_owned());
        }
        for issuer in self.pip.status(clock::now()) {
            if issuer.required && !issuer.ready {
                missing.push(format!("issuer {} has had no keys yet", issuer.name));
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing)
        }
    }

    fn status(&self) -> Value {
        let now = clock::now();
        let facts = self.facts.load();
        let issuers: Vec<Value> = self
            .pip
            .status(now)
            .into_iter()
            .map(|issuer| {
                json!({
                    "name": &*issuer.name,
                    "issuer": issuer.issuer,
                    "required": issuer.required,
                    "ready": issuer.ready,
                    "degraded": issuer.degraded,
                    "key_ids": issuer.key_ids,
                    "keys_age_seconds": issuer.age.map(|age| age.as_secs()),
                    "last_error": issuer.last_error,
                    "introspection": issuer.introspection.map(|how| json!({
                        "breaker": how.breaker.name(),
                        "last_error": how.last_error,
                    })),
                })
            })
            .collect();
        let routes = facts
            .shared
            .as_ref()
            .map(|shared| shared.routes())
            .unwrap_or_default();
        let listeners: Vec<Value> = facts
            .listeners
            .iter()
            .map(|(name, address)| json!({ "name": &**name, "address": address.to_string() }))
            .collect();
        let upstreams: Vec<Value> = facts
            .upstreams
            .iter()
            .map(|shared| upstream_status(shared))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": facts.generation,
            "loaded_at": facts.loaded.map(UnixTime::as_secs),
            "last_reload_error": facts.reload_error,
            "draining": self.draining.load(Ordering::Acquire),
            "degraded": !self.degraded().is_empty(),
            "listeners": listeners,
            "issuers": issuers,
            "replay": self.pip.replay().map(|replay| replay_status(&replay.status())),
            "routes": routes,
            "upstreams": upstreams,
        })
    }

    fn degraded(&self) -> Vec<String> {
        let mut degraded: Vec<String> = self
            .pip
            .status(clock::now())
            .into_iter()
            .flat_map(|issuer| {
                let asked = issuer.introspection.as_ref();
                let left_alone = asked.is_some_and(|how| how.breaker != BreakerState::Closed);
                let keys = issuer.degraded.then(|| format!("issuer {}", issuer.name));
                let introspection =
                    left_alone.then(|| format!("introspection of issuer {}", issuer.name));
                keys.into_iter().chain(introspection)
            })
            .collect();
        if self
            .pip
            .replay()
            .is_some_and(|replay| !replay.status().reachable)
        {
            degraded.push("the store of used DPoP proofs".to_owned());
        }
        let facts = self.facts.load();
        degraded.extend(
            facts
                .upstreams
                .iter()
                .filter(|up| {
                    up.status()
                        .iter()
                        .any(|server| !server.healthy || server.ejected)
                })
                .map(|up| format!("upstream {}", up.settings().name)),
        );
        let audit = facts.shared.as_ref().and_then(|shared| shared.audit());
        if audit.is_some_and(|audit| !audit.healthy()) {
            degraded.push("the audit log cannot be written".to_owned());
        }
        if facts.reload_error.is_some() {
            degraded.push("the last reload was refused".to_owned());
        }
        degraded
    }

    fn metrics(&self) -> String {
        self.metrics.set_degraded(!self.degraded().is_empty());
        self.metrics.render(clock::now())
    }
}

/// How far the memory of used proofs reaches (DPOP-24), and how it is.
fn replay_status(status: &replay::Status) -> Value {
    json!({
        "store": status.shared.as_deref().unwrap_or("memory"),
        "shared": status.shared.is_some(),
        "reachable": status.reachable,
        "breaker": status.breaker.name(),
        "entries": status.entries,
        "last_error": status.last_error,
    })
}

fn upstream_status(shared: &upstream::Shared) -> Value {
    let servers: Vec<Value> = shared
        .status()
        .into_iter()
        .map(|server| {
            json!({
                "server": server.server,
                "healthy": server.healthy,
                "ejected": server.ejected,
                "connections": server.connections,
            })
        })
        .collect();
    json!({ "name": &*shared.settings().name, "servers": servers })
}
