//! The body of an answer: streamed at the client's pace, and the end of its connection's use.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::BoxError;
use super::http1::{Line, Rest};
use super::local::Local;
use super::multiplex::Stream;
use super::shared::{ServerState, Shared};
use super::upload::Source;
use crate::http::fields::response_trailers;
use crate::refusal::Reason;

/// Body of an upstream's answer.
///
/// It waits for the upstream no longer than its limit between two pieces; while the client does not
/// ask, no time counts. Dropped before its end, it cuts the exchange with the upstream.
pub struct UpstreamBody {
    inner: Inner,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// What the answer comes on.
pub(super) enum Inner {
    /// Nothing is to come.
    None,
    /// HTTP/1.1: goes back to the pool if both directions ended.
    Line {
        line: Line,
        /// The rest of the request, where the answer came before its end.
        rest: Option<Rest>,
        local: Rc<Local>,
        upload: Option<Rc<Source>>,
    },
    /// HTTP/2.
    Stream {
        body: Incoming,
        #[expect(dead_code, reason = "held for its drop")]
        stream: Stream,
        origin: (Arc<Shared>, Arc<ServerState>),
    },
}

/// Why an answer ended before its end. The client's stream must be cut then, not ended.
#[derive(Debug)]
pub enum BodyFailure {
    /// Nothing came for this long.
    TooSlow(Duration),
    /// The connection broke, or what came is no HTTP.
    Broken(BoxError),
}

impl BodyFailure {
    /// The row of the table, for the log.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::TooSlow(_) => Reason::UpstreamTimeout,
            Self::Broken(_) => Reason::UpstreamProtocol,
        }
    }
}

impl fmt::Display for BodyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSlow(limit) => write!(f, "nothing more of the answer came for {limit:?}"),
            Self::Broken(error) => write!(f, "the answer broke off: {error}"),
        }
    }
}

impl std::error::Error for BodyFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooSlow(_) => None,
            Self::Broken(error) => Some(&**error),
        }
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody")
            .field("over", &self.is_end_stream())
            .finish_non_exhaustive()
    }
}

impl UpstreamBody {
    /// A body that is over.
    pub(super) const fn empty() -> Self {
        Self::of(Inner::None, Duration::ZERO)
    }

    pub(super) fn new(inner: Inner, limit: Duration) -> Self {
        let mut body = Self::of(inner, limit);
        // An answer without a body is never polled.
        body.finish_if_ended();
        body
    }

    const fn of(inner: Inner, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            timer: None,
            waiting: false,
        }
    }

    fn finish_if_ended(&mut self) {
        if self.is_end_stream() {
            self.finish();
        }
    }

    /// It ended as it should.
    fn finish(&mut self) {
        self.timer = None;
        if let Inner::Line {
            line,
            rest,
            local,
            upload,
        } = std::mem::replace(&mut self.inner, Inner::None)
        {
            drop(rest);
            // An answer that came before the end of the upload leaves the rest of it on the
            // connection: that one is cut.
            if upload.is_none_or(|upload| upload.complete()) {
                local.put_back(line);
            }
        }
    }

    fn fail(&mut self, failure: BodyFailure) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        match std::mem::replace(&mut self.inner, Inner::None) {
            Inner::None => {}
            Inner::Line { local, upload, .. } => {
                // A client that breaks its upload off cuts the answer with it; that is its own
                // doing.
                if !upload.is_some_and(|upload| upload.failed()) {
                    local.shared.failed(&local.state, failure.reason());
                }
            }
            Inner::Stream { origin, .. } => origin.0.failed(&origin.1, failure.reason()),
        }
        Poll::Ready(Some(Err(failure)))
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let polled = match &mut self.inner {
            Inner::None => return Poll::Ready(None),
            Inner::Line { line, .. } => line.borrow_mut().poll_body(cx),
            Inner::Stream { body, .. } => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(BoxError::from))),
        };
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if !self.waiting {
                    self.waiting = true;
                    let at = Instant::now() + self.limit;
                    match &mut self.timer {
                        Some(timer) => timer.as_mut().reset(at),
                        None => self.timer = Some(Box::pin(sleep(self.limit))),
                    }
                }
                if let Some(timer) = &mut self.timer {
                    ready!(timer.as_mut().poll(cx));
                }
                return self.fail(BodyFailure::TooSlow(self.limit));
            }
        };
        self.waiting = false;
        match frame {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Err(error)) => self.fail(BodyFailure::Broken(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.finish_if_ended();
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.finish_if_ended();
                    Poll::Ready(Some(Ok(Frame::trailers(response_trailers(&trailers)))))
                }
            },
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        self.poll_inner(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::None => true,
            Inner::Line { line, .. } => line.borrow().is_over(),
            Inner::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::None => SizeHint::with_exact(0),
            Inner::Line { line, .. } => line
                .borrow()
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Inner::Stream { body, .. } => body.size_hint(),
        }
    }
}
