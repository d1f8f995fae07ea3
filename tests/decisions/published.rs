//! What a listener publishes of its resources (RFC 9728), and where challenges point to it.

use std::sync::Arc;

use portcullis::pdp::{InteractionId, RequestHead, RouteTable, Snapshot, metadata, route};
use portcullis::refusal::challenges;
use serde_json::{Value, json};

use super::world::{Case, Outcome, PolicyChange, World};

/// The snapshot of a case, its metadata published.
fn published(world: &World, case: &Case) -> Arc<Snapshot> {
    let mut snapshot = Arc::into_inner(world.snapshot(case)).expect("nobody else has it");
    let tables = std::mem::take(&mut snapshot.tables).into_iter();
    let with = |table: RouteTable| table.with_metadata(&snapshot.issuers);
    snapshot.tables = tables.map(with).collect();
    Arc::new(snapshot)
}

/// The document at this place.
fn document(world: &World, case: &Case, host: &str, path: &str) -> Option<Value> {
    let request = http::Request::builder()
        .uri(format!("/.well-known/oauth-protected-resource{path}"))
        .header("host", host)
        .body(())
        .expect("a request");
    let id = InteractionId::from_random([7; 16]);
    let head = RequestHead::new(request.into_parts().0, id).expect("a head");
    let peer = world.inbound(&Case::default()).expect("a request").peer;
    let text = metadata(&published(world, case), &head, &peer)?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn the_document_follows_from_the_routes() {
    let world = World::new();
    let case = Case {
        policy: PolicyChange {
            issuers: Some(vec![0, 1]),
            scopes: Some(vec!["payments".into(), "accounts".into()]),
            any_scope: vec!["funds".into()],
            binding: Some(vec!["mtls".to_owned()]),
            ..PolicyChange::default()
        },
        ..Case::default()
    };
    let of = |resource: &str| {
        json!({
            "resource": format!("https://api.bank.example{resource}"),
            "authorization_servers": [
                "https://legacy.as.bank.example", "https://main.as.bank.example"
            ],
            "scopes_supported": ["accounts", "funds", "payments"],
            "bearer_methods_supported": ["header"],
            "tls_client_certificate_bound_access_tokens": true,
        })
    };
    let found = |host: &str, path: &str| document(&world, &case, host, path);
    assert_eq!(found("api.bank.example", ""), Some(of("")));
    let one = found("api.bank.example", "/accounts/1");
    assert_eq!(one, Some(of("/accounts/1")));
    // As the client calls us: another port is another resource, the usual one goes unsaid.
    let usual = found("api.bank.example:443", "");
    assert_eq!(usual, Some(of("")));
    let ported = found("api.bank.example:8443", "").expect("a document");
    assert_eq!(ported["resource"], "https://api.bank.example:8443");
    for none in ["/elsewhere", "x"] {
        assert_eq!(found("api.bank.example", none), None, "{none}");
    }
    let open = Case {
        open: true,
        ..Case::default()
    };
    assert_eq!(document(&world, &open, "api.bank.example", ""), None);
}

#[test]
fn the_issuers_of_its_own_routes_alone() {
    let world = World::new();
    for (id, name) in [(0, "main"), (1, "legacy")] {
        let case = Case {
            policy: PolicyChange {
                issuers: Some(vec![id]),
                ..PolicyChange::default()
            },
            ..Case::default()
        };
        let found = document(&world, &case, "api.bank.example", "").expect("a document");
        let expected = json!([format!("https://{name}.as.bank.example")]);
        assert_eq!(found["authorization_servers"], expected);
    }
}

/// RFC 9728 s2: tokens must be bound by DPoP where nothing else will do.
#[test]
fn how_tokens_must_be_bound() {
    let world = World::new();
    for (binding, mtls, dpop, only_dpop) in [
        (vec!["mtls"], true, false, false),
        (vec!["dpop"], false, true, true),
        (vec!["mtls", "dpop"], true, true, false),
        (vec!["dpop", "none"], false, true, false),
        (vec!["none"], false, false, false),
    ] {
        let case = Case {
            policy: PolicyChange {
                binding: Some(binding.iter().map(|&word| word.to_owned()).collect()),
                ..PolicyChange::default()
            },
            ..Case::default()
        };
        let found = document(&world, &case, "api.bank.example", "").expect("a document");
        let flag = |name: &str| found.get(name) == Some(&Value::Bool(true));
        assert_eq!(
            flag("tls_client_certificate_bound_access_tokens"),
            mtls,
            "{binding:?}"
        );
        assert_eq!(
            found.get("dpop_signing_alg_values_supported").is_some(),
            dpop,
            "{binding:?}"
        );
        assert_eq!(
            flag("dpop_bound_access_tokens_required"),
            only_dpop,
            "{binding:?}"
        );
    }
}

/// RFC 9728 s5.1: a challenge says where the metadata are; not of a path that is longer or stranger
/// than a challenge should repeat.
#[test]
fn a_challenge_points_to_it() {
    let world = World::new();
    let long = |bytes: usize| format!("/accounts/{}", "a".repeat(bytes - "/accounts/".len()));
    for (target, named) in [
        ("/accounts/1".to_owned(), true),
        (long(512), true),
        (long(513), false),
    ] {
        let case = Case {
            target,
            authorization: String::new(),
            ..Case::default()
        };
        let outcome = |snapshot: &Arc<Snapshot>| {
            let mut trail = Default::default();
            let inbound = world.inbound(&case).expect("a request");
            let routed = route(inbound, snapshot, &mut trail).expect("a route");
            let mut traces = Default::default();
            match world.finish(&case, routed, None, &mut trail, &mut traces) {
                Ok(permit) => Outcome::Authorized(permit),
                Err(refusal) => Outcome::Refused(refusal),
            }
        };
        let Outcome::Refused(refusal) = outcome(&published(&world, &case)) else {
            panic!("no token");
        };
        let line = challenges(&refusal).next().expect("a challenge");
        let at = format!(
            "resource_metadata=\"https://api.bank.example/.well-known/oauth-protected-resource{}\"",
            case.target
        );
        assert_eq!(line.contains(&at), named, "{line}");
        let Outcome::Refused(refusal) = outcome(&world.snapshot(&case)) else {
            panic!("no token");
        };
        let line = challenges(&refusal).next().expect("a challenge");
        assert!(!line.contains("resource_metadata"), "{line}");
    }
}
