//! The client's body on its way up: watched, so that the rest knows whether it was touched, how it
//! goes on, and how it ended.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::BoxError;
use crate::http::fields::{FieldRules, request_trailers};

type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>;

/// The body, and what is known of it. It outlives the connection that it was given to, so that a
/// body which was never touched can be given to another.
pub(super) struct Source {
    body: RefCell<Option<BoxBody>>,
    rules: Rc<FieldRules>,
    /// `Content-Length` of the client.
    declared: Option<u64>,
    /// The request names trailers in `Trailer`; they come after the last byte.
    trailers: bool,
    sent: Cell<u64>,
    touched: Cell<bool>,
    state: Cell<State>,
    progress: Cell<Instant>,
    /// The next piece was asked for, and the client has not sent it.
    awaited: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    Complete,
    Failed,
}

impl Source {
    pub(super) fn new(
        body: BoxBody,
        declared: Option<u64>,
        trailers: bool,
        rules: Rc<FieldRules>,
    ) -> Rc<Self> {
        Rc::new(Self {
            body: RefCell::new(Some(body)),
            rules,
            declared,
            trailers,
            sent: Cell::new(0),
            touched: Cell::new(false),
            state: Cell::new(State::UnderWay),
            progress: Cell::new(Instant::now()),
            awaited: Cell::new(false),
        })
    }

    /// Whether a byte of it was asked for: then it cannot be sent a second time.
    pub(super) const fn touched(&self) -> bool {
        self.touched.get()
    }

    /// Whether all of it went up.
    pub(super) fn complete(&self) -> bool {
        self.state.get() == State::Complete
    }

    /// Whether the client broke it off, or it was not what it declared.
    pub(super) fn failed(&self) -> bool {
        self.state.get() == State::Failed
    }

    /// Since when the server has had all that there is: the last piece, or now while it waits for
    /// the client, whose slowness is not the server's (`body_timeout` bounds it).
    pub(super) fn progress(&self) -> Instant {
        if self.awaited.get() {
            Instant::now()
        } else {
            self.progress.get()
        }
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.declared?.saturating_sub(self.sent.get()))
    }

    fn fail(&self, error: impl Into<BoxError>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.state.set(State::Failed);
        Poll::Ready(Some(Err(error.into())))
    }

    /// A stream that ends short of its `Content-Length` must not end like a whole one: the server
    /// would take the next request on the connection for the rest (CVE-2026-33555).
    fn end(&self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.remaining().is_some_and(|left| left > 0) {
            return self.fail("the body ended short of its Content-Length");
        }
        self.state.set(State::Complete);
        Poll::Ready(None)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.state.get() {
            State::Complete => return Poll::Ready(None),
            State::Failed => return self.fail("the body failed before"),
            State::UnderWay => {}
        }
        self.touched.set(true);
        let mut held = self.body.borrow_mut();
        let Some(body) = held.as_mut() else {
            return self.fail("the body is gone");
        };
        let polled = body.as_mut().poll_frame(cx);
        self.awaited.set(polled.is_pending());
        let frame = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return self.end(),
            Poll::Ready(Some(Err(error))) => return self.fail(error),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        self.progress.set(Instant::now());
        match frame.into_data() {
            Ok(data) => {
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                if self.remaining().is_some_and(|left| length > left) {
                    return self.fail("the body is longer than its Content-Length");
                }
                self.sent.set(self.sent.get().saturating_add(length));
                // The last byte is the end, unless trailers follow it; who says that the end is
                // here before it is gets found out by the poll after this one.
                let ended = self.remaining() == Some(0) && !self.trailers;
                if ended || body.is_end_stream() && self.remaining().is_none_or(|left| left == 0) {
                    self.state.set(State::Complete);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    if let Poll::Ready(Some(Err(error))) = self.end() {
                        return Poll::Ready(Some(Err(error)));
                    }
                    let trailers = request_trailers(&trailers, &self.rules);
                    if trailers.is_empty() {
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Err(_) => self.fail("the body holds a frame of an unknown kind"),
            },
        }
    }
}

/// The body of one try.
pub(super) struct Upload(Option<Rc<Source>>);

impl Upload {
    pub(super) const fn new(source: Option<Rc<Source>>) -> Self {
        Self(source)
    }
}

impl Drop for Upload {
    /// A body that was touched is of no use to anybody: let the client's connection know.
    fn drop(&mut self) {
        if let Some(source) = &self.0
            && source.touched()
            && let Ok(mut body) = source.body.try_borrow_mut()
        {
            drop(body.take());
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &self.0 {
            None => Poll::Ready(None),
            Some(source) => source.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|source| source.complete())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(source) => source
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
