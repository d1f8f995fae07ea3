//! Versions, suites, server names, ALPN.

use super::{at, get, get_at, own, playing};
use crate::lab::client::{Client, Request};
use crate::lab::h2::Http2;
use crate::support::stage::{assert_proper, assert_refused};
use rustls::CipherSuite;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

#[test]
fn plain_http_is_not_answered_with_content_nor_redirected() {
    // TLS-01, ATK-02
    let mut socket = TcpStream::connect(playing().gate.address("bank")).unwrap();
    socket
        .write_all(b"GET /accounts/1 HTTP/1.1\r\nHost: api.bank.test\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

/// A ClientHello of a version that nobody should speak any more.
fn old_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    // ECDHE_ECDSA and ECDHE_RSA with AES-128-CBC-SHA, RSA with AES-128-CBC-SHA.
    body.extend_from_slice(&[0, 6, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    let name = b"api.bank.test";
    let mut extensions = vec![0, 0, 0, (name.len() + 5) as u8, 0, (name.len() + 3) as u8];
    extensions.extend_from_slice(&[0, 0, name.len() as u8]);
    extensions.extend_from_slice(name);
    extensions.extend_from_slice(&[0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0]);
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    let mut hello = vec![22, 3, 1];
    hello.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    hello.extend_from_slice(&[1, 0]);
    hello.extend_from_slice(&(body.len() as u16).to_be_bytes());
    hello.extend_from_slice(&body);
    hello
}

#[test]
fn tls_1_0_and_1_1_are_refused_with_an_alert_that_scanners_know() {
    // TLS-02, ATK-02
    for version in [[3, 1], [3, 2]] {
        let mut socket = TcpStream::connect(playing().gate.address("bank")).unwrap();
        socket.write_all(&old_hello(version)).unwrap();
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer));
        // Alert record, fatal, protocol_version or handshake_failure.
        assert_eq!(answer.first(), Some(&21), "{version:?}: {answer:?}");
        assert!(
            matches!(answer.get(5..7), Some([2, 70 | 40])),
            "{version:?}: {answer:?}"
        );
    }
}

#[test]
fn tls_1_2_and_1_3_work_and_1_3_is_preferred() {
    // TLS-03
    use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
    let client = playing().client();
    let version = |client: &Client| {
        let mut connection = client.open().unwrap();
        assert_eq!(connection.call(&get()).unwrap().status, 200);
        connection.session().protocol_version().unwrap()
    };
    assert_eq!(version(&client), TLSv1_3);
    assert_eq!(
        version(&client.clone().only(&rustls::version::TLS12)),
        TLSv1_2
    );
    assert_eq!(version(&client.only(&rustls::version::TLS13)), TLSv1_3);
}

#[test]
fn under_tls_1_2_only_the_suites_of_the_profile_are_taken() {
    // TLS-04, TLS-05, TLS-06
    use CipherSuite::*;
    let fapi2 = playing().client().only(&rustls::version::TLS12);
    for suite in [
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ] {
        let client = fapi2.clone().suites(&[suite]);
        assert_eq!(client.call(&get()).unwrap().status, 200, "{suite:?}");
    }
    let refusal = |client: Client, suite| {
        let refusal = client.suites(&[suite]).refusal();
        assert_eq!(
            refusal, "received fatal alert: HandshakeFailure",
            "{suite:?}"
        );
    };
    refusal(fapi2, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    let fapi1 = at("fapi1").with(&playing().stage.a);
    assert_eq!(fapi1.call(&get_at("fapi1")).unwrap().status, 200);
    let fapi1 = fapi1.only(&rustls::version::TLS12);
    for suite in [
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ] {
        let client = fapi1.clone().suites(&[suite]);
        assert_eq!(
            client.call(&get_at("fapi1")).unwrap().status,
            200,
            "{suite:?}"
        );
    }
    refusal(fapi1.clone(), TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256);
    refusal(fapi1, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
}

#[test]
fn an_unknown_or_missing_server_name_gets_no_certificate() {
    // TLS-11
    let client = playing().client();
    assert_eq!(
        client.named("nope.bank.test").refusal(),
        "received fatal alert: UnrecognisedName"
    );
    let (stage, gate) = own();
    assert_eq!(
        stage.client(&gate).without_server_name().refusal(),
        "received fatal alert: MissingExtension"
    );
    // `default = true` takes those that send none, and still no unknown name.
    let any = at("any").with(&playing().stage.a);
    let answer = any
        .clone()
        .without_server_name()
        .call(&get_at("any"))
        .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        any.named("nope.bank.test").refusal(),
        "received fatal alert: UnrecognisedName"
    );
}

#[test]
fn the_server_name_is_found_whatever_its_case_and_however_the_hello_is_cut() {
    // Field survey, class "mTLS route skipped": a ClientHello over several records must not choose
    // another listener.
    let client = playing().client().named("API.Bank.Test");
    let answer = client.call(&get()).unwrap();
    assert_eq!(answer.status, 200);
    for at in [1, 4, 5, 6, 9, 43, 100] {
        let pieces = |hello: Vec<u8>| {
            let (a, b) = hello.split_at(at.min(hello.len()));
            vec![a.to_vec(), b.to_vec()]
        };
        let mut connection = playing().client().open_split(pieces).unwrap();
        assert_eq!(connection.call(&get()).unwrap().status, 200, "cut at {at}");
        // The same as two TLS records.
        let records = |hello: Vec<u8>| {
            let (head, body) = hello.split_at(5);
            let (a, b) = body.split_at(at.min(body.len()));
            [a, b]
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| {
                    let mut record = head[..3].to_vec();
                    record.extend_from_slice(&(part.len() as u16).to_be_bytes());
                    record.extend_from_slice(part);
                    record
                })
                .collect()
        };
        let mut connection = playing().client().open_split(records).unwrap();
        assert_eq!(
            connection.call(&get()).unwrap().status,
            200,
            "record of {at}"
        );
    }
}

#[test]
fn an_authority_of_another_name_is_misdirected() {
    // TLS-12
    let client = playing().client();
    for host in [
        "other.bank.test",
        "nope.example",
        "127.0.0.1",
        "api.bank.test.evil.example",
    ] {
        let answer = client.call(&get().host(host)).unwrap();
        assert_refused(&answer, 421, "authority_mismatch");
    }
    for host in ["API.bank.TEST", "api.bank.test.", "api.bank.test:443"] {
        assert_eq!(
            client.call(&get().host(host)).unwrap().status,
            200,
            "{host}"
        );
    }
    // Over HTTP/2 the same.
    let mut connection = Http2::open(&client).unwrap();
    let answer = connection.call(&get().host("other.bank.test")).unwrap();
    assert_refused(&answer, 421, "authority_mismatch");
    assert_eq!(connection.call(&get()).unwrap().status, 200);
}

#[test]
fn alpn_is_enforced() {
    // TLS-13
    let client = playing().client();
    assert_eq!(
        client.clone().alpn(&["foo"]).refusal(),
        "received fatal alert: NoApplicationProtocol"
    );
    let chosen = |offered: &[&str]| {
        let mut connection = client.clone().alpn(offered).open().unwrap();
        connection.session().alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(chosen(&["http/1.1", "h2"]).as_deref(), Some(&b"h2"[..]));
    assert_eq!(chosen(&["http/1.1"]).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(chosen(&[]), None);
    let answer = client.clone().alpn(&[]).call(&get()).unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn the_administration_does_not_answer_on_the_public_listener() {
    // OPS-06
    for path in ["/metrics", "/status", "/livez", "/readyz", "/"] {
        let answer = playing().client().call(&Request::get(path)).unwrap();
        assert_refused(&answer, 404, "route_not_found");
        assert_proper(&answer);
    }
}
