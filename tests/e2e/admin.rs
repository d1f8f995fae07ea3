//! The administration: alive, ready, numbers, and the state of things.

use std::sync::OnceLock;

use crate::lab::authserver::Fault;
use crate::lab::client::Request;
use crate::support::stage::Playing;
use crate::support::{Gate, Stage};

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| Playing::new(|_, config| config))
}

#[test]
fn it_is_alive_before_it_is_ready() {
    // Contract section 5
    let stage = Stage::new();
    stage.issuer.fail("connect", Fault::Drop);
    let gate = Gate::start(&stage.write(&stage.config()));
    assert_eq!(gate.admin("/livez").status, 200);
    let ready = gate.admin("/readyz");
    assert_eq!(ready.status, 503);
    assert!(
        ready.json().to_string().contains("main"),
        "{}",
        ready.json()
    );
    // An issuer that is not required holds nothing up.
    let mut config = stage.config();
    config.issuer.insert("required", "false".to_owned());
    let gate = Gate::start(&stage.write(&config));
    gate.until("readiness", || gate.admin("/readyz").status == 200);
}

#[test]
fn metrics_are_prometheus_text_and_count() {
    let gate = &playing().gate;
    let decisions = |reason: &str| {
        gate.metric(
            "portcullis_requests_total",
            &[&format!("reason=\"{reason}\""), "accounts-read"],
        )
    };
    let before = decisions("token_missing");
    for _ in 0..3 {
        playing()
            .client()
            .call(&Request::get("/accounts/1"))
            .unwrap();
    }
    gate.until("three more", || decisions("token_missing") >= before + 3.0);
    assert_eq!(playing().call(Request::get("/accounts/1")).status, 200);
    let answer = gate.admin("/metrics");
    assert_eq!(answer.status, 200);
    let kind = answer.field("content-type").unwrap();
    assert!(
        kind.starts_with("text/plain") || kind.starts_with("application/openmetrics-text"),
        "{kind}"
    );
    let text = String::from_utf8(answer.body).unwrap();
    for line in text.lines() {
        let sound = line.starts_with("# ") || line.starts_with("portcullis_");
        assert!(sound || line.is_empty(), "{line}");
    }
    assert!(text.contains("# TYPE portcullis_"), "{text}");
    let handshakes = gate.metric("portcullis_handshakes_total", &[]);
    assert!(handshakes >= 4.0, "{handshakes} in\n{text}");
    let open = || gate.metric("portcullis_connections_open", &[]);
    // Other tests open and close theirs meanwhile: these are there in any case.
    let held: Vec<_> = (0..5).map(|_| playing().client().open().unwrap()).collect();
    gate.until("so many open", || open() >= 5.0);
    drop(held);
}

#[test]
fn status_tells_what_serves() {
    assert_eq!(playing().call(Request::get("/accounts/1")).status, 200);
    let status = playing().gate.status();
    let text = status.to_string();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["generation"], 1);
    for word in [
        "main",
        "accounts-read",
        "core",
        playing().stage.issuer.key("ES256").kid.as_str(),
    ] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let page = playing().gate.admin("/");
    assert_eq!(page.status, 200);
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    assert!(String::from_utf8_lossy(&page.body).contains("accounts-read"));
    assert_eq!(playing().gate.admin("/nowhere").status, 404);
}

#[test]
fn a_loss_after_readiness_is_degraded() {
    let stage = Stage::new();
    let mut config = stage.config();
    config
        .jwks
        .push_str("timeout = \"500ms\"\nrefresh_cooldown = \"1s\"\n");
    let gate = stage.start(&config);
    stage.issuer.fail("connect", Fault::Drop);
    let unknown = stage.issuer.sign(&stage.draft().header("kid", "nobody"));
    gate.until("being degraded", || {
        let request = Request::get("/accounts/1").token(&unknown);
        stage.client(&gate).call(&request).unwrap();
        gate.status()["degraded"] == true
    });
    let ready = gate.admin("/readyz");
    assert_eq!(ready.status, 200);
    gate.until("being degraded", || {
        String::from_utf8_lossy(&gate.admin("/readyz").body).contains("degraded")
    });
}
