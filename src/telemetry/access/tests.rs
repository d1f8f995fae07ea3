use std::cell::Cell;

use super::*;
use crate::pdp::authorization::Clients;
use crate::pdp::{Thumbprint, UnixTime};
use crate::telemetry::Metrics;
use serde_json::Value;

fn peer(certificate: bool) -> Arc<Peer> {
    let certificate = certificate.then(|| crate::pdp::PeerCertificate {
        thumbprint: Thumbprint::from_bytes([7; 32]),
        thumbprint_text: Thumbprint::from_bytes([7; 32]).to_base64url().into(),
        der: Box::default(),
        not_before: UnixTime::from_secs(0),
        not_after: UnixTime::from_secs(1),
        subject: "CN=x".into(),
        issuer: "CN=y".into(),
        serial: "1".into(),
        organization_id: None,
        psd2_roles: Vec::new(),
        psd2_authority: None,
    });
    Arc::new(Peer {
        remote: "192.0.2.1:40000".parse().unwrap(),
        local: "192.0.2.2:443".parse().unwrap(),
        listener: "bank".into(),
        certificate,
    })
}

struct Bench {
    metrics: Arc<Metrics>,
    sink: Sink,
}

impl Bench {
    fn new(format: Format) -> Self {
        Self {
            metrics: Metrics::new(UnixTime::from_secs(0)),
            sink: Sink::memory_as(format),
        }
    }

    fn record(&self) -> AccessRecord {
        let id = InteractionId::parse(b"8f0c1d2e-0000-4000-8000-0123456789ab").unwrap();
        let time = Timestamp(Duration::from_millis(1_000_000_000_042));
        let unrouted = self.metrics.unrouted();
        AccessRecord::new(
            &self.sink,
            unrouted,
            (time, Instant::now()),
            &peer(true),
            id,
        )
    }

    fn line(&self) -> Value {
        let lines = self.sink.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str(&lines[0]).unwrap()
    }

    fn text(&self) -> String {
        self.metrics.render(UnixTime::from_secs(0))
    }
}

impl Received for Cell<u64> {
    fn bytes(&self) -> u64 {
        self.get()
    }
}

#[test]
fn an_answered_request_leaves_every_field() {
    // OPS-02, contract of the access log
    let bench = Bench::new(Format::Json);
    let mut record = bench.record();
    let received = Rc::new(Cell::new(11_u64));
    record.method = Some(Method::POST);
    record.path = Some("/accounts/1".into());
    record.protocol = Some(Version::HTTP_2);
    record.route = Some("accounts".into());
    record.generation = 3;
    let route = bench.metrics.route("accounts");
    record.metrics = Arc::clone(&route);
    record.token_digest = Some(TokenDigest([0xab; 32]));
    record.received = Some(Rc::clone(&received) as _);
    record.server = Some("10.0.0.5:8080".into());
    record.attempts = 2;
    record.shadow = Some(Some(Reason::ScopeInsufficient));
    record.stages.decide = Duration::from_micros(12);
    record.stages.upstream = Duration::from_micros(1500);
    record.decided(None);
    record.status = Some(201);
    record.bytes_out = 99;
    received.set(12);
    record.complete();
    record.finish();
    let mut line = bench.line();
    let total = line["total_us"].take();
    assert!(total.is_u64());
    let want = serde_json::json!({
        "time": "2001-09-09T01:46:40.042Z", "outcome": "authorized", "status": 201,
        "method": "POST", "path": "/accounts/1", "listener": "bank", "route": "accounts",
        "interaction_id": "8f0c1d2e-0000-4000-8000-0123456789ab",
        "certificate": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
        "upstream": "10.0.0.5:8080", "protocol": "HTTP/2", "shadow": "scope_insufficient",
        "token_sha256": "abababababababababababababababab", "remote": "192.0.2.1:40000",
        "generation": 3, "attempts": 2, "decide_us": 12, "upstream_us": 1500,
        "bytes_in": 12, "bytes_out": 99, "total_us": null,
    });
    assert_eq!(line, want);
    let text = bench.text();
    assert!(
        text.contains("{route=\"accounts\",outcome=\"authorized\",reason=\"\"} 1"),
        "{text}"
    );
}

