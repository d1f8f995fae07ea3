//! WebSocket, and upgrades that are none.

use super::{legacy, playing, sent};
use crate::lab::client::Request;
use crate::support::stage::assert_refused;
use std::time::Duration;

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn upgrade(target: &str) -> Request {
    UPGRADE
        .iter()
        .fold(Request::get(target), |request, (name, value)| {
            request.field(name, value)
        })
}

#[test]
fn a_websocket_passes_on_a_route_that_has_it() {
    // HTTP-23
    let mut connection = playing().client().open().unwrap();
    let answer = connection
        .call(&upgrade("/ws/x").token(&playing().token()).case("ws"))
        .unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(
        answer.field("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    for message in [&b"hello"[..], b"world"] {
        connection.send(message).unwrap();
        assert_eq!(connection.reader().exact(message.len()).unwrap(), message);
    }
    assert_eq!(
        legacy().only("ws").field("x-auth-subject"),
        Some("customer-7")
    );
    let refused = playing().client().call(&upgrade("/ws/x")).unwrap();
    assert_refused(&refused, 401, "token_missing");
}

#[test]
fn a_websocket_ends_when_its_token_does() {
    // Contract: a WebSocket or a stream ends at the token's exp.
    let draft = playing().stage.draft().claim("exp", crate::lab::now() + 3);
    let token = playing().stage.issuer.sign(&draft);
    let mut connection = playing().client().open().unwrap();
    assert_eq!(
        connection
            .call(&upgrade("/ws/x").token(&token))
            .unwrap()
            .status,
        101
    );
    connection.send(b"ping").unwrap();
    assert_eq!(connection.reader().exact(4).unwrap(), b"ping");
    let mut stream = playing().client().open().unwrap();
    let request = Request::get("/accounts/1")
        .token(&token)
        .field("x-lab", "drip:1000:100");
    stream.send(&request.bytes()).unwrap();
    assert_eq!(stream.head("GET").unwrap().0.status, 200);
    assert!(connection.closes(Duration::from_secs(8)));
    let rest = stream.read_to_end();
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "a stream that was cut must not look complete"
    );
}

#[test]
fn other_upgrades_are_dropped() {
    // HTTP-17
    for upgrade in ["h2c", "TLS/1.3", "websocket"] {
        let seen = sent(
            &format!("upgrade {upgrade}"),
            Request::get("/accounts/1")
                .field("Connection", "Upgrade, HTTP2-Settings")
                .field("Upgrade", upgrade)
                .field("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
        );
        assert_eq!(seen.field("upgrade"), None);
        assert_eq!(seen.field("http2-settings"), None);
    }
}
