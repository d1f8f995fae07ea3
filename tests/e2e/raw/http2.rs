//! HTTP/2, frame by frame.

use std::io;
use std::time::{Duration, Instant};

use super::playing;
use crate::lab::client::{Client, Connection, Request};
use crate::lab::h2::Http2;
use crate::support::stage::Playing;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 s4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A length with a 7-bit prefix (RFC 7541 s5.1).
fn length(mut n: usize, into: &mut Vec<u8>) {
    if n < 127 {
        into.push(n as u8);
        return;
    }
    into.push(127);
    n -= 127;
    while n >= 128 {
        into.push((n % 128) as u8 | 128);
        n /= 128;
    }
    into.push(n as u8);
}

/// Literal fields, never indexed, never Huffman-coded (RFC 7541 s6.2.2). One byte a character.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let bytes = |text: &str| -> Vec<u8> {
        text.chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect()
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let text = bytes(text);
            length(text.len(), &mut block);
            block.extend_from_slice(&text);
        }
    }
    block
}

/// What the server makes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
    Silence,
}

struct Raw {
    connection: Connection,
}

impl Raw {
    fn open(client: &Client) -> Self {
        let mut connection = client.clone().alpn(&["h2"]).open().unwrap();
        let mut hello = PREFACE.to_vec();
        hello.extend_from_slice(&frame(SETTINGS, 0, 0, &[]));
        connection.send(&hello).unwrap();
        Self { connection }
    }

    fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let head = self.connection.reader().exact(9)?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.connection.reader().exact(size as usize)?;
        Ok((head[3], head[4], stream, payload))
    }

    /// What becomes of this stream.
    fn outcome(&mut self, wanted: u32) -> Outcome {
        let patience = Some(Duration::from_secs(4));
        self.connection.socket().set_read_timeout(patience).unwrap();
        loop {
            match self.frame() {
                Ok((HEADERS, _, stream, block)) if stream == wanted => {
                    return Outcome::Status(status(&block));
                }
                Ok((RST_STREAM, _, stream, payload)) if stream == wanted => {
                    return Outcome::Reset(number(&payload));
                }
                Ok((GOAWAY, _, _, payload)) if number(&payload[4..]) != 0 => {
                    return Outcome::GoAway(number(&payload[4..]));
                }
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Outcome::Silence;
                }
                Err(_) => return Outcome::Closed,
            }
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// `:status`, which comes first: from the static table, or a literal with digits that are plain or
/// Huffman-coded (RFC 7541 appendix B: 0 to 2 have five bits, 3 to 9 six).
fn status(block: &[u8]) -> u16 {
    let indexed = [200, 204, 206, 304, 400, 404, 500];
    let mut block = block;
    // Size updates of the dynamic table may come in front.
    while block[0] & 0xe0 == 0x20 {
        block = &block[1..];
    }
    if block[0] & 0x80 != 0 {
        return indexed[usize::from(block[0] & 0x7f) - 8];
    }
    let huffman = block[1] & 0x80 != 0;
    let text = &block[2..2 + usize::from(block[1] & 0x7f)];
    if !huffman {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    let bits: Vec<u32> = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| u32::from(byte >> n & 1)))
        .collect();
    let mut at = 0;
    let mut status = 0;
    for _ in 0..3 {
        let take = |n: usize| bits[at..at + n].iter().fold(0, |sum, bit| sum * 2 + bit);
        let (digit, used) = match take(5) {
            digit @ 0..=2 => (digit, 5),
            _ => (take(6) - 0x19 + 3, 6),
        };
        status = status * 10 + digit;
        at += used;
    }
    u16::try_from(status).unwrap()
}

#[test]
fn the_status_of_a_field_block_is_read() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x08, 3, b'4', b'0', b'1']), 401);
    // RFC 7541 C.6.1: 302 as 64 02.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
}

const SOUND: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "api.bank.test"),
    (":path", "/accounts/1"),
];

/// The sound head with some fields changed (to none: left out) and others added.
fn head<'a>(
    token: &'a str,
    changed: &[(&'a str, Option<&'a str>)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for (name, value) in SOUND {
        match changed.iter().find(|(n, _)| *n == name) {
            None => fields.push((name, value)),
            Some((_, Some(value))) => fields.push((name, value)),
            Some((_, None)) => {}
        }
    }
    fields.push(("authorization", token));
    fields.extend_from_slice(more);
    fields
}

/// Sends one head and perhaps a body on a connection of its own.
fn ask(playing: &Playing, fields: &[(&str, &str)], body: Option<&[u8]>) -> Outcome {
    let mut raw = Raw::open(&playing.client());
    let flags = END_HEADERS | if body.is_some() { 0 } else { END_STREAM };
    let mut bytes = frame(HEADERS, flags, 1, &block(fields));
    if let Some(body) = body {
        bytes.extend_from_slice(&frame(DATA, END_STREAM, 1, body));
    }
    drop(raw.connection.send(&bytes));
    raw.outcome(1)
}

