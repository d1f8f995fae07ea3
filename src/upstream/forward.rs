//! The one place that sends a request on.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep_until};

use super::answer::{Lease, UpstreamBody};
use super::connect::ConnectError;
use super::local::Local;
use super::outgoing::{Framing, Outgoing};
use super::pool::{Pool, Upstream};
use super::upload::{Source, Upload};
use super::websocket::{self, Drained, Ends, Opening};
use super::{BoxError, Protocol};
use crate::http::fields::{Received, response_fields, routed_by_us};
use crate::pdp::authorize::Parts;
use crate::pdp::{Authorized, UnixTime};
use crate::refusal::{Reason, Refusal};

/// What only the connection of the client knows.
pub struct ForwardFacts {
    /// Address of the client's end.
    pub remote: SocketAddr,
    /// What the client spoke: `https`.
    pub scheme: &'static str,
    /// The wall clock, for the end of a WebSocket at the token's `exp`.
    pub now: UnixTime,
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
    pub server: Box<str>,
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
    pub server: Option<Box<str>>,
    /// Tries; see [`Forwarded::attempts`].
    pub attempts: u32,
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Self {
        failed.refusal
    }
}

/// Tries on connections that turned out to be closed before a byte was sent. Each was idle in the
/// pool, so there are not many; after these, a new connection is made.
const STALE: u32 = 4;

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
pub async fn forward<B>(
    pool: &Rc<Pool>,
    permit: Authorized<B>,
    facts: ForwardFacts,
) -> Result<Forwarded, Failed>
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
        Some(port) => format!("{}:{port}", head.host),
        None => head.host.to_string(),
    };
    let received = Received {
        client: facts.remote.ip(),
        scheme: facts.scheme,
        authority: &authority,
        version: head.version,
        interaction_id: head.interaction_id,
    };
    let mut outgoing = Outgoing::new(&head, &route, &rules, &identity, received).map_err(unsent)?;
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
    let opening = Opening::of(&head, &route, no_body).filter(|_| one && facts.on_upgrade.is_some());
    outgoing.opening = opening.as_ref();
    let exchange = Exchange {
        upstream: &upstream,
        outgoing,
        upload,
        body_timeout: facts.body_timeout,
        ends: Ends {
            deadline: expires.map(|at| Instant::now() + at.since(facts.now)),
            drain: facts.drain,
        },
        client: facts.on_upgrade,
        server: None,
        attempts: 0,
    };
    exchange.run().await
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

/// One request on its way, over all its tries.
struct Exchange<'a> {
    upstream: &'a Upstream,
    outgoing: Outgoing<'a>,
    upload: Option<Rc<Source>>,
    body_timeout: Duration,
    ends: Ends,
    client: Option<OnUpgrade>,
    server: Option<Box<str>>,
    attempts: u32,
}

/// How a try ended that brought no answer.
enum Miss {
    /// Not a byte was sent.
    Unsent(Refusal),
    /// An old connection closed without a byte: the server may have seen the request or not.
    Silent(Refusal),
    /// It was sent, and that is that.
    Sent(Refusal),
    /// No connection.
    Unconnected(ConnectError),
}

