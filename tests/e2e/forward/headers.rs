//! Header fields, both ways.

use super::{legacy, playing, sent};
use crate::lab::base64url;
use crate::lab::client::Request;
use crate::lab::h2::Http2;
use crate::support::stage::{assert_refused, is_uuid};
use serde_json::json;

#[test]
fn the_api_is_told_who_calls_and_never_by_the_caller() {
    // FWD-01, FWD-09, FWD-10, AUTHZ-03, AUTHZ-06; header alias CVEs of the field survey
    let names = [
        "X-Auth-Subject",
        "x_auth_subject",
        "X.Auth.Subject",
        "x-AUTH_client.id",
        "X_Auth_Scope",
        "Client-Cert",
        "client_cert",
        "Client-Cert-Chain",
        "X-Client-Cert",
        "X-Client-Cert-Chain",
        "X-Forwarded-Client-Cert",
        "X_Forwarded_Client_Cert",
        "X-Forwarded-For",
        "X-Forwarded-User",
        "X.Forwarded.Host",
        "X-Real-IP",
        "x_real_ip",
        "X-SSL-Client-DN",
        "SSL-Client-Verify",
        "SSL_CLIENT_CERT",
        "X-Amzn-Mtls-Clientcert",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X_HTTP_Method_Override",
        "X-Internal-Trust",
        "x_internal_trust",
        "DPoP",
        "Proxy-Authorization",
        "X-Auth-Cert-Thumbprint",
        "X-Auth-Acr",
    ];
    let mut request = Request::get("/accounts/1").field("Forwarded", "for=1.2.3.4;host=evil");
    for name in names {
        request = request.field(name, "forged-value");
    }
    let seen = sent("identity", request);
    for (name, value) in &seen.fields {
        assert!(
            !value.contains("forged-value") && !value.contains("evil"),
            "{name}: {value}"
        );
    }
    let stage = &playing().stage;
    assert_eq!(seen.field("x-auth-subject"), Some("customer-7"));
    assert_eq!(seen.field("x-auth-client-id"), Some("tpp-1"));
    assert_eq!(seen.field("x-auth-scope"), Some("accounts payments"));
    assert_eq!(
        seen.field("x-auth-cert-thumbprint"),
        Some(stage.a.thumbprint.as_str())
    );
    // A fact that is missing leaves its header out, whatever the client sent (Kong 3.14).
    assert_eq!(seen.field("x-auth-acr"), None);
    assert_eq!(seen.field("authorization"), None);
    assert_eq!(seen.field("host"), Some("api.bank.test"));
    // FWD-08
    assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.field("x-forwarded-host"), Some("api.bank.test"));
    let forwarded = seen.field("forwarded").unwrap();
    for part in ["for=127.0.0.1", "proto=https", "host=api.bank.test"] {
        assert!(forwarded.contains(part), "{forwarded}");
    }
    assert!(
        is_uuid(seen.field("x-fapi-interaction-id").unwrap()),
        "FAPIH-06"
    );
    assert!(
        seen.field("via")
            .is_some_and(|via| !via.contains("127.0.0.1")),
        "HTTP-02"
    );
}

#[test]
fn a_client_cannot_strip_what_the_gate_sets_or_judges() {
    // HTTP-01, CVE-2024-45410
    let request = Request::get("/accounts/1")
        .field("Connection", "x-auth-subject, authorization, x-fapi-interaction-id, x-forwarded-for, forwarded, x-mine, host")
        .field("X-Mine", "mine")
        .field("Keep-Alive", "timeout=5")
        .field("TE", "trailers")
        .field("Proxy-Connection", "keep-alive");
    let seen = sent("nominated", request);
    assert_eq!(seen.field("x-auth-subject"), Some("customer-7"));
    assert!(seen.field("x-fapi-interaction-id").is_some());
    assert!(seen.field("x-forwarded-for").is_some());
    assert_eq!(seen.field("host"), Some("api.bank.test"));
    for gone in ["x-mine", "keep-alive", "proxy-connection"] {
        assert_eq!(seen.field(gone), None, "{gone}");
    }
}

