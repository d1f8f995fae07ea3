//! Access tokens: how they may be presented, and which of them pass.

use std::sync::OnceLock;

use serde_json::json;

use crate::lab::client::Request;
use crate::lab::jose::{self, SigningKey};
use crate::lab::{base64url, now};
use crate::support::stage::{Playing, assert_refused};

fn playing() -> &'static Playing {
    static PLAYING: OnceLock<Playing> = OnceLock::new();
    PLAYING.get_or_init(|| Playing::new(|_, config| config))
}

fn get() -> Request {
    Request::get("/accounts/1")
}

#[test]
fn the_scheme_is_compared_without_case_and_may_stand_off() {
    // PRES-01, PRES-02
    let token = playing().token();
    for value in [
        format!("Bearer {token}"),
        format!("bEaReR {token}"),
        format!("BEARER   {token}"),
    ] {
        let request = get().field("Authorization", &value);
        assert_eq!(
            playing().client().call(&request).unwrap().status,
            200,
            "{value}"
        );
    }
    let request = get().field("aUTHORIZATION", &format!("Bearer {token}"));
    assert_eq!(playing().client().call(&request).unwrap().status, 200);
}

#[test]
fn credentials_that_are_missing_broken_or_too_many() {
    // PRES-03 to PRES-08, PRES-11
    let token = playing().token();
    let bearer = format!("Bearer {token}");
    let in_query = format!("/accounts/1?access_token={token}");
    let hidden = format!("/accounts/1?a=b&access%5Ftoken={token}");
    let form = format!("access_token={token}");
    let cases = [
        ("no credentials", get(), 401, "token_missing", ""),
        (
            "in the query",
            Request::get(&in_query),
            400,
            "token_in_query",
            "invalid_request",
        ),
        (
            "in the query, hidden",
            Request::get(&hidden),
            400,
            "token_in_query",
            "invalid_request",
        ),
        (
            "in the query and the header",
            Request::get(&in_query).token(&token),
            400,
            "token_in_query",
            "invalid_request",
        ),
        (
            "in a form",
            Request::post("/accounts/1", form)
                .field("Content-Type", "application/x-www-form-urlencoded"),
            401,
            "token_missing",
            "",
        ),
        (
            "in a cookie",
            get().field("Cookie", &format!("access_token={token}")),
            401,
            "token_missing",
            "",
        ),
        (
            "Basic",
            get().field("Authorization", "Basic dXNlcjpwYXNz"),
            401,
            "scheme_unsupported",
            "",
        ),
        (
            "twice",
            get().token(&token).token(&token),
            400,
            "token_repeated",
            "invalid_request",
        ),
        (
            "two schemes",
            get()
                .token(&token)
                .field("Authorization", &format!("DPoP {token}")),
            400,
            "token_repeated",
            "invalid_request",
        ),
        (
            "no token after the scheme",
            get().field("Authorization", "Bearer"),
            400,
            "credentials_malformed",
            "invalid_request",
        ),
        (
            "two words",
            get().field("Authorization", &format!("{bearer} b")),
            400,
            "credentials_malformed",
            "invalid_request",
        ),
        (
            "no token68",
            get().field("Authorization", "Bearer !!!"),
            400,
            "credentials_malformed",
            "invalid_request",
        ),
        (
            "a list",
            get().field("Authorization", &format!("{bearer}, {bearer}")),
            400,
            "token_repeated",
            "invalid_request",
        ),
        (
            "a JSON serialisation",
            get().field("Authorization", "Bearer {\"payload\":\"e30\"}"),
            400,
            "credentials_malformed",
            "invalid_request",
        ),
        (
            "empty",
            get().field("Authorization", ""),
            400,
            "credentials_malformed",
            "invalid_request",
        ),
    ];
    for (name, request, status, reason, error) in cases {
        let case = format!("pres {name}");
        let answer = playing().client().call(&request.case(&case)).unwrap();
        assert_refused(&answer, status, reason);
        let challenges = answer.all("www-authenticate");
        if error.is_empty() {
            assert!(
                !challenges.iter().any(|c| c.contains("error")),
                "{name}: {challenges:?}"
            );
        } else {
            let wanted = format!("error=\"{error}\"");
            assert!(
                challenges.iter().any(|c| c.contains(&wanted)),
                "{name}: {challenges:?}"
            );
        }
        assert!(playing().stage.legacy.seen(&case).is_empty(), "{name}");
    }
}

