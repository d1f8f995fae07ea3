//! What a connection of HTTP/2 writes while it is polled once, sent together.
//!
//! Its library hands each answer down as a write and a flush of its own, so that eight which are ready
//! at the same moment would be eight records of TLS and eight system calls. Here they wait until the
//! library has no more to say, which is before anything else is done on the thread.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What waits at most, bytes: then it goes, and whoever writes waits for that.
const MOST: usize = 32 * 1024;
/// Room for what waits, at first.
const FIRST: usize = 4 * 1024;
/// A write of so many bytes is not worth a copy.
const LARGE: usize = 8 * 1024;

/// The connection's bytes, as the library has them.
pub(super) struct Gathered<IO>(Rc<RefCell<Outbox<IO>>>);

struct Outbox<IO> {
    io: IO,
    /// What was written and is to be sent, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// Something went to `io` that it may keep.
    unflushed: bool,
    /// Why it could not be sent, until the library asks.
    failed: Option<io::Error>,
}

impl<IO: AsyncWrite + Unpin> Outbox<IO> {
    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .waiting
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = self.sent.saturating_add(written);
            self.unflushed = true;
        }
        // An idle connection holds nothing.
        self.waiting = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends what waits, to its last byte.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathered<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outbox = &mut *self.0.borrow_mut();
        outbox.check()?;
        let length = slices
            .iter()
            .fold(0_usize, |sum, slice| sum.saturating_add(slice.len()));
        if length >= LARGE || outbox.waiting.len().saturating_add(length) > MOST {
            ready!(outbox.poll_send(cx))?;
        }
        if length >= LARGE {
            outbox.unflushed = true;
            return Pin::new(&mut outbox.io).poll_write_vectored(cx, slices);
        }
        if outbox.waiting.capacity() == 0 {
            outbox.waiting.reserve(FIRST);
        }
        for slice in slices {
            outbox.waiting.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It goes when the poll is over: see `Gathering`.
        Poll::Ready(self.0.borrow_mut().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outbox = &mut *self.0.borrow_mut();
        outbox.check()?;
        ready!(outbox.poll_flush(cx))?;
        Pin::new(&mut outbox.io).poll_shutdown(cx)
    }
}

/// A connection and what it writes: whenever it was polled, that is sent.
pub(super) struct Gathering<'c, C, IO> {
    connection: Pin<&'c mut C>,
    graceful_shutdown: fn(Pin<&mut C>),
    outbox: Outgoing<IO>,
}

impl<C, IO> Gathering<'_, C, IO> {
    /// Tells the connection to end.
    pub(super) fn shut_down(mut self: Pin<&mut Self>) {
        (self.graceful_shutdown)(self.connection.as_mut());
    }
}

/// The other end of [`Gathered`].
pub(super) struct Outgoing<IO>(Rc<RefCell<Outbox<IO>>>);

/// Splits what a connection writes from when it is sent.
pub(super) fn gather<IO>(io: IO) -> (Gathered<IO>, Outgoing<IO>) {
    let outbox = Rc::new(RefCell::new(Outbox {
        io,
        waiting: Vec::new(),
        sent: 0,
        unflushed: false,
        failed: None,
    }));
    (Gathered(Rc::clone(&outbox)), Outgoing(outbox))
}

impl<IO> Outgoing<IO> {
    /// Sends what this connection writes.
    pub(super) const fn of<C>(
        self,
        connection: Pin<&mut C>,
        graceful_shutdown: fn(Pin<&mut C>),
    ) -> Gathering<'_, C, IO> {
        Gathering {
            connection,
            graceful_shutdown,
            outbox: self,
        }
    }
}