#[test]
fn malformed_heads_are_refused_and_reach_nobody() {
    // HTTP-08, TLS-12
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let head = |changed: &[(&'static str, Option<&'static str>)],
                more: &[(&'static str, &'static str)]| {
        head(&token, changed, more)
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect::<Vec<_>>()
    };
    let none: Option<&[u8]> = None;
    let cases = [
        (
            "length without a body",
            head(&[(":method", Some("POST"))], &[("content-length", "5")]),
            none,
        ),
        (
            "length above the body",
            head(&[(":method", Some("POST"))], &[("content-length", "6")]),
            Some(&b"hello"[..]),
        ),
        (
            "length below the body",
            head(&[(":method", Some("POST"))], &[("content-length", "4")]),
            Some(b"hello"),
        ),
        (
            "two lengths",
            head(
                &[(":method", Some("POST"))],
                &[("content-length", "5"), ("content-length", "6")],
            ),
            Some(b"hello"),
        ),
        (
            "a length that is none",
            head(&[(":method", Some("POST"))], &[("content-length", "+5")]),
            Some(b"hello"),
        ),
        (
            "transfer-encoding",
            head(
                &[(":method", Some("POST"))],
                &[("transfer-encoding", "chunked")],
            ),
            Some(b"0\r\n\r\n"),
        ),
        (
            "connection",
            head(&[], &[("connection", "keep-alive")]),
            none,
        ),
        ("upgrade", head(&[], &[("upgrade", "websocket")]), none),
        (
            "proxy-connection",
            head(&[], &[("proxy-connection", "keep-alive")]),
            none,
        ),
        ("keep-alive", head(&[], &[("keep-alive", "5")]), none),
        ("te: gzip", head(&[], &[("te", "gzip")]), none),
        (
            "te: trailers, deflate",
            head(&[], &[("te", "trailers, deflate")]),
            none,
        ),
        ("a name in capitals", head(&[], &[("X-A", "b")]), none),
        ("CRLF in a name", head(&[], &[("x\r\na", "b")]), none),
        ("a colon in a name", head(&[], &[("x:a", "b")]), none),
        (
            "CRLF in a value",
            head(&[], &[("x-a", "b\r\nx-b: c")]),
            none,
        ),
        ("LF in a value", head(&[], &[("x-a", "b\nc")]), none),
        ("NUL in a value", head(&[], &[("x-a", "b\0c")]), none),
        (
            "CRLF in the method",
            head(&[(":method", Some("GET / HTTP/1.1\r\nx: y"))], &[]),
            none,
        ),
        (
            "space in the method",
            head(&[(":method", Some("GET /x"))], &[]),
            none,
        ),
        ("no method", head(&[(":method", None)], &[]), none),
        ("no scheme", head(&[(":scheme", None)], &[]), none),
        ("no path", head(&[(":path", None)], &[]), none),
        ("path empty", head(&[(":path", Some(""))], &[]), none),
        (
            "path relative",
            head(&[(":path", Some("accounts/1"))], &[]),
            none,
        ),
        (
            "path absolute",
            head(&[(":path", Some("https://api.bank.test/accounts/1"))], &[]),
            none,
        ),
        (
            "path with a space",
            head(&[(":path", Some("/accounts/1 HTTP/1.1"))], &[]),
            none,
        ),
        (
            "path with CRLF",
            head(&[(":path", Some("/accounts/1\r\nx: y"))], &[]),
            none,
        ),
        ("path *", head(&[(":path", Some("*"))], &[]), none),
        ("path twice", head(&[], &[(":path", "/public/x")]), none),
        ("an unknown pseudo-field", head(&[], &[(":x", "y")]), none),
        (
            ":status in a request",
            head(&[(":scheme", None)], &[(":status", "200")]),
            none,
        ),
        (
            "a pseudo-field after a field",
            head(
                &[(":path", None)],
                &[("x-a", "b"), (":path", "/accounts/1")],
            ),
            none,
        ),
        ("scheme ftp", head(&[(":scheme", Some("ftp"))], &[]), none),
        (
            "a user in the authority",
            head(&[(":authority", Some("u@api.bank.test"))], &[]),
            none,
        ),
        (
            "another authority",
            head(&[(":authority", Some("evil.example"))], &[]),
            none,
        ),
        ("host differs", head(&[], &[("host", "evil.example")]), none),
        (
            "two hosts",
            head(
                &[(":authority", None)],
                &[("host", "api.bank.test"), ("host", "evil.example")],
            ),
            none,
        ),
        ("no authority", head(&[(":authority", None)], &[]), none),
        (
            "dot segments",
            head(&[(":path", Some("/public/../accounts/1"))], &[]),
            none,
        ),
        (
            "CONNECT",
            vec![
                (":method".to_owned(), "CONNECT".to_owned()),
                (":authority".to_owned(), "api.bank.test:443".to_owned()),
            ],
            none,
        ),
        (
            "extended CONNECT",
            head(
                &[(":method", Some("CONNECT"))],
                &[(":protocol", "websocket")],
            ),
            none,
        ),
        (
            "authorization twice",
            head(&[], &[("authorization", "Bearer x")]),
            none,
        ),
    ];
    let mut failures = Vec::new();
    for (name, fields, body) in cases {
        let mut fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        fields.push(("x-case", name));
        let outcome = ask(&playing, &fields, body);
        let seen = playing.stage.legacy.seen(name);
        // Where the length is wrong the API may have been spoken to before that showed; then it
        // must see an unfinished message (CVE-2026-33555).
        let whole = seen.iter().filter(|seen| seen.complete).count();
        let refused = match outcome {
            Outcome::Status(status) => (400..500).contains(&status),
            Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => true,
            Outcome::Silence => false,
        };
        if !refused
            || whole > 0
            || (body.is_none() && !seen.is_empty() && name != "length without a body")
        {
            failures.push(format!("{name}: {outcome:?}, the API saw {seen:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn unusual_heads_pass_and_are_forwarded_in_good_form() {
    // HTTP-08
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let host_only = head(
        &token,
        &[(":authority", None)],
        &[("host", "api.bank.test"), ("x-case", "h2 host")],
    );
    let cases = [
        ("h2 plain", head(&token, &[], &[("x-case", "h2 plain")])),
        (
            "h2 te",
            head(&token, &[], &[("te", "trailers"), ("x-case", "h2 te")]),
        ),
        (
            "h2 both",
            head(
                &token,
                &[],
                &[("host", "api.bank.test"), ("x-case", "h2 both")],
            ),
        ),
        (
            "h2 cookies",
            head(
                &token,
                &[],
                &[
                    ("cookie", "a=1"),
                    ("cookie", "b=2"),
                    ("x-case", "h2 cookies"),
                ],
            ),
        ),
        ("h2 host", host_only),
    ];
    for (name, fields) in cases {
        let outcome = ask(&playing, &fields, None);
        if name == "h2 host" && matches!(outcome, Outcome::Status(400 | 421)) {
            continue;
        }
        assert_eq!(outcome, Outcome::Status(200), "{name}");
        let seen = playing.stage.legacy.only(name);
        assert!(seen.flaws.is_empty(), "{name}: {:?}", seen.flaws);
        assert_eq!(seen.field("host"), Some("api.bank.test"), "{name}");
        assert!(
            !seen.fields.iter().any(|(field, _)| field.starts_with(':')),
            "{name}"
        );
    }
    // Space around a value: refused, or gone.
    let fields = head(&token, &[], &[("x-a", " b "), ("x-case", "h2 space")]);
    if ask(&playing, &fields, None) == Outcome::Status(200) {
        assert_eq!(
            playing.stage.legacy.only("h2 space").field("x-a"),
            Some("b")
        );
    }
}

/// Asserts that others are served while and after somebody misbehaves, and in bounded memory.
fn alive_after(playing: &Playing, name: &str, attack: impl FnOnce(&mut Raw)) {
    let memory = playing.gate.memory_kib();
    let mut raw = Raw::open(&playing.client());
    attack(&mut raw);
    let started = Instant::now();
    let mut connection = Http2::open(&playing.client()).unwrap();
    let answer = connection
        .call(&Request::get("/accounts/1").token(&playing.token()))
        .unwrap();
    assert_eq!(answer.status, 200, "{name}");
    assert!(started.elapsed() < Duration::from_secs(5), "{name}");
    let grown = playing.gate.memory_kib().saturating_sub(memory);
    assert!(grown < 48 * 1024, "{name}: {grown} KiB");
}

#[test]
fn floods_end_with_the_connection_and_harm_nobody_else() {
    // HTTP-22: CVE-2023-44487, CVE-2024-27316, CVE-2025-8671
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let fields = head(&token, &[], &[]);
    let request = block(&fields);
    let ended = |raw: &mut Raw, name: &str| {
        let outcome = raw.outcome(u32::MAX);
        assert!(
            matches!(outcome, Outcome::GoAway(_) | Outcome::Closed),
            "{name}: {outcome:?}"
        );
    };
    let send_many = |raw: &mut Raw, n: u32, piece: &dyn Fn(u32) -> Vec<u8>| {
        for at in 0..n {
            if raw.connection.send(&piece(at)).is_err() {
                return;
            }
        }
    };
    alive_after(&playing, "rapid reset", |raw| {
        send_many(raw, 5000, &|n| {
            let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &request);
            bytes.extend_from_slice(&frame(RST_STREAM, 0, n * 2 + 1, &[0, 0, 0, 8]));
            bytes
        });
        ended(raw, "rapid reset");
    });
    alive_after(&playing, "CONTINUATION", |raw| {
        drop(
            raw.connection
                .send(&frame(HEADERS, END_STREAM, 1, &request)),
        );
        let piece = block(&[("x-a", &"b".repeat(4000))]);
        send_many(raw, 5000, &|_| frame(CONTINUATION, 0, 1, &piece));
        ended(raw, "CONTINUATION");
    });
    alive_after(&playing, "empty CONTINUATION", |raw| {
        drop(
            raw.connection
                .send(&frame(HEADERS, END_STREAM, 1, &request)),
        );
        send_many(raw, 20_000, &|_| frame(CONTINUATION, 0, 1, &[]));
        ended(raw, "empty CONTINUATION");
    });
    alive_after(&playing, "made you reset", |raw| {
        send_many(raw, 5000, &|n| {
            let mut bytes = frame(HEADERS, END_HEADERS, n * 2 + 1, &request);
            bytes.extend_from_slice(&frame(WINDOW_UPDATE, 0, n * 2 + 1, &[0, 0, 0, 0]));
            bytes
        });
        ended(raw, "made you reset");
    });
    alive_after(&playing, "settings and pings", |raw| {
        send_many(raw, 20_000, &|n| {
            if n % 2 == 0 {
                frame(SETTINGS, 0, 0, &[])
            } else {
                frame(PING, 0, 0, &[7; 8])
            }
        });
    });
}

#[test]
fn frames_that_break_the_rules_end_the_connection() {
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let request = block(&head(&token, &[], &[]));
    for (name, bytes) in [
        ("DATA without a stream", frame(DATA, 0, 1, b"x")),
        (
            "HEADERS on stream 0",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &request),
        ),
        (
            "HEADERS on an even stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &request),
        ),
        (
            "CONTINUATION first",
            frame(CONTINUATION, END_HEADERS, 1, &request),
        ),
        (
            "a frame larger than allowed",
            frame(DATA, 0, 1, &vec![0; 20_000]),
        ),
        ("a window that overflows", {
            let mut bytes = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
            bytes.extend_from_slice(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()));
            bytes
        }),
        (
            "a field block that cannot be decoded",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[0xff, 0xff, 0xff, 0xff, 0xff],
            ),
        ),
        ("PING of a wrong size", frame(PING, 0, 0, &[0; 7])),
    ] {
        let before = playing.stage.legacy.count();
        let mut raw = Raw::open(&playing.client());
        drop(raw.connection.send(&bytes));
        let outcome = raw.outcome(u32::MAX);
        assert!(
            matches!(outcome, Outcome::GoAway(_) | Outcome::Closed),
            "{name}: {outcome:?}"
        );
        assert_eq!(playing.stage.legacy.count(), before, "{name}");
    }
}

