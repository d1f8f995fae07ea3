//! Upstreams over TLS and HTTP/2.

use super::{forward, playing};
use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::support::stage::assert_refused;

#[test]
fn upstreams_over_tls_are_proved_and_proven_to() {
    // FWD-12, TLS-14, TLS-15
    let answer = playing().call(Request::get("/secure/x").case("mtls"));
    assert_eq!(answer.status, 200);
    assert_eq!(forward().secure.only("mtls").target, "/secure/x");
    let answer = playing().call(Request::get("/wrong/x").case("wrong"));
    assert_refused(&answer, 502, "upstream_untrusted");
    assert!(forward().secure.seen("wrong").is_empty());
}

#[test]
fn an_upstream_of_http2_gets_the_same_request() {
    let answer = playing().call(Request::post("/http2/x?y=1", "hello").case("up h2"));
    assert_eq!(answer.status, 200);
    let seen = forward().http2.seen("up h2");
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].target.as_str(), seen[0].body.as_slice()),
        ("/http2/x?y=1", &b"hello"[..])
    );
    assert_eq!(seen[0].field("x-auth-subject"), Some("customer-7"));
    assert_eq!(seen[0].field("authorization"), None);
    assert_eq!(seen[0].field(":authority"), Some("api.bank.test"));
    let mut connection = Http2::open(&playing().client()).unwrap();
    let requests: Vec<Request> = (0..20)
        .map(|n| {
            Request::post("/http2/x", format!("{n}"))
                .token(&playing().token())
                .case("up h2 many")
        })
        .collect();
    for answer in connection.call_all(&requests) {
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(forward().http2.seen("up h2 many").len(), 20);
}
