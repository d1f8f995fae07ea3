//! The bench itself: a test that measures with a bent ruler proves nothing.

use std::io::Write as _;
use std::time::Duration;

use crate::lab::authserver::{AuthServer, Fault};
use crate::lab::client::{Client, Request};
use crate::lab::h2::{Http2, Http2Legacy};
use crate::lab::http1::{Framing, Reader, request_framing};
use crate::lab::legacy::Legacy;
use crate::lab::pki::{KeyKind, Pki, Shape};

fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    (dir, pki)
}

#[test]
fn the_authorization_server_issues_a_token_bound_to_the_certificate() {
    let (_dir, pki) = pki();
    let server = AuthServer::start(&pki, "https://api.bank.test");
    let good = pki.client("tpp-1", Shape::Good);
    let other = pki.client("tpp-2", Shape::Good);
    server.register("tpp-1", &good, "accounts payments");
    let client = Client::new(server.address, "localhost", pki.server_ca());
    let form = "grant_type=client_credentials&client_id=tpp-1&scope=accounts";
    let request = Request::post("/token", form);
    assert_eq!(client.call(&request).unwrap().status, 401);
    let with_other = client.clone().with(&other);
    assert_eq!(with_other.call(&request).unwrap().status, 401);
    let answer = client.with(&good).call(&request).unwrap();
    assert_eq!(answer.status, 200);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let claims = token.split('.').nth(1).unwrap();
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["cnf"]["x5t#S256"], good.thumbprint.as_str());
    assert_eq!(claims["scope"], "accounts");
}

#[test]
fn every_token_verifies_under_the_published_key() {
    let (_dir, pki) = pki();
    let server = AuthServer::start(&pki, "https://api.bank.test");
    let good = pki.client("tpp-1", Shape::Good);
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(server.jwks()).unwrap();
    // Another test of this process may have been quicker.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    for (alg, name) in [
        ("ES256", jsonwebtoken::Algorithm::ES256),
        ("PS256", jsonwebtoken::Algorithm::PS256),
        ("EdDSA", jsonwebtoken::Algorithm::EdDSA),
    ] {
        let token = server.draft(&good).sign(&server.key(alg));
        let key = set.find(&server.key(alg).kid).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
        let mut rules = jsonwebtoken::Validation::new(name);
        rules.set_audience(&["https://api.bank.test"]);
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).unwrap();
        assert_eq!(claims.claims["client_id"], "tpp-1", "{alg}");
    }
}

#[test]
fn the_authorization_server_fails_as_it_is_told_and_counts() {
    let (_dir, pki) = pki();
    let server = AuthServer::start(&pki, "a");
    let client = Client::new(server.address, "localhost", pki.server_ca());
    let jwks = Request::get("/jwks");
    let before = client.call(&jwks).unwrap().json();
    assert_eq!(before["keys"].as_array().unwrap().len(), 3);
    server.fail("jwks", Fault::Status(500));
    assert_eq!(client.call(&jwks).unwrap().status, 500);
    server.fail("jwks", Fault::Drop);
    assert!(client.call(&jwks).is_err());
    server.fail("jwks", Fault::Garbage);
    assert!(client.call(&jwks).unwrap().json().is_null());
    server.fail("jwks", Fault::Huge(1 << 20));
    assert!(client.call(&jwks).unwrap().body.len() > 1 << 20);
    server.fail("connect", Fault::Drop);
    assert!(client.call(&jwks).is_err());
    server.heal();
    server.rotate();
    let after = client.call(&jwks).unwrap().json();
    assert_ne!(before["keys"][0]["kid"], after["keys"][0]["kid"]);
    assert_eq!(server.count("jwks"), 6);
}