#[test]
fn what_is_not_the_preface_gets_no_service() {
    let playing = playing();
    let mut connection = playing.client().alpn(&["h2"]).open().unwrap();
    connection
        .send(b"GET /accounts/1 HTTP/1.1\r\nHost: api.bank.test\r\n\r\n")
        .unwrap();
    let answer = connection.read_to_end();
    assert!(
        !answer.starts_with(b"HTTP/1.1 2"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn a_head_that_is_too_large_is_431() {
    // HTTP-15
    let playing = playing();
    let token = format!("Bearer {}", playing.token());
    let wide = "b".repeat(4000);
    let more: Vec<(&str, &str)> = (0..10).map(|_| ("x-a", wide.as_str())).collect();
    let fields = head(&token, &[], &more);
    let block = block(&fields);
    let mut raw = Raw::open(&playing.client());
    let (first, rest) = block.split_at(16_000);
    let mut bytes = frame(HEADERS, END_STREAM, 1, first);
    let pieces: Vec<&[u8]> = rest.chunks(16_000).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let flags = if at + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        bytes.extend_from_slice(&frame(CONTINUATION, flags, 1, piece));
    }
    drop(raw.connection.send(&bytes));
    let outcome = raw.outcome(1);
    assert!(
        matches!(
            outcome,
            Outcome::Status(431) | Outcome::GoAway(_) | Outcome::Reset(_)
        ),
        "{outcome:?}"
    );
}
