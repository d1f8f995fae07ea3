//! The same client over HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::lab::pki::Identity;

/// Streams of a connection at a time.
const STREAMS: usize = 8;

/// How to connect.
pub(crate) struct Caller {
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Caller {
    pub(crate) fn new(
        address: SocketAddr,
        name: &str,
        authority: CertificateDer<'static>,
        party: &Identity,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(party.chain.clone(), party.key())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            address,
            name: ServerName::try_from(name.to_owned()).unwrap(),
            config: Arc::new(config),
        }
    }

    /// Calls with this token, so many times over each connection. Microseconds of each.
    pub(crate) fn call(&self, url: &str, token: &str, connections: usize, each: usize) -> Vec<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut streams = Vec::new();
            for _ in 0..connections {
                let tcp = TcpStream::connect(self.address).await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let connector = TlsConnector::from(Arc::clone(&self.config));
                let tls = connector.connect(self.name.clone(), tcp).await.unwrap();
                let io = TokioIo::new(tls);
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                for stream in 0..STREAMS.min(each) {
                    let sender = sender.clone();
                    let (url, token) = (url.to_owned(), format!("Bearer {token}"));
                    let calls = each / STREAMS + usize::from(stream < each % STREAMS);
                    streams.push(tokio::spawn(stream_of(sender, url, token, calls)));
                }
            }
            let mut times = Vec::new();
            for stream in streams {
                times.extend(stream.await.unwrap());
            }
            times
        })
    }
}

async fn stream_of(
    mut sender: http2::SendRequest<Empty<Bytes>>,
    url: String,
    token: String,
    calls: usize,
) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..calls {
        let request = http::Request::get(&url)
            .header("authorization", &token)
            .body(Empty::new())
            .unwrap();
        let started = Instant::now();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    times
}
