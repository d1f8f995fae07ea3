//! HTTP/1.1 towards a server: one connection, one request at a time.
//!
//! It runs in the task of the request that is on it, without a task and channels of its own: between
//! a request and its answer nothing is handed from one task to another, and nothing waits its turn
//! twice. What is parsed is parsed by `httparse`; where a body ends is decided here (`head.rs`).

pub mod chunked;
pub mod head;
mod sending;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, Sleep, sleep};

use self::chunked::{Chunked, Piece};
use self::head::{Extent, Head, Malformed, malformed};
use self::sending::{Cut, Sending};
use super::BoxError;
use super::connect::Io;
use super::upload::Upload;

pub(super) use self::sending::{Framing, field};

/// Bytes of a head, of all interim ones before it too.
const HEADS: usize = 64 * 1024;
/// What is read from a server at once: at first, and at most.
const READ_FIRST: usize = 8 * 1024;
const READ_MOST: usize = 64 * 1024;

/// A connection, as the pool and the answer on it share it.
pub(super) type Line = Rc<RefCell<Connection>>;

/// A connection to a server.
pub(super) struct Connection {
    io: Io,
    sending: Sending,
    /// What came and was not looked at.
    input: BytesMut,
    /// What the next read asks for.
    ask: usize,
    /// What the request that is on it asked with.
    method: Method,
    body: Body,
    /// Bytes of heads that came since the request began.
    heads: usize,
    /// How much of `input` was searched for the end of a head.
    searched: usize,
    /// A byte came since the request began.
    heard: bool,
    /// As far as is known, another request can follow.
    persists: bool,
    /// The rest of the request could not be sent.
    cut: Option<Cut>,
    /// Who waits for a piece of the answer while a task sends the rest of the request.
    reader: Option<Waker>,
    /// Fires when the answer is overdue, or before. Requests that come and go do not touch it: who
    /// finds it fired looks at how late it is.
    timer: Pin<Box<Sleep>>,
}

/// Where the body of the answer is.
#[derive(Debug)]
enum Body {
    /// There is no answer yet, or it is over.
    None,
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunked),
    /// All that comes until the server closes.
    Close,
}

