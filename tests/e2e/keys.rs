//! Keys of the issuer: rotation, storms, outages, cold starts. An outage of somebody else must not
//! become a refusal, and no trouble of theirs an acceptance.

use std::net::TcpListener;

use serde_json::json;

use crate::lab::authserver::{AuthServer, Fault};
use crate::lab::client::Request;
use crate::lab::jose::SigningKey;
use crate::lab::pki::KeyKind;
use crate::support::stage::{AUDIENCE, assert_refused};
use crate::support::{Config, Gate, Stage};

/// Quick enough for a test, slow enough to be seen.
const QUICK: &str = "timeout = \"1s\"\nrefresh_cooldown = \"1s\"\nrefresh_every = \"1h\"\n";

fn stage() -> (Stage, Config) {
    let stage = Stage::new();
    let mut config = stage.config();
    config.jwks.push_str(QUICK);
    (stage, config)
}

fn ask(stage: &Stage, gate: &Gate, token: &str) -> (u16, String) {
    let request = Request::get("/accounts/1").token(token);
    let answer = stage.client(gate).call(&request).unwrap();
    if answer.status == 503 {
        assert_refused(&answer, 503, "keys_unavailable");
        let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    (answer.status, answer.reason())
}

#[test]
fn a_new_key_is_found_and_an_old_one_forgotten() {
    // KEY-03, KEY-05, TOK-24
    let (stage, config) = stage();
    let gate = stage.start(&config);
    let old = stage.token();
    assert_eq!(ask(&stage, &gate, &old).0, 200);
    stage.issuer.rotate();
    let new = stage.token();
    gate.until("the new key", || match ask(&stage, &gate, &new) {
        (200, _) => true,
        (401, reason) if reason == "key_unknown" => false,
        other => panic!("{other:?}"),
    });
    // The set that has the new key has the old one no more, and what was remembered is forgotten.
    assert_eq!(ask(&stage, &gate, &old), (401, "key_unknown".to_owned()));
}

#[test]
fn a_storm_of_unknown_keys_makes_one_fetch_a_cooldown_and_hurts_nobody() {
    // KEY-02, KEY-03
    let (stage, mut config) = stage();
    config.jwks =
        "timeout = \"1s\"\nrefresh_cooldown = \"1m\"\nrefresh_every = \"1h\"\n".to_owned();
    let gate = stage.start(&config);
    let good = stage.token();
    let before = stage.issuer.count("jwks");
    let mut connection = stage.client(&gate).open().unwrap();
    for n in 0..300 {
        let draft = stage.draft().header("kid", format!("{n}"));
        let request = Request::get("/accounts/1").token(&stage.issuer.sign(&draft));
        let answer = connection.call(&request).unwrap();
        assert_refused(&answer, 401, "key_unknown");
        if n % 10 == 0 {
            let request = Request::get("/accounts/1").token(&good);
            assert_eq!(connection.call(&request).unwrap().status, 200);
        }
    }
    let fetched = stage.issuer.count("jwks") - before;
    assert!(fetched <= 1, "{fetched} fetches");
}

#[test]
fn many_requests_make_few_fetches() {
    // KEY-02
    let (stage, config) = stage();
    let gate = stage.start(&config);
    let token = stage.token();
    let mut connection = stage.client(&gate).open().unwrap();
    for _ in 0..500 {
        let request = Request::get("/accounts/1").token(&token);
        assert_eq!(connection.call(&request).unwrap().status, 200);
    }
    assert!(
        stage.issuer.count("jwks") <= 2,
        "{}",
        stage.issuer.count("jwks")
    );
}

#[test]
fn good_keys_outlast_an_outage_of_any_kind() {
    // KEY-04, KEY-06, KEY-07, KEY-08
    let (stage, config) = stage();
    let gate = stage.start(&config);
    for fault in [
        Fault::Status(500),
        Fault::Status(302),
        Fault::Drop,
        Fault::Hang,
        Fault::Garbage,
        Fault::Text("{\"keys\":[]}".to_owned()),
        Fault::Text("{\"keys\":{}}".to_owned()),
        Fault::Text("[]".to_owned()),
        Fault::Huge(20 << 20),
    ] {
        let good = stage.token();
        assert_eq!(ask(&stage, &gate, &good).0, 200);
        stage.issuer.fail("jwks", fault.clone());
        // An unknown key makes the gate look. It cannot, so it cannot say that there is no such
        // key (contract section 3).
        let draft = stage.draft().header("kid", "nobody");
        let unknown = stage.issuer.sign(&draft);
        gate.until("a failed look", || match ask(&stage, &gate, &unknown) {
            (503, _) => true,
            (401, reason) if reason == "key_unknown" => false,
            other => panic!("{fault:?}: {other:?}"),
        });
        assert_eq!(ask(&stage, &gate, &good).0, 200, "{fault:?}");
        let ready = gate.admin("/readyz").status;
        assert_eq!(ready, 200, "{fault:?}: a later loss is degraded only");
        stage.issuer.heal();
        stage.issuer.rotate();
        let new = stage.token();
        gate.until("recovery", || ask(&stage, &gate, &new).0 == 200);
    }
}

#[test]
fn without_keys_the_gate_is_not_ready_and_says_503_until_they_come() {
    // KEY-07, KEY-04, contract section 5
    for fault in [
        Fault::Status(500),
        Fault::Text("{\"keys\":[]}".to_owned()),
        Fault::Hang,
    ] {
        let (stage, config) = stage();
        stage.issuer.fail("jwks", fault.clone());
        let gate = Gate::start(&stage.write(&config));
        assert_eq!(ask(&stage, &gate, &stage.token()).0, 503, "{fault:?}");
        let ready = gate.admin("/readyz");
        assert_eq!(ready.status, 503);
        assert!(
            String::from_utf8_lossy(&ready.body).contains("main"),
            "{:?}",
            ready.json()
        );
        stage.issuer.heal();
        gate.until("readiness", || gate.admin("/readyz").status == 200);
        assert_eq!(ask(&stage, &gate, &stage.token()).0, 200);
    }
}

#[test]
fn past_the_hard_limit_the_old_keys_are_used_no_more() {
    // KEY-04
    let (stage, mut config) = stage();
    config.jwks = "timeout = \"500ms\"\nrefresh_cooldown = \"1s\"\nrefresh_every = \"10s\"\n\
                   keep_last_good_for = \"10s\"\n"
        .to_owned();
    let gate = stage.start(&config);
    let token = stage.token();
    assert_eq!(ask(&stage, &gate, &token).0, 200);
    stage.issuer.fail("connect", Fault::Drop);
    gate.until("the limit", || match ask(&stage, &gate, &token) {
        (200, _) => false,
        (503, _) => true,
        other => panic!("{other:?}"),
    });
    stage.issuer.heal();
    gate.until("recovery", || ask(&stage, &gate, &token).0 == 200);
}

#[test]
fn a_snapshot_carries_over_a_cold_start_without_the_server() {
    let (stage, mut config) = stage();
    config.jwks.push_str("snapshot = \"state/jwks.json\"\n");
    std::fs::create_dir_all(stage.path("state")).unwrap();
    let gate = stage.start(&config);
    let token = stage.token();
    assert_eq!(ask(&stage, &gate, &token).0, 200);
    gate.until("the snapshot", || stage.path("state/jwks.json").exists());
    drop(gate);
    stage.issuer.fail("connect", Fault::Drop);
    let gate = stage.start(&config);
    assert_eq!(ask(&stage, &gate, &token).0, 200);
}

#[test]
fn keys_can_be_a_file_and_are_read_again_at_a_reload() {
    // KEY-09
    let (stage, mut config) = stage();
    config.issuer.remove("discovery");
    config.issuer.remove("ca");
    config
        .issuer
        .insert("jwks_file", "\"jwks.json\"".to_owned());
    std::fs::write(stage.path("jwks.json"), stage.issuer.jwks().to_string()).unwrap();
    let gate = stage.start(&config);
    let old = stage.token();
    assert_eq!(ask(&stage, &gate, &old).0, 200);
    stage.issuer.rotate();
    std::fs::write(stage.path("jwks.json"), stage.issuer.jwks().to_string()).unwrap();
    gate.reload();
    assert_eq!(ask(&stage, &gate, &stage.token()).0, 200);
    assert_eq!(ask(&stage, &gate, &old), (401, "key_unknown".to_owned()));
    assert_eq!(stage.issuer.count("connect"), 0);
}

#[test]
fn one_bad_key_does_not_spoil_the_set_and_no_bad_key_is_used() {
    // TOK-05, TOK-18, KEY-08
    let (stage, config) = stage();
    let good = stage.issuer.key("ES256");
    let encryption = SigningKey::new("enc", "ES256");
    let private = SigningKey::new("private", "EdDSA");
    let other_kind = SigningKey::new(&good.kid, "PS256");
    let mut for_encryption = encryption.jwk();
    for_encryption["use"] = json!("enc");
    let mut with_private = private.jwk();
    with_private["d"] = json!("AAAA");
    let set = json!({"keys": [
        {"kid": 7, "kty": "EC"},
        "not an object",
        {"kty": "oct", "kid": "mac", "alg": "HS256", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "weak", "alg": "PS256", "use": "sig", "n": "w".repeat(171), "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "off", "alg": "ES256", "x": "A".repeat(43), "y": "A".repeat(43)},
        {"kty": "XYZ", "kid": "alien"},
        for_encryption,
        with_private,
        other_kind.jwk(),
        good.jwk(),
    ]});
    stage.issuer.publish(Some(set));
    let gate = stage.start(&config);
    assert_eq!(ask(&stage, &gate, &stage.token()).0, 200);
    // Two keys of one name, of different kinds: each is found by its kind.
    assert_eq!(ask(&stage, &gate, &stage.draft().sign(&other_kind)).0, 200);
    for key in [&encryption, &private] {
        let (status, reason) = ask(&stage, &gate, &stage.draft().sign(key));
        assert_eq!(status, 401, "{}: {reason}", key.kid);
        assert!(
            matches!(reason.as_str(), "key_unknown" | "key_mismatch"),
            "{}: {reason}",
            key.kid
        );
    }
    let mac = json!({"alg": "HS256", "typ": "at+jwt", "kid": "mac"}).to_string();
    let token = crate::lab::jose::sign_hs256(b"secret", &mac, &stage.draft().claims_text());
    assert_eq!(
        ask(&stage, &gate, &token),
        (401, "algorithm_forbidden".to_owned())
    );
}

#[test]
fn metadata_of_another_issuer_gives_no_keys() {
    // KEY-01
    let (stage, config) = stage();
    let metadata = json!({"issuer": "https://evil.example", "jwks_uri": stage.issuer.jwks_uri()});
    stage
        .issuer
        .fail("discovery", Fault::Text(metadata.to_string()));
    let gate = Gate::start(&stage.write(&config));
    assert_eq!(ask(&stage, &gate, &stage.token()).0, 503);
    assert_eq!(gate.admin("/readyz").status, 503);
    gate.says("evil.example");
    assert_eq!(stage.issuer.count("jwks"), 0);
}

#[test]
fn addresses_learned_from_metadata_stay_with_the_issuer() {
    // KEY-10
    let (stage, config) = stage();
    let other = AuthServer::start(&stage.pki, AUDIENCE);
    for address in [
        other.jwks_uri().replace("localhost", "127.0.0.1"),
        stage.issuer.jwks_uri().replace("https", "http"),
        "https://169.254.169.254/jwks".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let metadata = json!({"issuer": stage.issuer.issuer, "jwks_uri": address});
        stage
            .issuer
            .fail("discovery", Fault::Text(metadata.to_string()));
        let gate = Gate::start(&stage.write(&config));
        assert_eq!(ask(&stage, &gate, &stage.token()).0, 503, "{address}");
    }
    assert_eq!(other.count("jwks"), 0);
}

#[test]
fn a_server_that_cannot_prove_its_name_gives_no_keys() {
    // TLS-14
    let (stage, mut config) = stage();
    let wrong = stage.pki.server("wrong", &["elsewhere.test"], KeyKind::Ec);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = AuthServer::start_as(&stage.pki, AUDIENCE, socket, &wrong);
    config
        .issuer
        .insert("issuer", format!("{:?}", server.issuer));
    config
        .issuer
        .insert("discovery", format!("{:?}", server.discovery()));
    let gate = Gate::start(&stage.write(&config));
    assert_eq!(ask(&stage, &gate, &server.token(&stage.a)).0, 503);
    assert_eq!(server.count("jwks") + server.count("discovery"), 0);
}

#[test]
fn the_keys_of_one_issuer_sign_nothing_for_another() {
    // TOK-23, CVE-2025-46647
    let (stage, mut config) = stage();
    let other = AuthServer::start(&stage.pki, AUDIENCE);
    config
        .top
        .push_str("default_issuers = [\"main\", \"second\"]\n");
    config.more.push_str(&format!(
        "[issuer.second]\nissuer = {:?}\njwks_uri = {:?}\naudience = [\"{AUDIENCE}\"]\nca = [\"pki/server-ca.pem\"]\nalgorithms = [\"PS256\"]\n",
        other.issuer,
        other.jwks_uri()
    ));
    let config = config.route("main-only", "/main/**", "policy = { issuer = [\"main\"] }");
    let gate = stage.start(&config);
    assert_eq!(ask(&stage, &gate, &stage.token()).0, 200);
    let of_other = other.draft(&stage.a);
    assert_eq!(
        ask(&stage, &gate, &of_other.sign(&other.key("PS256"))).0,
        200
    );
    // Each has its own algorithms,
    assert_eq!(
        ask(&stage, &gate, &of_other.sign(&other.key("ES256"))),
        (401, "algorithm_forbidden".to_owned())
    );
    // and its own keys,
    let crossed = of_other
        .header("kid", stage.issuer.key("PS256").kid.as_str())
        .sign(&stage.issuer.key("PS256"));
    // even where two of them have one name,
    assert_eq!(
        ask(&stage, &gate, &crossed),
        (401, "signature_invalid".to_owned())
    );
    let alien = stage.issuer.add_key(SigningKey::new("main-only", "PS256"));
    assert_eq!(
        ask(&stage, &gate, &other.draft(&stage.a).sign(&alien)),
        (401, "key_unknown".to_owned())
    );
    // and a route may take one and not the other, whatever was remembered before.
    let token = other.draft(&stage.a).sign(&other.key("PS256"));
    for _ in 0..2 {
        assert_eq!(ask(&stage, &gate, &token).0, 200);
        let request = Request::get("/main/1").token(&token);
        let answer = stage.client(&gate).call(&request).unwrap();
        assert_refused(&answer, 401, "issuer_unknown");
    }
}
