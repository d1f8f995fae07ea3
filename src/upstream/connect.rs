//! A connection to a server: name, TCP, TLS, all in `connect_timeout`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::shared::Open;
use super::{Protocol, Server, Settings};
use crate::loopback;
use crate::outbound::Tls;
use crate::refusal::{Reason, Refusal};

/// How long one address of a name is tried alone before the next joins in (RFC 8305 s5).
const STAGGER: Duration = Duration::from_millis(250);
/// A peer that vanished without a word is noticed after about this time.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection, counted as open while it lives.
#[derive(Debug)]
pub(super) struct Io {
    stream: Stream,
    _open: Option<Open>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no connection. Not a byte of a request was sent.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

impl ConnectError {
    pub(super) fn refusal(self) -> Refusal {
        Refusal::because(self.reason, self.detail)
    }
}

/// Connects. `open` is the place that the connection takes; an active check takes none.
pub(super) async fn connect(
    settings: &Settings,
    server: &Server,
    open: Option<Open>,
) -> Result<Io, ConnectError> {
    let limit = settings.connect_timeout;
    let connecting = async {
        let tcp = dial(server).await.map_err(|error| ConnectError {
            reason: Reason::UpstreamUnreachable,
            detail: format!("no connection to {}:{}: {error}", server.host, server.port),
        })?;
        match &settings.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(tls) => secure(tcp, tls, server, settings.protocol)
                .await
                .map(|stream| Stream::Tls(Box::new(stream))),
        }
    };
    match timeout(limit, connecting).await {
        Ok(stream) => Ok(Io {
            stream: stream?,
            _open: open,
        }),
        Err(_) => Err(ConnectError {
            reason: Reason::UpstreamTimeout,
            detail: format!(
                "no connection to {}:{} in {limit:?} (connect_timeout)",
                server.host, server.port
            ),
        }),
    }
}

async fn dial(server: &Server) -> io::Result<TcpStream> {
    let stream = match server.host.parse() {
        Ok(address) => loopback::connect(SocketAddr::new(address, server.port)).await?,
        Err(_) => {
            let found = tokio::net::lookup_host((&*server.host, server.port)).await?;
            race(found).await?
        }
    };
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// The first of a name's addresses that answers; one that is silent does not hold up the others.
async fn race(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut trying = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let more = match addresses.next() {
            Some(address) => {
                trying.push(loopback::connect(address));
                true
            }
            None => false,
        };
        if trying.is_empty() {
            return Err(last);
        }
        tokio::select! {
            Some(result) = trying.next() => match result {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

async fn secure(
    tcp: TcpStream,
    tls: &Tls,
    server: &Server,
    protocol: Protocol,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let name = tls.server_name.as_deref().unwrap_or(&server.host);
    let untrusted = |detail: String| ConnectError {
        reason: Reason::UpstreamUntrusted,
        detail,
    };
    let verified = ServerName::try_from(name.to_owned())
        .map_err(|error| untrusted(format!("'{name}': {error}")))?;
    let stream = TlsConnector::from(Arc::clone(&tls.config))
        .connect(verified, tcp)
        .await
        .map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            // An alert, too, means that one of the two does not trust the other.
            let reason = match inner {
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
                    Reason::UpstreamUntrusted
                }
                _ => Reason::UpstreamUnreachable,
            };
            ConnectError {
                reason,
                detail: format!("TLS with {name} (port {}): {error}", server.port),
            }
        })?;
    let chosen = stream.get_ref().1.alpn_protocol();
    if protocol == Protocol::Http2 && chosen != Some(b"h2") {
        return Err(ConnectError {
            reason: Reason::UpstreamUnreachable,
            detail: format!("{name} does not speak HTTP/2: ALPN chose no h2"),
        });
    }
    Ok(stream)
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
