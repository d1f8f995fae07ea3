//! From a TCP connection to one whose other end is known, in bounded time.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{Accepted, Acceptor};
use rustls::{HandshakeKind, PeerIncompatible};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::current::{ConnectionTrust, Current};
use super::directory::Directory;
use super::front::FrontProxy;
use super::server::ServerTls;
use super::{certificate, failure};
use crate::pdp::{Peer, UnixTime};
use crate::refusal::CloseReason;

/// RFC 8446 s6.
const PROTOCOL_VERSION: u8 = 70;
/// How long and how much is read from a client that was refused, so that the alert reaches it
/// before the kernel answers its remaining bytes with a reset.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 * 1024;

/// The protocol above TLS. A client that offers none by ALPN speaks HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection whose other end is known.
pub struct Secured {
    /// The stream. Boxed: it is large, and each function that waits while it serves would keep room
    /// for one of its own.
    pub stream: Box<TlsStream<TcpStream>>,
    /// The other end.
    pub peer: Arc<Peer>,
    /// The trust in its certificate, to be asked at each request; of a connection of a proxy in
    /// front, the trust in that proxy.
    pub trust: ConnectionTrust,
    /// Of a connection of a proxy in front: whose each request is.
    pub front: Option<FrontProxy>,
    /// What is spoken above.
    pub protocol: Alpn,
    /// Whether the session goes on from an earlier connection.
    pub resumed: bool,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured")
            .field("peer", &self.peer)
            .field("trust", &self.trust)
            .field("protocol", &self.protocol)
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub struct Failed {
    /// The row of the table.
    pub reason: CloseReason,
    /// The listener, once the server name chose it.
    pub listener: Option<Arc<str>>,
    /// What exactly, for the log.
    pub detail: String,
}

/// Both ends of a connection, and when it began.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Address of the client's end, as far as it is known.
    pub remote: SocketAddr,
    /// Address of our end.
    pub local: SocketAddr,
    /// Address of the TCP peer: the client's, or that of a load balancer that spoke for it.
    pub transport: IpAddr,
    /// When the connection was accepted: bounds of time count from here.
    pub accepted: Instant,
}

impl Ends {
    /// Of a connection with nothing between, accepted now.
    #[must_use]
    pub fn direct(remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            remote,
            local,
            transport: remote.ip(),
            accepted: Instant::now(),
        }
    }
}

/// The whole handshake: [`greet`], then [`Greeted::secure`].
///
/// # Errors
/// Why there is no connection. It is closed by then, and the client had its alert.
pub async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    directory: &Directory,
    current: &Arc<Current>,
    now: fn() -> UnixTime,
) -> Result<Secured, Failed> {
    greet(stream, Ends::direct(remote, local), directory)
        .await?
        .secure(current, now)
        .await
}

/// A connection whose `ClientHello` named its listener.
pub struct Greeted {
    start: StartHandshake<TcpStream>,
    tls: Arc<ServerTls>,
    ends: Ends,
    timeout: Duration,
    deadline: Instant,
}

impl fmt::Debug for Greeted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeted")
            .field("tls", &self.tls)
            .field("remote", &self.ends.remote)
            .finish_non_exhaustive()
    }
}

/// Reads the `ClientHello`, in one piece or many, and finds the listener it is for.
///
/// # Errors
/// No `ClientHello` came in time, it cannot be read, or its name is of no listener.
pub async fn greet(
    stream: TcpStream,
    ends: Ends,
    directory: &Directory,
) -> Result<Greeted, Failed> {
    let begin = ends.accepted;
    let failed = |reason, detail| Failed {
        reason,
        listener: None,
        detail,
    };
    let mut stream = stream;
    let hello = timeout_at(begin + directory.patience(), hello(&mut stream)).await;
    let start = match hello {
        Ok(Ok(accepted)) => StartHandshake::from_parts(accepted, stream),
        Ok(Err((error, alert))) => {
            send_and_close(stream, &alert).await;
            let (reason, detail) = failure::reason(&error);
            return Err(failed(reason, detail));
        }
        Err(_elapsed) => {
            return Err(failed(
                CloseReason::HandshakeTimeout,
                "no ClientHello came".to_owned(),
            ));
        }
    };
    let (entry, refused) = {
        let hello = start.client_hello();
        match directory.find(hello.server_name()) {
            Ok(entry) => (Some(entry), None),
            Err((reason, alert)) => {
                let detail = hello.server_name().unwrap_or("no server name").to_owned();
                (None, Some((failed(reason, detail), alert)))
            }
        }
    };
    match (entry, refused) {
        (Some(entry), _) => Ok(Greeted {
            start,
            tls: Arc::clone(&entry.tls),
            ends,
            timeout: entry.handshake_timeout,
            deadline: begin + entry.handshake_timeout,
        }),
        (None, Some((failed, alert))) => {
            let StartHandshake { io, .. } = start;
            send_and_close(io, &fatal(alert)).await;
            Err(failed)
        }
        (None, None) => Err(failed(CloseReason::HandshakeFailed, String::new())),
    }
}

impl Greeted {
    /// The listener that the server name chose.
    #[must_use]
    pub fn listener(&self) -> &Arc<str> {
        self.tls.listener()
    }

