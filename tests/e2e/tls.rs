//! Transport: versions, names, certificates, resumption, and trust that ends when its evidence
//! does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

use rustls::CipherSuite;

use crate::lab::client::{Client, Request};
use crate::lab::h2::Http2;
use crate::lab::pki::{KeyKind, Shape};
use crate::support::stage::{Playing, assert_proper, assert_refused};
use crate::support::{Gate, Stage};

/// Beside `bank`, all on one address: the server name alone chooses.
const LISTENERS: &str = r#"
[listener.fapi1]
address = "127.0.0.1:0"
public_url = "https://fapi1.bank.test"
[listener.fapi1.tls]
certificate = "pki/rsa.pem"
private_key = "pki/rsa-key.pem"
profile = "fapi1"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/clients.crl.pem"]

[listener.any]
address = "127.0.0.1:0"
public_url = "https://any.bank.test"
default = true
disclose_reasons = true
[listener.any.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_trust = "any"
resumption = false

[listener.required]
address = "127.0.0.1:0"
public_url = "https://required.bank.test"
[listener.required.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_certificate = "required"
client_ca = ["pki/clients-ca.pem", "pki/issuing-ca.pem"]
client_crl = ["pki/clients.crl.pem", "pki/issuing.crl.pem"]

[listener.stale]
address = "127.0.0.1:0"
public_url = "https://stale.bank.test"
[listener.stale.tls]
certificate = "pki/server.pem"
private_key = "pki/server-key.pem"
client_ca = ["pki/clients-ca.pem"]
client_crl = ["pki/stale.crl.pem"]

[[route]]
name = "everywhere"
listener = ["bank", "fapi1", "any", "required", "stale"]
path = "/accounts/**"
methods = ["GET"]
upstream = "core"
policy = { scopes = ["accounts"] }
"#;

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, mut config| {
            let names = ["api", "any", "required", "stale"].map(|name| format!("{name}.bank.test"));
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            stage.pki.server("server", &names, KeyKind::Ec);
            stage.pki.server("rsa", &["fapi1.bank.test"], KeyKind::Rsa);
            stage.pki.write_expired_crl("stale.crl.pem");
            config.usual_routes = false;
            config.more.push_str(LISTENERS);
            config
        })
    })
}

fn at(listener: &str) -> Client {
    playing()
        .anonymous()
        .named(&format!("{listener}.bank.test"))
}

fn get_at(listener: &str) -> Request {
    get().host(&format!("{listener}.bank.test"))
}

fn get() -> Request {
    Request::get("/accounts/1").token(&playing().token())
}

