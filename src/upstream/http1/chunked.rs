//! The chunked coding of an answer's body (RFC 9112 s7.1), taken off.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::head::{Malformed, malformed};

/// Bytes of chunk extensions that a body may have in all: nobody here reads them, and a server
/// could send more of them than of anything else.
const EXTENSIONS: usize = 16 * 1024;
/// Bytes of a trailer section, and fields in it.
const TRAILERS: usize = 16 * 1024;
const TRAILER_FIELDS: usize = 64;
/// A size of sixteen digits, and the end of its line.
const SIZE_LINE: usize = 18;

/// Where in the coding a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the line with the size of a chunk.
    Size,
    /// In a chunk, with so many bytes to come.
    Data(u64),
    /// After the bytes of a chunk, before the end of their line.
    AfterData,
    /// After the last chunk.
    Trailers,
    End,
}

/// Takes the coding off, one piece at a time.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    extensions: usize,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of it.
    Data(Bytes),
    /// Its trailers, after which nothing comes.
    Trailers(HeaderMap),
    /// Nothing.
    End,
    /// More bytes have to come first.
    More,
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            state: State::Size,
            extensions: 0,
        }
    }
}

impl Chunked {
    /// The next piece of what has come, which is taken out of `input`.
    ///
    /// # Errors
    /// What is wrong with the coding, for the log; nothing after it can be trusted.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(size) = self.size(input)? else {
                        return Ok(Piece::More);
                    };
                    self.state = match size {
                        0 => State::Trailers,
                        size => State::Data(size),
                    };
                }
                State::Data(_) if input.is_empty() => return Ok(Piece::More),
                State::Data(left) => {
                    let some =
                        usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let data = input.split_to(some).freeze();
                    self.state = match left.saturating_sub(some as u64) {
                        0 => State::AfterData,
                        left => State::Data(left),
                    };
                    return Ok(Piece::Data(data));
                }
                State::AfterData => match **input {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Piece::More),
                    _ => return Err(malformed("a chunk longer than its size")),
                },
                State::Trailers => {
                    let Some(trailers) = trailers(input)? else {
                        return Ok(Piece::More);
                    };
                    self.state = State::End;
                    if !trailers.is_empty() {
                        return Ok(Piece::Trailers(trailers));
                    }
                }
                State::End => return Ok(Piece::End),
            }
        }
    }

    /// The size of the next chunk; `None` where its line is not whole.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, Malformed> {
        const NO_SIZE: Malformed = malformed("a chunk without a size");
        // The parser would read a line without digits as the last chunk.
        if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(NO_SIZE);
        }
        let parsed = httparse::parse_chunk_size(input);
        let (line, size) = match parsed {
            Ok(httparse::Status::Complete((line, size))) => (line, Some(size)),
            Ok(httparse::Status::Partial) => (input.len(), None),
            Err(httparse::InvalidChunkSize) => return Err(NO_SIZE),
        };
        let extensions = self
            .extensions
            .saturating_add(line.saturating_sub(SIZE_LINE));
        if extensions > EXTENSIONS {
            return Err(malformed("too many chunk extensions"));
        }
        if size.is_some() {
            self.extensions = extensions;
            input.advance(line);
        }
        Ok(size)
    }
}

