//! The head of an answer, from bytes that a server sent (RFC 9112 s4 to s6).

use std::borrow::Cow;
use std::fmt;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

/// Fields that a head may have.
const FIELDS: usize = 100;

/// What a server sent is no answer, or one that could be read in two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(Cow<'static, str>);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

pub(super) const fn malformed(why: &'static str) -> Malformed {
    Malformed(Cow::Borrowed(why))
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Every field as it came.
    pub fields: HeaderMap,
    /// Where its body ends.
    pub extent: Extent,
    /// The server will take another request on this connection (RFC 9112 s9.3).
    pub persists: bool,
}

/// Where the body of an answer ends (RFC 9112 s6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After so many bytes, none included.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// How many bytes belong to a head that begins here, its empty line included; `None`: there is no
/// empty line yet. The first `seen` bytes were looked at before, in vain.
#[must_use]
pub fn end(bytes: &[u8], seen: usize) -> Option<usize> {
    // An end that was cut short by two bytes begins before what is new.
    let from = seen.saturating_sub(2);
    memchr::memchr_iter(b'\n', bytes.get(from..)?).find_map(|at| {
        let next = from + at + 1;
        match bytes.get(next..)? {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }
    })
}

impl Head {
    /// Reads a head, of which these are all the bytes ([`end`]), of an answer to a request of this
    /// method.
    ///
    /// Whatever would let two readers find two ends of the body is an error, as are bytes that
    /// another reader could take for a field of another name (HTTP-20; RFC 9112 s5.1, s6.3).
    ///
    /// # Errors
    /// What is wrong, for the log.
    pub fn parse(bytes: &Bytes, method: &Method) -> Result<Self, Malformed> {
        let mut slots = [const { MaybeUninit::uninit() }; FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut slots) {
            Ok(httparse::Status::Complete(all)) if all == bytes.len() => {}
            Ok(_) => return Err(malformed("a head that does not end with its empty line")),
            Err(error) => return Err(Malformed(error.to_string().into())),
        }
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
            return Err(malformed("a head without a status"));
        };
        let Ok(status) = StatusCode::from_u16(code) else {
            return Err(malformed("a status below 100"));
        };
        let version = if minor == 0 {
            Version::HTTP_10
        } else {
            Version::HTTP_11
        };
        let mut fields = HeaderMap::with_capacity(parsed.headers.len());
        for field in &*parsed.headers {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(malformed("a field that is none"));
            };
            fields.append(name, value);
        }
        Ok(Self {
            status,
            version,
            extent: extent(&fields, status, version, method)?,
            persists: persists(&fields, version),
            fields,
        })
    }

    /// An interim answer, which another follows (RFC 9110 s15.2). 101 is none: what follows it is
    /// another protocol.
    pub(super) fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// RFC 9112 s6.3, with every choice that it leaves taken for an error.
fn extent(
    fields: &HeaderMap,
    status: StatusCode,
    version: Version,
    method: &Method,
) -> Result<Extent, Malformed> {
    let length = length(fields)?;
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        // The two disagree, and somebody may mean the other one.
        (Some(_), _) if length.is_some() => {
            return Err(malformed("both Content-Length and Transfer-Encoding"));
        }
        // The field is not passed on, so what is coded otherwise would arrive as if it were not.
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(malformed("a Transfer-Encoding other than chunked")),
    };
    if chunked && version == Version::HTTP_10 {
        // RFC 9112 s6.1: whoever relays it may not know what it is.
        return Err(malformed("a Transfer-Encoding in HTTP/1.0"));
    }
    let none = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match length {
        _ if none => Extent::Length(0),
        _ if chunked => Extent::Chunked,
        Some(length) => Extent::Length(length),
        None => Extent::Close,
    })
}

/// `Content-Length`, where there is one: digits alone, and the same in each line.
fn length(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut found = None;
    for line in fields.get_all(header::CONTENT_LENGTH) {
        let digits = line
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(length) = digits.and_then(|digits| digits.parse().ok()) else {
            return Err(malformed("a Content-Length that is no number"));
        };
        if found.is_some_and(|other| other != length) {
            return Err(malformed("lines of Content-Length that differ"));
        }
        found = Some(length);
    }
    Ok(found)
}

