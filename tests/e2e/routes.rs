//! Which route a request belongs to, and what its policy asks for.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::lab::client::Request;
use crate::lab::jose::Draft;
use crate::lab::now;
use crate::lab::pki::Shape;
use crate::support::stage::{Playing, assert_refused};

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|stage, config| {
            std::fs::create_dir_all(stage.path("policies")).unwrap();
            let policy = "summary = \"Payments\"\nscopes = [\"payments\"]\nacr = [\"urn:bank:acr:sca\", \"urn:bank:acr:loa3\"]\nmax_age = \"5m\"\n";
            std::fs::write(stage.path("policies/pay.toml"), policy).unwrap();
            let mut config = config;
            config.top.push_str("policies = \"policies\"\n");
            config
                .route("vault", "/accounts/vault/**", "policy = { scopes = [\"admin\"] }")
                .route("one", "/one/{id}/detail", "methods = [\"GET\"]\npolicy = { scopes = [\"accounts\"] }")
                .route("literal", "/one/special/detail", "methods = [\"POST\"]\npolicy = { scopes = [\"accounts\"] }")
                .route("pay", "/payments/**", "policy = \"pay\"")
                .route("any", "/any-scope", "policy = { any_scope = [\"funds\", \"accounts\"] }")
                .route("both", "/both-scopes", "policy = { scopes = [\"accounts\", \"admin\"] }")
                .route("details", "/details", "policy = { authorization_details = { type = \"payment_initiation\", actions = [\"initiate\"] } }")
                .route("claims", "/claims", "policy = { claims = { consent_id = { present = true }, kind = { equals = \"business\" }, tier = { one_of = [\"gold\", \"silver\"] }, groups = { contains = \"tellers\" } } }")
                .route("clients", "/clients", "policy = { clients = [\"tpp-2\"] }")
                .route("psd2", "/psd2", "policy = { certificate = { psd2_role = \"PSP_PI\" } }")
                .route("headers", "/headers", "policy = { require_headers = [\"x-fapi-auth-date\"] }")
                .route("short", "/short", "policy = { max_lifetime = \"1m\" }")
                .route("audience", "/audience", "policy = { audience = [\"https://api.bank.test/payments\"] }")
                .route("unbound", "/unbound", "policy = { binding = [\"mtls\", \"none\"] }")
                .route("slashes", "/files/**", "policy = { scopes = [\"accounts\"] }\npath_allow = [\"encoded-slash\", \"encoded-percent\", \"semicolon\", \"double-slash\"]")
        })
    })
}

fn draft() -> Draft {
    playing().stage.draft()
}

fn judge(target: &str, draft: &Draft) -> (u16, String) {
    playing().judge(target, draft)
}

#[track_caller]
fn assert_judged(target: &str, draft: &Draft, status: u16, reason: &str) {
    assert_eq!(
        judge(target, draft),
        (status, reason.to_owned()),
        "{target}"
    );
}

#[test]
fn what_no_route_names_is_not_found_with_or_without_a_token() {
    // AUTHZ-01, ERR-08
    for target in [
        "/",
        "/nowhere",
        "/accountsx",
        "/Accounts/1",
        "/one/a",
        "/one/a/detail/b",
    ] {
        let answer = playing().call(Request::get(target));
        assert_refused(&answer, 404, "route_not_found");
        let answer = playing().anonymous().call(&Request::get(target)).unwrap();
        assert_refused(&answer, 404, "route_not_found");
        assert!(answer.all("www-authenticate").is_empty());
    }
}

#[test]
fn a_method_that_the_best_pattern_lacks_is_405_and_never_a_wider_pattern_s() {
    // ERR-08, contract "Which route"
    let answer = playing().call(Request::post("/one/a/detail", ""));
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.field("allow"), Some("GET"));
    let answer = playing().call(Request::get("/one/special/detail"));
    assert_refused(&answer, 405, "method_not_allowed");
    assert_eq!(answer.field("allow"), Some("POST"));
    let answer = playing().call(Request::new("PURGE", "/accounts/1"));
    assert_refused(&answer, 405, "method_not_allowed");
    let allow = answer.field("allow").unwrap();
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(allow.split(", ").any(|m| m == method), "{allow}");
    }
    // HTTP-16: also where a route takes any method.
    let answer = playing().call(Request::new("TRACE", "/public/x"));
    assert_refused(&answer, 405, "method_not_allowed");
}