#[test]
fn every_algorithm_of_the_issuer_is_taken() {
    // TOK-02
    for alg in ["ES256", "PS256", "EdDSA"] {
        let token = playing()
            .stage
            .draft()
            .sign(&playing().stage.issuer.key(alg));
        assert_eq!(playing().judge_token("/accounts/1", &token).0, 200, "{alg}");
    }
    // RFC 9864: the name of the curve.
    let key = playing().stage.issuer.key("EdDSA");
    let token = playing().stage.draft().header("alg", "Ed25519").sign(&key);
    assert_eq!(
        playing().judge_token("/accounts/1", &token).0,
        200,
        "Ed25519"
    );
}

#[test]
fn tokens_that_pass() {
    let draft = || playing().stage.draft();
    let x5t = playing().stage.a.thumbprint.clone();
    for (name, draft) in [
        ("as it is", draft()),
        ("typ in capitals, TOK-01", draft().header("typ", "AT+JWT")),
        (
            "typ in full, TOK-01",
            draft().header("typ", "application/at+jwt"),
        ),
        (
            "no kid, one key fits, TOK-05",
            draft().header("kid", json!(null)).without_header("kid"),
        ),
        (
            "audience in a list, TOK-09",
            draft().claim("aud", json!(["x", "https://api.bank.test"])),
        ),
        (
            "nbf a little ahead, TOK-11",
            draft().claim("nbf", now() + 8),
        ),
        (
            "iat a little ahead, TOK-11",
            draft().claim("iat", now() + 8),
        ),
        (
            "exp with a fraction",
            draft().claim("exp", now() as f64 + 60.5),
        ),
        (
            "further members in cnf, MTLS-12",
            draft().claim("cnf", json!({"x5t#S256": x5t, "kid": "x"})),
        ),
        ("unknown header members", draft().header("x-note", "y")),
        (
            "12 KiB, PRES-09",
            draft().claim("note", "x".repeat(8 * 1024)),
        ),
    ] {
        let token = playing().stage.issuer.sign(&draft);
        let (status, reason) = playing().judge_token("/accounts/1", &token);
        assert_eq!((status, reason.as_str()), (200, ""), "{name}");
    }
}