#[test]
fn the_api_tells_what_reached_it() {
    let legacy = Legacy::start();
    let mut socket = std::net::TcpStream::connect(legacy.address).unwrap();
    socket
        .write_all(
            b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-Case: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
              5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n\
              GET /two HTTP/1.1\r\nHost: h\r\nHost: i\r\nContent-Length: 0\r\nX-Case: 2\r\n\
              Connection: close\r\n\r\n",
        )
        .unwrap();
    let mut reader = Reader::new(socket);
    let head = reader.head().unwrap().unwrap();
    assert_eq!(head.start, "HTTP/1.1 200 Said so");
    let length = head.field("content-length").unwrap().parse().unwrap();
    let (body, _) = reader.body(Framing::Length(length)).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["target"], "/a?b=c");
    assert_eq!(body["body_bytes"], 5);
    let first = legacy.only("1");
    assert!(first.flaws.is_empty(), "{:?}", first.flaws);
    assert_eq!(first.trailers, [("x-t".to_owned(), "1".to_owned())]);
    let second = legacy.await_seen("2", |seen| seen.complete);
    assert_eq!(second.flaws, ["not exactly one Host"]);
}

#[test]
fn the_strict_reader_sees_what_a_lenient_one_forgives() {
    for (bytes, flaw) in [
        (&b"GET / HTTP/1.1\r\nHost : h\r\n\r\n"[..], "field name"),
        (b"GET / HTTP/1.1\r\nHost: h\n\r\n\r\n", "bare"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", "folded"),
        (
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "with",
        ),
        (b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "Length"),
        (
            b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "Encoding",
        ),
    ] {
        let mut head = Reader::new(bytes).head().unwrap().unwrap();
        request_framing(&mut head);
        assert!(
            head.flaws.iter().any(|text| text.contains(flaw)),
            "{flaw}: {:?}",
            head.flaws
        );
    }
}

#[test]
fn the_api_speaks_mutual_tls() {
    let (_dir, pki) = pki();
    let identity = pki.server("core", &["core.bank.test"], KeyKind::Rsa);
    let legacy = Legacy::start_tls(&pki, &identity);
    let client = Client::new(legacy.address, "core.bank.test", pki.server_ca());
    let request = Request::get("/").case("tls");
    assert!(client.call(&request).is_err());
    let gate = pki.client("gate", Shape::Good);
    assert_eq!(client.with(&gate).call(&request).unwrap().status, 200);
    assert_eq!(legacy.count(), 1);
}

#[test]
fn flawed_certificates_are_flawed_in_the_eyes_of_others() {
    let (_dir, pki) = pki();
    let identity = pki.server("core", &["core.bank.test"], KeyKind::Ec);
    let legacy = Legacy::start_tls(&pki, &identity);
    let client = Client::new(legacy.address, "core.bank.test", pki.server_ca());
    for (shape, alert) in [
        (Shape::Expired, "CertificateExpired"),
        (Shape::NotYet, "CertificateExpired"),
        (Shape::ServerOnly, "UnsupportedCertificate"),
        (Shape::Stranger, "UnknownCA"),
        (Shape::SelfSigned, "UnknownCA"),
        (Shape::IntermediateMissing, "UnknownCA"),
    ] {
        let name = format!("{shape:?}");
        let refusal = client.clone().with(&pki.client(&name, shape)).refusal();
        assert_eq!(
            refusal,
            format!("received fatal alert: {alert}"),
            "{shape:?}"
        );
    }
    for shape in [Shape::Intermediate, Shape::Psd2PaymentInitiation] {
        let name = format!("{shape:?}");
        let client = client.clone().with(&pki.client(&name, shape));
        assert_eq!(client.call(&Request::get("/")).unwrap().status, 200);
    }
}

#[test]
fn http2_works_on_both_sides() {
    let (_dir, pki) = pki();
    let identity = pki.server("core", &["core.bank.test"], KeyKind::Ec);
    let legacy = Http2Legacy::start(Some(&identity));
    let client = Client::new(legacy.address, "core.bank.test", pki.server_ca());
    let mut connection = Http2::open(&client).unwrap();
    let request = Request::post("/x?y", "body")
        .case("h2")
        .host("core.bank.test");
    let answers = connection.call_all(&[request.clone(), request]);
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap().status == 200)
    );
    let seen = legacy.seen("h2");
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].target, "/x?y");
    assert_eq!(seen[0].connection, seen[1].connection);
    assert!(!connection.closes(Duration::from_millis(10)));
}
