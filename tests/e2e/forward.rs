//! What reaches the API and what comes back: headers, bodies, streams.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use crate::lab::base64url;
use crate::lab::client::Request;
use crate::lab::h2::{Http2, Http2Legacy};
use crate::lab::http1::Framing;
use crate::lab::legacy::{Legacy, Seen};
use crate::lab::pki::{KeyKind, Shape};
use crate::support::stage::{Playing, assert_refused, is_uuid};

struct Forward {
    playing: Playing,
    secure: Legacy,
    http2: Http2Legacy,
}

fn forward() -> &'static Forward {
    static FORWARD: OnceLock<Forward> = OnceLock::new();
    FORWARD.get_or_init(|| {
        let mut others = None;
        let playing = Playing::new(|stage, mut config| {
            let core = stage.pki.server("core", &["core.bank.test"], KeyKind::Rsa);
            stage.pki.client("gate", Shape::Good);
            let secure = Legacy::start_tls(&stage.pki, &core);
            let http2 = Http2Legacy::start(Some(&core));
            for (name, port, protocol) in [
                ("secure", secure.address.port(), "http1"),
                ("http2", http2.address.port(), "http2"),
                ("wrong", secure.address.port(), "http1"),
            ] {
                let server_name = if name == "wrong" { "wrong.bank.test" } else { "core.bank.test" };
                config.more.push_str(&format!(
                    "[upstream.{name}]\nservers = [\"https://127.0.0.1:{port}\"]\nprotocol = \"{protocol}\"\n\
                     server_name = \"{server_name}\"\nca = [\"pki/server-ca.pem\"]\n\
                     certificate = \"pki/gate.pem\"\nprivate_key = \"pki/gate-key.pem\"\n"
                ));
            }
            others = Some((secure, http2));
            let policy = "policy = { scopes = [\"accounts\"] }";
            config
                .route("secure", "/secure/**", &format!("{policy}\nupstream = \"secure\""))
                .route("http2", "/http2/**", &format!("{policy}\nupstream = \"http2\""))
                .route("wrong", "/wrong/**", &format!("{policy}\nupstream = \"wrong\""))
                .route("rewritten", "/psd2/{version}/**", &format!("{policy}\nrewrite = {{ from = \"/psd2\", to = \"/legacy/api\" }}"))
                .route("ws", "/ws/**", &format!("{policy}\nmethods = [\"GET\"]\nwebsocket = true"))
                .route("own", "/own/**", &format!(
                    "{policy}\nforward = {{ authorization = true, host = \"core.internal\", headers = {{ x-cert = \"certificate.der\", x-subject-dn = \"certificate.subject\", x-route = \"route.name\", x-issuer = \"issuer.name\", x-consent = \"token.consent\" }} }}"
                ))
        });
        let (secure, http2) = others.unwrap();
        Forward { playing, secure, http2 }
    })
}

fn playing() -> &'static Playing {
    &forward().playing
}

fn legacy() -> &'static Legacy {
    &playing().stage.legacy
}

/// What the API saw of a request that passed.
fn sent(case: &str, request: Request) -> Seen {
    let answer = playing().call(request.case(case));
    assert_eq!(
        answer.status,
        200,
        "{case}: {}",
        String::from_utf8_lossy(&answer.body)
    );
    let seen = legacy().only(case);
    assert!(seen.flaws.is_empty(), "{case}: {:?}", seen.flaws);
    seen
}

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