#[test]
fn tokens_that_do_not_pass() {
    let draft = || playing().stage.draft();
    let a = &playing().stage.a;
    let hex: String = {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let digest = engine.decode(&a.thumbprint).unwrap();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let rsa_kid = playing().stage.issuer.key("PS256").kid.clone();
    let other = &playing().stage.b.thumbprint;
    let issuer = &playing().stage.issuer.issuer;
    let cases: Vec<(&str, jose::Draft, &[&str])> = vec![
        (
            "typ JWT, TOK-01",
            draft().header("typ", "JWT"),
            &["token_type_wrong"],
        ),
        (
            "no typ, TOK-01",
            draft().without_header("typ"),
            &["token_type_wrong"],
        ),
        (
            "an ID token, TOK-17",
            draft().header("typ", "JOSE"),
            &["token_type_wrong"],
        ),
        (
            "a DPoP proof, TOK-17",
            draft().header("typ", "dpop+jwt"),
            &["token_type_wrong"],
        ),
        (
            "typ a number",
            draft().header("typ", 1),
            &["token_type_wrong", "token_malformed"],
        ),
        (
            "unknown alg, TOK-02",
            draft().header("alg", "ES999"),
            &["algorithm_forbidden"],
        ),
        (
            "alg none, TOK-02",
            draft().header("alg", "none"),
            &["algorithm_forbidden"],
        ),
        (
            "alg nOnE, TOK-02",
            draft().header("alg", "nOnE"),
            &["algorithm_forbidden"],
        ),
        (
            "a key of another type, TOK-03",
            draft().header("kid", rsa_kid),
            &["key_mismatch"],
        ),
        (
            "an unknown kid, KEY-03",
            draft().header("kid", "nobody"),
            &["key_unknown"],
        ),
        (
            "a kid of another type",
            draft().header("kid", 7),
            &["token_malformed", "key_unknown"],
        ),
        (
            "crit, TOK-06",
            draft().header("crit", json!(["exp2"])),
            &["token_extension_unknown"],
        ),
        (
            "b64 false, TOK-07",
            draft().header("b64", false),
            &["token_extension_unknown"],
        ),
        (
            "iss with a slash, TOK-08",
            draft().claim("iss", format!("{issuer}/")),
            &["issuer_unknown"],
        ),
        (
            "iss in a list, TOK-16",
            draft().claim("iss", json!([issuer])),
            &["claim_malformed", "issuer_unknown", "claim_missing"],
        ),
        (
            "no iss, TOK-12",
            draft().without("iss"),
            &["claim_missing", "issuer_unknown"],
        ),
        ("no aud, TOK-09", draft().without("aud"), &["claim_missing"]),
        (
            "another aud, TOK-09",
            draft().claim("aud", "https://other"),
            &["audience_mismatch"],
        ),
        (
            "aud a number, TOK-16",
            draft().claim("aud", 7),
            &["claim_malformed"],
        ),
        (
            "aud empty",
            draft().claim("aud", json!([])),
            &["audience_mismatch", "claim_malformed"],
        ),
        ("no exp, TOK-12", draft().without("exp"), &["claim_missing"]),
        ("exp now, TOK-10", draft().issued(-300), &["token_expired"]),
        (
            "exp past, TOK-10",
            draft().issued(-1000),
            &["token_expired"],
        ),
        (
            "exp text, TOK-16",
            draft().claim("exp", (now() + 60).to_string()),
            &["claim_malformed"],
        ),
        (
            "exp huge",
            draft().claim("exp", 1e300),
            &["claim_malformed", "lifetime_excessive"],
        ),
        (
            "exp negative",
            draft().claim("exp", -1),
            &["token_expired", "claim_malformed"],
        ),
        (
            "nbf ahead, TOK-11",
            draft().claim("nbf", now() + 61),
            &["token_not_yet_valid"],
        ),
        (
            "iat ahead, TOK-11",
            draft().claim("iat", now() + 61),
            &["token_not_yet_valid"],
        ),
        (
            "nbf text, TOK-16",
            draft().claim("nbf", "0"),
            &["claim_malformed"],
        ),
        ("no sub, TOK-12", draft().without("sub"), &["claim_missing"]),
        (
            "no client_id, TOK-12",
            draft().without("client_id"),
            &["claim_missing"],
        ),
        ("no iat, TOK-12", draft().without("iat"), &["claim_missing"]),
        ("no jti, TOK-12", draft().without("jti"), &["claim_missing"]),
        (
            "scope a list, TOK-16",
            draft().claim("scope", json!(["accounts"])),
            &["claim_malformed"],
        ),
        (
            "lives too long, TOK-21",
            draft().claim("exp", now() + 25 * 3600),
            &["lifetime_excessive"],
        ),
        (
            "sub with a line end, TOK-25",
            draft().claim("sub", "a\r\nx-evil: 1"),
            &["claim_unprintable"],
        ),
        (
            "unbound, MTLS-05",
            draft().without("cnf"),
            &["binding_missing"],
        ),
        (
            "cnf null",
            draft().claim("cnf", json!(null)),
            &["binding_missing", "claim_malformed"],
        ),
        (
            "cnf empty, MTLS-12",
            draft().claim("cnf", json!({})),
            &["binding_missing", "binding_mismatch"],
        ),
        (
            "cnf unknown, MTLS-12",
            draft().claim("cnf", json!({"foo": 1})),
            &["binding_missing", "binding_mismatch"],
        ),
        (
            "another certificate, MTLS-04",
            draft().bound_to(other),
            &["binding_mismatch"],
        ),
        (
            "thumbprint in hex, MTLS-03",
            draft().bound_to(&hex),
            &["binding_mismatch"],
        ),
        (
            "thumbprint padded, MTLS-03",
            draft().bound_to(&format!("{}=", a.thumbprint)),
            &["binding_mismatch"],
        ),
        (
            "thumbprint empty",
            draft().bound_to(""),
            &["binding_mismatch", "claim_malformed"],
        ),
        (
            "thumbprint a number",
            draft().claim("cnf", json!({"x5t#S256": 1})),
            &["binding_mismatch", "claim_malformed"],
        ),
        (
            "bound to a key alone",
            draft().claim("cnf", json!({"jkt": "x"})),
            &["binding_missing", "binding_mismatch"],
        ),
        (
            "bound to a key too, MTLS-11",
            draft().claim("cnf", json!({"jkt": "x", "x5t#S256": a.thumbprint})),
            &["binding_missing", "binding_mismatch"],
        ),
        (
            "too long, TOK-26",
            draft().claim("note", "x".repeat(16 * 1024)),
            &["token_too_large"],
        ),
    ];
    for (name, draft, reasons) in cases {
        let token = playing().stage.issuer.sign(&draft);
        let request = get().token(&token).case("bad claims");
        let answer = playing().client().call(&request).unwrap();
        let reason = answer.reason();
        assert!(
            reasons.contains(&reason.as_str()),
            "{name}: {} {reason}",
            answer.status
        );
        assert_refused(&answer, 401, &reason);
        let challenge = answer.field("www-authenticate").unwrap();
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{name}: {challenge}"
        );
    }
    assert!(playing().stage.legacy.seen("bad claims").is_empty());
}

