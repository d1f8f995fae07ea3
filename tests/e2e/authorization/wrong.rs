//! JAR-01 to JAR-15: each request wrong in one thing only, refused with its error, and not seen by
//! the server.

use serde_json::json;

use super::*;
use crate::support::stage::assert_refused;

/// Name, what is sent, status, `error`, reason.
type Case = (&'static str, Request, u16, &'static str, &'static str);

#[track_caller]
fn refused((name, request, status, error, reason): Case) {
    let answer = call(&request.case(name));
    assert_refused(&answer, status, reason);
    assert_eq!(answer.json()["error"], error, "{name}");
    assert!(answer.field("location").is_none(), "JAR-14: {name}");
    let seen = playing().stage.legacy.seen(name);
    assert!(seen.is_empty(), "{name} reached the server");
}

/// A push of a request object with this change.
fn changed(change: impl FnOnce(Draft) -> Draft) -> Request {
    push(&change(object()).sign(&keys().es), &[])
}

fn claim(name: &str, value: impl Into<Value>) -> Request {
    changed(|object| object.claim(name, value))
}

fn without(name: &str) -> Request {
    changed(|object| object.without(name))
}

#[test]
fn objects_that_are_not_good() {
    const BAD: &str = "invalid_request_object";
    let now = lab::now();
    let unsigned = {
        let assertion = assertion().sign(&keys().ps);
        let pairs = [
            ("client_id", "tpp"),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("client_assertion_type", KIND),
            ("client_assertion", &assertion),
        ];
        post("/main/par", &pairs)
    };
    let altered = {
        let good = object().sign(&keys().es);
        let (header, rest) = good.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let claims = object().claim("scope", "payments").claims_text();
        push(
            &format!("{header}.{}.{signature}", lab::base64url(claims.as_bytes())),
            &[],
        )
    };
    let none = changed(|object| object.header("alg", "ES256"));
    let none = Request {
        body: none.body.map(|_| {
            let draft = object();
            let header = json!({"alg": "none", "typ": "oauth-authz-req+jwt"}).to_string();
            let parts = [header, draft.claims_text()].map(|part| lab::base64url(part.as_bytes()));
            push(&format!("{}.{}.", parts[0], parts[1]), &[])
                .body
                .unwrap()
        }),
        ..none
    };
    let symmetric = {
        let header = json!({"alg": "HS256", "kid": "es"}).to_string();
        let secret = keys().es.public_bytes();
        push(
            &lab::jose::sign_hs256(&secret, &header, &object().claims_text()),
            &[],
        )
    };
    for case in [
        (
            "JAR-01 plain parameters",
            unsigned,
            400,
            BAD,
            "request_object_missing",
        ),
        (
            "JAR-02 altered",
            altered,
            400,
            BAD,
            "request_object_signature",
        ),
        (
            "JAR-02 wrong key",
            push(&object().sign(&keys().stranger), &[]),
            400,
            BAD,
            "request_object_signature",
        ),
        (
            "JAR-02 unknown kid",
            changed(|o| o.header("kid", "x")),
            400,
            BAD,
            "request_object_signature",
        ),
        (
            "JAR-02 no JWT",
            push("abc", &[]),
            400,
            BAD,
            "request_object_malformed",
        ),
        (
            "JAR-03 RS256",
            push(&object().sign(&keys().rs), &[]),
            400,
            BAD,
            "request_object_algorithm",
        ),
        ("JAR-03 none", none, 400, BAD, "request_object_algorithm"),
        (
            "JAR-03 HS256",
            symmetric,
            400,
            BAD,
            "request_object_algorithm",
        ),
        (
            "JAR-04 wrong aud",
            claim("aud", "https://other.test"),
            400,
            BAD,
            "request_object_mismatch",
        ),
        (
            "JAR-04 no aud",
            without("aud"),
            400,
            BAD,
            "request_object_mismatch",
        ),
        (
            "JAR-04 aud of another in a list",
            claim("aud", json!(["https://other.test"])),
            400,
            BAD,
            "request_object_mismatch",
        ),
        (
            "JAR-05 no nbf",
            without("nbf"),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-05 no exp",
            without("exp"),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-05 nbf over 60 minutes ago",
            changed(|o| o.claim("nbf", now - 3700).claim("exp", now + 10)),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-05 exp over 60 minutes after nbf",
            claim("exp", now + 3700),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-05 expired",
            changed(|o| o.claim("nbf", now - 100).claim("exp", now - 1)),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-06 nbf 61 s ahead",
            claim("nbf", now + 61),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-06 iat 61 s ahead",
            claim("iat", now + 61),
            400,
            BAD,
            "request_object_untimely",
        ),
        (
            "JAR-07 another client_id inside",
            claim("client_id", "other"),
            400,
            BAD,
            "request_object_mismatch",
        ),
        (
            "JAR-07 no client_id inside",
            without("client_id"),
            400,
            BAD,
            "request_object_mismatch",
        ),
        (
            "JAR-07 another iss",
            claim("iss", "other"),
            400,
            BAD,
            "request_object_mismatch",
        ),
        (
            "JAR-11 typ of an access token",
            changed(|o| o.header("typ", "at+jwt")),
            400,
            BAD,
            "request_object_malformed",
        ),
        (
            "JAR-11 crit",
            changed(|o| o.header("crit", json!(["exp"]))),
            400,
            BAD,
            "request_object_malformed",
        ),
        (
            "JAR-16 encrypted where it may not be",
            push("a.b.c.d.e", &[]),
            400,
            BAD,
            "request_object_malformed",
        ),
    ] {
        refused(case);
    }
}

#[test]
fn parameters_that_are_not_good() {
    const BAD: &str = "invalid_request";
    let good = object().sign(&keys().es);
    let twice = {
        let mut request = push(&good, &[]);
        request
            .body
            .as_mut()
            .unwrap()
            .extend_from_slice(b"&request=x");
        request
    };
    let mut queried = push(&good, &[]);
    queried.target.push_str("?client_id=tpp");
    let mut json = push(&good, &[]);
    json.fields = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    let outside = push(&good, &[("client_id", "nobody")]);
    for case in [
        (
            "JAR-07 another client_id outside",
            outside,
            401,
            "invalid_client",
            "client_unknown",
        ),
        (
            "JAR-08 request_uri beside",
            push(&good, &[("request_uri", "urn:x")]),
            400,
            BAD,
            "request_uri_forbidden",
        ),
        (
            "JAR-08 request_uri inside",
            claim("request_uri", "urn:x"),
            400,
            BAD,
            "request_uri_forbidden",
        ),
        (
            "JAR-08 request inside",
            claim("request", "a.b.c"),
            400,
            BAD,
            "request_uri_forbidden",
        ),
        (
            "JAR-09 GET",
            Request::get("/main/par"),
            405,
            "method_not_allowed",
            "method_not_allowed",
        ),
        (
            "JAR-09 PUT",
            Request {
                method: "PUT".to_owned(),
                ..push(&good, &[])
            },
            405,
            "method_not_allowed",
            "method_not_allowed",
        ),
        (
            "JAR-10 another state outside",
            push(&good, &[("state", "other")]),
            400,
            BAD,
            "parameter_conflict",
        ),
        (
            "JAR-10 a parameter outside alone",
            push(&good, &[("prompt", "none")]),
            400,
            BAD,
            "parameter_conflict",
        ),
        (
            "JAR-13 response_type token",
            claim("response_type", "token"),
            400,
            BAD,
            "parameter_invalid",
        ),
        (
            "JAR-13 response_type code id_token",
            claim("response_type", "code id_token"),
            400,
            BAD,
            "parameter_invalid",
        ),
        (
            "JAR-13 no redirect_uri",
            without("redirect_uri"),
            400,
            BAD,
            "parameter_invalid",
        ),
        (
            "JAR-13 redirect_uri below the registered",
            claim("redirect_uri", "https://tpp.test/cb/x"),
            400,
            BAD,
            "parameter_invalid",
        ),
        (
            "JAR-13 no PKCE",
            changed(|o| o.without("code_challenge").without("code_challenge_method")),
            400,
            BAD,
            "parameter_invalid",
        ),
        (
            "JAR-13 plain PKCE",
            claim("code_challenge_method", "plain"),
            400,
            BAD,
            "parameter_invalid",
        ),
        ("a parameter twice", twice, 400, BAD, "form_malformed"),
        (
            "parameters in the query",
            queried,
            400,
            BAD,
            "form_malformed",
        ),
        ("not a form", json, 400, BAD, "form_malformed"),
        (
            "a body over the limit",
            push(&good, &[("x", &"x".repeat(17 << 10))]),
            413,
            BAD,
            "body_too_large",
        ),
    ] {
        refused(case);
    }
}

#[test]
fn requests_at_the_front_that_are_not_good() {
    // JAR-12, JAR-14: shown, and never redirected.
    let uri = format!("{URN}abc");
    let (client, pushed) = (("client_id", "tpp"), ("request_uri", uri.as_str()));
    let good = object().claim("response_mode", "jwt").sign(&keys().es);
    let forged = object()
        .claim("response_mode", "jwt")
        .sign(&keys().stranger);
    let front = "/main/authorize";
    let plain = [
        client,
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "accounts"),
    ];
    for case in [
        (
            "JAR-12 parameters at the front",
            get(front, &plain),
            400,
            "invalid_request",
            "request_uri_missing",
        ),
        (
            "JAR-12 an object at the front",
            get(front, &[client, ("request", &good)]),
            400,
            "invalid_request",
            "request_uri_missing",
        ),
        (
            "JAR-12 a foreign request_uri",
            get(front, &[client, ("request_uri", "https://tpp.test/r.jwt")]),
            400,
            "invalid_request_uri",
            "request_uri_foreign",
        ),
        (
            "JAR-08 both",
            get(front, &[client, pushed, ("request", &good)]),
            400,
            "invalid_request",
            "request_uri_forbidden",
        ),
        (
            "JAR-10 more than what was pushed",
            get(front, &[client, pushed, ("redirect_uri", CALLBACK)]),
            400,
            "invalid_request",
            "parameter_conflict",
        ),
        (
            "JAR-12 no client_id",
            get(front, &[pushed]),
            400,
            "invalid_request",
            "parameter_invalid",
        ),
        (
            "JAR-12 an unknown client",
            get(front, &[("client_id", "x"), pushed]),
            400,
            "unauthorized_client",
            "authorize_client_unknown",
        ),
        (
            "JAR-12 a client of another server",
            get(front, &[("client_id", "elsewhere"), pushed]),
            400,
            "unauthorized_client",
            "authorize_client_unknown",
        ),
        (
            "a client that is not active",
            get(front, &[("client_id", "gone"), pushed]),
            403,
            "unauthorized_client",
            "client_inactive",
        ),
        (
            "JAR-14 a forged object",
            get("/old/authorize", &[client, ("request", &forged)]),
            400,
            "invalid_request_object",
            "request_object_signature",
        ),
        (
            "JAR-01 plain parameters of FAPI 1.0",
            get("/old/authorize", &plain),
            400,
            "invalid_request_object",
            "request_object_missing",
        ),
        (
            "JAR-10 another scope of FAPI 1.0",
            get(
                "/old/authorize",
                &[client, ("request", &good), ("scope", "payments")],
            ),
            400,
            "invalid_request",
            "parameter_conflict",
        ),
        (
            "a body at GET",
            get(front, &[client, pushed]).body("client_id=x"),
            413,
            "invalid_request",
            "body_too_large",
        ),
    ] {
        refused(case);
    }
}