#[test]
fn what_is_said_again_is_of_the_same_sender_alone() {
    // OPS-02
    type Change = fn(&mut AccessRecord);
    let changes: [Change; 14] = [
        |_| {},
        |r| r.route = Some("other".into()),
        |r| r.route = None,
        |r| r.server = Some("10.0.0.6:8080".into()),
        |r| r.server = None,
        |r| r.token_digest = Some(TokenDigest([0xac; 32])),
        |r| r.token_digest = None,
        |r| r.generation = 4,
        |r| r.protocol = Some(Version::HTTP_2),
        |r| r.shadow = Some(None),
        |r| r.shadow = Some(Some(Reason::TokenExpired)),
        |r| r.introspection = Some(How::Asked),
        |r| r.peer = peer(false),
        |r| {
            // The key of RFC 7515 appendix A.3.
            let registered = br#"{"clients": [{"client_id": "tpp", "status": "active",
                "redirect_uris": ["https://tpp.example/cb"], "token_endpoint_auth_method": "private_key_jwt",
                "jwks": {"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
                    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}}]}"#;
            let (clients, problems) = Clients::parse(registered, &|_| Ok(())).unwrap();
            r.client = clients.all().next().map(Arc::clone);
            assert!(r.client.is_some(), "{problems:?}");
        },
    ];
    for format in [Format::Json, Format::Text] {
        let (peer, route, server) = (peer(true), Arc::from("accounts"), Arc::from("10.0.0.5:80"));
        let line = |same: Option<&Rc<Same>>, change: Change| {
            let bench = Bench::new(format);
            let mut record = bench.record();
            record.peer = Arc::clone(&peer);
            record.route = Some(Arc::clone(&route));
            record.server = Some(Arc::clone(&server));
            record.token_digest = Some(TokenDigest([0xab; 32]));
            record.generation = 3;
            record.protocol = Some(Version::HTTP_11);
            record.same = same.map(Rc::clone);
            change(&mut record);
            record.finish();
            let line = bench.sink.lines().remove(0);
            let (before, after) = line.split_once("total_us").unwrap();
            let (_, after) = after.split_once("bytes_in").unwrap();
            format!("{before} {after}")
        };
        let same = Rc::default();
        for (at, before) in changes.into_iter().enumerate() {
            for (then, change) in changes.into_iter().enumerate() {
                assert_eq!(line(Some(&same), before), line(None, before), "{at}");
                assert_eq!(line(Some(&same), change), line(None, change), "{at} {then}");
            }
        }
        assert_eq!(format!("{same:?}"), "Same { kept: true }");
        same.forget();
        assert_eq!(format!("{same:?}"), "Same { kept: false }");
    }
}

#[test]
fn the_outcome_follows_what_happened() {
    type Change = fn(&mut AccessRecord);
    let cases: [(&str, Option<&str>, Change); 9] = [
        ("aborted", None, |_| {}),
        ("aborted", None, |r| r.decided(None)),
        ("aborted", Some("token_missing"), |r| {
            r.refused(&Refusal::new(Reason::TokenMissing));
        }),
        ("refused", Some("token_missing"), |r| {
            r.refused(&Refusal::new(Reason::TokenMissing));
            r.complete();
        }),
        ("undecided", Some("keys_unavailable"), |r| {
            r.refused(&Refusal::new(Reason::KeysUnavailable));
            r.complete();
        }),
        ("authorized", Some("upstream_timeout"), |r| {
            r.decided(None);
            r.refused(&Refusal::new(Reason::UpstreamTimeout));
            r.complete();
        }),
        ("refused", Some("internal"), |r| {
            r.decided(None);
            r.refused(&Refusal::new(Reason::Internal));
            r.complete();
        }),
        ("observed", Some("token_missing"), |r| {
            r.decided(Some(&Refusal::new(Reason::TokenMissing)));
            r.complete();
        }),
        ("observed", Some("upstream_timeout"), |r| {
            r.decided(Some(&Refusal::new(Reason::TokenMissing)));
            r.refused(&Refusal::new(Reason::UpstreamTimeout));
            r.complete();
        }),
    ];
    for (outcome, reason, change) in cases {
        let bench = Bench::new(Format::Json);
        let mut record = bench.record();
        change(&mut record);
        drop(record);
        let line = bench.line();
        assert_eq!(line["outcome"], outcome);
        assert_eq!(line.get("reason").and_then(Value::as_str), reason);
        let want = format!(
            "outcome=\"{outcome}\",reason=\"{}\"",
            reason.unwrap_or_default()
        );
        assert!(bench.text().contains(&want), "log and metric agree");
    }
}

#[test]
fn a_panic_on_the_way_leaves_its_line() {
    // OPS-01
    let bench = Bench::new(Format::Json);
    let record = bench.record();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _record = record;
        panic!("a bug");
    }));
    assert!(caught.is_err());
    assert_eq!(bench.line()["outcome"], "aborted");
}

#[test]
fn strangers_write_neither_lines_nor_tokens() {
    // OPS-02
    let jwt = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJl";
    for format in [Format::Json, Format::Text] {
        let bench = Bench::new(format);
        let mut record = bench.record();
        record.path = Some(format!("/a\"\r\n{{\"outcome\":\"authorized\"}}\u{1b}[2J/{jwt}").into());
        record.method = Some(Method::from_bytes(&[b'A'; 4000]).unwrap());
        let detail = format!("got\u{2028}{jwt} {}", "y".repeat(10_000));
        record.refused(&Refusal::because(Reason::TokenMalformed, detail));
        record.complete();
        record.finish();
        let lines = bench.sink.lines();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() < 2000, "bounded: {}", lines[0].len());
        assert!(!lines[0].contains("eyJ"), "{}", lines[0]);
        assert!(!lines[0].chars().any(char::is_control));
        assert!(!lines[0].contains('\u{2028}'));
        if format == Format::Json {
            let line = bench.line();
            assert_eq!(line["outcome"], "refused");
            assert!(line["path"].as_str().unwrap().contains("\r\n"));
        }
    }
}

#[test]
fn text_for_people_begins_with_what_happened() {
    let bench = Bench::new(Format::Text);
    let mut record = bench.record();
    record.method = Some(Method::GET);
    record.path = Some("/accounts/1".into());
    record.refused(&Refusal::because(
        Reason::ScopeInsufficient,
        "needs accounts",
    ));
    record.complete();
    record.finish();
    let lines = bench.sink.lines();
    let start = "2001-09-09T01:46:40.042Z refused 403 GET /accounts/1 \
                 reason=scope_insufficient detail=\"needs accounts\" interaction_id=8f0c";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
}