impl<C: Future, IO: AsyncWrite + Unpin> Future for Gathering<'_, C, IO> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let polled = self.connection.as_mut().poll(cx);
        let mut outbox = self.outbox.0.borrow_mut();
        // Also at its end, where it may have given up without closing: as far as there is room.
        if let Poll::Ready(Err(error)) = outbox.poll_flush(cx) {
            outbox.waiting = Vec::new();
            outbox.sent = 0;
            outbox.unflushed = false;
            outbox.failed = Some(error);
            if polled.is_pending() {
                // It is to hear of that.
                cx.waker().wake_by_ref();
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Counts the writes that get as far as here.
    struct Counting {
        inner: DuplexStream,
        writes: Rc<Cell<usize>>,
        broken: Rc<Cell<bool>>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.broken.get() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.writes.set(self.writes.get() + 1);
            Pin::new(&mut self.inner).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    struct Line {
        gathered: Gathered<Counting>,
        outgoing: Outgoing<Counting>,
        client: DuplexStream,
        writes: Rc<Cell<usize>>,
        broken: Rc<Cell<bool>>,
    }

    fn line(room: usize) -> Line {
        let (inner, client) = duplex(room);
        let (writes, broken) = (Rc::default(), Rc::default());
        let (gathered, outgoing) = gather(Counting {
            inner,
            writes: Rc::clone(&writes),
            broken: Rc::clone(&broken),
        });
        Line {
            gathered,
            outgoing,
            client,
            writes,
            broken,
        }
    }

    fn nothing<C>(_: Pin<&mut C>) {}

    #[tokio::test]
    async fn what_is_written_in_one_poll_is_one_write() {
        let mut line = line(1024);
        let mut gathered = line.gathered;
        let connection = async move {
            for answer in [&b"one "[..], b"two ", b"three"] {
                gathered.write_all(answer).await.unwrap();
                gathered.flush().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let mut connection = std::pin::pin!(connection);
        let mut gathering = line.outgoing.of(connection.as_mut(), nothing);
        assert_eq!((&mut gathering).now_or_never(), None);
        assert_eq!(line.writes.get(), 1);
        let mut read = [0; 13];
        line.client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one two three");
        assert_eq!((&mut gathering).now_or_never(), None);
        assert_eq!(line.writes.get(), 1, "there is nothing more");
        assert_eq!(gathering.outbox.0.borrow().waiting.capacity(), 0);
    }

    #[tokio::test]
    async fn all_arrives_in_its_order_however_little_room_there_is() {
        let mut line = line(1000);
        let mut sent = Vec::new();
        let mut gathered = line.gathered;
        for (index, size) in (0_u8..).zip([3, LARGE, 5, LARGE - 1, MOST - 1, 2, 700, MOST + 9, 1]) {
            sent.extend(std::iter::repeat_n(index, size));
        }
        let bytes = sent.clone();
        let connection = async move {
            let mut rest = &bytes[..];
            for size in [3, LARGE, 5, LARGE - 1, MOST - 1, 2, 700, MOST + 9, 1] {
                let (now, later) = rest.split_at(size);
                gathered.write_all(now).await.unwrap();
                gathered.flush().await.unwrap();
                rest = later;
            }
            gathered.shutdown().await.unwrap();
        };
        let connection = std::pin::pin!(connection);
        let gathering = line.outgoing.of(connection, nothing);
        let mut read = Vec::new();
        let (_, end) = tokio::join!(gathering, line.client.read_to_end(&mut read));
        end.unwrap();
        assert!(read == sent);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_up_who_writes() {
        let mut line = line(1);
        let taken = Rc::new(Cell::new(0));
        let (counted, mut gathered) = (Rc::clone(&taken), line.gathered);
        let connection = async move {
            loop {
                gathered.write_all(&[0; 1000]).await.unwrap();
                gathered.flush().await.unwrap();
                counted.set(counted.get() + 1000);
            }
        };
        let mut connection = std::pin::pin!(connection);
        let mut gathering = line.outgoing.of(connection.as_mut(), nothing);
        for _ in 0..3 {
            assert_eq!((&mut gathering).now_or_never(), None);
            assert!((1..=MOST).contains(&taken.get()), "{}", taken.get());
        }
        let before = taken.get();
        let mut read = vec![0; MOST];
        tokio::select! {
            () = gathering => {}
            all = line.client.read_exact(&mut read) => drop(all.unwrap()),
        }
        assert!(taken.get() > before);
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_told_to_who_wrote_it() {
        let line = line(1024);
        let mut gathered = line.gathered;
        line.broken.set(true);
        let mut polls = 0;
        let connection = poll_fn(move |cx| {
            polls += 1;
            let mut gathered = Pin::new(&mut gathered);
            if polls == 1 {
                assert!(gathered.as_mut().poll_write(cx, b"lost").is_ready());
                assert!(matches!(gathered.poll_flush(cx), Poll::Ready(Ok(()))));
                return Poll::Pending;
            }
            gathered.poll_flush(cx)
        });
        let connection = std::pin::pin!(connection);
        // It is woken: else this would wait for ever.
        let told = line.outgoing.of(connection, nothing).await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_is_written_last_is_sent_too() {
        let mut line = line(1024);
        let mut gathered = line.gathered;
        let connection = async move { gathered.write_all(b"good bye").await };
        let connection = std::pin::pin!(connection);
        line.outgoing.of(connection, nothing).await.unwrap();
        let mut read = Vec::new();
        line.client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"good bye");
    }
}