#[test]
fn clients_that_do_not_authenticate() {
    // JAR-15
    const BAD: &str = "invalid_client";
    let now = lab::now();
    let changed = |change: fn(Draft) -> Draft| redeem(&change(assertion()).sign(&keys().ps));
    let late = redeem(&assertion().claim("exp", now - 1).sign(&keys().ps));
    let far = redeem(&assertion().claim("exp", now + 4000).sign(&keys().ps));
    let nobody = post(
        "/main/token",
        &[("grant_type", "authorization_code"), ("client_id", "tpp")],
    );
    let secret = post(
        "/main/token",
        &[("client_id", "tpp"), ("client_secret", "s")],
    );
    let basic = redeem(&assertion().sign(&keys().ps)).field("Authorization", "Basic dHBwOnM=");
    let pushed = {
        let assertion = assertion()
            .claim("aud", "https://other.test")
            .sign(&keys().ps);
        let object = object().sign(&keys().es);
        let pairs = [
            ("request", object.as_str()),
            ("client_assertion_type", KIND),
            ("client_assertion", &assertion),
        ];
        post("/main/par", &pairs)
    };
    let tls = post(
        "/main/token",
        &[("grant_type", "client_credentials"), ("client_id", "tls")],
    );
    for case in [
        (
            "JAR-15 another iss",
            changed(|a| a.claim("iss", "other")),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 an unknown sub",
            changed(|a| a.claim("sub", "other")),
            401,
            BAD,
            "client_unknown",
        ),
        (
            "JAR-15 wrong aud",
            changed(|a| a.claim("aud", "https://as.bank.test/token")),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 aud as a list",
            changed(|a| a.claim("aud", json!([ISSUER]))),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 wrong aud at PAR",
            pushed,
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 no exp",
            changed(|a| a.without("exp")),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        ("JAR-15 expired", late, 401, BAD, "client_assertion_invalid"),
        (
            "JAR-15 for too long",
            far,
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 no jti",
            changed(|a| a.without("jti")),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 RS256",
            redeem(&assertion().sign(&keys().rs)),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 wrong key",
            redeem(&assertion().sign(&keys().stranger)),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 a request object",
            redeem(&object().claim("sub", "tpp").sign(&keys().es)),
            401,
            BAD,
            "client_assertion_invalid",
        ),
        (
            "JAR-15 nothing",
            nobody,
            401,
            BAD,
            "client_authentication_missing",
        ),
        (
            "JAR-15 a secret",
            secret,
            401,
            BAD,
            "client_authentication_missing",
        ),
        (
            "JAR-15 two ways",
            basic,
            401,
            BAD,
            "client_authentication_missing",
        ),
        (
            "JAR-15 no certificate",
            tls,
            401,
            BAD,
            "client_certificate_mismatch",
        ),
    ] {
        refused(case);
    }
    let gone = assertion().claim("iss", "gone").claim("sub", "gone");
    let gone = redeem(&gone.sign(&keys().ps));
    refused((
        "JAR-15 not active",
        gone,
        403,
        "unauthorized_client",
        "client_inactive",
    ));
    let again = redeem(&assertion().sign(&keys().ps));
    assert_eq!(call(&again.clone().case("JAR-15 first use")).status, 200);
    refused((
        "JAR-15 replayed jti",
        again,
        401,
        BAD,
        "client_assertion_replayed",
    ));
}

#[test]
fn a_redirect_that_would_take_the_password_along() {
    // JAR-14
    let uri = format!("{URN}abc");
    let pairs = [("client_id", "tpp"), ("request_uri", uri.as_str())];
    for (status, expected) in [("303", 303), ("302", 302), ("307", 502)] {
        let request = post("/main/authorize", &pairs).field("X-Lab", &format!("status:{status}"));
        let answer = call(&request.case(&format!("redirect {status}")));
        assert_eq!(answer.status, expected, "{status}");
    }
}

#[test]
fn a_certificate_of_somebody_else() {
    // RFC 8705 s2.1
    let tls = post(
        "/main/token",
        &[("grant_type", "client_credentials"), ("client_id", "tls")],
    );
    let stage = &playing().stage;
    let mine = playing()
        .client()
        .call(&tls.clone().case("tls mine"))
        .unwrap();
    assert_eq!(mine.status, 200);
    let other = playing().anonymous().with(&stage.b);
    let other = other.call(&tls.case("tls other")).unwrap();
    assert_refused(&other, 401, "client_certificate_mismatch");
    assert!(stage.legacy.seen("tls other").is_empty());
}