/// The trailer section, its empty line included; `None` where it is not whole.
fn trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    let mut trailers = HeaderMap::new();
    if input.starts_with(b"\r\n") {
        input.advance(2);
        return Ok(Some(trailers));
    }
    let mut slots = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let end = match httparse::parse_headers(input, &mut slots) {
        Ok(httparse::Status::Complete((end, fields))) if end <= TRAILERS => {
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                let value = HeaderValue::from_bytes(field.value);
                let (Ok(name), Ok(value)) = (name, value) else {
                    return Err(malformed("a trailer that is no field"));
                };
                trailers.append(name, value);
            }
            end
        }
        Ok(httparse::Status::Partial) if input.len() <= TRAILERS => return Ok(None),
        Ok(_) => return Err(malformed("too many trailers")),
        Err(_) => return Err(malformed("a trailer that is no field")),
    };
    input.advance(end);
    Ok(Some(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = (Vec<u8>, HeaderMap, Vec<u8>);

    /// What is made of these bytes when they come in pieces of so many: data, trailers, rest.
    fn read(bytes: &[u8], step: usize) -> Result<Option<Read>, Malformed> {
        let mut chunked = Chunked::default();
        let (mut input, mut data) = (BytesMut::new(), Vec::new());
        let mut trailers = HeaderMap::new();
        let mut pieces = bytes.chunks(step.max(1));
        loop {
            match chunked.next(&mut input)? {
                Piece::Data(piece) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Piece::Trailers(fields) => trailers = fields,
                Piece::End => {
                    input.extend(pieces.flatten());
                    return Ok(Some((data, trailers, input.to_vec())));
                }
                Piece::More => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => return Ok(None),
                },
            }
        }
    }

    #[test]
    fn bodies_are_read_however_they_come() {
        // RFC 9112 s7.1
        for (bytes, data, rest) in [
            (&b"0\r\n\r\n"[..], &b""[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\nHTTP", b"hello", b"HTTP"),
            (
                b"5;a=b\r\nhello\r\n1 ;x\r\n!\r\n000;y\r\n\r\n",
                b"hello!",
                b"",
            ),
            (
                b"a\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n",
                b"0123456789",
                b"",
            ),
        ] {
            for step in 1..=bytes.len() {
                let (read, trailers, left) = read(bytes, step).unwrap().unwrap();
                assert_eq!(read, data, "{step}");
                assert_eq!(left, rest, "{step}");
                assert_eq!(trailers.len(), usize::from(bytes.ends_with(b"1\r\n\r\n")));
            }
            for cut in 0..bytes.len() - rest.len() {
                assert_eq!(read(&bytes[..cut], 3), Ok(None), "not whole at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        // HTTP-20: each of these has been taken for something else by somebody
        for bytes in [
            &b"\r\n\r\n"[..],
            b";x\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5\nhello\n0\n\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhelloX\n0\r\n\r\n",
            b"zz\r\n",
            b"10000000000000000\r\n",
            b"5 5\r\nhello\r\n",
            b"0\r\n no field\r\n\r\n",
            b"0\r\na : b\r\n\r\n",
        ] {
            for step in [1, 2, bytes.len()] {
                let text = String::from_utf8_lossy(bytes);
                assert!(read(bytes, step).is_err(), "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn what_nobody_reads_is_bounded() {
        let extension = format!("1;{}\r\nx\r\n", "e".repeat(1000));
        assert!(read(extension.repeat(10).as_bytes(), 999).is_ok());
        assert!(read(extension.repeat(20).as_bytes(), 999).is_err());
        let endless = format!("1;{}", "e".repeat(EXTENSIONS + 100));
        assert!(read(endless.as_bytes(), 999).is_err());
        let long = format!("0\r\nx: {}", "t".repeat(TRAILERS + 100));
        assert!(read(long.as_bytes(), 999).is_err());
        assert!(read(format!("{long}\r\n\r\n").as_bytes(), usize::MAX).is_err());
        let many = format!("0\r\n{}\r\n", "t: 1\r\n".repeat(TRAILER_FIELDS + 1));
        assert!(read(many.as_bytes(), 999).is_err());
    }

    proptest! {
        #[test]
        fn what_was_coded_is_read_back(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..50,
        ) {
            let mut coded = Vec::new();
            for piece in &pieces {
                coded.extend(format!("{:X}\r\n", piece.len()).into_bytes());
                coded.extend_from_slice(piece);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\n");
            let (data, trailers, rest) = read(&coded, step).unwrap().unwrap();
            prop_assert_eq!(data, pieces.concat());
            prop_assert!(trailers.is_empty() && rest.is_empty());
        }

        #[test]
        fn how_it_comes_changes_nothing(
            text in "([0-9a-f]{1,2}(;[a-z]{0,3})?\r\n[a-z]{0,12}\r\n){0,4}0?\r?\n?(x: y)?\r\n\r\n",
            step in 1_usize..9,
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(read(bytes, step).ok(), read(bytes, bytes.len()).ok());
        }
    }
}
