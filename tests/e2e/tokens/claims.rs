//! Headers and claims.

use super::{get, playing};
use crate::lab::jose::{self};
use crate::lab::now;
use crate::support::stage::assert_refused;
use serde_json::json;

#[test]
#[rustfmt::skip]
fn tokens_that_pass() {
    let draft = || playing().stage.draft();
    let x5t = playing().stage.a.thumbprint.clone();
    for (name, draft) in [
        ("as it is", draft()),
        ("typ in capitals, TOK-01", draft().header("typ", "AT+JWT")),
        ("typ in full, TOK-01", draft().header("typ", "application/at+jwt")),
        ("no kid, one key fits, TOK-05", draft().header("kid", json!(null)).without_header("kid")),
        ("audience in a list, TOK-09", draft().claim("aud", json!(["x", "https://api.bank.test"]))),
        ("nbf a little ahead, TOK-11", draft().claim("nbf", now() + 8)),
        ("iat a little ahead, TOK-11", draft().claim("iat", now() + 8)),
        ("exp with a fraction", draft().claim("exp", now() as f64 + 60.5)),
        ("further members in cnf, MTLS-12", draft().claim("cnf", json!({"x5t#S256": x5t, "kid": "x"}))),
        ("unknown header members", draft().header("x-note", "y")),
        ("12 KiB, PRES-09", draft().claim("note", "x".repeat(8 * 1024))),
    ] {
        let token = playing().stage.issuer.sign(&draft);
        let (status, reason) = playing().judge_token("/accounts/1", &token);
        assert_eq!((status, reason.as_str()), (200, ""), "{name}");
    }
}

