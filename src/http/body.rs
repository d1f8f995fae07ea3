//! Bodies in both directions: bounded, timed, counted, and never held as a whole.

use std::cell::Cell;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use super::track::InFlight;
use crate::refusal::Reason;

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

/// Tells, after the fact, whether it was the client's body that failed: an error of the upstream
/// that it caused is 413, 408 or 400 and never 502.
#[derive(Debug, Clone, Default)]
pub struct FailureHandle(Rc<Cell<Option<Reason>>>);

impl FailureHandle {
    /// The cause, if the body failed.
    #[must_use]
    pub fn cause(&self) -> Option<Reason> {
        self.0.get()
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    inner: hyper::body::Incoming,
    limit: u64,
    timeout: Duration,
    read: Rc<Cell<u64>>,
    whole: Rc<Cell<bool>>,
    failure: FailureHandle,
    timer: Option<Pin<Box<Sleep>>>,
    /// When something last came, or was first waited for.
    since: Option<Instant>,
}

impl RequestBody {
    /// A body under these bounds.
    #[must_use]
    pub fn new(inner: hyper::body::Incoming, limit: u64, timeout: Duration) -> Self {
        Self {
            inner,
            limit,
            timeout,
            read: Rc::default(),
            whole: Rc::default(),
            failure: FailureHandle::default(),
            timer: None,
            since: None,
        }
    }

    /// Other bounds: those of the route.
    pub fn set_bounds(&mut self, limit: u64, timeout: Duration) {
        self.limit = limit;
        self.timeout = timeout;
    }

    /// Whether the length that the client declared is above the limit.
    #[must_use]
    pub fn declared_too_large(&self) -> bool {
        self.inner.size_hint().lower() > self.limit
    }

    /// Bytes read so far, readable after the body is gone.
    #[must_use]
    pub fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read)
    }

    /// Whether all of it was read, readable after the body is gone.
    #[must_use]
    pub fn read_whole(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.whole)
    }

    /// See [`FailureHandle`].
    #[must_use]
    pub fn failure_handle(&self) -> FailureHandle {
        self.failure.clone()
    }

    fn fail(
        &mut self,
        reason: Reason,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.failure.0.set(Some(reason));
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.since = None;
                self.whole.set(self.inner.is_end_stream());
                if let Some(data) = frame.data_ref() {
                    let read = self.read.get().saturating_add(data.len() as u64);
                    self.read.set(read);
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
                self.whole.set(true);
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

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Frames, each after a pause; then silence, or the end.
    struct Slow {
        frames: VecDeque<(Duration, Bytes)>,
        ends: bool,
        sleep: Option<Pin<Box<Sleep>>>,
    }

    impl Body for Slow {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let Some((pause, _)) = self.frames.front() else {
                return if self.ends {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                };
            };
            let pause = *pause;
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            let (_, data) = self.frames.pop_front().unwrap();
            Poll::Ready(Some(Ok(Frame::data(data))))
        }
    }

    fn slow(pieces: &[(u64, &'static str)], ends: bool) -> AnswerBody {
        AnswerBody::streamed(Slow {
            frames: pieces
                .iter()
                .map(|(pause, data)| {
                    (
                        Duration::from_secs(*pause),
                        Bytes::from_static(data.as_bytes()),
                    )
                })
                .collect(),
            ends,
            sleep: None,
        })
    }

    /// How a body said that it ended.
    fn watched(body: &mut AnswerBody) -> Rc<Cell<Option<End>>> {
        let said = Rc::new(Cell::new(None));
        let to = Rc::clone(&said);
        body.on_end(move |end| {
            assert!(to.replace(Some(end)).is_none(), "it ends once");
        });
        said
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_told_once_however_it_comes() {
        for (make, whole) in [
            ((|| AnswerBody::empty()) as fn() -> AnswerBody, 0),
            (|| AnswerBody::full("abcde"), 5),
            (|| slow(&[(1, "ab"), (1, "cde")], true), 5),
        ] {
            let mut body = make();
            let said = watched(&mut body);
            let read = (&mut body).collect().await.unwrap().to_bytes();
            drop(body);
            let bytes = read.len() as u64;
            assert_eq!(bytes, whole);
            assert_eq!(
                said.get(),
                Some(End {
                    bytes,
                    complete: true
                })
            );
        }
        // A client that leaves in the middle.
        let mut body = slow(&[(1, "ab"), (1, "cde")], true);
        let said = watched(&mut body);
        assert!(body.frame().await.is_some());
        drop(body);
        assert_eq!(
            said.get(),
            Some(End {
                bytes: 2,
                complete: false
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token_whether_it_flows_or_stands() {
        for ends in [false, true] {
            let mut body = slow(&[(1, "a"), (2, "b"), (3, "c")], ends);
            let said = watched(&mut body);
            body.until(Instant::now() + Duration::from_secs(4));
            let began = Instant::now();
            assert!(body.frame().await.unwrap().is_ok());
            assert!(body.frame().await.unwrap().is_ok());
            assert!(body.frame().await.unwrap().is_err(), "its time is over");
            assert_eq!(began.elapsed(), Duration::from_secs(4));
            drop(body);
            assert_eq!(
                said.get(),
                Some(End {
                    bytes: 2,
                    complete: false
                })
            );
        }
        // One that is always ready is cut all the same.
        let mut body = slow(&[(0, "a"), (0, "b")], true);
        body.until(Instant::now());
        assert!(body.frame().await.unwrap().is_err());
        // What is here as a whole needs no deadline: it was decided while the token was good.
        let mut body = AnswerBody::full("abc");
        body.until(Instant::now());
        assert!(body.frame().await.unwrap().is_ok());
    }
}
