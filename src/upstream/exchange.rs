//! One request over all its tries, each on a connection of its own: what may be sent again, and
//! what an answer must be to be one.

use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep_until};

use super::Protocol;
use super::answer::{Lease, UpstreamBody};
use super::connect::ConnectError;
use super::forward::{Failed, Forwarded};
use super::local::Local;
use super::outgoing::Outgoing;
use super::pool::Upstream;
use super::upload::{Source, Upload};
use super::websocket::{self, Ends};
use crate::http::fields::response_fields;
use crate::refusal::{Reason, Refusal};

/// Tries on connections that turned out to be closed before a byte was sent. Each was idle in the
/// pool, so there are not many; after these, a new connection is made.
const STALE: u32 = 4;

/// One request on its way, over all its tries.
pub(super) struct Exchange<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) outgoing: Outgoing<'a>,
    pub(super) upload: Option<Rc<Source>>,
    pub(super) body_timeout: Duration,
    pub(super) ends: Ends,
    pub(super) client: Option<OnUpgrade>,
    pub(super) server: Option<Arc<str>>,
    pub(super) attempts: u32,
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
    pub(super) async fn run(mut self) -> Result<Forwarded, Failed> {
        let settings = self.upstream.shared.settings();
        let mut order = self.upstream.order();
        let mut retries = settings.retries;
        let mut stale = 0_u32;
        let mut current = self.upstream.next(&mut order);
        let mut refusal = None;
        while let Some(index) = current {
            let Some(local) = self.upstream.local(index) else {
                break;
            };
            let local = Rc::clone(local);
            self.server = Some(Arc::clone(&local.state.authority));
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
                    refusal = Some(error.refusal());
                    current = self.upstream.next(&mut order);
                }
                Err(Miss::Unsent(why)) => {
                    if stale > STALE {
                        // New connections do no better.
                        self.upstream.shared.failed(&local.state, why.reason());
                        current = self.upstream.next(&mut order);
                    }
                    refusal = Some(why);
                    stale = stale.saturating_add(1);
                }
                Err(Miss::Silent(_)) if retries > 0 && self.is_repeatable() => {
                    retries = retries.saturating_sub(1);
                    local.state.metrics.retries.add_one();
                }
                Err(Miss::Silent(why) | Miss::Sent(why)) => {
                    if !self.body_failed() {
                        self.upstream.shared.failed(&local.state, why.reason());
                    }
                    refusal = Some(why);
                    current = None;
                }
            }
        }
        let body_failed = self.body_failed();
        Err(Failed {
            refusal: if body_failed {
                Refusal::because(Reason::RequestMalformed, "the client's body broke off")
            } else {
                refusal.unwrap_or_else(|| {
                    Refusal::because(Reason::UpstreamUnreachable, "it has no servers")
                })
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
        let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next()
            && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
        {
            // RFC 9112 s6.1: the field is not passed on, so what is coded otherwise would arrive
            // as if it were not.
            return Err(protocol_error("a Transfer-Encoding other than chunked"));
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
        *response.headers_mut() = response_fields(parts.headers);
        self.done(response)
    }

    fn done(&self, response: Response<UpstreamBody>) -> Forwarded {
        Forwarded {
            response,
            server: self.server.clone().unwrap_or_else(|| "".into()),
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