#[test]
fn plain_http_is_not_answered_with_content_nor_redirected() {
    // TLS-01
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
    // TLS-02
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
fn a_client_without_certificate_gets_an_http_answer_where_it_is_optional() {
    // MTLS-01, MTLS-02
    let answer = playing().anonymous().call(&get()).unwrap();
    assert_refused(&answer, 401, "certificate_required");
    let challenge = answer.field("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
}

#[test]
fn where_it_is_required_the_handshake_fails_without() {
    // MTLS-01
    assert_eq!(
        at("required").refusal(),
        "received fatal alert: CertificateRequired"
    );
    let client = at("required").with(&playing().stage.a);
    assert_eq!(client.call(&get_at("required")).unwrap().status, 200);
}

#[test]
fn flawed_certificates_fail_the_handshake() {
    // MTLS-06, MTLS-07; optional does not mean lenient.
    let stage = &playing().stage;
    for (shape, alert) in [
        (Shape::Expired, "CertificateExpired"),
        (Shape::NotYet, "CertificateExpired"),
        (Shape::ServerOnly, "UnsupportedCertificate"),
        (Shape::Stranger, "UnknownCA"),
        (Shape::SelfSigned, "UnknownCA"),
        (Shape::IntermediateMissing, "UnknownCA"),
    ] {
        let identity = stage.pki.client(&format!("tls-{shape:?}"), shape);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = playing().anonymous().only(version).with(&identity);
            let refusal = client.refusal();
            assert!(
                refusal.starts_with("received fatal alert"),
                "{shape:?} ({alert}): {refusal}"
            );
        }
    }
}

#[test]
fn a_chain_is_used_whether_the_client_sends_it_or_the_operator_gives_it() {
    // MTLS-08; the operator's list makes revocation known in both cases.
    let stage = &playing().stage;
    for (name, shape) in [
        ("chain-sent", Shape::Intermediate),
        ("chain-unsent", Shape::IntermediateMissing),
    ] {
        let identity = stage.pki.client(name, shape);
        let request = Request::get("/accounts/1")
            .host("required.bank.test")
            .token(&stage.issuer.token(&identity));
        let client = at("required").with(&identity);
        let answer = client
            .call(&request)
            .unwrap_or_else(|error| panic!("{name}: {error}:\n{}", playing().gate.stderr()));
        assert_eq!(answer.status, 200, "{name}");
        // Where nobody knows what the intermediate revoked, it is not taken.
        let refusal = playing().anonymous().with(&identity).refusal();
        assert!(refusal.starts_with("received fatal alert"), "{refusal}");
    }
}

#[test]
fn possession_alone_is_enough_where_trust_is_any() {
    // MTLS-06, RFC 8705 s2.2
    let stage = &playing().stage;
    for shape in [Shape::SelfSigned, Shape::Stranger] {
        let identity = stage.pki.client(&format!("any-{shape:?}"), shape);
        let request = Request::get("/accounts/1")
            .host("any.bank.test")
            .token(&stage.issuer.token(&identity));
        let client = at("any").with(&identity);
        assert_eq!(client.call(&request).unwrap().status, 200, "{shape:?}");
        let answer = client.call(&get_at("any")).unwrap();
        assert_refused(&answer, 401, "binding_mismatch");
    }
    // Dates hold for these too (contract section 2).
    let expired = stage.pki.client("any-expired", Shape::Expired);
    let request = Request::get("/accounts/1")
        .host("any.bank.test")
        .token(&stage.issuer.token(&expired));
    let answer = at("any").with(&expired).call(&request).unwrap();
    assert_refused(&answer, 401, "certificate_expired");
}

#[test]
fn a_revocation_list_that_ran_out_refuses() {
    // TLS-17
    let refusal = at("stale").with(&playing().stage.a).refusal();
    assert!(refusal.starts_with("received fatal alert"), "{refusal}");
}

#[test]
fn a_session_resumes_with_the_same_certificate_and_only_on_its_own_listener() {
    // TLS-10; CVE-2025-23419 and its kin
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = playing().client().only(version).resuming();
        let mut first = client.open().unwrap();
        assert_eq!(first.call(&get()).unwrap().status, 200);
        assert!(!first.resumed());
        let mut second = client.open().unwrap();
        assert_eq!(second.call(&get()).unwrap().status, 200);
        assert!(second.resumed(), "{version:?}");

        // The ticket of `bank`, shown to `required`, makes a full handshake.
        let mut third = client.clone().named("required.bank.test").open().unwrap();
        assert_eq!(third.call(&get_at("required")).unwrap().status, 200);
        assert!(!third.resumed(), "{version:?}");

        // A session without a certificate cannot become one where a certificate is required.
        let anonymous = playing().anonymous().only(version).resuming();
        assert_eq!(anonymous.call(&get()).unwrap().status, 401);
        let required = anonymous.named("required.bank.test");
        assert_eq!(
            required.refusal(),
            "received fatal alert: CertificateRequired"
        );
    }
}

#[test]
fn resumption_can_be_switched_off() {
    // TLS-10
    let client = at("any").with(&playing().stage.a).resuming();
    for _ in 0..3 {
        let mut connection = client.open().unwrap();
        assert_eq!(connection.call(&get_at("any")).unwrap().status, 200);
        assert!(!connection.resumed());
    }
}

#[test]
fn each_connection_is_judged_by_its_own_certificate() {
    // MTLS-16, MTLS-04, MTLS-09
    let stage = &playing().stage;
    let (a, b) = (playing().client(), playing().anonymous().with(&stage.b));
    let mut a = a.open().unwrap();
    let mut b = b.open().unwrap();
    assert_eq!(a.call(&get()).unwrap().status, 200);
    assert_refused(&b.call(&get()).unwrap(), 401, "binding_mismatch");
    let of_b = Request::get("/accounts/1").token(&stage.issuer.token(&stage.b));
    assert_eq!(b.call(&of_b).unwrap().status, 200);
    assert_refused(&a.call(&of_b).unwrap(), 401, "binding_mismatch");
}

