//! Bodies, both ways: framing, streaming, back-pressure.

use super::{legacy, playing};
use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::lab::http1::Framing;
use crate::support::stage::{assert_refused, is_uuid};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::time::Duration;

#[test]
fn head_has_no_body_and_the_connection_stays() {
    let mut connection = playing().client().open().unwrap();
    let token = playing().token();
    for method in ["HEAD", "GET", "OPTIONS", "DELETE", "HEAD", "PATCH"] {
        let request = Request::new(method, "/accounts/1").token(&token);
        let answer = connection.call(&request).unwrap();
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(answer.body.is_empty(), method == "HEAD");
    }
}

#[test]
fn http2_towards_clients_is_http1_towards_the_api_with_the_same_judgement() {
    // DPOP-37 in spirit, HTTP-08
    let mut connection = Http2::open(&playing().client()).unwrap();
    let request = Request::post("/accounts/1?q=1", "x".repeat(100_000))
        .token(&playing().token())
        .case("h2 body");
    let answer = connection.call(&request).unwrap();
    assert_eq!(answer.status, 200);
    assert!(is_uuid(answer.field("x-fapi-interaction-id").unwrap()));
    let seen = legacy().only("h2 body");
    assert!(seen.flaws.is_empty(), "{:?}", seen.flaws);
    assert_eq!(
        (seen.body.len(), seen.target.as_str()),
        (100_000, "/accounts/1?q=1")
    );
    assert_eq!(seen.field("host"), Some("api.bank.test"));
    let answer = connection.call(&Request::get("/accounts/1")).unwrap();
    assert_refused(&answer, 401, "token_missing");
    let many: Vec<Request> = (0..50)
        .map(|n| Request::get(&format!("/accounts/{n}")).token(&playing().token()))
        .collect();
    for answer in connection.call_all(&many) {
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[test]
fn trailers_pass_filtered_like_headers() {
    // HTTP-18
    let token = playing().token();
    let mut connection = playing().client().open().unwrap();
    let head = Request::post("/accounts/1", "")
        .token(&token)
        .case("trailers")
        .head_text();
    let body = "Transfer-Encoding: chunked\r\nTrailer: x-sum, authorization, x-auth-subject\r\n\r\n3\r\nabc\r\n0\r\n\
                x-sum: 1\r\nauthorization: Bearer forged\r\nx_auth_subject: forged\r\ncontent-length: 9\r\n\r\n";
    connection.send(format!("{head}{body}").as_bytes()).unwrap();
    assert_eq!(connection.answer("POST").unwrap().status, 200);
    let seen = legacy().only("trailers");
    assert_eq!(seen.body, b"abc");
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let request = Request::get("/accounts/1")
        .token(&token)
        .field("x-lab", "trailers")
        .field("TE", "trailers");
    let answer = connection.call(&request).unwrap();
    assert_eq!(answer.body, b"hello");
    for (name, _) in &answer.trailers {
        assert_eq!(name, "x-checksum");
    }
}

#[test]
fn expect_100_continue_is_honoured_and_not_before_the_request_is_authorized() {
    // HTTP-13
    let mut connection = playing().client().open().unwrap();
    let expecting = |token: &str| {
        let head = Request::post("/accounts/1", "")
            .token(token)
            .case("expect")
            .head_text();
        format!("{head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    connection
        .send(expecting(&playing().token()).as_bytes())
        .unwrap();
    let interim = connection.reader().head().unwrap().unwrap();
    assert!(
        interim.start.starts_with("HTTP/1.1 100"),
        "{}",
        interim.start
    );
    connection.send(b"hello").unwrap();
    assert_eq!(connection.answer("POST").unwrap().status, 200);
    assert_eq!(legacy().only("expect").body, b"hello");

    let mut connection = playing().client().open().unwrap();
    connection
        .send(expecting("2YotnFZFEjr1zCsicMWpAA").as_bytes())
        .unwrap();
    let answer = connection.answer("POST").unwrap();
    assert_refused(&answer, 401, "token_malformed");
    assert!(answer.interim.is_empty());
}

#[test]
fn an_early_refusal_leaves_nothing_of_the_body_in_the_connection() {
    // HTTP-14, CVE-2025-4366
    let inner = "GET /public/smuggled HTTP/1.1\r\nHost: api.bank.test\r\nX-Case: left-over\r\n\r\n";
    let mut connection = playing().client().open().unwrap();
    connection
        .send(&Request::post("/accounts/1", inner).bytes())
        .unwrap();
    assert_refused(&connection.answer("POST").unwrap(), 401, "token_missing");
    let after = connection.call(&Request::get("/public/x").case("after"));
    if let Ok(answer) = after {
        assert_eq!(answer.json()["target"], "/public/x");
    }
    assert!(legacy().seen("left-over").is_empty());
}

#[test]
fn bodies_stream_in_both_directions_at_once() {
    // Contract section 4
    let token = playing().token();
    let mut connection = playing().client().open().unwrap();
    let head = Request::post("/accounts/1", "")
        .token(&token)
        .field("x-lab", "echo")
        .head_text();
    connection
        .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
        .unwrap();
    connection.send(b"3\r\none\r\n").unwrap();
    let (answer, framing) = connection.head("POST").unwrap();
    assert_eq!((answer.status, framing), (200, Framing::Chunked));
    assert_eq!(connection.reader().chunk().unwrap(), b"one");
    connection.send(b"3\r\ntwo\r\n").unwrap();
    assert_eq!(connection.reader().chunk().unwrap(), b"two");
    connection.send(b"0\r\n\r\n").unwrap();
    assert!(connection.reader().chunk().unwrap().is_empty());
    connection.reader().trailers().unwrap();
    let again = Request::get("/accounts/1").token(&token);
    assert_eq!(connection.call(&again).unwrap().status, 200);
}

#[test]
fn http2_streams_in_both_directions_too() {
    let mut connection = Http2::open(&playing().client()).unwrap();
    let token = playing().token();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok(Frame::data(bytes)), receiver))
    });
    let request = Request::post("/accounts/1", "")
        .token(&token)
        .field("x-lab", "echo");
    let request =
        Http2::request(&request).map(|_| BodyExt::boxed(StreamBody::new(Box::pin(frames))));
    let Http2 {
        runtime,
        sender: client,
        ..
    } = &mut connection;
    runtime.block_on(async {
        sender.send(Bytes::from_static(b"one")).await.unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "one");
        sender.send(Bytes::from_static(b"two")).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "two");
        drop(sender);
        while let Some(frame) = body.frame().await {
            assert!(frame.unwrap().into_data().is_ok_and(|data| data.is_empty()));
        }
    });
}

