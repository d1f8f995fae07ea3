//! The one place that sends a request on.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::answer::UpstreamBody;
use super::exchange::Exchange;
use super::outgoing::{Framing, Outgoing};
use super::pool::Pool;
use super::upload::Source;
use super::websocket::{Drained, Ends, Opening};
use super::{BoxError, Protocol};
use crate::http::fields::{Introduction, Received, routed_by_us};
use crate::pdp::authorize::Parts;
use crate::pdp::{Authorized, UnixTime};
use crate::refusal::{Reason, Refusal};

/// What only the connection of the client knows.
pub struct ForwardFacts {
    /// Address of the client's end.
    pub remote: SocketAddr,
    /// What the client spoke: `https`.
    pub scheme: &'static str,
    /// What was said of the client at its last request.
    pub introduction: Rc<Introduction>,
    /// The wall clock, for the end of a WebSocket at the token's `exp`.
    pub now: UnixTime,
    /// The same moment, for durations.
    pub began: Instant,
    /// When the head of an answer must be here (`request_timeout`).
    pub due: Instant,
    /// Between two pieces of the answer (`body_timeout`).
    pub body_timeout: Duration,
    /// The client's connection after a 101, where it can have one.
    pub on_upgrade: Option<OnUpgrade>,
    /// Fires when the process drains: ends a WebSocket.
    pub drain: Option<Drained>,
}

impl fmt::Debug for ForwardFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFacts")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// An answer of an upstream.
#[derive(Debug)]
pub struct Forwarded {
    /// Its head, with what may go to the client; and its body.
    ///
    /// Status 101 only for a WebSocket that both sides agreed to; its `Connection` and `Upgrade`
    /// fields must go to the client, and the tunnel starts once the client's upgrade is there.
    pub response: Response<UpstreamBody>,
    /// `host:port` of the server.
    pub server: Arc<str>,
    /// Tries, this one included; connections that could not be had do not count.
    pub attempts: u32,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failed {
    /// For the client.
    pub refusal: Refusal,
    /// The client's own body broke off, or was too long or too slow: what the body knows of it is
    /// the better answer (408, 413, 400), and no fault of the upstream. `refusal` is
    /// `request_malformed` then, for a body that knows nothing.
    pub body_failed: bool,
    /// `host:port` of the last server that was tried.
    pub server: Option<Arc<str>>,
    /// Tries; see [`Forwarded::attempts`].
    pub attempts: u32,
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Self {
        failed.refusal
    }
}

/// Sends an authorized request on and waits for the head of the answer. Must run in a
/// [`tokio::task::LocalSet`].
///
/// The request is the canonical one that was judged: nothing of it is read anew. A connection that
/// cannot be had leads to the next server. What was not sent at all is sent again, whatever its
/// method; what was sent only as often as `retries` says, if the method is idempotent, the body
/// untouched, and the connection an old one that gave no byte (RFC 9110 s9.2.2, HTTP-12).
///
/// # Errors
/// `upstream_unreachable`, `upstream_untrusted`, `upstream_timeout`, `upstream_protocol`,
/// `loop_detected`, `overloaded`; those of the client's body as [`Failed::body_failed`] says.
pub fn forward<B>(
    pool: &Rc<Pool>,
    permit: Authorized<B>,
    facts: ForwardFacts,
) -> impl Future<Output = Result<Forwarded, Failed>>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let Parts {
        head,
        peer: _,
        body,
        route,
        identity,
        expires,
    } = permit.into_parts();
    let head = head.into_parts();
    // Not an `async fn`, which would have its arguments twice.
    async move {
        if routed_by_us(&head.headers) {
            return Err(unsent(Refusal::because(
                Reason::LoopDetected,
                "Via names this gate",
            )));
        }
        let Some(upstream) = pool.upstream(&route.upstream.0) else {
            return Err(unsent(Refusal::because(
                Reason::Internal,
                format!("there is no upstream '{}'", route.upstream.0),
            )));
        };
        let rules = pool.rules(&route);
        let authority = match head.port {
            Some(port) => Cow::from(format!("{}:{port}", head.host)),
            None => Cow::from(&*head.host),
        };
        let received = Received {
            client: facts.remote.ip(),
            scheme: facts.scheme,
            authority: &authority,
            version: head.version,
            interaction_id: head.interaction_id,
            introduction: &facts.introduction,
        };
        let mut outgoing =
            Outgoing::new(&head, &route, &rules, &identity, received).map_err(unsent)?;
        let no_body = body.is_end_stream();
        let upload = if no_body {
            None
        } else {
            let declared = content_length(&head.headers);
            outgoing.body = declared.map_or(Framing::Open, Framing::Length);
            let trailers = head.headers.contains_key(header::TRAILER);
            let body = Box::pin(body.map_err(Into::into));
            Some(Source::new(body, declared, trailers, Rc::clone(&rules)))
        };
        let one = upstream.shared.settings().protocol == Protocol::Http1;
        let opening =
            Opening::of(&head, &route, no_body).filter(|_| one && facts.on_upgrade.is_some());
        outgoing.opening = opening.as_ref();
        let mut exchange = Exchange {
            upstream: &upstream,
            outgoing,
            upload,
            began: Some(facts.began),
            due: facts.due,
            body_timeout: facts.body_timeout,
            ends: Ends {
                // Of a WebSocket: an answer has another (`http::body`).
                deadline: expires
                    .filter(|_| opening.is_some())
                    .map(|at| facts.began + at.since(facts.now)),
                drain: facts.drain,
            },
            client: facts.on_upgrade,
            server: None,
            attempts: 0,
        };
        exchange.run().await
    }
}

const fn unsent(refusal: Refusal) -> Failed {
    Failed {
        refusal,
        body_failed: false,
        server: None,
        attempts: 0,
    }
}

fn content_length(fields: &HeaderMap) -> Option<u64> {
    // The canonical head has checked its form, and that there is one alone.
    fields
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