/// A stage of its own for what changes the trust of everybody.
fn own() -> (Stage, Gate) {
    let stage = Stage::new();
    let gate = stage.start(&stage.config());
    (stage, gate)
}

#[test]
fn a_certificate_revoked_while_connected_is_refused_at_the_next_request() {
    // TLS-17, contract section 2: trust does not outlive its evidence.
    let (stage, gate) = own();
    let request = Request::get("/accounts/1").token(&stage.token());
    let mut http1 = stage.client(&gate).open().unwrap();
    let mut http2 = Http2::open(&stage.client(&gate)).unwrap();
    let mut other = stage.anonymous(&gate).with(&stage.b).open().unwrap();
    assert_eq!(http1.call(&request).unwrap().status, 200);
    assert_eq!(http2.call(&request).unwrap().status, 200);
    let of_b = Request::get("/accounts/1").token(&stage.issuer.token(&stage.b));
    assert_eq!(other.call(&of_b).unwrap().status, 200);

    stage.pki.revoke(&stage.a);
    gate.reload();

    let answer = http1.call(&request).unwrap();
    assert_refused(&answer, 401, "certificate_revoked");
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(http1.closes(Duration::from_secs(5)));
    let answer = http2.call(&request).unwrap();
    assert_refused(&answer, 401, "certificate_revoked");
    assert!(http2.closes(Duration::from_secs(5)));
    // Who was not revoked notices nothing, on the connection that was open.
    assert_eq!(other.call(&of_b).unwrap().status, 200);
    // New connections fail in the handshake.
    assert_eq!(
        stage.client(&gate).refusal(),
        "received fatal alert: CertificateRevoked"
    );
}

#[test]
fn a_ticket_from_before_the_revocation_does_not_resume() {
    // TLS-10, TLS-17; CVE-2022-21654
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (stage, gate) = own();
        let request = Request::get("/accounts/1").token(&stage.token());
        let client = stage.client(&gate).only(version).resuming();
        assert_eq!(client.call(&request).unwrap().status, 200);
        let mut again = client.open().unwrap();
        assert_eq!(again.call(&request).unwrap().status, 200);
        assert!(again.resumed());
        stage.pki.revoke(&stage.a);
        gate.reload();
        assert_eq!(client.refusal(), "received fatal alert: CertificateRevoked");
    }
}

#[test]
fn a_reload_that_changes_no_trust_keeps_sessions_and_connections() {
    // TLS-16
    let (stage, gate) = own();
    let request = Request::get("/accounts/1").token(&stage.token());
    let client = stage.client(&gate).resuming();
    let mut open = client.open().unwrap();
    assert_eq!(open.call(&request).unwrap().status, 200);
    let mut config = stage.config();
    config.limits.push_str("header_bytes = \"48KiB\"\n");
    stage.write(&config);
    gate.reload();
    assert_eq!(open.call(&request).unwrap().status, 200);
    let mut again = client.open().unwrap();
    assert_eq!(again.call(&request).unwrap().status, 200);
    assert!(again.resumed());
}

#[test]
fn a_certificate_that_runs_out_while_connected_is_refused() {
    // Contract section 2: inside its dates at each request.
    let (stage, gate) = own();
    let short = stage.pki.client("short", Shape::EndsIn(4));
    let request = Request::get("/accounts/1").token(&stage.issuer.token(&short));
    let mut connection = stage.anonymous(&gate).with(&short).open().unwrap();
    assert_eq!(connection.call(&request).unwrap().status, 200);
    gate.until("the certificate's end", || {
        let answer = connection.call(&request).unwrap();
        if answer.status != 200 {
            assert_refused(&answer, 401, "certificate_expired");
            return true;
        }
        std::thread::sleep(Duration::from_millis(200));
        false
    });
    assert!(connection.closes(Duration::from_secs(5)));
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