#[test]
fn tokens_that_are_broken_in_their_form() {
    let stage = &playing().stage;
    let key = stage.issuer.key("ES256");
    let rsa = stage.issuer.key("PS256");
    let token = stage.token();
    let parts: Vec<&str> = token.split('.').collect();
    let signed = format!("{}.{}", parts[0], parts[1]);
    let header = stage.draft().header_text(&key);
    let claims = stage.draft().claims_text();
    let twice = |name: &str| claims.replacen('{', &format!("{{\"{name}\":\"x\","), 1);
    let hs256 = format!(
        "{{\"alg\":\"HS256\",\"typ\":\"at+jwt\",\"kid\":\"{}\"}}",
        rsa.kid
    );
    let rs256 = stage.draft().header("alg", "RS256").sign(&rsa);
    let own = SigningKey::new("own", "ES256");
    let own_key = stage.draft().header("jwk", own.jwk()).sign(&own);
    let jku = format!("{}/canary", stage.issuer.issuer);
    let fetched = stage
        .draft()
        .header("jku", jku.as_str())
        .header("x5u", jku)
        .sign(&own);
    let stolen_kid = stage.draft().header("kid", key.kid.as_str()).sign(&own);
    let mut forged = parts[2].as_bytes().to_vec();
    forged[10] = if forged[10] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let cases: Vec<(&str, String, &[&str])> = vec![
        (
            "HS256 with the public key, TOK-02",
            jose::sign_hs256(&rsa.public_bytes(), &hs256, &claims),
            &["algorithm_forbidden"],
        ),
        ("RS256, TOK-02", rs256, &["algorithm_forbidden"]),
        ("own key in the header, TOK-04", own_key, &["key_unknown"]),
        (
            "own key behind an address, TOK-04",
            fetched,
            &["key_unknown"],
        ),
        (
            "own key under the issuer's kid",
            stolen_kid,
            &["signature_invalid"],
        ),
        (
            "altered signature",
            format!("{signed}.{forged}"),
            &["signature_invalid"],
        ),
        (
            "zero signature, TOK-19",
            format!("{signed}.{}", base64url(&[0; 64])),
            &["signature_invalid"],
        ),
        (
            "short signature, TOK-19",
            format!("{signed}.{}", base64url(&[1; 63])),
            &["signature_invalid"],
        ),
        (
            "no signature",
            format!("{signed}."),
            &["signature_invalid", "token_malformed"],
        ),
        (
            "claims of another",
            format!("{}.{}.{}", parts[0], base64url(b"{}"), parts[2]),
            &["signature_invalid", "claim_missing", "issuer_unknown"],
        ),
        (
            "a claim twice, TOK-14",
            jose::sign(&key, &header, &twice("aud")),
            &["claim_malformed"],
        ),
        (
            "cnf twice, TOK-14",
            jose::sign(&key, &header, &twice("cnf")),
            &["claim_malformed"],
        ),
        (
            "alg twice, TOK-14",
            jose::sign(
                &key,
                &header.replacen('{', "{\"alg\":\"none\",", 1),
                &claims,
            ),
            &["token_malformed", "algorithm_forbidden"],
        ),
        (
            "claims no object",
            jose::sign(&key, &header, "[]"),
            &["claim_malformed", "token_malformed", "issuer_unknown"],
        ),
        (
            "claims no JSON",
            jose::sign(&key, &header, "hello"),
            &["claim_malformed", "token_malformed", "issuer_unknown"],
        ),
        ("padded, TOK-15", format!("{token}="), &["token_malformed"]),
        (
            "four parts, TOK-13",
            format!("{token}.e30"),
            &["token_malformed"],
        ),
        (
            "five parts, TOK-20",
            format!("{token}.e30.e30"),
            &["token_malformed"],
        ),
        ("two parts", signed, &["token_malformed"]),
        (
            "opaque",
            "2YotnFZFEjr1zCsicMWpAA".to_owned(),
            &["token_malformed"],
        ),
        (
            "other base64",
            format!("{}/+.{}.{}", parts[0], parts[1], parts[2]),
            &["token_malformed"],
        ),
    ];
    for (name, token, reasons) in cases {
        let request = get().token(&token).case("bad form");
        let answer = playing().client().call(&request).unwrap();
        let reason = answer.reason();
        assert!(
            reasons.contains(&reason.as_str()),
            "{name}: {} {reason}",
            answer.status
        );
        assert_refused(&answer, 401, &reason);
    }
    assert!(stage.legacy.seen("bad form").is_empty());
    assert_eq!(
        stage.issuer.count("elsewhere"),
        0,
        "an address out of a token was called"
    );
}