/// Why a request brought no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Not a byte of it was sent.
    Unsent(BoxError),
    /// It was, as a whole or in part.
    Sent(BoxError),
    /// The server did not answer in time.
    Slow,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("io", &self.io)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// One that nothing was sent on. `limit`: how long an answer may take, about.
    pub(super) fn new(io: Io, limit: Duration) -> Self {
        Self {
            io,
            sending: Sending::new(),
            input: BytesMut::new(),
            ask: READ_FIRST,
            method: Method::GET,
            body: Body::None,
            heads: 0,
            searched: 0,
            heard: false,
            persists: true,
            cut: None,
            reader: None,
            timer: Box::pin(sleep(limit)),
        }
    }

    /// Whether another request can be sent on it: the last exchange is over in both directions, the
    /// server wants more, and has sent nothing that nobody asked for, its end included.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.persists
            && self.sending.is_done()
            && matches!(self.body, Body::None)
            && self.input.is_empty()
            && Pin::new(&mut self.io)
                .poll_read(&mut cx, &mut buffer)
                .is_pending()
    }

    /// Gives back what a long answer needed and the next request may not: to be called when it is put
    /// aside.
    pub(super) fn set_aside(&mut self) {
        if self.input.capacity() > READ_FIRST {
            self.input = BytesMut::new();
        }
    }

    /// Whether a byte came since the request began.
    pub(super) const fn heard(&self) -> bool {
        self.heard
    }

    /// Whether all of the request has gone.
    pub(super) const fn is_sent(&self) -> bool {
        self.sending.is_done()
    }

    /// Whether the answer is over.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.body, Body::None)
    }

    /// How much of the answer is to come, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self.body {
            Body::None => Some(0),
            Body::Length(left) => Some(left),
            Body::Chunked(_) | Body::Close => None,
        }
    }

    /// The connection, and what came on it behind the last head: another protocol is spoken now.
    pub(super) fn into_io(self) -> (Io, Bytes) {
        (self.io, self.input.freeze())
    }

    /// Begins an exchange. `head` writes the head of the request, all of it.
    pub(super) fn begin(
        &mut self,
        method: &Method,
        head: impl FnOnce(&mut Vec<u8>),
        upload: Option<Upload>,
        framing: Framing,
    ) {
        self.sending.begin(head, upload, framing);
        self.method = method.clone();
        self.ask = READ_FIRST;
        self.heads = 0;
        self.searched = 0;
        self.heard = false;
        // Until the head of the answer says otherwise.
        self.persists = false;
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        if self.cut.is_none()
            && let Poll::Ready(Err(cut)) = self.sending.poll(&mut self.io, cx)
        {
            if let Cut::Body(error) = cut {
                return Poll::Ready(Err(self.broken(error)));
            }
            // The server may have answered before it closed.
            self.cut = Some(cut);
        }
        loop {
            if let Some(end) = head::end(&self.input, self.searched) {
                self.searched = 0;
                let bytes = self.input.split_to(end).freeze();
                self.heads = self.heads.saturating_add(end);
                let head = match Head::parse(&bytes, &self.method) {
                    Ok(head) => head,
                    Err(error) => return Poll::Ready(Err(self.broken(error))),
                };
                if head.is_interim() {
                    continue;
                }
                self.persists = head.persists && head.extent != Extent::Close && self.cut.is_none();
                self.body = match head.extent {
                    Extent::Length(0) => Body::None,
                    Extent::Length(length) => Body::Length(length),
                    Extent::Chunked => Body::Chunked(Chunked::default()),
                    Extent::Close => Body::Close,
                };
                return Poll::Ready(Ok(head));
            }
            self.searched = self.input.len();
            if self.heads.saturating_add(self.searched) > HEADS {
                return Poll::Ready(Err(self.broken(malformed("a head that is too long"))));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => {
                    let error = match self.cut.take() {
                        Some(Cut::Io(error)) => error.into(),
                        Some(Cut::Body(error)) => error,
                        None => "the server closed the connection without an answer".into(),
                    };
                    return Poll::Ready(Err(self.broken(error)));
                }
                Ok(_) => self.heard = true,
                Err(error) => return Poll::Ready(Err(self.broken(error))),
            }
        }
    }

    fn broken(&self, error: impl Into<BoxError>) -> Broken {
        if self.sending.has_begun() || self.heard {
            Broken::Sent(error.into())
        } else {
            Broken::Unsent(error.into())
        }
    }

    /// The next piece of the answer's body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(Cut::Body(_)) = self.cut {
                // The client broke off what is being answered.
                self.body = Body::None;
                return Poll::Ready(Some(Err("the client's body broke off".into())));
            }
            match self.take_piece() {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(trailers)) => {
                    self.body = Body::None;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => {
                    self.body = Body::None;
                    return Poll::Ready(None);
                }
                Ok(Piece::More) => {}
                Err(error) => return self.break_off(error),
            }
            if !self.sending.is_done() {
                self.reader = Some(cx.waker().clone());
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if matches!(self.body, Body::Close) => {
                    self.body = Body::None;
                    return Poll::Ready(None);
                }
                Ok(0) => return self.break_off(malformed("the connection closed before its end")),
                Ok(_) => {}
                Err(error) => return self.break_off(error),
            }
        }
    }

    fn break_off<T>(&mut self, error: impl Into<BoxError>) -> Poll<Option<Result<T, BoxError>>> {
        self.persists = false;
        self.body = Body::None;
        Poll::Ready(Some(Err(error.into())))
    }

    /// The next piece of what has come.
    fn take_piece(&mut self) -> Result<Piece, Malformed> {
        let input = &mut self.input;
        match &mut self.body {
            Body::None => Ok(Piece::End),
            Body::Chunked(chunked) => chunked.next(input),
            Body::Length(_) | Body::Close if input.is_empty() => Ok(Piece::More),
            Body::Close => Ok(Piece::Data(input.split().freeze())),
            Body::Length(left) => {
                let some = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left = left.saturating_sub(some as u64);
                if *left == 0 {
                    self.body = Body::None;
                }
                Ok(Piece::Data(input.split_to(some).freeze()))
            }
        }
    }

    /// Reads what has come.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BoxError>> {
        if self.input.capacity().saturating_sub(self.input.len()) < self.ask {
            self.input.reserve(self.ask);
        }
        let room = self.input.capacity().saturating_sub(self.input.len());
        let count = ready!(pin!(self.io.read_buf(&mut self.input)).poll(cx))?;
        if count >= room {
            // There was more: a long body, which costs less in long pieces.
            self.ask = self.ask.saturating_mul(2).min(READ_MOST);
        }
        Poll::Ready(Ok(count))
    }
}

/// Sends the request that was begun and waits for the head of its answer, until `due` says that it
/// is overdue: asked anew each time, since a long upload that goes on puts that off.
pub(super) async fn head_of_answer(line: &Line, due: impl Fn() -> Instant) -> Result<Head, Broken> {
    poll_fn(|cx| {
        let connection = &mut *line.borrow_mut();
        if let Poll::Ready(head) = connection.poll_head(cx) {
            return Poll::Ready(head);
        }
        let timer = &mut connection.timer;
        let at = due();
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let at = due();
            if at <= Instant::now() {
                return Poll::Ready(Err(Broken::Slow));
            }
            timer.as_mut().reset(at);
        }
        Poll::Pending
    })
    .await
}

/// Sends the rest of a request whose answer has begun, whether or not anybody reads that: a client
/// may send all it has before it looks at what came. Ends with the handle.
pub(super) fn send_rest(line: &Line) -> Rest {
    let held = Rc::clone(line);
    let task = spawn_local(poll_fn(move |cx| {
        let connection = &mut *held.borrow_mut();
        let sent = ready!(connection.sending.poll(&mut connection.io, cx));
        if let Err(cut) = sent {
            connection.persists = false;
            connection.cut = Some(cut);
        }
        if let Some(reader) = connection.reader.take() {
            reader.wake();
        }
        Poll::Ready(())
    }));
    Rest(task.abort_handle())
}

/// See [`send_rest`].
#[derive(Debug)]
pub(super) struct Rest(AbortHandle);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abort();
    }
}
