//! Protected resource metadata (RFC 9728): what a client learns before it has a token.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::lab::client::{Answer, Request};
use crate::support::Stage;
use crate::support::stage::{Playing, assert_refused};

const URL: &str = "https://api.bank.test";
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|_, config| {
            config
                .route(
                    "payments",
                    "/payments/{id}",
                    "policy = { binding = [\"dpop\"], scopes = [\"payments\"], authorization_details = { type = \"payment_initiation\" } }",
                )
                .route("mtls", "/mtls/**", "policy = { binding = [\"mtls\"], any_scope = [\"a\", \"b\"] }")
        })
    })
}

fn get(path: &str) -> Answer {
    playing().anonymous().call(&Request::get(path)).unwrap()
}

#[test]
fn the_documents_follow_from_the_routes() {
    // KEY-11, KEY-12
    let issuer = &playing().stage.issuer.issuer;
    let algorithms = json!(["ES256", "Ed25519", "EdDSA", "PS256"]);
    let cases: [(&str, Value); 4] = [
        (
            "",
            json!({
                "resource": URL,
                "authorization_servers": [issuer],
                "scopes_supported": ["a", "accounts", "b", "payments"],
                "authorization_details_types_supported": ["payment_initiation"],
                "bearer_methods_supported": ["header"],
                "dpop_signing_alg_values_supported": algorithms,
                "tls_client_certificate_bound_access_tokens": true,
            }),
        ),
        (
            "/accounts/1",
            json!({
                "resource": format!("{URL}/accounts/1"),
                "authorization_servers": [issuer],
                "scopes_supported": ["accounts"],
                "bearer_methods_supported": ["header"],
                "dpop_signing_alg_values_supported": algorithms,
                "tls_client_certificate_bound_access_tokens": true,
            }),
        ),
        (
            "/payments/7",
            json!({
                "resource": format!("{URL}/payments/7"),
                "authorization_servers": [issuer],
                "scopes_supported": ["payments"],
                "authorization_details_types_supported": ["payment_initiation"],
                "bearer_methods_supported": ["header"],
                "dpop_signing_alg_values_supported": algorithms,
                "dpop_bound_access_tokens_required": true,
            }),
        ),
        (
            "/mtls/x/y",
            json!({
                "resource": format!("{URL}/mtls/x/y"),
                "authorization_servers": [issuer],
                "scopes_supported": ["a", "b"],
                "bearer_methods_supported": ["header"],
                "tls_client_certificate_bound_access_tokens": true,
            }),
        ),
    ];
    for (resource, expected) in cases {
        let answer = get(&format!("{WELL_KNOWN}{resource}"));
        assert_eq!(answer.status, 200, "{resource}");
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert!(answer.field("x-fapi-interaction-id").is_some() && answer.field("date").is_some());
        assert_eq!(answer.json(), expected, "{resource}");
        let head = Request::new("HEAD", &format!("{WELL_KNOWN}{resource}"));
        let head = playing().anonymous().call(&head).unwrap();
        assert_eq!(head.field("content-length"), answer.field("content-length"));
        assert!(head.body.is_empty());
    }
}

#[test]
fn there_is_none_of_what_needs_no_token_or_is_not_there() {
    for path in ["/public/x", "/nowhere", "x", "/accounts/../public"] {
        let answer = get(&format!("{WELL_KNOWN}{path}"));
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.status
        );
    }
    let post = Request::post(WELL_KNOWN, "{}");
    let answer = playing().anonymous().call(&post).unwrap();
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.field("allow"), Some("GET, HEAD"));
    let other = Request::get(WELL_KNOWN).host("other.bank.test");
    let answer = playing().anonymous().call(&other).unwrap();
    assert_refused(&answer, 421, "authority_mismatch");
}

#[test]
fn challenges_say_where_it_is_and_it_is_about_the_very_request() {
    // KEY-13, RFC 9728 s3.3
    let answer = get("/accounts/1?x=y");
    let url = format!("{URL}{WELL_KNOWN}/accounts/1");
    let wanted = format!("resource_metadata=\"{url}\"");
    let lines = answer.all("www-authenticate");
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line.ends_with(&wanted)),
        "{lines:?}"
    );
    let document = get(url.strip_prefix(URL).unwrap()).json();
    assert_eq!(document["resource"], format!("{URL}/accounts/1"));
    let answer = get(&format!("/accounts/{}", "a".repeat(600)));
    assert!(
        !answer
            .all("www-authenticate")
            .join("")
            .contains("resource_metadata")
    );
}

#[test]
fn a_route_of_the_operator_goes_first_and_a_listener_may_publish_nothing() {
    let stage = Stage::new();
    let config = stage
        .config()
        .route("own", "/.well-known/**", "open = true");
    let gate = stage.start(&config);
    let request = Request::get(WELL_KNOWN).case("own metadata");
    let client = stage.anonymous(&gate);
    assert_eq!(client.call(&request).unwrap().status, 200);
    assert_eq!(stage.legacy.seen("own metadata").len(), 1);
    let mut config = stage.config();
    config.bank.push_str("metadata = false\n");
    stage.write(&config);
    gate.reload();
    assert_refused(&client.call(&request).unwrap(), 404, "route_not_found");
    let answer = client.call(&Request::get("/accounts/1")).unwrap();
    assert!(
        !answer
            .all("www-authenticate")
            .join("")
            .contains("resource_metadata")
    );
}
