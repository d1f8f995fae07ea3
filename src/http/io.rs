//! The connection's bytes, under hyper.
//!
//! Three things that only this place can do: replace the answers that hyper writes itself to bytes
//! that never became a request (they lack everything that ours carry), tell a client that is too
//! slow so before it is cut off, and read on after our last byte so that a client that is still
//! sending gets to read it.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Sleep;

use super::seldom::Ring;
use super::track::Track;
use crate::refusal::Reason;

/// What hyper writes to bytes that it cannot read as a request, letter for letter: our own answers
/// always have more. (`auto_date_header` is off: it would stand here.)
const OWN: [(&[u8], Reason); 3] = [
    (
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        Reason::RequestMalformed,
    ),
    (
        b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        Reason::TargetTooLong,
    ),
    (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        Reason::FieldsTooLarge,
    ),
];

/// How long, and how much, is read from a client after our last byte.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// What is read at once while hyper is off the connection: more than most requests of an API.
const SCRATCH: usize = 4096;

/// Makes the answer that stands in for one of hyper's, and logs it.
pub(super) type Replace = Box<dyn Fn(Reason) -> Vec<u8> + Send>;

/// See the module.
pub(super) struct ClientIo<IO> {
    inner: IO,
    /// When `inner` is worth reading again.
    ring: Ring,
    track: Arc<Track>,
    replace: Replace,
    /// Ours, still to be written.
    pending: Vec<u8>,
    written: usize,
    said_too_slow: bool,
    closed: bool,
    discarded: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// What was read and has yet to be given to hyper.
    unread: Bytes,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ClientIo<IO> {
    pub(super) fn new(inner: IO, track: Arc<Track>, replace: Replace) -> Self {
        Self {
            inner,
            ring: Ring::new(),
            track,
            replace,
            pending: Vec::new(),
            written: 0,
            said_too_slow: false,
            closed: false,
            discarded: 0,
            timer: None,
            unread: Bytes::new(),
        }
    }

    /// Gives bytes back that were read: the next to be read again, by another hyper. Empty lines
    /// behind a request are not the beginning of one (RFC 9112 s2.2).
    pub(super) fn unread(&mut self, mut bytes: Bytes) {
        while let Some(line) = [&b"\r\n"[..], b"\n"]
            .into_iter()
            .find(|line| bytes.starts_with(line))
        {
            bytes.advance(line.len());
        }
        if !bytes.is_empty() {
            self.track.read();
            self.unread = bytes;
        }
    }

    /// Waits for bytes without a buffer that lasts; they are the next to be read. `false` at the end
    /// of the stream.
    pub(super) async fn readable(&mut self) -> io::Result<bool> {
        if self.unread.is_empty() {
            // Who reads now is another than who read in vain.
            self.ring.ask_again();
            self.unread = std::future::poll_fn(|cx| {
                // On the stack, and only while this is polled.
                let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
                let mut buffer = ReadBuf::uninit(&mut scratch);
                ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer))?;
                Poll::Ready(io::Result::Ok(Bytes::copy_from_slice(buffer.filled())))
            })
            .await?;
        }
        Ok(!self.unread.is_empty())
    }

    /// Says so to a client that was too slow, where hyper gave up on it without closing the
    /// connection. Not where the rest of a body that was answered early may be what came slowly:
    /// that request has its answer.
    pub(super) async fn say_too_slow(&mut self) -> io::Result<()> {
        if self.track.is_too_slow() && !self.said_too_slow && !self.track.is_lingering() {
            self.shutdown().await?;
        }
        Ok(())
    }

    /// The reason of an answer of hyper's own, if these bytes are one.
    fn own(&self, bytes: &[u8]) -> Option<Reason> {
        if !bytes.starts_with(b"HTTP/1.1 4") || !self.track.between_answers() {
            return None;
        }
        OWN.iter()
            .find(|(own, _)| *own == bytes)
            .map(|(_, reason)| *reason)
    }

    fn say(&mut self, reason: Reason) {
        self.pending.extend((self.replace)(reason));
        self.track.set_linger();
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .pending
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.written.saturating_add(written);
        }
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.track.wrote(written.is_ready());
        written
    }

    /// Reads what has come. Where nothing had when it was asked last, and nothing rang since, it is not
    /// asked: between a request and its answer hyper reads at each poll, to see whether the client left.
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ring.is_worth_asking(cx) {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.inner).poll_read(&mut self.ring.context(), buffer);
        if read.is_ready() {
            self.ring.ask_again();
        }
        read
    }

    /// Reads and discards until the client is done, within bounds. What comes now is never
    /// parsed (HTTP-14).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 8192];
        // In pieces, so that one client cannot hold the thread.
        for _ in 0..32 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(self.poll_inner(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(()),
                Ok(()) => self.discarded = self.discarded.saturating_add(buffer.filled().len()),
                Err(_) => return Poll::Ready(()),
            }
            if self.discarded > LINGER_BYTES {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.track.is_too_slow() {
            // The end, as far as hyper is concerned.
            return Poll::Ready(Ok(()));
        }
        if !self.unread.is_empty() {
            let some = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(some));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = self.poll_inner(cx, buffer);
        if buffer.filled().len() > before {
            self.track.read();
        }
        read
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        if let Some(reason) = self.own(bytes) {
            self.say(reason);
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(cx))?;
        let mut full = slices.iter().filter(|slice| !slice.is_empty());
        if let (Some(only), None) = (full.next(), full.next())
            && let Some(reason) = self.own(only)
        {
            self.say(reason);
            return Poll::Ready(Ok(only.len()));
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(cx))?;
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.track.flush();
        }
        self.track.wrote(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.track.set_closing();
        if self.track.is_too_slow() && !self.said_too_slow {
            self.said_too_slow = true;
            self.say(Reason::RequestTooSlow);
        }
        ready!(self.poll_pending(cx))?;
        if !self.closed {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.closed = true;
        }
        if self.track.is_lingering() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