    /// The rest of the handshake. The peer of a resumed session is judged like a new one.
    ///
    /// # Errors
    /// Why there is no connection. It is closed by then, and the client had its alert.
    pub async fn secure(
        self,
        current: &Arc<Current>,
        now: fn() -> UnixTime,
    ) -> Result<Secured, Failed> {
        let Self {
            start,
            tls,
            ends,
            timeout,
            deadline,
        } = self;
        let failed = |reason, detail| Failed {
            reason,
            listener: Some(Arc::clone(tls.listener())),
            detail,
        };
        let (config, told) = match tls.front(ends.transport) {
            Some((front, _)) => (&front.config, failure::of_proxy as fn(_) -> _),
            None => (tls.config(), std::convert::identity as fn(_) -> _),
        };
        let accept = start.into_stream(Arc::clone(config)).into_fallible();
        let mut stream = match timeout_at(deadline, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                linger(stream).await;
                let (reason, detail) = failure::reason(&error);
                return Err(failed(told(reason), detail));
            }
            Err(_elapsed) => {
                let detail = format!("not done after {} ms", timeout.as_millis());
                return Err(failed(CloseReason::HandshakeTimeout, detail));
            }
        };
        match examine(&stream, &tls, ends, current, now()) {
            Ok((peer, trust, front, protocol, resumed)) => Ok(Secured {
                stream: Box::new(stream),
                peer,
                trust,
                front,
                protocol,
                resumed,
            }),
            Err((reason, detail)) => {
                // The handshake is over, so there is no alert to send but that of the end.
                close(&mut stream).await;
                Err(failed(told(reason), detail))
            }
        }
    }
}

type Examined = (Arc<Peer>, ConnectionTrust, Option<FrontProxy>, Alpn, bool);

/// What is known of the other end after the handshake.
fn examine(
    stream: &TlsStream<TcpStream>,
    tls: &ServerTls,
    ends: Ends,
    current: &Arc<Current>,
    now: UnixTime,
) -> Result<Examined, (CloseReason, String)> {
    let (_, connection) = stream.get_ref();
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let presented = connection.peer_certificates().unwrap_or_default();
    let front = tls.front(ends.transport);
    let certificate = match presented.split_first() {
        None if front.is_none() && tls.demands_certificate() => {
            let detail = "the session began without a certificate".to_owned();
            return Err((CloseReason::ClientCertificateMissing, detail));
        }
        None => {
            if front.is_some() {
                tls.judge_proxy(ends.transport, None, &[], now)
                    .map_err(|error| (failure::of_tls(&error), failure::detail(&error)))?;
            }
            None
        }
        Some((leaf, intermediates)) => {
            if resumed {
                let judged = match front {
                    Some(_) => tls.judge_proxy(ends.transport, Some(leaf), intermediates, now),
                    None => tls.judge(leaf, intermediates, now),
                };
                judged.map_err(|error| (failure::of_tls(&error), failure::detail(&error)))?;
            }
            let read = certificate::read(leaf)
                .map_err(|detail| (CloseReason::ClientCertificateUntrusted, detail))?;
            Some(read)
        }
    };
    let protocol = match connection.alpn_protocol() {
        Some(b"h2") => Alpn::Http2,
        _ => Alpn::Http1,
    };
    let with = |certificate| {
        Arc::new(Peer {
            remote: ends.remote,
            local: ends.local,
            listener: Arc::clone(tls.listener()),
            certificate,
        })
    };
    let Some((_, form)) = front else {
        let peer = with(certificate);
        let trust = ConnectionTrust::new(current, tls, &peer, presented, now);
        return Ok((peer, trust, None, protocol, resumed));
    };
    // The proxy's own certificate says who may speak for clients. It is no client's.
    let (proxy, peer) = (with(certificate), with(None));
    let trust = ConnectionTrust::of_proxy(current, &proxy, ends.transport, presented, now);
    let front = FrontProxy::new(current, tls, form, &peer);
    Ok((peer, trust, Some(front), protocol, resumed))
}

/// Reads until the `ClientHello` is whole. What rustls cannot take comes back with the alert to
/// send, if there is one.
///
/// This is tokio-rustls' `LazyConfigAcceptor` but for one alert: clients that end at TLS 1.1 have
/// no `signature_algorithms`, and rustls complains of that before it looks at the version.
/// Scanners understand `protocol_version` (TLS-02).
async fn hello(stream: &mut TcpStream) -> Result<Accepted, (io::Error, Vec<u8>)> {
    let mut acceptor = Acceptor::default();
    // On the heap: the future lives as long as the connection.
    let mut buffer = vec![0; 4096];
    loop {
        let read = stream
            .read(&mut buffer)
            .await
            .map_err(|error| (error, Vec::new()))?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        if rest.is_empty() {
            return Err((io::ErrorKind::UnexpectedEof.into(), Vec::new()));
        }
        while !rest.is_empty() {
            acceptor
                .read_tls(&mut rest)
                .map_err(|error| (error, Vec::new()))?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                if error == PeerIncompatible::SignatureAlgorithmsExtensionRequired.into() {
                    bytes.extend(fatal(PROTOCOL_VERSION));
                } else {
                    alert
                        .write_all(&mut bytes)
                        .map_err(|error| (error, Vec::new()))?;
                }
                return Err((io::Error::new(io::ErrorKind::InvalidData, error), bytes));
            }
        }
    }
}

/// A fatal alert in the clear, as all alerts before the `ServerHello` are (RFC 8446 s5.1, s6).
const fn fatal(alert: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert]
}

async fn send_and_close(mut stream: TcpStream, bytes: &[u8]) {
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(bytes)).await {
        linger(stream).await;
    }
}

/// Closes our direction and reads what is under way, both bounded.
async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut buffer = vec![0; 1024];
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // Neither an error nor a client that goes on for too long changes anything now.
    drop(timeout(LINGER, rest).await);
}

async fn close(stream: &mut TlsStream<TcpStream>) {
    drop(timeout(LINGER, stream.shutdown()).await);
}
