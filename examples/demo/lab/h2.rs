//! HTTP/2 of good conduct, on both sides: a client, and an API.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::client::{Answer, Client, Request};
use super::http1::Head;
use super::legacy::Seen;

/// The body of a request.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// An open HTTP/2 connection, used from plain code.
pub(crate) struct Http2 {
    /// Where its tasks run; they run only while something is waited for here.
    pub(crate) runtime: Runtime,
    /// Takes requests.
    pub(crate) sender: SendRequest<Body>,
    driver: JoinHandle<hyper::Result<()>>,
    authority: String,
}

impl Http2 {
    /// Connects and offers `h2` alone.
    pub(crate) fn open(client: &Client) -> io::Result<Self> {
        let (config, name) = client.clone().alpn(&["h2"]).config();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (sender, driver) = runtime.block_on(async {
            let socket = client.connect()?;
            socket.set_nonblocking(true)?;
            let socket = TcpStream::from_std(socket)?;
            socket.set_nodelay(true)?;
            let stream = TlsConnector::from(config).connect(name, socket).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(io::Error::other("the server did not choose h2"));
            }
            let (sender, connection) =
                hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                    .handshake(TokioIo::new(stream))
                    .await
                    .map_err(io::Error::other)?;
            Ok((sender, tokio::spawn(connection)))
        })?;
        Ok(Self {
            runtime,
            sender,
            driver,
            authority: client.authority(),
        })
    }

    /// A request of hyper's, out of one of ours. `host` becomes the authority.
    pub(crate) fn request(request: &Request) -> http::Request<Body> {
        let uri = format!("https://{}{}", request.host, request.target);
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(uri);
        for (name, value) in &request.fields {
            builder = builder.header(name.to_ascii_lowercase(), value);
        }
        let body = Bytes::from(request.body.clone().unwrap_or_default());
        builder.body(Full::new(body).boxed()).unwrap()
    }

    /// Sends a request and reads its answer.
    pub(crate) fn call(&mut self, request: &Request) -> hyper::Result<Answer> {
        let request = Self::request(request);
        self.runtime.block_on(async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            read(response).await
        })
    }

    /// Sends requests at once and reads all answers.
    pub(crate) fn call_all(&mut self, requests: &[Request]) -> Vec<hyper::Result<Answer>> {
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for request in requests {
                let mut sender = self.sender.clone();
                let request = Self::request(request);
                tasks.push(tokio::spawn(async move {
                    sender.ready().await?;
                    read(sender.send_request(request).await?).await
                }));
            }
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            answers
        })
    }

    /// Whether the server ends the connection within this time.
    pub(crate) fn closes(&mut self, within: Duration) -> bool {
        let driver = &mut self.driver;
        self.runtime
            .block_on(async { tokio::time::timeout(within, driver).await })
            .is_ok()
    }
}

/// An answer as a whole.
pub(crate) async fn read(response: http::Response<Incoming>) -> hyper::Result<Answer> {
    let (parts, body) = response.into_parts();
    let fields = |map: &http::HeaderMap| -> Vec<(String, String)> {
        map.iter()
            .map(|(name, value)| {
                let value = value.as_bytes().iter().copied().map(char::from).collect();
                (name.as_str().to_owned(), value)
            })
            .collect()
    };
    let body = body.collect().await?;
    let trailers = body.trailers().map(fields).unwrap_or_default();
    Ok(Answer {
        version: format!("{:?}", parts.version),
        status: parts.status.as_u16(),
        head: Head {
            fields: fields(&parts.headers),
            ..Head::default()
        },
        body: body.to_bytes().to_vec(),
        trailers,
        interim: Vec::new(),
    })
}

/// An API that speaks HTTP/2, with prior knowledge or over TLS.
pub(crate) struct Http2Legacy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Http2Legacy {
    /// Starts; with a certificate it speaks TLS.
    pub(crate) fn start(identity: Option<&super::pki::Identity>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::default();
        let shared = Arc::clone(&seen);
        let tls = identity.map(|identity| {
            let mut config = rustls::ServerConfig::builder_with_provider(super::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(identity.chain.clone(), identity.key())
                .unwrap();
            config.alpn_protocols = vec![b"h2".to_vec()];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(accept(socket, tls, shared));
        });
        Self { address, seen }
    }

    /// The requests with this `x-case`.
    pub(crate) fn seen(&self, case: &str) -> Vec<Seen> {
        let mut seen = self.seen.lock().unwrap().clone();
        seen.retain(|seen| seen.all("x-case") == [case]);
        seen
    }
}

async fn accept(
    socket: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::TcpListener::from_std(socket).unwrap();
    let mut number = 0;
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            continue;
        };
        number += 1;
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let seen = Arc::clone(&seen);
                async move { echo(request, number, &seen).await }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            match tls {
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(server.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    }
}

async fn echo(
    request: http::Request<Incoming>,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
) -> hyper::Result<http::Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?;
    let text = |value: &http::HeaderValue| -> String {
        value.as_bytes().iter().copied().map(char::from).collect()
    };
    let pairs = |map: &http::HeaderMap| -> Vec<(String, String)> {
        map.iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect()
    };
    let mut fields = pairs(&parts.headers);
    if let Some(authority) = parts.uri.authority() {
        fields.push((":authority".to_owned(), authority.to_string()));
    }
    let trailers = body.trailers().map(pairs).unwrap_or_default();
    let bytes = body.to_bytes();
    seen.lock().unwrap().push(Seen {
        connection,
        method: parts.method.to_string(),
        target: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        version: format!("{:?}", parts.version),
        fields,
        body: bytes.to_vec(),
        trailers,
        complete: true,
        flaws: Vec::new(),
    });
    let answer = json!({"target": parts.uri.path(), "body_bytes": bytes.len()}).to_string();
    Ok(http::Response::builder()
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(answer)))
        .unwrap())
}
