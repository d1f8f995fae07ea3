//! What the gate itself says: every refusal whole, and nothing in it that helps a guesser.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use crate::lab::client::{Answer, Request};
use crate::lab::h2::Http2;
use crate::support::stage::{Playing, assert_proper, is_uuid};

/// A listener as banks run it: without `disclose_reasons`.
fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| {
        Playing::new(|_, mut config| {
            config.bank.clear();
            config.limits.push_str("body_bytes = \"1KiB\"\n");
            config
                .route("admin", "/admin/**", "policy = { scopes = [\"admin\"] }")
                .route("acr", "/acr/**", "policy = { acr = [\"x\"] }")
                .route(
                    "clients",
                    "/clients/**",
                    "policy = { clients = [\"nobody\"] }",
                )
        })
    })
}

/// Requests that are refused, each in another way: request, status, `error`, and `error` of the
/// challenge (`-` for a bare one, empty for none).
fn refusals() -> Vec<(&'static str, Request, u16, &'static str, &'static str)> {
    let stage = &playing().stage;
    let token = stage.token();
    let expired = stage.issuer.sign(&stage.draft().expired());
    let get = |target: &str| Request::get(target).token(&token);
    vec![
        (
            "no token",
            Request::get("/accounts/1"),
            401,
            "invalid_token",
            "-",
        ),
        (
            "Basic",
            Request::get("/accounts/1").field("authorization", "Basic eA=="),
            401,
            "invalid_token",
            "-",
        ),
        (
            "expired",
            Request::get("/accounts/1").token(&expired),
            401,
            "invalid_token",
            "invalid_token",
        ),
        (
            "in the query",
            get("/accounts/1?access_token=x"),
            400,
            "invalid_request",
            "invalid_request",
        ),
        (
            "two tokens",
            get("/accounts/1").token(&token),
            400,
            "invalid_request",
            "invalid_request",
        ),
        (
            "scope",
            get("/admin/1"),
            403,
            "insufficient_scope",
            "insufficient_scope",
        ),
        (
            "acr",
            get("/acr/1"),
            401,
            "insufficient_user_authentication",
            "insufficient_user_authentication",
        ),
        ("client", get("/clients/1"), 403, "access_denied", ""),
        ("no route", get("/nowhere"), 404, "not_found", ""),
        (
            "method",
            Request::new("PURGE", "/accounts/1").token(&token),
            405,
            "method_not_allowed",
            "",
        ),
        (
            "authority",
            get("/accounts/1").host("other.bank.test"),
            421,
            "misdirected_request",
            "",
        ),
        ("path", get("/accounts/../x"), 400, "invalid_request", ""),
        (
            "body",
            Request::post("/accounts/1", "x".repeat(2000)).token(&token),
            413,
            "invalid_request",
            "",
        ),
    ]
}

fn check(name: &str, answer: &Answer, status: u16, error: &str, challenge: &str) {
    assert_eq!(answer.status, status, "{name}");
    assert_proper(answer);
    let body = answer.json();
    assert_eq!(body["error"], error, "{name}");
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 3, "{name}: {keys:?}");
    let challenges = answer.challenges();
    match challenge {
        "" => assert!(challenges.is_empty(), "{name}: {challenges:?}"),
        "-" => {
            // PRES-06, DPOP-31, DPOP-32
            let offered = ["Bearer", "DPoP algs=\"PS256 ES256 EdDSA Ed25519\""];
            assert_eq!(challenges, offered, "{name}");
        }
        error => {
            let wanted = format!("error=\"{error}\"");
            assert!(challenges[0].contains(&wanted), "{name}: {challenges:?}");
            assert_eq!(challenges[0].matches("error=").count(), 1, "{name}");
        }
    }
}

#[test]
fn every_refusal_is_whole_over_http1() {
    // ERR-01, ERR-02, ERR-05, FAPIH-01, FAPIH-05
    for (name, request, status, error, challenge) in refusals() {
        let id = crate::lab::uuid();
        let request = request.field("x-fapi-interaction-id", &id);
        let answer = playing().client().call(&request).unwrap();
        check(name, &answer, status, error, challenge);
        assert_eq!(
            answer.field("x-fapi-interaction-id"),
            Some(id.as_str()),
            "{name}"
        );
    }
}

#[test]
fn every_refusal_is_whole_over_http2() {
    let mut connection = Http2::open(&playing().client()).unwrap();
    for (name, request, status, error, challenge) in refusals() {
        let answer = connection
            .call(&request)
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        check(name, &answer, status, error, challenge);
        assert_eq!(answer.field("connection"), None);
    }
}

#[test]
fn the_same_words_for_every_flaw_of_a_token() {
    // ERR-04
    let stage = &playing().stage;
    let drafts = [
        stage.draft().expired(),
        stage.draft().claim("aud", "x"),
        stage.draft().claim("iss", "x"),
        stage.draft().header("kid", "nobody"),
        stage.draft().without("cnf"),
        stage.draft().without("jti"),
    ];
    let words: BTreeSet<String> = drafts
        .iter()
        .map(|draft| {
            let request = Request::get("/accounts/1").token(&stage.issuer.sign(draft));
            let answer = playing().client().call(&request).unwrap();
            assert_eq!(answer.status, 401);
            let body = answer.json();
            format!(
                "{} {} {:?}",
                body["error"],
                body["error_description"],
                answer.all("www-authenticate")
            )
        })
        .collect();
    assert_eq!(words.len(), 1, "{words:?}");
}

#[test]
fn a_connection_that_closes_says_so() {
    // Contract section 3
    for bytes in [
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "BROKEN\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: api.bank.test\r\n\r\n",
    ] {
        let mut connection = playing().client().open().unwrap();
        connection.send(bytes.as_bytes()).unwrap();
        let answer = connection.answer("GET").unwrap();
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert_proper(&answer);
        assert_eq!(answer.field("connection"), Some("close"), "{bytes:?}");
        assert_eq!(answer.json()["error"], "invalid_request");
        assert!(connection.closes(std::time::Duration::from_secs(5)));
    }
}

#[test]
fn head_is_refused_like_get_but_without_a_body() {
    let mut connection = playing().client().open().unwrap();
    for _ in 0..2 {
        let answer = connection
            .call(&Request::new("HEAD", "/accounts/1"))
            .unwrap();
        assert_eq!(answer.status, 401);
        assert!(is_uuid(answer.field("x-fapi-interaction-id").unwrap()));
        assert!(!answer.all("www-authenticate").is_empty());
        assert!(answer.body.is_empty());
    }
}

#[test]
fn the_challenge_of_the_api_is_its_own() {
    // ERR-10
    let raw =
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"legacy\"\r\nContent-Length: 0\r\n\r\n";
    let lab = format!("raw:{}", crate::lab::base64url(raw.as_bytes()));
    let answer = playing().call(Request::get("/accounts/1").field("x-lab", &lab));
    assert_eq!(answer.status, 401);
    assert_eq!(answer.all("www-authenticate"), ["Basic realm=\"legacy\""]);
}
