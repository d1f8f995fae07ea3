//! Signatures and the form of a JWT.

use super::{get, playing};
use crate::lab::base64url;
use crate::lab::jose::{self, SigningKey};
use crate::support::stage::assert_refused;

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
#[rustfmt::skip]
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
        ("HS256 with the public key, TOK-02", jose::sign_hs256(&rsa.public_bytes(), &hs256, &claims), &["algorithm_forbidden"]),
        ("RS256, TOK-02", rs256, &["algorithm_forbidden"]),
        ("own key in the header, TOK-04", own_key, &["key_unknown"]),
        ("own key behind an address, TOK-04", fetched, &["key_unknown"]),
        ("own key under the issuer's kid", stolen_kid, &["signature_invalid"]),
        ("altered signature", format!("{signed}.{forged}"), &["signature_invalid"]),
        ("zero signature, TOK-19", format!("{signed}.{}", base64url(&[0; 64])), &["signature_invalid"]),
        ("short signature, TOK-19", format!("{signed}.{}", base64url(&[1; 63])), &["signature_invalid"]),
        ("no signature", format!("{signed}."), &["signature_invalid", "token_malformed"]),
        ("claims of another", format!("{}.{}.{}", parts[0], base64url(b"{}"), parts[2]), &["signature_invalid", "claim_missing", "issuer_unknown"]),
        ("a claim twice, TOK-14", jose::sign(&key, &header, &twice("aud")), &["claim_malformed"]),
        ("cnf twice, TOK-14", jose::sign(&key, &header, &twice("cnf")), &["claim_malformed"]),
        ("alg twice, TOK-14", jose::sign(&key, &header.replacen('{', "{\"alg\":\"none\",", 1), &claims), &["token_malformed", "algorithm_forbidden"]),
        ("claims no object", jose::sign(&key, &header, "[]"), &["claim_malformed", "token_malformed", "issuer_unknown"]),
        ("claims no JSON", jose::sign(&key, &header, "hello"), &["claim_malformed", "token_malformed", "issuer_unknown"]),
        ("padded, TOK-15", format!("{token}="), &["token_malformed"]),
        ("four parts, TOK-13", format!("{token}.e30"), &["token_malformed"]),
        ("five parts, TOK-20", format!("{token}.e30.e30"), &["token_malformed"]),
        ("two parts", signed, &["token_malformed"]),
        ("opaque", "2YotnFZFEjr1zCsicMWpAA".to_owned(), &["token_malformed"]),
        ("other base64", format!("{}/+.{}.{}", parts[0], parts[1], parts[2]), &["token_malformed"]),
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
