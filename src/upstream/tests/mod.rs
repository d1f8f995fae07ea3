//! The room against peers that speak raw bytes on loopback.

mod answers;
mod balancing;
mod bodies;
mod http2;
mod pooling;
mod requests;
mod tls;
mod websockets;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderName, Request, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::pdp::authorize::Authorized;
use crate::pdp::policy::{Access, ForwardRules, MethodSet, Rewrite, RouteLimits, UpstreamName};
use crate::pdp::{Inbound, InteractionId, Peer, RequestHead, Route, UnixTime};
use crate::refusal::Reason;
use crate::telemetry::metrics::Metrics;

pub(super) type TestBody = std::pin::Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>;

/// What every test does with the thread that it runs on.
async fn on_a_thread(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// A peer that does `script` with each connection, which it numbers from 0.
async fn peer<S, F>(script: S) -> (SocketAddr, Rc<Cell<usize>>)
where
    S: Fn(usize, TcpStream) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let accepted = Rc::clone(&count);
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            spawn_local(script(accepted.replace(accepted.get() + 1), stream));
        }
    });
    (address, count)
}

/// A peer that reads heads and answers each with the same bytes, on as many connections as come.
/// It notes the heads.
async fn answering(bytes: &'static str) -> (SocketAddr, Rc<Cell<usize>>, Heads) {
    let heads = Heads::default();
    let notes = heads.clone();
    let (address, count) = peer(move |_, mut stream| {
        let notes = notes.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                notes.0.borrow_mut().push(head);
                stream.write_all(bytes.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (address, count, heads)
}

#[derive(Debug, Clone, Default)]
struct Heads(Rc<RefCell<Vec<String>>>);

impl Heads {
    fn count(&self) -> usize {
        self.0.borrow().len()
    }

    fn last(&self) -> String {
        self.0.borrow().last().cloned().unwrap_or_default()
    }
}

/// Bytes up to the empty line; `None` when the other end is gone.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn read_exact(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// One thread's pool with one upstream.
struct Bench {
    pool: Rc<Pool>,
    shared: Arc<Shared>,
    route: RefCell<Route>,
    timeout: Duration,
}

fn settings(addresses: &[SocketAddr]) -> Settings {
    Settings {
        name: "core".into(),
        servers: addresses
            .iter()
            .map(|address| Server {
                host: address.ip().to_string().into(),
                port: address.port(),
                prefix: "".into(),
            })
            .collect(),
        protocol: Protocol::Http1,
        tls: None,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(4),
        retries: 1,
        max_connections: 256,
        health: None,
        eject: None,
    }
}

fn route() -> Route {
    Route {
        index: 0,
        name: "all".into(),
        methods: MethodSet::Any,
        access: Access::Open,
        upstream: UpstreamName("core".into()),
        path_allow: crate::pdp::Ambiguities::default(),
        case_insensitive: false,
        websocket: false,
        rewrite: None,
        limits: RouteLimits::default(),
        forward: Arc::new(ForwardRules {
            authorization: false,
            host: None,
            strip: Vec::new(),
            headers: Vec::new(),
        }),
        shadow: None,
        observe_until: None,
    }
}

fn bench(addresses: &[SocketAddr], change: impl FnOnce(&mut Settings)) -> Bench {
    let mut settings = settings(addresses);
    change(&mut settings);
    let shared = Shared::new(settings, &Metrics::new(UnixTime::from_secs(0)));
    Bench {
        pool: thread_of(&shared),
        shared,
        route: RefCell::new(route()),
        timeout: Duration::from_secs(30),
    }
}

fn thread_of(shared: &Arc<Shared>) -> Rc<Pool> {
    let pool = Pool::new();
    pool.replace(&HashMap::from([("core".into(), Arc::clone(shared))]));
    pool
}

fn get(path: &str) -> Request<TestBody> {
    request("GET", path, nothing())
}

fn request(method: &str, path: &str, body: TestBody) -> Request<TestBody> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.bank.example")
        .body(body)
        .unwrap()
}

fn with(mut request: Request<TestBody>, fields: &[(&'static str, &str)]) -> Request<TestBody> {
    for (name, value) in fields {
        request.headers_mut().append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    request
}

/// As it comes over HTTP/2.
fn over_http2(mut request: Request<TestBody>) -> Request<TestBody> {
    request.headers_mut().remove("host");
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("https://api.bank.example{}", request.uri())
        .parse()
        .unwrap();
    request
}

fn nothing() -> TestBody {
    Box::pin(Empty::new().map_err(|never| match never {}))
}

fn full(text: &'static str) -> TestBody {
    Box::pin(Full::from(text).map_err(|never| match never {}))
}

type Piece = Result<Frame<Bytes>, BoxError>;

/// A body that comes in pieces when the test says so.
fn pieces() -> (mpsc::UnboundedSender<Piece>, TestBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    (sender, Box::pin(StreamBody::new(stream)))
}

fn data(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

impl Bench {
    fn permit(&self, request: Request<TestBody>) -> Authorized<TestBody> {
        let (parts, body) = request.into_parts();
        let head = RequestHead::new(parts, InteractionId::from_random([7; 16])).unwrap();
        let inbound = Inbound {
            head,
            peer: Arc::new(Peer {
                remote: "192.0.2.7:5000".parse().unwrap(),
                local: "192.0.2.1:8443".parse().unwrap(),
                listener: "bank".into(),
                certificate: None,
            }),
            standing: None,
            body,
        };
        let identity = vec![(
            HeaderName::from_static("x-auth-subject"),
            HeaderValue::from_static("alice"),
        )];
        let expires = Some(UnixTime::from_secs(1060));
        let route = Arc::new(std::mem::replace(&mut *self.route.borrow_mut(), route()));
        Authorized::for_tests(inbound, route, identity, expires)
    }

    fn facts(&self) -> ForwardFacts {
        ForwardFacts {
            remote: "192.0.2.7:5000".parse().unwrap(),
            scheme: "https",
            introduction: Rc::default(),
            now: UnixTime::from_secs(1000),
            began: tokio::time::Instant::now(),
            due: tokio::time::Instant::now() + Duration::from_secs(60),
            body_timeout: self.timeout,
            on_upgrade: None,
            drain: None,
        }
    }

    async fn send(&self, request: Request<TestBody>) -> Result<Forwarded, Failed> {
        forward(&self.pool, self.permit(request), self.facts()).await
    }

    /// Status and body, or the reason of a failure before the head or in the body.
    async fn ask(&self, request: Request<TestBody>) -> Result<(u16, String), Reason> {
        let forwarded = self
            .send(request)
            .await
            .map_err(|failed| failed.refusal.reason())?;
        let status = forwarded.response.status().as_u16();
        let text = text(forwarded).await.map_err(|failure| failure.reason())?;
        Ok((status, text))
    }
}

async fn text(forwarded: Forwarded) -> Result<String, BodyFailure> {
    let body = forwarded.response.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// Lets every task of the thread run until none has anything to do.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn ok() -> Result<(u16, String), Reason> {
    Ok((200, "ok".to_owned()))
}
