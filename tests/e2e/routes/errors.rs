//! Refusals in the words of a market: `error_format` of a policy.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::lab::client::{Answer, Request};
use crate::support::stage::{Playing, assert_proper, is_uuid};

/// A gate of two threads with the example of the repository, copied as its first lines say.
fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, mut config| {
            let example = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/policies/examples/uk-open-banking-errors.toml"
            );
            std::fs::create_dir_all(stage.path("policies")).unwrap();
            std::fs::copy(example, stage.path("policies/uk-open-banking-errors.toml")).unwrap();
            config.top.push_str("policies = \"policies\"\n");
            config.bank.clear();
            config.limits.push_str("body_bytes = \"1KiB\"\n");
            config.more.push_str(
                "[upstream.gone]\nservers = [\"http://127.0.0.1:1\"]\nplaintext = true\n",
            );
            let uk = "extends = \"uk-open-banking-errors\"";
            config
                .route("uk", "/uk/**", &format!("policy = {{ {uk}, scopes = [\"accounts\"] }}\nmethods = [\"GET\", \"HEAD\", \"POST\"]"))
                .route("uk-admin", "/uk-admin", &format!("policy = {{ {uk}, scopes = [\"admin\"] }}"))
                .route("uk-header", "/uk-header", &format!("policy = {{ {uk}, require_headers = [\"x-fapi-auth-date\"] }}"))
                .route("uk-gone", "/uk-gone", &format!("policy = {{ {uk} }}\nupstream = \"gone\""))
                .route("br", "/br", "policy = { scopes = [\"admin\"], error_format = { content_type = \"application/problem+json\", body = '{\"errors\":[{\"code\":\"{error}\"}],\"meta\":{\"requestDateTime\":\"{time}\"}}' } }")
        })
    })
}

/// Asserts what every refusal has, whatever its body.
#[track_caller]
fn assert_headers(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert!(answer.field("date").is_some());
    let id = answer.field("x-fapi-interaction-id").unwrap_or_default();
    assert!(is_uuid(id), "{id:?}");
    id.to_owned()
}

// ERR-05, ERR-06
#[test]
fn a_refusal_is_written_as_the_market_of_the_route_writes_it() {
    let scope = playing().call(Request::get("/uk-admin"));
    let header = playing().call(Request::get("/uk-header"));
    let large = playing().call(Request::new("POST", "/uk/1").body("x".repeat(2000).as_bytes()));
    let gone = playing().call(Request::get("/uk-gone"));
    for (answer, status, code, error, message) in [
        (
            scope,
            403,
            "403 Forbidden",
            "UK.OBIE.UnexpectedError",
            "The access token lacks a required scope.",
        ),
        (
            header,
            400,
            "400 Bad Request",
            "UK.OBIE.Header.Missing",
            "A required header field is missing.",
        ),
        (
            large,
            413,
            "413 Payload Too Large",
            "UK.OBIE.Header.Invalid",
            "The request body is too large.",
        ),
        (
            gone,
            502,
            "502 Bad Gateway",
            "UK.OBIE.UnexpectedError",
            "The service behind could not be reached.",
        ),
    ] {
        let id = assert_headers(&answer, status);
        assert_eq!(
            answer.field("content-type"),
            Some("application/json; charset=utf-8")
        );
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            body,
            json!({
                "Code": code, "Id": id, "Message": message,
                "Errors": [{"ErrorCode": error, "Message": message}],
            })
        );
    }
}

// ERR-02, ERR-04, OBUK-11
#[test]
fn a_market_may_want_no_body_and_still_has_the_challenge() {
    let stage = &playing().stage;
    let expired = stage.issuer.sign(&stage.draft().expired());
    for (request, challenge) in [
        (Request::get("/uk/1"), "Bearer"),
        (
            Request::get("/uk/1").token(&expired),
            "error=\"invalid_token\"",
        ),
        (
            Request::new("HEAD", "/uk/1").token(&expired),
            "error=\"invalid_token\"",
        ),
    ] {
        let answer = playing().client().call(&request).unwrap();
        assert_headers(&answer, 401);
        assert!(answer.body.is_empty());
        assert_eq!(answer.field("content-length"), Some("0"));
        assert_eq!(answer.field("content-type"), None);
        let said = answer.challenges().join("\n");
        assert!(said.contains(challenge), "{said}");
    }
}

// FAPIH-01
#[test]
fn a_head_request_gets_the_headers_of_the_body_alone() {
    let get = playing().call(Request::get("/uk-admin"));
    let head = playing().call(Request::new("HEAD", "/uk-admin"));
    assert_headers(&head, 403);
    assert!(head.body.is_empty());
    for name in ["content-type", "content-length"] {
        assert_eq!(head.field(name), get.field(name), "{name}");
    }
}

// ERR-06
#[test]
fn each_policy_has_its_own_and_what_has_none_keeps_ours() {
    let brazil = playing().call(Request::get("/br"));
    assert_headers(&brazil, 403);
    assert_eq!(
        brazil.field("content-type"),
        Some("application/problem+json")
    );
    let body: Value = serde_json::from_slice(&brazil.body).unwrap();
    assert_eq!(body["errors"], json!([{"code": "insufficient_scope"}]));
    let time = body["meta"]["requestDateTime"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    // No route, no method of the route, and a policy that says nothing of it.
    for (request, status) in [
        (Request::get("/nowhere"), 404),
        (Request::new("DELETE", "/uk/1"), 405),
        (
            Request::get("/accounts/1").field("authorization", "Basic eA=="),
            401,
        ),
    ] {
        let answer = playing().client().call(&request).unwrap();
        assert_eq!(answer.status, status);
        assert_proper(&answer);
    }
    // What passes is the API's answer, untouched.
    assert_eq!(playing().call(Request::get("/uk/1")).status, 200);
}