#[test]
fn a_client_that_does_not_read_holds_the_api_back() {
    // Back-pressure: neither the gate's memory nor the API's progress grows without a reader.
    let before = playing().gate.memory_kib();
    let token = playing().token();
    let mut connections = Vec::new();
    for _ in 0..4 {
        let mut connection = playing().client().open().unwrap();
        let request = Request::get("/accounts/1")
            .token(&token)
            .field("x-lab", "endless");
        connection.send(&request.bytes()).unwrap();
        assert_eq!(connection.head("GET").unwrap().0.status, 200);
        connections.push(connection);
    }
    let mut last = 0;
    playing().gate.until("the API being held back", || {
        std::thread::sleep(Duration::from_millis(300));
        let sent = legacy().sent();
        std::mem::replace(&mut last, sent) == sent
    });
    // Socket buffers on both sides of the gate take some megabytes each.
    assert!(last < 4 * 20 * 1024 * 1024, "{last} bytes were taken");
    let grown = playing().gate.memory_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    drop(connections);
}

#[test]
fn a_large_body_passes_whole_in_little_memory() {
    let token = playing().token();
    let before = playing().gate.memory_kib();
    let body = vec![b'y'; 15 * 1024 * 1024];
    let answer = playing().call(Request::post("/accounts/1", body).case("large"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["body_bytes"], 15 * 1024 * 1024);
    let grown = playing().gate.memory_kib().saturating_sub(before);
    assert!(grown < 12 * 1024, "{grown} KiB");
    drop(token);
}
