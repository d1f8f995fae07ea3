//! WebSocket (RFC 6455) on routes that have it: the upstream must agree, and be asked first.

use std::future::pending;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::BoxError;
use super::connect::Io;
use crate::http::fields::response_fields;
use crate::pdp::{HeadParts, Route};

/// RFC 6455 s1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Resolves when the process drains.
pub type Drained = Pin<Box<dyn Future<Output = ()>>>;

/// A client that opens a WebSocket.
pub(super) struct Opening {
    /// What `Sec-WebSocket-Accept` must be.
    accept: String,
}

impl Opening {
    /// The lines that ask the upstream.
    pub(super) const LINES: &[u8] = b"connection: Upgrade\r\nupgrade: websocket\r\n";

    /// Whether this request opens one and may; else `Upgrade` is ignored (HTTP-17), as it must be
    /// by who does not speak what it offers (RFC 9110 s7.8).
    pub(super) fn of(head: &HeadParts, route: &Route, no_body: bool) -> Option<Self> {
        if !route.websocket
            || head.method != Method::GET
            || head.version != Version::HTTP_11
            || !no_body
            || !lists(&head.headers, &header::CONNECTION, "upgrade")
            || !lists(&head.headers, &header::UPGRADE, "websocket")
        {
            return None;
        }
        let mut keys = head.headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
        let key = keys.next()?;
        if keys.next().is_some() {
            return None;
        }
        Some(Self {
            accept: accept(key.as_bytes()),
        })
    }

    /// Whether a 101 agrees to what was asked (RFC 6455 s4.1).
    pub(super) fn agreed(&self, fields: &HeaderMap) -> Result<(), &'static str> {
        let mut accepts = fields.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
        let accept = accepts.next().map(HeaderValue::as_bytes);
        if !lists(fields, &header::CONNECTION, "upgrade")
            || !lists(fields, &header::UPGRADE, "websocket")
        {
            Err("a 101 that is no upgrade to websocket")
        } else if accept != Some(self.accept.as_bytes()) || accepts.next().is_some() {
            Err("a 101 whose Sec-WebSocket-Accept does not fit the key")
        } else {
            Ok(())
        }
    }
}

fn accept(key: &[u8]) -> String {
    let algorithm = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let mut digest = aws_lc_rs::digest::Context::new(algorithm);
    digest.update(key);
    digest.update(GUID);
    STANDARD.encode(digest.finish())
}

/// Whether a comma-separated list has this element, letter case aside.
fn lists(fields: &HeaderMap, name: &header::HeaderName, element: &str) -> bool {
    fields
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|held| held.trim().eq_ignore_ascii_case(element))
}

/// Ends a tunnel.
pub(super) struct Ends {
    /// `exp` of the token.
    pub(super) deadline: Option<Instant>,
    /// The process drains.
    pub(super) drain: Option<Drained>,
}

/// The fields of the 101 for the client; the tunnel begins once it was written. Not a byte of the
/// client's goes up before, since its connection is only read here.
pub(super) fn tunnel(
    fields: HeaderMap,
    client: OnUpgrade,
    (mut upstream, first): (Io, Bytes),
    ends: Ends,
) -> HeaderMap {
    let mut fields = response_fields(fields);
    fields.remove(header::CONTENT_LENGTH);
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    spawn_local(async move {
        let through = async {
            let mut client = TokioIo::new(client.await?);
            client.write_all(&first).await?;
            tokio::io::copy_bidirectional(&mut client, &mut upstream)
                .await
                .map_err(BoxError::from)
        };
        let deadline = async {
            match ends.deadline {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let drain = async {
            match ends.drain {
                Some(drain) => drain.await,
                None => pending().await,
            }
        };
        tokio::select! {
            result = through => if let Err(error) = result {
                tracing::debug!("WebSocket ended: {error}");
            },
            () = deadline => tracing::debug!("WebSocket ended with its token"),
            () = drain => tracing::debug!("WebSocket ended by the drain"),
        }
    });
    fields
}

/// A 101 has no other status.
pub(super) const SWITCHING: StatusCode = StatusCode::SWITCHING_PROTOCOLS;

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6455 s1.3
        assert_eq!(
            super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
