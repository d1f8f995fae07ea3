//! Bodies in both directions: bounded, timed, counted, and held as a whole only where a decision
//! reads one.

use std::cell::Cell;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use super::track::InFlight;
use crate::refusal::Reason;
use crate::telemetry::access::Received;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is longer than allowed")]
    TooLarge,
    /// Nothing came for too long.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection or its framing broke.
    #[error("the body broke off: {0}")]
    Broken(hyper::Error),
}

/// How far the body of a request came, readable after the body is gone.
#[derive(Debug, Default)]
pub struct Progress {
    read: Cell<u64>,
    whole: Cell<bool>,
    failure: Cell<Option<Reason>>,
}

impl Progress {
    /// Whether all of it was read.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.get()
    }

    /// Why it failed, if it did: an error of the upstream that the client's body caused is 413, 408
    /// or 400 and never 502.
    #[must_use]
    pub fn failure(&self) -> Option<Reason> {
        self.failure.get()
    }
}

impl Received for Progress {
    fn bytes(&self) -> u64 {
        self.read.get()
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    inner: hyper::body::Incoming,
    limit: u64,
    timeout: Duration,
    progress: Rc<Progress>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When something last came, or was first waited for.
    since: Option<Instant>,
    /// What was read for the decision, and goes on before the rest. Boxed: few are read, and all are
    /// moved on and on with their request.
    ahead: Option<Box<Ahead>>,
}

/// The part of a body that was read before it was sent on.
#[derive(Debug, Default)]
struct Ahead {
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether it is all of it.
    ended: bool,
}

impl RequestBody {
    /// A body under these bounds.
    #[must_use]
    pub fn new(inner: hyper::body::Incoming, limit: u64, timeout: Duration) -> Self {
        Self {
            inner,
            limit,
            timeout,
            progress: Rc::default(),
            timer: None,
            since: None,
            ahead: None,
        }
    }

    /// Reads the body for the decision, at most `most` bytes of it. Whatever was read, trailers
    /// included, is sent on afterwards as it came, also where this fails.
    ///
    /// # Errors
    /// `body_too_large`, `request_too_slow`, `request_malformed`.
    pub async fn read_ahead(&mut self, most: usize) -> Result<Bytes, Reason> {
        let mut ahead = self.ahead.take().unwrap_or_default();
        let mut data = BytesMut::from(std::mem::take(&mut ahead.data));
        let read = loop {
            if self
                .inner
                .size_hint()
                .lower()
                .saturating_add(data.len() as u64)
                > most as u64
            {
                break Err(Reason::BodyTooLarge);
            }
            if ahead.ended {
                break Ok(());
            }
            let next = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_inner(cx)).await;
            match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => data.extend_from_slice(&piece),
                Some(Ok(Err(frame))) => ahead.trailers = frame.into_trailers().ok(),
                Some(Err(_)) => {
                    let failure = self.progress.failure();
                    break Err(failure.unwrap_or(Reason::RequestMalformed));
                }
                None => ahead.ended = true,
            }
        };
        ahead.data = data.freeze();
        let data = ahead.data.clone();
        self.ahead = Some(ahead);
        read.map(|()| data)
    }

    /// Other bounds: those of the route.
    pub fn set_bounds(&mut self, limit: u64, timeout: Duration) {
        self.limit = limit;
        self.timeout = timeout;
    }

    /// Whether the length that the client declared is above the limit.
    #[must_use]
    pub fn declared_too_large(&self) -> bool {
        self.size_hint().lower() > self.limit
    }

    /// See [`Progress`].
    #[must_use]
    pub fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    fn fail(
        &mut self,
        reason: Reason,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.failure.set(Some(reason));
        Poll::Ready(Some(Err(error)))
    }
}