#[test]
fn the_most_specific_pattern_wins() {
    assert_judged("/accounts/1", &draft(), 200, "");
    assert_judged("/accounts", &draft(), 200, "");
    assert_judged("/accounts/vault/1", &draft(), 403, "scope_insufficient");
    assert_judged("/accounts/vault", &draft(), 403, "scope_insufficient");
    assert_judged("/accounts/vaults", &draft(), 200, "");
    assert_judged("/one/x/detail", &draft(), 200, "");
}

#[test]
fn an_open_route_asks_for_nothing_and_passes_on_no_identity() {
    let request = Request::get("/public/x")
        .case("open")
        .field("X-Auth-Subject", "me");
    assert_eq!(playing().anonymous().call(&request).unwrap().status, 200);
    let seen = playing().stage.legacy.only("open");
    assert_eq!(seen.field("x-auth-subject"), None);
}

#[test]
fn every_method_obeys_the_policy() {
    // AUTHZ-04, PRES-12
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        let request = Request::new(method, "/accounts/1");
        let answer = playing().client().call(&request).unwrap();
        assert_eq!(answer.status, 401, "{method}");
        assert_eq!(playing().call(request).status, 200, "{method}");
    }
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    // AUTHZ-05
    let tricks = [
        "/public/../accounts/1",
        "/public/./x",
        "/accounts/1/..",
        "/accounts/1/.",
        "/public/%2e%2e/accounts/1",
        "/public/%2E%2E/accounts/1",
        "/public/.%2e/x",
        "/public/..%2faccounts",
        "/public/a%2Fb",
        "/public/a%5Cb",
        "/public/a%5cb",
        "/public/a%00b",
        "/public/a%0ab",
        "/public/a%0d%0ab",
        "/public/a%7fb",
        "/public/%61bc",
        "/public/a%2db",
        "/public/%252e%252e/x",
        "/public/%25",
        "/public//x",
        "//public/x",
        "/public/x//",
        "/public/;a=b/x",
        "/public/..;/accounts/1",
        "/public/x%3bb",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "/public/%c0%ae%c0%ae/x",
        "/public/%u002e",
    ];
    for target in tricks {
        let request = Request::get(target).token(&playing().token()).case("trick");
        let answer = playing().client().call(&request).unwrap();
        if target == "/public/%c0%ae%c0%ae/x" {
            // Escapes that are no UTF-8 may pass, as they are, or not at all.
            assert!(matches!(answer.status, 200 | 400));
            continue;
        }
        assert_eq!(answer.status, 400, "{target}");
        let reason = answer.reason();
        assert!(
            matches!(reason.as_str(), "target_ambiguous" | "request_malformed"),
            "{target}: {reason}"
        );
    }
    for target in [
        "/public/a%20b?x=%2F..%2f;//",
        "/public/~user/%E4%BD%A0",
        "/public/a.b/...",
        "/public/",
    ] {
        let request = Request::get(target).case("same");
        assert_eq!(
            playing().anonymous().call(&request).unwrap().status,
            200,
            "{target}"
        );
        let seen = playing()
            .stage
            .legacy
            .await_seen("same", |seen| seen.target == target);
        assert_eq!(seen.target, target, "HTTP-09");
    }
}

#[test]
fn a_route_opens_what_it_names_and_never_dot_segments() {
    for target in ["/files/a%2Fb", "/files/a%25b", "/files/a;v=1", "/files//a"] {
        let answer = playing().call(Request::get(target).case("allowed"));
        assert_eq!(answer.status, 200, "{target}");
        playing()
            .stage
            .legacy
            .await_seen("allowed", |seen| seen.target == target);
    }
    for target in [
        "/files/../x",
        "/files/..%2Fx",
        "/files/%2e%2e/x",
        "/files/..;/x",
        "/files/a%5Cb",
        "/files/%252e%252e/x",
    ] {
        let answer = playing().call(Request::get(target));
        assert_eq!(answer.status, 400, "{target}: {}", answer.reason());
    }
}

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
    let challenge = answer.field("www-authenticate").unwrap();
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
        let challenge = answer.field("www-authenticate").unwrap().to_owned();
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
    assert!(
        !answer
            .field("www-authenticate")
            .unwrap()
            .contains("acr_values")
    );
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