#[test]
fn all_else_passes_untouched_and_in_order() {
    // HTTP-09, HTTP-10, HTTP-11, FAPIH-03, FAPIH-09, FAPIH-10
    let seen = sent(
        "untouched",
        Request::post("/accounts/a%20b?x=%2F&y=a+b&&z", "\u{1f}\u{8b}zip")
            .field("X-A", "1")
            .field("X-A", "2")
            .field("Content-Encoding", "gzip")
            .field("Content-Digest", "sha-256=:abc=:")
            .field("X-Jws-Signature", "a..b")
            .field("X-FAPI-Auth-Date", "Sun, 22 Nov 2026 10:00:00 GMT")
            .field("X-FAPI-Customer-IP-Address", "2001:DB8::1893:25c8:1946")
            .field("Accept", "application/json, application/*+json, */*"),
    );
    assert_eq!(seen.target, "/accounts/a%20b?x=%2F&y=a+b&&z");
    assert_eq!(seen.all("x-a"), ["1", "2"]);
    assert_eq!(seen.body, "\u{1f}\u{8b}zip".as_bytes());
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("content-digest", "sha-256=:abc=:"),
        ("x-jws-signature", "a..b"),
        ("x-fapi-auth-date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ("x-fapi-customer-ip-address", "2001:DB8::1893:25c8:1946"),
        ("accept", "application/json, application/*+json, */*"),
    ] {
        assert_eq!(seen.field(name), Some(value));
    }
}

#[test]
fn the_interaction_id_is_echoed_forwarded_or_made() {
    // FAPIH-05, FAPIH-06
    let id = "C770AAAB-1234-4567-89AB-0123456789ab";
    let request = Request::get("/accounts/1").token(&playing().token());
    let client = playing().client();
    let answer = client
        .call(
            &request
                .clone()
                .case("id")
                .field("x-fapi-interaction-id", id),
        )
        .unwrap();
    assert_eq!(answer.field("x-fapi-interaction-id"), Some(id));
    assert_eq!(legacy().only("id").field("x-fapi-interaction-id"), Some(id));
    for bad in [
        "not-a-uuid",
        "",
        "c770aaab-1234-4567-89ab-0123456789abc",
        "{c770aaab-1234-4567-89ab-0123456789ab}",
    ] {
        let case = format!("bad id <{bad}>");
        let answer = client
            .call(
                &request
                    .clone()
                    .case(&case)
                    .field("x-fapi-interaction-id", bad),
            )
            .unwrap();
        let made = answer.field("x-fapi-interaction-id").unwrap().to_owned();
        assert!(is_uuid(&made), "{bad}: {made}");
        assert_eq!(
            legacy().only(&case).field("x-fapi-interaction-id"),
            Some(made.as_str())
        );
    }
    // An API that has its own idea does not win, and there is one field (FAPIH-05).
    let raw = "HTTP/1.1 200 OK\r\nx-fapi-interaction-id: 00000000-0000-4000-8000-000000000000\r\nContent-Length: 0\r\n\r\n";
    let lab = format!("raw:{}", base64url(raw.as_bytes()));
    let answer = client
        .call(
            &request
                .field("x-fapi-interaction-id", id)
                .field("x-lab", &lab),
        )
        .unwrap();
    assert_eq!(answer.field("x-fapi-interaction-id"), Some(id));
}