#[test]
fn a_token_is_expired_from_its_second_on_also_when_it_is_remembered() {
    // TOK-10, TOK-24
    let token = playing()
        .stage
        .issuer
        .sign(&playing().stage.draft().claim("exp", now() + 2));
    let mut connection = playing().client().open().unwrap();
    let request = get().token(&token);
    assert_eq!(connection.call(&request).unwrap().status, 200);
    playing().gate.until("the token's end", || {
        let at = now();
        let answer = connection.call(&request).unwrap();
        if answer.status == 200 {
            // Judged a moment after `at`, at the latest in the second after it.
            assert!(at <= now());
            return false;
        }
        assert_refused(&answer, 401, "token_expired");
        true
    });
}

#[test]
fn the_same_token_is_judged_anew_by_every_route() {
    // CVE-2021-32701: a remembered verification is not a remembered permission.
    let narrow = playing()
        .stage
        .issuer
        .sign(&playing().stage.draft().claim("scope", "payments"));
    for _ in 0..2 {
        let (status, reason) = playing().judge_token("/accounts/1", &narrow);
        assert_eq!((status, reason.as_str()), (403, "scope_insufficient"));
    }
    let answer = playing()
        .anonymous()
        .call(&get().token(&playing().token()))
        .unwrap();
    assert_refused(&answer, 401, "certificate_required");
}
