//! New policies beside old traffic: `shadow_policy` is judged and logged, `observe` lets pass.

use std::sync::OnceLock;

use crate::lab::client::Request;
use crate::support::stage::{Playing, assert_refused};

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|_, config| {
            config
                .route(
                    "stricter",
                    "/stricter/**",
                    "policy = { scopes = [\"accounts\"] }\nshadow_policy = { scopes = [\"funds\"] }",
                )
                .route(
                    "wider",
                    "/wider/**",
                    "policy = { scopes = [\"funds\"] }\nshadow_policy = { scopes = [\"accounts\"] }",
                )
                .route(
                    "observed",
                    "/observed/**",
                    "policy = { scopes = [\"accounts\"] }\nobserve = { until = \"2999-12-31\" }",
                )
                .route(
                    "past",
                    "/past/**",
                    "policy = { scopes = [\"accounts\"] }\nobserve = { until = \"2020-01-31\" }",
                )
        })
    })
}

#[test]
fn a_shadow_policy_is_logged_and_changes_nothing() {
    // AUTHZ-01
    for (path, status, shadow) in [
        ("/stricter/1", 200, "scope_insufficient"),
        ("/wider/1", 403, "authorized"),
    ] {
        let answer = playing().call(Request::get(path));
        assert_eq!(answer.status, status, "{path}");
        let id = answer.field("x-fapi-interaction-id").unwrap();
        let line = playing().gate.log("interaction_id", id);
        assert_eq!(line["shadow"], shadow, "{path}");
    }
    // Without a token there is nothing to judge twice.
    let answer = playing()
        .client()
        .call(&Request::get("/stricter/1"))
        .unwrap();
    assert_refused(&answer, 401, "token_missing");
    let id = answer.field("x-fapi-interaction-id").unwrap();
    assert!(playing().gate.log("interaction_id", id)["shadow"].is_null());
}

#[test]
fn what_would_be_refused_passes_a_route_that_is_only_observed() {
    let gate = &playing().gate;
    let expired = playing()
        .stage
        .issuer
        .sign(&playing().stage.draft().expired());
    let bearer = |token: &str| Request::get("/observed/1").token(token);
    for (case, reason, request) in [
        (
            "observed none",
            "token_missing",
            Request::get("/observed/1"),
        ),
        ("observed expired", "token_expired", bearer(&expired)),
        ("observed garbage", "token_malformed", bearer("garbage")),
    ] {
        let request = request.field("X-Auth-Subject", "somebody").case(case);
        let answer = playing().client().call(&request).unwrap();
        assert_eq!(answer.status, 200, "{case}");
        let seen = playing().stage.legacy.only(case);
        assert!(
            seen.field("x-auth-subject").is_none(),
            "{case}: no identity, made up or not"
        );
        assert!(seen.field("x-auth-cert-thumbprint").is_none(), "{case}");
        assert!(seen.field("authorization").is_none(), "{case}");
        let id = answer.field("x-fapi-interaction-id").unwrap();
        let line = gate.log("interaction_id", id);
        assert_eq!(
            (&line["outcome"], &line["reason"]),
            (&"observed".into(), &reason.into())
        );
    }
    assert!(
        gate.metric(
            "portcullis_requests_total",
            &["\"observed\"", "outcome=\"observed\""]
        ) >= 3.0
    );
    // One that is authorized goes with its identity, and is no observation.
    let answer = playing().call(Request::get("/observed/1").case("observed good"));
    assert_eq!(answer.status, 200);
    let seen = playing().stage.legacy.only("observed good");
    assert_eq!(seen.field("x-auth-subject"), Some("customer-7"));
    let id = answer.field("x-fapi-interaction-id").unwrap();
    assert_eq!(gate.log("interaction_id", id)["outcome"], "authorized");
    // What is wrong with the request itself is refused here too.
    let request = Request::get("/observed/1?access_token=x");
    assert_refused(
        &playing().client().call(&request).unwrap(),
        400,
        "token_in_query",
    );
    assert!(gate.stderr().contains("observed"), "said at the start");
}

#[test]
fn after_its_date_a_route_is_enforced() {
    let answer = playing().client().call(&Request::get("/past/1")).unwrap();
    assert_refused(&answer, 401, "token_missing");
}
