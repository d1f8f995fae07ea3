//! The registry of clients: refreshed, kept for a while, and never a reason to let anybody pass.

use serde_json::json;

use super::*;
use crate::lab::authserver::{AuthServer, Fault};
use crate::support::stage::{AUDIENCE, assert_refused};
use crate::support::{Gate, Stage};

fn source(registry: &AuthServer) -> String {
    format!(
        "source = {{ url = {:?}, ca = [\"pki/server-ca.pem\"] }}\nrefresh_every = \"1s\"\nkeep_last_good_for = \"4s\"\ntimeout = \"1s\"\njwks_hosts = [\"localhost\"]",
        registry.jwks_uri()
    )
}

fn stage(clients: Value) -> (Stage, AuthServer, Config) {
    let stage = Stage::new();
    let registry = AuthServer::start(&stage.pki, AUDIENCE);
    registry.publish(Some(clients));
    let mut config = stage.config();
    servers(&mut config, &source(&registry));
    let config = routes(config, "main");
    (stage, registry, config)
}

fn ask(stage: &Stage, gate: &Gate) -> Answer {
    let request = redeem(&assertion().sign(&keys().ps));
    stage.anonymous(gate).call(&request).unwrap()
}

#[test]
fn a_client_that_is_no_longer_active_is_out_within_one_refresh() {
    let (stage, registry, config) = stage(json!({"clients": [entry(&json!({}))]}));
    let gate = stage.start(&config);
    assert_eq!(ask(&stage, &gate).status, 200);
    assert_eq!(gate.status()["registry"]["clients"], 1);
    assert_eq!(gate.metric("portcullis_registry_clients", &[]), 1.0);
    let suspended = entry(&json!({"status": "suspended"}));
    registry.publish(Some(json!({"clients": [suspended]})));
    let began = std::time::Instant::now();
    gate.until("the suspension", || ask(&stage, &gate).status == 403);
    let took = began.elapsed();
    assert!(took.as_secs() < 4, "one refresh of a second, not {took:?}");
    let through = stage.legacy.count();
    assert_refused(&ask(&stage, &gate), 403, "client_inactive");
    registry.publish(Some(json!({"clients": []})));
    gate.until("its end", || ask(&stage, &gate).status == 401);
    assert_refused(&ask(&stage, &gate), 401, "client_unknown");
    assert_eq!(stage.legacy.count(), through, "nothing reached the server");
}

#[test]
fn the_last_good_clients_are_used_for_a_while_and_then_nobody_knows() {
    let (stage, registry, config) = stage(json!({"clients": [entry(&json!({}))]}));
    let gate = stage.start(&config);
    assert_eq!(ask(&stage, &gate).status, 200);
    registry.fail("jwks", Fault::Status(500));
    gate.until("a failed fetch", || {
        gate.status()["registry"]["degraded"] == true
    });
    assert_eq!(ask(&stage, &gate).status, 200, "the last good clients");
    gate.until("the end of their time", || ask(&stage, &gate).status == 503);
    let through = stage.legacy.count();
    let answer = ask(&stage, &gate);
    assert_refused(&answer, 503, "registry_unavailable");
    assert!(answer.field("retry-after").is_some());
    assert_eq!(stage.legacy.count(), through);
    assert_eq!(
        gate.admin("/readyz").status,
        200,
        "a later loss is degraded only"
    );
    registry.heal();
    gate.until("recovery", || ask(&stage, &gate).status == 200);
}

#[test]
fn without_clients_the_gate_is_not_ready() {
    let (stage, registry, config) = stage(json!({"clients": [entry(&json!({}))]}));
    registry.fail("jwks", Fault::Garbage);
    let gate = Gate::start(&stage.write(&config));
    assert_refused(&ask(&stage, &gate), 503, "registry_unavailable");
    let ready = gate.admin("/readyz");
    assert_eq!(ready.status, 503);
    assert!(String::from_utf8_lossy(&ready.body).contains("registry"));
    registry.heal();
    gate.until("readiness", || gate.admin("/readyz").status == 200);
    assert_eq!(ask(&stage, &gate).status, 200);
}

#[test]
fn keys_that_a_client_publishes_itself() {
    let (stage, registry, config) = stage(json!({"clients": []}));
    let own = AuthServer::start(&stage.pki, AUDIENCE);
    own.publish(Some(json!({"keys": [keys().ps.jwk()]})));
    let uri = own.jwks_uri();
    let mut client = entry(&json!({"jwks_uri": uri}));
    client.as_object_mut().unwrap().remove("jwks");
    registry.publish(Some(json!({"clients": [client]})));
    let gate = stage.start(&config);
    gate.until("the client", || ask(&stage, &gate).status == 200);
    for _ in 0..5 {
        assert_eq!(ask(&stage, &gate).status, 200);
    }
    assert!(
        own.count("jwks") <= 2,
        "held, and not fetched at each request"
    );
    let stranger = redeem(&assertion().sign(&keys().stranger));
    let answer = stage.anonymous(&gate).call(&stranger).unwrap();
    assert_refused(&answer, 401, "client_assertion_invalid");
}

#[test]
fn a_reload_takes_the_file_as_it_is_then() {
    let stage = Stage::new();
    let write = |status: &str| {
        let clients = json!({"clients": [entry(&json!({"status": status}))]});
        std::fs::write(stage.path("clients.json"), clients.to_string()).unwrap();
    };
    write("active");
    let mut config = stage.config();
    servers(
        &mut config,
        "source = { file = \"clients.json\" }\nrefresh_every = \"1h\"\nkeep_last_good_for = \"2h\"",
    );
    let config = routes(config, "main");
    let gate = stage.start(&config);
    assert_eq!(ask(&stage, &gate).status, 200);
    write("suspended");
    gate.reload();
    assert_eq!(ask(&stage, &gate).status, 403);
}

#[test]
fn check_online_tries_the_registry() {
    let (stage, registry, config) = stage(json!({"clients": [entry(&json!({}))]}));
    let path = stage.write(&config);
    let check = || {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["check", "--online", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(text).unwrap())
    };
    let (good, said) = check();
    assert!(good && said.contains("1 clients"), "{said}");
    registry.fail("jwks", Fault::Status(500));
    let (good, said) = check();
    assert!(!good && said.contains("registry"), "{said}");
}