#[test]
fn answers_come_back_whole_and_fit_for_the_client() {
    // FAPIH-01, HTTP-01, HTTP-21
    let answer = playing().call(Request::get("/accounts/1"));
    assert!(answer.field("date").is_some(), "the API sent none");
    assert_eq!(answer.all("x-legacy"), ["one", "two"]);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let date = |date: &str| {
        let raw = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nCache-Control: private\r\nConnection: x-secret\r\nX-Secret: 1\r\n\
             Keep-Alive: timeout=9\r\nContent-Length: 0\r\n\r\n"
        );
        playing().call(
            Request::get("/accounts/1")
                .field("x-lab", &format!("raw:{}", base64url(raw.as_bytes()))),
        )
    };
    let answer = date("Mon, 01 Jan 2001 00:00:00 GMT");
    assert!(
        !answer.field("date").unwrap().contains("2001"),
        "more than five minutes off"
    );
    assert_eq!(answer.field("cache-control"), Some("private"));
    assert_eq!(answer.field("x-secret"), None);
    assert_eq!(answer.field("keep-alive"), None);
    for (status, body) in [("204", 0), ("304", 0), ("404", 1), ("500", 1), ("201", 1)] {
        let answer =
            playing().call(Request::get("/accounts/1").field("x-lab", &format!("status:{status}")));
        assert_eq!(answer.status.to_string(), status);
        assert_eq!(answer.body.len().min(1), body, "{status}");
    }
}

#[test]
fn cookies_of_http2_become_one_line() {
    // RFC 9113 s8.2.3
    let mut connection = Http2::open(&playing().client()).unwrap();
    let request = Request::get("/accounts/1")
        .token(&playing().token())
        .case("crumbs")
        .field("cookie", "a=1")
        .field("cookie", "b=2");
    assert_eq!(connection.call(&request).unwrap().status, 200);
    assert_eq!(legacy().only("crumbs").all("cookie"), ["a=1; b=2"]);
}

#[test]
fn leading_segments_can_be_rewritten() {
    let seen = sent("rewrite", Request::get("/psd2/v1/a%20b?c=/psd2"));
    assert_eq!(seen.target, "/legacy/api/v1/a%20b?c=/psd2");
}

#[test]
fn a_route_tells_the_api_what_it_wants_to_know() {
    // FWD-03, FWD-05, FWD-09, FWD-10
    let stage = &playing().stage;
    let consent = json!({"id": "c 1", "who": "Zoë %"});
    let token = stage.issuer.sign(&stage.draft().claim("consent", consent));
    let request = Request::get("/own/x").token(&token).case("own");
    assert_eq!(playing().client().call(&request).unwrap().status, 200);
    let seen = legacy().only("own");
    assert_eq!(
        seen.field("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
    assert_eq!(seen.field("host"), Some("core.internal"));
    assert_eq!(seen.field("x-route"), Some("own"));
    assert_eq!(seen.field("x-issuer"), Some("main"));
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD.encode(&stage.a.chain[0]);
    assert_eq!(seen.field("x-cert"), Some(format!(":{der}:").as_str()));
    assert_eq!(
        seen.field("x-subject-dn"),
        Some("CN=client-a,O=Throw-away,C=GB")
    );
    assert_eq!(
        seen.field("x-consent"),
        Some("{\"id\":\"c 1\",\"who\":\"Zo%C3%AB %25\"}")
    );
}

#[test]
fn a_request_that_goes_in_circles_is_stopped() {
    // HTTP-19
    let gates = |count: usize| vec!["1.1 portcullis"; count].join(", ");
    let call = |count: usize| {
        let request = Request::get("/accounts/1").field("Via", &gates(count));
        playing().call(request)
    };
    assert_eq!(call(4).status, 200, "gates in a row are no circle");
    assert_refused(&call(5), 508, "loop_detected");
}

#[test]
fn fields_that_are_judged_come_once_and_targets_have_an_end() {
    // HTTP-05
    let twice = Request::post("/accounts/1", "{}")
        .field("Content-Type", "application/json")
        .field("Content-Type", "text/plain");
    assert_refused(&playing().call(twice), 400, "field_repeated");
    let long = format!("/accounts/{}", "a".repeat(17 * 1024));
    assert_refused(&playing().call(Request::get(&long)), 414, "target_too_long");
}
