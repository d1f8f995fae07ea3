//! What an API behind can do wrong, and what the client gets then.

use super::playing;
use crate::lab::base64url;
use crate::lab::client::Request;
use crate::support::stage::{assert_proper, assert_refused};

fn lab(bytes: &str, keep: bool) -> Request {
    let how = if keep { "raw-keep" } else { "raw" };
    let bytes: Vec<u8> = bytes
        .replace('|', "\r\n")
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    Request::get("/accounts/1").field("x-lab", &format!("{how}:{}", base64url(&bytes)))
}

#[test]
fn answers_that_cannot_be_understood_in_one_way_are_502() {
    // HTTP-20
    let playing = playing();
    let cases = [
        (
            "CL and TE",
            "HTTP/1.1 200 OK|Content-Length: 5|Transfer-Encoding: chunked||5|hello|0||",
            &[502][..],
        ),
        (
            "TE and CL",
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Content-Length: 5||5|hello|0||",
            &[502],
        ),
        (
            "two CL, differing",
            "HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 6||hello!",
            &[502],
        ),
        (
            "two CL, equal",
            "HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 5||hello",
            &[502, 200],
        ),
        (
            "CL negative",
            "HTTP/1.1 200 OK|Content-Length: -5||hello",
            &[502],
        ),
        (
            "folded line",
            "HTTP/1.1 200 OK|X-A: b| c|Content-Length: 5||hello",
            &[502],
        ),
        (
            "space before the colon",
            "HTTP/1.1 200 OK|X-A : b|Content-Length: 5||hello",
            &[502],
        ),
        (
            "NUL in a value",
            "HTTP/1.1 200 OK|X-A: b\0|Content-Length: 5||hello",
            &[502],
        ),
        (
            "bare LF",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
            &[502, 200],
        ),
        (
            "TE unknown",
            "HTTP/1.1 200 OK|Transfer-Encoding: xchunked||hello",
            &[502],
        ),
        (
            "TE gzip, chunked",
            "HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked||5|hello|0||",
            &[502],
        ),
        (
            "101 unasked",
            "HTTP/1.1 101 Switching Protocols|Upgrade: x|Connection: Upgrade||",
            &[502],
        ),
        ("no HTTP", "hello||", &[502]),
        ("status of two digits", "HTTP/1.1 20 OK||", &[502]),
        ("status 099", "HTTP/1.1 099 OK|Content-Length: 0||", &[502]),
        ("a head without end", "HTTP/1.1 200 OK|X-A: b", &[502]),
    ];
    let mut failures = Vec::new();
    for (name, bytes, expected) in cases {
        let mut connection = playing.client().open().unwrap();
        let request = lab(bytes, false).token(&playing.token());
        let answer = connection
            .call(&request)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if !expected.contains(&answer.status) {
            failures.push(format!("{name}: {}", answer.status));
        } else if answer.status == 502 {
            assert_refused(&answer, 502, "upstream_protocol");
        } else {
            assert_eq!(answer.body, b"hello", "{name}");
        }
        // The client's connection is none the worse for it.
        let again = Request::get("/accounts/1").token(&playing.token());
        match connection.call(&again) {
            Ok(answer) => assert_eq!(answer.status, 200, "{name}"),
            Err(error) => failures.push(format!("{name}: afterwards {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_head_that_is_too_large_is_502() {
    // HTTP-20
    let playing = playing();
    let answer = playing.call(Request::get("/accounts/1").field("x-lab", "wide:2000000"));
    assert_refused(&answer, 502, "upstream_protocol");
}

#[test]
fn answers_that_are_only_unusual_pass() {
    // HTTP-23
    let playing = playing();
    for (name, bytes, status, body) in [
        (
            "103 first",
            "HTTP/1.1 103 Early Hints|Link: x||HTTP/1.1 200 OK|Content-Length: 5||hello",
            200,
            "hello",
        ),
        ("HTTP/1.0", "HTTP/1.0 200 OK||hello", 200, "hello"),
        ("until close", "HTTP/1.1 200 OK||hello", 200, "hello"),
        (
            "204 with bytes after",
            "HTTP/1.1 204 No Content||hello",
            204,
            "",
        ),
        (
            "no reason phrase",
            "HTTP/1.1 200 |Content-Length: 5||hello",
            200,
            "hello",
        ),
    ] {
        let answer = playing.call(lab(bytes, false));
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(answer.version, "HTTP/1.1", "{name}");
        assert_eq!(answer.body, body.as_bytes(), "{name}");
    }
}

#[test]
fn bytes_after_an_answer_are_nobody_s_answer() {
    // Response queue poisoning
    let playing = playing();
    let poison =
        "HTTP/1.1 200 OK|Content-Length: 5||helloHTTP/1.1 200 OK|Content-Length: 6||poison";
    let mut connection = playing.client().open().unwrap();
    for _ in 0..5 {
        let request = lab(poison, true).token(&playing.token());
        assert_eq!(connection.call(&request).unwrap().body, b"hello");
        let next = Request::get("/accounts/next").token(&playing.token());
        let answer = connection.call(&next).unwrap();
        assert_eq!(answer.json()["target"], "/accounts/next");
    }
}

#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    let playing = playing();
    for bytes in [
        "HTTP/1.1 200 OK|Content-Length: 50||hello",
        "HTTP/1.1 200 OK|Transfer-Encoding: chunked||5|hello|",
        "HTTP/1.1 200 OK|Transfer-Encoding: chunked||5|hello|zz|",
    ] {
        let mut connection = playing.client().open().unwrap();
        let request = lab(bytes, false).token(&playing.token());
        let answer = connection.call(&request);
        assert!(answer.is_err(), "{bytes}: {answer:?}");
    }
}

#[test]
fn a_request_is_tried_again_only_where_nothing_can_happen_twice() {
    // HTTP-12
    let playing = playing();
    for (method, lab) in [
        ("POST", "close"),
        ("POST", "close-early"),
        ("PATCH", "close"),
    ] {
        let case = format!("{method} {lab}");
        let request = Request::new(method, "/accounts/1")
            .body("x")
            .case(&case)
            .field("x-lab", lab);
        let answer = playing.call(request);
        assert_eq!(answer.status, 502, "{case}");
        assert_proper(&answer);
        assert_eq!(playing.stage.legacy.seen(&case).len(), 1, "{case}");
    }
    let answer = playing.call(
        Request::get("/accounts/1")
            .case("GET close")
            .field("x-lab", "close"),
    );
    assert_refused(&answer, 502, "upstream_protocol");
    assert!(playing.stage.legacy.seen("GET close").len() <= 2);
}

#[test]
fn a_pooled_connection_that_the_api_closed_costs_nobody_an_answer() {
    let playing = playing();
    let close = "HTTP/1.1 200 OK|Content-Length: 2||ok";
    for _ in 0..20 {
        // Says nothing of closing, and closes.
        assert_eq!(playing.call(lab(close, false)).status, 200);
        assert_eq!(playing.call(Request::get("/accounts/1")).status, 200);
    }
}

#[test]
fn an_api_that_does_not_answer_in_time_is_504() {
    // ERR-09
    let playing = playing();
    let answer = playing.call(Request::get("/accounts/1").field("x-lab", "late:4000"));
    assert_refused(&answer, 504, "upstream_timeout");
}

#[test]
fn an_answer_before_the_end_of_the_request_passes() {
    let playing = playing();
    let body = "x".repeat(900_000);
    let answer = playing.call(Request::post("/accounts/1", body).field("x-lab", "early"));
    assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
    let again = playing.call(Request::get("/accounts/1"));
    assert_eq!(again.status, 200);
}
