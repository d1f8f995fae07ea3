//! A request on its way out: the head, then the client's body as it comes.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use crate::upstream::BoxError;
use crate::upstream::upload::Upload;

/// What a connection keeps of the buffer for heads, between requests.
const KEPT: usize = 16 * 1024;

/// How a body that the client sends is framed for the server (RFC 9112 s6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Framing {
    /// Its length stands in the head, or there is none: the bytes as they are.
    Plain,
    /// Chunks.
    Chunked,
}

/// Why a request did not get out.
#[derive(Debug)]
pub(super) enum Cut {
    /// The body failed: it is the client's, and says why.
    Body(BoxError),
    /// The connection failed.
    Io(io::Error),
}

/// What is being sent, in the order in which it goes.
pub(super) struct Sending {
    /// The head, the size of a chunk, or trailers.
    buffer: Vec<u8>,
    /// How much of the buffer has gone.
    written: usize,
    /// A piece of the body.
    piece: Bytes,
    /// What stands behind it.
    after: &'static [u8],
    /// The rest of the body; `None` once all of it stands above.
    upload: Option<Upload>,
    framing: Framing,
    /// A byte of this request has gone.
    begun: bool,
    /// All of it has gone, down to the socket.
    done: bool,
}

impl Sending {
    pub(super) const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            after: b"",
            upload: None,
            framing: Framing::Plain,
            begun: false,
            done: true,
        }
    }

    /// Begins with the next request. `head` writes its head.
    pub(super) fn begin(
        &mut self,
        head: impl FnOnce(&mut Vec<u8>),
        upload: Option<Upload>,
        framing: Framing,
    ) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.shrink_to(KEPT);
        head(&mut buffer);
        *self = Self {
            buffer,
            upload,
            framing,
            done: false,
            ..Self::new()
        };
    }

    /// Whether a byte of the request has gone.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all of it has gone.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// Sends what there is.
    pub(super) fn poll<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            // Before the head goes, so that both go at once where both are there.
            let waits = self.piece.is_empty()
                && self.after.is_empty()
                && self.fetch(cx).map_err(Cut::Body)?.is_pending();
            ready!(self.poll_write(io, cx)).map_err(Cut::Io)?;
            if waits {
                ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Cut::Io)?;
                return Poll::Pending;
            }
            if self.upload.is_none() {
                ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(Cut::Io)?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Fetches the next piece of the body. Pending where the client has not sent it.
    fn fetch(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, BoxError> {
        let Some(upload) = &mut self.upload else {
            return Ok(Poll::Ready(()));
        };
        match Pin::new(&mut *upload).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) => self.end(&HeaderMap::new()),
            Poll::Ready(Some(Ok(frame))) => {
                let over = upload.is_end_stream();
                match frame.into_data().map_err(Frame::into_trailers) {
                    Ok(data) => self.data(data, over),
                    Err(Ok(trailers)) => self.end(&trailers),
                    Err(Err(_)) => return Err("a frame of an unknown kind".into()),
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn data(&mut self, data: Bytes, over: bool) {
        if self.framing == Framing::Chunked && !data.is_empty() {
            // Writing to a vector does not fail.
            drop(write!(self.buffer, "{:x}\r\n", data.len()));
            self.after = b"\r\n";
        }
        self.piece = data;
        if over && !self.piece.is_empty() {
            self.upload = None;
            if self.framing == Framing::Chunked {
                self.after = b"\r\n0\r\n\r\n";
            }
        }
    }

    fn end(&mut self, trailers: &HeaderMap) {
        self.upload = None;
        if self.framing == Framing::Plain {
            return;
        }
        self.buffer.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            field(&mut self.buffer, name.as_str(), value.as_bytes());
        }
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Writes until nothing is left of what stands here.
    fn poll_write<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let head = self.buffer.get(self.written..).unwrap_or_default();
            let first = [head, &*self.piece, self.after];
            let Some(only) = first.iter().find(|part| !part.is_empty()) else {
                break;
            };
            let all: usize = first.iter().map(|part| part.len()).sum();
            let io = Pin::new(&mut *io);
            let count = if all > only.len() && io.is_write_vectored() {
                ready!(io.poll_write_vectored(cx, &first.map(IoSlice::new)))?
            } else {
                ready!(io.poll_write(cx, only))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.take(count);
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// So many bytes have gone.
    fn take(&mut self, count: usize) {
        let head = count.min(self.buffer.len().saturating_sub(self.written));
        self.written = self.written.saturating_add(head);
        let piece = count.saturating_sub(head).min(self.piece.len());
        self.piece.advance(piece);
        let after = count.saturating_sub(head).saturating_sub(piece);
        self.after = self.after.get(after..).unwrap_or_default();
    }
}

/// Writes a line of a head or of trailers.
pub(in crate::upstream) fn field(to: &mut Vec<u8>, name: &str, value: &[u8]) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::FieldRules;
    use crate::pdp::policy::ForwardRules;
    use crate::upstream::upload::Source;
    use http_body_util::StreamBody;
    use proptest::prelude::*;
    use std::rc::Rc;
    use std::task::Waker;

    /// Takes a few bytes at a time, and none at every other call.
    struct Narrow {
        taken: Vec<u8>,
        at_once: usize,
        vectored: bool,
        waits: bool,
    }

    impl Narrow {
        fn take(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.waits = !self.waits;
            if self.waits {
                return Poll::Pending;
            }
            let some = bytes.len().min(self.at_once);
            self.taken.extend_from_slice(&bytes[..some]);
            Poll::Ready(Ok(some))
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.take(&all)
        }

        fn is_write_vectored(&self) -> bool {
            self.vectored
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn upload(pieces: &[Vec<u8>], trailer: bool) -> Upload {
        let forward = ForwardRules {
            authorization: false,
            host: None,
            strip: Vec::new(),
            headers: Vec::new(),
        };
        let mut fields = HeaderMap::new();
        fields.insert("x-sum", http::HeaderValue::from_static("1"));
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
            .chain(trailer.then(|| Ok(Frame::trailers(fields))))
            .collect();
        let body = Box::pin(StreamBody::new(futures_util::stream::iter(frames)));
        let declared = (!trailer).then(|| pieces.iter().map(|piece| piece.len() as u64).sum());
        let rules = Rc::new(FieldRules::new(&forward, Vec::new()));
        Upload::new(Some(Source::new(body, declared, trailer, rules)))
    }

    proptest! {
        #[test]
        fn what_goes_is_the_same_however_little_goes_at_once(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5),
            at_once in 1_usize..30,
            vectored: bool,
            chunked: bool,
            trailer: bool,
        ) {
            let trailer = trailer && chunked;
            let framing = if chunked { Framing::Chunked } else { Framing::Plain };
            let mut sending = Sending::new();
            let head = |to: &mut Vec<u8>| to.extend_from_slice(b"HEAD\r\n\r\n");
            sending.begin(head, Some(upload(&pieces, trailer)), framing);
            let mut io = Narrow { taken: Vec::new(), at_once, vectored, waits: false };
            let mut cx = Context::from_waker(Waker::noop());
            // Each call takes a byte at least, every other time.
            for _ in 0..1000 {
                match sending.poll(&mut io, &mut cx) {
                    Poll::Ready(sent) => prop_assert!(sent.is_ok()),
                    Poll::Pending => continue,
                }
                break;
            }
            prop_assert!(sending.is_done() && sending.has_begun());
            let mut expected = b"HEAD\r\n\r\n".to_vec();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                if chunked {
                    expected.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                }
                expected.extend_from_slice(piece);
                if chunked {
                    expected.extend_from_slice(b"\r\n");
                }
            }
            if chunked {
                expected.extend_from_slice(b"0\r\n");
                expected.extend_from_slice(if trailer { b"x-sum: 1\r\n\r\n" } else { b"\r\n" });
            }
            prop_assert_eq!(String::from_utf8_lossy(&io.taken), String::from_utf8_lossy(&expected));
        }
    }
}
