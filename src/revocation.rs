//! The door for those who know that tokens are void before we would ask again: an authorization
//! server or an operator says so, and what is remembered of those tokens is dropped at once.
//!
//! It is a listener of its own, off unless the file has `[revocation]`. Whoever calls shows a
//! certificate, a secret or both. Nothing here can make a token good: the worst that a caller can
//! do is to make us ask again.

mod order;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::order::Order;
use crate::clock;
use crate::pdp::{Peer, Standing};
use crate::pip::Pip;
use crate::telemetry::Secret;
use crate::telemetry::redact::clean;
use crate::tls::{self, Alpn, ConnectionTrust, Current, Directory, DirectoryEntry, ServerTls};

/// `[revocation]`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where. A change needs a restart.
    pub address: SocketAddr,
    /// What callers send as `Authorization: Bearer`.
    pub secret: Option<Secret<Box<str>>>,
    /// TLS, with client certificates; `None` on a loopback address alone.
    pub tls: Option<tls::Settings>,
}

/// Connections at once. Few call, and seldom.
const CONNECTIONS: usize = 16;

/// For the handshake, the head of a request, and how long a connection may wait for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection lives, whatever comes over it.
const LIFE: Duration = Duration::from_secs(600);

/// Bytes of a request body.
const LARGEST: usize = 4 * 1024;

/// Who may call, as last loaded.
pub struct Door {
    /// As written where it was bound: terms were checked for that address and for no other.
    address: SocketAddr,
    terms: ArcSwap<Terms>,
    current: Arc<Current>,
    pip: Arc<Pip>,
}

