//! Active checks: each server of an upstream is asked for a path at an interval.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request, StatusCode, Uri, Version, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connect::{Io, connect};
use super::shared::{ServerState, Shared};
use super::{Health, Protocol};

/// Checks the servers until it is dropped; returns at once where the upstream has no `health`.
/// It runs on any runtime and needs no [`tokio::task::LocalSet`].
pub async fn run(shared: Arc<Shared>) {
    let Some(health) = shared.settings().health.clone() else {
        return;
    };
    let mut ticks = interval(health.every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        join_all(shared.servers.iter().map(|server| async {
            let verdict = check(&shared, server, &health).await;
            shared.checked(server, verdict);
        }))
        .await;
    }
}

/// Tries each server once: its health path where there is one, else a connection, TLS included.
/// What came of it, in words.
pub async fn probe(shared: &Shared) -> Vec<(String, Result<String, String>)> {
    let settings = shared.settings();
    join_all(shared.servers.iter().map(|server| async {
        let result = match &settings.health {
            Some(health) => check(shared, server, health)
                .await
                .map(|()| format!("{} is well", health.path)),
            None => connect(settings, &server.server, None)
                .await
                .map(|_io| "it takes connections".to_owned())
                .map_err(|error| error.detail),
        };
        (server.authority.clone(), result)
    }))
    .await
    .into_iter()
    .map(|(authority, result)| (authority.to_string(), result))
    .collect()
}

/// Whether the server answers with 2xx or 3xx in time.
async fn check(shared: &Shared, server: &ServerState, health: &Health) -> Result<(), String> {
    let settings = shared.settings();
    let io = connect(settings, &server.server, None)
        .await
        .map_err(|error| error.detail)?;
    let limit = settings.response_timeout;
    let status = timeout(limit, ask(io, shared, server, health))
        .await
        .map_err(|_elapsed| format!("no answer in {limit:?}"))??;
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("status {status}"))
    }
}

async fn ask(
    io: Io,
    shared: &Shared,
    server: &ServerState,
    health: &Health,
) -> Result<StatusCode, String> {
    let settings = shared.settings();
    let path = format!("{}{}", server.server.prefix, health.path);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    let io = TokioIo::new(io);
    let plain = |error: hyper::Error| error.to_string();
    // The connection is driven here and dropped with the answer's head: a check leaves nothing.
    match settings.protocol {
        Protocol::Http1 => {
            *request.uri_mut() = path
                .parse()
                .map_err(|error| format!("health.path: {error}"))?;
            let host = server
                .authority
                .parse()
                .map_err(|error| format!("host: {error}"))?;
            request.headers_mut().insert(header::HOST, host);
            let (mut sender, connection) = http1::handshake(io).await.map_err(plain)?;
            let answer = sender.send_request(request);
            tokio::pin!(answer, connection);
            let mut open = true;
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answer => return answer.map(|a| a.status()).map_err(plain),
                    _ = &mut connection, if open => open = false,
                }
            }
        }
        Protocol::Http2 => {
            let scheme = if settings.tls.is_some() {
                "https"
            } else {
                "http"
            };
            *request.uri_mut() = Uri::builder()
                .scheme(scheme)
                .authority(&*server.authority)
                .path_and_query(path)
                .build()
                .map_err(|error| format!("health.path: {error}"))?;
            *request.version_mut() = Version::HTTP_2;
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(plain)?;
            let answer = sender.send_request(request);
            tokio::pin!(answer, connection);
            let mut open = true;
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answer => return answer.map(|a| a.status()).map_err(plain),
                    _ = &mut connection, if open => open = false,
                }
            }
        }
    }
}
