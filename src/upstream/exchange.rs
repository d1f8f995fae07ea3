//! One request over all its tries, each on a connection of its own: what may be sent again, and
//! what an answer must be to be one.

use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Protocol;
use super::answer::{Inner, UpstreamBody};
use super::connect::ConnectError;
use super::forward::{Failed, Forwarded};
use super::http1::head::Head;
use super::http1::{self, Broken, Line};
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
    /// When the first try begins, until it did.
    pub(super) began: Option<Instant>,
    /// When the request is over, however far it came.
    pub(super) due: Instant,
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
    /// The time of the request is over, which may be the client's doing as well as the server's.
    Over,
}

impl Exchange<'_> {
    pub(super) async fn run(&mut self) -> Result<Forwarded, Failed> {
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
                Protocol::Http2 => {
                    // Boxed, as all that most requests have no use for: its room would be part of
                    // each request, and is as much as the rest of it.
                    let tried = Box::pin(timeout_at(self.due, self.try_http2(&local))).await;
                    tried.unwrap_or(Err(Miss::Over))
                }
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
                Err(Miss::Over) => {
                    let over = "request_timeout is over";
                    refusal = Some(Refusal::because(Reason::UpstreamTimeout, over));
                    current = None;
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
            server: self.server.take(),
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

    async fn try_http1(&mut self, local: &Rc<Local>, fresh: bool) -> Result<Forwarded, Miss> {
        let careful = !self.is_idempotent();
        // The first try begins with the request, which has just asked for the time.
        let now = self.began.take().unwrap_or_else(Instant::now);
        // Most requests find a connection that waits for one, and need no timer for that.
        let idle = if fresh {
            None
        } else {
            local.idle(careful, now).await
        };
        let (line, reused, started) = match idle {
            Some(line) => (line, true, now),
            None => {
                let (line, reused) = Box::pin(timeout_at(self.due, local.checkout(fresh, careful)))
                    .await
                    .map_err(|_elapsed| Miss::Over)?
                    .map_err(Miss::Unconnected)?;
                (line, reused, Instant::now())
            }
        };
        let settings = local.settings();
        let upload = self.upload.clone().map(|source| Upload::new(Some(source)));
        self.outgoing
            .begin(&mut line.borrow_mut(), &local.state, upload)
            .map_err(Miss::Sent)?;
        self.count(local);
        let limit = settings.response_timeout;
        let due = || self.due.min(self.progress(started) + limit);
        let head = match http1::head_of_answer(&line, due).await {
            Ok(head) => head,
            Err(Broken::Slow) if Instant::now() >= self.due => return Err(Miss::Over),
            Err(Broken::Slow) => return Err(Miss::Sent(too_slow(limit))),
            Err(Broken::Unsent(error)) if self.body_untouched() => {
                self.attempts = self.attempts.saturating_sub(1);
                return Err(Miss::Unsent(protocol_error(error.to_string())));
            }
            Err(Broken::Unsent(error) | Broken::Sent(error)) => {
                let refusal = protocol_error(error.to_string());
                return Err(if reused && !line.borrow().heard() {
                    Miss::Silent(refusal)
                } else {
                    Miss::Sent(refusal)
                });
            }
        };
        if head.status == websocket::SWITCHING {
            return self.switched(head, line, local);
        }
        // Else it ends with its answer.
        let rest = (!line.borrow().is_sent()).then(|| http1::send_rest(&line));
        let inner = Inner::Line {
            line,
            rest,
            local: Rc::clone(local),
            upload: self.upload.clone(),
        };
        let fields = response_fields(head.fields);
        Ok(self.answered((head.status, head.version, fields), inner, local))
    }

    /// A 101, after which the connection is the client's, if it asked for that.
    fn switched(&mut self, head: Head, line: Line, local: &Local) -> Result<Forwarded, Miss> {
        let (Some(opening), Some(client)) = (self.outgoing.opening, self.client.take()) else {
            return Err(Miss::Sent(protocol_error("a 101 that nobody asked for")));
        };
        opening
            .agreed(&head.fields)
            .map_err(|why| Miss::Sent(protocol_error(why)))?;
        let Some(connection) = Rc::into_inner(line) else {
            return Err(Miss::Sent(protocol_error("a 101 before the request ended")));
        };
        let ends = Ends {
            deadline: self.ends.deadline,
            drain: self.ends.drain.take(),
        };
        let io = connection.into_inner().into_io();
        let fields = websocket::tunnel(head.fields, client, io, ends);
        let mut response = Response::new(UpstreamBody::empty());
        *response.status_mut() = websocket::SWITCHING;
        *response.version_mut() = head.version;
        *response.headers_mut() = fields;
        self.upstream.shared.succeeded(&local.state);
        Ok(self.done(response))
    }

    async fn try_http2(&mut self, local: &Rc<Local>) -> Result<Forwarded, Miss> {
        let (stream, reused) = local.stream().await.map_err(Miss::Unconnected)?;
        let tls = local.settings().tls.is_some();
        let request = self
            .outgoing
            .request(&local.state, tls, Upload::new(self.upload.clone()))
            .map_err(Miss::Sent)?;
        self.count(local);
        let mut sender = stream.sender();
        let sending = sender.try_send_request(request);
        let answer = match self.head_of_answer(sending, local).await {
            Ok(answer) => answer,
            Err(Failure::Slow) => {
                return Err(Miss::Sent(too_slow(local.settings().response_timeout)));
            }
            Err(Failure::Unsent(refusal)) if self.body_untouched() => {
                stream.leave();
                self.attempts = self.attempts.saturating_sub(1);
                return Err(Miss::Unsent(refusal));
            }
            Err(Failure::Sent(refusal, refused)) if refused && self.body_untouched() => {
                // The server says itself that it did nothing (RFC 9113 s8.7).
                return Err(Miss::Unsent(refusal));
            }
            Err(Failure::Unsent(refusal) | Failure::Sent(refusal, _)) => {
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
        if answer.status() == websocket::SWITCHING {
            return Err(Miss::Sent(protocol_error("a 101 that nobody asked for")));
        }
        let origin = (Arc::clone(&local.shared), Arc::clone(&local.state));
        let (parts, body) = answer.into_parts();
        let inner = Inner::Stream {
            body,
            stream,
            origin,
        };
        let fields = response_fields(parts.headers);
        Ok(self.answered((parts.status, parts.version, fields), inner, local))
    }

    fn count(&mut self, local: &Local) {
        self.attempts = self.attempts.saturating_add(1);
        local.state.metrics.requests.add_one();
    }

    fn answered(
        &self,
        (status, version, fields): (StatusCode, Version, HeaderMap),
        inner: Inner,
        local: &Local,
    ) -> Forwarded {
        let shared = &self.upstream.shared;
        // A gateway's own errors mean that the server behind it is gone.
        if matches!(status.as_u16(), 502..=504) {
            shared.counts_against(&local.state);
        } else {
            shared.succeeded(&local.state);
        }
        let mut response = Response::new(UpstreamBody::new(inner, self.body_timeout));
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = fields;
        self.done(response)
    }

    fn done(&self, response: Response<UpstreamBody>) -> Forwarded {
        Forwarded {
            response,
            server: self.server.clone().unwrap_or_else(|| "".into()),
            attempts: self.attempts,
        }
    }

    /// Since when the server has had all that there is of the request: a long upload that goes on
    /// is not slow.
    fn progress(&self, started: Instant) -> Instant {
        let upload = self.upload.as_ref();
        upload.map_or(started, |upload| upload.progress().max(started))
    }

    /// Waits for the head of the answer: `response_timeout` from the end of the request, as far as
    /// it came.
    async fn head_of_answer(
        &self,
        sending: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>>,
        local: &Local,
    ) -> Result<Response<Incoming>, Failure> {
        let limit = local.settings().response_timeout;
        let started = Instant::now();
        let sleep = sleep_until(started + limit);
        tokio::pin!(sending, sleep);
        loop {
            tokio::select! {
                biased;
                result = &mut sending => return result.map_err(failure),
                () = &mut sleep => {}
            }
            let due = self.progress(started) + limit;
            if due <= Instant::now() {
                return Err(Failure::Slow);
            }
            sleep.as_mut().reset(due);
        }
    }
}

/// Why a request on a stream of HTTP/2 brought no answer.
enum Failure {
    Slow,
    Unsent(Refusal),
    /// And whether the server said that it did not look at it.
    Sent(Refusal, bool),
}

fn failure(mut error: TrySendError<Request<Upload>>) -> Failure {
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
        Failure::Unsent(refusal)
    } else {
        Failure::Sent(refusal, refused)
    }
}

fn protocol_error(detail: impl Into<Box<str>>) -> Refusal {
    Refusal::because(Reason::UpstreamProtocol, detail)
}

fn too_slow(limit: Duration) -> Refusal {
    Refusal::because(
        Reason::UpstreamTimeout,
        format!("no answer in {limit:?} (response_timeout)"),
    )
}