struct Terms {
    secret: Option<Secret<Box<str>>>,
    /// Whether a caller must have a certificate.
    certificate: bool,
    tls: Option<(Arc<ServerTls>, Arc<Directory>)>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Door {
    /// A door with these terms.
    ///
    /// # Errors
    /// TLS cannot be built.
    pub fn new(settings: &Settings, pip: Arc<Pip>) -> Result<Arc<Self>, String> {
        let terms = Terms::new(settings, None)?;
        let current = Current::new(terms.tls.iter().map(|(tls, _)| Arc::clone(tls)));
        Ok(Arc::new(Self {
            address: settings.address,
            terms: ArcSwap::from_pointee(terms),
            current,
            pip,
        }))
    }

    /// Other terms from now on, for connections that are open too. The address stays: terms that
    /// were written for another one change nothing here, since what is enough on loopback is not
    /// where others can reach.
    ///
    /// # Errors
    /// TLS cannot be built; then nothing has changed.
    pub fn set(&self, settings: &Settings) -> Result<(), String> {
        if settings.address != self.address {
            return Ok(());
        }
        let before = self.terms.load();
        let terms = Terms::new(settings, before.tls.as_ref().map(|(tls, _)| tls))?;
        self.current
            .replace(terms.tls.iter().map(|(tls, _)| Arc::clone(tls)));
        self.terms.store(Arc::new(terms));
        Ok(())
    }

    /// Serves for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let (stream, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the revocation address cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                continue;
            };
            let door = Arc::clone(&self);
            tokio::spawn(async move {
                let _permit = permit;
                // A caller that is slow or breaks off harms nobody but itself.
                if tokio::time::timeout(LIFE, door.connection(stream, remote))
                    .await
                    .is_err()
                {
                    tracing::debug!("a revocation connection was cut after its time");
                }
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let terms = self.terms.load_full();
        let Some((_, directory)) = &terms.tls else {
            let caller = Caller {
                remote,
                known: None,
            };
            return self.speak(TokioIo::new(stream), Alpn::Http1, caller).await;
        };
        let local = stream.local_addr().unwrap_or(remote);
        let current = &self.current;
        let secured = tls::handshake(stream, remote, local, directory, current, clock::now).await;
        match secured {
            Ok(secured) => {
                let caller = Caller {
                    remote,
                    known: Some((Arc::clone(&secured.peer), Mutex::new(secured.trust))),
                };
                let protocol = secured.protocol;
                self.speak(TokioIo::new(secured.stream), protocol, caller)
                    .await;
            }
            Err(failed) => tracing::warn!(
                %remote,
                reason = failed.reason.code(),
                detail = &*clean(&failed.detail, 200),
                "revocation: no connection"
            ),
        }
    }

    async fn speak<S>(self: Arc<Self>, stream: TokioIo<S>, protocol: Alpn, caller: Caller)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let caller = Arc::new(caller);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (door, caller) = (Arc::clone(&self), Arc::clone(&caller));
            async move { Ok::<_, Infallible>(door.answer(request, &caller).await) }
        });
        let ended = match protocol {
            Alpn::Http1 => {
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .max_buf_size(16 * 1024)
                    .serve_connection(stream, service)
                    .await
            }
            Alpn::Http2 => {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(8)
                    .max_header_list_size(16 * 1024)
                    .serve_connection(stream, service)
                    .await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a revocation connection ended");
        }
    }

    /// One answer, and a line of the log for what was done or refused.
    async fn answer<B>(&self, request: Request<B>, caller: &Caller) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        if !self.admits(&parts.headers, caller) {
            tracing::warn!(caller = %caller, "revocation refused: not known here");
            let mut answer = said(
                StatusCode::UNAUTHORIZED,
                "a certificate or secret is missing, or not the right one",
            );
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        if parts.uri.path() != "/revocations" {
            return said(StatusCode::NOT_FOUND, "not found: POST /revocations");
        }
        if parts.method != Method::POST {
            let mut answer = said(StatusCode::METHOD_NOT_ALLOWED, "POST only");
            answer
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let read = tokio::time::timeout(PATIENCE, Limited::new(body, LARGEST).collect()).await;
        let Ok(Ok(body)) = read else {
            return said(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than 4 KiB, or came too slowly",
            );
        };
        let order = match Order::read(&body.to_bytes()) {
            Ok(order) => order,
            Err(why) => return said(StatusCode::BAD_REQUEST, &why),
        };
        let dropped = self.pip.revoke(order.issuer.as_deref(), &order.what);
        // OPS: who made us forget what; a token is named by its digest alone.
        tracing::info!(
            caller = %caller,
            issuer = order.issuer.as_deref().map(|name| clean(name, 100).into_owned()),
            what = &*clean(&order.described, 200),
            dropped,
            "revocation: remembered answers were dropped"
        );
        json(StatusCode::OK, &serde_json::json!({ "dropped": dropped }))
    }

    /// Whether the caller may say anything: whatever the file asks for, at each request.
    fn admits(&self, headers: &HeaderMap, caller: &Caller) -> bool {
        let terms = self.terms.load();
        let certificate = match (&terms.tls, &caller.known) {
            (None, _) => true,
            // The connection began before TLS was asked for.
            (Some(_), None) => false,
            (Some(_), Some((_, trust))) => {
                let trust = trust.lock().unwrap_or_else(PoisonError::into_inner);
                match trust.standing(clock::now()) {
                    Some(standing) => standing == Standing::Trusted,
                    None => !terms.certificate,
                }
            }
        };
        let secret = match &terms.secret {
            None => terms.certificate,
            Some(secret) => {
                let mut fields = headers.get_all(header::AUTHORIZATION).iter();
                let one = fields.next().filter(|_| fields.next().is_none());
                one.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
                    .is_some_and(|sent| {
                        verify_slices_are_equal(sent, secret.expose().as_bytes()).is_ok()
                    })
            }
        };
        certificate && secret
    }
}

impl Terms {
    fn new(settings: &Settings, before: Option<&Arc<ServerTls>>) -> Result<Self, String> {
        let tls = match &settings.tls {
            None => None,
            Some(settings) => {
                let tls = ServerTls::build(settings, before)?;
                let entry = DirectoryEntry {
                    hosts: Vec::new(),
                    default: true,
                    tls: Arc::clone(&tls),
                    handshake_timeout: PATIENCE,
                };
                Some((tls, Arc::new(Directory::nameless(entry))))
            }
        };
        let asked = settings.tls.as_ref().map(|tls| tls.client_certificate);
        Ok(Self {
            secret: settings.secret.clone(),
            certificate: asked == Some(tls::ClientCertificate::Required),
            tls,
        })
    }
}

