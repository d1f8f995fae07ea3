//! What a policy asks for.

use super::{assert_judged, draft, judge, playing};
use crate::lab::client::Request;
use crate::lab::jose::Draft;
use crate::lab::now;
use crate::lab::pki::Shape;
use crate::support::stage::assert_refused;
use serde_json::{Value, json};

#[test]
fn scopes_are_whole_words_and_compared_with_case() {
    // AUTHZ-02, ERR-03
    for scope in [
        "accounts_x",
        "Accounts",
        "xaccounts",
        "",
        "payments",
        "accounts\u{a0}x",
    ] {
        assert_judged(
            "/accounts/1",
            &draft().claim("scope", scope),
            403,
            "scope_insufficient",
        );
    }
    assert_judged(
        "/accounts/1",
        &draft().without("scope"),
        403,
        "scope_insufficient",
    );
    assert_judged(
        "/accounts/1",
        &draft().claim("scope", "openid accounts x"),
        200,
        "",
    );
    let request = Request::get("/both-scopes").token(&playing().token());
    let answer = playing().client().call(&request).unwrap();
    assert_refused(&answer, 403, "scope_insufficient");
    let challenge = answer.challenge().unwrap();
    assert!(challenge.starts_with("Bearer "), "{challenge}");
    assert!(
        challenge.contains("error=\"insufficient_scope\""),
        "{challenge}"
    );
    assert!(
        challenge.contains("scope=\"accounts admin\""),
        "{challenge}"
    );
    assert_judged("/any-scope", &draft().claim("scope", "funds"), 200, "");
    assert_judged(
        "/any-scope",
        &draft().claim("scope", "other"),
        403,
        "scope_insufficient",
    );
}

#[test]
fn weak_or_old_authentication_is_answered_with_a_step_up_challenge() {
    // STEP-01 to STEP-05
    let strong = draft()
        .claim("acr", "urn:bank:acr:sca")
        .claim("auth_time", now() - 10);
    assert_judged("/payments/1", &strong, 200, "");
    assert_judged(
        "/payments/1",
        &strong.clone().claim("acr", "urn:bank:acr:loa3"),
        200,
        "",
    );
    let weak = |draft: Draft| {
        let token = playing().stage.issuer.sign(&draft);
        let answer = playing()
            .client()
            .call(&Request::get("/payments/1").token(&token))
            .unwrap();
        assert_refused(&answer, 401, "authentication_too_weak");
        let challenge = answer.challenge().unwrap().to_owned();
        assert!(
            challenge.contains("error=\"insufficient_user_authentication\""),
            "{challenge}"
        );
        challenge
    };
    let challenge = weak(strong.clone().claim("acr", "urn:bank:acr:password"));
    assert!(
        challenge.contains("acr_values=\"urn:bank:acr:sca urn:bank:acr:loa3\""),
        "{challenge}"
    );
    weak(strong.clone().without("acr"));
    let challenge = weak(strong.clone().claim("auth_time", now() - 600));
    assert!(
        challenge.contains("max_age=\"300\"") || challenge.contains("max_age=300"),
        "{challenge}"
    );
    weak(strong.clone().without("auth_time"));
    // An invalid token learns nothing of it.
    let token = playing()
        .stage
        .issuer
        .sign(&strong.claim("acr", "x").expired());
    let answer = playing()
        .client()
        .call(&Request::get("/payments/1").token(&token))
        .unwrap();
    assert_refused(&answer, 401, "token_expired");
    assert!(!answer.challenge().unwrap().contains("acr_values"));
}

#[test]
fn authorization_details_must_cover_the_request() {
    // AUTHZ-08, AUTHZ-09
    let details = |value: Value| draft().claim("authorization_details", value);
    let good = json!([{"type": "account_information"}, {"type": "payment_initiation", "actions": ["initiate", "status"]}]);
    assert_judged("/details", &details(good), 200, "");
    for bad in [
        json!([]),
        json!([{"type": "payment_initiation"}]),
        json!([{"type": "payment_initiation", "actions": ["status"]}]),
        json!([{"type": "foo", "actions": ["initiate"]}]),
        json!([{"type": "payment_initiation"}, {"type": "foo", "actions": ["initiate"]}]),
        json!([{"type": "Payment_Initiation", "actions": ["initiate"]}]),
    ] {
        assert_judged("/details", &details(bad), 403, "details_insufficient");
    }
    assert_judged("/details", &draft(), 403, "details_insufficient");
}

#[test]
fn claims_must_be_what_the_policy_says() {
    let good = draft()
        .claim("consent_id", "c-1")
        .claim("kind", "business")
        .claim("tier", "gold")
        .claim("groups", json!(["x", "tellers"]));
    assert_judged("/claims", &good, 200, "");
    assert_judged(
        "/claims",
        &good.clone().claim("groups", "a tellers b"),
        200,
        "",
    );
    for bad in [
        good.clone().without("consent_id"),
        good.clone().claim("kind", "private"),
        good.clone().claim("kind", json!(["business"])),
        good.clone().claim("tier", "bronze"),
        good.clone().claim("groups", json!(["tellersx"])),
        good.clone().claim("groups", "tellersx"),
        good.without("groups"),
    ] {
        assert_judged("/claims", &bad, 403, "claim_denied");
    }
}

#[test]
fn clients_certificates_and_headers_can_be_asked_for() {
    // AUTHZ-07, ERR-11, BG-01
    assert_judged("/clients", &draft(), 403, "client_not_allowed");
    assert_judged("/clients", &draft().claim("client_id", "tpp-2"), 200, "");
    assert_judged("/psd2", &draft(), 403, "certificate_denied");
    let stage = &playing().stage;
    for (shape, status) in [
        (Shape::Psd2PaymentInitiation, 200),
        (Shape::Psd2AccountInformation, 403),
    ] {
        let identity = stage.pki.client(&format!("routes-{shape:?}"), shape);
        let request = Request::get("/psd2").token(&stage.issuer.token(&identity));
        let answer = playing()
            .anonymous()
            .with(&identity)
            .call(&request)
            .unwrap();
        assert_eq!(answer.status, status, "{shape:?}");
    }
    let (status, reason) = judge("/headers", &draft());
    assert_eq!(status, 400, "{reason}");
    let request =
        Request::get("/headers").field("x-fapi-auth-date", "Sun, 22 Nov 2026 10:00:00 GMT");
    assert_eq!(playing().call(request).status, 200);
}

#[test]
fn a_policy_narrows_lifetime_audience_and_binding() {
    assert_judged("/short", &draft(), 401, "lifetime_excessive");
    assert_judged("/short", &draft().claim("exp", now() + 50), 200, "");
    assert_judged("/audience", &draft(), 401, "audience_mismatch");
    assert_judged(
        "/audience",
        &draft().claim(
            "aud",
            json!(["https://api.bank.test", "https://api.bank.test/payments"]),
        ),
        200,
        "",
    );
    // With "none" an unbound token passes, but a bound one still proves its binding.
    assert_judged("/unbound", &draft().without("cnf"), 200, "");
    let unbound = playing().stage.issuer.sign(&draft().without("cnf"));
    let answer = playing()
        .anonymous()
        .call(&Request::get("/unbound").token(&unbound))
        .unwrap();
    assert_eq!(answer.status, 200);
    let other = playing().stage.b.thumbprint.clone();
    assert_judged(
        "/unbound",
        &draft().bound_to(&other),
        401,
        "binding_mismatch",
    );
    let answer = playing()
        .anonymous()
        .call(&Request::get("/unbound").token(&playing().token()))
        .unwrap();
    assert_refused(&answer, 401, "certificate_required");
}
