//! Keeps the connections to the shared store, on the control runtime: finds the primary, probes it,
//! looks at it each second, and starts again when it is gone.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::address::Kind;
use super::breaker::BreakerState;
use super::link::{Dial, Reply};
use super::route::{self, Route, asked, unexpected};
use super::shared::{PREFIX, Store};
use super::standing::{Marker, Past, Standing, examine};
use crate::clock;
use crate::pdp::UnixTime;

/// Each step of finding and connecting takes this long at most.
const STEP: Duration = Duration::from_secs(2);

/// How often a server is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// After so many looks, the primary is looked for anew, beside the connection in use.
const FIND_AGAIN: u32 = 5;

/// A route that served for less than this is given up like one that was never found, so that a
/// server that accepts and closes is not asked without a pause.
const SHORT: Duration = Duration::from_secs(1);

/// What this process knows of the servers.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of the one primary.
    past: Past,
    /// Of a cluster: each server by who it is, with the keys that it dropped for want of memory.
    cluster: Option<HashMap<String, u64>>,
    warned_of_eviction: bool,
}

/// Why a route is given up.
enum Stop {
    /// It no longer serves.
    Broken(String),
    /// Its servers are looked for again at once; with `true` it is used until they are found.
    Changed(&'static str, bool),
}

/// Runs until it is aborted.
pub(super) async fn keep(store: Arc<Store>) {
    let dial = Dial {
        tls: store.settings.tls.clone(),
        login: store.settings.address.login.clone(),
        database: store.settings.address.database,
    };
    // Free once the keeper of the store before is gone.
    let mut known = Arc::clone(&store.known).lock_owned().await;
    loop {
        if store.route.load().is_none() {
            store.circuit.probe();
            show(&store);
        }
        let began = Instant::now();
        let stop = match connect(&store, &dial, &mut known).await {
            Ok(route) => {
                let route = Arc::new(route);
                store.set_error(route.missing.as_deref());
                store.route.store(Some(Arc::clone(&route)));
                // A word about the one before says nothing of this one.
                let _stale = store.trouble.notified().now_or_never();
                if store.circuit.state() != BreakerState::Closed {
                    tracing::info!(store = %store.settings.address, "the replay store answers");
                }
                store.circuit.close();
                show(&store);
                watch(&store, &dial, &mut known, &route).await
            }
            Err(error) => Stop::Broken(error),
        };
        let error = match stop {
            Stop::Changed(why, true) => {
                tracing::info!(why, "the servers of the replay store are looked for again");
                sleep(SHORT.saturating_sub(began.elapsed())).await;
                continue;
            }
            Stop::Changed(why, false) if began.elapsed() >= SHORT => {
                tracing::info!(why, "the servers of the replay store are looked for again");
                store.route.store(None);
                continue;
            }
            Stop::Changed(why, _) => why.to_owned(),
            Stop::Broken(error) => error,
        };
        store.route.store(None);
        store.set_error(Some(&error));
        let wait = store.circuit.open();
        show(&store);
        tracing::warn!(
            store = %store.settings.address,
            error,
            next_try_in = ?wait,
            "the replay store is out of reach"
        );
        sleep(wait).await;
    }
}

/// Finds the primaries, makes sure that they take writes, and what they may have lost.
async fn connect(store: &Store, dial: &Dial, known: &mut Known) -> Result<Route, String> {
    let found = route::find(&store.settings.address, dial, STEP).await;
    let route = found.map_err(|missing| missing.text)?;
    if let Some((link, _)) = route.single() {
        // What a use would do: a server that is full, a replica, or a user without the right
        // refuses it.
        let name = format!("{PREFIX}probe");
        let set: [&[u8]; 6] = [b"SET", name.as_bytes(), b"1", b"NX", b"PX", b"1000"];
        match asked(link, &set, STEP).await? {
            Reply::Done | Reply::Nothing => {}
            refused => return Err(format!("{}: {}", link.server, unexpected(&refused))),
        }
    }
    let standings: Vec<_> = route.links.iter().map(|(_, said)| said.clone()).collect();
    weigh(store, &route, known, &standings, STEP).await?;
    Ok(route)
}

/// Looks after a route until it should be given up.
async fn watch(store: &Store, dial: &Dial, known: &mut Known, route: &Arc<Route>) -> Stop {
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closed = pin!(route.closed());
    let mut count = 0_u32;
    loop {
        tokio::select! {
            () = &mut closed => {
                return Stop::Changed("a connection was closed", route.is_cluster());
            }
            () = store.trouble.notified() => {
                if store.circuit.tripped() {
                    return Stop::Broken(store.last_error().unwrap_or_default().into());
                }
                return Stop::Changed("another server serves", route.is_cluster());
            }
            _ = looks.tick() => {}
        }
        match look(store, route, known).await {
            Ok(true) => {}
            Ok(false) => return Stop::Changed("the primary is one no more", route.is_cluster()),
            Err(error) => {
                store.set_error(Some(&error));
                if store.circuit.failed() {
                    return Stop::Broken(error);
                }
                continue;
            }
        }
        store.circuit.succeeded();
        store.set_error(route.missing.as_deref());
        if route.missing.is_some() {
            return Stop::Changed("not all servers were reached", true);
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(FIND_AGAIN)
            && let Some(stop) = beside(store, dial, route).await
        {
            return stop;
        }
    }
}

/// Asks every server of the route who it is; false: one is no primary any more.
async fn look(store: &Store, route: &Route, known: &mut Known) -> Result<bool, String> {
    let within = store.settings.timeout;
    let mut standings = Vec::with_capacity(route.links.len());
    for (link, _) in &route.links {
        standings.push(route::standing(link, within).await?);
    }
    weigh(store, route, known, &standings, within).await?;
    Ok(standings.iter().all(|standing| standing.primary))
}

/// What follows from what the servers said.
async fn weigh(
    store: &Store,
    route: &Route,
    known: &mut Known,
    standings: &[Standing],
    within: Duration,
) -> Result<(), String> {
    let now = clock::now();
    if standings.iter().any(|standing| standing.evicts) && !known.warned_of_eviction {
        known.warned_of_eviction = true;
        tracing::warn!(
            store = %store.settings.address,
            "the replay store may drop keys for want of memory; set maxmemory-policy noeviction"
        );
    }
    let (Some((link, _)), Some(standing)) = (route.single(), standings.first()) else {
        weigh_cluster(store, known, standings, now);
        return Ok(());
    };
    let name = format!("{PREFIX}primary");
    let marker = match asked(link, &[b"GET", name.as_bytes()], within).await? {
        Reply::Text(text) => Marker::read(&text),
        Reply::Nothing => None,
        other => return Err(format!("{}: GET: {}", link.server, unexpected(&other))),
    };
    let found = examine(&mut known.past, standing, marker.as_ref(), now);
    // The fence stands before anything is written: who reads the marker may trust it.
    lost(store, found.lost_at, found.news);
    if let Some(marker) = found.write {
        let text = marker.write();
        match asked(link, &[b"SET", name.as_bytes(), text.as_bytes()], within).await? {
            Reply::Done => {}
            other => return Err(format!("{}: SET: {}", link.server, unexpected(&other))),
        }
    }
    Ok(())
}

/// A cluster has no place for one marker: what this process saw must do.
fn weigh_cluster(store: &Store, known: &mut Known, standings: &[Standing], now: UnixTime) {
    let first = known.cluster.is_none();
    let servers = known.cluster.get_or_insert_default();
    for standing in standings {
        let before = servers.insert(standing.identity.clone(), standing.evicted);
        let (at, news) = match before {
            None if first && standing.promoted => (now.as_secs(), None),
            None if first => (now.as_secs().saturating_sub(standing.up), None),
            None => (
                now.as_secs(),
                Some("a server of the cluster is new as a primary"),
            ),
            Some(evicted) if standing.evicted > evicted => (
                now.as_secs(),
                Some("the store dropped keys for want of memory"),
            ),
            Some(_) => continue,
        };
        lost(store, at, news);
    }
}

fn lost(store: &Store, at: u64, news: Option<&str>) {
    store.lost(at);
    if let Some(news) = news {
        store.metrics.losses.add_one();
        tracing::warn!(
            store = %store.settings.address,
            news,
            "the replay store may have lost uses; proofs of that time are refused"
        );
    }
}

/// Looks for the primary beside the connection in use: it may be that another was promoted while
/// ours, cut off from the rest, goes on.
async fn beside(store: &Store, dial: &Dial, route: &Route) -> Option<Stop> {
    let address = &store.settings.address;
    let (link, _) = route.single()?;
    if matches!(address.kind, Kind::Servers) && address.servers.len() == 1 {
        return None;
    }
    match route::find(address, dial, STEP).await {
        Ok(found) if found.to(&link.server).is_none() => {
            Some(Stop::Changed("another server is the primary", false))
        }
        Err(missing) if missing.split => Some(Stop::Broken(missing.text)),
        // Whoever knows better is out of reach; the connection in use is not.
        Ok(_) | Err(_) => None,
    }
}

fn show(store: &Store) {
    let state = store.circuit.state();
    store.metrics.breaker.set(match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    });
    let reachable = state == BreakerState::Closed;
    store.metrics.reachable.set(i64::from(reachable));
}