/// Who calls.
struct Caller {
    remote: SocketAddr,
    known: Option<(Arc<Peer>, Mutex<ConnectionTrust>)>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        let certificate = self.known.as_ref();
        match certificate.and_then(|(peer, _)| peer.certificate.as_ref()) {
            Some(certificate) => write!(f, " {}", clean(&certificate.subject, 200)),
            None => Ok(()),
        }
    }
}

fn said(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "error": text }))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(format!("{value}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(secret: Option<&str>) -> Arc<Door> {
        let settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            secret: secret.map(|text| Secret::new(text.into())),
            tls: None,
        };
        let metrics = crate::telemetry::Metrics::new(clock::now());
        let pip = Pip::new(metrics, tokio::runtime::Handle::current());
        Door::new(&settings, pip).unwrap()
    }

    #[tokio::test]
    async fn terms_for_another_address_change_nothing() {
        // What is written for loopback, without TLS or with another secret, is not for an address
        // that others reach.
        let door = door(Some("first"));
        let with = |address: [u8; 4], secret: &str| Settings {
            address: (address, 0).into(),
            secret: Some(Secret::new(secret.into())),
            tls: None,
        };
        let order = |secret: &str| {
            let request = Request::post("/revocations");
            request.header(header::AUTHORIZATION, format!("Bearer {secret}"))
        };
        door.set(&with([127, 0, 0, 2], "second")).unwrap();
        assert_eq!(call(&door, order("second"), "{\"all\":true}").await.0, 401);
        assert_eq!(call(&door, order("first"), "{\"all\":true}").await.0, 200);
        door.set(&with([127, 0, 0, 1], "second")).unwrap();
        assert_eq!(call(&door, order("second"), "{\"all\":true}").await.0, 200);
        assert_eq!(call(&door, order("first"), "{\"all\":true}").await.0, 401);
    }

    async fn call(door: &Door, request: http::request::Builder, body: &str) -> (u16, String) {
        let caller = Caller {
            remote: ([192, 0, 2, 1], 1).into(),
            known: None,
        };
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let answer = door.answer(request, &caller).await;
        let status = answer.status().as_u16();
        if status == 401 {
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
        }
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn only_who_knows_the_secret_is_heard() {
        let nobody = door(None);
        let door = door(Some("0123456789abcdef"));
        let post = || Request::post("/revocations");
        let good = || post().header("authorization", "Bearer 0123456789abcdef");
        let all = r#"{"all":true}"#;
        assert_eq!(
            call(&door, good(), all).await,
            (200, "{\"dropped\":0}\n".to_owned())
        );
        assert_eq!(call(&door, post(), all).await.0, 401);
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeF",
            "0123456789abcdef",
            "bearer 0123456789abcdef",
        ] {
            assert_eq!(
                call(&door, post().header("authorization", wrong), all)
                    .await
                    .0,
                401,
                "{wrong}"
            );
        }
        let twice = good().header("authorization", "Bearer 0123456789abcdef");
        assert_eq!(call(&door, twice, all).await.0, 401);
        let get = Request::get("/revocations").header("authorization", "Bearer 0123456789abcdef");
        assert_eq!(call(&door, get, "").await.0, 405);
        let elsewhere = Request::post("/").header("authorization", "Bearer 0123456789abcdef");
        assert_eq!(call(&door, elsewhere, all).await.0, 404);
        assert_eq!(call(&door, good(), "{}").await.0, 400);
        assert_eq!(call(&door, good(), &" ".repeat(5000)).await.0, 413);
        // A door without any terms is one that config does not build; it opens to nobody.
        assert_eq!(call(&nobody, post(), all).await.0, 401);
    }
}