impl Exchange<'_> {
    async fn run(mut self) -> Result<Forwarded, Failed> {
        let settings = self.upstream.shared.settings();
        let mut order = self.upstream.order();
        let mut retries = settings.retries;
        let mut stale = 0_u32;
        let mut current = self.upstream.next(&mut order);
        let mut refusal = Refusal::because(Reason::UpstreamUnreachable, "it has no servers");
        while let Some(index) = current {
            let Some(local) = self.upstream.local(index) else {
                break;
            };
            let local = Rc::clone(local);
            self.server = Some(local.state.authority.clone());
            // After a connection that was closed, others of its age are no better.
            let fresh =
                self.outgoing.opening.is_some() || stale >= STALE || retries < settings.retries;
            let miss = match settings.protocol {
                Protocol::Http1 => self.try_http1(&local, fresh).await,
                Protocol::Http2 => self.try_http2(&local).await,
            };
            match miss {
                Ok(forwarded) => return Ok(forwarded),
                Err(Miss::Unconnected(error)) => {
                    // Places are ours; all else is the server's.
                    if error.reason == Reason::Overloaded {
                        local.state.metrics.failed(error.reason);
                    } else {
                        self.upstream.shared.failed(&local.state, error.reason);
                    }
                    refusal = error.refusal();
                    current = self.upstream.next(&mut order);
                }
                Err(Miss::Unsent(why)) => {
                    refusal = why;
                    if stale > STALE {
                        // New connections do no better.
                        self.upstream.shared.failed(&local.state, refusal.reason());
                        current = self.upstream.next(&mut order);
                    }
                    stale = stale.saturating_add(1);
                }
                Err(Miss::Silent(_)) if retries > 0 && self.is_repeatable() => {
                    retries = retries.saturating_sub(1);
                    local.state.metrics.retries.add_one();
                }
                Err(Miss::Silent(why) | Miss::Sent(why)) => {
                    refusal = why;
                    if !self.body_failed() {
                        self.upstream.shared.failed(&local.state, refusal.reason());
                    }
                    current = None;
                }
            }
        }
        let body_failed = self.body_failed();
        Err(Failed {
            refusal: if body_failed {
                Refusal::because(Reason::RequestMalformed, "the client's body broke off")
            } else {
                refusal
            },
            body_failed,
            server: self.server,
            attempts: self.attempts,
        })
    }

    fn body_failed(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.failed())
    }

    fn body_untouched(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| !upload.touched())
    }

    /// RFC 9110 s9.2.2; TRACE never gets here.
    fn is_repeatable(&self) -> bool {
        self.is_idempotent() && self.body_untouched()
    }

    fn is_idempotent(&self) -> bool {
        matches!(
            self.outgoing.head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        )
    }

    fn request(&self, local: &Local, protocol: Protocol) -> Result<Request<Upload>, Miss> {
        let tls = local.settings().tls.is_some();
        let upload = Upload::new(self.upload.clone());
        self.outgoing
            .request(&local.state, protocol, tls, upload)
            .map_err(Miss::Sent)
    }

    async fn try_http1(&mut self, local: &Rc<Local>, fresh: bool) -> Result<Forwarded, Miss> {
        let careful = !self.is_idempotent();
        let (mut connection, reused) = local
            .checkout(fresh, careful)
            .await
            .map_err(Miss::Unconnected)?;
        let request = self.request(local, Protocol::Http1)?;
        let received = connection.received();
        let before = received.load(Ordering::Relaxed);
        connection.occupy();
        self.count(local);
        let sending = connection.sender.try_send_request(request);
        let answer = match self.head_of_answer(sending, local).await {
            Ok(answer) => answer,
            Err(Broken::Slow(refusal)) => return Err(Miss::Sent(refusal)),
            Err(Broken::Unsent(refusal)) if self.body_untouched() => {
                self.attempts = self.attempts.saturating_sub(1);
                return Err(Miss::Unsent(refusal));
            }
            Err(Broken::Unsent(refusal) | Broken::Sent(refusal, _)) => {
                let silent = reused && received.load(Ordering::Relaxed) == before;
                return Err(if silent {
                    Miss::Silent(refusal)
                } else {
                    Miss::Sent(refusal)
                });
            }
        };
        self.judge(&answer).map_err(Miss::Sent)?;
        if answer.status() == websocket::SWITCHING {
            let (Some(_), Some(client)) = (self.outgoing.opening, self.client.take()) else {
                return Err(Miss::Sent(protocol_error("a 101 that nobody asked for")));
            };
            let ends = Ends {
                deadline: self.ends.deadline,
                drain: self.ends.drain.take(),
            };
            let version = answer.version();
            let fields = websocket::tunnel(answer, client, connection, ends);
            let mut response = Response::new(UpstreamBody::empty());
            *response.status_mut() = websocket::SWITCHING;
            *response.version_mut() = version;
            *response.headers_mut() = fields;
            self.upstream.shared.succeeded(&local.state);
            return Ok(self.done(response));
        }
        let lease = Lease::Connection {
            connection,
            local: Rc::clone(local),
            upload: self.upload.clone(),
        };
        Ok(self.answered(answer, lease, local))
    }

    async fn try_http2(&mut self, local: &Rc<Local>) -> Result<Forwarded, Miss> {
        let (stream, reused) = local.stream().await.map_err(Miss::Unconnected)?;
        let request = self.request(local, Protocol::Http2)?;
        self.count(local);
        let mut sender = stream.sender();
        let sending = sender.try_send_request(request);
        let answer = match self.head_of_answer(sending, local).await {
            Ok(answer) => answer,
            Err(Broken::Slow(refusal)) => return Err(Miss::Sent(refusal)),
            Err(Broken::Unsent(refusal)) if self.body_untouched() => {
                stream.leave();
                self.attempts = self.attempts.saturating_sub(1);
                return Err(Miss::Unsent(refusal));
            }
            Err(Broken::Sent(refusal, refused)) if refused && self.body_untouched() => {
                // The server says itself that it did nothing (RFC 9113 s8.7).
                return Err(Miss::Unsent(refusal));
            }
            Err(Broken::Unsent(refusal) | Broken::Sent(refusal, _)) => {
                let silent = reused && sender.is_closed();
                if sender.is_closed() {
                    stream.leave();
                }
                return Err(if silent {
                    Miss::Silent(refusal)
                } else {
                    Miss::Sent(refusal)
                });
            }
        };
        self.judge(&answer).map_err(Miss::Sent)?;
        Ok(self.answered(answer, Lease::Stream { stream }, local))
    }

    fn count(&mut self, local: &Local) {
        self.attempts = self.attempts.saturating_add(1);
        local.state.metrics.requests.add_one();
    }

    /// What no answer may be. Its connection is dropped with it.
    fn judge(&self, answer: &Response<Incoming>) -> Result<(), Refusal> {
        let fields = answer.headers();
        if fields.contains_key(header::TRANSFER_ENCODING)
            && fields.contains_key(header::CONTENT_LENGTH)
        {
            // RFC 9112 s6.3, HTTP-20: the two disagree, and somebody may mean the other one.
            return Err(protocol_error("both Content-Length and Transfer-Encoding"));
        }
        if answer.status() == websocket::SWITCHING {
            let opening = self
                .outgoing
                .opening
                .ok_or_else(|| protocol_error("a 101 that nobody asked for"))?;
            return opening.agreed(fields).map_err(protocol_error);
        }
        Ok(())
    }

    fn answered(&self, answer: Response<Incoming>, lease: Lease, local: &Local) -> Forwarded {
        let shared = &self.upstream.shared;
        let (parts, body) = answer.into_parts();
        // A gateway's own errors mean that the server behind it is gone.
        if matches!(parts.status.as_u16(), 502..=504) {
            shared.counts_against(&local.state);
        } else {
            shared.succeeded(&local.state);
        }
        let origin = (Arc::clone(shared), Arc::clone(&local.state));
        let body = UpstreamBody::new(body, lease, self.body_timeout, origin);
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.version_mut() = parts.version;
        *response.headers_mut() = response_fields(&parts.headers);
        self.done(response)
    }

    fn done(&self, response: Response<UpstreamBody>) -> Forwarded {
        Forwarded {
            response,
            server: self.server.clone().unwrap_or_default(),
            attempts: self.attempts,
        }
    }

    /// Waits for the head of the answer: `response_timeout` from the end of the request, as far as
    /// it came. A long upload that goes on is not slow.
    async fn head_of_answer(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>>,
        local: &Local,
    ) -> Result<Response<Incoming>, Broken> {
        let limit = local.settings().response_timeout;
        let started = Instant::now();
        let sleep = sleep_until(started + limit);
        tokio::pin!(sending, sleep);
        loop {
            tokio::select! {
                biased;
                result = &mut sending => return result.map_err(broken),
                () = &mut sleep => {}
            }
            let last = self
                .upload
                .as_ref()
                .map_or(started, |upload| upload.progress().max(started));
            let due = last + limit;
            if due <= Instant::now() {
                return Err(Broken::Slow(Refusal::because(
                    Reason::UpstreamTimeout,
                    format!("no answer in {limit:?} (response_timeout)"),
                )));
            }
            sleep.as_mut().reset(due);
        }
    }
}

/// Why a request on a connection brought no answer.
enum Broken {
    Slow(Refusal),
    Unsent(Refusal),
    /// And whether the server said that it did not look at it.
    Sent(Refusal, bool),
}

fn broken(mut error: TrySendError<Request<Upload>>) -> Broken {
    let unsent = error.take_message().is_some();
    let error = error.into_error();
    let refused = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
        });
    let detail = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let refusal = Refusal::because(Reason::UpstreamProtocol, detail);
    if unsent {
        Broken::Unsent(refusal)
    } else {
        Broken::Sent(refusal, refused)
    }
}

fn protocol_error(detail: &'static str) -> Refusal {
    Refusal::because(Reason::UpstreamProtocol, detail)
}
