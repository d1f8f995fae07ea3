//! Whose certificates are taken.

use super::{at, get, get_at, playing};
use crate::lab::client::Request;
use crate::lab::pki::Shape;
use crate::support::stage::assert_refused;

#[test]
fn a_client_without_certificate_gets_an_http_answer_where_it_is_optional() {
    // MTLS-01, MTLS-02
    let answer = playing().anonymous().call(&get()).unwrap();
    assert_refused(&answer, 401, "certificate_required");
    let challenge = answer.challenge().unwrap();
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
