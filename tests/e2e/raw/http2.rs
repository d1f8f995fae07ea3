//! HTTP/2 requests, field by field.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, Raw, block, frame,
};
use super::playing;
use crate::support::stage::Playing;

pub(super) const SOUND: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "api.bank.test"),
    (":path", "/accounts/1"),
];

/// The sound head with some fields changed (to none: left out) and others added.
pub(super) fn head<'a>(
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
#[rustfmt::skip]
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
        ("length without a body", head(&[(":method", Some("POST"))], &[("content-length", "5")]), none),
        ("length above the body", head(&[(":method", Some("POST"))], &[("content-length", "6")]), Some(&b"hello"[..])),
        ("length below the body", head(&[(":method", Some("POST"))], &[("content-length", "4")]), Some(b"hello")),
        ("two lengths", head(&[(":method", Some("POST"))], &[("content-length", "5"), ("content-length", "6")]), Some(b"hello")),
        ("a length that is none", head(&[(":method", Some("POST"))], &[("content-length", "+5")]), Some(b"hello")),
        ("transfer-encoding", head(&[(":method", Some("POST"))], &[("transfer-encoding", "chunked")]), Some(b"0\r\n\r\n")),
        ("connection", head(&[], &[("connection", "keep-alive")]), none),
        ("upgrade", head(&[], &[("upgrade", "websocket")]), none),
        ("proxy-connection", head(&[], &[("proxy-connection", "keep-alive")]), none),
        ("keep-alive", head(&[], &[("keep-alive", "5")]), none),
        ("te: gzip", head(&[], &[("te", "gzip")]), none),
        ("te: trailers, deflate", head(&[], &[("te", "trailers, deflate")]), none),
        ("a name in capitals", head(&[], &[("X-A", "b")]), none),
        ("CRLF in a name", head(&[], &[("x\r\na", "b")]), none),
        ("a colon in a name", head(&[], &[("x:a", "b")]), none),
        ("CRLF in a value", head(&[], &[("x-a", "b\r\nx-b: c")]), none),
        ("LF in a value", head(&[], &[("x-a", "b\nc")]), none),
        ("NUL in a value", head(&[], &[("x-a", "b\0c")]), none),
        ("CRLF in the method", head(&[(":method", Some("GET / HTTP/1.1\r\nx: y"))], &[]), none),
        ("space in the method", head(&[(":method", Some("GET /x"))], &[]), none),
        ("no method", head(&[(":method", None)], &[]), none),
        ("no scheme", head(&[(":scheme", None)], &[]), none),
        ("no path", head(&[(":path", None)], &[]), none),
        ("path empty", head(&[(":path", Some(""))], &[]), none),
        ("path relative", head(&[(":path", Some("accounts/1"))], &[]), none),
        ("path absolute", head(&[(":path", Some("https://api.bank.test/accounts/1"))], &[]), none),
        ("path with a space", head(&[(":path", Some("/accounts/1 HTTP/1.1"))], &[]), none),
        ("path with CRLF", head(&[(":path", Some("/accounts/1\r\nx: y"))], &[]), none),
        ("path *", head(&[(":path", Some("*"))], &[]), none),
        ("path twice", head(&[], &[(":path", "/public/x")]), none),
        ("an unknown pseudo-field", head(&[], &[(":x", "y")]), none),
        (":status in a request", head(&[(":scheme", None)], &[(":status", "200")]), none),
        ("a pseudo-field after a field", head(&[(":path", None)], &[("x-a", "b"), (":path", "/accounts/1")]), none),
        ("scheme ftp", head(&[(":scheme", Some("ftp"))], &[]), none),
        ("a user in the authority", head(&[(":authority", Some("u@api.bank.test"))], &[]), none),
        ("another authority", head(&[(":authority", Some("evil.example"))], &[]), none),
        ("host differs", head(&[], &[("host", "evil.example")]), none),
        ("two hosts", head(&[(":authority", None)], &[("host", "api.bank.test"), ("host", "evil.example")]), none),
        ("no authority", head(&[(":authority", None)], &[]), none),
        ("dot segments", head(&[(":path", Some("/public/../accounts/1"))], &[]), none),
        ("CONNECT", vec![(":method".to_owned(), "CONNECT".to_owned()), (":authority".to_owned(), "api.bank.test:443".to_owned())], none),
        ("extended CONNECT", head(&[(":method", Some("CONNECT"))], &[(":protocol", "websocket")]), none),
        ("authorization twice", head(&[], &[("authorization", "Bearer x")]), none),
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
