//! `check --online`: whether those whom the configuration names answer as it needs them to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::config::Checked;
use crate::pdp::{AccessToken, Ask, Peer};
use crate::pip::{self, Pip};
use crate::replay::{self, Replay};
use crate::telemetry::Metrics;
use crate::{clock, upstream};

/// What was tried, and what came of it.
pub(super) struct Tried {
    /// Such as `issuer main: keys`.
    pub(super) what: String,
    /// In words, both ways.
    pub(super) result: Result<String, String>,
}

/// Fetches discovery and keys of each issuer, asks each introspection endpoint about a token that
/// was never issued, and connects to the replay store and to each server of each upstream. Nothing
/// else is touched.
///
/// # Errors
/// No runtime can be had.
pub(super) fn check(checked: Checked) -> std::io::Result<Vec<Tried>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let metrics = Metrics::new(clock::now());
    let tried = runtime.block_on(async {
        let mut tried = Vec::new();
        let issuers = checked.issuers.clone();
        let handle = runtime.handle();
        let pip = Pip::new(Arc::clone(&metrics), handle.clone());
        pip.replace(checked.issuers, handle);
        for settings in &issuers {
            tried.push(keys(&pip, settings).await);
            tried.extend(introspection(&pip, settings).await);
        }
        tried.extend(store(checked.replay, &metrics, handle).await);
        for settings in checked.upstreams {
            let name = Arc::clone(&settings.name);
            let shared = upstream::Shared::new(settings, &metrics);
            for (server, result) in upstream::health::probe(&shared).await {
                tried.push(Tried {
                    what: format!("upstream {name}: {server}"),
                    result,
                });
            }
        }
        tried
    });
    runtime.shutdown_background();
    Ok(tried)
}

async fn keys(pip: &Pip, settings: &pip::Settings) -> Tried {
    let name = &settings.issuer.name;
    let until = Instant::now() + settings.timeout.saturating_mul(2) + Duration::from_secs(1);
    let result = loop {
        let status = pip.status(clock::now());
        let of = status.into_iter().find(|issuer| issuer.name == *name);
        match of {
            Some(issuer) if issuer.ready && !issuer.degraded => {
                break Ok(format!("keys {}", issuer.key_ids.join(" ")));
            }
            Some(issuer) if issuer.last_error.is_some() => {
                break Err(issuer.last_error.unwrap_or_default());
            }
            _ if Instant::now() > until => break Err("no answer came".to_owned()),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    Tried {
        what: format!("issuer {name}: keys"),
        result,
    }
}

/// Connects to the store of used proofs as the gate would: it must be the primary, take a write and
/// say who it is.
async fn store(settings: replay::Settings, metrics: &Metrics, handle: &Handle) -> Option<Tried> {
    let until = Instant::now() + Duration::from_secs(5);
    let replay = Replay::start(settings, handle, Arc::clone(metrics.replay()));
    loop {
        let status = replay.status();
        let what = format!("replay store {}", status.shared?);
        let result = if status.reachable {
            Ok("it takes writes".to_owned())
        } else if status.breaker == replay::BreakerState::Open || Instant::now() > until {
            Err(status.last_error.unwrap_or_default().into())
        } else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        return Some(Tried { what, result });
    }
}

async fn introspection(pip: &Pip, settings: &pip::Settings) -> Option<Tried> {
    settings.introspection.as_ref()?;
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let nobody = Peer {
        remote: nowhere,
        local: nowhere,
        listener: "check".into(),
        certificate: None,
    };
    let ask = Ask::Introspect {
        issuer: Arc::clone(&settings.issuer),
        token: AccessToken::new("portcullis-check-this-token-was-never-issued"),
        remembered: false,
    };
    let answer = pip.answer(&ask, &nobody, clock::now()).await;
    Some(Tried {
        what: format!("issuer {}: introspection", settings.issuer.name),
        result: answer
            .map(|_said| "it answers us".to_owned())
            .map_err(|why| why.detail.into()),
    })
}
