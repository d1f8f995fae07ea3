//! Several servers of one upstream: which of them get requests, and when one is left out.

use crate::lab::client::Request;
use crate::lab::legacy::Legacy;
use crate::support::{Gate, Stage};

/// A stage whose upstream has a second server.
fn two(lines: &[(&'static str, &str)]) -> (Stage, Legacy, Gate) {
    let (stage, second) = (Stage::new(), Legacy::start());
    let mut config = stage.config();
    let servers = format!("[{:?}, {:?}]", stage.legacy.url("http"), second.url("http"));
    config.upstream.insert("servers", servers);
    for (key, value) in lines {
        config.upstream.insert(key, (*value).to_owned());
    }
    let gate = stage.start(&config);
    (stage, second, gate)
}

fn call(stage: &Stage, gate: &Gate, case: &str) -> u16 {
    let request = Request::get("/public/x").case(case);
    stage.anonymous(gate).call(&request).unwrap().status
}

fn server(gate: &Gate, legacy: &Legacy) -> serde_json::Value {
    let status = gate.status();
    let servers = status["upstreams"][0]["servers"].as_array().unwrap();
    let wanted = legacy.address.to_string();
    let found = servers.iter().find(|one| one["server"] == wanted.as_str());
    found.expect("the server").clone()
}

#[test]
fn requests_go_to_all_servers() {
    let (stage, second, gate) = two(&[]);
    for _ in 0..20 {
        assert_eq!(call(&stage, &gate, "all"), 200);
    }
    let (first, second) = (stage.legacy.seen("all").len(), second.seen("all").len());
    assert_eq!(first + second, 20);
    assert!(first >= 5 && second >= 5, "{first} and {second}");
}

#[test]
fn a_server_whose_health_fails_gets_nothing_until_it_is_well() {
    let (stage, second, gate) = two(&[("health", "{ path = \"/health\", every = \"1s\" }")]);
    gate.until("a first check", || second.count() > 0);
    second.reachable(false);
    gate.until("the check that fails", || {
        server(&gate, &second)["healthy"] == false
    });
    let at = second.address.to_string();
    let up = || gate.metric("portcullis_upstream_up", &[&at]);
    assert!(up() < 0.5);
    assert!(gate.status()["degraded"] == true);
    assert_eq!(
        gate.admin("/readyz").status,
        200,
        "a later loss is no reason to take all away"
    );
    for _ in 0..10 {
        assert_eq!(call(&stage, &gate, "one is ill"), 200);
    }
    assert_eq!(stage.legacy.seen("one is ill").len(), 10);
    second.reachable(true);
    gate.until("the check that succeeds", || {
        server(&gate, &second)["healthy"] == true
    });
    assert!(up() > 0.5);
    gate.until("requests to both", || {
        call(&stage, &gate, "both are well") == 200 && !second.seen("both are well").is_empty()
    });
}

#[test]
fn where_all_are_ill_requests_are_tried_all_the_same() {
    // A health check that is wrong about everything must not be an outage of its own.
    let (stage, second, gate) = two(&[("health", "{ path = \"/health\", every = \"1s\" }")]);
    stage.legacy.reachable(false);
    second.reachable(false);
    for legacy in [&stage.legacy, &second] {
        gate.until("a check that fails", || {
            server(&gate, legacy)["healthy"] == false
        });
    }
    stage.legacy.reachable(true);
    second.reachable(true);
    assert_eq!(call(&stage, &gate, "tried"), 200);
}

#[test]
fn a_server_that_keeps_failing_is_left_out_for_a_while() {
    let (stage, second, gate) = two(&[
        ("eject", "{ failures = 3, for = \"2s\" }"),
        ("idle_timeout", "\"1s\""),
    ]);
    second.reachable(false);
    gate.until("the ejection", || {
        // It takes connections and closes them: whoever meets it is told so.
        let status = call(&stage, &gate, "failing");
        assert!(matches!(status, 200 | 502), "{status}");
        server(&gate, &second)["ejected"] == true
    });
    let at = second.address.to_string();
    assert!(gate.metric("portcullis_upstream_ejections_total", &[&at]) >= 1.0);
    second.reachable(true);
    gate.until("its return", || server(&gate, &second)["ejected"] == false);
    gate.until("requests to it", || {
        call(&stage, &gate, "back") == 200 && !second.seen("back").is_empty()
    });
}
