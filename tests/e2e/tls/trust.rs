//! Resumption, and trust that ends when its evidence does.

use super::{at, get, get_at, own, playing};
use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::lab::pki::Shape;
use crate::support::stage::assert_refused;
use std::time::Duration;

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