fn persists(fields: &HeaderMap, version: Version) -> bool {
    let mut keep_alive = false;
    for line in fields.get_all(header::CONNECTION) {
        for element in line.as_bytes().split(|byte| *byte == b',') {
            let element = element.trim_ascii();
            if element.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keep_alive |= element.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keep_alive || version == Version::HTTP_11
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str, method: &Method) -> Result<Head, Malformed> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        assert_eq!(end(&bytes, 0), Some(bytes.len()), "{text:?}");
        Head::parse(&bytes, method)
    }

    #[test]
    fn an_end_is_found_however_it_came() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\na: b\r\n\r\nrest", Some(25)),
            ("HTTP/1.1 200 OK\na: b\n\nrest", Some(22)),
            ("HTTP/1.1 200 OK\r\na: b\r\n\r", None),
            ("HTTP/1.1 200 OK\r\na: b\r\n", None),
            ("", None),
        ] {
            let bytes = text.as_bytes();
            assert_eq!(end(bytes, 0), expected, "{text:?}");
            // In two pieces, cut anywhere.
            for cut in 0..bytes.len() {
                let first = end(&bytes[..cut], 0);
                let found = first.or_else(|| end(bytes, cut));
                assert_eq!(found, expected, "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn where_a_body_ends() {
        // HTTP-20, RFC 9112 s6.3
        let cases = [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                Extent::Length(5),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
                Extent::Chunked,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Extent::Close),
            (
                "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n",
                Extent::Length(0),
            ),
            (
                "HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\n",
                Extent::Length(0),
            ),
            (
                "HTTP/1.1 304 No\r\ntransfer-encoding: chunked\r\n\r\n",
                Extent::Length(0),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 05\r\n\r\n",
                Extent::Length(5),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse(text, &Method::GET).unwrap().extent,
                expected,
                "{text:?}"
            );
            let none = parse(text, &Method::HEAD).unwrap().extent;
            assert_eq!(none, Extent::Length(0), "{text:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_answer() {
        // HTTP-20
        for fields in [
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: xchunked",
            "transfer-encoding:",
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 5",
            "content-length: +5",
            "content-length: -5",
            "content-length: 5 5",
            "content-length:",
            "content-length: 99999999999999999999",
            "content-length : 5",
            "a: b\r\n c: d",
            "a\x00: b",
            "a: b\x00",
            "no colon",
        ] {
            for method in [Method::GET, Method::HEAD] {
                let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
                assert!(parse(&text, &method).is_err(), "{fields:?}");
            }
        }
        let old = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(parse(old, &Method::GET).is_err());
        for first in [
            "HTTP/1.1 099 No",
            "HTTP/1.1 20 OK",
            "HTTP/2 200 OK",
            "hello",
        ] {
            assert!(
                parse(&format!("{first}\r\n\r\n"), &Method::GET).is_err(),
                "{first}"
            );
        }
        let many = "a: b\r\n".repeat(FIELDS + 1);
        assert!(parse(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), &Method::GET).is_err());
    }

    #[test]
    fn a_connection_persists_where_both_versions_say_so() {
        // RFC 9112 s9.3
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
                false,
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(
                parse(text, &Method::GET).unwrap().persists,
                expected,
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(
            text in "(HTTP/1\\.[01] [0-9]{3} [a-z]{0,3}\r\n)?([a-z-]{1,18}: ?[ -~]{0,9}\r\n){0,5}\r\n",
            noise in proptest::collection::vec(any::<(u16, u8)>(), 0..3),
        ) {
            let mut bytes = text.into_bytes();
            let length = bytes.len();
            for (at, byte) in noise {
                bytes[usize::from(at) % length] = byte;
            }
            if let Some(end) = end(&bytes, 0) {
                let head = Bytes::copy_from_slice(&bytes[..end]);
                if let Ok(head) = Head::parse(&head, &Method::GET) {
                    let coded = head.fields.contains_key(header::TRANSFER_ENCODING);
                    prop_assert!(!(coded && head.fields.contains_key(header::CONTENT_LENGTH)));
                    prop_assert!(coded || head.extent != Extent::Chunked);
                }
            }
        }
    }
}
