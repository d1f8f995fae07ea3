//! One GET of one document, in bounded time, size and trust.
//!
//! Each fetch has a connection of its own: there is one in minutes, so a pool would hold
//! connections that the other side has long closed; and the address that was judged
//! ([`Address::may_connect`]) is the one that is used. Redirects are not followed: an address
//! that nobody configured is not asked for keys (KEY-06).

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::address::Address;
use crate::outbound::Tls;
use crate::telemetry::metrics::FetchResult;

/// Largest document. Key sets have kilobytes.
const LARGEST: usize = 1024 * 1024;

/// Largest head of an answer.
const LARGEST_HEAD: usize = 64 * 1024;

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) result: FetchResult,
    /// For the log and `/status`.
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(result: FetchResult, detail: impl Into<String>) -> Self {
        Self {
            result,
            detail: detail.into(),
        }
    }

    pub(super) fn unreachable(address: &Address, what: &str, error: impl Display) -> Self {
        let detail = format!("{}: {what}: {error}", address.authority());
        Self::new(FetchResult::Unreachable, detail)
    }

    pub(super) fn timeout(after: Duration) -> Self {
        let detail = format!("no answer in {}", humantime::format_duration(after));
        Self::new(FetchResult::Timeout, detail)
    }
}

/// How an authorization server is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) tls: &'a Tls,
    /// `http://host:port`.
    pub(super) proxy: Option<&'a str>,
}

/// Fetches a document. The caller bounds the time.
pub(super) async fn get(address: &Address, way: Way<'_>) -> Result<Bytes, Failure> {
    get_at_most(LARGEST, address, way).await
}

/// The same for a document that may be larger.
pub(super) async fn get_at_most(
    largest: usize,
    address: &Address,
    way: Way<'_>,
) -> Result<Bytes, Failure> {
    exchange(largest, address, open(address, way).await?).await
}

/// What speaks HTTP with an authorization server, TLS or, on this very machine, not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Opens a connection, whose address was judged and whose certificate is verified. The caller
/// bounds the time.
pub(super) async fn open(address: &Address, way: Way<'_>) -> Result<Box<dyn Stream>, Failure> {
    // An address of this machine is not behind a proxy.
    let stream = match way.proxy.filter(|_| address.tls) {
        Some(proxy) => tunnel(address, proxy).await?,
        None => connect(address).await?,
    };
    if !address.tls {
        return Ok(Box::new(stream));
    }
    let name = way.tls.server_name.as_deref().unwrap_or(&address.host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| Failure::unreachable(address, "server name", error))?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::clone(&way.tls.config));
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| Failure::unreachable(address, "TLS", error))?;
    Ok(Box::new(stream))
}

async fn connect(address: &Address) -> Result<TcpStream, Failure> {
    let found = tokio::net::lookup_host((&*address.host, address.port))
        .await
        .map_err(|error| Failure::unreachable(address, "name", error))?;
    let mut last = "the name has no address".to_owned();
    for at in found {
        if let Err(why) = address.may_connect(at.ip()) {
            last = why;
            continue;
        }
        match TcpStream::connect(at).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{at}: {error}"),
        }
    }
    Err(Failure::unreachable(address, "connect", last))
}

/// `CONNECT` through the operator's proxy (RFC 9110 s9.3.6). The proxy resolves the name; it is
/// the operator's own gate to the outside.
async fn tunnel(address: &Address, proxy: &str) -> Result<TcpStream, Failure> {
    let failed = |error: &dyn Display| Failure::unreachable(address, "proxy", error);
    let uri: http::Uri = proxy.parse().map_err(|error| failed(&error))?;
    let host = uri.host().ok_or_else(|| failed(&"no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = address.host.parse() {
        address.may_connect(ip).map_err(|error| failed(&error))?;
    }
    let port = uri.port_u16().unwrap_or(80);
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| failed(&error))?
        .collect();
    let mut stream = TcpStream::connect(&*found)
        .await
        .map_err(|error| failed(&error))?;
    let authority = address.authority();
    let ask = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    stream
        .write_all(ask.as_bytes())
        .await
        .map_err(|error| failed(&error))?;
    let mut head = Vec::with_capacity(512);
    // Nothing follows the head before we speak, so reading ahead takes nothing of the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8 * 1024 {
            return Err(failed(&"the head of its answer does not end"));
        }
        let read = stream
            .read_buf(&mut head)
            .await
            .map_err(|error| failed(&error))?;
        if read == 0 {
            return Err(failed(&"it closed the connection"));
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1);
    match status {
        Some([b'2', _, _]) if line.starts_with(b"HTTP/1.") => Ok(stream),
        _ => {
            let line = String::from_utf8_lossy(line);
            Err(failed(&format!("it answered {}", line.escape_debug())))
        }
    }
}

async fn exchange(
    largest: usize,
    address: &Address,
    stream: Box<dyn Stream>,
) -> Result<Bytes, Failure> {
    let broken =
        |error: &dyn Display| Failure::unreachable(address, "no answer that can be read", error);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // Its errors come out of the exchange, too; it ends with it.
    let _connection = Aborted(tokio::spawn(connection).abort_handle());
    let request = Request::get(&*address.target)
        .header(header::HOST, address.authority())
        .header(header::ACCEPT, "application/json, application/jwk-set+json")
        .header(
            header::USER_AGENT,
            concat!("portcullis/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| broken(&error))?;
    let status = answer.status();
    if status != StatusCode::OK {
        let hint = if status.is_redirection() {
            "; redirects are not followed, write the address that it leads to"
        } else {
            ""
        };
        return Err(Failure::new(
            FetchResult::Status,
            format!(
                "{}{} answered {}{hint}",
                address.authority(),
                address.target,
                status.as_u16()
            ),
        ));
    }
    match Limited::new(answer.into_body(), largest).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Failure::new(
            FetchResult::TooLarge,
            format!("{} answered more than {largest} bytes", address.authority()),
        )),
        Err(error) => Err(broken(&error)),
    }
}

/// A task that ends with whoever holds this.
#[derive(Debug)]
pub(super) struct Aborted(pub(super) tokio::task::AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