impl RequestBody {
    /// The next frame from the connection.
    fn poll_inner(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.since = None;
                self.progress.whole.set(self.inner.is_end_stream());
                if let Some(data) = frame.data_ref() {
                    let read = self.progress.read.get().saturating_add(data.len() as u64);
                    self.progress.read.set(read);
                    if read > self.limit {
                        return self.fail(Reason::BodyTooLarge, BodyError::TooLarge);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(Reason::RequestMalformed, BodyError::Broken(error))
            }
            Poll::Ready(None) => {
                self.progress.whole.set(true);
                Poll::Ready(None)
            }
            Poll::Pending => {
                // The timer is set once and looked at when it fires: pieces that come do not
                // touch it.
                let since = *self.since.get_or_insert_with(Instant::now);
                let due = since + self.timeout;
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                loop {
                    ready!(timer.as_mut().poll(cx));
                    if Instant::now() >= due {
                        return self.fail(Reason::RequestTooSlow, BodyError::TooSlow);
                    }
                    timer.as_mut().reset(due);
                }
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(ahead) = &mut self.ahead {
            if !ahead.data.is_empty() {
                let data = std::mem::take(&mut ahead.data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(trailers) = ahead.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if ahead.ended {
                return Poll::Ready(None);
            }
        }
        self.poll_inner(cx)
    }

    fn is_end_stream(&self) -> bool {
        let Some(ahead) = &self.ahead else {
            return self.inner.is_end_stream();
        };
        let given = ahead.data.is_empty() && ahead.trailers.is_none();
        given && (ahead.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.inner.size_hint();
        let Some(ahead) = &self.ahead else {
            return rest;
        };
        let length = ahead.data.len() as u64;
        // With trailers it must not be sent as a body of known length, which has none.
        if ahead.ended && ahead.trailers.is_none() {
            return SizeHint::with_exact(length);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(length));
        if let Some(upper) = rest.upper().filter(|_| !ahead.ended) {
            hint.set_upper(upper.saturating_add(length));
        }
        hint
    }
}

/// How an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Bytes handed to the connection.
    pub bytes: u64,
    /// Whether it was all of it.
    pub complete: bool,
}

enum Content {
    Empty,
    Full(Bytes),
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>),
}

/// The body of an answer.
pub struct AnswerBody {
    content: Content,
    bytes: u64,
    /// Where it is cut off, and what wakes it there.
    deadline: Option<(Instant, Option<Pin<Box<Sleep>>>)>,
    on_end: Option<Box<dyn FnOnce(End)>>,
    held: Option<InFlight>,
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl AnswerBody {
    fn of(content: Content) -> Self {
        Self {
            content,
            bytes: 0,
            deadline: None,
            on_end: None,
            held: None,
        }
    }

    /// None.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Content::Empty)
    }

    /// These bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::of(Content::Full(bytes.into()))
    }

    /// Another body, as it comes.
    #[must_use]
    pub fn streamed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            Self::empty()
        } else {
            Self::of(Content::Streamed(Box::pin(body.map_err(Into::into))))
        }
    }

    /// Runs once, when the body ended, failed or was dropped.
    pub fn on_end(&mut self, then: impl FnOnce(End) + 'static) {
        self.on_end = Some(Box::new(then));
    }

    /// Cuts a stream off at this moment.
    pub fn until(&mut self, deadline: Instant) {
        if matches!(self.content, Content::Streamed(_)) {
            self.deadline = Some((deadline, None));
        }
    }

    /// The connection is busy with it until it ends.
    pub(super) fn hold(&mut self, in_flight: InFlight) {
        self.held = Some(in_flight);
    }

    /// The bytes, where they are all here.
    pub(super) fn into_full(mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.content, Content::Empty) {
            Content::Full(bytes) => Some(bytes),
            Content::Empty | Content::Streamed(_) => None,
        }
    }

    fn end(&mut self, complete: bool) {
        if let Some(then) = self.on_end.take() {
            then(End {
                bytes: self.bytes,
                complete,
            });
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match &mut this.content {
            Content::Empty => {
                this.end(true);
                Poll::Ready(None)
            }
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                this.bytes = bytes.len() as u64;
                this.end(true);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Streamed(body) => {
                let polled = body.as_mut().poll_frame(cx);
                if let Some((deadline, timer)) = &mut this.deadline {
                    // A timer only once there is something to wait for: most answers are here
                    // before there is.
                    let over = match &polled {
                        Poll::Ready(_) => Instant::now() >= *deadline,
                        Poll::Pending => timer
                            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(*deadline)))
                            .as_mut()
                            .poll(cx)
                            .is_ready(),
                    };
                    if over {
                        this.end(false);
                        return Poll::Ready(Some(Err(
                            "the token expired while the answer was sent".into(),
                        )));
                    }
                }
                let frame = ready!(polled);
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            this.bytes = this.bytes.saturating_add(data.len() as u64);
                        }
                        if body.is_end_stream() {
                            this.end(true);
                        }
                    }
                    Some(Err(_)) => this.end(false),
                    None => this.end(true),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Streamed(body) => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // hyper never polls a body that is at its end from the start.
        let complete = self.is_end_stream();
        self.end(complete);
    }
}

#[cfg(test)]
mod tests;