#[test]
#[rustfmt::skip]
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
        ("typ JWT, TOK-01", draft().header("typ", "JWT"), &["token_type_wrong"]),
        ("no typ, TOK-01", draft().without_header("typ"), &["token_type_wrong"]),
        ("an ID token, TOK-17", draft().header("typ", "JOSE"), &["token_type_wrong"]),
        ("a DPoP proof, TOK-17", draft().header("typ", "dpop+jwt"), &["token_type_wrong"]),
        ("typ a number", draft().header("typ", 1), &["token_type_wrong", "token_malformed"]),
        ("unknown alg, TOK-02", draft().header("alg", "ES999"), &["algorithm_forbidden"]),
        ("alg none, TOK-02", draft().header("alg", "none"), &["algorithm_forbidden"]),
        ("alg nOnE, TOK-02", draft().header("alg", "nOnE"), &["algorithm_forbidden"]),
        ("a key of another type, TOK-03", draft().header("kid", rsa_kid), &["key_mismatch"]),
        ("an unknown kid, KEY-03", draft().header("kid", "nobody"), &["key_unknown"]),
        ("a kid of another type", draft().header("kid", 7), &["token_malformed", "key_unknown"]),
        ("crit, TOK-06", draft().header("crit", json!(["exp2"])), &["token_extension_unknown"]),
        ("b64 false, TOK-07", draft().header("b64", false), &["token_extension_unknown"]),
        ("iss with a slash, TOK-08", draft().claim("iss", format!("{issuer}/")), &["issuer_unknown"]),
        ("iss in a list, TOK-16", draft().claim("iss", json!([issuer])), &["claim_malformed", "issuer_unknown", "claim_missing"]),
        ("no iss, TOK-12", draft().without("iss"), &["claim_missing", "issuer_unknown"]),
        ("no aud, TOK-09", draft().without("aud"), &["claim_missing"]),
        ("another aud, TOK-09", draft().claim("aud", "https://other"), &["audience_mismatch"]),
        ("aud a number, TOK-16", draft().claim("aud", 7), &["claim_malformed"]),
        ("aud empty", draft().claim("aud", json!([])), &["audience_mismatch", "claim_malformed"]),
        ("no exp, TOK-12", draft().without("exp"), &["claim_missing"]),
        ("exp now, TOK-10", draft().issued(-300), &["token_expired"]),
        ("exp past, TOK-10", draft().issued(-1000), &["token_expired"]),
        ("exp text, TOK-16", draft().claim("exp", (now() + 60).to_string()), &["claim_malformed"]),
        ("exp huge", draft().claim("exp", 1e300), &["claim_malformed", "lifetime_excessive"]),
        ("exp negative", draft().claim("exp", -1), &["token_expired", "claim_malformed"]),
        ("nbf ahead, TOK-11", draft().claim("nbf", now() + 61), &["token_not_yet_valid"]),
        ("iat ahead, TOK-11", draft().claim("iat", now() + 61), &["token_not_yet_valid"]),
        ("nbf text, TOK-16", draft().claim("nbf", "0"), &["claim_malformed"]),
        ("no sub, TOK-12", draft().without("sub"), &["claim_missing"]),
        ("no client_id, TOK-12", draft().without("client_id"), &["claim_missing"]),
        ("no iat, TOK-12", draft().without("iat"), &["claim_missing"]),
        ("no jti, TOK-12", draft().without("jti"), &["claim_missing"]),
        ("scope a list, TOK-16", draft().claim("scope", json!(["accounts"])), &["claim_malformed"]),
        ("lives too long, TOK-21", draft().claim("exp", now() + 25 * 3600), &["lifetime_excessive"]),
        ("sub with a line end, TOK-25", draft().claim("sub", "a\r\nx-evil: 1"), &["claim_unprintable"]),
        ("unbound, MTLS-05", draft().without("cnf"), &["binding_missing"]),
        ("cnf null", draft().claim("cnf", json!(null)), &["binding_missing", "claim_malformed"]),
        ("cnf empty, MTLS-12", draft().claim("cnf", json!({})), &["binding_missing", "binding_mismatch"]),
        ("cnf unknown, MTLS-12", draft().claim("cnf", json!({"foo": 1})), &["binding_missing", "binding_mismatch"]),
        ("another certificate, MTLS-04", draft().bound_to(other), &["binding_mismatch"]),
        ("thumbprint in hex, MTLS-03", draft().bound_to(&hex), &["binding_mismatch"]),
        ("thumbprint padded, MTLS-03", draft().bound_to(&format!("{}=", a.thumbprint)), &["binding_mismatch"]),
        ("thumbprint empty", draft().bound_to(""), &["binding_mismatch", "claim_malformed"]),
        ("thumbprint a number", draft().claim("cnf", json!({"x5t#S256": 1})), &["binding_mismatch", "claim_malformed"]),
        ("bound to a key alone", draft().claim("cnf", json!({"jkt": "x"})), &["binding_missing", "binding_mismatch"]),
        ("bound to a key too, MTLS-11", draft().claim("cnf", json!({"jkt": "x", "x5t#S256": a.thumbprint})), &["binding_missing", "binding_mismatch"]),
        ("too long, TOK-26", draft().claim("note", "x".repeat(16 * 1024)), &["token_too_large"]),
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
        let challenge = answer.challenge().unwrap();
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{name}: {challenge}"
        );
    }
    assert!(playing().stage.legacy.seen("bad claims").is_empty());
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
        let Ok(answer) = connection.call(&request) else {
            // An answer under way ends with its token.
            connection = playing().client().open().unwrap();
            return false;
        };
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

#[test]
fn tokens_that_come_one_after_another_are_each_their_own() {
    let sign = |subject: &str| {
        let draft = playing().stage.draft().claim("sub", subject);
        playing().stage.issuer.sign(&draft)
    };
    let (one, other) = (sign("user-1"), sign("user-2"));
    // Another letter in the signature.
    let forged = {
        let (said, signature) = one.rsplit_once('.').unwrap();
        let (first, rest) = signature.split_at(1);
        format!("{said}.{}{rest}", if first == "A" { "B" } else { "A" })
    };
    assert_eq!(forged.len(), one.len());
    let mut connection = playing().client().open().unwrap();
    for _ in 0..2 {
        for good in [&one, &one, &other, &one] {
            let answer = connection.call(&get().token(good)).unwrap();
            assert_eq!(answer.status, 200);
        }
        let answer = connection.call(&get().token(&forged)).unwrap();
        assert_refused(&answer, 401, "signature_invalid");
        let answer = connection.call(&get()).unwrap();
        assert_refused(&answer, 401, "token_missing");
    }
}
